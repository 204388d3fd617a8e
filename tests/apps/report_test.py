# SPDX-License-Identifier: Apache-2.0
"""lamina plan, bench and tokenize as users call them: what they print can be read by other programs."""

import csv
import html.parser
import io
import json
import math
import tempfile
import unittest
from pathlib import Path

import program
from program import GEMMA, LLAMA, ProgramTest

SPECS = ["full", "f32", "k8v8", "k4v4", "map(0_0_2_2)", "window(window=40)", "streaming(window=40) + k8v4",
         "map(0_0_2_2) + streaming(sinks=2,window=100) + k4v4", "k8v8 + grid(64)", "streaming(window=40) + bf16 + grid(128)"]
# llama-bench's own, those of the JSON that readers of its files look for.
BENCH_KEYS = ["build_commit", "cpu_info", "model_filename", "model_type", "model_size", "model_n_params", "n_batch",
              "n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts",
              "stddev_ts", "samples_ns", "samples_ts", "kv_spec", "kv_bytes"]


class PlanTest(ProgramTest):
    def test_equals_what_is_then_allocated(self):
        for model, specs in [(LLAMA, SPECS), (GEMMA, [s for s in SPECS if "map" not in s])]:
            for length in [1, 33, 300, 512]:
                kv = ["--kv", ";".join(specs), "-o", "json"]
                plans = self.json("plan", "-m", model, "-c", length, *kv)
                runs = self.json("bench", "-m", model, "-p", length, "-n", 0, "-r", 1, *kv)
                self.assertEqual([p["kv_spec"] for p in plans], specs)
                for plan, run in zip(plans, runs, strict=True):
                    same = ["kv_spec", "kv_bytes", "kv_ratio"]
                    self.assertEqual([plan[k] for k in same], [run[k] for k in same], (model, length))
                    self.assertEqual(plan["kv_bytes"], sum(plan[k] for k in ["rows", "scales", "gains", "positions", "slack"]))
                    self.assertGreaterEqual(plan["peak_bytes"], plan["kv_bytes"])
                    if plan["kv_spec"] == "full":
                        self.assertEqual(plan["kv_ratio"], 1.0)

    def test_a_table_by_default(self):
        out = self.ok("plan", "-m", LLAMA, "--kv", "full", "--kv", "k8v8").decode()
        self.assertEqual(len(out.splitlines()), 4)
        self.assertRegex(out.splitlines()[2], r"^ *\d+ +1\.00 .* full$")

    def test_names_what_is_merged_and_what_no_prefix_can_be_used_of(self):
        out = self.ok("plan", "-m", LLAMA, "--kv", "minicache;lckv(w=2)", "--force").decode()
        self.assertRegex(out, r"(?m)^minicache: 2 of 4 layers merged: 2\+3\. ")
        self.assertRegex(out, r"(?m)^map\(0_2_2_3\): no prefix of its cache can be used again: ")
        self.assertRegex(self.last_stderr, r"^map\(0_2_2_3\): the model was not trained for this map")
        minicache, lckv = self.json("plan", "-m", LLAMA, "--kv", "minicache;lckv(w=2)", "--force", "-o", "json")
        self.assertEqual((minicache["merged_layers"], minicache["no_prefix_reuse"]), (2, ""))
        self.assertGreater(minicache["gains"], 0)
        self.assertEqual(lckv["merged_layers"], 0)

    def test_semicolons_part_specs_outside_quotes_only(self):
        for name in ["a;b.json", 'a";b.json', "a\\;b.json", "a b.json"]:
            self.file(name, json.dumps({"schema": "lamina.kvsharer/1", "map": [0, 0, 2, 2]}))
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            spec = f'kvsharer(map="{quoted}")'
            plans = self.json("plan", "-m", LLAMA, "--kv", f"k8v8; {spec};full", "-o", "json", cwd=self.folder)
            self.assertEqual([p["kv_spec"] for p in plans], ["k8v8", spec, "full"])
            self.assertAlmostEqual(plans[1]["kv_ratio"], 2.0)


