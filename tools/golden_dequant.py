#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/dequant/blocks.gguf (random blocks of every format and their float32 values as the `gguf`
package computes them) and the small files in fuzz/seeds/gguf. Needs: pip install gguf==0.19.0 (brings numpy)."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ROOT = Path(__file__).resolve().parent.parent
TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL MXFP4".split()
ROWS = 2

# Where a block holds f16 numbers: random bytes there would often be infinite or NaN.
SCALES = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
}  # fmt: skip


def random_blocks(name: str, rng: np.random.Generator, blocks: int) -> np.ndarray:
    """[ROWS][blocks * block bytes]"""
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    data = rng.integers(0, 256, (ROWS * blocks, size), dtype=np.uint8)
    for at in SCALES.get(name, []):
        exponent = (data[:, at + 1] >> 2) & 31
        data[exponent == 31, at + 1] &= 0x83  # all exponent bits off: the subnormal or zero of the same mantissa
    if name in ("F32", "BF16"):
        upper = data[:, size - 2 :]  # the sign, the exponent and the first mantissa bits
        special = ((upper[:, 1] & 0x7F) == 0x7F) & (upper[:, 0] >= 0x80)
        data[special, size - 1] &= 0x80
    if name == "MXFP4":
        edges = [0, 1, 2, 255][: len(data)]  # exponents: the subnormal ones, the first normal one, the largest
        data[: len(edges), 0] = edges
    return data.reshape(ROWS, -1)


def write_golden(path: Path) -> None:
    rng = np.random.default_rng(20240806)
    writer = gguf.GGUFWriter(path, "dequant")
    for name in TYPES:
        weights = gguf.GGML_QUANT_SIZES[Type[name]][0]
        data = random_blocks(name, rng, {1: 37, 32: 7, 256: 3}[weights])
        with np.errstate(over="ignore"):  # MXFP4's largest exponents
            values = gguf.quants.dequantize(data, Type[name])
        assert values.dtype == np.float32 and not np.isnan(values).any(), name
        writer.add_tensor(f"{name}.blocks", data, raw_dtype=Type[name])
        writer.add_tensor(f"{name}.values", values)
    finish(writer)


def write_seed(path: Path) -> None:
    """A small file with a value of every metadata type and a tensor of most formats."""
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 1)
    writer.add_int8("a.i8", -1)
    writer.add_uint16("a.u16", 2)
    writer.add_int16("a.i16", -2)
    writer.add_uint32("a.u32", 3)
    writer.add_int32("a.i32", -3)
    writer.add_uint64("a.u64", 4)
    writer.add_int64("a.i64", -4)
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 0.25)
    writer.add_bool("a.bool", True)
    writer.add_array("a.strings", ["x", "yz", ""])
    writer.add_array("a.integers", [1, 2, 3])
    writer.add_array("a.floats", [0.5, 1.5])
    writer.add_array("a.booleans", [True, False])
    writer.add_array("a.nested", [[1, 2], [3]])
    for name in ("F32", "F16", "Q4_1", "Q8_0", "MXFP4"):
        writer.add_tensor(f"{name}.weight", random_blocks(name, rng, 1), raw_dtype=Type[name])
    finish(writer)


def write_empty_seed(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    (ROOT / "tests/golden/dequant").mkdir(parents=True, exist_ok=True)
    (ROOT / "fuzz/seeds/gguf").mkdir(parents=True, exist_ok=True)
    write_golden(ROOT / "tests/golden/dequant/blocks.gguf")
    write_seed(ROOT / "fuzz/seeds/gguf/values.gguf")
    write_empty_seed(ROOT / "fuzz/seeds/gguf/no_tensors.gguf")
