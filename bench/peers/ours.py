# SPDX-License-Identifier: Apache-2.0
"""Lamina, by `lamina bench`: a process for each measurement, which loads the model anew, warms up and measures once."""
import json
import os
import subprocess

from install import ROOT, fail
from table import OURS
from worker import one_line

LAMINA = ROOT / "build/release/lamina"
SPECS = ["full", "k8v8", "k4v4", "kivi4"]


def call(isa, *arguments):
    """What lamina bench prints, or {"error": …}."""
    environment = {key: value for key, value in os.environ.items() if key != "LAMINA_ISA"}
    if isa:
        environment["LAMINA_ISA"] = isa
    run = subprocess.run([LAMINA, "bench", *map(str, arguments), "-o", "json"], capture_output=True, text=True,
                         env=environment)
    if run.returncode != 0:
        return {"error": one_line((run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1])}
    return json.loads(run.stdout)


def check():
    if not LAMINA.exists():
        fail(f"{LAMINA.relative_to(ROOT)} is missing: ./dev build release lamina")


class Lamina:
    system = OURS

    def __init__(self, path, threads, isa):
        self.common = ["-m", path, "-t", threads, "-r", 1]
        self.isa = isa
        self.about = None  # of the first answer

    def configurations(self, figure):
        """(file, name, options): formats matter where there is something to read."""
        specs = SPECS if figure.kind == "decode" and figure.depth > 0 else SPECS[:1]
        return [("same file", spec, spec) for spec in specs]

    def measure(self, figure, file, options):
        del file
        lengths = ["-p", 0, "-n", figure.tokens] if figure.kind == "decode" else ["-p", figure.tokens, "-n", 0]
        answer = call(self.isa, *self.common, *lengths, "-d", figure.depth, "--kv", options)
        if "error" in answer:
            return answer
        [test] = answer
        self.about = self.about or f"commit {test['build_commit']}, {test['isa']}, on {test['cpu_info']}"
        found = {"seconds": test["samples_ns"][0] / 1e9}
        return {**found, "bytes_read": test["all_bytes_read"]} if figure.kind == "decode" else found

    def close(self):
        pass


def limits(threads, isa):
    """What the machine reads and computes at most in a second, as `lamina bench --machine` measures it with so many
    threads; {"error": …} of a lamina that cannot."""
    answer = call(isa, "--machine", "-t", threads)
    if "error" in answer:
        return answer
    rows = answer if isinstance(answer, list) else [answer]
    return next((row for row in rows if threads in (row.get("threads"), row.get("n_threads"))),
                {"error": f"lamina bench --machine says nothing of {threads} threads"})


def read_bandwidth(found):
    """Bytes a second, of what limits() found."""
    return next((value for key, value in found.items() if key.startswith("read_bytes")), None)
