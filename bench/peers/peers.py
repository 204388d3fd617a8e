# SPDX-License-Identifier: Apache-2.0
"""The peers' configurations, and the processes that measure them: one for each file, which every configuration shares."""
import json

from install import PROGRAMS, PYTHON, WORK, model_file
from worker import Worker


def llama_configurations(figure):
    """The cache's types and flash attention; of prompts also longer batches. Quantised values want flash attention."""
    batches = [512] if figure.kind != "prefill" or figure.tokens <= 512 else [512, 2048]
    for file in ["same file", "Q4_0", "Q8_0"]:
        for flash, cache in [(False, "f16"), (True, "f16"), (True, "q8_0"), (True, "q4_0")]:
            for batch in batches if cache == "f16" else batches[:1]:
                name = f"flash {'on' if flash else 'off'}, {cache} cache" + (f", batch {batch}" if batch != 512 else "")
                yield file, name, {"flash": flash, "cache": cache, "batch": batch}


def openvino_configurations(figure):
    """Paged attention is the default, with a cache of 8 bits."""
    del figure
    for file in ["same file", "Q4_0"]:
        yield file, "default", {}
        yield file, "f16 cache", {"KV_CACHE_PRECISION": "f16"}
        yield file, "u4 cache", {"KEY_CACHE_PRECISION": "u4", "VALUE_CACHE_PRECISION": "u4"}
        yield file, "SDPA", {"ATTENTION_BACKEND": "SDPA"}


CONFIGURATIONS = {"llama.cpp": llama_configurations, "OpenVINO": openvino_configurations}


class Peer:
    def __init__(self, system, model, cells, threads):
        self.system, self.model = system, model
        self.settings = {"model": model, "cells": cells, "threads": threads}
        self.workers = {}  # by file
        self.about = None

    def configurations(self, figure):
        return list(CONFIGURATIONS[self.system](figure))

    def worker(self, file):
        if file not in self.workers:
            settings = json.dumps({**self.settings, "file": str(model_file(self.model, file))})
            log = WORK / f"{self.system}-{self.model}-{file}.log".replace(" ", "-")
            self.workers[file] = Worker([PYTHON, PROGRAMS[self.system], settings], log)
            self.about = self.about or self.workers[file].ask({"kind": "about"}).get("about")
        return self.workers[file]

    def measure(self, figure, file, options):
        return self.worker(file).ask({"kind": figure.kind, "tokens": figure.tokens, "depth": figure.depth,
                                      "options": options})

    def close(self):
        for worker in self.workers.values():
            worker.close()
