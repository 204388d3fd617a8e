#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the tokens and bits axes and writes docs/tokens.md: what each method costs at 50, 25 and 12.5 % of the rows,
what formats cost at equal tokens, and some of their combinations.

    tools/tokens_tables.py [--only SECTION…] [--windows 6] [--items 50] [--threads 2]

With --only these sections are measured and take their places in docs/tokens.md; the others stay. Calls are kept in
build/layers like those of layers_tables.py: an interrupted run goes on where it stopped. Quality does not depend on what
else the machine does; the sections of speeds want it for themselves.
"""
import argparse
import json
import math
import re
from operator import eq

from layers_tables import (EVAL_TEXT, MODELS, ROOT, SHARED, WORK, call, call_json, map_spec, mib,
                           model_path, strategy, table)

PASSKEYS = SHARED / "passkey/passkey_examples.jsonl"
FRACTIONS = [0.5, 0.25, 0.125]
RECOVERIES = [0.9, 0.95, 0.98, 1.0]


def global_layers(policy):
    """Gemma 3: of its layers without a window, every sixth; rows that a window hides cannot be probed."""
    return f"tokens(5={policy},11={policy},17={policy})"


def methods(model, fraction, prompt):
    """(name, spec) of the methods that keep a fraction of the prompt's rows. Most choose at its end and then keep what
    is decoded: `random` holds the same number of rows at any time, and streaming one budget that is theirs at the end.
    H2O's and the other streaming's rows stay as many as they were."""
    half = f"{fraction / 2:.6f}".rstrip("0")
    last = int(fraction * prompt) + SCORED
    # its lowest layers have all rows: two fifths are the least that 30 layers can keep
    pruned = [("pyramidinfer", "pyramidinfer(keep=0.4,recent=0.1)")] if fraction == 0.5 else []
    return pruned + [("snapkv", f"snapkv(keep={fraction})"),
                     ("adakv", f"adakv(keep={fraction})"),
                     ("pyramidkv", f"pyramidkv(keep={fraction})"),
                     ("expected", f"expected(keep={fraction})"),
                     ("kvzip", f"kvzip(keep={fraction})" if model == "smollm2" else global_layers(f"kvzip(keep={fraction})")),
                     ("keyl2", f"keyl2(keep={fraction})"),
                     ("keydiff", f"keydiff(keep={fraction})"),
                     ("h2o, oneshot", f"h2o(heavy={half},recent={half},oneshot)"),
                     ("random", f"random(keep={fraction})"),
                     ("streaming, as many rows at the end", f"streaming(keep={last})"),
                     ("h2o", f"h2o(heavy={half},recent={half})"),
                     ("streaming", f"streaming(keep={fraction})"),
                     ("random, chosen again", f"random(keep={fraction},every=8)")]


SCORED = 128
AT_ONCE = 16  # specs of a call: they share its base and mostly the prompt, and a call is what is kept


def in_calls(specs, call):
    return [row for at in range(0, len(specs), AT_ONCE) for row in call(specs[at:at + AT_ONCE])]


def quality(args, model, specs, prompt):
    return in_calls(specs, lambda some: call_json(
        "eval", "ppl", "-m", model_path(model), "-f", EVAL_TEXT, "--prompt", prompt, "--score", SCORED, "--windows",
        args.windows, "--base", "full", "-t", args.threads, "--kv", ";".join(some)))


def retrieval(args, model, specs, *items):
    return call_json("eval", "passkey", "-m", model_path(model), *items, "-t", args.threads, "--kv", ";".join(specs))


def passkeys(args, model, specs, prompt):
    """Of each spec how many numbers it finds; None where that is not measured: KVzip reads a long prompt three times."""
    asked = [spec for spec in specs if prompt <= 1024 or "kvzip" not in spec]
    found = retrieval(args, model, asked, "--length", prompt, "--items", args.items)
    return {spec: row["accuracy"] for spec, row in zip(asked, found, strict=True)}


def cost_table(args, model, named, prompt, found=None):
    named = [("full", "full"), *named]
    specs = [spec for _, spec in named]
    told = quality(args, model, specs, prompt)
    found = found or passkeys(args, model, specs, prompt)
    rows = []
    for (name, spec), row in zip(named, told, strict=True):
        rows.append([name, f"{row['perplexity']:.2f}", f"{row['kl_mean']:.4f}", f"{100 * row['top1_agreement']:.1f}",
                     f"{100 * found[spec]:.0f}" if spec in found else "", f"{100 * row['kept_fraction']:.1f}",
                     mib(row["kv_bytes"]), f"{row['kv_ratio']:.2f}"])
    return table(["spec", "ppl", "KL", "top-1 %", "passkey %", "rows kept %", "MiB", "ratio"], rows)


def percent(fraction):
    return f"{100 * fraction:g} %"


def tokens_section(args, model, prompt):
    each = {fraction: methods(model, fraction, prompt) for fraction in FRACTIONS}
    found = None
    if prompt > 1024:  # in one call: the specs share the prompts
        specs = list(dict.fromkeys(["full", *[spec for named in each.values() for _, spec in named]]))
        found = passkeys(args, model, specs, prompt)
    return "\n".join(f"{percent(fraction)} of the rows:\n\n" + cost_table(args, model, named, prompt, found)
                     for fraction, named in each.items())


def passkey_section(args):
    """The shared file: five items of 12,000 tokens, which only Gemma's context holds."""
    named = [("full", "full"), *methods("gemma3", 0.25, 12000)]
    found = retrieval(args, "gemma3", [spec for _, spec in named], "-f", PASSKEYS)
    return table(
        ["spec", "found"], [[name, f"{row['found']} of {row['items']}"] for (name, _), row in zip(named, found, strict=True)])


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
              ("all heads frequent", "fastgen(recovery=0.0,order=frequent)"),
              ("all heads both", "fastgen(recovery=0.0,order=frequent+local)")]
    told = quality(args, model, [f"fastgen(recovery={r})" for r in RECOVERIES], 1024)
    for recovery, row in zip(RECOVERIES, told, strict=True):
        kept = (row["kept_fraction"] * (1024 + SCORED) - SCORED) / 1024  # of the prompt
        if kept < 1:
            named.append((f"random, as many rows as at {recovery}", f"random(keep={kept:.4f})"))
            named.append((f"streaming, as many rows as at {recovery}", f"streaming(keep={row['kept_fraction'] * (1024 + SCORED):.0f})"))
    return cost_table(args, model, named, 1024)


