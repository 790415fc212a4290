"""A `.tflite` file as C++ sources for a microcontroller: the bytes, the size of the arena, the operations to register.

Two files of the usual form: `NAME.h` declares, `NAME.cc` defines. The array is `const` and aligned to 16 bytes, so it
stays in flash and needs no copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nasturtium.errors import InvalidInputError

PER_LINE = 12
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESOLVERS = {
    "ADD": "AddAdd", "AVERAGE_POOL_2D": "AddAveragePool2D", "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected", "HARD_SWISH": "AddHardSwish", "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic", "MAX_POOL_2D": "AddMaxPool2D", "MAXIMUM": "AddMaximum", "MEAN": "AddMean",
    "MINIMUM": "AddMinimum", "MUL": "AddMul", "PAD": "AddPad", "PADV2": "AddPadV2", "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize", "RELU": "AddRelu", "RELU6": "AddRelu6", "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear", "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "RSQRT": "AddRsqrt", "SLICE": "AddSlice", "SOFTMAX": "AddSoftmax", "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub", "SUM": "AddSum", "TANH": "AddTanh", "TRANSPOSE": "AddTranspose", "REDUCE_MAX": "AddReduceMax",
    "SQUARED_DIFFERENCE": "AddSquaredDifference", "DIV": "AddDiv", "SPLIT": "AddSplit", "PACK": "AddPack",
    "GATHER_ND": "AddGatherNd", "BROADCAST_TO": "AddBroadcastTo", "CAST": "AddCast",
}  # fmt: skip
"""Method of `tflite::MicroMutableOpResolver` that registers an operation of a `.tflite` file."""


def c_sources(
    data: bytes,
    name: str = "network",
    *,
    arena_bytes: int | None = None,
    margin_bytes: int = 0,
    operations: Sequence[str] = (),
) -> tuple[str, str]:
    """The header and the source.

    Args:
        data: Contents of a `.tflite` file.
        name: Of the array and the files; a C identifier.
        arena_bytes: As `hardware.measure_arena` says, for the reference kernels. Where given, it is stated with the
            margin as the constant `NAME_arena_size`.
        margin_bytes: Added to it, for the scratch buffers of optimised kernels (CMSIS-NN, ESP-NN).
        operations: Names of the file's operations (`hardware.tflite.operations`); then the header has a macro
            `NAME_REGISTER(resolver)` that registers them, and their number.

    Raises:
        InvalidInputError: `name` is no C identifier, `data` is no `.tflite` file, an operation has no method, or the
            margin is negative.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"`name` must be a C identifier (letters, digits, _), got {name!r}.")
    if data[4:8] != b"TFL3":
        raise InvalidInputError(f"A .tflite file has 'TFL3' at byte 4, got {data[4:8]!r}. Is it another kind of file?")
    unknown = sorted(set(operations) - set(RESOLVERS))
    if unknown:
        raise InvalidInputError(
            f"No method of MicroMutableOpResolver is known here for {', '.join(unknown)}. Leave `operations` out and "
            "register them by hand."
        )
    if margin_bytes < 0:
        raise InvalidInputError(f"`margin_bytes` must be at least 0, got {margin_bytes!r}.")
    return _header(name, arena_bytes, margin_bytes, sorted(set(operations))), _source(name, data)


def write_c_array(
    path: str | Path,
    folder: str | Path,
    name: str = "network",
    *,
    arena_bytes: int | None = None,
    margin_bytes: int = 0,
    operations: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Write `NAME.h` and `NAME.cc` of a `.tflite` file.

    Args:
        path: The `.tflite` file.
        folder: Where to; it is made.
        name: As for `c_sources`.
        arena_bytes: As for `c_sources`.
        margin_bytes: As for `c_sources`.
        operations: As for `c_sources`.

    Raises:
        InvalidInputError: as for `c_sources`.
    """
    data = Path(path).read_bytes()
    header, source = c_sources(data, name, arena_bytes=arena_bytes, margin_bytes=margin_bytes, operations=operations)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = target / f"{name}.h", target / f"{name}.cc"
    for file, text in zip(files, (header, source), strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def _header(name: str, arena_bytes: int | None, margin_bytes: int, operations: Sequence[str]) -> str:
    guard = f"{name.upper()}_H_"
    lines = [
        f"#ifndef {guard}", f"#define {guard}", "", "#include <cstddef>", "",
        f"extern const unsigned char {name}[];", f"extern const std::size_t {name}_size;",
    ]  # fmt: skip
    if arena_bytes is not None:
        lines += [
            "",
            "// Bytes of SRAM for the interpreter: as measured with the reference kernels and 64-bit pointers, plus",
            "// a margin. Optimised kernels (CMSIS-NN, ESP-NN) need scratch buffers: then measure on the board.",
            f"constexpr std::size_t {name}_arena_size = {arena_bytes} + {margin_bytes};",
        ]
    if operations:
        calls = [f"  (resolver).{RESOLVERS[each]}(); \\" for each in operations]
        lines += [
            "",
            f"constexpr int {name}_operations = {len(operations)};",
            f"#define {name.upper()}_REGISTER(resolver) \\",
            *calls,
            "  static_cast<void>(0)",
        ]
    return "\n".join([*lines, "", f"#endif  // {guard}", ""])


def _source(name: str, data: bytes) -> str:
    rows = [data[start : start + PER_LINE] for start in range(0, len(data), PER_LINE)]
    body = ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in row) for row in rows)
    return (
        f'#include "{name}.h"\n\n'
        f"alignas(16) const unsigned char {name}[] = {{\n{body}}};\n"
        f"const std::size_t {name}_size = sizeof({name});\n"
    )
