#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures `lamina tune` and writes docs/tune.md: at several budgets its choice beside the best specs of one axis at no
more bytes, those that tune looked at and those of a fixed list (tune_rivals.py), by KL on texts that it never saw. Ends
with an error, the tables written, if one of them is better than the choice by more than a standard error.

    tools/tune_tables.py [--only MODEL…] [--budgets 50% 25%] [--windows 8] [--threads 2]

Calls are kept in build/layers like those of layers_tables.py: an interrupted run goes on where it stopped. With --only
the other models' sections stay as they are.
"""
import argparse
import math
import re
import sys
from types import SimpleNamespace

from layers_tables import EVAL_TEXT, MODELS, ROOT, SHARED, WORK, call_json, model_path, table
from tune_rivals import rivals

UNSEEN = {"Wikipedia": SHARED / "calibration/wiki_demo.txt", "Sherlock Holmes": SHARED / "prose/gutenberg/sherlock_holmes.txt"}
TEXT = SimpleNamespace(files=UNSEEN, prompt=1024, score=64)
MOST, EACH = 15, 3  # specs of one axis in a table, those of the least KL on tune's first window; of each axis at least


def best_of_one_axis(alternatives):
    single = sorted((a for a in alternatives if "+" not in a["axes"]), key=lambda a: a["selection"]["kl_by_window"][0])
    taken = [a for axis in ("layers", "tokens", "bits") for a in [a for a in single if a["axes"] == axis][:EACH]]
    return taken + [a for a in single if a not in taken][:MOST - len(taken)]


def unseen(args, model, specs):
    """{text: {spec: what `eval ppl` says}}"""
    if not specs:
        return {name: {} for name in TEXT.files}
    rows = {name: call_json("eval", "ppl", "-m", model_path(model), "-f", file, "--prompt", TEXT.prompt, "--score", TEXT.score,
                            "--windows", args.windows, "--base", "full", "-t", args.threads, "--kv", ";".join(specs))
            for name, file in TEXT.files.items()}
    return {name: dict(zip(specs, of, strict=True)) for name, of in rows.items()}


def of_fixed_list(args, model, found, known):
    """Rows like tune's alternatives, of specs that are not `known` and held no more bytes on any text, and what was told
    of them."""
    most = found["budget"]["kv_bytes"]
    listed = rivals(args, model, TEXT, len(found["layers"][0]["kl"]), most)
    fresh = {spec: axis for spec, axis in listed.items() if spec not in known}
    told = unseen(args, model, list(fresh))
    fits = [spec for spec in fresh if all(told[name][spec]["kv_bytes"] <= most for name in told)]
    return [{"kv_spec": spec, "axes": fresh[spec], "kv_ratio": min(told[name][spec]["kv_ratio"] for name in told)}
            for spec in fits], told


def complaint(chosen, single, told):
    """For each text on which a spec of one axis beats the choice by more than the standard error of their difference, a
    sentence. Windows' own figures are not told: both errors as if independent, above that of a difference in pairs."""
    lines = []
    for name, rows in told.items():
        ours, best = rows[chosen["kv_spec"]], min((rows[a["kv_spec"]] for a in single), key=lambda row: row["kl_mean"])
        if ours["kl_mean"] - best["kl_mean"] > math.hypot(ours["kl_error"], best["kl_error"]):
            lines.append(f"{name}: KL {ours['kl_mean']:.5f} +- {ours['kl_error']:.5f} of the choice {ours['kv_spec']}, "
                         f"{best['kl_mean']:.5f} +- {best['kl_error']:.5f} of {best['kv_spec']}")
    return lines


def shortened(spec):
    """Long terms by layer in a few words."""
    return spec if len(spec) <= 130 else spec[:127] + "…"


