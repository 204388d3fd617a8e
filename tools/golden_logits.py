#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of logits: what Hugging Face transformers computes, for Lamina's tests to compare with.

Needs `pip install torch transformers accelerate gguf` (for making goldens only; no test and no build needs them).

  golden_logits.py --tiny             tests/golden/tiny/NAME.gguf, NAME.json, NAME.logits.f32, NAME.attention.f32
  golden_logits.py --real [NAME…]     tests/golden/real/NAME.json, from models/NAME.gguf

--tiny: random float32 models of both architectures, one per rope scaling, window pattern and awkward size. NAME.gguf is a whole
model with a small tokenizer, in the layout that llama.cpp's converter writes. NAME.json is {name, source, vocab, tokens};
NAME.logits.f32 holds [token][vocab] little-endian float32, rounded from a pass in float64; NAME.attention.f32, of two of the models,
[layer][query head][query][key] what eager attention gives each row. Weights come from numpy's generator, so that
every run makes the same bytes.

--real: NAME is smollm2 or gemma3 (default both), de-quantised to float32 by transformers. The JSON holds text.txt, its ids, and for
each position the log-sum-exp of the logits and the eight largest as [id, logit]; then greedy continuations of a prompt (smollm2: without
BOS, as its file asks, and with it), with each step's margin between the first and the second logit.
"""

import argparse
import hashlib
import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, LlamaConfig, modeling_rope_utils
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.llama import modeling_llama

ROOT = Path(__file__).resolve().parent.parent
TINY, REAL = ROOT / "tests/golden/tiny", ROOT / "tests/golden/real"

# --- tiny models


def shape(hidden, ffn, layers, heads, kv_heads, head_dim, **more):
    return dict(hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, head_dim=head_dim, **more)


def llama_rope(kind, theta, factor, **more):
    return shape(32, 48, 2, 2, 1, 16, tie_word_embeddings=True,
                 rope_parameters=dict(rope_type=kind, rope_theta=theta, factor=factor, **more))


def gemma_rope(local, theta, **more):
    return dict(sliding_attention=dict(rope_type="default", rope_theta=local),
                full_attention={"rope_type": "default", "rope_theta": theta, **more})


LLAMA = {  # name -> (LlamaConfig arguments, tokens, pre-tokenizer)
    "llama-gqa": (shape(32, 48, 4, 4, 2, 8, tie_word_embeddings=False), 40, "gpt-2"),
    "llama-wide-heads": (shape(32, 48, 4, 4, 2, 16, tie_word_embeddings=True), 40, "gpt-2"),
    "llama-odd": (shape(60, 100, 2, 3, 3, 20, tie_word_embeddings=True), 24, "smollm"),
    "llama-rope-linear": (llama_rope("linear", 10000.0, 4.0), 40, "gpt-2"),
    # With 64 trained positions the eight frequencies meet all three cases: kept, blended, divided by the factor.
    "llama-rope-llama3": (llama_rope("llama3", 500000.0, 8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                     original_max_position_embeddings=64), 40, "llama-bpe"),
    "llama-rope-yarn": (llama_rope("yarn", 10000.0, 4.0, original_max_position_embeddings=64), 40, "gpt-2"),
    # Every optional yarn key, none at its default.
    "llama-rope-yarn-keys": (llama_rope("yarn", 10000.0, 4.0, original_max_position_embeddings=256, beta_fast=8.0, beta_slow=2.0,
                                        attention_factor=1.25), 40, "gpt-2"),
}
GEMMA = {  # name -> (Gemma3TextConfig arguments, tokens, sliding_window_pattern as written: None, a period or an array)
    "gemma3": (shape(32, 48, 7, 2, 1, 16, sliding_window=8), 40, None),
    "gemma3-linear": (shape(32, 32, 6, 2, 1, 32, sliding_window=8, sliding_window_pattern=3,
                            rope_parameters=gemma_rope(1e4, 1e6, rope_type="linear", factor=8.0)), 40, 3),
    "gemma3-array": (shape(36, 44, 5, 3, 1, 20, sliding_window=5, rope_parameters=gemma_rope(2e3, 3e5), layer_types=[
        f"{kind}_attention" for kind in "sliding full sliding sliding full".split()]), 24, [True, False, True, True, False]),
}
ATTENTION = ("llama-gqa", "gemma3-array")  # whose attention is written too, for what token policies measure
BPE_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "e r", "a n", "Ġ a", "r e", "o n", "l l", "Ġ Ġ", "in g"]
PIECES = "▁ e t a o i n s r h l d u c m f p g w y b v k x j q z . , ▁t he ▁the in er an ▁a re on ll ing".split()
SPM_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
BPE_VOCAB = len(BPE_SPECIAL) + 256 + len(MERGES)
SPM_VOCAB = len(SPM_SPECIAL) + 256 + len(PIECES)


def byte_letters():
    """The printable letter that byte-level BPE writes for each byte."""
    spare = iter(range(256, 512))
    return [chr(b if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else next(spare)) for b in range(256)]


def add_bpe(w, pre):
    tokens = BPE_SPECIAL + byte_letters() + [m.replace(" ", "") for m in MERGES]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL] * len(BPE_SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(BPE_SPECIAL)))
    w.add_token_merges(MERGES)
    w.add_bos_token_id(0)
    w.add_eos_token_id(2)
    w.add_add_bos_token(pre == "llama-bpe")
    w.add_chat_template(TEMPLATE)


def add_spm(w):
    kind = gguf.TokenType
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(SPM_SPECIAL + [f"<0x{b:02X}>" for b in range(256)] + PIECES)
    w.add_token_scores([0.0] * (len(SPM_SPECIAL) + 256) + [-float(rank) for rank in range(len(PIECES))])
    w.add_token_types([kind.CONTROL] * 3 + [kind.UNKNOWN] + [kind.BYTE] * 256 + [kind.NORMAL] * len(PIECES))
    w.add_bos_token_id(2)
    w.add_eos_token_id(1)
    w.add_unk_token_id(3)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)


def fill(model, seed):
    """Random weights: scores and logits spread over several units, and no norm weight near its neutral value."""
    rng = np.random.default_rng(seed)
    gemma = model.config.model_type == "gemma3_text"
    for name, p in model.named_parameters():
        noise = rng.standard_normal(tuple(p.shape))
        if name.endswith("norm.weight"):
            values = (0.2 if gemma else 1.2) + 0.4 * noise  # gemma3 multiplies by 1 + weight
        elif "embed_tokens" in name or "lm_head" in name:
            values = 0.5 * noise
        else:
            values = 1.5 / math.sqrt(p.shape[1]) * noise
        p.copy_(torch.from_numpy(values.astype(np.float32)))


def interleave(rows, heads):
    """Rows of Q or K from transformers' order (halves) to llama's in GGUF: the two of a rotated pair next to each other."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def add_tensors(w, model):
    config, gemma = model.config, model.config.model_type == "gemma3_text"
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3 if gemma else gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, p in model.named_parameters():
        values = p.detach().numpy()
        if not gemma and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = interleave(values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if gemma and name.endswith("norm.weight"):
            values = values + np.float32(1)
        w.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(values))


