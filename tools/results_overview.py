# SPDX-License-Identifier: Apache-2.0
"""The table that docs/results.md opens with: each claim beside what was measured, the command that gives it, and whether they agree."""
import results_layers as layers
import results_minicache as minicache
import results_tokens as tokens
from layers_tables import MODELS, PERCENTS, table
from results_read import CALIBRATION, TEXT, borne, decoded, slashed, span, table_in
from tokens_tables import FRACTIONS, methods, percent

SMALL, LARGE = MODELS.values()
KVSHARER = f"{layers.SEARCH}, {layers.PERPLEXITY}"


def on_both(claim, published, cell, agrees, command, why):
    """A row of a claim that both models are measured for; `agrees`: whether a model does."""
    small, large = (agrees(title) for title in MODELS.values())
    verdict = ("yes" if small else "no") if small == large else f"{SMALL if small else LARGE} only"
    return [claim, published, *[cell(title) for title in MODELS.values()], command, f"{verdict}: {why}"]


# ---- KVSharer --------------------------------------------------------------------------------------------------------

def kvsharer_rows():
    ratios = {t: {order: [layers.ratio_of(t, p, order) for p in PERCENTS] for order in layers.ORDERS} for t in MODELS.values()}
    shares = " / ".join(PERCENTS)
    published = [span(found) if (found := layers.published_ratios(p)) else "a figure only" for p in PERCENTS]
    at_quarter = lambda t: [ratios[t][order][1] for order in ("dissimilar", "similar", "random, mean of 3")]
    best = max(layers.published_ratios("25%"))
    chat = [shared / full for full, shared in layers.CHAT.values()]
    speeds = {SMALL: span(layers.gains(layers.grid())), LARGE: f"{layers.speed_at_4096(LARGE):.2f} (`-n 32 -d 4096`)"}
    return [
        on_both(f"KVSharer: perplexity over the full cache's, {shares} of the layers shared", " / ".join(published),
                lambda t: " / ".join(layers.ratio_cell(t, p, "dissimilar", layers.shared_counts(t)) for p in PERCENTS),
                lambda t: ratios[t]["dissimilar"][1] <= best, KVSHARER,
                "much dearer (in brackets: layers shared, where pairs ran out); that larger models have more layers to spare is a guess"),
        on_both("KVSharer: dissimilar / similar / random pairs at 25%",
                f"{span(chat)} / about twice that / {span(layers.published_random())}", lambda t: slashed(at_quarter(t)),
                lambda t: at_quarter(t)[0] < min(at_quarter(t)[1:]), f"{KVSHARER}, `--order similar`, `--order random`",
                "the other way round; by the model's output is best"),
        ["KVSharer: decoding at 25%, times", span(layers.gains(layers.SPEED)), speeds[SMALL], speeds[LARGE], layers.GRID_SPEED,
         borne("no: shared rows are read all the same; the published code overwrites rows as it generates",
               max(layers.gains(layers.grid())) < min(layers.gains(layers.SPEED)))]]


# ---- MiniCache -------------------------------------------------------------------------------------------------------

def minicache_rows():
    found = {t: minicache.measured(t) for t in MODELS.values()}
    merged = lambda t: (found[t]["1/2: the paper"][0], found[t]["1/2: the paper + k4v4"][0])
    turns, starts = dict(minicache.by_turn()), {start: kl for start, kl, _ in minicache.by_start()}
    kept = {keep: kl for _, kl, keep in minicache.by_keep("top")}
    gemma_start, gemma_kept = ([found[LARGE][name][2] for name in names] for names in
                               (("1/2: the paper", "1/4: the paper"), ("1/2: rule=top", "1/2: rule=top,keep=0.2")))
    run = lambda spec: decoded(512, 8, spec)
    return [
        on_both("MiniCache: compression, half of the layers merged / with 4 bits", f"{minicache.MERGED} / {minicache.WITH_4_BITS}",
                lambda t: slashed(merged(t)), lambda t: merged(t)[1] >= minicache.WITH_4_BITS, run("minicache;minicache + k4v4"),
                "1.33 is the most that half of the layers give; scales, magnitudes and rows kept apart count here"),
        on_both("MiniCache: what that costs", f"LongBench {minicache.LONGBENCH[0]} → {minicache.LONGBENCH[1]}",
                lambda t: f"{found[t]['1/2: the paper + k4v4'][1]:.2f} times the perplexity",
                lambda t: found[t]["1/2: the paper + k4v4"][1] < 1.05, run("minicache + k4v4"),
                "keys do not bear merging, as a re-run on 8 to 24 billion parameters found"),
        ["MiniCache: t, KL at 0.4 / 0.5 / 0.6", "0.6 best", slashed(turns[t] for t in (.4, .5, .6)), "not measured",
         run("minicache(t=0.4,merge=slerp)"), borne("nearly: 0.4 to 0.6 are alike", min(turns, key=turns.get) in (.4, .5, .6))],
        ["MiniCache: first layer merged, KL at a half / three quarters", "no loss from a half on", slashed(starts[s] for s in (.5, .75)),
         slashed(gemma_start), run("minicache(start=0.75)"),
         borne("no: each layer that is merged costs", starts[.5] > starts[.75] and gemma_start[0] > gemma_start[1])],
        ["MiniCache: rows kept apart, KL at 5 / 20 %", "little beyond 5 %", slashed(kept[k] for k in (.05, .2)), slashed(gemma_kept),
         run("minicache(rule=top,keep=0.2)"),
         borne("no: more rows apart, less KL, up to all", kept[.2] < kept[.05] and gemma_kept[1] < gemma_kept[0])]]


