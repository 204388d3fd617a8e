# SPDX-License-Identifier: Apache-2.0
"""lamina eval ppl as users call it: its figures, and base logits in files."""

import math
import os
import pty
import subprocess

import program
from program import GEMMA, LLAMA, ProgramTest

EVAL_KEYS = ["kv_spec", "perplexity", "tokens", "kl_mean", "kl_median", "kl_p99", "top1_agreement", "kept_fraction", "kv_bytes",
             "kv_ratio"]


class EvalTest(ProgramTest):
    def setUp(self):
        super().setUp()
        words = ["the", "rain", "in", "ring", "on", "an", "then", "other"]
        self.text = self.file("text.txt", " ".join(words[i * i * 7 % 8] + words[i * 5 % 7] for i in range(400)))

    def eval(self, *args, model=LLAMA):
        result = self.json("eval", "ppl", "-m", model, "-f", self.text, "-o", "json", *args)
        for row in result if isinstance(result, list) else [result]:
            self.assertEqual(list(row)[:len(EVAL_KEYS)], EVAL_KEYS)
            row.pop("seconds")
        return result

    def test_windows(self):
        for model in [LLAMA, GEMMA]:
            line = ["-c", 64, "--windows", 3, "--first", 33]
            full = self.eval(*line, "-t", 1, model=model)
            self.assertEqual(full, self.eval(*line, "-t", 2, model=model))
            self.assertEqual((full["kv_spec"], full["tokens"], full["kept_fraction"], full["kv_ratio"]), ("full", 93, 1.0, 1.0))
            for key in ["kl_mean", "kl_median", "kl_p99", "top1_agreement"]:
                self.assertIsNone(full[key])
            # A prompt's queries read rows as appended: a policy changes what is kept, not the perplexity.
            kept = self.eval(*line, "--kv", "streaming(window=16) + k8v8", model=model)
            self.assertEqual(kept["perplexity"], full["perplexity"])
            self.assertLess(kept["kept_fraction"], 1)
            small = self.eval(*line, "-b", 7, model=model)
            self.assertAlmostEqual(small["perplexity"] / full["perplexity"], 1, delta=1e-4)

    def test_tells_what_is_merged(self):
        line = ["--prompt", 100, "--score", 20, "--windows", 1, "--base", "full"]
        full, merged = self.eval(*line, "--kv", "full;minicache(start=0,keep=0.1,rule=top)")
        self.assertEqual((full["merged_layers"], full["apart_fraction"]), (0, None))
        self.assertEqual(merged["merged_layers"], 4)
        self.assertTrue(0.05 < merged["apart_fraction"] < 0.3, merged)
        self.assertGreater(merged["kl_mean"], 0)
        out = self.ok("eval", "ppl", "-m", LLAMA, "-f", self.text, *line, "--kv", "minicache").decode()
        self.assertRegex(out, r"(?m)^minicache: 2 of 4 layers merged: 2\+3$")

    def test_continuations_beside_a_base(self):
        line = ["--prompt", 100, "--score", 20, "--windows", 3, "--base", "full"]
        full, k8v8, tokens = self.eval(*line, "--kv", "full;k8v8;streaming(window=16)", "-t", 1)
        self.assertEqual([full, k8v8, tokens], self.eval(*line, "--kv", "full;k8v8;streaming(window=16)", "-t", 2))
        self.assertEqual((full["kl_mean"], full["kl_p99"], full["top1_agreement"], full["tokens"]), (0, 0, 1, 60))
        self.assertLess(0, k8v8["kl_median"])
        self.assertLess(k8v8["kl_median"], k8v8["kl_p99"])
        self.assertLess(k8v8["kl_mean"], 0.01)
        self.assertGreater(k8v8["top1_agreement"], 0.9)
        self.assertAlmostEqual(k8v8["perplexity"] / full["perplexity"], 1, delta=0.02)
        self.assertGreater(tokens["kl_mean"], k8v8["kl_mean"])
        self.assertLess(tokens["kept_fraction"], 0.3)
        self.assertEqual(k8v8, self.eval(*line, "--kv", "k8v8"))
        without = self.eval(*line[:-2], "--kv", "k8v8")
        self.assertEqual((without["kl_mean"], without["perplexity"]), (None, k8v8["perplexity"]))

    def test_intervals_and_positions(self):
        line = ["--prompt", 100, "--score", 21, "--windows", 3, "--base", "full"]
        full, k4v4 = self.eval(*line, "--kv", "full;k4v4")
        for row in full, k4v4:
            for value, key in [("perplexity", "perplexity_95"), ("perplexity_ratio", "perplexity_ratio_95"),
                               ("kl_mean", "kl_mean_95"), ("top1_agreement", "top1_agreement_95")]:
                low, high = row[key]
                self.assertTrue(low <= row[value] <= high, (key, row))
            # exp(mean +- 1.96 errors)
            self.assertAlmostEqual(math.log(row["perplexity_95"][1] / row["perplexity"]), 1.959964 * row["ln_perplexity_error"], delta=1e-6)
            self.assertAlmostEqual(sum(row["kl_by_position"]) / 3, row["kl_mean"], delta=1e-12)
            self.assertAlmostEqual(math.prod(row["perplexity_by_position"]) ** (1 / 3), row["perplexity"], delta=1e-9)
        self.assertEqual((full["perplexity_ratio"], full["perplexity_ratio_95"], full["kl_by_position"]), (1, [1, 1], [0, 0, 0]))
        self.assertGreater(min(k4v4["kl_by_position"]), 0)
        alone = self.eval(*line[:-2])
        self.assertEqual([alone[k] for k in ["kl_mean_95", "top1_by_position", "perplexity_ratio"]], [None] * 3)
        self.assertEqual(self.eval("-c", 8, "--first", 7, "--windows", 1)["perplexity_95"], [None, None])  # of one token
        table = self.ok("eval", "ppl", "-m", LLAMA, "-f", self.text, *line, "--kv", "full;k4v4").decode()
        self.assertRegex(table, r"(?m)^ *[\d.]+ to [\d.]+ +1\.0000 to 1\.0000 +0\.00000 to 0\.00000 .* full$")

    def test_a_base_in_a_file(self):
        path = self.folder / "base"
        line = ["--prompt", 100, "--score", 20, "--windows", 3]
        beside = self.eval(*line, "--base", "full", "--save-base", path, "--kv", "full;k8v8;streaming(window=16)")
        after = self.eval(*line, "--base-file", path, "--kv", "full;k8v8;streaming(window=16)")
        for a, b in zip(beside, after, strict=True):
            self.assertEqual((b["base_spec"], b["base_file"], a["base_file"]), ("full", str(path), None))
            self.assertEqual((a["perplexity"], a["top1_agreement"]), (b["perplexity"], b["top1_agreement"]))
            self.assertAlmostEqual(a["kl_mean"], b["kl_mean"], delta=1e-6 + 1e-3 * a["kl_mean"])
            self.assertAlmostEqual(a["base_perplexity"] / b["base_perplexity"], 1, delta=1e-3)
        kept = path.read_bytes()
        self.eval(*line, "--kv", "full", "--save-base", path, "-t", 2)
        self.assertEqual(path.read_bytes(), kept)
        self.assertEqual([p.name for p in self.folder.iterdir() if p.name.startswith("base")], ["base"])
        whole = ["-c", 64, "--windows", 3, "--first", 33]
        self.eval(*whole, "--save-base", path)
        shared = self.eval(*whole, "--base-file", path, "--kv", "map(0_0_2_2);full")
        self.assertGreater(shared[0]["kl_mean"], 1e-3)
        self.assertLess(shared[1]["kl_mean"], 1e-6)

    def test_a_base_in_a_file_of_something_else(self):
        path = self.folder / "base"
        line = ["eval", "ppl", "-m", LLAMA, "-f", self.text, "--prompt", 40, "--score", 8, "--windows", 2]
        self.ok(*line, "--save-base", path)
        kept = path.read_bytes()
        other = self.file("other.txt", "something else " * 400)
        for pattern, *more in [
                ("base: logits of the model .*, this one is", "-m", GEMMA),
                ("base: logits of another text: token", "-f", other),
                ("base: 2 windows of 48 tokens, scored from token 40 on; asked for are 1 of 48", "--windows", 1),
                ("base: 2 windows of 48 tokens, scored from token 40 on; asked for are 2 of 47", "--score", 7)]:
            changed = list(line)
            changed[changed.index(more[0]) + 1] = more[1]
            self.refused(1, pattern, *changed, "--base-file", path)
        self.refused(1, "base: logits of continuations, asked for are windows", *line[:6], "-c", 48, "--windows", 2, "--base-file", path)
        for content, pattern in [(b"text", "no file of base logits"), (kept[:-1], "bytes, expected"), (kept[:30], "cut off"),
                                 (b"", "empty")]:
            self.refused(1, pattern, *line, "--base-file", self.file("broken", content))
        self.refused(1, "missing: cannot open", *line, "--base-file", self.folder / "missing")
        self.refused(1, "--save-base keeps the logits of one spec, --kv has 2", *line, "--kv", "full;k8v8", "--save-base", path)
        self.refused(2, "--base-file", *line, "--base-file", path, "--base", "full")
        self.refused(2, "--base-file", *line, "--base-file", path, "--save-base", path)
        self.refused(1, "missing/base: cannot be written", *line, "--save-base", self.folder / "missing/base")
        self.refused(1, "cannot be written: it is a folder", *line, "--save-base", self.folder)
        self.refused(2, "--base: the value is empty", *line, "--base", "")
        # a disk that is full: the old file is still there
        os.symlink("/dev/full", f"{path}.part")
        self.refused(1, "base: cannot be written: No space left", *line, "--save-base", path)
        self.assertEqual(path.read_bytes(), kept)

    def test_a_table_by_default_and_progress_on_a_terminal(self):
        line = ["eval", "ppl", "-m", LLAMA, "-f", self.text, "-c", 64, "--windows", 3]
        self.assertIn("perplexity", self.ok(*line).decode())
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            subprocess.run([program.PROGRAM, *map(str, line)], stdout=subprocess.DEVNULL, stderr=theirs, check=True, timeout=60)
            os.close(theirs)
            self.assertRegex(terminal.read(4096), rb"\r\x1b\[Ktokens \d+/192  .* left")

    def test_wrong_calls(self):
        line = ["eval", "ppl", "-m", LLAMA, "-f", self.text]
        for status, pattern, more in [
                (1, "--first is 64", ["-c", 64, "--first", 64]),
                (1, "window longer than the 512", ["--prompt", 500, "--score", 100]),
                (1, "the text has .* tokens", ["-c", 64, "--windows", 1000]), (2, "--score", ["--prompt", 9]),
                (2, "--prompt", ["--base", "full"]), (2, "--prompt", ["--prompt", 9, "--score", 9, "-c", 64]),
                (1, "ctx-size is 513", ["-c", 513]), (2, "--windows", ["--windows", -1]),
                (1, "unknown term", ["--kv", "nope"]),
                (1, "unknown term", ["--prompt", 9, "--score", 9, "--base", "nope"])]:
            self.refused(status, pattern, *line, *more)
        self.refused(2, "--file", *line[:4])
        self.refused(1, "missing.txt: cannot open", *line[:4], "-f", "missing.txt")
        self.refused(2, "subcommand.*pql", "eval", "pql")


if __name__ == "__main__":
    program.main()
