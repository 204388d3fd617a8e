#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From samples to medians, ratios and tables. Pure functions: `table.py --self-test` checks them.

A sample is a dict: figure (its key), title, model, kind, system, file, configuration, round (0: the screening), seconds
and tokens, or error; ours also bytes_read, of a decoded token.
"""
import statistics
import sys

OURS = "Lamina"
COLUMNS = [("llama.cpp", "same file"), ("llama.cpp", "requantised"), ("OpenVINO", "same file"),
           ("OpenVINO", "requantised")]


def column(sample):
    """What a configuration competes in."""
    return sample["system"], "same file" if sample["file"] == "same file" else "requantised"


def name(sample):
    file = "" if sample["file"] == "same file" else f"{sample['file']}, "
    return f"{sample['system']}, {file}{sample['configuration']}" if sample["system"] != OURS else sample["configuration"]


def medians(samples):
    """[sample with `speed`, `low`, `high` and `count`], one for each configuration of a figure: of its rounds, or of
    its screening if it went no further. Speeds are tokens per second; a first token is one token."""
    groups = {}
    for sample in samples:
        if "seconds" in sample:
            groups.setdefault((sample["figure"], name(sample)), []).append(sample)
    rows = []
    for group in groups.values():
        rounds = [sample for sample in group if sample["round"] > 0] or group
        speeds = [(1 if sample["kind"] == "first" else sample["tokens"]) / sample["seconds"] for sample in rounds]
        rows.append({**rounds[0], "speed": statistics.median(speeds), "low": min(speeds), "high": max(speeds),
                     "count": len(speeds)})
    return rows


def best(rows):
    return max(rows, key=lambda row: row["speed"], default=None)


def survivors(samples, margin):
    """Names of a figure's configurations that go on after the screening: all of ours, and of each column's those that
    are at most a fraction `margin` slower than its best."""
    rows = medians([sample for sample in samples if sample["round"] == 0])
    names = set()
    for key in {column(row) for row in rows}:
        group = [row for row in rows if column(row) == key]
        least = 0 if key[0] == OURS else (1 - margin) * best(group)["speed"]
        names |= {name(row) for row in group if row["speed"] >= least}
    return names


def number(row, speed=None):
    """A speed as its figure is read: milliseconds or tokens per second."""
    speed = row["speed"] if speed is None else speed
    value = 1000 / speed if row["kind"] == "first" else speed
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def bound(row, bandwidth):
    """Tokens per second if decode did nothing but read what it must; None for what arithmetic bounds."""
    if row is None or not bandwidth or row["kind"] != "decode" or "bytes_read" not in row:
        return None
    return bandwidth / row["bytes_read"]


def markdown(header, rows, left=1):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * left + "--:|" * (len(header) - left)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def summary(rows, order, bandwidth):
    """One line a figure: the best of each column, ours with ratios to the best peer, and the bound of `full`."""
    specs = list(dict.fromkeys(row["configuration"] for row in rows if row["system"] == OURS))
    header = ["", *[f"{system}, {file}" for system, file in COLUMNS], "best peer", *[f"`{spec}`" for spec in specs],
              "bound of `full`"]
    lines = []
    for figure in order:
        here = [row for row in rows if row["figure"] == figure and row["round"] > 0]  # not what only screening saw
        if not here:
            continue
        peer = best([row for row in here if row["system"] != OURS])
        ours = {row["configuration"]: row for row in here if row["system"] == OURS}
        cells = [best([row for row in here if column(row) == key]) for key in COLUMNS]
        limit = bound(ours.get("full"), bandwidth)
        lines.append([here[0]["title"], *[number(row) if row else "n/a" for row in cells], name(peer) if peer else "n/a",
                      *[with_ratio(ours[spec], peer) if spec in ours else "" for spec in specs],
                      number(ours["full"], limit) if limit else ""])
    return markdown(header, lines)


def with_ratio(row, peer):
    return number(row) + (f" ({row['speed'] / peer['speed']:.2f})" if peer else "")


def details(rows, order, bandwidth):
    """Every configuration, the fastest first."""
    lines = []
    for figure in order:
        here = sorted((row for row in rows if row["figure"] == figure), key=lambda row: -row["speed"])
        for row in here:
            limit = bound(row, bandwidth)
            lines.append([row["title"], name(row), number(row), number(row, row["low"]), number(row, row["high"]),
                          str(row["count"]), f"{row['bytes_read']:,}" if "bytes_read" in row else "",
                          f"{100 * row['speed'] / limit:.0f}" if limit else ""])
    return markdown(["figure", "configuration", "median", "slowest", "fastest", "samples", "bytes read", "% of bound"],
                    lines, left=2)


def refusals(samples):
    """Which configurations failed, once each, with their words."""
    found = {}
    for sample in samples:
        if "error" in sample:
            found.setdefault((sample["model"], sample["system"], sample["error"]), {})[name(sample)] = None
    return [f"{model}: {'; '.join(names)}: {error}" for (model, _, error), names in found.items()]


def self_test():
    def sample(system, configuration, round_, seconds, kind="decode", file="same file", **more):
        return {"figure": kind, "title": kind, "model": "m", "kind": kind, "tokens": 10, "system": system, "file": file,
                "configuration": configuration, "round": round_, "seconds": seconds, **more}

    samples = [sample("llama.cpp", "a", 0, 1.0), sample("llama.cpp", "b", 0, 2.0),
               sample("llama.cpp", "c", 0, 4.0, file="Q4_0"), sample(OURS, "full", 0, 0.5, bytes_read=10),
               sample(OURS, "k8v8", 0, 5.0)]
    assert survivors(samples, 0.25) == {"llama.cpp, a", "llama.cpp, Q4_0, c", "full", "k8v8"}
    samples += [sample("llama.cpp", "a", round_, seconds) for round_, seconds in [(1, 2.0), (2, 2.5), (3, 10.0)]]
    rows = {name(row): row for row in medians(samples)}
    assert [rows["llama.cpp, a"][key] for key in ["speed", "low", "high", "count"]] == [4.0, 1.0, 5.0, 3]
    assert rows["llama.cpp, b"]["speed"] == 5.0  # the screening's
    assert bound(rows["full"], 400.0) == 40.0
    assert with_ratio(rows["full"], rows["llama.cpp, a"]) == "20.0 (5.00)"
    first = medians([sample("OpenVINO", "a", 1, 0.02, "first"), sample(OURS, "full", 1, 0.01, "first")])
    assert [number(row) for row in first] == ["20.0", "10.0"]
    assert with_ratio(first[1], first[0]) == "10.0 (2.00)"
    assert "| first | n/a | n/a | 20.0 | n/a | OpenVINO, a | 10.0 (2.00) |  |" in summary(first, ["first"], None)
    bad = {**sample("OpenVINO", "a", 0, 1), "error": "no"}
    del bad["seconds"]
    assert refusals([bad, bad]) == ["m: OpenVINO, a: no"] and not medians([bad])


if __name__ == "__main__":
    if sys.argv[1:] != ["--self-test"]:
        sys.exit("table: usage: table.py --self-test")
    self_test()
