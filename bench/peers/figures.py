# SPDX-License-Identifier: Apache-2.0
"""What is measured: the models, the figures of each, and the tokens that every system is given."""
from dataclasses import dataclass, replace

MODELS = {"smollm2": "SmolLM2-135M-Instruct", "gemma3": "Gemma 3 270M"}
VOCABULARIES = {"smollm2": 49152, "gemma3": 262144}
SEED = 42  # of lamina bench's first sequence
WARM_UP = 512  # tokens of a prompt that a system reads before it is timed, as lamina bench does


@dataclass(frozen=True)
class Figure:
    model: str
    kind: str  # prefill, decode, first
    tokens: int  # that are timed
    depth: int = 0  # tokens in the cache before

    def key(self):
        return f"{self.model}/{self.kind}{f'@{self.depth}' if self.kind == 'decode' else self.tokens}"

    def title(self):
        return {"prefill": f"prefill {self.tokens}, tokens/s", "decode": f"decode at {self.depth}, tokens/s",
                "first": f"first token after {self.tokens}, ms"}[self.kind]


# Deep ones first: a cache that holds 8000 tokens is cut to 4096 faster than 4096 are read. SmolLM2's context is 8192.
FIGURES = [
    Figure("smollm2", "prefill", 8000),
    Figure("smollm2", "decode", 64, 8000),
    Figure("smollm2", "decode", 64, 4096),
    Figure("smollm2", "decode", 64, 0),
    Figure("smollm2", "prefill", 4096),
    Figure("smollm2", "prefill", 512),
    Figure("smollm2", "first", 20),
    Figure("gemma3", "decode", 64, 8192),
    Figure("gemma3", "decode", 64, 0),
    Figure("gemma3", "prefill", 4096),
    Figure("gemma3", "prefill", 512),
    Figure("gemma3", "first", 20),
]


def shrunk(figure):
    """The same in an eighth of the length: does everything work?"""
    if figure.kind == "first":
        return figure
    return replace(figure, tokens=figure.tokens // 8, depth=figure.depth // 8)


def random_tokens(model, count):
    """The first tokens that lamina bench takes: std::mt19937 modulo the vocabulary."""
    import numpy  # the peers' environment has it, the system's Python need not

    generator = numpy.random.MT19937()
    generator._legacy_seeding(SEED)  # as std::mt19937 is seeded
    return (generator.random_raw(count) % VOCABULARIES[model]).astype(numpy.int64)
