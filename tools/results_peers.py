# SPDX-License-Identifier: Apache-2.0
"""Sections of docs/results.md: Lamina beside other programs on the same model and data. Their figures are goldens:
tests/golden/kvpress/perplexity.json (kvpress_reference.py). Lamina's are measured here and kept in build/layers.
"""
import json

from layers_tables import ROOT, SHARED, call_json, model_path, table

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
            f"\n`lamina eval ppl -f ../shared/data/{theirs['text']} --prompt {theirs['prompt']} --score {theirs['score']} --windows "
            f"{theirs['windows']} --base f32 --kv \"SPEC + f32\"`\n" + NOTES)
