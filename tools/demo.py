#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ./dev demo shows: one question under three KV specs, then what each spec costs on tools/demo.txt."""
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAMINA = ROOT / "build/release/lamina"
MODEL = ROOT / "models/smollm2.gguf"
QUESTION = "What is a KV cache in a language model, and why does it grow?"

# Layers 7 and 29 of the 30 read what 6 and 28 wrote (the two neighbours whose sharing costs least perplexity on wiki
# text, chosen one after the other); 64 rows live on; keys in 8 bits, values in 4.
OWNERS = [{7: 6, 29: 28}.get(layer, layer) for layer in range(30)]
SPECS = ["full", "k8v8", f"map({'_'.join(map(str, OWNERS))}) + streaming(sinks=4,window=60) + k8v4"]


def lamina(*args):
    """The JSON that a subcommand prints; its progress goes to stderr as ever."""
    command = [LAMINA, args[0], *args[1:], "-o", "json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"demo: lamina {args[0]} ended with status {run.returncode}")
    return json.loads(run.stdout)


def answer(spec):
    print(f"\n--- {spec}", flush=True)
    run = subprocess.run([LAMINA, "chat", "-m", MODEL, "-p", QUESTION, "--temp", "0", "-n", "96", "--kv", spec])
    if run.returncode != 0:
        sys.exit(f"demo: lamina chat ended with status {run.returncode}")


def table():
    speeds = lamina("bench", "-m", MODEL, "-p", "512", "-n", "64", "-d", "1024", "-r", "1", "--kv", ";".join(SPECS))
    print(f"\n{'':10}{'KV bytes':>12}{'ratio':>8}{'prompt t/s':>12}{'decode t/s':>12}{'perplexity':>12}{'KL':>9}")
    for label, spec in zip("ABC", SPECS):
        cost = lamina("eval", "ppl", "-m", MODEL, "-f", ROOT / "tools/demo.txt", "--prompt", "384", "--score", "64",
                      "--windows", "2", "--kv", spec, "--base", "full")
        mine = [test for test in speeds if test["kv_spec"] == cost["kv_spec"]]
        prompt = next(test["avg_ts"] for test in mine if test["n_prompt"])
        decode = next(test["avg_ts"] for test in mine if test["n_gen"])
        print(f"spec {label:5}{cost['kv_bytes']:12.0f}{cost['kv_ratio']:8.2f}{prompt:12.1f}{decode:12.1f}"
              f"{cost['perplexity']:12.2f}{cost['kl_mean'] or 0:9.4f}", flush=True)
    for label, spec in zip("ABC", SPECS):
        print(f"{label}: {spec}")
    print("KV bytes and ratio to dense f16: after 448 tokens. Speeds: behind 1024 tokens. Perplexity and KL to full "
          "(nats):\n64 tokens after each of two prompts of 384, tools/demo.txt. A small sample: README.md has more.")


def main():
    print(f"Question: {QUESTION}")
    for spec in SPECS:
        answer(spec)
    table()


if __name__ == "__main__":
    main()
