# SPDX-License-Identifier: Apache-2.0
"""The section of docs/results.md on MiniCache (arXiv 2405.14366), from docs/layers.md; the sweep of its start is measured here."""
import argparse

from layers_tables import MODELS, continuations, table
from results_read import borne, decoded, draw, listed, rows_of, span, times

LAYERS = "docs/layers.md"
SWEEPS = "MiniCache: the paper's sweeps"
SMALL, LARGE = MODELS.values()

MERGED, WITH_4_BITS = 1.53, 5.02  # compression ratios that the abstract claims, of merging alone and with 4 bits
LONGBENCH = (36.41, 35.44)  # Llama-2-7B-Chat, mean of seven tasks of the paper's LongBench table: all of the cache, 5.02x
ROWS = {"1/4: the paper": ("`minicache(start=0.75)`", None), "1/2: the paper": ("`minicache`", MERGED),
        "1/2: the paper + k4v4": ("`minicache + k4v4`", WITH_4_BITS), "1/2: of=k": ("`minicache(of=k)`", None),
        "1/2: of=v": ("`minicache(of=v)`", None), "k4v4 alone": ("`k4v4`", None)}
MEASURE = decoded(512, 8)


def measured(title):
    """{name in docs/layers.md: (ratio at 640 tokens, perplexity over full, KL)}."""
    rows = rows_of(LAYERS, f"MiniCache on {title}")
    full = float(rows["full"]["ppl, decoded"])
    return {name: (float(row["ratio"]), float(row["ppl, decoded"]) / full, float(row["KL"])) for name, row in rows.items()}


# ---- its ablations ---------------------------------------------------------------------------------------------------

TURNS, KEEPS, STARTS = [0, .2, .4, .5, .6, .8, 1], [0, .01, .05, .1, .2, .5, 1], [0, .25, .5, .625, .75, .875]


def by_turn():
    rows = rows_of(LAYERS, SWEEPS, 1)
    return [(t, float(rows[f"minicache(t={t},merge=slerp)"]["KL"])) for t in TURNS]


def by_keep(rule):
    """(ratio, KL, keep)"""
    rows = rows_of(LAYERS, SWEEPS)
    spell = lambda spec: spec.replace("keep=0.05,", "").replace(",rule=distance", "").replace("(rule=distance)", "")
    found = [rows[spell(f"minicache(keep={keep},rule={rule})")] for keep in KEEPS]
    return [(float(row["ratio"]), float(row["KL"]), keep) for row, keep in zip(found, KEEPS, strict=True)]


def by_start():
    """(start, KL, ratio), measured now or earlier."""
    rows = continuations(argparse.Namespace(windows=8, threads=2), "smollm2", [f"minicache(start={start})" for start in STARTS])
    return [(start, row["kl_mean"], row["kv_ratio"]) for start, row in zip(STARTS, rows, strict=True)]


def ablation_table():
    """One row a setting, of sweeps those that decide (the plots have all); Gemma 3's are those of docs/layers.md, which sweeps
    SmolLM2 only."""
    gemma = {name: (f"{ratio:.2f}", f"{kl:.4f}") for name, (ratio, _, kl) in measured(LARGE).items()}
    none = ("-", "-")
    body = [["t, 0 to 1", "0.6 best", f"`t={t}`", "", f"{kl:.4f}", *(gemma["1/2: the paper"] if t == 0.6 else none)]
            for t, kl in by_turn() if t in (.4, .5, .6)]
    body += [["start", "from half on", f"`start={start}`", f"{ratio:.2f}", f"{kl:.4f}",
              *{.5: gemma["1/2: the paper"], .75: gemma["1/4: the paper"]}.get(start, none)] for start, kl, ratio in by_start() if start >= .5]
    body += [["rows kept apart", "beyond 5 % little", f"`rule=top,keep={keep}`", f"{ratio:.2f}", f"{kl:.4f}",
              *{.05: gemma["1/2: rule=top"], .2: gemma["1/2: rule=top,keep=0.2"]}.get(keep, none)]
             for ratio, kl, keep in by_keep("top") if keep in (.05, .2, .5)]
    merges = rows_of(LAYERS, SWEEPS, 2)
    body += [["what replaces two rows", "slerp, then maxnorm, then mean", f"`merge={merge}`",
              f"{float(merges[f'minicache(merge={merge})']['ratio']):.2f}", merges[f"minicache(merge={merge})"]["KL"],
              *gemma["1/2: the paper" if merge == "slerp" else f"1/2: merge={merge}"]] for merge in ("slerp", "maxnorm", "mean")]
    return table(["ablation", "published", "here: `minicache(…)`", f"{SMALL}, ratio", "KL", f"{LARGE}, ratio", "KL"], body)