# ---- FastGen, eviction, LCKV, kvpress --------------------------------------------------------------------------------

def fastgen_rows():
    theirs = {r: [tokens.TABLE_1[model][r][0] for model in tokens.TABLE_1] for r in (.95, .98)}
    ours = lambda t: [tokens.pruned_of_prompt(t, r) for r in (.95, .98)]
    parts = ("special", "punct", "frequent", "local")
    pruned = lambda t: [tokens.ablated(t, f"0.98, without {part}")[0] for part in parts]
    published = [tokens.TABLE_4[f"0.98, without {part}"][0] for part in parts]
    falls = lambda t: [x < tokens.ablated(t, "recovery=0.98")[0] for x in pruned(t)]
    return [
        on_both("FastGen, Table 1: % pruned at recovery 0.95 / 0.98", " / ".join(span(theirs[r], 1) for r in theirs),
                lambda t: slashed(ours(t), 1), lambda t: all(min(theirs[r]) <= x <= max(theirs[r]) for r, x in zip(theirs, ours(t), strict=True)),
                tokens.PROFILE, "most heads of SmolLM2 need all four policies at both, so 0.98 fits and 0.95 does not; Gemma's windows leave little"),
        on_both(f"FastGen, Table 4: % pruned at 0.98 without {' / '.join(parts)}",
                f"{slashed(published, 1)} (all: {tokens.TABLE_4['recovery=0.98'][0]:.1f})",
                lambda t: f"{slashed(pruned(t), 1)} ({tokens.ablated(t, 'recovery=0.98')[0]:.1f})", lambda t: all(falls(t)),
                decoded(1024, 6, f"fastgen(recovery=0.98,{tokens.TABLE_4['0.98, without frequent'][2]})"),
                "local is needed by nearly every head, special and punctuation alone suffice for none")]


EVICTION = {"h2o, oneshot": ("H2O", "the full cache's quality with 20 % of the rows"),
            "snapkv": ("SnapKV", "comparable quality with an eighth of the memory"),
            "pyramidkv": ("PyramidKV", "the full cache's quality with 12 % of the rows")}
WHY = {"h2o, oneshot": "by far", "snapkv": "by far",
       "pyramidkv": "on Gemma 3 its upper layers get fewer rows than a window holds, where random rows lose none at a half"}


def eviction_rows():
    shares = " / ".join(percent(f) for f in FRACTIONS)
    ratios = lambda t, name: list(tokens.beside_random(t, 1024, name).values())
    specs = dict(methods("smollm2", FRACTIONS[0], 1024))
    return [on_both(f"{title}: KL over that of random rows of as many bytes, {shares} of the rows", claim,
                    lambda t, name=name: slashed(ratios(t, name)), lambda t, name=name: max(ratios(t, name)) < 1,
                    decoded(1024, 6, f"{specs[name]};{specs['random']}"), WHY[name])
            for name, (title, claim) in EVICTION.items()]


def lckv_rows():
    rows = {(model, w): cells for model, w, *cells in layers.lckv_rows()}
    published, here = ([rows[name, w] for w in ("w=2", "w=10")] for name in
                       ("published: 1.1B on RTX 3090, 5+8187", f"here: {layers.SHAPES['tinyllama'][0]} (22 layers), 256 tokens"))
    column = lambda cells, i: " / ".join(row[i] for row in cells)
    return [["LCKV: sequences that fit, w=2 / w=10, TinyLlama's shape, times", column(published, 1), f"{column(here, 1)} (random weights)",
             "wants a model trained so", layers.LCKV_MEMORY, "yes: as the layers that store are fewer"],
            ["LCKV: tokens/s of all of them, times", column(published, 2), f"{column(here, 2)} (random weights)", "wants a model trained so",
             layers.LCKV_MEMORY, borne("no: two cores are bound by arithmetic, not by the batch", float(here[0][2]) < float(published[0][2]))]]


def kvpress_rows(section):
    """From its section in docs/results.md."""
    within, *_ = (name for name in table_in(section)[0] if name.startswith("within"))
    rows = table_in(section)
    agree = [row for row in rows if row[within] == "yes"]
    command, = (line for line in section.splitlines() if line.startswith("`lamina"))
    return [["kvpress: perplexity and KL of its own presses", f"{len(rows)} settings", f"{len(agree)} of them within 1 %", "not measured", command,
             "yes, but where a press does something else: the notes to its table"]]


def overview(kvpress_section):
    rows = kvsharer_rows() + minicache_rows() + fastgen_rows() + eviction_rows() + lckv_rows()
    rows += kvpress_rows(kvpress_section) if kvpress_section else []
    text = table(["claim", "published", SMALL, LARGE, "command", "agrees"], rows).replace("|-:", "|-")
    return ("## The claims\n\nThe sections below have each in full, with what else was measured and why it is or is not so. TEXT is "
            f"`{TEXT}`, CALIBRATION `{CALIBRATION}`.\n\n" + text.replace(TEXT, "TEXT").replace(CALIBRATION, "CALIBRATION"))
