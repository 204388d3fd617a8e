#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Hugging Face transformers computes on a text, to measure Lamina against; nothing of it is committed.

Needs what golden_logits.py needs, that file beside it, and models/NAME.gguf; NAME is smollm2 or gemma3 (default both).

  reference_perplexity.py [NAME…]     .cache/golden/: all logits of 512 tokens of the text, and perplexity

NAME.wiki512.f32 holds the logits, [token][vocab], NAME.wiki512.json {name, source, vocab, tokens}; ppl.json gives, per model and
window of 2048 tokens, the summed negative log-likelihood of tokens 1025…2047 (`lamina eval ppl -c 2048 --first 1025`). Windows that
ppl.json already holds are not computed again: delete it to start anew. --text names the text, --windows how many windows.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from golden_logits import BOS, ROOT, encode, load_model, load_tokenizer, logits_of, write_json

SCRATCH = ROOT / ".cache/golden"
WINDOW, FIRST = 2048, 1025


def window_loss(model, ids):
    """Summed negative log-likelihood of tokens FIRST… of one window; the head in pieces, for a large vocabulary's sake."""
    with torch.no_grad():
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0, FIRST - 1 : -1]
        targets = torch.tensor(ids[FIRST:])
        pieces = zip(hidden.split(128), targets.split(128))
        return sum(float(torch.nn.functional.cross_entropy(model.lm_head(h).double(), t, reduction="sum")) for h, t in pieces)


def measure_perplexity(name, model, ids, windows):
    path = SCRATCH / "ppl.json"
    for window in range(min(windows, len(ids) // WINDOW)):
        results = json.loads(path.read_text()) if path.exists() else {}
        losses = results.setdefault(name, dict(tokens_per_window=WINDOW - FIRST, file_tokens=len(ids), nll=[]))
        if window < len(losses["nll"]):
            continue
        part = ids[window * WINDOW : (window + 1) * WINDOW]
        part[: len(BOS[name])] = BOS[name]
        losses["nll"].append(window_loss(model, part))
        losses["perplexity"] = math.exp(sum(losses["nll"]) / (len(losses["nll"]) * (WINDOW - FIRST)))
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: window {window + 1}, perplexity so far {losses['perplexity']:.4f}", file=sys.stderr)


def measure(name, source, windows):
    SCRATCH.mkdir(parents=True, exist_ok=True)
    model = load_model(name)
    ids = encode(load_tokenizer(name), source)
    if not (SCRATCH / f"{name}.wiki512.json").exists():
        head = (BOS[name] + ids)[:512]
        logits = logits_of(model, head)
        logits.numpy().tofile(SCRATCH / f"{name}.wiki512.f32")
        write_json(SCRATCH / f"{name}.wiki512.json", dict(name=name, source="transformers, float32", vocab=logits.shape[1], tokens=head))
    measure_perplexity(name, model, ids, windows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(BOS), help="models")
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared/data/wikitext-2/valid.txt", help="the text")
    parser.add_argument("--windows", type=int, default=24, help="perplexity windows")
    args = parser.parse_args()
    for name in args.names:
        measure(name, args.text.read_text(encoding="utf-8"), args.windows)


if __name__ == "__main__":
    main()
