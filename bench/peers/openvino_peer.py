# SPDX-License-Identifier: Apache-2.0
"""OpenVINO GenAI, by its LLMPipeline, which reads GGUF files; its own measurements are taken. Runs in the peers'
environment, started by run.py."""
import importlib.metadata
import json
import sys

import numpy
import openvino
import openvino_genai

from figures import WARM_UP, random_tokens
from worker import serve


def scheduler():
    """What LLMPipeline takes if it is given none, a prompt in one step, but without the reuse of prompts."""
    config = openvino_genai.SchedulerConfig()
    config.max_num_batched_tokens = 1 << 30
    config.enable_prefix_caching = False
    return config


class Pipeline:
    def __init__(self, settings, options):
        properties = dict(options)
        if properties.get("ATTENTION_BACKEND") != "SDPA":
            properties["scheduler_config"] = scheduler()
        self.tokens = random_tokens(settings["model"], settings["cells"])
        self.pipeline = openvino_genai.LLMPipeline(settings["file"], "CPU", INFERENCE_NUM_THREADS=settings["threads"],
                                                   **properties)

    def generate(self, prompt, tokens):
        """Its measurements of a prompt of so many tokens and of so many greedy ones after it."""
        ids = self.tokens[None, :prompt].copy()
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        result = self.pipeline.generate(inputs, max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        metrics = result.perf_metrics
        if (counted := (metrics.get_num_input_tokens(), len(result.tokens[0]))) != (prompt, tokens):
            raise RuntimeError(f"prompt and output are {counted} tokens, expected {(prompt, tokens)}")
        return metrics

    def measure(self, request):
        tokens, depth = request["tokens"], request["depth"]
        if request["kind"] != "decode":
            self.generate(min(tokens, WARM_UP), 1)
            return self.generate(tokens, 1).get_ttft().mean / 1000
        return self.generate(max(depth, 1), tokens + 1).get_tpot().mean / 1000 * tokens


class Peer:
    def __init__(self, settings):
        self.settings = settings
        self.pipelines = {}  # by options

    def measure(self, request):
        if request["kind"] == "about":
            versions = [f"{name} {importlib.metadata.version(name)}" for name in
                        ["openvino", "openvino-genai", "openvino-tokenizers"]]
            return {"about": f"{', '.join(versions)}; CPU, a prompt in one step, no reuse of prompts; other properties as "
                             "they are by default"}
        options = request["options"]
        key = json.dumps(options)
        if key not in self.pipelines:
            self.pipelines[key] = Pipeline(self.settings, options)
        return {"seconds": self.pipelines[key].measure(request)}


if __name__ == "__main__":
    serve(Peer(json.loads(sys.argv[1])).measure)
