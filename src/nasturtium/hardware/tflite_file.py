"""The format of `.tflite` files: what a microcontroller can read of it, without what it does not need."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from nasturtium.errors import ExportError

ALIGNMENT = 16
"""Bytes of which the place of each constant in a file is a multiple, as the format's schema asks."""


def read_file(content: bytes) -> Any:
    """The model of a file (`ModelT` of the format's schema), its constants in it wherever they lay.

    Args:
        content: The file's bytes.

    Raises:
        ExportError: these are not the bytes of a `.tflite` file.
    """
    files = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    if content[4:8] != b"TFL3":
        raise ExportError("A .tflite file has 'TFL3' at its bytes 4 to 7, and this one has not.")
    model = files.read_model_from_bytearray(content)
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return model


def compact(content: bytes) -> bytes:
    """The same network as TensorFlow Lite Micro can read it, and smaller.

    From 256 KiB of constants on, ai-edge-quantizer puts them behind the flatbuffer. TensorFlow Lite Micro does not look
    there: it takes the weights for activations, allocates them in the arena, and computes with what lies there. So they
    are put back. Names of tensors, which nothing on a board reads, are left out: they hold the whole path of each
    module, and are half of a small file.

    Args:
        content: Bytes of a file.

    Raises:
        ExportError: these are not the bytes of a `.tflite` file.
    """
    model = read_file(content)
    files = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    files.strip_strings(model)
    builder = _builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def check_readable(path: str | Path) -> None:
    """Refuse a file whose constants lie where TensorFlow Lite Micro does not look.

    Raises:
        ExportError: they lie behind the flatbuffer; the runtime would compute nonsense, and say nothing.
    """
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    content = Path(path).read_bytes()
    if content[4:8] != b"TFL3":
        return  # the interpreter says what it is
    model = schema.Model.GetRootAs(content, 0)
    outside = [i for i in range(model.BuffersLength()) if model.Buffers(i).Offset() > 1]
    if outside:
        raise ExportError(
            f"{str(path)!r} keeps {len(outside)} of its constants behind the flatbuffer, where TensorFlow Lite Micro "
            "does not look: it would compute nonsense. `hardware.quantize_tflite` writes files that it can read."
        )


def _builder() -> Any:
    flatbuffers = importlib.import_module("flatbuffers")

    class Aligned(flatbuffers.Builder):  # type: ignore[misc, name-defined]
        """Bytes are placed as the schema asks, which generated code for Python leaves out."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)

    return Aligned(1 << 16)
