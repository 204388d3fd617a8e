# SPDX-License-Identifier: Apache-2.0
"""Bad input to every command: one line that names what is wrong, status 1, or 2 for a wrong command line. Never a crash."""

import json
import random
import struct

import program
from program import GEMMA, LLAMA, ProgramTest, patched, replaced, tensor_at, value_at

RUN = ["run", "-m", LLAMA, "-n", 4, "-s", 1]


class CommandLineTest(ProgramTest):
    def test_usage(self):
        for pattern, line in [
                ("subcommand is required", []), ("subcommand.*foo", ["foo"]), ("--model is required", ["run", "-p", "x"]),
                ("--model is required", ["plan"]), ("--model is required", ["bench"]),
                ("--model is required", ["tokenize", "-p", "x"]),
                ("--bogus", [*RUN, "-p", "x", "--bogus"]), ("--modle", ["run", "--modle", LLAMA, "-p", "x"]),
                ("--system-prompt", [*RUN, "-p", "x", "-sys", "y"]), ("--prompt or --file", RUN),
                ("--prompt or --file", ["tokenize", "-m", LLAMA]),
                ("--prompt excludes --file", [*RUN, "-p", "x", "-f", LLAMA]),
                ("--prompt excludes --file", ["tokenize", "-m", LLAMA, "-p", "x", "-f", LLAMA]),
                ("--prompt", [*RUN, "-p", "x", "-p", "y"])]:
            self.refused(2, pattern, *line)

    def test_numbers(self):
        line = ["run", "-m", LLAMA, "-p", "x"]
        for pattern, option, values in [
                ("--predict", "-n", ["x", "1.5", "-2", "", "99999999999"]), ("--ctx-size", "-c", ["-1", "x", "99999999999"]),
                ("--batch-size", "-b", ["0", "-1", "x"]), ("--threads", "-t", ["-1", "2000", "x"]),
                ("--seed", "-s", ["-2", "x", "1.5", "18446744073709551616", ""]), ("--temp", "--temp", ["x", ""]),
                ("--top-k", "--top-k", ["x"]), ("--logit-bias", "--logit-bias", ["abc", "5", "5+1x", "+1"])]:
            for value in values:
                self.refused(2, pattern, *line, option, value)

    def test_sampling_out_of_range(self):
        for pattern, option, values in [
                ("temperature", "--temp", ["-1", "nan", "inf"]), ("top_p", "--top-p", ["-0.1", "1.5", "nan"]),
                ("min_p", "--min-p", ["-0.1", "1.5"]), ("top_k", "--top-k", ["-1"]),
                ("penalty", "--repeat-penalty", ["0", "-1", "nan"]),
                ("token 271 is not in the vocabulary of 271", "--logit-bias", ["271+1"]), ("-5", "--logit-bias", ["-5+1"]),
                ("nan", "--logit-bias", ["5+nan"])]:
            for value in values:
                self.refused(1, pattern, "run", "-m", LLAMA, "-p", "x", f"{option}={value}")


