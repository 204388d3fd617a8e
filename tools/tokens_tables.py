#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the tokens and bits axes and writes docs/tokens.md: what each method costs at 50, 25 and 12.5 % of the rows,
what formats cost at equal tokens, and some of their combinations.

    tools/tokens_tables.py [--only STAGE…] [--windows 6] [--items 50] [--threads 2] [--no-speed]

Calls are kept in build/layers like those of layers_tables.py: an interrupted run goes on where it stopped. Speeds want a
machine that does nothing else.
"""
import argparse

from layers_tables import (EVAL_TEXT, MODELS, ROOT, SHARED, WORK, bench, call_json, map_spec, mib, model_path, strategy,
                           table)

FRACTIONS = [0.5, 0.25, 0.125]
RECOVERIES = [0.9, 0.95, 0.98, 1.0]


def methods(fraction):
    """(name, spec) of the methods that keep a fraction of the rows."""
    half = f"{fraction / 2:.6f}".rstrip("0")
    return [("h2o", f"h2o(heavy={half},recent={half})"),
            ("h2o, oneshot", f"h2o(heavy={half},recent={half},oneshot)"),
            ("snapkv", f"snapkv(keep={fraction})"),
            ("adakv", f"adakv(keep={fraction})"),
            ("pyramidkv", f"pyramidkv(keep={fraction})"),
            ("keyl2", f"keyl2(keep={fraction})"),
            ("expected", f"expected(keep={fraction})"),
            ("kvzip", f"kvzip(keep={fraction})"),
            ("streaming", f"streaming(keep={fraction})"),
            ("random", f"random(keep={fraction})")]


def quality(args, model, specs, prompt):
    return call_json("eval", "ppl", "-m", model_path(model), "-f", EVAL_TEXT, "--prompt", prompt, "--score", 128,
                     "--windows", args.windows, "--base", "full", "-t", args.threads, "--kv", ";".join(specs))


def retrieval(args, model, specs, length):
    return call_json("eval", "passkey", "-m", model_path(model), "--length", length, "--items", args.items, "-t",
                     args.threads, "--kv", ";".join(specs))


def cost_table(args, model, named, prompt, depth):
    named = [("full", "full"), *named]
    specs = [spec for _, spec in named]
    told, found = quality(args, model, specs, prompt), retrieval(args, model, specs, prompt)
    speed = bench(args, model_path(model), specs, 512, 32, depth) if args.speed else None
    rows = []
    for i, ((name, _), row, key) in enumerate(zip(named, told, found, strict=True)):
        cells = [name, f"{row['perplexity']:.2f}", f"{row['kl_mean']:.4f}", f"{100 * row['top1_agreement']:.1f}",
                 f"{100 * key['accuracy']:.0f}", f"{100 * row['kept_fraction']:.1f}", mib(row["kv_bytes"]),
                 f"{row['kv_ratio']:.2f}"]
        if speed:
            cells += [f"{speed[2 * i]['median_ts']:.0f}", f"{speed[2 * i + 1]['median_ts']:.1f}",
                      f"{speed[2 * i + 1]['median_ts'] / speed[1]['median_ts']:.2f}"]
        rows.append(cells)
    return table(["spec", "ppl", "KL", "top-1 %", "passkey %", "rows kept %", "MiB", "ratio"] +
                 (["prompt t/s", "decode t/s", "of full"] if speed else []), rows)


def tokens_section(args, model, prompt):
    text = [f"## {MODELS[model]}: a prompt of {prompt} tokens, then 128\n"]
    for fraction in FRACTIONS:
        text.append(f"\n{100 * fraction:g} % of the rows:\n\n" +
                    cost_table(args, model, methods(fraction), prompt, prompt))
    return "".join(text)


def fastgen_section(args, model):
    named = [(f"recovery={r}", f"fastgen(recovery={r})") for r in RECOVERIES]
    named += [(f"recovery=0.95, {o}", f"fastgen({o})") for o in ["group=min", "criterion=l1", "decode=reselect"]]
    named += [(f"0.98, without {part}", f"fastgen(recovery=0.98,order={order})") for part, order in
              [("special", "punct/frequent/local"), ("punct", "special/frequent/local"),
               ("local", "special/punct/frequent"), ("frequent", "special/punct/local")]]
    named += [("0.98, special/frequent/local/punct", "fastgen(recovery=0.98,order=special/frequent/local/punct)")]
    named += [(f"0.98, recent={r}, frequent={f}", f"fastgen(recovery=0.98,recent={r},frequent={f})")
              for r in [0.1, 0.3] for f in [0.1, 0.3]]
    named += [("all heads local", "fastgen(recovery=0.0,order=local)"),
              ("all heads frequent", "fastgen(recovery=0.0,order=frequent)")]
    return f"## FastGen on {MODELS[model]}\n\n" + cost_table(args, model, named, 1024, 1024)


def bits_section(args, model):
    formats = ["bf16", "k8v8", "k8v4", "k4v8", "k4v4"]
    named = [(spec, spec) for f in formats for spec in ([f] if f == "bf16" else [f, f"{f} + rotate"])]
    named += [(f"{f} + grid(512)", f"{f} + grid(512)") for f in ["k8v8", "k4v4", "k4v4 + rotate"]]
    layers = 29 if model == "smollm2" else 17
    named += [(s, s) for s in [f"bits(0-1=f16,2-{layers}=k4v4) + rotate", f"bits(0-3=k8v8,4-{layers}=k4v4) + rotate"]]
    return f"## Formats on {MODELS[model]}\n\n" + cost_table(args, model, named, 1024, 4096)


def composition_section(args):
    shared = map_spec(strategy("smollm2", "25%", "--objective", "beam"))
    named = [(s.replace(shared, "KVSharer 25 %"), s) for s in
             [f"{shared} + h2o", f"{shared} + h2o + k8v8", f"{shared} + snapkv(keep=0.25)", "minicache + k4v4",
              "minicache + k4v4 + rotate", "minicache + h2o", "minicache + streaming(keep=0.25)", "h2o + k8v8",
              "h2o + k4v4 + rotate", "snapkv(keep=0.25) + k8v8", "snapkv(keep=0.25) + k4v4 + rotate",
              "fastgen(recovery=0.95) + k8v8", "fastgen(recovery=0.95) + k4v4 + rotate",
              "streaming(keep=0.25) + k4v4 + rotate", "tokens(0-1=full,2-29=snapkv(keep=0.25)) + k8v8"]]
    return f"## Combinations on {MODELS['smollm2']}\n\n" + cost_table(args, "smollm2", named, 1024, 4096)


SECTIONS = {
    "smollm2-1024": lambda args: tokens_section(args, "smollm2", 1024),
    "smollm2-4096": lambda args: tokens_section(args, "smollm2", 4096),
    "gemma3-1024": lambda args: tokens_section(args, "gemma3", 1024),
    "gemma3-4096": lambda args: tokens_section(args, "gemma3", 4096),
    "fastgen-smollm2": lambda args: fastgen_section(args, "smollm2"),
    "fastgen-gemma3": lambda args: fastgen_section(args, "gemma3"),
    "bits-smollm2": lambda args: bits_section(args, "smollm2"),
    "bits-gemma3": lambda args: bits_section(args, "gemma3"),
    "combinations": composition_section,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="these sections, to stdout")
    parser.add_argument("--windows", type=int, default=6, help="windows of each perplexity")
    parser.add_argument("--items", type=int, default=50, help="hidden numbers of each retrieval")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="quality only")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    assert SHARED.is_dir(), f"{SHARED} is missing"
    sections = [SECTIONS[name](args) for name in args.only]
    if set(args.only) != set(SECTIONS) or not args.speed:
        return print("\n".join(sections))
    head = (ROOT / "docs/tokens.head.md").read_text()
    (ROOT / "docs/tokens.md").write_text(head + "\n" + "\n".join(sections))


if __name__ == "__main__":
    main()
