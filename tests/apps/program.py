# SPDX-License-Identifier: Apache-2.0
"""What the tests of the program share: calls of it, tiny models and broken copies of them."""

import json
import re
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/golden/tiny"
LLAMA, GEMMA = TINY / "llama-gqa.gguf", TINY / "gemma3.gguf"  # both trained with 512 tokens of context
SECONDS = 120  # the longest that a call may take, with sanitizers on a busy machine


def call(*args, stdin=b"", stdout=subprocess.PIPE, cwd=None):
    """Runs the program. Arguments may be bytes, paths or numbers."""
    line = [PROGRAM, *[a if isinstance(a, bytes) else str(a) for a in args]]
    return subprocess.run(line, input=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=cwd, timeout=SECONDS, check=False)


def start(*args, **more):
    return subprocess.Popen([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def sanitized():
    """Whether the program was built with sanitizers: then it takes ten times as long."""
    return b"__asan_init" in subprocess.run(["nm", PROGRAM], stdout=subprocess.PIPE, check=True).stdout


class ProgramTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def ok(self, *args, **more):
        """stdout of a call that must succeed, quietly: a pipe gets no progress and no control characters."""
        done = call(*args, **more)
        self.assertEqual(done.returncode, 0, (args, done))
        self.assertNotRegex(done.stderr, rb"[\x00-\x09\x0b-\x1f\x7f]", args)
        self.last_stderr = done.stderr.decode()
        return done.stdout

    def json(self, *args, **more):
        return json.loads(self.ok(*args, **more))

    def refused(self, status, pattern, *args, **more):
        """A call that must fail with this status and one line that holds the pattern."""
        with self.subTest(args=args):
            done = call(*args, **more)
            self.assertEqual(done.returncode, status, done)
            self.assert_error_line(done.stderr)
            self.assertRegex(done.stderr.decode(errors="replace"), re.compile(pattern))

    def assert_error_line(self, stderr):
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 1, stderr)
        self.assertTrue(lines[0].startswith(b"lamina: "), stderr)
        self.assertLess(len(lines[0]), 1000, stderr)


# ---- tiny models, changed ---------------------------------------------------------------------------------------------


def spelled(text):
    """A string as GGUF holds it."""
    return struct.pack("<Q", len(text)) + text.encode()


def replaced(model, old, new):
    """The model's bytes with one of them changed; both as long, for the offsets to stay right."""
    content = model.read_bytes()
    assert len(old) == len(new) and content.count(old) == 1, (model, old, content.count(old))
    return content.replace(old, new)


def patched(model, at, new):
    """The model's bytes with those from `at` on overwritten."""
    content = bytearray(model.read_bytes())
    content[at:at + len(new)] = new
    return bytes(content)


def tensor_at(model, name):
    """Where a tensor's number of dimensions stands: dimensions of 8 bytes, the type and the offset follow."""
    return model.read_bytes().index(spelled(name)) + 8 + len(name)


def value_at(model, key):
    """Where the value of a key stands, after its type."""
    return model.read_bytes().index(spelled(key)) + 8 + len(key) + 4


def main():
    """Runs the tests and prints the closing lines that ./dev counts, in GoogleTest's form."""
    global PROGRAM
    PROGRAM = str(Path(sys.argv.pop(1)).resolve())
    result = unittest.main(module="__main__", exit=False, verbosity=2).result
    skipped, failed = len(result.skipped), len({t.id().split(" ")[0] for t, _ in result.failures + result.errors})
    print(f"[==========] {result.testsRun} tests ran.")
    print(f"[  PASSED  ] {result.testsRun - skipped - failed} tests.")
    if skipped:
        print(f"[  SKIPPED ] {skipped} tests")
    if failed:
        print(f"[  FAILED  ] {failed} tests")
    sys.exit(0 if result.testsRun and not failed else 1)
