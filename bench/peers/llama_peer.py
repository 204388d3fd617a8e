# SPDX-License-Identifier: Apache-2.0
"""llama.cpp, by the low-level functions of llama-cpp-python: what is timed is llama_decode alone. Runs in the peers'
environment, started by run.py; as a program of its own it writes a file in another quantisation:

    llama_peer.py quantize FROM TO Q4_0|Q8_0
"""
import importlib.metadata
import json
import os
import sys
import time

import llama_cpp
import numpy

from figures import WARM_UP, random_tokens
from worker import serve

TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0, "q4_0": llama_cpp.GGML_TYPE_Q4_0}
QUANTISATIONS = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}


def quantize(source, target, name):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = QUANTISATIONS[name]
    params.allow_requantize = True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), params) != 0:
        sys.exit(f"llama_peer: cannot write {target} as {name}")


class Context:
    """One context of a model. Its cache keeps what was read last, which a deep figure starts from."""

    def __init__(self, model, settings, options):
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = settings["cells"]
        params.n_batch = params.n_ubatch = options["batch"]
        params.n_seq_max = params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = settings["threads"]
        params.flash_attn_type = int(options["flash"])  # 0: off, 1: on
        params.type_k = params.type_v = TYPES[options["cache"]]
        params.swa_full = False  # layers with a window keep their window only: faster
        self.context = llama_cpp.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("llama_init_from_model refuses this configuration")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.windowed = llama_cpp.llama_model_n_swa(model) > 0
        self.batch = llama_cpp.llama_batch_init(options["batch"], 0, 1)
        self.most = options["batch"]
        self.tokens = random_tokens(settings["model"], settings["cells"]).astype(numpy.int32)
        self.length = 0

    def cut(self, length):
        if length == 0:
            llama_cpp.llama_memory_clear(self.memory, False)
        elif not llama_cpp.llama_memory_seq_rm(self.memory, 0, length, -1):
            raise RuntimeError("llama_memory_seq_rm cannot cut the cache")
        self.length = length

    def step(self, count, logits):
        """The next tokens; logits of the last of them."""
        batch = self.batch
        batch.n_tokens = count
        for i in range(count):
            batch.token[i] = self.tokens[self.length + i]
            batch.pos[i] = self.length + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = logits and i == count - 1
        if (status := llama_cpp.llama_decode(self.context, batch)) != 0:
            raise RuntimeError(f"llama_decode returns {status}")
        self.length += count

    def read(self, length):
        """A prompt up to this length; logits of its last token only."""
        while self.length < length:
            count = min(length - self.length, self.most)
            self.step(count, self.length + count == length)
        llama_cpp.llama_synchronize(self.context)

    def prompt(self, tokens):
        self.cut(0)
        start = time.perf_counter()
        self.read(tokens)
        return time.perf_counter() - start

    def decode(self, tokens, depth):
        start = time.perf_counter()
        for _ in range(tokens):
            self.step(1, True)
            llama_cpp.llama_synchronize(self.context)
        seconds = time.perf_counter() - start
        self.cut(depth)
        return seconds

    def measure(self, request):
        tokens, depth = request["tokens"], request["depth"]
        if request["kind"] != "decode":
            self.prompt(min(tokens, WARM_UP))
            return self.prompt(tokens)
        if self.length < depth or (self.windowed and self.length > depth):  # a window's earlier rows may be gone
            self.cut(0)
            self.read(depth)
        self.cut(depth)
        self.decode(1, depth)
        return self.decode(tokens, depth)


class Peer:
    def __init__(self, settings):
        self.settings = settings
        self.contexts = {}  # by options
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(settings["file"]), params)
        if not self.model:
            sys.exit(f"llama_peer: cannot load {settings['file']}")

    def measure(self, request):
        if request["kind"] == "about":
            return {"about": f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}, "
                             f"{llama_cpp.llama_print_system_info().decode().strip()} batch 512 where none is "
                             "named, n_batch = n_ubatch, one sequence, swa_full off"}
        options = request["options"]
        key = json.dumps(options)
        if key not in self.contexts:
            self.contexts[key] = Context(self.model, self.settings, options)
        return {"seconds": self.contexts[key].measure(request)}


if __name__ == "__main__":
    if sys.argv[1] == "quantize":
        quantize(*sys.argv[2:])
    else:
        serve(Peer(json.loads(sys.argv[1])).measure)