class SpecTest(ProgramTest):
    def test_specs_that_do_not_parse_or_fit(self):
        for pattern, spec in [
                ("empty", ""), ("empty", "full;"), ("did you mean streaming", "streming"), ("a multiple of its group", "kivi4(group=64,residual=96)"),
                ("2 specs, expected one", "full;k8v8"), ("layer 3 reads layer 9, the model has layers 0..3", "map(0_1_2_9)"),
                ("above it.*not trained", "map(0_3_2_3)"), ("2 items, the model has 4 layers", "map(0_1)"),
                ("map", "map(0_x_2_3)"), ("map", "map"),
                ("two bits terms", "k8v8 + k4v4"), ("window", "window(window=0)"), ("window", "window(windw=9)"),
                ("twice", "window(window=4,window=5)"),
                ("two token terms", "window(window=9) + streaming(window=9)"), ("grid", "grid(0)"),
                ("full stands", "full + k8v8"),
                ("UTF-8", b"k8v8\xff"),
                ("quotes", 'kvsharer(map="x'), ("missing.json: cannot open", "kvsharer(map=missing.json)"),
                ("kvsharer", "kvsharer"), ("control character", "k8v8\n")]:
            for line in [[*RUN, "-p", "x"], ["plan", "-m", LLAMA], ["chat", "-m", LLAMA, "-p", "x"], ["bench", "-m", LLAMA]]:
                if pattern != "2 specs, expected one" or line[0] in ("run", "chat"):
                    self.refused(1, pattern, *line, "--kv", spec)
        self.refused(1, "2 specs, expected one", *RUN, "-p", "x", "--kv", "full", "--kv", "k8v8")

    def test_cache_types(self):
        for pattern, types in [
                ('"q9_0" is unknown', ["-ctk", "q9_0"]), ("do not go together", ["-ctk", "bf16", "-ctv", "q8_0"]),
                ("two bits terms", ["-ctk", "q8_0", "--kv", "k4v4"])]:
            self.refused(1, pattern, *RUN, "-p", "x", *types)

    def test_strategy_files(self):
        def own(**fields):
            return json.dumps({"schema": "lamina.kvsharer/1", **fields})
        for pattern, content in [
                ("empty", ""), ("not JSON at byte", "{"), ("not JSON at byte", b"\xff\xfe\x00"), ("", "[]"),
                ("schema", json.dumps({"schema": "x"})), ("map", own()),
                ("array of 2", own(map=[0, 1])), (r"map\[3\]", own(map=[0, 0, 2, 9])), (r"map\[1\]", own(map=[0, 2, 2, 3])),
                (r"map\[1\]", own(map=[0, "a", 2, 3])), (r"map\[2\]", own(map=[0, 0, 1, 3])),
                ("model.layers", own(map=[0, 0, 2, 2], model={"layers": 5})),
                ("twice", '{"schema":"lamina.kvsharer/1","map":[0,1,2,3],"map":[0,0,2,2]}')]:
            path = self.file("strategy.json", content)
            self.refused(1, f"strategy.json.*{pattern}", *RUN, "-p", "x", "--kv", f"kvsharer(map={path})")
        self.refused(1, "not a regular file", *RUN, "-p", "x", "--kv", f"kvsharer(map={self.folder})")


class PromptTest(ProgramTest):
    def test_prompts(self):
        empty, long = self.file("empty.txt", ""), self.file("long.txt", "ab" * 300)
        for command in ["run", "chat", "tokenize"]:
            for pattern, prompt in [
                    ("--prompt is empty", ["-p", ""]), ("empty.txt: empty", ["-f", empty]), ("stdin: empty", ["-f", "-"]),
                    ("missing.txt: cannot open: No such file", ["-f", "missing.txt"]),
                    ("empty or cannot be read", ["-f", self.folder])]:
                self.refused(1, pattern, command, "-m", LLAMA, *prompt)
        self.refused(1, r"600 tokens, 512 of 512 positions", *RUN, "-f", long)
        self.refused(1, r"3 tokens, 2 of 2 positions", *RUN, "-p", "abc", "-c", 2)
        self.refused(1, r"tokens, 512 of 512 positions", "chat", "-m", LLAMA, "-f", long)

    def test_context_beyond_the_trained_one(self):
        for line in [[*RUN, "-p", "x"], ["chat", "-m", LLAMA, "-p", "x"], ["plan", "-m", LLAMA]]:
            self.refused(1, "--ctx-size is 513, the model was trained with 512", *line, "-c", 513)


class OutputTest(ProgramTest):
    def test_a_full_disk(self):
        text = self.file("text.txt", "in the rain " * 100)
        for line in [[*RUN, "-p", "x", "--ignore-eos"], ["chat", "-m", LLAMA, "-p", "x"],
                     ["plan", "-m", LLAMA], ["plan", "-m", LLAMA, "-o", "json"],
                     ["tokenize", "-m", LLAMA, "-p", "x"], ["tokenize", "-m", LLAMA, "-p", "x", "--ids"],
                     *[["bench", "-m", LLAMA, "-p", 4, "-n", 2, "-r", 1, "-o", o] for o in ["md", "csv", "json", "jsonl"]],
                     *[["eval", "ppl", "-m", LLAMA, "-f", text, "-c", 32, "--windows", 1, "-o", o] for o in ["text", "json"]]]:
            with open("/dev/full", "wb") as full:
                self.refused(1, "No space left on device", *line, stdout=full)


