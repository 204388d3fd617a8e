# SPDX-License-Identifier: Apache-2.0
"""Processes that hold a peer with its model loaded and measure on command, a line of JSON each way. All but the one that
measures are stopped, so that no idle thread of theirs takes time from another."""
import ctypes
import json
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def one_line(error):
    return " ".join(str(error).split())[:300] or type(error).__name__


class Worker:
    """The parent's side."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=file, text=True)

    def ask(self, request):
        """The answer; {"error": …} if the process has ended."""
        try:
            os.kill(self.process.pid, signal.SIGCONT)
            print(json.dumps(request), file=self.process.stdin, flush=True)
            if line := self.process.stdout.readline():
                os.kill(self.process.pid, signal.SIGSTOP)
                return json.loads(line)
        except (BrokenPipeError, ProcessLookupError):
            pass
        return {"error": f"the process ended with status {self.process.wait()}; see {self.log}"}

    def close(self):
        self.process.kill()
        self.process.wait()


def serve(measure):
    """The child's side: measure(request) answers until the parent closes the pipe or dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    for line in sys.stdin:
        try:
            answer = measure(json.loads(line))
        except Exception as error:  # a configuration that a peer refuses is a result
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=answers, flush=True)
