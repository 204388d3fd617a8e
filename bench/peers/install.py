# SPDX-License-Identifier: Apache-2.0
"""Peers from the Python package registry into build/peers/venv, and the files that they read. What is there is kept."""
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build/peers"
PYTHON = WORK / "venv/bin/python"
# Raise these when newer ones come. llama.cpp is compiled here, for this processor.
PACKAGES = {
    "llama.cpp": ["llama-cpp-python==0.3.36"],
    "OpenVINO": ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0"],
}
PROGRAMS = {"llama.cpp": HERE / "llama_peer.py", "OpenVINO": HERE / "openvino_peer.py"}
CHECK = """
import sys, importlib.metadata as installed
for package in sys.argv[1:]:
    name, version = package.split("==")
    assert installed.version(name) == version
"""


def fail(message):
    sys.exit(f"peers: {message}")


def say(message):
    print(f"peers: {message}", file=sys.stderr, flush=True)


def run(command, what, env=None):
    """A command with its output in a log; what it was for and its last line if it fails."""
    log = WORK / "install.log"
    with open(log, "w") as file:
        status = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=file,
                                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}).returncode
    if status != 0:
        lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        fail(f"{what} failed with status {status}: {lines[-1] if lines else 'no output'} (all of it: {log})")


def install(peer):
    if not PYTHON.exists():
        try:
            venv.create(WORK / "venv", with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            fail("cannot make a virtual environment: is python3-venv installed?")
    packages = PACKAGES[peer]
    if subprocess.run([PYTHON, "-c", CHECK, *packages], stderr=subprocess.DEVNULL).returncode == 0:
        return
    say(f"installing {' '.join(packages)}{', which takes minutes' if peer == 'llama.cpp' else ''}")
    run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-binary=llama-cpp-python", *packages],
        f"installing {peer}", {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF",
         "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())})


def model_file(model, quantisation):
    """The file as it came, or made from it."""
    source = ROOT / f"models/{model}.gguf"
    if not source.exists():
        fail(f"{source.relative_to(ROOT)} is missing: ./dev model {model}")
    if quantisation == "same file":
        return source
    target = WORK / f"{model}-{quantisation}.gguf"
    if not target.exists():
        install("llama.cpp")
        say(f"writing {target.name}")
        part = target.with_suffix(".part")
        run([PYTHON, PROGRAMS["llama.cpp"], "quantize", source, part, quantisation], f"writing {target.name}")
        part.rename(target)
    return target
