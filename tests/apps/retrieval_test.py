# SPDX-License-Identifier: Apache-2.0
"""lamina eval retrieval, passkey and generate as users call them, on tiny random models: what is printed, not how good."""

import json
import re
import string
import unittest

import program
from program import GEMMA, LLAMA, ProgramTest

TASKS = ["needle", "multikey", "multivalue", "variables", "commonwords", "qa", "passkey"]
SPECS = ["full", "streaming(window=20)", "k8v8"]
KV = ["-c", 512, "--kv", ";".join(SPECS)]


def passkey(target):
    return json.dumps({"input": f"It is {target}. {'Rain fell on the hills. ' * 8}", "target": target}) + "\n"


class RetrievalTest(ProgramTest):
    LINE = ["eval", "retrieval", *KV]

    def found_passkey(self, model):
        """A random model says some letters: a target that it says whenever it is asked."""
        targets = string.ascii_letters + string.digits
        file = self.file("all.jsonl", "".join(map(passkey, targets)))
        self.ok("eval", "retrieval", "-m", model, "-c", 512, "-f", file, "-v")
        found = re.findall(r'(query_\w+) .* 100 %  \["(.)"\]', self.last_stderr)
        return self.file("found.jsonl", passkey(next(t for t in targets if {("query_agnostic", t), ("query_aware", t)} <= set(found))))

    def test_every_task_is_measured_and_repeats(self):
        line = [*self.LINE, "-m", LLAMA, "--length", 460, "--items", 1, "--questions", 1, "-o", "json"]
        one = self.ok(*line, "-t", 1)
        self.assertEqual(one, self.ok(*line, "-t", 2, "--task", "all"))
        rows = json.loads(one)
        self.assertEqual([row["task"] for row in rows], TASKS)
        for row in rows:
            self.assertEqual((row["items"], row["answers"]), (1, 1))
            self.assertEqual(row["reported"], bool(row["specs"]))
            agnostic, aware = row["dense"]["query_agnostic"], row["dense"]["query_aware"]
            self.assertEqual((agnostic["kept_fraction"], aware["kept_fraction"]), (1, 1))
            self.assertLess(agnostic["tokens"], aware["tokens"])
            self.assertLessEqual(aware["tokens"], 461)  # the question is tokenised by itself
            self.assertGreater(aware["tokens"], 360)
        some = self.json(*line, "--task", "qa,needle")
        self.assertEqual(some, [rows[TASKS.index("qa")], rows[0]])
        self.assertNotEqual(some, self.json(*line, "--task", "qa,needle", "-s", 2))

    def test_a_task_that_the_dense_cache_fails_is_not_reported(self):
        line = [*self.LINE, "-m", GEMMA, "-f", self.file("never.jsonl", passkey("never said"))]
        row, = self.json(*line, "-o", "json")
        self.assertEqual((row["reported"], row["specs"]), (False, []))
        self.assertRegex(self.ok(*line).decode(), r"(?m)^passkey +dense reaches 0 %: not reported$")

    def test_what_specs_find(self):
        line = [*self.LINE, "-m", LLAMA, "-f", self.found_passkey(LLAMA)]
        row, = self.json(*line, "-o", "json")
        self.assertTrue(row["reported"])
        full, streaming, k8v8 = row["specs"]
        self.assertEqual([full["kv_spec"], streaming["kv_spec"], k8v8["kv_spec"]], SPECS)
        for asked in ["query_agnostic", "query_aware"]:
            self.assertEqual(full[asked], row["dense"][asked])
            self.assertEqual((full[asked]["found"], full[asked]["kv_ratio"]), (1, 1))
            self.assertLess(streaming[asked]["kept_fraction"], 1)
            self.assertLess(k8v8[asked]["kv_bytes"], full[asked]["kv_bytes"])
        table = self.ok(*line).decode().splitlines()
        self.assertEqual(len(table), 6)
        self.assertRegex(table[3], r"^ +100\.0% +100\.0% +1\.0000 +\d+  full$")

    def test_passkey_has_the_whole_question_in_its_prompt(self):
        file = self.found_passkey(LLAMA)
        row, = self.json(*self.LINE, "-m", LLAMA, "-f", file, "-o", "json")
        alone = self.json("eval", "passkey", *KV, "-m", LLAMA, "-f", file, "-o", "json")
        self.assertEqual([spec["kv_spec"] for spec in alone], SPECS)
        self.assertEqual(alone[0]["accuracy"], 1)
        self.assertEqual(alone[0]["tokens"], row["dense"]["query_aware"]["tokens"] + 1)

    def test_bad_input(self):
        line = ["eval", "retrieval", "-m", LLAMA]
        self.refused(1, r'--task is "hay", expected all or some of needle, multikey, .*passkey', *line, "--task", "qa,hay")
        self.refused(1, r"a needle item needs at least \d+ tokens, found a length of 20$", *line, "--length", 20)
        self.refused(1, r"long.jsonl: line 2: an item with its answer has \d+ tokens, the context has 512$",
                     *line, "-f", self.file("long.jsonl", passkey("a") + json.dumps({"input": "It is 7. " + "Rain fell. " * 60, "target": "7"})))
        self.refused(1, "--length is 16777216, the context has 512$", *line, "--length", 1 << 24)
        self.refused(2, '--seed: "-1" is not a number from 0', *line, "--length", 460, "--seed=-1")
        self.refused(2, "--task excludes --file|--file excludes --task", *line, "--task", "qa", "-f", "x")
        self.refused(2, "--questions", *line, "--questions", 0)
        for pattern, text in [("line 2: expected an object with strings", passkey("a") + "{"), ("no items", "\n"),
                              ('line 1: the input does not hold the target "z"', '{"input": "a b", "target": "z"}')]:
            self.refused(1, f"items.jsonl: {pattern}", *line, "-f", self.file("items.jsonl", text))