def llama3_divisors(rope, head_dim):
    """rope_freqs.weight: what each pair's frequency is divided by."""
    length, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * pair / head_dim)
        blend = min(max((length / wavelength - low) / (high - low), 0.0), 1.0)
        divisors.append(1 / ((1 - blend) / rope["factor"] + blend))
    return np.array(divisors, dtype=np.float32)


def add_rope_scaling(w, rope):
    if rope["rope_type"] in ("default", "llama3"):
        return
    w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
    w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "attention_factor" in rope:
            w.add_rope_scaling_yarn_attn_factor(rope["attention_factor"])
            w.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            w.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def write_model(path, model, extra):
    config, gemma = model.config, model.config.model_type == "gemma3_text"
    w = gguf.GGUFWriter(path, "gemma3" if gemma else "llama")
    w.add_name(path.stem)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_key_length(config.head_dim)
    w.add_value_length(config.head_dim)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters["full_attention"] if gemma else config.rope_parameters
    w.add_rope_freq_base(rope["rope_theta"])
    add_rope_scaling(w, rope)
    if gemma:
        w.add_sliding_window(config.sliding_window)
        if (local := config.rope_parameters["sliding_attention"]["rope_theta"]) != 10000.0:
            w.add_rope_freq_base_swa(local)
        if extra is not None:
            w.add_sliding_window_pattern(extra)
        add_spm(w)
    else:
        w.add_vocab_size(config.vocab_size)
        w.add_rope_dimension_count(config.head_dim)
        add_bpe(w, extra)
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_divisors(rope, config.head_dim))
    add_tensors(w, model)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


