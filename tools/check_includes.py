#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the direction of includes: a folder of src/ sees only the folders named here.

Also that every quoted include names a file of src/ (or apps/, from there), from the folder's root.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "base": set(),
    "kernels": {"base"},
    "kv": {"base", "kernels"},
    "text": {"base"},
    "model": {"base", "kernels", "text"},
    "attention": {"base", "kernels", "kv"},
    "engine": {"base", "kernels", "kv", "text", "model", "attention"},
}
# The forward pass is where the model meets the cache: the only files of model/ that see both.
FILES = {name: FOLDERS["model"] | {"kv", "attention"} for name in ("model/forward.h", "model/forward.cpp")}
# Headers of plain values that both sides of a border must agree on: the layout of a tile, and what a model file says of
# its rope and its rows.
VALUES = {
    "kernels/attend.h": {"kv/bits/format.h"},
    "model/config.h": {"attention/rope.h", "kv/types.h"},
    "model/token_classes.h": {"kv/types.h"},
    "model/hf_config.cpp": {"kv/layers/layer_map.h"},  # the grammar of layer_types
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def problems(path, top):
    """One line for each include of the file that is not allowed."""
    name = path.relative_to(top).as_posix()
    folder = name.split("/")[0]
    allowed = set(FOLDERS) if top.name == "apps" else FILES.get(name, FOLDERS[folder]) | {folder}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match[1]
        where = f"{path.relative_to(ROOT)}:{number}: \"{target}\""
        if top.name == "apps" and (top / target).is_file():
            continue
        if not (ROOT / "src" / target).is_file():
            yield f"{where} is no file of src/"
        elif target.split("/")[0] not in allowed and target not in VALUES.get(name, ()):
            yield f"{where}: {folder} may include only {', '.join(sorted(allowed))}"


def main():
    found = []
    for top in (ROOT / "src", ROOT / "apps"):
        for path in sorted(top.rglob("*")):
            if path.suffix not in (".h", ".cpp"):
                continue
            if top.name == "src" and path.relative_to(top).parts[0] not in FOLDERS:
                found.append(f"{path.relative_to(ROOT)}: folder is not in tools/check_includes.py")
                continue
            found += problems(path, top)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
