#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures `lamina tune` and writes docs/tune.md: at several budgets its choice beside the best specs of one axis at no
more bytes, by KL on texts that it never saw.

    tools/tune_tables.py [--only MODEL…] [--budgets 50% 25% 12.5%] [--windows 8] [--threads 2]

Calls are kept in build/layers like those of layers_tables.py: an interrupted run goes on where it stopped. With --only
the other models' sections stay as they are.
"""
import argparse
import re

from layers_tables import EVAL_TEXT, MODELS, ROOT, SHARED, WORK, call_json, model_path, table

UNSEEN = {"Wikipedia": SHARED / "calibration/wiki_demo.txt", "Sherlock Holmes": SHARED / "prose/gutenberg/sherlock_holmes.txt"}
MOST, EACH = 15, 3  # specs of one axis in a table, those of the least KL on tune's first window; of each axis at least


def best_of_one_axis(alternatives):
    single = sorted((a for a in alternatives if "+" not in a["axes"]), key=lambda a: a["selection"]["kl_by_window"][0])
    taken = [a for axis in ("layers", "tokens", "bits") for a in [a for a in single if a["axes"] == axis][:EACH]]
    return taken + [a for a in single if a not in taken][:MOST - len(taken)]


def unseen(args, model, specs, text):
    rows = call_json("eval", "ppl", "-m", model_path(model), "-f", text, "--prompt", 1024, "--score", 64, "--windows",
                     args.windows, "--base", "full", "-t", args.threads, "--kv", ";".join(specs))
    return {spec: row for spec, row in zip(specs, rows, strict=True)}


def shortened(spec):
    """Long terms by layer in a few words."""
    return spec if len(spec) <= 130 else spec[:127] + "…"


def row_of(a, told, is_chosen):
    spec, held = shortened(a["kv_spec"]), a["held_out"]
    return [f"**`{spec}`**" if is_chosen else f"`{spec}`", a["axes"], f"{a['kv_ratio']:.2f}", f"{a['selection']['kl_mean']:.4f}",
            f"{held['kl_mean']:.4f} ± {held['kl_error']:.4f}" if held else "",
            *[f"{told[name][a['kv_spec']]['kl_mean']:.5f}" for name in UNSEEN],
            *[f"{100 * told[name][a['kv_spec']]['top1_agreement']:.1f}" for name in UNSEEN]]


def budget_table(args, model, budget):
    """The table, and the choice's KL over the least of one axis on each unseen text."""
    found, = call_json("tune", "-m", model_path(model), "--budget", budget, "-f", EVAL_TEXT, "-t", args.threads)
    chosen = found["alternatives"][found["chosen"]]
    single = best_of_one_axis(found["alternatives"])
    specs = list({a["kv_spec"]: None for a in [chosen, *single]})
    told = {name: unseen(args, model, specs, text) for name, text in UNSEEN.items()}
    kl = lambda a, name: told[name][a["kv_spec"]]["kl_mean"]
    gains = {name: kl(chosen, name) / min(kl(a, name) for a in single) for name in UNSEEN}
    others = sorted((a for a in single if a is not chosen), key=lambda a: sum(kl(a, name) for name in UNSEEN))
    rows = [row_of(chosen, told, True), *[row_of(a, told, False) for a in others]]
    text = f"### {MODELS[model]}, {budget}: {found['budget']['kv_bytes']:,} bytes\n\n"
    text += table(["kv", "axes", "ratio", "KL, selection", "KL, held out", *[f"KL, {n}" for n in UNSEEN],
                   *[f"top-1 %, {n}" for n in UNSEEN]], rows)
    all_single = [a for a in found["alternatives"] if "+" not in a["axes"]]
    text += (f"\nOf {len(found['alternatives'])} alternatives {len(all_single)} are of one axis; here are those of the least KL on "
             f"tune's first window. {' '.join(found['reasons'])}\n")
    if len(chosen["kv_spec"]) > 130:
        text += f"The choice in full: `{chosen['kv_spec']}`\n"
    return text, [budget, chosen["axes"], f"{chosen['kv_ratio']:.2f}",
                  *[f"{kl(chosen, n):.5f} / {min(kl(a, n) for a in single):.5f} = {gains[n]:.2f}" for n in UNSEEN]]


def section(args, model):
    tables = [budget_table(args, model, budget) for budget in args.budgets]
    head = table(["budget", "axes of the choice", "ratio", *[f"KL over the least of one axis, {n}" for n in UNSEEN]],
                 [summary for _, summary in tables])
    return head + "\n" + "\n".join(text for text, _ in tables)


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
    parser.add_argument("--budgets", nargs="*", default=["50%", "25%", "12.5%"])
    parser.add_argument("--windows", type=int, default=8, help="windows of each unseen text")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for model in args.only:
        write({MODELS[model]: section(args, model)})


if __name__ == "__main__":
    main()
