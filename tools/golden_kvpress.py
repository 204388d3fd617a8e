#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of token methods: which rows NVIDIA's kvpress keeps, in tests/golden/kvpress/NAME.json.

Needs kvpress 0.5.5, which wants transformers before 5.3: a virtual environment of its own (for making goldens only).

  python3 -m venv kvp && kvp/bin/pip install torch gguf tokenizers kvpress==0.5.5
  kvp/bin/python tools/golden_kvpress.py [NAME…]

NAME is a model of tests/golden/tiny, made as golden_logits.py makes it, or smollm2: models/smollm2.gguf de-quantised. All in float32.

NAME.json is {name, source, tokens, cases}. A case is {press, spec, kept, margin} and, of some, "nested".
  press   what ran
  spec    the same as Lamina's token term; "nested": a method whose budgets differ, so that of each head the smaller of the two
          sets lies within the larger
  kept    [layer][KV head] a mask in hexadecimal digits: bit p (the lowest bit of the last digit is bit 0) says that position p is kept
  margin  [layer][KV head] how far the last kept score lies above the first dropped one, relative to it; of AdaKV, which compares the
          heads of a layer, [layer][the same number]; null where scores say nothing (StreamingLLM)
"""

import argparse
import copy
import sys
from importlib.metadata import version

import numpy as np
import torch
from golden_logits import (BPE_VOCAB, LLAMA, REAL, ROOT, encode, fill, load_model, load_tokenizer, tiny_model, write_json)
import kvpress.presses.kvzip_press as kvzip_press
from kvpress import AdaKVPress, ExpectedAttentionPress, KeyDiffPress, KnormPress, KVzipPress, PyramidKVPress, SnapKVPress, StreamingLLMPress
from transformers import AutoTokenizer, DynamicCache

OUT = ROOT / "tests/golden/kvpress"
TINY_NAMES = ["llama-gqa", "llama-wide-heads", "llama-odd"]  # several KV heads; two, two and one query heads for each
TINY_LENGTH, REAL_LENGTH = 96, 512


def snapkv(ratio, window, kernel):
    return SnapKVPress(compression_ratio=ratio, window_size=window, kernel_size=kernel)


def pyramidkv(ratio, window, beta):
    return PyramidKVPress(compression_ratio=ratio, window_size=window, kernel_size=5, beta=beta)


# (press, Lamina's term). Ratios are sums of powers of two, so that length * (1 - ratio) is a whole number.
TINY_CASES = [
    (snapkv(0.75, 8, 5), "snapkv(keep=24,window=8,kernel=5,pool=avg)"),
    (snapkv(0.5, 16, 7), "snapkv(keep=48,window=16,pool=avg)"),
    # kvpress counts the window among the rows that the pyramid shares out, Lamina (as the authors' code) adds it to them: another
    # beta gives the same last layer, and with it the same pyramid.
    (pyramidkv(0.75, 4, 4), "pyramidkv(keep=24,window=4,kernel=5,pool=avg,beta=10)"),
    (pyramidkv(0.5, 4, 8), "pyramidkv(keep=48,window=4,kernel=5,pool=avg,beta=22)"),
    (pyramidkv(0.75, 8, 20), "snapkv(keep=24,window=8,kernel=5,pool=avg)"),  # last layer below the window: kvpress falls back to SnapKV
    (KnormPress(0.75), "keyl2(keep=24)"),
    (KnormPress(0.5), "keyl2(keep=48)"),
    (KeyDiffPress(0.75), "keydiff(keep=24)"),
    (KeyDiffPress(0.5), "keydiff(keep=48)"),
    (StreamingLLMPress(0.75), "streaming(keep=24)"),
    (StreamingLLMPress(0.5, n_sink=1), "window(sinks=1,keep=48)"),
    # alpha_safeguard is part of all rows that a head keeps, floor of those beside the window: 21 of 24 are 13 of 16 and the window.
    (AdaKVPress(snapkv(0.75, 8, 5), alpha_safeguard=0.9), "adakv(keep=24,window=8,kernel=5,pool=avg,floor=0.82)"),
    (AdaKVPress(snapkv(0.5, 8, 5), alpha_safeguard=0.2), "adakv(keep=48,window=8,kernel=5,pool=avg,floor=0.03)"),
    (ExpectedAttentionPress(0.75), "expected(keep=24)"),
    (ExpectedAttentionPress(0.5, n_future_positions=40, n_sink=0, epsilon=0.5), "expected(keep=48,future=40,sinks=0,epsilon=0.5)"),
    (ExpectedAttentionPress(0.5, n_sink=1, use_covariance=False, use_vnorm=False), "expected(keep=48,sinks=1,covariance=off,values=off)"),
    # layerwise: the heads of a layer share their budget, as here; else kvpress shares it between all layers.
    (KVzipPress(0.75, layerwise=True), "kvzip(keep=24)"),
    (KVzipPress(0.5, layerwise=True, n_sink=0), "kvzip(keep=48,sinks=0)"),
]
REAL_CASES = [
    (snapkv(0.75, 32, 5), "snapkv(keep=128,kernel=5,pool=avg)"),
    (snapkv(0.875, 32, 7), "snapkv(keep=64,pool=avg)"),
    (pyramidkv(1 - 116 / 512, 8, 4), "pyramidkv(keep=116,kernel=5,pool=avg,beta=5)"),
    (pyramidkv(1 - 232 / 512, 16, 8), "pyramidkv(keep=232,window=16,kernel=5,pool=avg,beta=16)"),
    (pyramidkv(1 - 192 / 512, 8, 20), "pyramidkv(keep=192,kernel=5,pool=avg)"),  # nested
    (KnormPress(0.75), "keyl2(keep=128)"),
    (KnormPress(0.5), "keyl2(keep=256)"),
    (StreamingLLMPress(0.75), "window(keep=128)"),
    (StreamingLLMPress(0.875, n_sink=8), "streaming(sinks=8,keep=64)"),
    (AdaKVPress(snapkv(0.75, 32, 5)), "adakv(keep=128,kernel=5,pool=avg,floor=0)"),
    (AdaKVPress(snapkv(0.875, 32, 5), alpha_safeguard=0.75), "adakv(keep=64,kernel=5,pool=avg,floor=0.5)"),
    (ExpectedAttentionPress(0.75), "expected(keep=128)"),
    (ExpectedAttentionPress(0.5, n_future_positions=128, epsilon=0.02), "expected(keep=256,future=128,epsilon=0.02)"),
]
NESTED = {"pyramidkv(keep=192,kernel=5,pool=avg)"}


class Record:
    """What a press keeps: [layer][head][position] as booleans, and the margins. The model's own keys and values stay whole."""

    def __init__(self, press):
        self.kept, self.margins, self.scores = [], [], None
        self.scorer = press.press if isinstance(press, AdaKVPress) else press
        self.real_compress, self.real_score = press.compress, self.scorer.score
        press.compress, self.scorer.score = self.compress, self.score

    def score(self, module, hidden_states, keys, values, *rest):
        self.scores = self.real_score(module, hidden_states, keys, self.values, *rest)
        return self.scores

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        length, self.values = keys.shape[2], values
        positions = torch.arange(length).view(1, 1, -1, 1).expand_as(values)
        chosen = self.real_compress(module, hidden_states, keys, positions, attentions, kwargs)[1][0, :, :, 0]
        kept = torch.zeros(keys.shape[1], length, dtype=torch.bool)
        kept.scatter_(1, chosen, True)
        rows = self.scores[0]
        if (masked := getattr(module, "masked_key_indices", None)) is not None:  # AdaKV masks in place of pruning
            kept[masked[1], masked[2]] = False
            rows = rows.reshape(1, -1)  # kvpress has raised the scores of what each head has for certain
        self.kept.append(kept)
        self.margins.append(margins(rows, int(kept.sum()) // len(rows)))
        return keys, values


def margins(scores, count):
    """[row of scores] (last kept - first dropped) / last kept."""
    best = scores.double().topk(count + 1).values
    last, first = best[:, -2], best[:, -1]
    return [None if a == 1 and b == 0 else float(f"{(a - b) / abs(a):.2g}") for a, b in zip(last.tolist(), first.tolist())]


def mask(kept):
    return f"{sum(1 << position for position in np.flatnonzero(kept.numpy()).tolist()):0{(len(kept) + 3) // 4}x}"


class PlainTokenizer:
    """The model's own without its chat template: KVzip then asks in plain text, as Lamina does."""

    chat_template = None

    def __init__(self, name):
        self.real = AutoTokenizer.from_pretrained(ROOT / "tests/golden/tiny", gguf_file=f"{name}.gguf")

    def encode(self, text, **options):
        return self.real.encode(text, **options) if text else torch.zeros(1, 0, dtype=torch.long)


def run_kvzip(model, tokens, press, spec):
    """KVzip scores after the prompt, all layers at once, and masks what it would prune."""
    text, press, scores = repr(press), copy.deepcopy(press), []
    real_compress = press.compress_post
    press.compress_post = lambda model: (real_compress(model), scores.append(press.score_val.clone()))
    kvzip_press.AutoTokenizer = type("", (), dict(from_pretrained=PlainTokenizer))
    with torch.no_grad(), press(model):
        model.model(input_ids=torch.tensor([tokens]), past_key_values=DynamicCache(), use_cache=True)
    case = dict(press=text, spec=spec, kept=[], margin=[])
    for layer, rows in zip(model.model.layers, scores[0], strict=True):
        kept = torch.ones(rows.shape[1:], dtype=torch.bool)
        _, head, position = layer.self_attn.masked_key_indices
        kept[head, position] = False
        layer.self_attn.masked_key_indices = None
        case["kept"].append([mask(row) for row in kept])
        case["margin"].append(margins(rows.reshape(1, -1), int(kept.sum())) * len(kept))
    return case


def run(model, tokens, press, spec):
    if isinstance(press, KVzipPress):
        return run_kvzip(model, tokens, press, spec)
    text, press = repr(press), copy.deepcopy(press)
    record = Record(press)
    with torch.no_grad(), press(model):
        model.model(torch.tensor([tokens]), past_key_values=DynamicCache(), use_cache=True)
    heads = record.kept[0].shape[0]
    case = dict(press=text, spec=spec, kept=[[mask(head) for head in layer] for layer in record.kept],
                margin=[layer if len(layer) == heads else layer * heads for layer in record.margins])
    return case | (dict(nested=True) if spec in NESTED else {})


def make(name, model, tokens, cases):
    # Any attention but "eager": AdaKVPress refuses that, and the others then compute the window's attention themselves.
    model.set_attn_implementation("sdpa")
    packages = ", ".join(f"{package} {version(package)}" for package in ("kvpress", "transformers"))
    write_json(OUT / f"{name}.json", dict(name=name, source=f"{packages}, float32", tokens=tokens,
                                          cases=[run(model, tokens, *case) for case in cases]))
    print(f"{name}: {(OUT / f'{name}.json').stat().st_size} bytes", file=sys.stderr)


def make_tiny(name):
    torch.set_num_threads(1)  # sums in a fixed order
    seed = list(LLAMA).index(name) + 1  # as golden_logits.py counts them
    model = tiny_model(name, LLAMA[name][0])
    model.config.name_or_path = name
    with torch.no_grad():
        fill(model, seed)
    # No token twice: the first layer's keys of equal tokens are equal, and their order is anyone's.
    tokens = (3 + np.random.default_rng(2000 + seed).permutation(BPE_VOCAB - 3)[:TINY_LENGTH]).tolist()
    make(name, model, tokens, TINY_CASES)


def make_real(name):
    text = (REAL / "text.txt").read_text(encoding="utf-8") + (ROOT / "LICENSE").read_text(encoding="utf-8")
    make(name, load_model(name), encode(load_tokenizer(name), text)[:REAL_LENGTH], REAL_CASES)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which models; default: all")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in args.names or [*TINY_NAMES, "smollm2"]:
        make_real(name) if name == "smollm2" else make_tiny(name)


if __name__ == "__main__":
    main()
