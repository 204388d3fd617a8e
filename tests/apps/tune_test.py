# SPDX-License-Identifier: Apache-2.0
"""lamina tune as users call it: the policy file, what is printed, what is refused."""

import hashlib
import json
import os
import pty
import signal
import subprocess

import program
from program import GEMMA, LLAMA, ProgramTest

WORDS = ["the", "rain", "in", "ring", "on", "an", "then", "other"]


class TuneTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.text = self.file("text.txt", " ".join(WORDS[(i * i * 7 + i // 9 + i % 13) % 8] for i in range(400)))
        self.policy = self.folder / "policy.json"

    def line(self, *more, **changed):
        """A call that works, with options changed or added; None leaves one out."""
        options = {"model": LLAMA, "budget": "50%", "file": self.text, "prompt": 96, "score": 4, "windows": 2,
                   "held-out": 2, "output": self.policy} | changed
        return ["tune", *more, *[word for name, value in options.items() if value is not None
                                 for word in (f"--{name}", value)]]

    def test_the_policy_is_a_spec_for_every_command(self):
        printed = self.ok(*self.line("-t", 1)).decode()
        policy = json.loads(self.policy.read_text())
        self.assertEqual(policy["schema"], "lamina.policy/1")
        self.assertEqual(policy["calibration"]["sha256"], hashlib.sha256(self.text.read_bytes()).hexdigest())
        self.assertEqual((policy["calibration"]["selection"], policy["calibration"]["held_out"]), (2, 2))
        self.assertIn(f"\nuse     --kv {self.policy}\n", printed)
        self.assertNotIn("\x1b", printed)
        for axis in ("bits", "tokens", "layers"):
            self.assertRegex(printed, rf"\nKL of each KV head alone(.*\n)+?{axis} .* [▁▂▃▄▅▆▇█ ]{{8}}  most \d.*   all \d")
        self.assertRegex(printed, r"policies by head compete as fastgen\(recovery=…\)\ntokens .*[▁▂▃▄▅▆▇█]{8}\n")
        self.assertRegex(printed, r"\n\* +\d+ ")
        spec, budget = policy["kv_spec"], policy["budget"]
        self.assertEqual(policy["measured"]["kv_spec"], spec)
        self.assertLessEqual(policy["measured"]["kv_bytes"], budget["kv_bytes"])
        self.assertLessEqual(budget["kv_bytes"], budget["dense_bytes"] / 2)
        of = ["-m", LLAMA, "--kv", self.policy]
        plan, = self.json("plan", *of, "-c", 96, "-n", 4, "-o", "json")
        self.assertEqual(plan["kv_spec"], spec)
        self.assertLessEqual(plan["kv_bytes"], budget["kv_bytes"])
        run = ["run", "-n", 8, "-s", 1, "-p", "the rain in", "-m", LLAMA, "--kv"]
        self.assertEqual(self.ok(*run, self.policy), self.ok(*run, spec))
        told = self.json("eval", "ppl", *of, "-f", self.text, "--prompt", 96, "--score", 4, "--base", "full", "-o", "json")
        self.assertEqual(told["kv_spec"], spec)
        found = self.json("bench", *of, "-p", 8, "-n", 2, "-r", 1, "-o", "json")
        self.assertEqual({row["kv_spec"] for row in found}, {spec})
        self.assert_none_is_taken_that_is_no_policy(policy)

    def assert_none_is_taken_that_is_no_policy(self, good):
        of = ["plan", "-m", LLAMA, "-c", 99, "--kv"]
        self.refused(1, "policy.json.*(layers|another model)", "plan", "-m", GEMMA, "-c", 99, "--kv", self.policy)
        for pattern, content in [
                ("empty", ""), ("not JSON at byte", "{"), ("expected a JSON object", "[]"),
                ("schema is missing", "{}"), ("schema is \"x\"", json.dumps(good | {"schema": "x"})),
                ("another model", json.dumps(good | {"model": good["model"] | {"shapes_sha256": "0"}}))]:
            self.refused(1, f"bad.json.*{pattern}", *of, self.file("bad.json", content))
        self.refused(1, "missing.json: cannot open", *of, "missing.json")

    def test_help(self):
        text = " ".join(self.ok("tune", "--help").decode().split())
        self.assertIn("Takes 4 to 5 minutes", text)
        self.assertIn("a number alone counts bytes", text)
        self.assertIn("lamina tune -m MODEL --budget 25% -f TEXT --floor-top1 0.95 -o policy.json", text)
        text = " ".join(self.ok("plan", "--help").decode().split())
        self.assertIn("or FILE.json, a policy file of tune; where several are measured: separated by ';', or --kv again", text)

    def test_json_tells_the_alternatives_and_the_layers_in_every_run_alike(self):
        results, longer = [], self.file("longer.txt", self.text.read_text() * 2)
        for threads in (1, 2):
            printed = self.ok(*self.line("-o", "json", "-t", threads, file=longer, prompt=200))
            results.append((printed, self.policy.read_text()))
        self.assertEqual(results[0], results[1])
        found = json.loads(results[0][0])
        finalists = [a for a in found["alternatives"] if a["held_out"]]
        self.assertEqual(finalists[found["chosen"]]["kv_spec"], found["kv_spec"])
        self.assertLessEqual({"tokens", "bits"}, {a["axes"] for a in finalists})
        for a in found["alternatives"]:
            self.assertLessEqual(a["kv_bytes"], found["budget"]["kv_bytes"])
            self.assertIn(a["selection"]["windows"], (1, 2))
        for a in finalists:
            self.assertEqual(a["selection"]["windows"], 2)
            kl = a["held_out"]["kl_by_window"]
            self.assertAlmostEqual(a["held_out"]["kl_mean"], sum(kl) / 2)
            self.assertAlmostEqual(a["held_out"]["kl_error"], abs(kl[0] - kl[1]) / 2)
        self.assertEqual({costs["axis"] for costs in found["layers"]}, {"layers", "tokens", "bits"})
        self.assertEqual({len(costs["kl"]) for costs in found["layers"]}, {4})
        self.assertEqual({(h["layer"], h["head"]) for h in found["heads"]}, {(i, j) for i in range(4) for j in range(2)})
        self.assertEqual(set(found["head_folds"]), {"bits", "tokens", "layers"})
        for head in found["heads"]:
            self.assertEqual(set(head["kl"]), {"bits", "tokens", "layers"})
            self.assertEqual(head["kl"]["layers"] is None, head["layer"] == 0)

    def test_a_floor_that_nothing_meets(self):
        self.policy.write_text("old")
        done = program.call(*self.line("--speed", "-o", "json", **{"max-kl": 0}))
        self.assertEqual(done.returncode, 1)
        self.assert_error_line(done.stderr)
        found = json.loads(done.stdout)
        finalists = [a for a in found["alternatives"] if a["held_out"]]
        self.assertRegex(done.stderr.decode(), rf"none of the {len(finalists)} specs verified on held-out text meets the floor; the "
                         r"closest, \".+\", has KL [0-9.]+ \+- [0-9.]+, asked for at most 0")
        self.assertFalse(found["meets_floor"])
        self.assertEqual(finalists[found["chosen"]]["held_out"]["kl_mean"], min(a["held_out"]["kl_mean"] for a in finalists))
        for a in found["alternatives"]:
            self.assertEqual("tokens_per_second" in a, a["held_out"] is not None)
        self.assertEqual(self.policy.read_text(), "old")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["policy.json", "text.txt"])

    def test_the_closest_to_a_floor_of_top1(self):
        line = self.line(budget="30%", **{"floor-top1": 1, "output": None})
        done = program.call(*line, "-o", "json")
        finalists = [a["held_out"] for a in json.loads(done.stdout)["alternatives"] if a["held_out"]]
        chosen = finalists[json.loads(done.stdout)["chosen"]]
        self.assertEqual(chosen["top1_agreement"], max(a["top1_agreement"] for a in finalists))
        done = program.call(*line)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), rf"has top-1 {chosen['top1_agreement']:.4f} \+- .*, asked for at least 1")
        self.assertNotIn(b"--kv", done.stdout)  # nothing to use
        self.assertIn(b"None of the ", done.stdout)

    def test_budgets(self):
        for budget in ["", "x", "0", "0%", "-5", "100%", "50%%", "1e3", "nan", "5XB", "%"]:
            self.refused(1, "--budget is", *self.line(budget=budget))
        self.refused(1, r"--budget is 943718400 bytes, expected less than the dense cache's \d+ after 100 tokens",
                     *self.line(budget="900MiB"))
        self.refused(1, r"no spec fits 90 bytes after 300 tokens, of which the dense cache takes \d+",
                     *self.line("-c", 300, budget="90"))
        self.refused(1, "--ctx-size is 513, the model was trained with 512 tokens of context", *self.line("-c", 513))

    def test_wrong_calls(self):
        few = self.file("few.txt", "the rain in the ring")
        for status, pattern, changed in [
                (1, r"the text has \d+ tokens, expected at least 400: 2 windows of 100", {"file": few}),
                (1, "missing.txt: cannot open", {"file": "missing.txt"}), (2, "--file", {"file": None}),
                (2, "--budget", {"budget": None}), (1, "-o is \"policy.txt\"", {"output": "policy.txt"}),
                (1, "absent/p.json: cannot be written", {"output": self.folder / "absent/p.json"}),
                (2, "--windows", {"windows": 1}), (2, "--held-out", {"held-out": 0}), (2, "--score", {"score": 1}),
                (1, "--score is 600, expected less than the 512", {"score": 600}),
                (1, "--prompt 510 and --score 4 make a window longer than the 512", {"prompt": 510}),
                (2, "--floor-top1 excludes --max-kl", {"max-kl": 1, "floor-top1": 0.5}),
                (2, "--floor-top1", {"floor-top1": 1.5}), (2, "--max-kl", {"max-kl": -1})]:
            self.refused(status, pattern, *self.line(**changed))
        self.refused(1, "-o names two policy files", *self.line("-o", "b.json"))

    def test_progress_on_a_terminal_and_an_interrupt(self):
        ours, theirs = pty.openpty()
        tune = subprocess.Popen([program.PROGRAM, *map(str, self.line(output=self.folder / "never.json"))],
                                stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:
            shown = b""
            while b" %  each " not in shown:
                shown += terminal.read(4096)
            tune.send_signal(signal.SIGINT)
            self.assertEqual(tune.wait(program.SECONDS), 130)
        self.assertFalse([p for p in self.folder.iterdir() if "never" in p.name])


if __name__ == "__main__":
    program.main()
