#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Lamina beside llama.cpp and OpenVINO GenAI; see README.md here.

    bench/peers/run.py [--rounds 5] [--threads 2] [--only PATTERN…] [--peers NAME…] [--isa avx2] [--quick]

PATTERN selects figures: "smollm2/*", "*/decode@*", "gemma3/prefill512". The tables go to stdout and, with every sample,
to build/peers.
"""
import argparse
import fnmatch
import json
import os
import time

import ours
import table
from figures import FIGURES, MODELS, shrunk
from install import PACKAGES, WORK, fail, install, model_file, say
from peers import Peer


def arguments():
    parser = argparse.ArgumentParser(prog="peers")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each configuration that is fast enough (5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every system (one for each processor)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="figures, e.g. \"smollm2/decode@*\"")
    parser.add_argument("--peers", nargs="+", default=list(PACKAGES), choices=list(PACKAGES), metavar="NAME")
    parser.add_argument("--margin", type=float, default=0.15,
                        help="a peer's configurations so much slower than its best drop out after one sample (0.15)")
    parser.add_argument("--isa", choices=["scalar", "avx2", "avx512"], help="instructions of Lamina only")
    parser.add_argument("--quick", action="store_true", help="an eighth of each length: does everything work?")
    args = parser.parse_args()
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    return args


def selected(args):
    figures = [shrunk(figure) if args.quick else figure for figure in FIGURES
               if any(fnmatch.fnmatch(figure.key(), pattern) for pattern in args.only)]
    if not figures:
        fail(f"no figure matches; there are {' '.join(figure.key() for figure in FIGURES)}")
    return figures


def measure(system, figure, configuration, round_):
    file, name, options = configuration
    answer = system.measure(figure, file, options)
    return {"figure": figure.key(), "title": figure.title(), "model": figure.model, "kind": figure.kind,
            "tokens": figure.tokens, "system": system.system, "file": file, "configuration": name, "round": round_,
            **answer}


def run_figure(figure, systems, args, title):
    """All configurations once, then rounds of those that are fast enough, each round starting with another one."""
    samples, started, costs = [], time.monotonic(), {}
    every = [(system, configuration) for system in systems for configuration in system.configurations(figure)]
    for i, (system, configuration) in enumerate(every):
        say(f"{title}: screening {i + 1} of {len(every)}: {system.system}, {', '.join(configuration[:2])}")
        before = time.monotonic()
        samples.append(measure(system, figure, configuration, 0))
        costs[table.name(samples[-1])] = time.monotonic() - before
    names = table.survivors(samples, args.margin)
    turns = [turn for turn, sample in zip(every, samples, strict=True) if table.name(sample) in names]
    cost = sum(costs[name] for name in names)
    for round_ in range(1, args.rounds + 1):
        say(f"{title}: round {round_} of {args.rounds}, {len(turns)} configurations, about "
            f"{cost * (args.rounds + 1 - round_) / 60:.1f} min left of this figure")
        first = (round_ - 1) * len(turns) // args.rounds
        for system, configuration in turns[first:] + turns[:first]:
            samples.append(measure(system, figure, configuration, round_))
    say(f"{title}: {(time.monotonic() - started) / 60:.1f} min")
    return samples


def run_model(model, figures, args, done, results):
    """Adds the samples of all figures of a model, and what the systems say of themselves; what is done is saved."""
    here = [figure for figure in figures if figure.model == model]
    cells = -(-max(figure.depth + figure.tokens for figure in here) // 256) * 256
    systems = [ours.Lamina(model_file(model, "same file"), args.threads, args.isa),
               *[Peer(name, model, cells, args.threads) for name in args.peers]]
    try:
        for i, figure in enumerate(here):
            results["samples"] += run_figure(figure, systems, args, f"[{done + i + 1}/{len(figures)}] {figure.key()}")
            results["about"] |= {system.system: system.about for system in systems if system.about}
            save(results)
    finally:
        for system in systems:
            system.close()


def save(results):
    (WORK / "results.json").write_text(json.dumps(results, indent=1))


def report(results, figures):
    """The tables and everything one must know to judge them."""
    args, samples = results["arguments"], results["samples"]
    rows = table.medians(samples)
    limits = [found for found in results["limits"] if "error" not in found]
    bandwidth = max((ours.read_bandwidth(found) or 0 for found in limits), default=None)
    text = [f"{args['threads']} threads each, medians of {args['rounds']} rounds in turn; in brackets how many times as "
            "fast as the best peer configuration.\n"]
    measured = {sample["figure"] for sample in samples}
    order = [figure.key() for figure in sorted(figures, key=lambda figure: (figure.kind, figure.depth, figure.tokens))
             if figure.key() in measured]
    for model, title in MODELS.items():
        here = [row for row in rows if row["model"] == model]
        if here:
            text.append(f"\n## {title}\n\n{table.summary(here, order, bandwidth)}\n"
                        f"<details><summary>every configuration</summary>\n\n{table.details(here, order, bandwidth)}\n"
                        "</details>\n")
    text.append("\n## Settings\n\n")
    text += [f"- {system}: {about}\n" for system, about in results["about"].items()]
    text.append(f"- load of the machine before: {results['load']:.2f}\n")
    text += [f"- machine, {when}: {found['error'] if 'error' in found else json.dumps(found)}\n"
             for when, found in zip(["before", "after"], results["limits"], strict=True)]
    text += [f"- n/a: {line}\n" for line in table.refusals(samples)]
    return "".join(text)


def main():
    args = arguments()
    figures = selected(args)
    WORK.mkdir(parents=True, exist_ok=True)
    ours.check()
    for peer in args.peers:
        install(peer)
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the load is {load:.1f} before anything runs: not a table to quote, least of all for llama.cpp, whose threads "
            "wait for each other spinning")
    results = {"arguments": vars(args), "load": load, "limits": [ours.limits(args.threads, args.isa)], "about": {}, "samples": []}
    done = 0
    stopped = False
    try:
        for model in dict.fromkeys(figure.model for figure in figures):
            run_model(model, figures, args, done, results)
            done += sum(figure.model == model for figure in figures)
    except KeyboardInterrupt:
        if not results["samples"]:
            raise
        stopped = True
    results["limits"].append(ours.limits(args.threads, args.isa))
    save(results)
    text = report(results, figures)
    (WORK / "results.md").write_text(text)
    print(text, end="")
    if stopped:
        fail("interrupted: these are the figures that were done")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; no figure was done")
