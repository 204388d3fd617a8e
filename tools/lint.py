#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on the .cpp files of the named folders, several at once, remembering what was clean.

A file is skipped while its text, the project headers that it includes, its compile command, .clang-tidy and the
clang-tidy version are what they were when it passed; build/lint-cache holds one empty file for each such state.
"""
import argparse
import concurrent.futures
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
CACHE = ROOT / "build/lint-cache"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def with_headers(path, seen):
    """The file and all project headers that it reaches, in seen."""
    if path in seen:
        return seen
    seen.add(path)
    for target in INCLUDE.findall(path.read_text()):
        for folder in (path.parent, ROOT / "src", ROOT / "tests", ROOT / "apps"):
            if (folder / target).is_file():
                with_headers((folder / target).resolve(), seen)
                break
    return seen


def state(path, command, tool):
    digest = hashlib.sha256(f"{tool}\n{command}\n".encode())
    for file in sorted(with_headers(path, {ROOT / ".clang-tidy"})):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def tidy(path, marker):
    """(clean, what clang-tidy wrote, seconds)"""
    start = time.monotonic()
    run = subprocess.run(["clang-tidy", "-p", BUILD, "--quiet", path], capture_output=True, text=True)
    if run.returncode == 0:
        marker.touch()
    output = run.stdout if run.stdout.strip() or run.returncode == 0 else run.stderr
    return run.returncode == 0, output, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()

    commands = {Path(c["file"]): c["command"] for c in json.loads((BUILD / "compile_commands.json").read_text())}
    wanted = sorted(p for folder in args.folders for p in (ROOT / folder).rglob("*.cpp"))
    orphans = [str(p.relative_to(ROOT)) for p in wanted if p not in commands]
    if orphans:
        sys.exit(f"lint: not in CMakeLists.txt: {', '.join(orphans)}")

    CACHE.mkdir(parents=True, exist_ok=True)
    tool = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    markers = {path: CACHE / state(path, commands[path], tool) for path in wanted}
    todo = [path for path in wanted if not markers[path].exists()]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        results = {pool.submit(tidy, path, markers[path]): path for path in todo}
        for done in concurrent.futures.as_completed(results):
            clean, output, seconds = done.result()
            failed += not clean
            print(f"lint: {results[done].relative_to(ROOT)}: {'clean' if clean else 'FAILED'}, {seconds:.1f} s")
            if not clean:
                print(output)
    print(f"lint: {len(wanted)} files, {len(todo)} checked now, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