class ModelFileTest(ProgramTest):
    COMMANDS = [["run", "-p", "x", "-n", 2, "-s", 1, "-m"], ["plan", "-m"], ["bench", "-p", 4, "-n", 1, "-r", 1, "-m"],
                ["tokenize", "-p", "x", "-m"], ["chat", "-p", "x", "-n", 2, "-m"]]

    def test_no_model(self):
        for command in self.COMMANDS:
            for pattern, content in [
                    ("empty", b""), ("GGUF", b"hello, this is no model" * 9), ("", b"GGUF"),
                    ("", b"GGUF\x03\0\0\0" + b"\xff" * 16),
                    ("version", b"GGUF\x63\0\0\0" + b"\0" * 64)]:
                path = self.file("model.gguf", content)
                self.refused(1, f"model.gguf.*{pattern}", *command, path)
            self.refused(1, "missing.gguf: cannot open: No such file", *command, "missing.gguf")
            self.refused(1, "config.json: cannot open", *command, self.folder)

    def test_truncated(self):
        content = LLAMA.read_bytes()
        for size in [1, 7, 23, 24, 40, 200, 1000, 5000, 9000, 11000, 12000, 20000, 100000, len(content) - 4]:
            path = self.file("cut.gguf", content[:size])
            for command in self.COMMANDS[:1 if size % 1000 else 5]:
                self.refused(1, "cut.gguf", *command, path)

    def test_lying(self):
        def tensor(name, offset, form, value):
            return patched(LLAMA, tensor_at(LLAMA, name) + offset, struct.pack(form, value))

        def key(name, form, value):
            return patched(LLAMA, value_at(LLAMA, name), struct.pack(form, value))
        arch = replaced(LLAMA, program.spelled("general.architecture") + struct.pack("<I", 8) + program.spelled("llama"),
                        program.spelled("general.architecture") + struct.pack("<I", 8) + program.spelled("lemur"))
        for pattern, content in [
                ("lemur.*llama", arch),
                ("blk.1.ffn_up.weight", replaced(LLAMA, b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 4, "<Q", 31)),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 4, "<Q", 1 << 60)),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 0, "<I", 9)),
                ("blk.1.ffn_up.weight.*99", tensor("blk.1.ffn_up.weight", 20, "<I", 99)),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 20, "<I", 12)),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 24, "<Q", 1 << 40)),
                ("blk.1.ffn_up.weight", tensor("blk.1.ffn_up.weight", 24, "<Q", 33)),
                ("block_count|blk", key("llama.block_count", "<I", 5)),
                ("block_count", key("llama.block_count", "<I", 0)),
                ("8388610 heads of", key("llama.attention.head_count", "<I", 8388610)),
                ("head_count_kv is 3", key("llama.attention.head_count_kv", "<I", 3)),
                ("head_count", key("llama.attention.head_count", "<I", 0)),
                ("context_length", key("llama.context_length", "<I", 0)),
                ("embedding_length|token_embd", key("llama.embedding_length", "<I", 64)),
                ("tokenizer.ggml.bos_token_id", key("tokenizer.ggml.bos_token_id", "<I", 9999)),
                ("tokenizer.ggml.tokens", replaced(LLAMA, b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenX")),
                ("tokenizer.ggml.pre", replaced(LLAMA, program.spelled("gpt-2"), program.spelled("gpt-9")))]:
            path = self.file("lying.gguf", content)
            self.refused(1, pattern, "run", "-p", "x", "-n", 2, "-m", path)

    def test_weights_that_are_not_numbers(self):
        content = LLAMA.read_bytes()
        path = self.file("nan.gguf", content[:-20000] + b"\xff" * 20000)  # of output.weight, the last tensor
        text = self.file("text.txt", "in the rain " * 100)
        for line in [["run", "-p", "x"], ["run", "-p", "x", "--temp", 0], ["chat", "-p", "x"],
                     ["eval", "ppl", "-f", text, "-c", 32, "--windows", 1]]:
            self.refused(1, "nan|not finite|not of finite", *line, "-m", path)
        for behind in (60000, 100000, 150000):  # of other tensors
            path = self.file("nan.gguf", content[:-behind] + b"\xff" * 64 + content[64 - behind:])
            self.refused(1, "nan.gguf.*finite", "run", "-p", "x", "-m", path)

    def test_random_damage_never_crashes(self):
        chance = random.Random(1)
        for model in [LLAMA, GEMMA]:
            content, header = model.read_bytes(), model.read_bytes().index(b"blk.0") + 4000
            for _ in range(60):
                broken = bytearray(content)
                for _ in range(chance.choice([1, 1, 3])):
                    broken[chance.randrange(header)] = chance.choice([0, 1, 0x7f, 0x80, 0xff, chance.randrange(256)])
                path = self.file("broken.gguf", bytes(broken))
                done = program.call("run", "-m", path, "-p", "the", "-n", 2, "-s", 1)
                with self.subTest(done=done):
                    self.assertIn(done.returncode, [0, 1])
                    if done.returncode:
                        self.assert_error_line(done.stderr)


if __name__ == "__main__":
    program.main()