def profile(model, tokens, recovery):
    """What `lamina profile fastgen` says of the first so many tokens."""
    path = WORK / f"fastgen-{model}-{tokens}-{recovery}.json"
    if not path.exists():
        call("profile", "fastgen", "-m", model_path(model), "-f", EVAL_TEXT, "--tokens", tokens, "--recovery", recovery,
             "-o", path)
    return json.loads(path.read_text())


def choice_section(args):
    """How many heads get which policy, and whether they would get it still after some decoded tokens."""
    del args
    text = ["Of the first 1024 tokens; *same*: heads that would get the same policy from the text with so many more "
            "tokens.\n"]
    for model, title in MODELS.items():
        rows = []
        for recovery in RECOVERIES:
            found = profile(model, 1024, recovery)
            chosen = [head["policy"] for head in found["heads"]]
            later = [[head["policy"] for head in profile(model, 1024 + step, recovery)["heads"]]
                     for step in [1, 10, 20, 30]]
            rows.append([f"{recovery}", *[str(chosen.count(policy)) for policy in found["policies"]],
                         f"{100 * found['kept_fraction']:.1f}",
                         *[f"{100 * sum(map(eq, chosen, other)) / len(chosen):.0f}" for other in later]])
        names = [policy.split("+")[-1] for policy in found["policies"]]
        text.append(f"\n{title}:\n\n" + table(
            ["recovery", names[0], *[f"+{name}" for name in names[1:-1]], "full", "rows kept %", "same at 1, %", "10",
             "20", "30"], rows))
    return "".join(text)


def formats(model):
    terms = ["bf16", "k8v8", "k8v4", "k4v8", "k4v4", "k4v2", "k2v2", "kivi4", "kivi4(group=64)", "kivi4(group=128)",
             "kivi2"]
    named = [(spec, spec) for f in terms for spec in ([f] if f == "bf16" else [f, f"{f} + rotate"])]
    named += [(f"{f} + grid(512)", f"{f} + grid(512)") for f in ["k8v8", "k4v4", "k4v4 + rotate", "kivi4"]]
    layers = 29 if model == "smollm2" else 17
    return named + [(s, s) for s in [f"bits(0-1=f16,2-{layers}=k4v4) + rotate", f"bits(0-3=k8v8,4-{layers}=k4v4) + rotate"]]


