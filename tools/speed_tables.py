#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how speed and memory grow and writes docs/speed.md: loading, resident memory, prompts and decoding by context,
threads, a machine that others use too, and what a commit takes.

    tools/speed_tables.py [--only SECTION…] [--rounds 3]

With --only these sections are measured and take their places; the others stay. Wants a machine that does nothing else:
every figure is a median of rounds, each a process of its own.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
from statistics import median

from layers_tables import EVAL_TEXT, LAMINA, MODELS, ROOT, model_path, table

TO = ROOT / "docs/speed.md"
CONTEXTS = {"smollm2": [1024, 2048, 4096, 8192], "gemma3": [1024, 2048, 4096, 8192, 16384, 32768]}
GENERATED = 32
MIB = 2**20


def bench(model, *arguments, threads=2):
    line = [LAMINA, "bench", "-m", model_path(model), "-r", "1", "-t", threads, "-o", "json", *arguments]
    run = subprocess.run([str(a) for a in line], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"speed_tables: {' '.join(map(str, line))}\n{run.stderr}")
    return [test["median_ts"] for test in json.loads(run.stdout)]


def rounds(args, measure):
    """The medians of what `measure` returns, figure by figure."""
    print(f"  {getattr(measure, '__doc__', None) or ''}", file=sys.stderr, flush=True)
    return [median(column) for column in zip(*(measure() for _ in range(args.rounds)), strict=True)]


# ---- loading and memory ----------------------------------------------------------------------------------------------

class Watched:
    """A run of lamina: its wall time, its largest resident memory, and what is resident while it decodes."""

    def __init__(self, *arguments):
        start = time.monotonic()
        child = subprocess.Popen([str(a) for a in (LAMINA, "run", *arguments, "--temp", 0)], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        os.read(child.stdout.fileno(), 1)
        self.first_output = time.monotonic() - start
        self.decoding = resident(child.pid)
        child.stdout.read()
        error = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status != 0:
            sys.exit(f"speed_tables: lamina run: {error}")
        self.peak = usage.ru_maxrss * 1024


def resident(pid):
    found = re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())
    return int(found[1]) * 1024 if found else 0


def planned(model, context, spec):
    line = [LAMINA, "plan", "-m", model_path(model), "-c", context, "-n", 64, "--kv", spec, "-o", "json"]
    [plan] = json.loads(subprocess.run([str(a) for a in line], capture_output=True, text=True, check=True).stdout)
    return plan["kv_bytes"], plan["peak_bytes"]


def loading(args):
    text = ROOT / "build/layers/long_prompt.txt"
    text.write_text(EVAL_TEXT.read_text()[:30000])  # 7901 tokens of SmolLM2
    rows = []
    for model, name in MODELS.items():
        size = model_path(model).stat().st_size
        short = [Watched("-m", model_path(model), "-p", "Hi", "-n", 64) for _ in range(2 * args.rounds + 1)][1:]
        rows.append([name, "one token", f"{1000 * median(run.first_output for run in short):.0f}", f"{size / MIB:.1f}", "",
                     f"{median(run.decoding for run in short) / MIB:.1f}", f"{1.2 * size / MIB:.1f}",
                     f"{max(run.peak for run in short) / MIB:.1f}"])
        for spec in ["full", "k8v8"]:
            long = Watched("-m", model_path(model), "-f", text, "-c", 8192, "-n", 64, "--kv", spec)
            held, _ = planned(model, 8192, spec)
            rows.append([name, f"7900 tokens, `{spec}`", f"{1000 * long.first_output:.0f}", f"{size / MIB:.1f}",
                         f"{held / MIB:.1f}", f"{long.decoding / MIB:.1f}", f"{(1.2 * size + held) / MIB:.1f}",
                         f"{long.peak / MIB:.1f}"])
    return ("From the start of the program to its first output, the file in the page cache; resident memory (MiB) while it "
            "decodes after that, beside 1.2 times the file and what `plan` says of the cache at 8192 tokens; and the most "
            "at any time, which holds what a step of 512 prompt tokens works in.\n\n" +
            table(["model", "prompt", "ms", "file", "cache", "resident", "1.2 file + cache", "most"], rows))


# ---- by context ------------------------------------------------------------------------------------------------------

