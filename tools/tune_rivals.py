# SPDX-License-Identifier: Apache-2.0
"""Specs of one axis to judge the choice of `lamina tune` by that owe nothing to what tune looks at: fixed formats, token
methods that keep what the budget allows, a map as KVSharer's and MiniCache. For tune_tables.py."""
import json

from layers_tables import calibration, call_json, model_path, strategy

FORMATS = ["k8v8", "k8v4 + rotate", "k4v4 + rotate", "kivi4", "k4v2 + rotate", "k2v2 + rotate", "kivi2",
           "kivi2(group=128) + rotate"]
MERGED = ["minicache", "minicache(start=0)"]
METHODS = {name: (lambda keep, name=name: f"{name}(keep={keep:g})")
           for name in ("streaming", "snapkv", "adakv", "pyramidkv", "expected", "keydiff")}
METHODS["h2o"] = lambda keep: f"h2o(heavy={keep / 2:g},recent={keep / 2:g})"
SHARES = [share / 200 for share in range(1, 200)]
ROUNDS, AIM, FILLED = 3, 0.995, 0.95  # of finding a method's share; the shares of the budget that it may and should take


def planned(model, text, specs):
    """[(spec as lamina prints it, bytes)]"""
    rows = call_json("plan", "-m", model_path(model), "-c", text.prompt + text.score, "-n", text.score, "--kv", ";".join(specs))
    return [(row["kv_spec"], row["kv_bytes"]) for row in rows]


def held(args, model, text, specs):
    """Bytes after one window of each unseen text, the most of them. Plans are exact but for methods: which rows they keep
    decides how many of them leave a window, and which tiles they fill."""
    found = [call_json("eval", "ppl", "-m", model_path(model), "-f", file, "--prompt", text.prompt, "--score", text.score,
                       "--windows", 1, "-t", args.threads, "--kv", ";".join(specs)) for file in text.files.values()]
    return [max(row["kv_bytes"] for row in of_spec) for of_spec in zip(*found, strict=True)]


def sized_methods(plans, most, measure):
    """Of each method the spec that keeps the most of those measured to fit. plans: {method: [(spec, bytes)]}."""
    ratio, best, asked = dict.fromkeys(plans, 1.0), {}, set()
    for _ in range(ROUNDS):
        tries = {}
        for method, of in plans.items():
            if best.get(method, (0, ""))[0] >= FILLED * most:
                continue
            fitting = [one for one in of if ratio[method] * one[1] <= AIM * most]
            spec, size = max(fitting, key=lambda one: one[1]) if fitting else min(of, key=lambda one: one[1])
            if spec not in asked:
                tries[method] = (spec, size)
        if not tries:
            break
        for (method, (spec, size)), found in zip(tries.items(), measure([spec for spec, _ in tries.values()]), strict=True):
            asked.add(spec)
            ratio[method] = found / size
            if found <= AIM * most:
                best[method] = max(best.get(method, (0, "")), (found, spec))
    return [spec for _, spec in best.values()]


def maps(model, layers):
    """KVSharer's maps that share 1, 2, … layers, the most alike pairs first, none refused."""
    path = strategy(model, str(layers - 1), "--order", "similar", "--threshold", "-2", text=calibration("c4"), sentences=10)
    target, found = list(range(layers)), []
    for pair in json.loads(path.read_text())["accepted"]:
        target = [target[pair["source"]] if read == pair["layer"] else read for read in target]
        found.append(f"map({'_'.join(map(str, target))})")
    return found


def rivals(args, model, text, layers, most):
    """{spec: axis}. text: of tune_tables.py; most: bytes."""
    fits = lambda specs: [spec for spec, size in planned(model, text, specs) if size <= most]
    plans = {name: planned(model, text, [term(share) for share in SHARES]) for name, term in METHODS.items()}
    by_axis = {"bits": fits(FORMATS), "tokens": sized_methods(plans, most, lambda specs: held(args, model, text, specs)),
               "layers": fits(MERGED) + fits(maps(model, layers))[:1]}
    return {spec: axis for axis, specs in by_axis.items() for spec in specs}
