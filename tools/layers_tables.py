#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the layers axis and writes docs/layers.md: what KVSharer, MiniCache and LCKV cost, and what they give.

    tools/layers_tables.py [--only STAGE…] [--windows 8] [--threads 2]

Every call of lamina is kept in build/layers (its command line is the key), so an interrupted run goes on where it
stopped; remove the folder to measure anew. Speeds want a machine that does nothing else.
"""
import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAMINA = ROOT / "build/release/lamina"
WORK = ROOT / "build/layers"
SHARED = ROOT.parent / "shared/data"
EVAL_TEXT = SHARED / "wikitext-2/valid.txt"
MODELS = {"smollm2": "SmolLM2-135M", "gemma3": "Gemma 3 270M"}
PERCENTS = ["12.5%", "25%", "37.5%"]
SEEDS = [1, 2, 3]


def model_path(model):
    path = ROOT / f"models/{model}.gguf"
    return path if path.exists() else WORK / f"{model}.gguf"


def call(*args):
    """What lamina prints, from an earlier run if there was one."""
    line = [str(a) for a in args]
    place = WORK / (hashlib.sha256("\0".join(line).encode()).hexdigest()[:16] + ".out")
    if not place.exists():
        start = time.monotonic()
        run = subprocess.run([LAMINA, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            sys.exit(f"layers_tables: lamina {' '.join(line)}\n{run.stderr}")
        place.write_text(run.stdout)
        print(f"{time.monotonic() - start:7.1f} s  lamina {' '.join(line)[:150]}", file=sys.stderr, flush=True)
    return place.read_text()


def call_json(*args):
    result = json.loads(call(*args, "-o", "json"))
    return result if isinstance(result, list) else [result]


# ---- texts and strategies --------------------------------------------------------------------------------------------

def calibration(name):
    """A file of lines. "wiki": articles cut into lines of 120 words, enough for 50 sentences; "c4": web pages."""
    path = WORK / f"calibration-{name}.txt"
    if not path.exists():
        if name == "wiki":
            lines = []
            for article in (SHARED / "calibration/wiki_demo.txt").read_text().splitlines():
                words = article.split()
                lines += [" ".join(words[i:i + 120]) for i in range(0, min(len(words), 480), 120)]
            # one line of each article first, then their second lines, ...
            lines = [line for i in range(4) for line in lines[i::4]]
        else:
            pages = (SHARED / "calibration/c4_demo.jsonl").read_text().splitlines()
            lines = [" ".join(json.loads(page)["text"].split()) for page in pages]
        path.write_text("\n".join(lines) + "\n")
    return path


def strategy(model, percent, *options, text=None, sentences=30):
    """A strategy file of `lamina search kvsharer`."""
    text = text or SHARED / "calibration/wiki_demo.txt"
    name = re.sub(r"[^a-z0-9.]+", "-", " ".join([model, percent, *map(str, options), Path(text).stem, str(sentences)]).lower())
    path = WORK / f"{name}.json"
    if not path.exists():
        part = path.with_suffix(".part")
        start = time.monotonic()
        run = subprocess.run([LAMINA, "search", "kvsharer", "-m", model_path(model), "--calibration", text, "--sentences",
                              str(sentences), "--tokens", "64", "--share", percent, *map(str, options), "-o", part],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0 and "ranking is exhausted" not in run.stderr:
            sys.exit(f"layers_tables: search {name}: {run.stderr}")
        os.replace(part, path)
        print(f"{time.monotonic() - start:7.1f} s  search {name}", file=sys.stderr, flush=True)
    return path


def target_of(path):
    return json.loads(path.read_text())["map"]


def map_spec(path):
    return f"map({'_'.join(map(str, target_of(path)))})"


def shared_layers(path):
    """7<-6 29<-28"""
    found = json.loads(path.read_text())
    text = " ".join(f"{i}←{j}" for i, j in enumerate(found["map"]) if i != j)
    return text + (f" (no more: {found['options']['share']} were asked for)" if found["exhausted"] else "")


# ---- measurements ----------------------------------------------------------------------------------------------------

def perplexities(args, model, specs):
    rows = call_json("eval", "ppl", "-m", model_path(model), "-f", EVAL_TEXT, "-c", 512, "--windows", args.windows, "-t",
                     args.threads, "--kv", ";".join(specs))
    return [row["perplexity"] for row in rows]


def continuations(args, model, specs):
    return call_json("eval", "ppl", "-m", model_path(model), "-f", EVAL_TEXT, "--prompt", 512, "--score", 128,
                     "--windows", args.windows, "--base", "full", "-t", args.threads, "--kv", ";".join(specs))


def bench(args, path, specs, prompt, gen, depth, *more, force=False, repetitions=3):
    return call_json("bench", "-m", path, "-p", prompt, "-n", gen, "-d", depth, "-r", repetitions, "-t", args.threads,
                     *more, *(["--force"] if force else []), "--kv", ";".join(specs))


def budget(args, path, specs, held, context, *more, force=False):
    return call_json("bench", "-m", path, "--kv-budget", held, "-c", context, "-n", 16, "-t", args.threads, *more,
                     *(["--force"] if force else []), "--kv", ";".join(specs))


def speeds(args, model, specs):
    """(prompt, decode) tokens/s at depth 4096, medians, beside full in the same run."""
    rows = bench(args, model_path(model), specs, 512, 32, 4096)
    return [(rows[2 * i]["median_ts"], rows[2 * i + 1]["median_ts"], rows[2 * i + 1]["kv_bytes"]) for i in range(len(specs))]


def mib(size):
    return f"{size / 2**20:.1f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("-" if i == 0 else "-:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def cost_table(args, model, named):
    """One row a spec: quality by both protocols, bytes, speed at depth 4096 beside full."""
    specs = ["full"] + [spec for _, spec in named]
    rows = []
    plain = perplexities(args, model, specs)
    told = continuations(args, model, specs)
    fast = speeds(args, model, specs) if args.speed else [(0, 0, 0)] * len(specs)
    for (name, _), ppl, row, (prompt, decode, held) in zip([("full", "full"), *named], plain, told, fast, strict=True):
        apart = row["apart_fraction"]
        rows.append([name, f"{ppl:.2f}", f"{row['perplexity']:.2f}", f"{row['kl_mean']:.4f}",
                     f"{100 * row['top1_agreement']:.1f}", f"{row['kv_bytes'] / 2**20:.2f}", f"{row['kv_ratio']:.2f}",
                     "" if apart is None else f"{100 * apart:.2f}"] +
                    ([f"{prompt:.0f}", f"{decode:.1f}", f"{decode / fast[0][1]:.2f}", mib(held)] if args.speed else []))
    return table(["spec", "ppl, one prompt", "ppl, decoded", "KL", "top-1 %", "MiB at 640", "ratio", "apart %"] +
                 (["prompt t/s", "decode t/s", "of full", "MiB at 4.1k"] if args.speed else []), rows)


# ---- sections --------------------------------------------------------------------------------------------------------

def calibration_section(args):
    rows = []
    for text, name in [("wiki", "Wikipedia"), ("c4", "C4 web pages")]:
        for sentences in [10, 30, 50]:
            path = strategy("smollm2", "25%", text=calibration(text), sentences=sentences)
            rows.append([f"{name}, {sentences}", f"{perplexities(args, 'smollm2', [map_spec(path)])[0]:.2f}", shared_layers(path)])
    return ("## KVSharer: how much the calibration text matters\n\nSmolLM2, 25 % of the layers, the paper's rule. Perplexity of "
            "whole prompts.\n\n" + table(["text, sentences", "ppl", "layer ← source"], rows))


def map_specs(model):
    for percent in PERCENTS:
        yield f"{percent} dissimilar (the paper)", strategy(model, percent)
        yield f"{percent} similar", strategy(model, percent, "--order", "similar")
        for seed in SEEDS:
            yield f"{percent} random, seed {seed}", strategy(model, percent, "--order", "random", "--seed", seed)
        yield f"{percent} by KL", strategy(model, percent, "--objective", "kl")
        yield f"{percent} beam", strategy(model, percent, "--objective", "beam")


def kvsharer_specs(model):
    maps = list(map_specs(model))
    named = [(name, map_spec(path)) for name, path in maps]
    return named + [(f"{name} + k8v8", f"{map_spec(path)} + k8v8") for name, path in maps if "25%" in name and "beam" in name]


def kvsharer_section(args, model):
    maps, named = list(map_specs(model)), kvsharer_specs(model)
    lines = "\n".join(f"- {name}: {shared_layers(path)}" for name, path in maps)
    return f"## KVSharer on {MODELS[model]}\n\n" + cost_table(args, model, named) + f"\nThe maps (layer ← source):\n\n{lines}\n"


def minicache_specs(model):
    """(name, spec) of the paper's setting and its variants, at a quarter and at half of the layers."""
    variants = ["", "of=v", "of=k", "vector=head", "index=union", "index=k", "rule=top", "rule=cosine", "rule=literal",
                "merge=mean", "merge=maxnorm", "rule=top,keep=0.2", "rule=top,keep=0.2,of=v"]
    named = []
    for share, start in [("1/4", "start=0.75"), ("1/2", "")]:
        for variant in variants:
            options = ",".join(filter(None, [start, variant]))
            spec = f"minicache({options})" if options else "minicache"
            named.append((f"{share}: {variant or 'the paper'}", spec))
        pairs = pair_file(model)
        options = ",".join(filter(None, [start, f"pairs=auto,map={pairs}"]))
        named.append((f"{share}: measured pairs", f"minicache({options})"))
        named.append((f"{share}: measured pairs, of=v", f"minicache({options},of=v)"))
        paper = f"minicache({start})" if start else "minicache"
        named += [(f"{share}: the paper + {bits}", f"{paper} + {bits}") for bits in ["k8v8", "k4v4"]]
    return named + [("k8v8 alone", "k8v8"), ("k4v4 alone", "k4v4")]