class BenchTest(ProgramTest):
    def bench(self, output):
        return self.ok("bench", "-m", LLAMA, "-p", "8,16", "-n", 4, "-d", "0,32", "-r", 2, "-t", 1, "--kv",
                       "full;map(0_0_2_2) + k8v8", "-o", output).decode()

    def test_formats_hold_the_same_tests(self):
        rows = json.loads(self.bench("json"))
        tests = [(r["kv_spec"], str(r["n_prompt"]), str(r["n_gen"]), str(r["n_depth"])) for r in rows]
        self.assertEqual(len(set(tests)), 12)
        for row in rows:
            self.assertLessEqual(set(BENCH_KEYS), set(row))
            self.assertEqual(len(row["samples_ns"]), 2)
            self.assertGreater(row["avg_ts"], 0)
        lines = [json.loads(line) for line in self.bench("jsonl").splitlines()]
        self.assertEqual([list(r) for r in lines], [list(r) for r in rows])
        table = list(csv.DictReader(io.StringIO(self.bench("csv"))))
        self.assertEqual([(r["kv_spec"], r["n_prompt"], r["n_gen"], r["n_depth"]) for r in table], tests)
        self.assertEqual(list(table[0]), list(rows[0]))
        markdown = [line.split("|")[1:-1] for line in self.bench("md").splitlines() if line]
        self.assertEqual(len(markdown), 14)
        titles = [cell.strip() for cell in markdown[0]]
        self.assertLessEqual({"model", "size", "params", "backend", "threads", "test", "t/s"}, set(titles))
        names = [row[titles.index("test")].strip() for row in markdown[2:]]
        self.assertEqual(names[:6], ["pp8", "pp16", "tg4", "pp8 @ d32", "pp16 @ d32", "tg4 @ d32"])

    def test_ranges_and_pairs(self):
        line = ["bench", "-m", LLAMA, "-r", 1, "-o", "json"]
        for lists, expected in [
                (["-p", "8-16+4", "-n", 0], [(8, 0), (12, 0), (16, 0)]),
                (["-p", "4-16*2", "-n", 0], [(4, 0), (8, 0), (16, 0)]),
                (["-p", 0, "-n", "1-3"], [(0, 1), (0, 2), (0, 3)]),
                (["-p", 0, "-n", 0, "-pg", "6,2"], [(6, 2)])]:
            self.assertEqual([(r["n_prompt"], r["n_gen"]) for r in self.json(*line, *lists)], expected)
        for bad in [["-p", "8-"], ["-n", "x"], ["-d", "9-3"], ["-p", "1-9+0"], ["-pg", "3"], ["-r", 0], ["-o", "xml"],
                    ["-p", 0, "-n", 0], ["-b", 0], ["-p", ""]]:
            self.refused(2, bad[0] if bad[0] in ("-p", "-n", "-d", "-pg", "-b") else "--", *line, *bad)

    def test_may_pass_the_trained_context_and_says_so(self):
        self.ok("bench", "-m", LLAMA, "-p", 512, "-n", 0, "-r", 1)
        self.assertEqual(self.last_stderr, "")
        self.ok("bench", "-m", LLAMA, "-p", 600, "-n", 0, "-r", 1)
        self.assertRegex(self.last_stderr, r"reach 600 tokens, the model was trained with 512")


    def test_sequences_side_by_side(self):
        line = ["bench", "-m", LLAMA, "-p", 0, "-n", 4, "-d", 64, "-r", 1, "-t", 1, "-o", "json"]
        one, three = self.json(*line, "-np", "1,3")
        self.assertEqual((one["n_parallel"], three["n_parallel"]), (1, 3))
        self.assertEqual(three["kv_bytes"], 3 * one["kv_bytes"])
        self.assertEqual(three["kv_ratio"], one["kv_ratio"])
        self.assertRegex(self.ok(*line[:-2], "-np", 2).decode().splitlines()[2], r"\| +2 \| full \|")

    def test_as_many_sequences_as_a_budget_holds(self):
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text"
            text.write_text("the cat sat on the mat and the dog ate it all up again. " * 60)
            line = ["bench", "-m", LLAMA, "-c", 200, "-n", 8, "-t", 1, "-f", text]
            one = self.json("bench", "-m", LLAMA, "-p", 0, "-n", 8, "-d", 192, "-r", 1, "-o", "json")[0]["kv_bytes"]
            full, pairs, half = self.json(*line, "-o", "json", "--kv-budget", 4 * one, "--kv",
                                          "full;map(0_0_2_2);snapkv(keep=0.25,window=8)")
            self.assertEqual((full["n_parallel"], pairs["n_parallel"]), (4, 8))
            # a quarter of the rows each, but the last prompt needs the room of all of its
            self.assertGreater(half["n_parallel"], 5)
            for row in full, pairs, half:
                self.assertLessEqual(row["kv_bytes"], row["kv_peak_bytes"])
                self.assertLessEqual(row["kv_peak_bytes"], 4 * one)
                self.assertGreater(row["all_bytes_read"], row["kv_bytes_read"])
                self.assertGreater(row["step_int_ops"] + row["step_f32_ops"], 0)
                self.assertAlmostEqual(row["of_bound"], row["median_ts"] / row["bound_ts"], delta=1e-6)
                self.assertAlmostEqual(row["of_full"], row["median_ts"] / full["median_ts"], delta=1e-6)
            rows = self.ok(*line, "--kv-budget", 4 * one).decode().splitlines()
            self.assertRegex(rows[0], "sequences of 200 tokens of .*, the last 8 decoded as one batch, 1 threads")
            self.assertRegex(rows[4], r"^\| full \| +4 \|")
            self.refused(1, "a prompt of 192 tokens under \"full\" takes up to", *line, "--kv-budget", 1000)
            self.refused(1, "-n is 200, expected less than the 200 tokens", *line[:5], "-n", 200, "-f", text, "--kv-budget", 4 * one)
            self.refused(1, "tokens, a sequence has 512", "bench", "-m", LLAMA, "-n", 8, "-f", self.short_text(folder), "--kv-budget", "1MB")
            self.assertIn("pseudo-random", self.ok("bench", "-m", LLAMA, "-n", 2, "-c", 64, "--kv-budget", "1MB").decode())
            self.refused(2, "--parallel excludes --kv-budget", *line, "--kv-budget", 4 * one, "-np", 2)
            self.refused(2, "--file requires --kv-budget", *line)

    @staticmethod
    def short_text(folder):
        path = Path(folder) / "short"
        path.write_text("the cat sat")
        return path