TUNED = ["h2o(heavy=0.4,recent=0.4)", "pyramidinfer"]  # to a fifth less, as the KVSharer paper's appendix does


def combinations():
    shared = map_spec(strategy("smollm2", "25%", "--objective", "beam"))
    named = [(s.replace(shared, "KVSharer 25 %"), s) for s in
             [shared, *TUNED, *[f"{shared} + {policy}" for policy in TUNED]]]
    for policy in TUNED:
        found = map_spec(strategy("smollm2", "25%", "--objective", "beam", "--kv", policy))
        named.append((f"KVSharer 25 %, searched under it + {policy}", f"{found} + {policy}"))
    named += [(s.replace(shared, "KVSharer 25 %"), s) for s in
             [f"{shared} + h2o", f"{shared} + h2o + k8v8", f"{shared} + snapkv(keep=0.25)", "minicache + k4v4",
              "minicache + k4v4 + rotate", "minicache + kivi4", "minicache + h2o", "minicache + streaming(keep=0.25)",
              "h2o + k8v8", "h2o + k4v4 + rotate", "snapkv(keep=0.25) + k8v8", "snapkv(keep=0.25) + k4v4 + rotate",
              "snapkv(keep=0.25) + kivi4", "streaming(keep=0.25) + k4v4 + rotate", "fastgen(recovery=0.95) + k8v8",
              "fastgen(recovery=0.95) + k4v4 + rotate", "tokens(0-1=full,2-29=snapkv(keep=0.25)) + k8v8"]]
    return named


def speed_row(name, row, full, times):
    """A test beside full in the same run; of decoding also the bound: what full reads over what this reads."""
    ratio = row["median_ts"] / full["median_ts"]
    cells = [name, f"{row['median_ts']:.0f}", f"{ratio:.2f}"]
    if times:
        bound = full["all_bytes_read"] / row["all_bytes_read"]
        cells += [f"{bound:.2f}", f"{100 * ratio / bound:.0f}"]
    return cells


def speed_table(args, model, named, *test):
    named = [("full", "full"), *named]
    rows = call_json("bench", "-m", model_path(model), "-t", args.threads, "-r", 3, *test, "--kv", ";".join(spec for _, spec in named))
    decodes = rows[0]["n_gen"] > 0
    return table(["spec", "t/s", "of full", *(["bound", "share of it, %"] if decodes else [])],
                 [speed_row(name, row, rows[0], decodes) for (name, _), row in zip(named, rows, strict=True)])


def speed_section(args, model):
    quarter = methods(model, 0.25, 4096)
    fastgen = [("fastgen", "fastgen")]
    some = [(f, f) for f in ["k8v8", "k4v4 + rotate", "k4v2 + rotate", "kivi4", "kivi4(group=128)", "kivi2"]]
    depth = 8000 if model == "smollm2" else 8192
    text = ["A prompt of 1024 tokens:\n\n" + speed_table(args, model, quarter + fastgen + some, "-p", 1024, "-n", 0)]
    for fraction in FRACTIONS:
        text.append(f"Decoding after 4096 tokens, {percent(fraction)} of the rows:\n\n" +
                    speed_table(args, model, methods(model, fraction, 4096), "-p", 0, "-n", 32, "-d", 4096))
    for d in [4096, depth]:
        text.append(f"Decoding after {d} tokens, FastGen and formats:\n\n" +
                    speed_table(args, model, fastgen + some, "-p", 0, "-n", 32, "-d", d))
    text.append(f"Decoding after {depth} tokens, {percent(0.25)} of the rows:\n\n" +
                speed_table(args, model, methods(model, 0.25, depth), "-p", 0, "-n", 32, "-d", depth))
    if model == "smollm2":
        text.append("Decoding after 4096 tokens, combinations:\n\n" +
                    speed_table(args, model, combinations(), "-p", 0, "-n", 32, "-d", 4096))
    return "\n".join(text)