def row_of(a, told, is_chosen):
    spec, held = shortened(a["kv_spec"]), a.get("held_out")
    return [f"**`{spec}`**" if is_chosen else f"`{spec}`", a["axes"], "tune" if "selection" in a else "list",
            f"{a['kv_ratio']:.2f}", f"{a['selection']['kl_mean']:.4f}" if "selection" in a else "",
            f"{held['kl_mean']:.4f} ± {held['kl_error']:.4f}" if held else "",
            *[f"{told[name][a['kv_spec']]['kl_mean']:.5f}" for name in told],
            *[f"{100 * told[name][a['kv_spec']]['top1_agreement']:.1f}" for name in told]]


def budget_table(args, model, budget):
    """The table, the choice's KL over the least of one axis on each unseen text, and where that is certainly above 1."""
    found, = call_json("tune", "-m", model_path(model), "--budget", budget, "-f", EVAL_TEXT, "-t", args.threads)
    chosen = found["alternatives"][found["chosen"]]
    looked_at = best_of_one_axis(found["alternatives"])
    specs = list({a["kv_spec"]: None for a in [chosen, *looked_at]})
    told = unseen(args, model, specs)
    others, told_of_others = of_fixed_list(args, model, found, specs)
    told = {name: told[name] | told_of_others[name] for name in told}
    single = looked_at + others
    kl = lambda a, name: told[name][a["kv_spec"]]["kl_mean"]
    least = {name: min(kl(a, name) for a in single) for name in told}
    rest = sorted((a for a in single if a is not chosen), key=lambda a: sum(kl(a, name) for name in told))
    rows = [row_of(chosen, told, True), *[row_of(a, told, False) for a in rest]]
    text = f"### {MODELS[model]}, {budget}: {found['budget']['kv_bytes']:,} bytes\n\n"
    text += table(["kv", "axes", "from", "ratio", "KL, selection", "KL, held out", *[f"KL, {n}" for n in told],
                   *[f"top-1 %, {n}" for n in told]], rows)
    all_single = [a for a in found["alternatives"] if "+" not in a["axes"]]
    text += (f"\nOf {len(found['alternatives'])} alternatives {len(all_single)} are of one axis; here are those of the least KL on "
             f"tune's first window, and {len(others)} of the fixed list. {' '.join(found['reasons'])}\n")
    if len(chosen["kv_spec"]) > 130:
        text += f"The choice in full: `{chosen['kv_spec']}`\n"
    summary = [budget, chosen["axes"], f"{chosen['kv_ratio']:.2f}",
               *[f"{kl(chosen, n):.5f} / {least[n]:.5f} = {kl(chosen, n) / least[n]:.2f}" for n in told]]
    return text, summary, [f"{MODELS[model]}, {budget}, {line}" for line in complaint(chosen, single, told)]


def section(args, model):
    """The model's text, and complaints."""
    tables = [budget_table(args, model, budget) for budget in args.budgets]
    head = table(["budget", "axes of the choice", "ratio", *[f"KL over the least of one axis, {n}" for n in TEXT.files]],
                 [summary for _, summary, _ in tables])
    return head + "\n" + "\n".join(text for text, _, _ in tables), [line for _, _, lines in tables for line in lines]


def write(measured):
    """docs/tune.md: its head, and of each model what was measured now or stood there."""
    path = ROOT / "docs/tune.md"
    parts = re.split(r"^## (.*)\n\n", path.read_text() if path.exists() else "", flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True)) | measured
    text = [(ROOT / "docs/tune.head.md").read_text()]
    text += [f"## {title}\n\n{sections[title].strip()}\n" for title in MODELS.values() if title in sections]
    path.write_text("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--budgets", nargs="*", default=["50%", "25%"])
    parser.add_argument("--windows", type=int, default=8, help="windows of each unseen text")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    complaints = []
    for model in args.only:
        text, lines = section(args, model)
        write({MODELS[model]: text})
        complaints += lines
    if complaints:
        sys.exit("tune_tables: a spec of one axis is better than the choice\n" + "\n".join(complaints))


if __name__ == "__main__":
    main()
