#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures whether MiniCache pays with groups of more than two layers, at equal saved rows: 
`tools/minicache_groups.py TEXT [WINDOWS=8] > table.md`

Needs what golden_logits.py needs, that file beside it, and models/smollm2.gguf. A group of g adjacent layers, from the deep end on, keeps
per token, for K and V apart, one direction over all KV heads and g magnitudes. Windows of 640 tokens, no BOS: 512 with a full float32
cache; then the groups' rows (keys with RoPE) are merged and restored; then 128 in one block, whose own rows stay exact, which flatters
every setting. KL(full || merged) and perplexity are means over the 128. The direction is a normalised mean of the unit vectors: weights
alike, weights |x|^2 ("squares": least squared error), or SLERP with t = 0.6 (pairs). "kept" leaves the 5 % of the prompt's tokens with
the largest mean angle to the direction as they were, in all layers of the group.
"""
import math
import sys

import torch
from golden_logits import encode, load_model, load_tokenizer
from torch.nn.functional import cross_entropy

PROMPT, BLOCK, KEEP, T = 512, 128, 0.05, 0.6


def settings(layers):
    """(saved, shape, groups as (first layer, behind the last), of, weights, keeps); the weights other than "alike" are checks"""
    for saved, of in [(2, "kv"), (4, "kv"), (6, "kv"), (8, "kv"), (8, "v"), (8, "k")]:
        for shape, size in {"pairs": 2, "triples": 3, "fives": 5, "one group": saved + 1}.items():
            count, rest = divmod(saved, size - 1)
            groups = tuple((layers - size * (i + 1), layers - size * i) for i in range(count))
            for weights in ["alike"] + ["SLERP"] * (shape == "pairs") + ["squares"] * (saved == 8 and of == "kv"):
                if not rest:
                    yield saved, shape, groups, of, weights, (0, KEEP) if weights == "alike" else (0,)


def angle(a, b):
    return 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))


def merged(rows, weights, keep):
    """[layer][token][element] of one group, after merging and restoring."""
    units = rows / (norms := rows.norm(dim=-1, keepdim=True)).clamp_min(1e-30)
    if weights == "SLERP":
        omega = angle(units[0], units[1]).clamp(1e-4, math.pi - 1e-4)
        mean = torch.sin((1 - T) * omega) * units[0] + torch.sin(T * omega) * units[1]
    else:
        mean = (units * norms**2 if weights == "squares" else units).sum(0)
    direction = mean / mean.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    apart = angle(units, direction).mean(0)[:, 0].topk(math.ceil(keep * rows.shape[1])).indices
    return (norms * direction).index_copy(1, apart, rows[:, apart])


class Prompt:
    """What the attention layers ask of a cache: the prompt's rows and behind them the block's, which are not stored."""

    def __init__(self, keys, values):
        self.keys, self.values = list(keys), list(values)  # per layer [1][head][token][element]

    def update(self, keys, values, layer, *_, **__):
        return torch.cat([self.keys[layer], keys], 2), torch.cat([self.values[layer], values], 2)

    def merge(self, groups, of, weights, keep):
        result = Prompt(self.keys, self.values)
        for rows in [result.keys] * ("k" in of) + [result.values] * ("v" in of):
            for first, last in groups:
                flat = torch.stack([r[0].transpose(0, 1).flatten(1) for r in rows[first:last]])
                for layer, new in zip(range(first, last), merged(flat, weights, keep)):
                    rows[layer] = new.view(PROMPT, rows[layer].shape[1], -1).transpose(0, 1)[None]
        return result


class Window:
    def __init__(self, model, ids):
        self.model, self.targets = model, torch.tensor(ids[PROMPT + 1 :])
        cache = model.model(torch.tensor([ids[:PROMPT]]), use_cache=True).past_key_values
        self.prompt = Prompt((layer.keys for layer in cache.layers), (layer.values for layer in cache.layers))
        self.inputs = {0: model.model.embed_tokens(torch.tensor([ids[PROMPT:-1]]))}  # of each layer, with the full cache
        self.rope = model.model.rotary_emb(self.inputs[0], position_ids=torch.arange(PROMPT, PROMPT + BLOCK)[None])
        self.mask = torch.full((1, 1, BLOCK, PROMPT + BLOCK), -math.inf).triu(PROMPT + 1)
        self.full = self.run(self.prompt, 0)

    def run(self, prompt, first):
        """The block's log-probabilities; below the first group nothing changes, so only the layers from there on are computed."""
        hidden = self.inputs[first]
        for i, layer in enumerate(self.model.model.layers[first:], first):
            self.inputs.setdefault(i, hidden)
            hidden = layer(hidden, attention_mask=self.mask, position_embeddings=self.rope, past_key_values=prompt)
        return self.model.lm_head(self.model.model.norm(hidden))[0].double().log_softmax(-1)

    def measure(self, groups, *how):
        """(KL from the full cache, mean negative log-likelihood)"""
        logp = self.run(self.prompt.merge(groups, *how), min(first for first, _ in groups))
        return float((self.full.exp() * (self.full - logp)).sum()) / BLOCK, float(cross_entropy(logp, self.targets))


def table(results, full, layers, width):
    print(f"Full cache: perplexity {math.exp(sum(full) / len(full)):.3f} over {len(full)} windows x {BLOCK} tokens.\n")
    print("| saved layers | groups | layers | direction | KL | less pairs' (s.e.) | lower in | perplexity | KL, 5 % kept "
          "| perplexity, 5 % kept | saved of the cache | magnitudes |\n" + "|---" * 12 + "|")
    for saved, shape, groups, of, weights, keeps in settings(layers):
        kl, nll = torch.tensor([results[groups, of, weights, keep] for keep in keeps], dtype=torch.float64).unbind(-1)
        less, ppl = kl[0] - (pairs := kl[0] if (shape, weights) == ("pairs", "alike") else pairs), nll.mean(1).exp()
        versus = f"{less.mean():+.3f} ({less.std() / len(less) ** 0.5:.3f}) | {int((less < 0).sum())}/{len(less)}" if less.any() else "|"
        kept = f"{kl[1].mean():.4f} | {ppl[1]:.2f}" if len(keeps) > 1 else "|"
        touched, share = sum(last - first for first, last in groups), len(of) / 2 / layers
        print(f"| {saved}, {of.upper()} | {shape} | {touched} | {weights} | {kl[0].mean():.4f} | {versus} | {ppl[0]:.2f} | {kept} "
              f"| {saved * share:.2%} | {touched * share / width:.2%} |")


@torch.inference_mode()
def main(path, windows=8):
    model, results, full = load_model("smollm2"), {}, []  # results: (groups, of, weights, keep) -> (KL, loss) per window
    ids, layers = encode(load_tokenizer("smollm2"), open(path, encoding="utf-8").read()), model.model.layers
    for start in range(0, int(windows) * (PROMPT + BLOCK), PROMPT + BLOCK):
        window = Window(model, ids[start : start + PROMPT + BLOCK + 1])
        full.append(float(cross_entropy(window.full, window.targets)))
        for key in dict.fromkeys((*case[2:5], keep) for case in settings(len(layers)) for keep in case[5]):
            results.setdefault(key, []).append(window.measure(*key))
    table(results, full, len(layers), layers[0].self_attn.k_proj.out_features)


if __name__ == "__main__":
    main(*sys.argv[1:])