class MachineTest(ProgramTest):
    def test_figures_are_positive(self):
        rows = self.json("bench", "--machine", "-r", 1, "-t", "1,2", "-o", "json")
        self.assertEqual([row["n_threads"] for row in rows], [1, 2])
        for row in rows:
            for key in ["read_bytes_per_s", "f32_ops_per_s", "bf16_ops_per_s", "int8_ops_per_s"]:
                if key != "bf16_ops_per_s" or row[key] is not None:
                    self.assertTrue(0 < row[key] < math.inf, row)
        table = self.ok("bench", "--machine", "-r", 1, "-t", 1).decode().splitlines()
        self.assertRegex(table[-3], r"^\| +threads \| +read GB/s \| +float32 GOP/s \| +bf16 GOP/s \| +int8 GOP/s \|$")
        self.assertRegex(table[-1], r"^\| +1 (\| +([\d.]+|none) ){4}\|$")

    def test_wrong_calls(self):
        self.refused(2, "--output.*\"csv\" is unknown, expected md or json", "bench", "--machine", "-o", "csv")
        self.refused(2, "--model excludes --machine", "bench", "--machine", "-m", LLAMA)
        self.refused(2, "--machine excludes --profile", "bench", "--machine", "--profile")


class ProfileTest(ProgramTest):
    LINE = ["bench", "-m", LLAMA, "--profile", "-p", 24, "-n", 4, "-d", "0,40", "-r", 2, "-t", 1, "--kv", "full;k8v8"]

    def tables(self, out):
        """{title: {operation: {column: cell}}}"""
        tables, titles = {}, []
        for line in out.splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if ". Limits: " in line:
                table = tables[line.split(":")[0]] = {}
            elif cells and cells[0] == "operation":
                titles = cells
            elif cells and not cells[0].startswith("-"):
                table[cells[0]] = dict(zip(titles, cells, strict=True))
        return tables

    def test_each_test_has_its_operations(self):
        tables = self.tables(self.ok(*self.LINE).decode())
        self.assertEqual(list(tables), [f"{test}{depth}, {kv}, 1 thread" for kv in ["full", "k8v8"] for depth in ["", " @ d40"]
                                        for test in ["pp24", "tg4"]])
        for title, table in tables.items():
            steps, layers = (1, 4) if title.startswith("pp") else (4, 4)
            attention = "attention, prompt" if title.startswith("pp") else "attention, decode"
            self.assertEqual(len([name for name in table if name.startswith("attention, ")]), 1)
            for name, calls in [("Q, K, V", layers), (attention, layers), ("gate, up", layers), ("down", layers), ("head", 1),
                                ("commit, encode", 1), ("embedding", 1)]:
                self.assertEqual(table[name]["calls"], str(steps * calls), (title, name))
            self.assertEqual(list(table)[-2:], ["other", "all"])
            self.assertEqual(table["all"]["time"], "100.0 %")
            total = sum(float(row["time"][:-2]) for name, row in table.items() if name != "all")
            self.assertAlmostEqual(total, 100, delta=0.05 * len(table))  # each is rounded to a tenth

    def test_a_page_that_needs_nothing_else(self):
        path = self.folder / "report.html"
        out = self.ok(*self.LINE, "-o", path).decode()
        self.assertEqual(len(self.tables(out)), 8)
        page = path.read_text()
        self.assertEqual([p.name for p in self.folder.iterdir()], ["report.html"])
        self.assertEqual((page.count("<section>"), page.count("<svg"), page.count("<table>")), (8, 16, 8))
        self.assertNotRegex(page, r"https?:|src=|@import|url\(|nan|inf\b")
        parser = PageParser()
        parser.feed(page)
        parser.close()
        self.assertEqual(parser.open, [])

    def test_wrong_calls(self):
        self.refused(2, "--model is required", "bench", "--profile")
        for output in ["json", "report.pdf", "html"]:
            self.refused(2, f"--output.*\"{output}\" is unknown, expected md or FILE.html", *self.LINE, "-o", output)
        self.refused(2, "--output.*\"report.html\" is unknown, expected md, json", "bench", "-m", LLAMA, "-o", "report.html")
        self.refused(1, "missing/report.html: cannot be written", *self.LINE, "-o", self.folder / "missing/report.html")


