# SPDX-License-Identifier: Apache-2.0
"""Sections of docs/results.md: Lamina beside other programs on the same model and data, and what it finds again in contexts.

Their figures are goldens: tests/golden/kvpress/perplexity.json (kvpress_reference.py) and tests/golden/lm_eval/NAME.json
(lm_eval_reference.py). Lamina's are measured here and kept in build/layers.
"""
import json

from layers_tables import MODELS, ROOT, SHARED, call_json, model_path, table
from lm_eval_reference import DATA, REAL

GOLDEN = ROOT / "tests/golden"


# ---- kvpress ---------------------------------------------------------------------------------------------------------

SAME = 0.01  # of a KL: below it two rows agree
WHY = {  # of a row that does not agree, the note under the table
    "StreamingLLM": 1, "StreamingLLM, keys turned": 1, "StreamingLLM, in decode too": 2, "KVzip, all layers share": 3}
NOTES = """
1. A press prunes once, and the cache then grows by a row with each token; Lamina's `window` and `streaming` go on dropping. With
   kvpress's rows dropped in the same way, in the text's order, the two agree: see the row of that name. Done by hand with turned keys,
   the first window has a KL of 0.2009 and 0.3272, Lamina's 0.2009 and 0.3272.
2. kvpress's own way of pruning in decode (`DecodingPress`) takes rows by their place in the cache. All rows that StreamingLLM keeps
   have the same score, topk returns them in any order, and the next pruning takes the four that stand first for the sinks. Left in
   order (the next row), they give Lamina's figures.
3. KVzip in kvpress shares the rows out between all layers by default, Lamina's `kvzip` gives every layer as many; so does kvpress with
   `layerwise=True`, and then the two agree. Shared out, the rows cost a quarter of the KL.

PyramidKV is measured with pyramids whose steps from layer to layer are whole numbers: Lamina rounds them down, as the authors' code
does, kvpress does not. With its default window and beta kvpress prunes as SnapKV does, because the last layers would have fewer rows
than the window. What is left between two figures that agree is the order of sums in float32.
"""


def kvpress(threads=2):
    theirs = json.loads((GOLDEN / "kvpress/perplexity.json").read_text())
    specs = list(dict.fromkeys(row["spec"] for row in theirs["rows"]))
    asked = ["f32"] + [f"{spec} + f32" for spec in specs]
    found = call_json("eval", "ppl", "-m", model_path("smollm2"), "-f", SHARED / theirs["text"], "--prompt", theirs["prompt"], "--score",
                      theirs["score"], "--windows", theirs["windows"], "--base", "f32", "-t", threads, "--kv", ";".join(asked))
    ours = dict(zip(specs, found[1:], strict=True))
    body = []
    for row in theirs["rows"]:
        own = ours[row["spec"]]
        apart = abs(own["kl_mean"] / row["kl"] - 1)
        why = "yes" if apart <= SAME else f"no, {WHY[row['name']]}"
        body.append([row["name"], f"{row['kept']:.0f}", f"`{row['spec']}`", f"{row['perplexity']:.3f}", f"{own['perplexity']:.3f}",
                     f"{row['kl']:.4f}", f"{own['kl_mean']:.4f}", why])
    return ("## kvpress's own numbers\n\n"
            f"{theirs['source']}, on SmolLM2-135M de-quantised: a prompt of {theirs['prompt']} tokens, at whose end a press prunes the cache, "
            f"then {theirs['score']} tokens fed and scored, {theirs['windows']} windows (tools/kvpress_reference.py). Lamina: the same tokens, "
            f"the same file, rows in float32. Perplexity without pruning: {theirs['perplexity']:.4f} there, "
            f"{found[0]['base_perplexity']:.4f} here.\n\n" +
            table(["method", "rows kept", "Lamina's spec", "kvpress ppl", "Lamina ppl", "kvpress KL", "Lamina KL", f"within {100 * SAME:.0f} %"],
                  body) +
            f"\n`lamina eval ppl -m models/smollm2.gguf -f ../shared/data/{theirs['text']} --prompt {theirs['prompt']} --score "
            f"{theirs['score']} --windows {theirs['windows']} --base f32 --kv \"SPEC + f32\"`\n" + NOTES)


