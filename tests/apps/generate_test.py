# SPDX-License-Identifier: Apache-2.0
"""lamina run and lamina chat as users call them: text on stdout, figures on stderr, and what Ctrl-C does."""

import signal
import struct
import time
import unittest

import program
from program import GEMMA, LLAMA, ROOT, ProgramTest

SMOLLM, GEMMA3 = ROOT / "models/smollm2.gguf", ROOT / "models/gemma3.gguf"
SPECS = ["full", "k8v8", "streaming(sinks=4,window=16) + k4v4", "map(0_0_2_2) + window(window=20) + k8v4"]


class RunTest(ProgramTest):
    def test_text_depends_on_the_seed_and_not_on_threads(self):
        for spec in SPECS:
            line = ["run", "-m", LLAMA, "-p", "in the rain", "-n", 60, "--ignore-eos", "--kv", spec]
            one = self.ok(*line, "-s", 7, "-t", 1)
            self.assertGreater(len(one), 20)
            self.assertEqual(one, self.ok(*line, "-s", 7, "-t", 2), spec)
            self.assertEqual(one, self.ok(*line, "-s", 7), spec)
            self.assertNotEqual(one, self.ok(*line, "-s", 8, "-t", 1), spec)

    def test_a_random_seed_is_reported_and_repeats_the_text(self):
        line = ["run", "-m", LLAMA, "-p", "the", "-n", 40, "--ignore-eos"]
        for seed in [[], ["-s", -1]]:
            text = self.ok(*line, *seed)
            reported = self.last_stderr.rsplit("seed ", 1)[1].strip()
            self.assertEqual(text, self.ok(*line, "-s", reported))
        self.assertEqual(self.ok(*line, "-s", 2**64 - 1), self.ok(*line, "-s", 2**64 - 1))

    def test_greedy_text_does_not_depend_on_the_batch_nor_on_who_gives_the_prompt(self):
        text = "the then in an on the ring " * 12
        path = self.file("prompt.txt", text)
        for model in [LLAMA, GEMMA]:
            for spec in SPECS[:3]:
                line = ["run", "-m", model, "-n", 40, "--ignore-eos", "--kv", spec]
                greedy = [*line, "--temp", 0]
                whole = self.ok(*greedy, "-p", text, "-b", 512)
                for batch in [1, 7]:
                    self.assertEqual(whole, self.ok(*greedy, "-p", text, "-b", batch), (spec, batch))
                self.assertEqual(whole, self.ok(*greedy, "-f", path))
                self.assertEqual(whole, self.ok(*greedy, "-f", "-", stdin=text.encode()))
                self.assertEqual(whole, self.ok(*line, "--top-k", 1, "--temp", 5, "-p", text))

    def test_stdout_has_the_text_only_and_stderr_the_figures(self):
        text = self.ok("run", "-m", LLAMA, "-p", "the", "-n", 5, "-s", 1, "--ignore-eos").decode()
        self.assertTrue(text.endswith("\n"))
        self.assertNotIn("generated", text)
        self.assertRegex(self.last_stderr, r'^prompt \d+ tokens, .* generated 5, .* kv "full" holds .*; seed 1\n$')
        self.assertEqual(self.ok("run", "-m", LLAMA, "-p", "the", "-n", 0), b"\n")

    def test_ignore_eos_goes_on_after_the_end_of_generation(self):
        line = ["run", "-m", LLAMA, "-p", "the", "-n", 50, "--logit-bias", "2+1000"]  # nothing but the end
        self.assertEqual(self.ok(*line), b"\n")
        self.assertIn("generated 0,", self.last_stderr)
        self.ok(*line, "--ignore-eos")
        self.assertIn("generated 50,", self.last_stderr)

    def test_generation_stops_where_the_context_is_full(self):
        self.ok("run", "-m", LLAMA, "-p", "ab", "-c", 10, "--ignore-eos")
        self.assertIn("context of 10 tokens is full", self.last_stderr)
        self.assertIn("generated 9,", self.last_stderr)

    def test_cache_types_are_aliases_of_bits_terms(self):
        for types, spec in [(["-ctk", "q8_0", "-ctv", "q4_0"], "k8v4"), (["-ctk", "q8_0"], "k8v16"),
                            (["-ctk", "bf16", "-ctv", "bf16"], "bf16"), (["-ctv", "q8_0"], "k16v8"),
                            (["-ctk", "f16", "-ctv", "f16"], "full")]:
            line = ["run", "-m", LLAMA, "-p", "the", "-n", 30, "--temp", 0]
            self.assertEqual(self.ok(*line, *types), self.ok(*line, "--kv", spec))
            self.assertIn(f'kv "{spec}"', self.last_stderr)
            (plan,) = self.json("plan", "-m", LLAMA, *types, "-o", "json")
            self.assertEqual(plan["kv_spec"], spec)
        (plan,) = self.json("plan", "-m", LLAMA, "--kv", "window(window=9)", "-ctk", "q4_0", "-ctv", "q4_0", "-o", "json")
        self.assertEqual(plan["kv_spec"], "window(window=9) + k4v4")

    def test_options_have_llama_cpp_names(self):
        short = ["run", "-m", LLAMA, "-p", "the", "-n", 9, "-c", 64, "-b", 8, "-t", 1, "-s", 3]
        long = ["run", "--model", LLAMA, "--prompt", "the", "--predict", 9, "--ctx-size", 64, "--batch-size", 8,
                "--threads", 1, "--seed", 3, "--cache-type-k", "f16", "--cache-type-v", "f16"]
        sampling = ["--temp", 0.7, "--top-k", 30, "--top-p", 0.9, "--min-p", 0.01, "--repeat-penalty", 1.1,
                    "--repeat-last-n", 32, "--presence-penalty", 0.1, "--frequency-penalty", 0.1, "--ignore-eos"]
        self.assertEqual(self.ok(*short, *sampling), self.ok(*long, *sampling))

    def test_any_bytes_are_a_prompt(self):
        for model in [LLAMA, GEMMA]:
            for prompt in [b"\xff\xfe\x80", b"\xf0\x9f\x98", b"a\x00b\x01\x7f", b"\r\n\t", " \u200b\u202e".encode(), b"x" * 300]:
                path = self.file("bytes", prompt)
                for command in ["run", "chat"]:
                    if command == "chat" and model == GEMMA:
                        continue  # has no template
                    self.ok(command, "-m", model, "-f", path, "-n", 3, "-s", 1)
                    self.assertIn("generated 3", self.last_stderr)

    @unittest.skipUnless(SMOLLM.exists(), "models/smollm2.gguf is not there (./dev model smollm2)")
    def test_smollm2_answers(self):
        self.answer(SMOLLM, " Paris.\n\nThe answer is:")

    @unittest.skipUnless(GEMMA3.exists(), "models/gemma3.gguf is not there (./dev model gemma3)")
    def test_gemma3_answers(self):
        self.answer(GEMMA3, " the capital of the country of France. It")

    def answer(self, model, expected):
        for spec in ["full", "k8v8"]:
            text = self.ok("run", "-m", model, "-p", "The capital of France is", "-n", 9, "--temp", 0, "-c", 256, "--kv", spec)
            self.assertTrue(text.decode().startswith(expected), (spec, text))


