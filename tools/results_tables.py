#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/results.md: what the papers claim beside what Lamina measures on SmolLM2 and Gemma 3 (./dev evidence).

    tools/results_tables.py [--only SECTION…]

Figures are taken from the tables of docs/layers.md and docs/tokens.md, which layers_tables.py and tokens_tables.py measure;
what those do not have is measured here and kept in build/layers like theirs. With --only the other sections stay as they stand;
the table of claims is always written.
"""
import argparse
import re

from layers_tables import EVAL_TEXT, ROOT, WORK
from plots import plot
from results_layers import kvsharer, lckv
from results_minicache import minicache
from results_overview import overview
from results_peers import choice, kvpress, retrieval
from results_read import rows_of
from results_tokens import eviction, fastgen

RESULTS = ROOT / "docs/results.md"
SECTIONS = {  # the first words of their titles
    "KVSharer": kvsharer, "MiniCache": minicache, "FastGen": fastgen, "H2O": eviction, "LCKV": lckv, "Retrieval": retrieval,
    "lm-evaluation-harness": choice, "kvpress": kvpress}


def head():
    return """# What the papers claim, and what is measured here

Written by `./dev evidence` (tools/results_tables.py), on WikiText-2's validation text unless a section says otherwise. A
model's figures, in tables and in prose, are the output of the commands beside them, in most cases by way of docs/layers.md
and docs/tokens.md, or ratios of such outputs. Published ones are the papers'. They measure models of 7 to 70 billion
parameters on other tasks; here are two of 0.13 and 0.27. So a ratio may differ because the model does: where another reason is
known, it is given, and what is a guess is called one. MODEL is `models/smollm2.gguf` (SmolLM2-135M) or `models/gemma3.gguf`
(Gemma 3 270M), SPEC a row's spec. What `lamina tune` makes of all this for a budget of bytes is in [tune.md](tune.md).
"""


def pareto():
    """The README's plot of its own table. Named are the specs that no other beats in bytes and in KL at once."""
    bits = {"bf16", "k8v8", "k8v4", "k4v4", "k4v2", "kivi4", "kivi2"}
    points = [(float(row["ratio"]), float(row["KL mean"]), name.replace("`", "").replace("*", ""))
              for name, row in rows_of("README.md", "What a spec costs").items() if float(row["KL mean"]) > 0]
    best = lambda p: not any(o[0] >= p[0] and o[1] <= p[1] and o != p for o in points)
    series = {"bits": [], "tokens": [], "both": [], "layers, and more": []}
    for p in points:
        parts = [re.sub(r"\(.*?\)", "", part).strip() for part in p[2].split(" + ")]
        parts = [part for part in parts if part not in ("rotate", "grid")]
        kind = ("layers, and more" if "map2" in p[2] else "bits" if all(part in bits for part in parts)
                else "both" if any(part in bits for part in parts) else "tokens")
        series[kind].append(p if best(p) else (*p[:2], f" {p[2]}"))
    (ROOT / "docs/plots/pareto.svg").write_text(plot(
        "What a spec costs SmolLM2: 1024 tokens, then 128", "dense f16 bytes over the cache's bytes", "KL to the full cache",
        series, lines=False, log_x=True, log_y=True, labels=True))


def standing():
    """{name: text} of the sections that docs/results.md has."""
    parts = re.split(r"^(?=## )", RESULTS.read_text(), flags=re.M)[1:] if RESULTS.exists() else []
    return {name: f"{part.rstrip()}\n" for part in parts for name in SECTIONS if part.startswith(f"## {name}")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="these sections")
    args = parser.parse_args()
    assert EVAL_TEXT.exists(), f"{EVAL_TEXT} is missing"
    WORK.mkdir(parents=True, exist_ok=True)
    (ROOT / "docs/plots").mkdir(exist_ok=True)
    pareto()
    found = standing() | {name: SECTIONS[name]() for name in args.only}
    sections = [found[name] for name in SECTIONS if name in found]
    RESULTS.write_text("\n".join([head(), overview(found.get("kvpress")), *sections]))


if __name__ == "__main__":
    main()
