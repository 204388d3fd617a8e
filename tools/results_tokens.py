# SPDX-License-Identifier: Apache-2.0
"""Sections of docs/results.md on the tokens axis, beside docs/tokens.md: FastGen; H2O, SnapKV and PyramidKV beside random rows."""
from layers_tables import MODELS, table
from results_read import TEXT, borne, command, decoded, draw, listed, rows_of, span
from tokens_tables import FRACTIONS, RECOVERIES, methods, percent

TOKENS = "docs/tokens.md"
SMALL, LARGE = MODELS.values()

# ---- FastGen (arXiv 2310.01801) --------------------------------------------------------------------------------------

# Table 1: {model: {recovery: (% of the cache pruned, % of answers that GPT-4 prefers to the full cache's; 50: as good)}}
TABLE_1 = {"7B": {.91: (56.6, 30.8), .95: (39.8, 37.7), .98: (16.9, 47.4)}, "13B": {.91: (53.4, 32.0), .95: (39.0, 39.9), .98: (18.3, 48.7)},
           "30B": {.93: (56.7, 37.0), .95: (48.8, 42.5), .98: (27.4, 47.5)}, "65B": {.93: (56.3, 40.9), .95: (44.9, 44.2), .98: (36.0, 49.8)}}
# Tables 4 and 5, 65B at 0.98: {row of docs/tokens.md: (pruned %, preferred %, arguments of fastgen)}
ORDERED = "0.98, special/frequent/local/punct"
TABLE_4 = {"recovery=0.98": (36.04, 49.75, ""), "0.98, without special": (31.16, 47.64, "order=punct/frequent/local"),
           "0.98, without punct": (34.23, 49.56, "order=special/frequent/local"),
           "0.98, without frequent": (21.26, 46.08, "order=special/punct/local"),
           "0.98, without local": (30.18, 49.06, "order=special/punct/frequent"),
           ORDERED: (36.40, 47.64, "order=special/frequent/local/punct")}
# Of the shares of local and frequent rows its text says only which way they act.
SHARES = {f"0.98, recent={r}, frequent={f}": ("less", "", f"recent={r},frequent={f}") for r, f in [(.3, .1), (.1, .3), (.1, .1)]}
OURS = [column for title in MODELS.values() for column in (f"{title}, pruned %", "KL", "top-1 %")]
PROFILE = command("profile fastgen", f"-f {TEXT} --tokens 1024 --recovery 0.98")
MEASURE = decoded(1024, 6)
ABLATE = decoded(1024, 6, "fastgen(recovery=0.98,ARGUMENTS)")


def profiled(title):
    """{recovery: its row}: how many heads get which policy, and the rows of the prompt that are kept."""
    return {float(r): row for r, row in rows_of(TOKENS, "Which policy FastGen's heads get", list(MODELS.values()).index(title)).items()}


def pruned_of_prompt(title, recovery):
    return 100 - float(profiled(title)[recovery]["rows kept %"])


def ablated(title, name):
    """(% of the rows pruned after the last token, KL, top-1 %)"""
    row = rows_of(TOKENS, f"FastGen on {title}")[name]
    return 100 - float(row["rows kept %"]), float(row["KL"]), row["top-1 %"]


def published_cell(model, recovery):
    """Where the paper has not ours, the nearest."""
    nearest = min(TABLE_1[model], key=lambda r: abs(r - recovery))
    if recovery == 1 or abs(nearest - recovery) > .035:
        return ""
    pruned, preferred = TABLE_1[model][nearest]
    return f"{'' if nearest == recovery else f'at {nearest}: '}{pruned} ({preferred})"


def fastgen_table_1():
    body = []
    for r in RECOVERIES:
        cells = [r, *[published_cell(model, r) for model in TABLE_1]]
        for title in MODELS.values():
            _, kl, top = ablated(title, f"recovery={r}")
            cells += [f"{pruned_of_prompt(title, r):.1f}", f"{kl:.4f}", top]
        body.append(cells)
    return table(["recovery", *[f"published, {model}" for model in TABLE_1], *OURS], body)


def fastgen_table_4():
    body = []
    for name, (pruned, preferred, arguments) in (TABLE_4 | SHARES).items():
        label = "other shares" if name in SHARES else {ORDERED: "punctuation last", "recovery=0.98": "all"}.get(name, name[6:])
        cells = [label, f"`{arguments}`" if arguments else "", f"{pruned:.2f}" if preferred else pruned, preferred]
        for title in MODELS.values():
            rows, kl, top = ablated(title, name)
            cells += [f"{rows:.1f}", f"{kl:.4f}", top]
        body.append(cells)
    return table(["policies", "ARGUMENTS", "published, 65B, pruned %", "preferred %", *OURS], body)