class DoubleTorch:
    """torch as transformers' files see it while tiny logits are made: the float32 that they insist on for norms, rope and softmax is
    float64, so that the goldens carry no rounding of their own."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float", "float32") else getattr(torch, name)


def double_precision():
    stack = ExitStack()
    for module in (modeling_llama, modeling_gemma3, modeling_rope_utils):
        stack.enter_context(mock.patch.object(module, "torch", DoubleTorch()))
    stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
    return stack


def tiny_model(name, arguments):
    if name in GEMMA:
        config = Gemma3TextConfig(vocab_size=SPM_VOCAB, max_position_embeddings=512, attn_implementation="eager",
                                  query_pre_attn_scalar=arguments["head_dim"], **arguments)
        return modeling_gemma3.Gemma3ForCausalLM(config).eval()
    rope = arguments.get("rope_parameters", {})
    context = int(rope.get("factor", 1) * rope.get("original_max_position_embeddings", 512))
    config = LlamaConfig(vocab_size=BPE_VOCAB, max_position_embeddings=context, rms_norm_eps=1e-5, attn_implementation="eager",
                         **arguments)
    return modeling_llama.LlamaForCausalLM(config).eval()


def make_tiny():
    torch.set_num_threads(1)  # sums in a fixed order
    TINY.mkdir(parents=True, exist_ok=True)
    for seed, (name, (arguments, count, extra)) in enumerate({**LLAMA, **GEMMA}.items(), start=1):
        with double_precision(), torch.no_grad():
            model = tiny_model(name, arguments)
            fill(model, seed)
            vocab = model.config.vocab_size
            write_model(TINY / f"{name}.gguf", model, extra)
            tokens = np.random.default_rng(1000 + seed).integers(4, vocab, count).tolist()
            tokens[0] = 2 if name in GEMMA else tokens[0]  # gemma3 wants its <bos>
            result = model.double()(torch.tensor([tokens]), output_attentions=name in ATTENTION)
            logits = result.logits[0]
        assert logits.dtype == torch.float64
        if name in ATTENTION:
            torch.stack([layer[0] for layer in result.attentions]).numpy().astype("<f4").tofile(TINY / f"{name}.attention.f32")
        logits.numpy().astype("<f4").tofile(TINY / f"{name}.logits.f32")
        write_json(TINY / f"{name}.json", dict(name=name, source="transformers in float64", vocab=vocab, tokens=tokens))
        print(f"{name}: {(TINY / f'{name}.gguf').stat().st_size} bytes, logits' deviation {logits.std():.2f}", file=sys.stderr)


# --- real models

PROMPT = "The capital of France is"
BOS = {"smollm2": [], "gemma3": [2]}  # what each file asks for


def load_model(name):
    torch.set_num_threads(2)
    # Eager attention, so that no choice of kernel inside torch changes the result.
    return AutoModelForCausalLM.from_pretrained(ROOT / "models", gguf_file=f"{name}.gguf", dtype=torch.float32,
                                                attn_implementation="eager").eval()


def smollm_tokenizer():
    """SmolLM2's true tokenizer. transformers' own reading of the GGUF does not split numerals one by one, which shows at "½"."""
    fields = gguf.GGUFReader(ROOT / "models/smollm2.gguf").fields
    tokens, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges"))
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL])
    return tokenizer


def load_tokenizer(name):
    tokenizer = smollm_tokenizer() if name == "smollm2" else AutoTokenizer.from_pretrained(
        ROOT / "models", gguf_file=f"{name}.gguf").backend_tokenizer
    tokenizer.encode_special_tokens = True  # plain text: wikitext's "<unk>" is five letters, not Gemma's token
    return tokenizer


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def greedy(model, tokenizer, prompt, count=24):
    tokens, margins = [], []
    for _ in range(count):
        top = logits_of(model, prompt + tokens)[-1].topk(2)
        tokens.append(int(top.indices[0]))
        margins.append(round(float(top.values[0] - top.values[1]), 4))
    return dict(prompt_tokens=prompt, tokens=tokens, margins=margins, text=tokenizer.decode(tokens))


def make_real(name):
    model, tokenizer = load_model(name), load_tokenizer(name)
    text = (REAL / "text.txt").read_text(encoding="utf-8")
    ids = BOS[name] + encode(tokenizer, text)
    logits = logits_of(model, ids)
    top = logits.topk(8)
    prompt = encode(tokenizer, PROMPT)
    starts = [[], [1]] if name == "smollm2" else [BOS[name]]
    write_json(REAL / f"{name}.json", dict(
        name=name, source="transformers, float32", model_sha256=hashlib.sha256((ROOT / f"models/{name}.gguf").read_bytes()).hexdigest(),
        vocab=logits.shape[1], text=text, tokens=ids, log_sum_exp=[round(x, 4) for x in logits.double().logsumexp(-1).tolist()],
        top=[[[i, round(x, 4)] for i, x in zip(*row)] for row in zip(top.indices.tolist(), top.values.tolist())],
        prompt=PROMPT, greedy=[greedy(model, tokenizer, start + prompt) for start in starts]))
    print(f"{name}: {len(ids)} tokens", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny random models and their logits")
    parser.add_argument("--real", nargs="*", metavar="NAME", choices=BOS, help="goldens of the real models")
    args = parser.parse_args()
    if not args.tiny and args.real is None:
        parser.error("say what to make: --tiny, --real")
    if args.tiny:
        make_tiny()
    for name in ([] if args.real is None else args.real or BOS):
        make_real(name)


if __name__ == "__main__":
    main()
