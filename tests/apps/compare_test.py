# SPDX-License-Identifier: Apache-2.0
"""lamina compare: its results can be relied on whatever ends it. Its page: compare_page_test.py."""

import json
import os
import pty
import random
import re
import resource
import signal
import subprocess
import time

import program
from program import GEMMA, LLAMA, ProgramTest

SPECS = ["k8v8", "window(window=40)", "map(0_0_2_2) + k4v4", "adakv(keep=0.25) + k8v4"]
AXES = {"full": set(), "k8v8": {"bits"}, "window(window=40)": {"tokens"}, "map(0_0_2_2) + k4v4": {"layers", "bits"},
        "adakv(keep=0.25) + k8v4": {"tokens", "bits"}}
MEASUREMENTS = ["perplexity", "cache", "choice.arc_easy", "generation.text"]


def question(number):
    choices = [{"text": f"answer {number + i}", "label": "ABCD"[i]} for i in range(4)]
    return {"id": str(number), "question": {"stem": f"What is {number}?", "choices": choices}, "answerKey": "B"}


class CompareTest(ProgramTest):
    def setUp(self):
        super().setUp()
        (self.folder / "data/arc").mkdir(parents=True)
        self.items = self.file("data/arc/ARC-Easy-Dev.jsonl", "".join(json.dumps(question(i)) + "\n" for i in range(6)))
        words = random.Random(5)
        text = " ".join(words.choice(["the", "time", "of", "a", "river", "stone.", "Some", "light,", "house"])
                        for _ in range(1200))
        self.file("text.txt", text)

    def line(self, *more, model=LLAMA, specs=SPECS, output="report.json", text="text.txt", data="data"):
        return ["compare", "-m", model, "-f", self.folder / text, "--data", self.folder / data, "-o",
                self.folder / output, *[part for spec in specs for part in ("--kv", spec)], *more]

    def results(self, name="report.jsonl"):
        """The lines of a file of results without what they took."""
        lines = [json.loads(line) for line in (self.folder / name).read_text().splitlines()]
        for line in lines:
            del line["timing"]
        return lines


