# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium without a screen, driven through a pipe (its DevTools protocol): pages of files, nothing else."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time

SECONDS = 60  # the longest that an answer may take


class Browser:
    def __init__(self):
        program = shutil.which("chromium")
        if program is None:
            raise FileNotFoundError("chromium is missing: ./dev setup installs it")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # helpers of it may still write
        commands, self.commands = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        self.answers, answers = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
        line = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                f"--user-data-dir={self.folder.name}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", *line], pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        os.set_blocking(self.answers, False)
        self.read, self.number, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        self.folder.cleanup()

    def open(self, path, width, height=900):
        """Loads a file in a window of this size. What it tells meanwhile is in self.events."""
        self.events = []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait(lambda: any(e["method"] == "Page.loadEventFired" for e in self.events))

    def problems(self):
        """What the page has complained of, and what it wanted from elsewhere."""
        found = []
        for event in self.events:
            what = event["params"]
            if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(what)
            if event["method"] == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
                found.append(what)
            if event["method"] == "Network.requestWillBeSent" and not what["request"]["url"].startswith("file:"):
                found.append(what["request"]["url"])
        return found

    def run(self, script):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def key(self, name):
        """A key that is pressed: "Tab", "Enter"."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[name]
        more = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def prefer(self, scheme, media=""):
        """A light or dark scheme; of "screen" or "print", or what the browser has."""
        self.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        """The whole page as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        self.answer = None
        self.wait(lambda: self.answer is not None)
        if "error" in self.answer:
            raise RuntimeError(f"{method}: {self.answer['error']}")
        return self.answer["result"]

    def wait(self, is_done):
        end = time.monotonic() + SECONDS
        while not is_done():
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"chromium does not answer; its status is {self.process.poll()}")
            try:
                self.read += os.read(self.answers, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
            *messages, self.read = self.read.split(b"\0")
            for message in map(json.loads, messages):
                if message.get("id") == self.number:
                    self.answer = message
                elif "method" in message:
                    self.events.append(message)
