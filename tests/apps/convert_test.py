# SPDX-License-Identifier: Apache-2.0
"""lamina convert: what it makes runs, what it refuses leaves nothing behind."""

import json
import os
import resource
import signal
import unittest

import program
from program import GEMMA, LLAMA, ROOT, ProgramTest

SMOLLM = ROOT / "models/smollm2.gguf"
FOLDER = ROOT / "tests/golden/hf/llama"
CONVERT = ["convert", "lckv"]


class ConvertTest(ProgramTest):
    def convert(self, source, text, *args):
        return self.ok(*CONVERT, "--from", source, "--map", text, "-o", self.folder / "out", *args).decode()

    def types(self):
        return json.loads((self.folder / "out/config.json").read_text())["layer_types"]

    def test_says_what_it_did(self):
        out = self.convert(LLAMA, "0_2_2_3")
        self.assertEqual(self.last_stderr, "")
        for line in ["layer 2: K and V are the mean of layers 1 2\n", "3 of 4 layers have K and V: 192 bytes a token in f16\n",
                     "parameters 0.05 M -> 0.05 M; model.safetensors ", " in F32\n", "until it is fine-tuned"]:
            self.assertIn(line, out)

    def test_the_result_runs_its_own_map_without_force(self):
        for source in [LLAMA, FOLDER]:
            self.convert(source, "lckv(w=2)", "--dtype", "f16")
            self.assertEqual(self.types(), "0_2_2_3")
            text = self.ok("run", "-m", self.folder / "out", "-p", "in the rain", "-n", 20, "-s", 1, "--ignore-eos")
            self.assertIn('kv "full"', self.last_stderr)
            self.assertGreater(len(text), 5)
            (plan,) = self.json("plan", "-m", self.folder / "out", "-c", 64, "-o", "json")
            self.assertEqual(plan["rows"], 64 * 192)
            program.subprocess.run(["rm", "-r", self.folder / "out"], check=True)

    def test_maps_by_name(self):
        for text, types in [("0_1_2_3", "0_1_2_3"), ("0_1s_3s_3", "0_1s_3s_3"), ("cla(2)", "0_0_2_2"),
                            ("yoco(window=8)", "0s_1s_2_2"), ("map(0_2_2_3,m=3,b=1)", "0_2_2_3"),
                            ("sandwich(kv=2,target=bottom)", "0_1_1_1"), ("full", "0_1_2_3")]:
            out = self.convert(FOLDER, text)
            self.assertEqual(self.types(), types)
            self.assertEqual("fine-tuned" in out, types != "0_1_2_3", out)
            config = json.loads((self.folder / "out/config.json").read_text())
            self.assertEqual(config["sliding_window"], 8 if text.startswith("yoco") else 4096)
            self.assertEqual([config["forward_passes"], config["backward_passes"]], [3, 1] if "m=3" in text else [7, 2])
            program.subprocess.run(["rm", "-r", self.folder / "out"], check=True)

    def test_bad_maps(self):
        for text, pattern in [("0_2_2", "3 items.*4 layers"), ("0_2_2_4", "4"), ("0_1t_2_3", "0_1t_2_3"), ("_0_1_2", "_0"),
                              ("-1_0_1_2", "-1"), ("", "map"), ("lckw(w=2)", "did you mean lckv"), ("lckv(w=9)", "9"),
                              ("k8v8", "--map is"), ("lckv(w=2) + k8v8", "--map is"), ("minicache(start=0)", "--map is"),
                              ("kvsharer(map=none.json)", "none.json")]:
            self.refused(1, pattern, *CONVERT, "--from", LLAMA, "--map", text, "-o", self.folder / "out")
        self.assertEqual(os.listdir(self.folder), [])

    def test_usage(self):
        self.refused(2, "--map is required", *CONVERT, "--from", LLAMA, "-o", self.folder / "out")
        self.refused(2, "--output is required", *CONVERT, "--from", LLAMA, "--map", "full")
        self.refused(2, "--dtype", *CONVERT, "--from", LLAMA, "--map", "full", "-o", "x", "--dtype", "q8_0")
        self.refused(2, "subcommand is required", "convert")

    def test_sources_and_folders_that_are_refused(self):
        here = [*CONVERT, "--map", "full", "-o", self.folder / "out", "--from"]
        self.refused(1, "gemma3", *here, GEMMA)
        self.refused(1, "lckv-llama", *here, ROOT / "tests/golden/hf/lckv-cyclic")
        self.refused(1, "rope_freqs", *here, program.TINY / "llama-rope-llama3.gguf")
        self.refused(1, "No such file", *here, self.folder / "none.gguf")
        self.assertEqual(os.listdir(self.folder), [])
        self.file("file", "x")
        line = [*CONVERT, "--map", "full", "--from", LLAMA, "-o"]
        self.refused(1, "exists", *line, self.folder)
        self.refused(1, "exists", *line, self.folder / "file")
        self.refused(1, "Not a directory", *line, self.folder / "file/out")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_a_disk_that_is_full_leaves_nothing(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))

        running = program.start(*CONVERT, "--from", LLAMA, "--map", "full", "-o", self.folder / "out", preexec_fn=limit)
        out, err = running.communicate(timeout=program.SECONDS)
        self.assertEqual((running.returncode, out), (1, b""), err)
        self.assert_error_line(err)
        self.assertIn(b"model.safetensors: cannot be written: File too large", err)
        self.assertEqual(os.listdir(self.folder), [])

    @unittest.skipUnless(SMOLLM.exists(), "models/smollm2.gguf is not there (./dev model smollm2)")
    def test_a_real_model_keeps_its_ids_and_with_the_identity_its_text(self):
        self.convert(SMOLLM, "full")
        for line in [["tokenize", "--ids", "-p", "Ünïcode 日本 12345 <|im_start|>x\n\n  y"],
                     ["run", "-p", "The capital of France is", "-n", 9, "--temp", 0, "-c", 256]]:
            before, after = (self.ok(line[0], "-m", m, *line[1:]) for m in [SMOLLM, self.folder / "out"])
            self.assertEqual(before, after)


if __name__ == "__main__":
    program.main()
