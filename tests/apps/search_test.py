# SPDX-License-Identifier: Apache-2.0
"""lamina search as users call it: the strategy file, what is printed, what is refused."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import unittest

import program
from program import GEMMA, LLAMA, ProgramTest


class SearchTest(ProgramTest):
    def setUp(self):
        super().setUp()
        words = ["the", "rain", "in", "ring", "on", "an", "then", "other"]
        lines = [" ".join(words[(i * i * 7 + line * 3 + i * line) % 8] for i in range(60)) for line in range(12)]
        self.text = self.file("text.txt", "too short\n" + "\n\n".join(lines))
        self.out = self.folder / "strategy.json"

    def line(self, *more, **changed):
        """A call that works, with options changed or added; None leaves one out."""
        options = {"model": LLAMA, "calibration": self.text, "sentences": 4, "tokens": 16, "share": 1, "threshold": -1,
                   "output": self.out} | changed
        return ["search", "kvsharer", *more,
                *[word for name, value in options.items() if value is not None for word in (f"--{name}", value)]]

    def search(self, *more, **how):
        """The strategy file; what was printed is kept."""
        self.printed = self.ok(*self.line(*more, **how)).decode()
        return json.loads(self.out.read_text())

    def test_the_file_tells_the_search(self):
        found = self.search(share=2)
        self.assertEqual(found["schema"], "lamina.kvsharer/1")
        self.assertEqual((found["model"]["architecture"], found["model"]["layers"]), ("llama", 4))
        self.assertEqual(len(found["model"]["shapes_sha256"]), 64)
        self.assertEqual(found["calibration"], {"file": str(self.text), "sentences": 4, "tokens": 16,
                                                "sha256": hashlib.sha256(self.text.read_bytes()).hexdigest()})
        self.assertEqual(found["options"], {"share": 2, "distance": "head", "order": "dissimilar", "objective": "cosine",
                                            "threshold": -1.0, "across_kinds": False, "kv": None})
        self.assertEqual(sorted((i, j) for i, j, _ in found["ranking"]), [(i, j) for i in range(4) for j in range(i)])
        distances = [distance for *_, distance in found["ranking"]]
        self.assertEqual(distances, sorted(distances, reverse=True))
        self.assertEqual(sum(source != layer for layer, source in enumerate(found["map"])), 2)
        self.assertEqual(len(found["accepted"]), 2)
        for pair in found["accepted"] + found["rejected"]:
            self.assertEqual(found["ranking"][pair["rank"]][:2], [pair["layer"], pair["source"]])
        self.assertEqual(found["cosine"], found["accepted"][-1]["cosine"])
        self.assertEqual((found["exhausted"], found["tries"]), (False, 2))
        lines = self.out.read_text().splitlines()
        self.assertGreater(len(lines), 6 + 12)  # a pair a line, for people
        self.assertRegex(self.printed, r"layers +2 of 4")
        self.assertIn("_".join(map(str, found["map"])), self.printed)

    def test_the_file_is_a_spec(self):
        self.search(share=2)
        spec = f"kvsharer(map={self.out})"
        self.assertIn(f"--kv '{spec}'", self.printed)
        plan, = self.json("plan", "-m", LLAMA, "--kv", spec, "-o", "json")
        self.assertAlmostEqual(plan["kv_ratio"], 2.0)
        self.refused(1, "has 4 layers|made for another model|model.layers is 4", "plan", "-m", GEMMA, "--kv", spec)
        other = self.out.read_text().replace('"shapes_sha256":"', '"shapes_sha256":"0')
        self.refused(1, "made for another model", "plan", "-m", LLAMA, "--kv",
                     f"kvsharer(map={self.file('other.json', other)})")

    def test_orders_distances_and_objectives(self):
        first = self.search()
        flat = self.search("--distance", "flat")
        self.assertNotEqual(first["ranking"][0][2], flat["ranking"][0][2])
        similar = self.search("--order", "similar")
        self.assertEqual([d for *_, d in similar["ranking"]], sorted(d for *_, d in first["ranking"]))
        random = self.search("--order", "random", "--seed", 5)
        self.assertEqual(random["options"]["seed"], 5)
        self.assertNotEqual(random["ranking"], self.search("--order", "random", "--seed", 6)["ranking"])
        for objective, key in [("cosine", "cosine"), ("kl", "kl"), ("beam", "kl")]:
            found = self.search("--objective", objective, share=2)
            self.assertIn(key, found["accepted"][0])
            self.assertEqual(found["options"]["objective"], objective)
            self.assertEqual(found["options"]["order"], "similar" if objective == "kl" else "dissimilar")
        # With every pair a candidate, kl takes the best pair of all.
        best = self.search("--objective", "kl", "--candidates", 6)["accepted"][0]["kl"]
        self.assertLessEqual(best, self.search("--objective", "kl", "--candidates", 1)["accepted"][0]["kl"])

    def test_the_same_file_for_any_number_of_threads(self):
        for more in [[], ["--kv", "streaming(sinks=1,window=6) + k8v8"], ["--objective", "beam"]]:
            found = [self.search("-t", threads, *more, share=2) for threads in (1, 2)]
            for one in found:
                self.assertGreater(one.pop("seconds"), 0)
            self.assertEqual(*found)

    def test_under_a_spec(self):
        found = self.search("--kv", "k8v8")
        self.assertEqual(found["options"]["kv"], "k8v8")
        self.assertNotEqual(found["cosine"], self.search()["cosine"])
        self.refused(1, "has a layers term", *self.line("--kv", "map(0_0_2_3)"))

    def test_kinds(self):
        windows = self.search(model=GEMMA)
        across = self.search("--across-kinds", model=GEMMA)
        layers = windows["model"]["layers"]
        self.assertLess(len(windows["ranking"]), len(across["ranking"]))
        self.assertEqual(len(across["ranking"]), layers * (layers - 1) // 2)
        self.assertIn("kinds=any", self.printed)
        self.ok("plan", "-m", GEMMA, "--kv", f"kvsharer(map={self.out},kinds=any)")

    def test_an_exhausted_ranking_fails_and_keeps_what_was_found(self):
        done = program.call(*self.line(threshold=1))
        self.assertEqual(done.returncode, 1)
        self.assert_error_line(done.stderr)
        self.assertRegex(done.stderr.decode(), "exhausted: 0 of 1 layers")
        found = json.loads(self.out.read_text())
        self.assertEqual((found["map"], found["exhausted"], len(found["rejected"])), ([0, 1, 2, 3], True, 6))

    def test_shares(self):
        for share, layers in [("1", 1), ("25%", 1), ("60%", 2), ("62.5%", 3), ("3", 3)]:
            self.assertEqual(len(self.search(share=share)["accepted"]), layers)
        for share in ["", "x", "1.5", "0", "-1", "100%", "%", "5%5", "1e99", "nan"]:
            self.refused(2, "--share", *self.line(share=share))
        for share in ["4", "10%", "99%"]:
            self.refused(1, "--share", *self.line(share=share))

    def test_output_to_stdout(self):
        result = program.call(*self.line(output="-"))
        self.assertEqual(json.loads(result.stdout)["schema"], "lamina.kvsharer/1")
        self.assertIn(b"layers", result.stderr)

    def test_progress_on_a_terminal_and_an_interrupt(self):
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            subprocess.run([program.PROGRAM, *map(str, self.line())], stdout=subprocess.DEVNULL, stderr=theirs,
                           check=True, timeout=60)
            os.close(theirs)
            self.assertRegex(terminal.read(4096), rb"\r\x1b\[Ksearch 0/1 layers: layer \d reading layer \d, rank 0")
        held = self.folder / "pipe"  # the search waits for its text: the signal comes before the first trial
        os.mkfifo(held)
        search = program.start(*self.line(calibration=held, output=self.folder / "never.json"))
        with open(held, "wb") as pipe:
            search.send_signal(signal.SIGINT)
            pipe.write(self.text.read_bytes())
        _, stderr = search.communicate(timeout=program.SECONDS)
        self.assertEqual(search.returncode, 130)
        self.assert_error_line(stderr)
        self.assertFalse((self.folder / "never.json").exists())

    def test_wrong_calls(self):
        for status, pattern, changed in [
                (1, r"12 lines have 16 tokens or more, expected 13", {"sentences": 13}),
                (1, r"0 lines have 300 tokens", {"tokens": 300}), (1, "--tokens is 513", {"tokens": 513}),
                (2, "--sentences", {"sentences": 0}), (2, "--tokens", {"tokens": 0}), (2, "--beam", {"beam": 0}),
                (2, "--distance", {"distance": "round"}), (2, "--order", {"order": "best"}),
                (2, "--objective", {"objective": "ppl"}), (2, "--threshold", {"threshold": 2}),
                (2, "--seed", {"seed": "x"}), (1, "unknown term", {"kv": "nope"}),
                (1, "missing.txt: cannot open", {"calibration": "missing.txt"}), (2, "--calibration", {"calibration": None}),
                (1, "absent/s.json: cannot write", {"output": self.folder / "absent/s.json"}),
                (2, "--output", {"output": None}), (2, "--share", {"share": None})]:
            self.refused(status, pattern, *self.line(**changed))
        self.refused(2, "subcommand", "search")

    def test_help_explains_the_objectives(self):
        out = self.ok("search", "kvsharer", "--help").decode()
        for option in ["--calibration", "--sentences", "--tokens", "--share", "--threshold", "--distance", "--order",
                       "--objective", "--candidates", "--beam", "--across-kinds", "--kv", "--output"]:
            self.assertIn(option, out)


class PairsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        words = ["the", "rain", "in", "ring", "on", "an", "then", "other"]
        lines = [" ".join(words[(i * i * 7 + line * 3 + i * line) % 8] for i in range(60)) for line in range(6)]
        self.text = self.file("text.txt", "\n".join(lines))
        self.out = self.folder / "pairs.json"

    def line(self, model, *more, tokens=16):
        return ["search", "minicache", "-m", model, "--calibration", self.text, "--sentences", 4, "--tokens", tokens, "-o", self.out, *more]

    def test_the_most_alike_first_and_no_layer_twice(self):
        printed = self.ok(*self.line(LLAMA)).decode()
        found = json.loads(self.out.read_text())
        self.assertEqual(found["schema"], "lamina.minicache/1")
        self.assertEqual(found["calibration"]["sha256"], hashlib.sha256(self.text.read_bytes()).hexdigest())
        self.assertEqual(sorted((a, b) for a, b, _ in found["ranking"]), [(a, b) for a in range(4) for b in range(a + 1, 4)])
        distances = [distance for *_, distance in found["ranking"]]
        self.assertEqual(distances, sorted(distances))
        self.assertTrue(all(0 < d < 1 for d in distances), distances)
        self.assertEqual(found["pairs"][0], found["ranking"][0][:2])
        self.assertEqual(sorted(layer for pair in found["pairs"] for layer in pair), [0, 1, 2, 3])
        self.assertIn(" ".join(f"{a}+{b}" for a, b in found["pairs"]), printed)
        for tensor in ["k", "v"]:  # each alone has distances of its own
            self.ok(*self.line(LLAMA, "--of", tensor, "--vector", "head"))
            self.assertNotEqual(json.loads(self.out.read_text())["ranking"], found["ranking"])

    def test_the_file_is_a_spec(self):
        self.ok(*self.line(LLAMA))
        (a, b), *_ = json.loads(self.out.read_text())["pairs"]
        out = self.ok("plan", "-m", LLAMA, "--kv", f"minicache(pairs=auto,map={self.out})").decode()
        self.assertRegex(out, rf"2 of 4 layers merged: {a}\+{b}\.")
        self.refused(1, "pairs.json.*another model|layers", "plan", "-m", GEMMA, "--kv", f"minicache(pairs=auto,map={self.out})")

    def test_kinds(self):
        self.ok(*self.line(GEMMA))
        same = len(json.loads(self.out.read_text())["ranking"])
        self.ok(*self.line(GEMMA, "--across-kinds"))
        self.assertGreater(len(json.loads(self.out.read_text())["ranking"]), same)

    def test_wrong_calls(self):
        self.refused(1, "--tokens is 513, the model was trained with 512 tokens of context", *self.line(LLAMA, tokens=513))
        self.refused(1, "0 lines have 300 tokens", *self.line(LLAMA, tokens=300))
        self.ok("convert", "lckv", "--from", LLAMA, "--map", "0_0_2_2", "-o", self.folder / "lckv")
        self.refused(1, "trained to share layers", *self.line(self.folder / "lckv"))
        self.assertFalse(self.out.exists())

    def test_the_same_for_any_number_of_threads(self):
        self.ok(*self.line(LLAMA, "-t", 1))
        one = self.out.read_text()
        self.ok(*self.line(LLAMA, "-t", 3))
        self.assertEqual(self.out.read_text(), one)


if __name__ == "__main__":
    program.main()