def fastgen():
    at = {r: (pruned_of_prompt(SMALL, r), pruned_of_prompt(LARGE, r)) for r in RECOVERIES}
    theirs = {r: [TABLE_1[model][r][0] for model in TABLE_1] for r in (.95, .98)}
    local = {r: profiled(SMALL)[r]["+local"] for r in (.95, .98)}
    falls = all(at[a][i] > at[b][i] for a, b in zip(RECOVERIES, RECOVERIES[1:]) for i in (0, 1))
    return ("## FastGen: recovery against what is pruned, and its ablations\n\n### Table 1\n\n" + fastgen_table_1() +
            f"\n{PROFILE} counts what is pruned of the prompt, {MEASURE} the rest, SPEC being `fastgen(recovery=0.98)` and so on. Published: "
            "Table 1, Llama-1: pruned % (answers that GPT-4 prefers to the full cache's, %; half is as good, and 45 counts as no "
            "regression).\n\n" +
            borne("*Agrees* in that more is pruned the less is to be recovered, at a larger KL; `recovery=1` is the full cache to the bit. ", falls) +
            f"*Disagrees* in amounts: {SMALL} prunes {at[.95][0]:.1f} % at 0.95 (published {span(theirs[.95], 1)}) and {at[.98][0]:.1f} at 0.98 "
            f"({span(theirs[.98], 1)}), because {local[.95]} and {local[.98]} of its 90 heads get the same policy, all four together. "
            f"{LARGE} prunes {at[.95][1]:.1f} and {at[.98][1]:.1f} %: fifteen of its eighteen layers hold 512 tokens only, "
            "and have dropped the others before FastGen looks.\n\n" + fastgen_ablations())


def fastgen_ablations():
    every, without = {t: ablated(t, "recovery=0.98") for t in MODELS.values()}, {}
    for part in ("special", "punct", "frequent", "local"):
        without[part] = {t: ablated(t, f"0.98, without {part}") for t in MODELS.values()}
    policies = profiled(SMALL)[.98]
    more = {part: [found[t][0] > every[t][0] for t in MODELS.values()] for part, found in without.items()}
    clearer = all(without[part][t][1] <= every[t][1] for part in ("punct", "frequent") for t in MODELS.values())
    smaller = [every[t][0] - ablated(t, next(iter(SHARES)))[0] for t in MODELS.values()]
    return ("### Tables 4 and 5\n\n" + fastgen_table_4() + f"\n{ABLATE}. Pruned: of all rows after the last token. Published: Tables 4 and 5, "
            "Llama-1 65B at 0.98; what shares do is in its text.\n\n" +
            borne("- *special*: without it the paper prunes less, here nothing changes: no head is done with special rows alone, and the first row, "
                  "the only special one of this text, should be a frequent one (a guess).\n",
                  without["special"] == every and policies["special"] == "0") +
            borne(f"- *punct*: less in the paper, more here, at no larger a KL. No head of {SMALL} is done with special rows and punctuation, and "
                  "all others carry the punctuation as well.\n", all(more["punct"]) and clearer and policies["+punct"] == "0") +
            borne(f"- *frequent*: less in the paper and on {SMALL}, more on {LARGE}, at a smaller KL on both. A guess: Gemma's heads pass by their "
                  "last rows and hold no others then, SmolLM2's do not and hold all.\n", more["frequent"] == [False, True] and clearer) +
            borne(f"- *local*: a sixth less in the paper, here nearly nothing is pruned: {policies['+local']} of {SMALL}'s 90 heads are done with "
                  "local rows and not without.\n", all(without["local"][t][0] < 1 for t in MODELS.values())) +
            borne("- *Order*: more is pruned with punctuation last, as in the paper; the reason is that of *punct*.\n",
                  all(ablated(t, ORDERED)[0] > every[t][0] for t in MODELS.values())) +
            borne(f"- *Shares*: a smaller `frequent` makes the cache larger, as in the paper, by {smaller[0]:.1f} and {smaller[1]:.1f} % of "
                  "the rows.\n",
                  min(smaller) > 0))


# ---- eviction --------------------------------------------------------------------------------------------------------

NAMES = ["h2o, oneshot", "snapkv", "pyramidkv", "kvzip", "keydiff", "random"]
PROMPTS = [1024, 4096]