class PageParser(html.parser.HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise ValueError(f"</{tag}> at {self.getpos()}")


class TokenizeTest(ProgramTest):
    def test_ids_and_pieces(self):
        ids = self.json("tokenize", "-m", LLAMA, "-p", "<|im_start|>the", "--ids")
        self.assertEqual(ids, [1, 119, 260])
        plain = self.json("tokenize", "-m", LLAMA, "-p", "<|im_start|>the", "--ids", "--no-parse-special")
        self.assertEqual((len(plain), plain[-2:]), (14, ids[1:]))
        lines = self.ok("tokenize", "-m", LLAMA, "-p", "<|im_start|>the").decode().splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], ids)
        self.assertEqual([json.loads(line.split(None, 1)[1]) for line in lines], ["<|im_start|>", "t", "he"])

    def test_bos_where_the_model_asks_for_it(self):
        with_bos = self.json("tokenize", "-m", GEMMA, "-p", "the", "--ids")
        self.assertEqual(with_bos, [2, *self.json("tokenize", "-m", GEMMA, "-p", "the", "--ids", "--no-bos")])

    def test_any_bytes(self):
        for model in [LLAMA, GEMMA]:
            for text in [b"\xff\xfe", b"a\x00b", b"\xe2\x82", "日本語 🙂".encode()]:
                path = self.file("text", text)
                self.assertGreater(len(self.json("tokenize", "-m", model, "-f", path, "--ids")), 0)
                self.ok("tokenize", "-m", model, "-f", path).decode()  # valid UTF-8


class HelpTest(ProgramTest):
    def test_each_command_explains_its_options(self):
        model = ["--model", "--ctx-size", "--batch-size", "--threads", "--force", "--kv", "--cache-type-k", "--cache-type-v"]
        sampling = ["--predict", "--seed", "--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty",
                    "--ignore-eos", "--prompt", "--file"]
        for command, options in [
                ([], ["run", "chat", "plan", "bench", "eval", "doctor", "tokenize"]), (["run"], model + sampling),
                (["chat"], model + sampling + ["--system-prompt", "--chat-template-file"]), (["plan"], model + ["--output"]),
                (["bench"], ["--n-prompt", "--n-gen", "--n-depth", "--repetitions", "--prompt-gen", "--kv",
                             "--threads", "--output", "--parallel", "--kv-budget", "--machine", "--profile"]),
                (["compare"], model + ["--suite", "--budget", "--data", "--file", "--results", "--output",
                                      "Example: lamina compare -m MODEL.gguf", "50%, 33%, 25%, 12%"]),
                (["eval"], ["ppl", "passkey", "choice", "retrieval", "generate"]),
                (["eval", "ppl"], model + ["--windows", "--first", "--prompt", "--score", "--base", "--save-base", "--base-file",
                                           "--output"]),
                (["doctor"], ["--model", "--batch-size", "--threads", "--kv", "--output"]),
                (["tokenize"], ["--model", "--prompt", "--file", "--ids", "--no-parse-special"])]:
            for flag in ["-h", "--help"]:
                out = self.ok(*command, flag).decode()
                for option in options:
                    self.assertIn(option, out)


if __name__ == "__main__":
    program.main()
