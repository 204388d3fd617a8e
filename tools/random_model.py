#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a llama model with random Q4_0 weights, for measuring speed and memory: tools/random_model.py SHAPE FILE.gguf

The shapes are those of the LCKV paper (arXiv:2405.10637), which also measured on random weights.
"""
import os
import struct
import sys

# layers, hidden, ffn, heads, KV heads, context
SHAPES = {
    "tiny": (8, 512, 1024, 8, 4, 16384),
    "small": (12, 768, 2048, 12, 6, 16384),
    "tinyllama": (22, 2048, 5632, 32, 4, 16384),
}
VOCABULARY = 32000
F32, Q4_0 = 0, 2
ALIGNMENT = 32


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def metadata(name):
    layers, hidden, ffn, heads, kv_heads, context = SHAPES[name]
    yield text("general.architecture") + struct.pack("<I", 8) + text("llama")
    yield text("general.name") + struct.pack("<I", 8) + text(f"{name}, random weights")
    for key, value in [("block_count", layers), ("context_length", context), ("embedding_length", hidden),
                       ("feed_forward_length", ffn), ("attention.head_count", heads),
                       ("attention.head_count_kv", kv_heads)]:
        yield text(f"llama.{key}") + struct.pack("<II", 4, value)
    yield text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)


def tensors(name):
    """(name, rows or None for a vector, columns)"""
    layers, hidden, ffn, heads, kv_heads, _ = SHAPES[name]
    kv = hidden // heads * kv_heads
    yield "token_embd.weight", VOCABULARY, hidden
    yield "output_norm.weight", None, hidden
    yield "output.weight", VOCABULARY, hidden
    for layer in range(layers):
        for part, rows, columns in [("attn_norm", None, hidden), ("attn_q", hidden, hidden), ("attn_k", kv, hidden),
                                    ("attn_v", kv, hidden), ("attn_output", hidden, hidden), ("ffn_norm", None, hidden),
                                    ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden), ("ffn_down", hidden, ffn)]:
            yield f"blk.{layer}.{part}.weight", rows, columns


def data(rows, columns):
    if rows is None:
        return struct.pack("<f", 1.0) * columns
    # Codes -8..7 have a standard deviation of 4.6: rows of about unit length.
    scale = struct.pack("<e", 1 / (4.6 * columns ** 0.5))
    codes = os.urandom(rows * columns // 2)
    return b"".join(scale + codes[i:i + 16] for i in range(0, len(codes), 16))


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: tools/random_model.py {'|'.join(SHAPES)} FILE.gguf")
    _, name, path = sys.argv
    header, offset = [], 0
    for tensor, rows, columns in tensors(name):
        shape = [columns] if rows is None else [columns, rows]
        kind, size = (F32, 4 * columns) if rows is None else (Q4_0, rows * columns // 32 * 18)
        header.append(text(tensor) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) +
                      struct.pack("<IQ", kind, offset))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    items = list(metadata(name))
    with open(path + ".part", "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(header), len(items)) + b"".join(items) + b"".join(header))
        for _, rows, columns in tensors(name):
            out.write(bytes(-out.tell() % ALIGNMENT))
            out.write(data(rows, columns))
    os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