def by_context(args):
    text = ("Decoding costs the weights and, for each token before, its rows: time per token less that of an empty cache, "
            "for each thousand tokens, stays level. A prompt of n tokens costs n times the weights and n²/2 products with "
            "rows: time per token grows by the same for each thousand tokens, or less.\n")
    for model, name in MODELS.items():
        depths = [0, *CONTEXTS[model]]
        decode = rounds(args, lambda: bench(model, "-p", 0, "-n", GENERATED, "-d", ",".join(
            str(depth - GENERATED if depth == CONTEXTS[model][-1] else depth) for depth in depths)))
        prompt = rounds(args, lambda: bench(model, "-n", 0, "-p", ",".join(map(str, CONTEXTS[model]))))
        milliseconds = [1000 / speed for speed in decode]
        rows = [["0", f"{decode[0]:.0f}", f"{milliseconds[0]:.2f}", "", "", "", ""]]
        for depth, speed, each, pace, before in zip(depths[1:], decode[1:], milliseconds[1:], prompt,
                                                    [None, *prompt[:-1]], strict=True):
            step = "" if before is None else f"{(1000 / pace - 1000 / before) / (depth / 2 / 1024):.4f}"
            rows.append([depth, f"{speed:.0f}", f"{each:.2f}", f"{(each - milliseconds[0]) / (depth / 1024):.2f}",
                         f"{pace:.0f}", f"{1000 / pace:.3f}", step])
        text += f"\n{name}, `full`:\n\n" + table(
            ["tokens", "decode, tokens/s", "ms a token", "ms more for each 1024", "prompt, tokens/s", "ms a token",
             "ms more for each 1024 more"], rows)
    return text


# ---- threads, a busy machine, commits --------------------------------------------------------------------------------

FIGURES = [("prompt of 512", ["-p", 512, "-n", 0]), ("decode at 0", ["-p", 0, "-n", 128]),
           ("decode at 8000", ["-p", 0, "-n", 64, "-d", 8000])]


def threads(args):
    rows = []
    for name, arguments in FIGURES:
        one, two = rounds(args, lambda: bench("smollm2", *arguments, threads=1) + bench("smollm2", *arguments))
        rows.append([name, f"{one:.0f}", f"{two:.0f}", f"{two / one:.2f}"])
    [one, two] = [next(row for row in machine() if row["n_threads"] == n) for n in (1, 2)]
    rows += [[f"the machine: {name}", f"{one[key] / 1e9:.0f}", f"{two[key] / 1e9:.0f}", f"{two[key] / one[key]:.2f}"]
             for name, key in (("read, GB/s", "read_bytes_per_s"), ("int8, GOP/s", "int8_ops_per_s"))]
    return ("SmolLM2, tokens a second. One thread reads memory at four fifths of what two do, so decoding cannot double.\n\n" +
            table(["", "1 thread", "2 threads", "ratio"], rows))


def machine():
    return json.loads(subprocess.run([LAMINA, "bench", "--machine", "-o", "json"], capture_output=True, text=True,
                                     check=True).stdout)


def busy(args):
    rows = []
    for name, arguments in FIGURES:
        speeds = []
        for others in range(3):
            def measure():
                running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
                try:
                    return bench("smollm2", *arguments)
                finally:
                    for process in running:
                        process.kill()
                        process.wait()
            speeds += rounds(args, measure)
        rows.append([name, *(f"{speed:.0f}" for speed in speeds), *(f"{speed / speeds[0]:.2f}" for speed in speeds[1:])])
    return ("SmolLM2 on two threads, tokens a second, while other processes want a core each all the time. A fair share of "
            "two cores among three or four that want one is 0.67 or 0.50 of them.\n\n" +
            table(["", "alone", "beside 1", "beside 2", "ratio", "ratio"], rows))


def commits(args):
    rows = []
    for spec in ["full", "k8v8", "k4v4", "kivi4", "h2o(heavy=0.4,recent=0.4)", "fastgen + k8v8", "minicache + k4v4"]:
        def measure():
            run = subprocess.run([str(a) for a in (LAMINA, "bench", "-m", model_path("smollm2"), "-p", 0, "-n", 128, "-d",
                                                   4096, "-r", 1, "-t", 2, "--kv", spec, "--profile")],
                                 capture_output=True, text=True, check=True)
            found = {row[0].strip(): float(row[3]) for row in (line.strip("|").split("|") for line in
                     run.stdout.splitlines()) if len(row) > 4 and row[0].strip() in ("commit, encode", "all")}
            return [1000 * found["commit, encode"] / 128, 100 * found["commit, encode"] / found["all"]]
        each, share = rounds(args, measure)
        rows.append([f"`{spec}`", f"{each:.1f}", f"{share:.1f} %"])
    return ("Of SmolLM2 at 4096 tokens: what each decoded token's commit takes (to choose rows, to merge, to encode), and its "
            "share of the step.\n\n" + table(["", "µs a token", "of the step"], rows))


SECTIONS = {"Loading and memory": loading, "By context": by_context, "Threads": threads, "A busy machine": busy,
            "Commits": commits}
HEAD = """# How speed and memory grow

Written by tools/speed_tables.py: medians of {rounds} rounds on two cores that other tenants share. What bounds each part is in
[performance.md](performance.md); `./dev peers` measures Lamina beside others.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    kept = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", TO.read_text(), re.M | re.S)) if TO.exists() else {}
    for name in args.only:
        print(name, file=sys.stderr, flush=True)
        kept[name] = SECTIONS[name](args).strip() + "\n\n"
    parts = [HEAD.format(rounds=args.rounds)] + [f"## {name}\n\n{kept[name].strip()}\n" for name in SECTIONS if name in kept]
    TO.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
