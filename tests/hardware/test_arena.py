"""Small int8 files in the real interpreters: what they compute, and the arena that they take.

The files in `data` were written by litert-torch 0.10 and ai-edge-quantizer 0.10 from networks with drawn weights:
a 1x1 convolution of 8 channels on an image of (8, 8, 8), the operations of `NETWORKS`, and, where that ends in an
image, a 1x1 convolution of 4 channels (8 after squeeze-and-excitation).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import ExportError
from nasturtium.graph import tensor as T
from nasturtium.graph import trace
from nasturtium.hardware import LiteRTNetwork, MicroNetwork, fits_arena, measure_arena, predict_arena, smallest_arena
from nasturtium.hardware.tflite import operations, require

DATA = Path(__file__).parent / "data"


def absent(*names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"the extra tinyml is not installed: {', '.join(missing)}")


def squeezed(x):
    y = T.activation(T.conv(T.global_pool(x), 4, 1, bias=True), "relu")
    return T.conv(x * T.activation(T.conv(y, 8, 1, bias=True), "hardsigmoid"), 8, 1)


NETWORKS = {
    "dw3s2": lambda x: T.conv(x, 8, 3, stride=2, groups=8),
    "act_hardswish": lambda x: T.conv(T.activation(x, "hardswish"), 4, 1),
    "maxpool_s2p1": lambda x: T.conv(T.max_pool(x, 3, stride=2), 4, 1),
    "gap_linear": lambda x: T.linear(T.flatten(T.global_pool(x)), 10),
    "add": lambda x: T.conv(T.conv(x, 8, 1) + x, 4, 1),
    "se": squeezed,
}


def path(name):
    return DATA / f"{name}.int8.tflite"


@absent("tflite_micro")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_arena_that_is_really_allocated_was_predicted(name):
    class Net(nas.Block):
        def forward(self, x):
            return NETWORKS[name](T.conv(x, 8, 1))

    predicted = predict_arena(trace(Net(), (8, 8, 8)))
    arena = measure_arena(path(name))
    assert arena.total == arena.head + arena.tail
    assert predicted.head == arena.head
    assert abs(predicted.tail - arena.tail) <= 0.05 * arena.tail
    assert sum(arena.sections.values()) <= arena.tail


@absent("tflite_micro")
@pytest.mark.slow  # a process of its own for each size
def test_the_smallest_arena_is_just_below_what_the_allocator_says():
    arena = measure_arena(path("dw3s2"))
    smallest = smallest_arena(path("dw3s2"))
    assert 0 <= arena.total - smallest <= 0.02 * arena.total
    assert fits_arena(path("dw3s2"), arena.total)
    assert not fits_arena(path("dw3s2"), smallest - 16)


@absent("tflite_micro", "ai_edge_litert")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_two_interpreters_differ_by_a_step_at_most(name):
    light, micro = LiteRTNetwork(path(name)), MicroNetwork(path(name))
    images = np.random.default_rng(0).standard_normal((8, 8, 8, 8)).astype(np.float32)
    ours, theirs = micro(images), light(images)
    assert ours.shape == theirs.shape
    assert ours.shape[:2] == (8, {"gap_linear": 10, "dw3s2": 8, "se": 8}.get(name, 4))
    assert np.abs(ours - theirs).max() <= 1.01 * micro.output.scale
    assert np.ptp(ours) > 10 * micro.output.scale  # they compute something


@absent("ai_edge_litert")
def test_operations_are_those_of_the_file():
    assert operations(path("gap_linear")) == ("CONV_2D", "MEAN", "FULLY_CONNECTED")
    assert operations(path("dw3s2")) == ("CONV_2D", "PAD", "DEPTHWISE_CONV_2D")


@absent("tflite_micro")
def test_an_arena_that_is_too_small_is_an_error():
    with pytest.raises(ExportError, match="arena of 1,000 bytes"):
        MicroNetwork(path("add"), arena_bytes=1000)


@absent("tflite_micro")
def test_a_file_that_is_allocated_and_does_not_run_is_an_error(monkeypatch):
    network = MicroNetwork(path("add"))
    with pytest.raises(ExportError, match=r"cannot run it on an input of \(3,\), float64"):
        network.run(np.zeros(3))

    class Broken:
        get_input_details = get_output_details = network.interpreter.get_input_details

        def set_input(self, image, index):
            pass

        def invoke(self):
            raise RuntimeError("an operation failed")

    runtime = require("tflite_micro").runtime
    monkeypatch.setattr(runtime.Interpreter, "from_file", lambda *_, **__: Broken())
    with pytest.raises(ExportError, match="an operation failed"):
        measure_arena(path("add"))