class ResultsTest(CompareTest):
    def test_every_measurement_of_every_spec(self):
        out = self.ok(*self.line("-t", 2)).decode().splitlines()
        self.assertEqual([row.split("  ")[-1] for row in out], ["kv", "full", *SPECS])
        self.assertRegex(self.last_stderr, r"^\S+/report\.json: the report\. \S+/report\.jsonl: the lines [^\n]*\n$")
        report = json.loads((self.folder / "report.json").read_text())
        self.assertEqual([spec["kv_spec"] for spec in report["specs"]], ["full", *SPECS])
        for spec in report["specs"]:
            self.assertLessEqual(set(MEASUREMENTS), set(spec["values"]))
            self.assertTrue(any(name.startswith("speed.") for name in spec["timing"]))
            self.assertEqual(set(spec["values"]), set(report["specs"][0]["values"]))
            cache = spec["values"]["cache"]
            self.assertEqual(cache["kv_bytes"], sum(cache[part] for part in ["rows", "scales", "gains", "positions",
                                                                            "mass", "slack"]))
            saved = {axis: cache[f"saved_by_{axis}"] for axis in ["layers", "tokens", "bits"]}
            self.assertEqual(cache["dense_bytes"], cache["kv_bytes"] + sum(saved.values()) - cache["overhead"])
            self.assertEqual(cache["dense_bytes"], report["specs"][0]["values"]["cache"]["kv_bytes"])
            self.assertEqual({axis for axis, bytes in saved.items() if bytes}, AXES[spec["kv_spec"]])
        full, k8v8, window, *_ = (spec["values"] for spec in report["specs"])
        self.assertEqual((full["perplexity"]["kl_mean"], full["generation.text"]["same"]), (0, 1))
        self.assertGreater(k8v8["perplexity"]["kl_mean"], 0)
        self.assertLess(k8v8["cache"]["kv_bytes"], full["cache"]["kv_bytes"])
        self.assertLess(window["perplexity"]["kept_fraction"], 0.5)
        of_model = report["of_model"]["values"]
        self.assertEqual(len(of_model["model.layers"]["distances"]), 4)
        self.assertEqual([len(row) for row in of_model["model.attention"]["first"]], [4] * 4)
        for shares in zip(*(sum(of_model["model.attention"][part], []) for part in ["first", "between", "local"])):
            self.assertAlmostEqual(sum(shares), 1, delta=1e-5)

    def test_the_same_in_every_run_and_for_any_number_of_threads(self):
        self.ok(*self.line("-t", 1))
        self.ok(*self.line("-t", 2, output="again.json"))
        self.assertEqual(self.results(), self.results("again.jsonl"))

    def test_eval_gives_the_same_figures(self):
        self.ok(*self.line("-t", 1))
        ppl = self.json("eval", "ppl", "-m", LLAMA, "-f", self.folder / "text.txt", "--prompt", 256, "--score", 64, "--windows", 4,
                        "--base", "full", "--kv", "k8v8", "-o", "json")
        found = next(r for r in self.results() if (r["kv_spec"], r["measurement"]) == ("k8v8", "perplexity"))["values"]
        for name in ["perplexity", "kl_mean", "kl_p99", "top1_agreement", "kl_by_position", "kv_bytes", "kept_fraction"]:
            self.assertEqual(found[name], ppl[name], name)

    def test_without_data(self):
        measured = {r["measurement"] for r in self.without_data()}
        self.assertEqual(set(MEASUREMENTS) - measured, {"choice.arc_easy"})

    def test_specs_of_a_budget(self):
        self.ok(*self.line("--budget", 25, "-t", 2, specs=[]))
        specs = [spec["kv_spec"] for spec in json.loads((self.folder / "report.json").read_text())["specs"]]
        self.assertEqual(specs[0], "full")
        self.assertGreaterEqual(len(specs), 3)
        for plan in self.json("plan", "-m", LLAMA, "-c", 256, "--kv", ";".join(specs[1:]), "-o", "json"):
            self.assertTrue(4 <= plan["kv_ratio"] < 6, plan)
        content = (self.folder / "report.jsonl").read_bytes()
        self.ok(*self.line("--budget", "25%", "-t", 2, specs=[]))
        self.assertEqual((self.folder / "report.jsonl").read_bytes(), content)

    def test_says_which_specs_of_a_budget_are_left_out(self):
        self.ok(*self.line("--budget", 50, "-t", 2, specs=[]))
        lines = [line for line in self.last_stderr.splitlines() if line.startswith("left out, ")]
        self.assertGreater(len(lines), 0)
        for line in lines:
            self.assertRegex(line, r" of 50 %: it takes at least 5\d\.\d % of the dense cache's bytes after 320 tokens$")

    def test_where_the_usual_folder_of_data_is_not(self):
        self.ok("compare", "-m", LLAMA, "-f", "text.txt", "--kv", "k8v8", cwd=self.folder)
        self.assertRegex(self.last_stderr, r"^left out, there is no folder \.\./shared/data: tasks on "
                         r"arc/ARC-Easy-Dev\.jsonl; --data DIR names a folder that has them\n")
        self.assertEqual(self.results(), self.without_data())

    def without_data(self):
        """The same as --data none."""
        self.ok("compare", "-m", LLAMA, "--data", "none", "-f", self.folder / "text.txt", "--kv", "k8v8", "-o",
                self.folder / "none.json")
        return self.results("none.jsonl")

    def test_goes_on_where_it_was_killed(self):
        start = time.monotonic()
        self.ok(*self.line("-t", 2, output="whole.json"))
        seconds = time.monotonic() - start
        chance, lines = random.Random(3), set()
        for _ in range(3 if program.sanitized() else 10):
            run = program.start(*self.line("-t", 2))
            time.sleep(seconds * chance.uniform(0.1, 0.6))
            run.send_signal(signal.SIGKILL)
            run.communicate()
            path = self.folder / "report.jsonl"
            lines.add(path.read_bytes().count(b"\n") if path.exists() else 0)
            self.assertFalse((self.folder / "report.json").exists() and len(lines) == 1)
        self.ok(*self.line("-t", 2))
        self.assertGreater(len(lines), 1)  # it was killed at work
        self.assertEqual(self.results(), self.results("whole.jsonl"))

    def test_ctrl_c_leaves_what_was_measured(self):
        run = program.start(*self.line("-t", 1))
        path = self.folder / "report.jsonl"
        while not path.exists() or not path.read_bytes():
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=program.SECONDS)
        self.assertEqual(run.returncode, 130, stderr)
        self.assertRegex(stderr, rb"^lamina: error: interrupted; what was measured is in .*report.jsonl, the same command")
        begun = path.read_bytes()
        self.ok(*self.line("-t", 1))
        self.assertTrue(path.read_bytes().startswith(begun))

    def test_tells_a_terminal_how_far_it_is(self):
        main, side = pty.openpty()
        with subprocess.Popen([program.PROGRAM, *map(str, self.line("-t", 1))], stdout=subprocess.DEVNULL,
                              stderr=side) as run:
            os.close(side)
            shown = b""
            while True:
                try:
                    shown += os.read(main, 4096)
                except OSError:  # the program has ended
                    break
        os.close(main)
        self.assertEqual(run.returncode, 0)
        self.assertRegex(shown, rb"compare \d+/\d+ [a-z.]+[^\r]* \d:\d\d left")

    def test_a_torn_line_is_dropped_and_measured_again(self):
        self.ok(*self.line("-t", 1))
        path, whole = self.folder / "report.jsonl", self.results()
        content = path.read_bytes()
        for cut in [1, 40, len(content.splitlines()[-1])]:
            path.write_bytes(content[:-cut])
            self.ok(*self.line("-t", 1))
            self.assertEqual(self.results(), whole)

    def test_what_is_measured_is_not_measured_again(self):
        self.ok(*self.line("-t", 1, specs=SPECS[:1]))
        content = (self.folder / "report.jsonl").read_bytes()
        page = (self.folder / "report.json").read_bytes()
        self.ok(*self.line("-t", 2, specs=SPECS[:1]))
        self.assertEqual((self.folder / "report.jsonl").read_bytes(), content)
        self.assertEqual((self.folder / "report.json").read_bytes(), page)
        self.ok(*self.line("-t", 1, specs=SPECS[:2]))  # one more
        self.assertTrue((self.folder / "report.jsonl").read_bytes().startswith(content))
        self.assertEqual({r["kv_spec"] for r in self.results()} - {"fastgen", "minicache", "snapkv(window=64)"},
                         {"full", *SPECS[:2]})


