#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What text costs SmolLM2 under NVIDIA's kvpress, for `lamina eval ppl` to stand beside: tests/golden/kvpress/perplexity.json.

Needs what golden_kvpress.py needs: a virtual environment of its own (for making this file only).

  kvp/bin/python tools/kvpress_reference.py [--windows N]

The protocol is that of `lamina eval ppl --prompt P --score S`: the text is encoded as a whole, without BOS, and cut into windows of
P + S tokens. Of each window the first P are the prompt, at whose end the press prunes the cache; then the others are fed, at their
positions in the text, and scored, the first of them from the prompt's last logits. KL is to the same model without a press.
Everything in float32, of models/smollm2.gguf de-quantised. A row of "rows" is {name, press, decoding, spec, kept, perplexity, kl, top1}:
"spec" is Lamina's for the same, "decoding" what prunes after each token that is fed, null if nothing does. tools/results_tables.py
measures Lamina's side.
"""

import argparse
import hashlib
import json
import logging
import math
import sys
from importlib.metadata import version

import torch
from golden_kvpress import pyramidkv, snapkv
from golden_logits import ROOT, encode, load_model, load_tokenizer
import kvpress.presses.kvzip_press as kvzip_press
from kvpress import (AdaKVPress, DecodingPress, ExpectedAttentionPress, KeyDiffPress, KeyRerotationPress, KnormPress, KVzipPress,
                     ObservedAttentionPress, StreamingLLMPress)
from transformers import DynamicCache

OUT = ROOT / "tests/golden/kvpress/perplexity.json"
TEXT = "wikitext-2/valid.txt"  # of the shared data
PROMPT, SCORE = 512, 128


class StreamingInOrder(StreamingLLMPress):
    """StreamingLLM with the rows left in the text's order. The original has topk choose between rows of equal scores, which leaves
    them in any order; when it prunes again, the sinks are the rows that stand first."""

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        kept = self.score(module, hidden_states, keys, values, attentions, kwargs)[0, 0].nonzero().flatten()
        return keys[:, :, kept].contiguous(), values[:, :, kept].contiguous()


def cases(ratio):
    """(name, press, press in decode, Lamina's spec), with kvpress's own defaults but for PyramidKV's window and beta: with those its
    last layers have fewer rows than the window, and it prunes as SnapKV does."""
    keep = round(PROMPT * (1 - ratio))
    decoding = lambda press: DecodingPress(press, compression_interval=1, target_size=keep, hidden_states_buffer_size=1)
    # The two of golden_kvpress.py, whose steps from layer to layer are whole numbers: Lamina rounds them down, as the authors' code.
    pyramid, spec = {0.5: (pyramidkv(1 - 232 / 512, 16, 8), "pyramidkv(keep=232,window=16,kernel=5,pool=avg,beta=16)"),
                     0.75: (pyramidkv(1 - 116 / 512, 8, 4), "pyramidkv(keep=116,kernel=5,pool=avg,beta=5)")}[ratio]
    return [
        ("StreamingLLM", StreamingLLMPress(ratio), None, f"window(keep={keep})"),
        ("StreamingLLM, in decode too", StreamingLLMPress(ratio), decoding(StreamingLLMPress()), f"window(keep={keep})"),
        ("the same, rows in order", StreamingInOrder(ratio), decoding(StreamingInOrder()), f"window(keep={keep})"),
        ("StreamingLLM, keys turned", KeyRerotationPress(StreamingLLMPress(ratio)), None, f"streaming(keep={keep})"),
        ("Knorm", KnormPress(ratio), None, f"keyl2(keep={keep})"),
        ("KeyDiff", KeyDiffPress(ratio), None, f"keydiff(keep={keep})"),
        ("SnapKV", snapkv(ratio, 64, 5), None, f"snapkv(keep={keep},window=64,kernel=5,pool=avg)"),
        ("PyramidKV", pyramid, None, spec),
        ("AdaKV on SnapKV", AdaKVPress(snapkv(ratio, 64, 5)), None, f"adakv(keep={keep},window=64,kernel=5,pool=avg,floor=0)"),
        ("Expected Attention", ExpectedAttentionPress(ratio), None, f"expected(keep={keep})"),
        ("Observed Attention", ObservedAttentionPress(ratio), None, f"h2o(heavy={keep - 1},recent=1,oneshot,average)"),
        ("KVzip, layer by layer", KVzipPress(ratio, layerwise=True), None, f"kvzip(keep={keep})"),
        ("KVzip, all layers share", KVzipPress(ratio), None, f"kvzip(keep={keep})"),
    ]


class PlainTokenizer:
    """SmolLM2's own without a chat template: KVzip then asks in plain text, as Lamina does."""

    chat_template = None

    def __init__(self, name):
        self.real = load_tokenizer("smollm2")

    def encode(self, text, **options):
        return torch.tensor([encode(self.real, text)], dtype=torch.long)


def feed(model, tokens, position, cache):
    return model(input_ids=torch.tensor([tokens]), position_ids=torch.arange(position, position + len(tokens)).unsqueeze(0),
                 past_key_values=cache, use_cache=True).logits[0]


def rows_held(model, cache):
    """Of each layer and head, averaged: what a press masks in place of pruning does not count."""
    held = [layer.keys.shape[2] for layer in cache.layers]
    masked = [getattr(layer.self_attn, "masked_key_indices", None) for layer in model.model.layers]
    heads = model.config.num_key_value_heads
    return sum(h - (len(m[0]) / heads if m is not None else 0) for h, m in zip(held, masked, strict=True)) / len(held)


def continue_window(model, window, press, decoding):
    """The log-probabilities [scored token][vocab], and how many rows of the prompt were kept."""
    cache, modules = DynamicCache(), [layer.self_attn for layer in model.model.layers]
    # Observed attention needs the weights, which only "eager" gives; AdaKV and KVzip refuse that one.
    model.set_attn_implementation("eager" if isinstance(press, ObservedAttentionPress) else "sdpa")
    for module in modules:
        module.masked_key_indices = None
    prompt = torch.tensor([window[:PROMPT]])
    with press(model):
        # The body alone is what a press sees; its last hidden state gives the last logits.
        hidden = model.model(input_ids=prompt, past_key_values=cache, use_cache=True).last_hidden_state[0, -1]
    kept, logits = rows_held(model, cache), [model.lm_head(hidden).unsqueeze(0)]
    # One step for all where nothing depends on their number: the mask of a longer one takes all layers for as long as the first.
    whole = not isinstance(decoding, DecodingPress) and all(module.masked_key_indices is None for module in modules) and len(
        {layer.keys.shape[2] for layer in cache.layers}) == 1
    # kvpress's pipeline goes on from the last key's position.
    gap = PROMPT - cache.get_seq_length() if isinstance(press, KeyRerotationPress) else 0
    with decoding(model):
        for at in range(PROMPT, len(window) - 1, SCORE if whole else 1):
            logits.append(feed(model, window[at:-1] if whole else [window[at]], at - gap, cache))
    return torch.cat(logits).double().log_softmax(-1), kept


class NoPress:
    def __call__(self, model):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def measure(model, windows):
    """After each window, what it and those before it sum up to."""
    sums = {}
    for window in windows:
        target = torch.tensor(window[PROMPT:]).unsqueeze(1)
        dense, _ = continue_window(model, window, NoPress(), NoPress())
        for ratio in (0.5, 0.75):
            for name, press, decoding, spec in cases(ratio):
                key = (name, ratio)
                text, in_decode = repr(press), repr(decoding) if decoding else None
                ours, kept = continue_window(model, window, press, decoding or NoPress())
                row = sums.setdefault(key, dict(name=name, ratio=ratio, press=text, decoding=in_decode, spec=spec, kept=0, nll=0, kl=0, top1=0))
                row["kept"] += kept
                row["nll"] -= float(ours.gather(1, target).sum())
                row["kl"] += float((dense.exp() * (dense - ours)).sum())
                row["top1"] += int((dense.argmax(-1) == ours.argmax(-1)).sum())
        row = sums.setdefault(("dense", 0), dict(nll=0))
        row["nll"] -= float(dense.gather(1, target).sum())
        yield sums


def write(sums, windows):
    tokens = windows * SCORE
    perplexity = lambda row: round(math.exp(row["nll"] / tokens), 4)
    rows = [{key: row[key] for key in ("name", "ratio", "press", "decoding", "spec")} |
            dict(kept=round(row["kept"] / windows, 2), perplexity=perplexity(row), kl=round(row["kl"] / tokens, 6),
                 top1=round(row["top1"] / tokens, 4))
            for key, row in sums.items() if key[0] != "dense"]
    packages = ", ".join(f"{package} {version(package)}" for package in ("kvpress", "transformers", "torch"))
    result = dict(name="smollm2", source=f"{packages}, float32", text=TEXT, prompt=PROMPT, score=SCORE, windows=windows,
                  model_sha256=hashlib.sha256((ROOT / "models/smollm2.gguf").read_bytes()).hexdigest(),
                  perplexity=perplexity(sums["dense", 0]), rows=rows)
    OUT.write_text(json.dumps(result, ensure_ascii=False).replace('{"name"', '\n{"name"').lstrip() + "\n")
    print(f"{windows} windows: {OUT.relative_to(ROOT)}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=8)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    kvzip_press.AutoTokenizer = type("", (), dict(from_pretrained=PlainTokenizer))
    model = load_model("smollm2")
    torch.set_num_threads(1)  # beside other work two wait for each other
    ids = encode(load_tokenizer("smollm2"), (ROOT.parent / "shared/data" / TEXT).read_text(encoding="utf-8"))
    size = PROMPT + SCORE
    windows = [ids[i * size:(i + 1) * size] for i in range(args.windows)]
    with torch.no_grad():
        for count, sums in enumerate(measure(model, windows), start=1):
            write(sums, count)


if __name__ == "__main__":
    main()