def minicache_section(args, model):
    return f"## MiniCache on {MODELS[model]}\n\n" + cost_table(args, model, minicache_specs(model))


def pair_file(model):
    path = WORK / f"{model}-pairs.json"
    if not path.exists():
        subprocess.run([LAMINA, "search", "minicache", "-m", model_path(model), "--calibration",
                        SHARED / "calibration/wiki_demo.txt", "-o", path], check=True, stdout=subprocess.DEVNULL)
    return path


def sweep_section(args):
    def rows(specs):
        told = continuations(args, "smollm2", specs)
        return [[spec, f"{row['perplexity']:.2f}", f"{row['kl_mean']:.4f}", f"{row['kv_ratio']:.3f}",
                 f"{100 * row['apart_fraction']:.2f}"] for spec, row in zip(specs, told, strict=True)]
    head = ["spec", "ppl", "KL", "ratio", "apart %"]
    keeps = [f"minicache(keep={keep},rule={rule})" for rule in ["distance", "top"] for keep in [0, .01, .05, .1, .2, .5, 1]]
    keeps = [spec.replace("keep=0.05,", "").replace(",rule=distance", "").replace("(rule=distance)", "") for spec in keeps]
    turns = [f"minicache(t={t},merge={merge})" for merge in ["slerp"] for t in [0, .2, .4, .5, .6, .8, 1]]
    return ("## MiniCache: the paper's sweeps\n\nSmolLM2, half of the layers. Retention from nothing to everything:\n\n" +
            table(head, rows(keeps)) + "\nThe position of the common direction, from the lower layer's (0) to the deeper one's (1):\n\n" +
            table(head, rows(turns)) + "\nWhat replaces the two rows:\n\n" +
            table(head, rows([f"minicache(merge={merge})" for merge in ["slerp", "mean", "maxnorm"]])))


