"""Constants behind the flatbuffer, as the quantiser puts them from 256 KiB on: TensorFlow Lite Micro overlooks them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from nasturtium.errors import ExportError
from nasturtium.hardware import LiteRTNetwork, MicroNetwork, measure_arena
from nasturtium.hardware.tflite_file import ALIGNMENT, compact, read_file

DATA = Path(__file__).parent / "data"
MISSING = [name for name in ("ai_edge_litert", "tflite_micro") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra tinyml is not installed: {', '.join(MISSING)}")


def behind(content: bytes) -> bytes:
    """The same file with its constants behind the flatbuffer, at multiples of 16 bytes."""
    files = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    model, blobs = files.read_model_from_bytearray(content), {}
    for i, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data):
            blobs[i], buffer.data, buffer.offset, buffer.size = bytes(buffer.data), None, 1, 1
    written = files.convert_object_to_bytearray(model)
    written += bytes(-len(written) % 16)
    packed = schema.Model.GetRootAs(written, 0)
    for i, blob in blobs.items():
        files.update_packed_buffer(packed.Buffers(i), offset=len(written), size=len(blob))
        written = written + blob + bytes(-len(blob) % 16)
        packed = schema.Model.GetRootAs(written, 0)
    return bytes(written)


@pytest.mark.parametrize("name", ["add", "se"])
def test_constants_behind_the_flatbuffer_are_put_back(name, tmp_path):
    original = DATA / f"{name}.int8.tflite"
    large, mended = tmp_path / "large.tflite", tmp_path / "mended.tflite"
    large.write_bytes(behind(original.read_bytes()))
    mended.write_bytes(compact(large.read_bytes()))
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 8)).astype(np.float32)
    assert (LiteRTNetwork(large)(images) == LiteRTNetwork(original)(images)).all()  # phones read both
    with pytest.raises(ExportError, match="behind the flatbuffer"):
        MicroNetwork(large)
    assert (MicroNetwork(mended)(images) == MicroNetwork(original)(images)).all()
    assert measure_arena(mended).head == measure_arena(original).head
    assert len(mended.read_bytes()) < len(original.read_bytes())


def test_names_go_and_constants_are_aligned():
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    content = compact((DATA / "se.int8.tflite").read_bytes())
    model = read_file(content)
    assert not any(tensor.name for tensor in model.subgraphs[0].tensors)
    packed = schema.Model.GetRootAs(content, 0)
    places = []
    for i in range(packed.BuffersLength()):
        buffer = packed.Buffers(i)
        if buffer.DataLength():
            places.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert len(places) > 3
    assert all(place % ALIGNMENT == 0 for place in places)
    with pytest.raises(ExportError, match="TFL3"):
        compact(b"not such a file")