class BadInputTest(CompareTest):
    def test_results_of_something_else(self):
        self.ok(*self.line("-t", 1, specs=["k8v8"]))
        path = self.folder / "report.jsonl"
        content = path.read_bytes()
        again = self.line("-t", 1, specs=["k8v8"])
        for pattern, other in [
                ("line 1: \"model", self.line(model=GEMMA, specs=["k8v8"])),
                ("line 1: \"suite\" is \"quick\", this run's is \"full\"", self.line("--suite", "full", "-c", "256")),
                ("line 1: \"data\" is", self.line("-c", "256", specs=["k8v8"]))]:
            if "full" in other:
                for name in ["arc/ARC-Challenge-Dev.jsonl", "piqa/valid.jsonl", "winogrande/winogrande_dev_sample1000.jsonl"]:
                    (self.folder / "data" / name).parent.mkdir(exist_ok=True)
                self.file("data/arc/ARC-Challenge-Dev.jsonl", self.items.read_bytes())
                self.file("data/piqa/valid.jsonl", "".join(
                    json.dumps({"goal": f"g{i}", "sol1": "a b", "sol2": "c d", "label": 1}) + "\n" for i in range(6)))
                self.file("data/winogrande/winogrande_dev_sample1000.jsonl", "".join(
                    json.dumps({"context_options": ["x is", "y is"], "continuation": "z", "gold": 0}) + "\n"
                    for i in range(6)))
            self.refused(1, r"report\.jsonl: " + pattern, *other)
        for pattern, old, new in [(r"line 2: \"version\" is \"0.0\"", rb'"version":"[^"]*"', b'"version":"0.0"'),
                                  ("line 2: \"machine\"", rb'"machine":"[^"]*"', b'"machine":"other"')]:
            lines = content.splitlines(keepends=True)
            lines[1] = re.sub(old, new, lines[1])
            path.write_bytes(b"".join(lines))
            self.refused(1, pattern, *again)
            self.assertEqual(path.read_bytes(), b"".join(lines))

    def test_files_that_are_no_results(self):
        path = self.folder / "report.jsonl"
        for content, pattern in [(b"notes", "line 1: this is no line of compare's results"),
                                 (b"{}\n", "line 1: \"schema\""), (b"[1]\n", "line 1: not a JSON object"),
                                 (b"{\"schema\":\"lamina.compare/9\"}\n", "line 1: \"schema\" is"),
                                 (b"x\n", "line 1: not JSON"), (b"\xff\xfe\n", "line 1: not JSON")]:
            path.write_bytes(content)
            self.refused(1, r"report\.jsonl: " + pattern, *self.line())
            self.assertEqual(path.read_bytes(), content)
        path.unlink()
        path.mkdir()
        self.refused(1, r"report\.jsonl: ", *self.line())
        self.refused(1, "/dev/full: not a regular file", *self.line("--results", "/dev/full"))

    def test_values_that_somebody_edited(self):
        line = self.line("-t", 1, specs=["k8v8"], output="report.html")
        self.ok(*line)
        path = self.folder / "report.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertTrue({"generation.text", "model.layers", "model.minicache"} <= {one["measurement"] for one in lines})
        for one in lines:
            if one["kv_spec"] != "full" or one["measurement"].startswith("retrieval"):
                continue
            for values in [{}, *[{**one["values"], key: value} for key in one["values"] for value in (0, [{}], [[0.5]])]]:
                path.write_text("".join(json.dumps({**two, "values": values} if two is one else two) + "\n" for two in lines))
                done = program.call(*line)
                with self.subTest(values=values, measurement=one["measurement"], done=done):
                    self.assertIn(done.returncode, [0, 1])
                    if done.returncode:
                        self.assert_error_line(done.stderr)
                        self.assertRegex(done.stderr.decode(), rf'report.jsonl: {one["measurement"]} of .*: "\w+" is .*, expected')
        path.write_text("".join(json.dumps({**one, "values": {}}) + "\n" for one in lines))
        self.refused(1, r'report.jsonl: \S+ of .*: "\w+" is missing, expected', *line)

    def test_where_a_report_cannot_be(self):
        (self.folder / "folder.html").mkdir()
        self.refused(1, "folder.html: cannot be written: it is a folder, expected a file", *self.line(output="folder.html"))
        self.assertEqual(self.results("folder.jsonl"), [])  # said before anything was measured
        same = self.folder / "report.json"
        self.refused(1, "report.json: is to be both the report and its --results", *self.line("--results", same))
        self.refused(2, "--results: the value is empty", *self.line("--results", ""))

    def test_wrong_calls_and_data(self):
        self.refused(2, "--suite", *self.line("--suite", "slow"))
        self.refused(2, "report.pdf\" is unknown, expected FILE.html or FILE.json", *self.line(output="report.pdf"))
        for share in ["40", "25 %", "25%%", "-25", "0.25", "025", "", "6MiB", "\n"]:
            self.refused(2, r"--budget.* is unknown, expected one of 50%, 33%, 25%, 12% ", *self.line("--budget", share, specs=[]))
        self.refused(2, "--kv", *self.line("--budget", "50"))
        self.refused(1, "nowhere/arc/ARC-Easy-Dev.jsonl: there is no such file; --data",
                     *self.line(data="nowhere"))
        self.refused(1, "there is no text to measure on: -f TEXT, or --data DIR, a folder that has wikitext-2/valid.txt$",
                     "compare", "-m", LLAMA, "--data", "none", "-o", self.folder / "report.html")
        self.refused(1, "there is no text to measure on: -f TEXT, or --data DIR, a folder that has wikitext-2/valid.txt, "
                     "prose/tiny_stories.txt, arc/ARC-Easy-Dev.jsonl; ../shared/data is not there$", "compare", "-m", LLAMA,
                     cwd=self.folder)
        self.refused(1, "missing.txt", *self.line(text="missing.txt"))
        self.refused(1, "no/such/report.jsonl: cannot be written", *self.line(output="no/such/report.html"))
        self.items.write_text(json.dumps(question(0)) + "\n{\"question\": 1}\n")
        self.refused(1, r"ARC-Easy-Dev\.jsonl: line 2", *self.line())

    def test_a_full_disk_leaves_what_was_there(self):
        self.ok(*self.line("-t", 1, specs=["k8v8"]))
        report, results = self.folder / "report.json", self.folder / "report.jsonl"
        page, whole = report.read_bytes(), self.results()
        lines = results.read_bytes().splitlines(keepends=True)
        for kept, limit in [(len(lines), 1000), (3, sum(map(len, lines[:3])) + 50)]:
            results.write_bytes(b"".join(lines[:kept]))

            def small_disk():
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

            done = subprocess.run([program.PROGRAM, *map(str, self.line("-t", 1, specs=["k8v8"]))], capture_output=True,
                                  preexec_fn=small_disk, restore_signals=False, check=False)
            self.assertEqual(done.returncode, 1, done)
            self.assert_error_line(done.stderr)
            self.assertRegex(done.stderr, rb"report\.jsonl?: cannot be written: File too large")
            self.assertEqual(report.read_bytes(), page)
            self.assertEqual(results.read_bytes(), b"".join(lines[:kept]))
        self.ok(*self.line("-t", 1, specs=["k8v8"]))
        self.assertEqual(self.results(), whole)


if __name__ == "__main__":
    program.main()