def frontier_section(args, model):
    """What no other measured setting beats in bytes and in KL at once."""
    def rows(named):
        told = continuations(args, model, ["full"] + [spec for _, spec in named])[1:]
        return [(row["kv_ratio"], row["kl_mean"], name) for (name, _), row in zip(named, told, strict=True)]

    def best(measured):
        kept = [m for m in measured if not any(o[0] >= m[0] and o[1] <= m[1] and o != m for o in measured)]
        return table(["spec", "ratio at 640", "KL"], [[name, f"{ratio:.2f}", f"{kl:.4f}"] for ratio, kl, name in sorted(kept)])
    merged = rows(minicache_specs(model))
    plain = [m for m in merged if "+" not in m[2] and "alone" not in m[2]]
    shared = rows(kvsharer_specs(model))
    return (f"## Best at equal bytes on {MODELS[model]}\n\nOf the settings of the tables above, those that no other one of the same "
            "list beats in bytes and in KL at once.\n\nMiniCache alone:\n\n" + best(plain) + "\nKVSharer alone:\n\n" +
            best([m for m in shared if "+" not in m[2]]) + "\nAll, formats included:\n\n" + best(merged + shared))


def readers_section(args):
    specs = []
    for name, options in [("the paper's", []), ("similar", ["--order", "similar"]), ("by KL", ["--objective", "kl"]),
                          ("beam", ["--objective", "beam"])]:
        spec = map_spec(strategy("smollm2", "25%", *options))
        specs += [(f"{name} map", spec)] + [(f"{name} map + {h2o}", f"{spec} + {h2o}")
                                            for h2o in ["h2o", "h2o(readers=sum)", "h2o(readers=max)"]]
    specs.append(("h2o", "h2o"))
    told = continuations(args, "smollm2", [spec for _, spec in specs])
    return ("## Whose queries choose the rows of a shared slot\n\nSmolLM2, 25 % of the layers share, H2O keeps a tenth of the prompt "
            "as heavy hitters and a tenth as newest rows. `readers=owner`: the layer that wrote the rows scores them, as in "
            "KVSharer; `sum`: all layers that read them; `max`: the one that gave a row most.\n\n" +
            table(["spec", "ppl", "KL", "top-1 %", "ratio"],
                  [[name, f"{row['perplexity']:.2f}", f"{row['kl_mean']:.4f}", f"{100 * row['top1_agreement']:.1f}",
                    f"{row['kv_ratio']:.2f}"] for (name, _), row in zip(specs, told, strict=True)]))