def evicted(title, prompt):
    """{fraction: {method: (MiB, KL)}}"""
    tables = {f: rows_of(TOKENS, f"{title}: a prompt of {prompt} tokens, then 128", nth) for nth, f in enumerate(FRACTIONS)}
    return {f: {name: (float(rows[name]["MiB"]), float(rows[name]["KL"])) for name in NAMES} for f, rows in tables.items()}


def beside_random(title, prompt, name):
    """Its KL over that of random rows, by fraction."""
    return {f: rows[name][1] / rows["random"][1] for f, rows in evicted(title, prompt).items()}


def losses(title, prompt):
    """Where random rows are better, in words; empty: nowhere."""
    worse = {name: [percent(f) for f, ratio in beside_random(title, prompt, name).items() if ratio >= 1] for name in NAMES[:-1]}
    return listed([f"{name} at {listed(where)}" for name, where in worse.items() if where] or ["nowhere"])


def eviction_table(model, title, prompt):
    found, specs = evicted(title, prompt), dict(methods(model, FRACTIONS[0], prompt))
    body = []
    for name in NAMES:
        cells = [name, f"`{specs[name]}`"]
        for rows in found.values():
            size, kl = rows[name]
            cells += [f"{size:.1f}", f"**{kl:.4f}**" if name != "random" and kl >= rows["random"][1] else f"{kl:.4f}"]
        body.append(cells)
    head = [column for f in FRACTIONS for column in (f"{percent(f)}: MiB", f"{percent(f)}: KL")]
    return f"{title}, a prompt of {prompt} tokens, then 128:\n\n" + table(["method", f"spec at {percent(FRACTIONS[0])}", *head], body) + "\n"


def eviction_plot(model, title):
    series = {name: [(*rows[name], f"{f:g}") for f, rows in evicted(title, PROMPTS[0]).items()] for name in NAMES}
    return draw(f"eviction-{model}", f"{title}, a prompt of {PROMPTS[0]} tokens, then 128", "MiB of cache", "KL to the full cache", series,
                log_y=True)


def eviction():
    ratios = [ratio for prompt in PROMPTS for name in NAMES[:-1] for ratio in beside_random(SMALL, prompt, name).values()]
    wide = max(rows["kvzip"][0] / rows["random"][0] for rows in evicted(LARGE, 1024).values())
    half = evicted(LARGE, 1024)[.5]
    pair = [ratio for prompt in PROMPTS for name in NAMES[:2] for ratio in beside_random(LARGE, prompt, name).values()]
    return ("## H2O, SnapKV and PyramidKV beside random rows at equal bytes\n\n" +
            "".join(eviction_plot(model, title) for model, title in MODELS.items()) + "\n" +
            "".join(eviction_table(model, title, prompt) for model, title in MODELS.items() for prompt in PROMPTS) +
            f"Bold: random rows are better.\n\n{MEASURE}, and `--prompt 4096`. The papers claim nearly the full cache's quality on their tasks, H2O "
            "with 20 % of the rows, SnapKV with an eighth of the memory, PyramidKV with 12 % of the rows; that the rows they choose are better than "
            "any others of as many bytes is the least of it.\n\n" +
            borne(f"*Agrees* on {SMALL}: random rows have {span([1 / r for r in ratios], 1)} times the KL of any method. ", max(ratios) < 1) +
            borne(f"*Agrees* for H2O and SnapKV on {LARGE}: {span([1 / r for r in pair], 1)} times. ", max(pair) < 1) +
            "*Disagrees* there for the others: random rows are better " +
            "; ".join(f"after {prompt} tokens than {losses(LARGE, prompt)}" for prompt in PROMPTS) + ". Why:\n\n"
            "- Fifteen of Gemma's eighteen layers hold 512 tokens only: half of a prompt of 1024 drops nothing there, whichever rows are chosen. "
            "So random rows cost little, and have to be beaten in three layers.\n"
            f"- PyramidKV gives upper layers less than a window holds ({half['pyramidkv'][0]} MiB for {half['random'][0]} at 50 %): there it drops "
            "rows that the others keep.\n"
            f"- KVzip is asked of those three layers only, and holds up to {wide:.1f} times random's bytes after 1024 tokens. It keeps what repeats "
            "the prompt, and finds hidden numbers that random rows lose (docs/tokens.md); that "
            "the next words of this text want other rows is a guess.\n"
            "- KeyDiff keeps the keys that are least alike and looks at no query. Gemma's keys are normalised, and its single KV head serves all "
            "queries: that this is what costs it so much is a guess. It too finds the numbers.\n\n"
            "Which method is best depends on what is asked: docs/tokens.md has hidden numbers.\n")
