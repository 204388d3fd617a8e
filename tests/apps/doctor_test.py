# SPDX-License-Identifier: Apache-2.0
"""lamina doctor as users call it. That it sees broken caches is tested where they can be broken: tests/engine/doctor_test.cpp."""

import os
import pty
import subprocess

import program
from program import GEMMA, LLAMA, ProgramTest

CHECKS = ["tokenizer", "recomputation", "increments", "drift", "cache", "bytes", "speed"]
ORDER = ["green", "yellow", "red"]


class DoctorTest(ProgramTest):
    def doctor(self, model, *args):
        report = self.json("doctor", "-m", model, "-o", "json", *args)
        self.assertEqual([c["check"] for c in report["checks"]], CHECKS)
        self.assertEqual(report["health"], max((c["health"] for c in report["checks"]), key=ORDER.index))
        for check in report["checks"]:
            self.assertRegex(check["reason"], r"^.{20}")
            self.assertGreater(len(check["figures"]), 0)
            for figure in check["figures"]:
                self.assertEqual(set(figure), {"name", "value", "yellow", "red", "turns"})
        return report

    def test_healthy_models(self):
        for model in [LLAMA, GEMMA]:
            for spec in ["full", "k8v8"]:
                report = self.doctor(model, "--kv", spec)
                self.assertEqual((report["kv_spec"], report["model"] != ""), (spec, True))
                health = {c["check"]: c["health"] for c in report["checks"]}
                self.assertEqual({health[c] for c in ["tokenizer", "recomputation", "increments", "cache", "bytes"]}, {"green"},
                                 report)
                self.assertNotEqual(health["drift"], "red", report)

    def test_figures_do_not_depend_on_the_run_or_the_threads(self):
        def figures(*args):
            return [c for c in self.doctor(LLAMA, "--kv", "k4v4", *args)["checks"] if c["check"] != "speed"]
        one = figures("-t", 1)
        self.assertEqual(one, figures("-t", 2))
        self.assertEqual(one, figures("-t", 2))

    def test_red_is_the_exit_status(self):
        line = ["doctor", "-m", LLAMA, "--kv", "map(0_0_0_0)"]  # of a model that was not trained for it
        done = program.call(*line)
        self.assertEqual((done.returncode, done.stderr), (1, b""))
        self.assertRegex(done.stdout.decode(), r"(?m)^red     drift .* not the model's answers any more$")
        self.assertRegex(done.stdout.decode(), r"(?m)^red     after [\d.]+ s$")

    def test_a_page_in_colours_on_a_terminal_only(self):
        line = ["doctor", "-m", LLAMA]
        out = self.ok(*line).decode()
        self.assertNotIn("\x1b", out)
        self.assertRegex(out.splitlines()[0], r"^.+, kv full, \d+ threads of ")
        self.assertRegex(out, r"(?m)^green   cache          a second computation, .*\n +different_rows 0 \(red > 0\); ")
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            subprocess.run([program.PROGRAM, *map(str, line)], stdout=theirs, stderr=subprocess.DEVNULL, check=True, timeout=60)
            os.close(theirs)
            self.assertIn(b"\x1b[32mgreen  \x1b[0m cache", terminal.read(8192))

    def test_wrong_calls(self):
        self.refused(2, "--model is required", "doctor")
        self.refused(1, "--kv has 2 specs, expected one", "doctor", "-m", LLAMA, "--kv", "full;k8v8")
        self.refused(1, "unknown term", "doctor", "-m", LLAMA, "--kv", "nope")
        self.refused(1, "missing: cannot open", "doctor", "-m", "missing")
        self.refused(2, "--output", "doctor", "-m", LLAMA, "-o", "xml")
        self.refused(2, "--ctx-size|-c", "doctor", "-m", LLAMA, "-c", 64)


if __name__ == "__main__":
    program.main()
