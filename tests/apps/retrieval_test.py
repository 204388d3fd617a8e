# SPDX-License-Identifier: Apache-2.0
"""lamina eval retrieval and passkey as users call them, on tiny random models: what is printed, not how good."""

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
        self.refused(1, r"task passkey: an item with its answer has \d+ tokens, the context has 512$",
                     *line, "--task", "passkey", "--length", 600)
        self.refused(2, "--task excludes --file|--file excludes --task", *line, "--task", "qa", "-f", "x")
        self.refused(2, "--questions", *line, "--questions", 0)
        for pattern, text in [("line 2: expected an object with strings", passkey("a") + "{"), ("no items", "\n"),
                              ('line 1: the input does not hold the target "z"', '{"input": "a b", "target": "z"}')]:
            self.refused(1, f"items.jsonl: {pattern}", *line, "-f", self.file("items.jsonl", text))


if __name__ == "__main__":
    program.main()