MAP2 = "map(" + "_".join(str({7: 6, 29: 28}.get(layer, layer)) for layer in range(30)) + ")"
README = ["full", "bf16", "k8v8", "k8v4", "k4v4", "k4v4 + rotate", "kivi4", "kivi4 + rotate", "kivi4(group=128)",
          "k4v2 + rotate", "kivi2", "h2o(heavy=0.25,recent=0.25)", "h2o(heavy=0.125,recent=0.125)",
          "h2o(heavy=0.125,recent=0.125) + k4v4 + rotate", "snapkv(keep=0.25)", "snapkv(keep=0.25) + kivi4",
          "adakv(keep=0.25)", "pyramidkv(keep=0.25)", "pyramidinfer", "fastgen", "fastgen(recovery=0.9)",
          "expected(keep=0.25)", "kvzip(keep=0.25)", "keyl2(keep=0.25)", "keydiff(keep=0.25)",
          "random(keep=0.25)", "window(window=508)",
          "streaming(window=508)", "streaming(window=252)", MAP2, f"{MAP2} + k8v8",
          f"{MAP2} + streaming(window=508) + k8v4", "k4v4 + grid(512)"]


def two_digits(x):
    return f"{x:.{max(2, 1 - math.floor(math.log10(x)))}f}" if x > 0 else "0"


def readme_section(args):
    """The table of the README."""
    rows = []
    for spec, row in zip(README, quality(args, "smollm2", README, 1024), strict=True):
        name = f"`{spec}`".replace(f"`{MAP2}`", "*map2*").replace(f"`{MAP2} ", "*map2* `")
        rows.append([name, f"{row['perplexity']:.2f}", two_digits(row["kl_mean"]), two_digits(row["kl_p99"]),
                     f"{100 * row['top1_agreement']:.1f} %", f"{100 * row['kept_fraction']:.0f} %",
                     f"{round(row['kv_bytes']):,}", f"{row['kv_ratio']:.2f}"])
    return table(["spec", "perplexity", "KL mean", "KL 99 %", "top-1", "rows kept", "KV bytes", "ratio"], rows)


SECTIONS = {
    "smollm2-1024": ("SmolLM2-135M: a prompt of 1024 tokens, then 128", lambda args: tokens_section(args, "smollm2", 1024)),
    "smollm2-4096": ("SmolLM2-135M: a prompt of 4096 tokens, then 128", lambda args: tokens_section(args, "smollm2", 4096)),
    "gemma3-1024": ("Gemma 3 270M: a prompt of 1024 tokens, then 128", lambda args: tokens_section(args, "gemma3", 1024)),
    "gemma3-4096": ("Gemma 3 270M: a prompt of 4096 tokens, then 128", lambda args: tokens_section(args, "gemma3", 4096)),
    "passkey-gemma3": ("Numbers hidden in 12,000 tokens, Gemma 3", passkey_section),
    "fastgen-smollm2": ("FastGen on SmolLM2-135M", lambda args: fastgen_section(args, "smollm2")),
    "fastgen-gemma3": ("FastGen on Gemma 3 270M", lambda args: fastgen_section(args, "gemma3")),
    "choice": ("Which policy FastGen's heads get", choice_section),
    "bits-smollm2": ("Formats on SmolLM2-135M", lambda args: cost_table(args, "smollm2", formats("smollm2"), 1024)),
    "bits-gemma3": ("Formats on Gemma 3 270M", lambda args: cost_table(args, "gemma3", formats("gemma3"), 1024)),
    "combinations": ("Combinations on SmolLM2-135M", lambda args: cost_table(args, "smollm2", combinations(), 1024)),
    "speed-smollm2": ("Speed on SmolLM2-135M", lambda args: speed_section(args, "smollm2")),
    "speed-gemma3": ("Speed on Gemma 3 270M", lambda args: speed_section(args, "gemma3")),
}


def write(measured):
    """docs/tokens.md: its head, and of each section what was measured now or stood there."""
    path = ROOT / "docs/tokens.md"
    parts = re.split(r"^## (.*)\n\n", path.read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True)) | measured
    text = [(ROOT / "docs/tokens.head.md").read_text()]
    text += [f"## {title}\n\n{sections[title].strip()}\n" for title, _ in SECTIONS.values() if title in sections]
    path.write_text("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*SECTIONS, "readme"], default=list(SECTIONS),
                        help="these sections; readme: the README's table, to stdout")
    parser.add_argument("--windows", type=int, default=6, help="windows of each perplexity")
    parser.add_argument("--items", type=int, default=50, help="hidden numbers of each retrieval")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    assert SHARED.is_dir(), f"{SHARED} is missing"
    if args.only == ["readme"]:
        return print(readme_section(args))
    for name in args.only:
        title, measure = SECTIONS[name]
        write({title: measure(args)})


if __name__ == "__main__":
    main()