class GenerateTest(ProgramTest):
    LINE = ["eval", "generate", *KV, "-n", 12, "-o", "json"]
    SAMPLE = ["text", "tokens", "rouge_l", "repetition", "first_difference"]

    def questions(self):
        return self.file("q.jsonl", "".join(json.dumps({"question": f"What is {i} and {i}?", "answer": f"#### {2 * i}"}) + "\n"
                                            for i in range(6)))

    def check(self, result, items, keys):
        self.assertEqual(result["items"], items)
        self.assertEqual([row["kv_spec"] for row in result["specs"]], SPECS)
        self.assertEqual(result["specs"][0], result["dense"])
        self.assertEqual((result["dense"]["same"], result["dense"]["rouge_l"]), (1, 1))
        for row in result["specs"]:
            self.assertEqual(len(row["samples"]), items)
            for sample, dense in zip(row["samples"], result["dense"]["samples"], strict=True):
                self.assertEqual(list(sample), keys)
                self.assertEqual(sample["first_difference"] is None, sample == dense)
                self.assertLessEqual(sample["tokens"], 12)
        self.assertLess(result["specs"][1]["kept_fraction"], 1)

    def test_a_text_is_continued(self):
        text = self.file("text.txt", " ".join(f"on hill {i * i} rain fell, not on {i ** 3}." for i in range(60)))
        for model in [LLAMA, GEMMA]:
            line = [*self.LINE, "-m", model, "-f", text, "--prompt", 64, "--limit", 3]
            one = self.ok(*line, "-t", 1)
            self.assertEqual(one, self.ok(*line, "-t", 2))
            result = json.loads(one)
            self.check(result, 3, self.SAMPLE)
            streaming = result["specs"][1]
            self.assertEqual(streaming["first_difference"] is None, streaming["same"] == 1)
            self.assertEqual(streaming["same"] == 1, model == GEMMA)  # whose layers mostly see a few tokens only
            self.assertIsNone(result["dense"]["agreement"])
            self.assertEqual(result["dense"]["prompt_tokens"], 64)

    def test_questions_are_answered(self):
        line = [*self.LINE, "-m", LLAMA, "--data", self.questions()]
        result = self.json(*line, "--shots", 2, "--limit", 3)
        self.check(result, 3, [*self.SAMPLE, "answer", "agrees", "right"])
        self.assertEqual(result["dense"]["agreement"], 1)
        self.assertEqual(self.json(*line, "--shots", 2)["items"], 4)
        self.assertGreater(result["dense"]["prompt_tokens"], self.json(*line, "--shots", 0)["dense"]["prompt_tokens"])

    def test_a_table_by_default(self):
        out = self.ok(*self.LINE[:-2], "-m", LLAMA, "--data", self.questions(), "--limit", 1).decode().splitlines()
        self.assertEqual(len(out), 7)
        self.assertRegex(out[3], r"^ +100\.0 % .* full \(dense\)$")

    def test_bad_input(self):
        line = ["eval", "generate", "-m", LLAMA]
        self.refused(2, "--data or --file is required", *line)
        self.refused(2, "excludes", *line, "--data", "x", "-f", "y")
        self.refused(1, "missing: cannot open", *line, "--data", "missing")
        good = '{"question": "a", "answer": "1"}\n'
        for pattern, text in [("line 2: not JSON", good + "{"), ('line 2: no string "question"', good + '{"answer": "1"}'),
                              ('line 2: no string "answer"', good + '{"question": "1", "answer": 1}'),
                              ('line 1: "answer" names no number', '{"question": "a", "answer": "b"}'),
                              ("1 questions, 4 of them are to be shown", good)]:
            self.refused(1, f"q.jsonl: {pattern}", *line, "--data", self.file("q.jsonl", text))
        long = json.dumps({"question": "in the rain " * 400, "answer": "1"})
        self.refused(1, r"q.jsonl: line 2: a prompt has \d+ tokens and -n is 128, the context has 512$",
                     *line, "--shots", 0, "--data", self.file("q.jsonl", good + long))
        text = self.file("text.txt", "in the rain " * 400)
        self.refused(1, r"--prompt 500: a prompt has 500 tokens and -n is 128, the context has 512$", *line, "-f", text, "--prompt", 500)
        self.refused(1, "the text has", *line, "-f", self.file("short.txt", "in"), "--prompt", 64)


if __name__ == "__main__":
    program.main()