def groups_section(args):
    place = WORK / "groups.md"
    if not place.exists():
        run = subprocess.run([ROOT / ".venv/bin/python", ROOT / "tools/minicache_groups.py", EVAL_TEXT], check=True,
                             stdout=subprocess.PIPE, text=True)
        place.write_text(run.stdout)
    return ("## MiniCache with groups deeper than two\n\nA prototype in PyTorch (`tools/minicache_groups.py`), at equal saved rows. "
            "Larger groups lose at 2 and at 8 saved layers and for values alone; where they win, at 4, pairs of values save as much "
            "for less. So they are not built.\n\n" + place.read_text())


def equal_bytes_section(args):
    best = strategy("smollm2", "25%", "--objective", "beam")
    specs = [("full", "full"), ("KVSharer 25 %", map_spec(best)), ("MiniCache 1/2", "minicache"), ("k8v8", "k8v8"),
             ("KVSharer 25 % + k8v8", f"{map_spec(best)} + k8v8"), ("MiniCache 1/2 + k8v8", "minicache + k8v8")]
    rows = budget(args, model_path("smollm2"), [s for _, s in specs], "400MB", 4096, "-f", EVAL_TEXT)
    return ("## As many sequences as 400 MB of cache hold\n\nSmolLM2, sequences of 4096 tokens, the last 16 decoded as one batch.\n\n" +
            table(["spec", "sequences", "tokens/s, all", "of full", "of the bound, %", "MiB held"],
                  [[name, row["n_parallel"], f"{row['median_ts']:.1f}", f"{row['of_full']:.2f}", f"{100 * row['of_bound']:.0f}",
                    mib(row["kv_bytes"])] for (name, _), row in zip(specs, rows, strict=True)]))


def kvsharer_grid_section(args):
    best = strategy("smollm2", "25%")
    specs = [("full", "full"), ("25 %", map_spec(best))]
    rows = []
    for prompt, gen in [(512, 32), (256, 2048), (512, 2048), (1024, 4096)]:
        prompts = bench(args, model_path("smollm2"), [s for _, s in specs], prompt, 0, 0)
        decodes = bench(args, model_path("smollm2"), [s for _, s in specs], 0, gen, prompt, repetitions=1)
        for (name, _), p, d in zip(specs, prompts, decodes, strict=True):
            rows.append([f"{prompt}+{gen}", name, mib(d["kv_bytes"]), f"{p['median_ts']:.0f}", f"{d['median_ts']:.1f}",
                         f"{d['median_ts'] / decodes[0]['median_ts']:.2f}"])
    return ("## KVSharer: the paper's grid of memory and speed\n\nSmolLM2, prompt + generated tokens. Decoding with a cache that "
            "holds the prompt.\n\n" + table(["tokens", "layers shared", "MiB of cache", "prompt t/s", "decode t/s", "of full"], rows))


