# SPDX-License-Identifier: Apache-2.0
"""tools/tune_tables.py on a tiny model: specs of its own list join tune's, and a choice that they beat is an error."""

import contextlib
import io
import json
import re
import sys
from types import SimpleNamespace
from unittest import mock

import program
from program import GEMMA, LLAMA, ROOT, ProgramTest

sys.path.insert(0, str(ROOT / "tools"))
import layers_tables  # noqa: E402
import tune_rivals  # noqa: E402
import tune_tables  # noqa: E402

WORDS = ["the", "rain", "in", "ring", "on", "an", "then", "other"]


def told(kl, error=0.01, **more):
    return {"kl_mean": kl, "kl_error": error} | more


class TuneTablesTest(ProgramTest):
    def setUp(self):
        super().setUp()
        work = self.folder / "build"
        work.mkdir()
        (self.folder / "docs").mkdir()
        self.file("docs/tune.head.md", "# Head\n")
        for name, model in [("llama", LLAMA), ("gemma", GEMMA)]:
            (work / f"{name}.gguf").symlink_to(model)
        words = lambda seed: " ".join(WORDS[(i * i * seed + i // 9 + i % 13) % 8] for i in range(900))
        (work / "calibration-c4.txt").write_text("".join(words(seed) + "\n" for seed in range(1, 11)))
        texts = [self.file(f"{seed}.txt", words(seed)) for seed in (3, 5, 7)]
        changed = {"ROOT": self.folder, "WORK": work}
        text = SimpleNamespace(files={"A": texts[1], "B": texts[2]}, prompt=200, score=16)
        for patch in [mock.patch.multiple(layers_tables, LAMINA=program.PROGRAM, **changed),
                      mock.patch.multiple(tune_tables, EVAL_TEXT=texts[0], TEXT=text, **changed),
                      mock.patch.dict(layers_tables.MODELS, {"llama": "Llama", "gemma": "Gemma"}, clear=True)]:
            patch.start()
            self.addCleanup(patch.stop)
        self.args = SimpleNamespace(threads=1, windows=2)
        self.printed = io.StringIO()
        quiet = contextlib.redirect_stderr(self.printed)
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def test_specs_of_the_list_take_what_the_budget_allows(self):
        for model, layers, share in [("llama", 4, 0.6), ("gemma", 7, 0.8)]:
            of = ["-m", layers_tables.model_path(model), "-c", 216, "-n", 16, "-o", "json"]
            most = share * self.json("plan", *of)[0]["kv_bytes"]
            found = tune_rivals.rivals(self.args, model, tune_tables.TEXT, layers, most)
            self.assertEqual(set(found.values()), {"layers", "tokens", "bits"}, model)
            self.assertIn("k4v4 + rotate", found)
            self.assertNotIn("k8v8", found)
            self.assertNotIn("minicache", found)  # which takes more
            self.assertGreaterEqual(sum(axis == "tokens" for axis in found.values()), 5)
            for spec, axis in found.items():
                if axis != "tokens":
                    self.assertLessEqual(self.json("plan", *of, "--kv", spec)[0]["kv_bytes"], most, spec)
            tokens = [spec for spec, axis in found.items() if axis == "tokens"]
            held = tune_rivals.held(self.args, model, tune_tables.TEXT, tokens)
            self.assertLessEqual(max(held), most)
            self.assertGreater(max(held), 0.9 * most)

    def test_a_map_reads_what_its_layers_read(self):
        accepted = [{"layer": 2, "source": 1}, {"layer": 3, "source": 2}, {"layer": 1, "source": 0}]
        path = self.file("map.json", json.dumps({"accepted": accepted}))
        with mock.patch.object(tune_rivals, "strategy", return_value=path):
            self.assertEqual(tune_rivals.maps("llama", 4), ["map(0_1_1_3)", "map(0_1_1_1)", "map(0_0_0_0)"])

    def test_shares_follow_what_is_measured(self):
        plans = {"a": [("a1", 10), ("a2", 20), ("a3", 30), ("a4", 40)], "b": [("b5", 50), ("b6", 60)], "c": [("c8", 80), ("c9", 99)]}
        factor, asked = {"a": 2, "b": 1, "c": 0.5}, []

        def measure(specs):
            asked.append(specs)
            return [int(spec[1]) * 10 * factor[spec[0]] for spec in specs]

        self.assertEqual(set(tune_rivals.sized_methods(plans, 41, measure)), {"a2", "c8"})
        self.assertEqual(asked, [["a4", "b5", "c8"], ["a2"]])

    def test_only_a_certain_loss_is_an_error(self):
        chosen, single = {"kv_spec": "x"}, [{"kv_spec": "y"}, {"kv_spec": "z"}]
        complaint = lambda *kl: tune_tables.complaint(
            chosen, single, {"A": {name: told(value, kv_spec=name) for name, value in zip("xyz", kl, strict=True)}})
        self.assertEqual(complaint(0.1, 0.2, 0.3), [])
        self.assertEqual(complaint(0.1, 0.087, 0.3), [])  # 0.014 is the error of their difference
        self.assertEqual(complaint(0.1, 0.3, 0.085),
                         ["A: KL 0.10000 +- 0.01000 of the choice x, 0.08500 +- 0.01000 of z"])

    def test_the_tables_are_written_before_the_error(self):
        line = ["tune_tables.py", "--only", "llama", "--budgets", "60%", "--windows", "2", "--threads", "1"]
        for beaten in ([], ["A: beaten"]):
            with mock.patch.object(sys, "argv", line), mock.patch.object(tune_tables, "complaint", return_value=beaten):
                if beaten:
                    with self.assertRaisesRegex(SystemExit, "^tune_tables: .*\nLlama, 60%, A: beaten$"):
                        tune_tables.main()
                else:
                    tune_tables.main()
            page = self.folder / "docs/tune.md"
            written = page.read_text()
            page.unlink()
            self.assertTrue(written.startswith("# Head\n\n## Llama\n"), written[:99])
            rows = [row.split(" | ") for row in written.splitlines() if re.match(r"\| \**`", row)]
            self.assertEqual({row[2] for row in rows}, {"tune", "list"})
            self.assertEqual({len(row) for row in rows}, {10})
            self.assertEqual(len({row[0] for row in rows}), len(rows))
            self.assertTrue(rows[0][0].startswith("| **`"))
            self.assertIn(" of the fixed list.", written)


if __name__ == "__main__":
    program.main()
