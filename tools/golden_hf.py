#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of Hugging Face folders: tests/golden/hf/NAME/, NAME.json and NAME.logits.f32.

Needs `pip install torch transformers accelerate gguf` (for making goldens only; no test and no build needs them).

NAME/ is a tiny random model as save_pretrained writes it: config.json, model.safetensors or shards with an index, one with a
tokenizer.json. NAME.json is {name, source, vocab, tokens, fingerprint}; NAME.logits.f32 holds [token][vocab] little-endian
float32. Weights come from numpy's generator, so that every run makes the same bytes.

llama*: logits from transformers, in float64. "llama" has the weights of tests/golden/tiny/llama-gqa.gguf.

lckv*, opt*: Layer-Condensed KV Cache (arXiv:2405.10637), which transformers does not have. The folders are written here as the
authors' code names things, the logits come from `sequential` below: one token at a time in float64, as the paper defines decoding.
NAME.json also tells "float32": how far the same code is off in float32, for the tests' tolerance.
"""

import copy
import hashlib
import json
import shutil
import sys

import numpy as np
import torch
from golden_logits import (BPE_SPECIAL, BPE_VOCAB, LLAMA, MERGES, ROOT, byte_letters, double_precision, fill, llama_rope, shape,
                           tiny_model, write_json)
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

FOLDERS = ROOT / "tests/golden/hf"
SEEDS = {name: seed for seed, name in enumerate(LLAMA, start=1)}  # as golden_logits.py counts them

# name -> (LlamaConfig arguments, seed, dtype, size of a shard)
PLAIN = {
    "llama": (LLAMA["llama-gqa"][0], SEEDS["llama-gqa"], torch.float32, "1GB"),
    "llama-llama3": (LLAMA["llama-rope-llama3"][0], 101, torch.float32, "1GB"),
    "llama-yarn-f16": (LLAMA["llama-rope-yarn-keys"][0], 102, torch.float16, "1GB"),
    "llama-shards-bf16": (shape(36, 44, 3, 3, 1, 20, tie_word_embeddings=False), 103, torch.bfloat16, "30KB"),
    "llama-linear-old": (llama_rope("linear", 20000.0, 4.0), 104, torch.float32, "1GB"),
}
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
LCKV = {  # name -> what its config.json says beside the shape
    "lckv-acyclic": dict(layer_types="0_0_2_2"),
    "lckv-window": dict(layer_types="0s_0s_2_2", sliding_window=5),
    "lckv-cyclic": dict(layer_types="0_2_2_3", force_nodiag=False),
    "lckv-cyclic-nodiag": dict(layer_types="0_2_2_3", force_nodiag=True, forward_passes=5, backward_passes=3),
    "lckv-all-upward": dict(layer_types="3_3_3_3"),
    # The keys of the first publication; the model is lckv-cyclic-nodiag.
    "opt-llama": dict(model_type="opt-llama", architectures=["LlamaForCausalLM"], layer_types="0_1_2_0", target_layer=-2, num_encoders=7,
                      num_trained_encoders=2, train_kv=False),
}
LCKV_VOCAB = 80


def canonical(name):
    """The GGUF name of a tensor."""
    for theirs, ours in [("model.embed_tokens.", "token_embd."), ("model.norm.", "output_norm."), ("lm_head.", "output."), ("model.layers.", "blk."),
                         ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.o_proj", "attn_output"),
                         ("self_attn.", "attn_"), ("mlp.", "ffn_"), ("_proj", "")]:
        name = name.replace(theirs, ours)
    return name


def fingerprint(folder, layers):
    shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            shapes.update({key: file.get_slice(key).get_shape() for key in file.keys() if "inv_freq" not in key})
    lines = sorted(f"{canonical(name)} {' '.join(map(str, size))}\n" for name, size in shapes.items())
    return hashlib.sha256(f"llama {layers}\n{''.join(lines)}".encode()).hexdigest()


def finish(name, config, source, tokens, logits, **more):
    logits.astype("<f4").tofile(FOLDERS / f"{name}.logits.f32")
    write_json(FOLDERS / f"{name}.json", dict(name=name, source=source, vocab=logits.shape[1], tokens=tokens,
                                              fingerprint=fingerprint(FOLDERS / name, config["num_hidden_layers"]), **more))
    size = sum(file.stat().st_size for file in (FOLDERS / name).iterdir())
    print(f"{name}: {size} bytes, logits' deviation {logits.std():.2f} {more}", file=sys.stderr)


def write_tokenizer(folder):
    tokens = BPE_SPECIAL + byte_letters() + [m.replace(" ", "") for m in MERGES]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in MERGES]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in BPE_SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(bos_token=BPE_SPECIAL[0], eos_token=BPE_SPECIAL[2])) + "\n")


def as_before_2024(folder):
    """The config of an old checkpoint, and the buffers that such files carry."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config |= dict(rope_theta=rope["rope_theta"], rope_scaling=dict(type=rope["rope_type"], factor=rope["factor"]), torch_dtype="float32")
    for key in ("head_dim", "dtype", "attention_bias", "mlp_bias"):
        config.pop(key)
    path.write_text(json.dumps(config, indent=2) + "\n")
    with safe_open(folder / "model.safetensors", "np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    for layer in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    save_file(tensors, folder / "model.safetensors", dict(format="pt"))


def make_plain(name, arguments, seed, dtype, shard):
    with double_precision(), torch.no_grad():
        model = tiny_model(name, arguments)
        fill(model, seed)
        for p in model.parameters():
            p.copy_(p.to(dtype))
    # A copy: `to` rounds the rope's frequencies as well.
    copy.deepcopy(model).to(dtype).save_pretrained(FOLDERS / name, max_shard_size=shard)
    (FOLDERS / name / "generation_config.json").unlink(missing_ok=True)
    if name == "llama":
        write_tokenizer(FOLDERS / name)
    if name == "llama-linear-old":
        as_before_2024(FOLDERS / name)
    tokens = np.random.default_rng(1000 + seed).integers(4, BPE_VOCAB, 40).tolist()
    with double_precision(), torch.no_grad():
        logits = model.double()(torch.tensor([tokens])).logits[0].numpy()
    finish(name, model.config.to_dict(), "transformers in float64", tokens, logits)


# --- LCKV


def targets_of(config):
    """[layer] the layer whose keys and values it reads, and which layers have a window."""
    if config["model_type"] == "opt-llama":
        layers = config["num_hidden_layers"]
        return [i if kind == "0" else config["target_layer"] % layers for i, kind in enumerate(config["layer_types"].split("_"))], [False] * layers
    items = config["layer_types"].split("_")
    return [int(item.rstrip("s")) for item in items], [item.endswith("s") for item in items]


def random_weights(config, seed):
    rng = np.random.default_rng(seed)
    hidden, ffn, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    w = {}

    def matrix(name, rows, cols, scale):
        w[name] = (scale * rng.standard_normal((rows, cols))).astype(np.float16)

    def norm(name):
        w[name] = (1.2 + 0.4 * rng.standard_normal(hidden)).astype(np.float16)

    matrix("model.embed_tokens.weight", config["vocab_size"], hidden, 0.5)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm.weight")
        matrix(p + "self_attn.q_proj.weight", q, hidden, 1.5 / hidden**0.5)
        if i in targets_of(config)[0]:
            matrix(p + "self_attn.k_proj.weight", kv, hidden, 1.5 / hidden**0.5)
            matrix(p + "self_attn.v_proj.weight", kv, hidden, 1.5 / hidden**0.5)
        matrix(p + "self_attn.o_proj.weight", hidden, q, 1.5 / q**0.5)
        norm(p + "post_attention_layernorm.weight")
        matrix(p + "mlp.gate_proj.weight", ffn, hidden, 1.5 / hidden**0.5)
        matrix(p + "mlp.up_proj.weight", ffn, hidden, 1.5 / hidden**0.5)
        matrix(p + "mlp.down_proj.weight", hidden, ffn, 1.5 / ffn**0.5)
    norm("model.norm.weight")
    matrix("lm_head.weight", config["vocab_size"], hidden, 0.5)
    return w


def rotated(x, pos, theta):
    """Heads [heads][dim] turned to a position: channel i pairs with channel i + dim / 2."""
    half = x.shape[1] // 2
    angle = (pos * theta ** (-np.arange(half) / half)).astype(x.dtype)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([x[:, :half] * cos - x[:, half:] * sin, x[:, half:] * cos + x[:, :half] * sin], axis=1)


def sequential(config, weights, tokens, dtype):
    """Logits [token][vocab], one token at a time through all layers. A layer that reads a higher one sees the rows that are there:
    all but the token's own."""
    w = {name: value.astype(dtype) for name, value in weights.items()}
    heads, kv_heads, dim, theta = (config[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "rope_theta"))
    reads, windowed = targets_of(config)
    no_diagonal = config.get("force_nodiag", False) or config["model_type"] == "opt-llama"
    keys, values = ({i: [] for i in set(reads)} for _ in range(2))

    def norm(x, name):
        return x / np.sqrt(np.mean(x * x) + dtype(config["rms_norm_eps"])) * w[name]

    logits = []
    for t, token in enumerate(tokens):
        x = w["model.embed_tokens.weight"][token]
        for i in range(config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            n = norm(x, p + "input_layernorm.weight")
            q = rotated((w[p + "self_attn.q_proj.weight"] @ n).reshape(heads, dim), t, theta)
            if i in keys:
                keys[i].append(rotated((w[p + "self_attn.k_proj.weight"] @ n).reshape(kv_heads, dim), t, theta))
                values[i].append((w[p + "self_attn.v_proj.weight"] @ n).reshape(kv_heads, dim))
            first = max(0, t - config["sliding_window"] + 1) if windowed[i] else 0
            last = min(len(keys[reads[i]]), t if no_diagonal else t + 1)
            out = np.zeros((heads, dim), dtype)
            for head in range(heads) if first < last else ():
                k = np.stack([row[head * kv_heads // heads] for row in keys[reads[i]][first:last]])
                v = np.stack([row[head * kv_heads // heads] for row in values[reads[i]][first:last]])
                score = k @ q[head] / dtype(dim**0.5)
                share = np.exp(score - score.max())
                out[head] = share / share.sum() @ v
            x = x + w[p + "self_attn.o_proj.weight"] @ out.reshape(-1)
            n = norm(x, p + "post_attention_layernorm.weight")
            gate = w[p + "mlp.gate_proj.weight"] @ n
            x = x + w[p + "mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * (w[p + "mlp.up_proj.weight"] @ n))
        logits.append(w["lm_head.weight"] @ norm(x, "model.norm.weight"))
    return np.stack(logits)


def make_lckv(name, seed, fields):
    config = dict(architectures=["LCKVLlamaForCausalLM"], model_type="lckv-llama", hidden_act="silu", vocab_size=LCKV_VOCAB, rms_norm_eps=1e-5,
                  max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=False, attention_bias=False, torch_dtype="float16",
                  **SHAPE) | fields
    folder = FOLDERS / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = random_weights(config, seed)
    save_file(weights, folder / "model.safetensors", dict(format="pt"))
    tokens = np.random.default_rng(2000 + seed).integers(0, LCKV_VOCAB, 24).tolist()
    logits = sequential(config, weights, tokens, np.float64)
    off = float(abs(sequential(config, weights, tokens, np.float32) - logits).max())
    finish(name, config, "token by token in float64", tokens, logits, float32=off)


def main():
    torch.set_num_threads(1)  # sums in a fixed order
    shutil.rmtree(FOLDERS, ignore_errors=True)
    FOLDERS.mkdir(parents=True)
    for name, arguments in PLAIN.items():
        make_plain(name, *arguments)
    for name, fields in LCKV.items():
        make_lckv(name, 203 if name == "opt-llama" else 200 + list(LCKV).index(name), fields)


if __name__ == "__main__":
    main()
