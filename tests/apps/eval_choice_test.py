# SPDX-License-Identifier: Apache-2.0
"""lamina eval choice as users call it, beside what lm-evaluation-harness gives for the same questions."""

import json
import unittest

import program
from program import LLAMA, ROOT, ProgramTest

GOLDEN = ROOT / "tests/golden/lm_eval"
DATA = ROOT.parent / "shared/data"
KEYS = ["task", "items", "accuracy", "accuracy_norm", "kv_spec"]
TASKS = ["piqa", "winogrande", "arc_easy", "arc_challenge", "hellaswag", "boolq", "openbookqa", "copa", "commonsenseqa"]
REAL = {"piqa": "piqa/valid.jsonl", "arc_easy": "arc/ARC-Easy-Dev.jsonl", "arc_challenge": "arc/ARC-Challenge-Dev.jsonl",
        "winogrande": "winogrande/winogrande_dev_sample1000.jsonl"}


def made_up(task):
    return GOLDEN / f"data/{task}.jsonl"


class ChoiceTest(ProgramTest):
    def choice(self, model, task, data, *args):
        """The summaries, and of each spec the items' log-likelihoods."""
        path = self.folder / "items.jsonl"
        result = self.json("eval", "choice", "-m", model, "--task", task, "--data", data, "--items", path, "-o", "json", *args)
        rows = result if isinstance(result, list) else [result]
        for row in rows:
            self.assertEqual(list(row)[:len(KEYS)], KEYS)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual([line["kv_spec"] for line in lines], [row["kv_spec"] for row in rows for _ in range(row["items"])])
        for row in rows:
            mine = [line for line in lines if line["kv_spec"] == row["kv_spec"]]
            for key, chosen in [("accuracy", "chosen"), ("accuracy_norm", "chosen_norm")]:
                self.assertAlmostEqual(row[key], sum(line["answer"] == line[chosen] for line in mine) / row["items"])
        return rows, lines

    def near(self, lines, golden, part):
        """Log-likelihoods within this part of the harness's, or of 1 where they are small."""
        self.assertEqual(len(lines), len(golden))
        for line, expected in zip(lines, golden):
            self.assertEqual(len(line["log_likelihoods"]), len(expected))
            for ours, theirs in zip(line["log_likelihoods"], expected):
                self.assertAlmostEqual(ours, theirs, delta=part * max(1, abs(theirs)), msg=(line, expected))

    def same_accuracies(self, row, golden):
        self.assertAlmostEqual(row["accuracy"], golden["accuracy"])
        if golden["accuracy_norm"] is not None:  # winogrande's continuations are all as long
            self.assertAlmostEqual(row["accuracy_norm"], golden["accuracy_norm"])

    def test_every_task_scores_as_lm_eval_does(self):
        golden = json.loads((GOLDEN / "tiny-llama.json").read_text())["made_up"]
        self.assertEqual(sorted(golden), sorted(TASKS))
        for task in TASKS:
            for shots in [0, 2]:
                with self.subTest(task=task, shots=shots):
                    (row,), lines = self.choice(LLAMA, task, made_up(task), "--shots", shots, "--kv", "f32")
                    self.near(lines, golden[task][str(shots)]["log_likelihoods"], 1e-3)  # activations in 8 bits
                    self.same_accuracies(row, golden[task][str(shots)])
                    self.assertEqual((row["shots"], row["items"]), (shots, len(lines)))

    def real_model(self, name, part):
        """In float32 the log-likelihoods agree within this part; the f16 cache's attention multiplies in fewer bits."""
        if program.sanitized():
            self.skipTest("a real model under sanitizers is real_model_test's")
        golden, model = json.loads((GOLDEN / f"{name}.json").read_text()), ROOT / f"models/{name}.gguf"
        for task in TASKS:
            theirs = golden["made_up"][task]["2"]["log_likelihoods"][:1]
            _, lines = self.choice(model, task, made_up(task), "--shots", 2, "--limit", 1, "--kv", "f32;full")
            self.near(lines[:1], theirs, part)
            self.near(lines[1:], theirs, 0.1)
        if golden["real"] and not DATA.exists():
            self.skipTest("../shared/data is not there: made-up questions only")
        for task in golden["real"]:
            _, lines = self.choice(model, task, DATA / REAL[task], "--limit", 3, "--kv", "f32")
            self.near(lines, golden["real"][task]["log_likelihoods"][:3], part)

    @unittest.skipUnless((ROOT / "models/smollm2.gguf").exists(), "models/smollm2.gguf is not there (./dev model smollm2)")
    def test_smollm2_scores_as_lm_eval_does(self):
        self.real_model("smollm2", 3e-3)

    @unittest.skipUnless((ROOT / "models/gemma3.gguf").exists(), "models/gemma3.gguf is not there (./dev model gemma3)")
    def test_gemma3_scores_as_lm_eval_does(self):
        self.real_model("gemma3", 3e-2)  # as much farther off as in real_model_test.cpp

    def test_specs_share_their_prompts_and_threads_change_nothing(self):
        specs = "full;k8v8;streaming(sinks=2,window=8);snapkv(keep=0.3,window=8) + k4v4;minicache(start=0)"
        line = [LLAMA, "arc_easy", made_up("arc_easy"), "--shots", 2]
        together = self.choice(*line, "--kv", specs, "-t", 1)
        self.assertEqual(together, self.choice(*line, "--kv", specs, "-t", 2))
        for i, spec in enumerate(specs.split(";")):
            (row,), lines = self.choice(*line, "--kv", spec, "-b", 7)
            self.assertEqual((row, lines), (together[0][i], together[1][3 * i:3 * i + 3]))
        full, _, streaming, snapkv, _ = together[0]
        self.assertEqual((full["kept_fraction"], full["items"]), (1, 3))
        self.assertLess(streaming["kept_fraction"], 0.2)
        self.assertAlmostEqual(snapkv["kept_fraction"], 0.3, delta=0.02)
        self.assertGreater(snapkv["kv_ratio"], 1.5)
        self.assertNotEqual(together[1][0]["log_likelihoods"], together[1][6]["log_likelihoods"])  # the cache matters

    def test_shots_from_a_file_or_by_a_seed(self):
        line = [LLAMA, "piqa", made_up("piqa")]
        (first,), _ = self.choice(*line, "--shots", 2, "--shots-from", made_up("piqa"))
        self.assertEqual(first["items"], 4)
        other = self.file("other.jsonl", made_up("piqa").read_bytes())
        (all_six,), _ = self.choice(*line, "--shots", 2, "--shots-from", other)
        self.assertEqual(all_six["items"], 6)
        self.assertEqual(self.choice(*line, "--shots", 2, "-s", 5), self.choice(*line, "--shots", 2, "-s", 5))
        tokens = {self.choice(*line, "--shots", 2, "-s", seed)[0][0]["tokens"] for seed in range(4)}
        self.assertGreater(len(tokens), 1)

    def test_a_table_by_default(self):
        out = self.ok("eval", "choice", "-m", LLAMA, "--task", "copa", "--data", made_up("copa"), "--kv", "full;k8v8").decode()
        self.assertRegex(out.splitlines()[0], "^copa: 4 items, 0 shots, prompts of ")
        self.assertRegex(out.splitlines()[3], r"^ *\d+\.\d\d ± \d+\.\d\d % +\d+\.\d\d ± \d+\.\d\d % .* k8v8$")

    def test_what_is_wrong_is_said_in_one_line(self):
        good = made_up("piqa").read_text()
        line = ["eval", "choice", "-m", LLAMA, "--task", "piqa"]
        for pattern, content in [
                (r"x.jsonl: line 7: not JSON at byte", good + '{"goal": '), (r"x.jsonl: line 7: \[\], expected an object", good + "[]"),
                ("x.jsonl: line 7: sol2 is missing", good + '{"goal": "g", "sol1": "a", "label": 0}'),
                ("x.jsonl: line 7: label is 2, expected an integer from 0 to 1",
                 good + '{"goal": "g", "sol1": "a", "sol2": "b", "label": 2}'),
                ('line 1: "label" is missing, and there is no .*x-labels.lst', '{"goal": "g", "sol1": "a", "sol2": "b"}'),
                ("x.jsonl: line 7: choice 2 makes 6.. tokens, the context has 512",
                 good + json.dumps(dict(goal="g", sol1="a", sol2="x" * 600, label=0))),
                ("x.jsonl: no items", "\n"), ("empty", ""), ("line 1: not JSON", b"\xff\xfe"), ("comes twice", '{"goal": 1, "goal": 2}')]:
            self.refused(1, pattern, *line, "--data", self.file("x.jsonl", content))
        data = ["--data", made_up("piqa")]
        self.refused(1, "missing.jsonl: cannot open", *line, "--data", "missing.jsonl")
        self.refused(1, "missing.jsonl: cannot open", *line, *data, "--shots", 1, "--shots-from", "missing.jsonl")
        self.refused(1, "6 items, expected 7 for 6 shots and a question", *line, *data, "--shots", 6)
        self.refused(1, "line 1: choice 1 makes .. tokens, the context has 16", *line, *data, "-c", 16)
        self.refused(1, "missing/items.jsonl: cannot be written: No such", *line, *data, "--items", self.folder / "missing/items.jsonl")
        self.refused(1, "cannot be written: it is a folder", *line, *data, "--items", self.folder)
        self.refused(2, "--items: the value is empty", *line, *data, "--items", "")
        for seed in ["-1", "18446744073709551616", "1.5"]:
            self.refused(2, f'--seed: "{seed}" is not a number from 0', *line, *data, "--shots", 1, f"--seed={seed}")
        self.refused(2, "--seed: 1 required TEXT missing", *line, *data, "--shots", 1, "--seed=")
        self.refused(1, "unknown term", *line, *data, "--kv", "nope")
        self.refused(2, 'task "pika" is unknown, expected one of piqa, winogrande, .*commonsenseqa', *line[:-1], "pika", *data)
        self.refused(2, "--task is required", *line[:4], *data)
        self.refused(2, "--data is required", *line)
        self.refused(2, "--shots", *line, *data, "--shots-from", made_up("piqa"))
        self.refused(2, "--limit", *line, *data, "--limit", 0)


if __name__ == "__main__":
    program.main()