class ChatTest(ProgramTest):
    def chat(self, text, *args):
        return self.ok("chat", "-m", LLAMA, "-n", 4, "-s", 5, *args, stdin=text.encode())

    def cache_lengths(self, out):
        return [int(line.split()[1]) for line in out.decode(errors="replace").splitlines() if line.startswith("tokens ")]

    def test_one_shot_answers_once(self):
        line = ["chat", "-m", LLAMA, "-n", 20, "-s", 5, "--ignore-eos"]
        text = self.ok(*line, "-p", "the rain")
        self.assertGreater(len(text), 5)
        self.assertEqual(text, self.ok(*line, "-p", "the rain", "-t", 1))
        self.assertEqual(text, self.ok(*line, "-f", "-", stdin=b"the rain"))
        prompt = "<|im_start|>user\nthe rain<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual(text, self.ok("run", *line[1:], "-p", prompt))
        system = "<|im_start|>system\nin the<|im_end|>\n"
        expected = self.ok("run", *line[1:], "-p", system + prompt)
        for option in ["-sys", "--system-prompt"]:
            self.assertEqual(expected, self.ok(*line, option, "in the", "-p", "the rain"))

    def test_turns_share_the_cache_and_reset_empties_it(self):
        out = self.chat("the rain\n/kv\nin the ring\n/kv\n/reset\n/kv\nthe rain\n/kv\n")
        first, second, after_reset, again = self.cache_lengths(out)
        self.assertEqual((after_reset, again), (0, first))
        self.assertGreater(second, first + 10)
        self.assertNotIn("reading the conversation anew", self.last_stderr)

    def test_a_reset_conversation_is_a_new_one(self):
        line = ["--repeat-penalty", 2, "--temp", 2]
        once = self.chat("the rain\nin the ring\n", *line)
        self.assertEqual(once * 2, self.chat("the rain\nin the ring\n/reset\nthe rain\nin the ring\n", *line))

    def test_kv_shows_the_three_axes(self):
        spec = "map(0_0_2_2) + streaming(window=16) + k8v8"
        out = self.chat("the rain in the ring\n/kv\n", "--kv", spec).decode(errors="replace")
        for line in [f"kv      {spec}\n", "layers  2 of 4 hold rows\n", "bits    8 for keys, 8 for values\n"]:
            self.assertIn(line, out)
        self.assertRegex(out, r"tokens  \d+ in the text, \d+\.\d % of their rows kept\n")
        total, *parts = map(int, program.re.search(
            r"bytes   (\d+) = rows (\d+) \+ scales (\d+) \+ gains (\d+) \+ positions (\d+) \+ mass (\d+) \+ slack (\d+)",
            out).groups())
        self.assertEqual(total, sum(parts))
        self.assertGreater(min(total, parts[0], parts[1], parts[3]), 0)

    def test_messages_of_several_lines(self):
        one = self.cache_lengths(self.chat("in\nquotes\n/kv\n"))  # two messages
        for text in ["in\\\nquotes\n/kv\n", '"""\nin\nquotes\n"""\n/kv\n']:
            out = self.chat(text)
            expected = len(self.json("tokenize", "-m", LLAMA, "--ids", "-p",
                                     "<|im_start|>user\nin\nquotes<|im_end|>\n<|im_start|>assistant\n"))
            self.assertEqual(self.cache_lengths(out), [expected + 4], text)
            self.assertLess(expected + 4, one[0])

    def test_commands(self):
        self.chat("/what\n\n")
        self.assertIn("unknown command /what", self.last_stderr)
        self.assertEqual(self.chat(""), b"")
        self.assertEqual(self.chat("/exit\n/kv\n"), b"")

    def test_templates_of_files(self):
        cases = [("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
                 ("a\nb {% include 'x' %}", r"(?s)line 2.*include|include.*line 2"), ("{% if %}", "line 1"),
                 ("{{ messages[0].content", "line 1"), ("", "empty")]
        for text, expected in cases:
            path = self.file("template.jinja", text)
            self.refused(1, expected, "chat", "-m", LLAMA, "-p", "x", "--chat-template-file", path)
        path = self.file("template.jinja", "{{ messages[0].content }}")
        self.assertEqual(self.ok("chat", "-m", LLAMA, "-p", "the", "-n", 9, "-s", 1, "--chat-template-file", path),
                         self.ok("run", "-m", LLAMA, "-p", "the", "-n", 9, "-s", 1))

    def test_a_model_without_a_template(self):
        model = self.file("plain.gguf", program.replaced(LLAMA, b"tokenizer.chat_template", b"tokenizer.that_template"))
        self.refused(1, "plain.gguf.*no chat template", "chat", "-m", model, "-p", "x")

    @unittest.skipUnless(SMOLLM.exists(), "models/smollm2.gguf is not there (./dev model smollm2)")
    def test_a_real_model_remembers_the_turn_before(self):
        out = self.ok("chat", "-m", SMOLLM, "--temp", 0, "-n", 24, "-c", 512,
                      stdin=b"What is the capital of France?\nAnd what country did I ask about?\n").decode()
        self.assertIn("Paris", out.splitlines()[0])
        self.assertIn("France", " ".join(out.splitlines()[1:]))


class InterruptTest(ProgramTest):
    def setUp(self):
        super().setUp()
        # A text that goes on for minutes.
        at = program.value_at(LLAMA, "llama.context_length")
        self.model = self.file("long.gguf", program.patched(LLAMA, at, struct.pack("<I", 1 << 20)))

    def interrupt(self, running):
        running.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, err = running.communicate(timeout=program.SECONDS)
        self.assertLess(time.monotonic() - begin, 60)  # of the minutes that it would take; sanitizers on a busy machine
        return out, err

    def test_run_ends_with_the_text_so_far_and_the_figures(self):
        running = program.start("run", "-m", self.model, "-p", "the", "--ignore-eos", "-s", 1)
        first = running.stdout.read(100)
        out, err = self.interrupt(running)
        self.assertEqual(running.returncode, 130, err)
        self.assertTrue((first + out).endswith(b"\n"))
        self.assertRegex(err, rb"^prompt .* generated \d+")

    def test_measurements_end_without_a_result(self):
        text = self.file("text.txt", "in the rain " * 200000)
        for line in [["bench", "-m", self.model, "-p", 1000000, "-n", 0, "-o", "json"],
                     ["eval", "ppl", "-m", self.model, "-f", text, "-c", 500000, "--windows", 1, "-o", "json"]]:
            running = program.start(*line, "-b", 32)  # between steps it ends: short ones, on a busy machine too
            time.sleep(2)
            self.assertIsNone(running.poll())
            _, err = self.interrupt(running)
            self.assertEqual(running.returncode, 130, err)
            self.assertIn(b"interrupted", err)

    def test_chat_drops_a_message_that_was_not_read_to_its_end(self):
        # A turn before it makes sure that the program is there; a slow prompt leaves time to stop it.
        long = "the rain in the ring on " * 25000
        running = program.start("chat", "-m", self.model, "-n", 3, "-s", 1, "-b", 64, stdin=program.subprocess.PIPE)
        running.stdin.write(b"the\n/kv\n")
        running.stdin.flush()
        self.read_until(running, b"ratio ")
        running.stdin.write(long.encode() + b"\n")
        running.stdin.flush()
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(b"/kv\n", timeout=program.SECONDS)
        self.assertEqual(running.returncode, 0, err)
        self.assertIn(b"tokens  0 in the text", out)

    def read_until(self, running, first):
        while not running.stdout.readline().startswith(first):
            self.assertIsNone(running.poll())

    def test_chat_ends_the_answer_and_then_the_conversation(self):
        running = program.start("chat", "-m", self.model, "--ignore-eos", "-s", 1, stdin=program.subprocess.PIPE)
        running.stdin.write(b"the rain\n")
        running.stdin.flush()
        running.stdout.read(100)
        running.send_signal(signal.SIGINT)
        running.stdin.write(b"/kv\n")
        running.stdin.flush()
        self.read_until(running, b"ratio ")
        self.interrupt(running)  # while it waits for a message
        self.assertEqual(running.returncode, 130)


if __name__ == "__main__":
    program.main()