def minicache_batch_section(args):
    specs = ["full", "minicache", "minicache + k4v4", "k4v4"]
    rows = bench(args, model_path("smollm2"), specs, 0, 16, 512, "-np", "1,4,16,32")
    by_spec = {spec: rows[4 * i:4 * i + 4] for i, spec in enumerate(specs)}
    body = []
    for spec, results in by_spec.items():
        body += [[spec, row["n_parallel"], mib(row["kv_bytes"]), f"{row['kv_ratio']:.2f}", f"{row['median_ts']:.0f}",
                  f"{row['median_ts'] / full['median_ts']:.2f}"] for row, full in zip(results, by_spec["full"], strict=True)]
    return ("## MiniCache: bytes and throughput against batch size\n\nSmolLM2, every sequence at depth 512.\n\n" +
            table(["spec", "sequences", "MiB of cache", "ratio", "tokens/s, all", "of full"], body))


def lckv_section(args):
    text = ["## LCKV on random weights\n\nAs the paper did: shapes of its models, weights of random 4-bit codes, speed and bytes "
            "only. m = 7, b = 2: a prompt runs 9 times through the layers that share.\n"]
    for shape, depth, bytes_held in [("tiny", 1024, "32MB"), ("tinyllama", 256, "32MB")]:
        path = WORK / f"{shape}.gguf"
        if not path.exists():
            subprocess.run([sys.executable, ROOT / "tools/random_model.py", shape, path], check=True)
        specs = [("plain", "full"), ("w=2", "lckv(w=2)")] + ([("w=10", "lckv(w=10)")] if shape == "tinyllama" else [])
        kv = [s for _, s in specs]
        short = bench(args, path, kv, "512", 16, 0, force=True, repetitions=1)
        equal = bench(args, path, kv, 0, 16, depth, "-np", 4, force=True, repetitions=2)
        full = budget(args, path, kv, bytes_held, depth, force=True)
        text.append(f"\n{shape}:\n\n" + table(
            ["map", "prompt 512 t/s", "decode t/s", f"4 sequences @ {depth}", "of plain", f"sequences in {bytes_held}", "t/s, all", "of plain"],
            [[name, f"{short[2 * i]['median_ts']:.0f}", f"{short[2 * i + 1]['median_ts']:.1f}", f"{equal[i]['median_ts']:.1f}",
              f"{equal[i]['median_ts'] / equal[0]['median_ts']:.2f}", full[i]["n_parallel"], f"{full[i]['median_ts']:.1f}",
              f"{full[i]['median_ts'] / full[0]['median_ts']:.2f}"] for i, (name, _) in enumerate(specs)]))
    return "".join(text)


SECTIONS = {
    "calibration": calibration_section,
    "kvsharer-smollm2": lambda args: kvsharer_section(args, "smollm2"),
    "kvsharer-gemma3": lambda args: kvsharer_section(args, "gemma3"),
    "minicache-smollm2": lambda args: minicache_section(args, "smollm2"),
    "minicache-gemma3": lambda args: minicache_section(args, "gemma3"),
    "sweeps": sweep_section,
    "groups": groups_section,
    "frontier-smollm2": lambda args: frontier_section(args, "smollm2"),
    "frontier-gemma3": lambda args: frontier_section(args, "gemma3"),
    "readers": readers_section,
    "equal-bytes": equal_bytes_section,
    "kvsharer-grid": kvsharer_grid_section,
    "minicache-batch": minicache_batch_section,
    "lckv": lckv_section,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="these sections, to stdout")
    parser.add_argument("--windows", type=int, default=8, help="windows of each perplexity")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-speed", dest="speed", action="store_false", help="quality only")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    sections = [SECTIONS[name](args) for name in args.only]
    if set(args.only) != set(SECTIONS) or not args.speed:
        return print("\n".join(sections))
    head = (ROOT / "docs/layers.head.md").read_text()
    (ROOT / "docs/layers.md").write_text(head + "\n" + "\n".join(sections))


if __name__ == "__main__":
    main()