# ---- lm-evaluation-harness -------------------------------------------------------------------------------------------

def choice(threads=2):
    body, version = [], ""
    percent = lambda x: "-" if x is None else f"{100 * x:.1f}"
    for model, title in MODELS.items():
        golden = json.loads((GOLDEN / f"lm_eval/{model}.json").read_text())
        for task, theirs in golden.get("real", {}).items():
            version = golden["source"]
            own, = call_json("eval", "choice", "-m", model_path(model), "--task", task, "--data", DATA / REAL[task], "--limit",
                             theirs["items"], "-t", threads)
            body.append([title, task, theirs["items"], percent(theirs["accuracy"]), percent(own["accuracy"]),
                         percent(theirs["accuracy_norm"]), "-" if theirs["accuracy_norm"] is None else percent(own["accuracy_norm"])])
    return ("## lm-evaluation-harness: accuracy of the dense cache\n\n"
            f"{version}, on the models de-quantised (tools/lm_eval_reference.py), and Lamina with its 8-bit products on the same first items.\n\n" +
            table(["model", "task", "items", "lm-eval %", "Lamina %", "lm-eval by length %", "Lamina by length %"], body) +
            "\n`lamina eval choice -m MODEL --task TASK --data FILE --limit 200`; `tools/lm_eval_reference.py --check NAME build/release/lamina` "
            "also compares each item's log-likelihoods.\n")


# ---- retrieval -------------------------------------------------------------------------------------------------------

RETRIEVAL_MODELS = ["smollm2"]  # Gemma 3's passkeys stand in docs/tokens.md
RETRIEVAL_SEEDS = [2, 3]
RETRIEVAL_TASKS = ["needle", "multikey", "multivalue", "variables", "commonwords", "qa", "passkey"]
RETRIEVAL_SPECS = ["full", "k4v4 + rotate", "h2o(heavy=0.125,recent=0.125)", "snapkv(keep=0.25)", "kvzip(keep=0.25)", "keydiff(keep=0.25)",
                   "random(keep=0.25)"]
RETRIEVAL_ITEMS, RETRIEVAL_TOKENS = 10, 1024


def retrieval(threads=2):
    body, without = [], []
    for model in RETRIEVAL_MODELS:
        title, specs = MODELS[model], RETRIEVAL_SPECS
        found = {}  # task -> of each seed
        for seed in RETRIEVAL_SEEDS:
            for task in RETRIEVAL_TASKS:
                row, = call_json("eval", "retrieval", "-m", model_path(model), "--task", task, "--length", RETRIEVAL_TOKENS, "--items",
                                 RETRIEVAL_ITEMS, "-s", seed, "-t", threads, "--kv", ";".join(specs))
                found.setdefault(task, []).append(row)
        tasks = [task for task, rows in found.items() if all(row["reported"] for row in rows)]
        without += [f"{title}: {task}" for task in found if task not in tasks]
        for i, spec in enumerate(specs):
            mean = lambda rows: sum(rows) / len(rows)
            cell = lambda task: " / ".join(f"{100 * mean([row['specs'][i][when]['found'] for row in found[task]]):.0f}"
                                           for when in ("query_agnostic", "query_aware"))
            body.append([title, f"`{spec}`", *[cell(task) if task in tasks else "" for task in found]])
    return ("## Retrieval: found of what is hidden, question unknown / known when the cache is folded\n\n"
            f"Contexts of {RETRIEVAL_TOKENS} tokens in the manner of RULER, {RETRIEVAL_ITEMS} of each task and seed, means of seeds "
            f"{' and '.join(map(str, RETRIEVAL_SEEDS))} in percent. The wordings of the tasks were chosen on seed 1, which is therefore not among them. "
            "A task is shown where the dense cache finds half in each seed" +
            (f"; it does not for {', '.join(without)}" if without else "") + ".\n\n" +
            table(["model", "spec", *found], body) +
            f"\n`lamina eval retrieval -m MODEL --length {RETRIEVAL_TOKENS} --items {RETRIEVAL_ITEMS} -s SEED --kv \"SPEC;SPEC\"`\n")