def plots():
    text = draw("minicache-t", "MiniCache on SmolLM2: where the common direction lies", "t: 0 the lower layer's, 1 the deeper one's",
                "KL to the full cache", {"half of the layers": by_turn()})
    text += draw("minicache-keep", "MiniCache on SmolLM2: rows kept apart", "compression ratio at 640 tokens", "KL to the full cache",
                 {f"rule={rule}": [(ratio, kl, f"keep={keep}") for ratio, kl, keep in by_keep(rule)] for rule in ("distance", "top")})
    return text + draw("minicache-start", "MiniCache on SmolLM2: the first layer that is merged", "start, as a share of the layers",
                       "KL to the full cache", {"all pairs from start on": [(start, kl) for start, kl, _ in by_start()]})


def ablations():
    turns, starts = dict(by_turn()), {start: kl for start, kl, _ in by_start()}
    kept = {keep: kl for _, kl, keep in by_keep("top")}
    best = min(turns, key=turns.get)
    alike = [turns[t] for t in (.4, .5, .6)]
    return ("### Its ablations\n\n" + ablation_table() + f"\n{MEASURE}. Published: the paper's ablations and appendix, of 7 to 70 billion "
            "parameters.\n\n" + plots() + "\n" +
            borne(f"*t agrees* nearly: {best} is best here, and 0.4 to 0.6 are within {100 * (max(alike) / min(alike) - 1):.0f} % of KL. ",
                  best in (.4, .5, .6)) +
            borne(f"*Start disagrees*: the paper merges 40 of 80 layers at no loss, here each layer more costs, from {starts[.875]:.2f} with an "
                  f"eighth of the layers to {starts[.5]:.2f} with half. ", starts[.875] < starts[.75] < starts[.625] < starts[.5]) +
            borne(f"*Retention disagrees*: a fifth of the rows apart takes KL from {kept[.05]:.2f} to {kept[.2]:.2f}, half of them to "
                  f"{kept[.5]:.2f}: it buys quality until everything is apart. ", kept[.05] > kept[.2] > kept[.5]) +
            "*What replaces two rows* differs little, and the order is not the paper's on SmolLM2. The paper's tasks see only whether an "
            "answer changes; KL sees every token.\n")


# ---- the section -----------------------------------------------------------------------------------------------------

def minicache():
    body, worse = [], []
    for title in MODELS.values():
        found = measured(title)
        for name, (spec, published) in ROWS.items():
            ratio, perplexity, kl = found[name]
            body.append([title, spec, published or "-", f"{ratio:.2f}", f"{perplexity:.2f}", f"{kl:.4f}"])
        worse.append(found["1/2: the paper + k4v4"][2] / found["k4v4 alone"][2])
    keys = [measured(title)["1/2: of=k"][2] / measured(title)["1/2: of=v"][2] for title in MODELS.values()]
    whole, quarter = by_start()[0], by_start()[1]
    return ("## MiniCache: compression and what it costs\n\n" +
            table(["model", "spec", "published ratio", "ratio at 640 tokens", "perplexity over full", "KL"], body) +
            f"\n{MEASURE}. Published: the paper's abstract, Llama-2-7B on ShareGPT, for which its LongBench table has a mean of "
            f"{LONGBENCH[1]} instead of {LONGBENCH[0]}.\n\n"
            f"*Disagrees.* Half the layers merged pairwise leave three quarters of the rows: 1.33 at most. {MERGED} needs two thirds of the "
            f"layers or more: SmolLM2 has {quarter[2]:.2f} when three quarters are merged, {whole[2]:.2f} when all are. "
            f"{WITH_4_BITS} is what half of the layers at 4 bits in groups of 128 would have with nothing else counted; here scales, "
            "magnitudes, rows kept apart, positions and unfilled blocks are. "
            f"4 bits alone have nearly the ratio at a KL {listed([times(x) for x in worse])} times as small. Keys are what "
            f"hurts, {span(keys, 1)} times as much as values. An independent run of others (VFOLD) found that too, on models of 8 to 24 billion "
            "parameters, where MiniCache lost a fifth to two thirds of LongBench's score: the size of the model is not all of it. That the paper's "
            "tasks are kind to it is a guess.\n\n" +
            ablations())
