"""The arena and flash of a microcontroller, predicted: by hand, and against what the real runtime allocated."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.errors import ExportError, IncompatibleError, InvalidInputError
from nasturtium.graph import tensor as T
from nasturtium.graph import trace
from nasturtium.hardware import predict_arena, predict_file, predict_flash
from nasturtium.hardware.arena import parse_allocations
from nasturtium.hardware.micro import greedy_plan
from nasturtium.hardware.micro_program import micro_program
from tests.graph.test_memory import TinyNet

PRINTED = """\
[RecordingMicroAllocator] Arena allocation total 2352 bytes
[RecordingMicroAllocator] Arena allocation head 1024 bytes
[RecordingMicroAllocator] Arena allocation tail 1328 bytes
[RecordingMicroAllocator] 'TfLiteEvalTensor data' used 168 bytes with alignment overhead (requested 168 bytes for 7 allocations)
[RecordingMicroAllocator] 'NodeAndRegistration struct' used 128 bytes with alignment overhead (requested 128 bytes for 2 NodeAndRegistration structs)
"""  # noqa: E501


class Stem(nas.Block):
    """3x3 with stride 2, norm, relu: one operation, and a border where the image is even."""

    act: str = "relu"

    def forward(self, x):
        return T.activation(T.batch_norm(T.conv(x, 8, 3, stride=2)), self.act)


def test_what_the_allocator_prints_is_read():
    arena = parse_allocations(PRINTED)
    assert (arena.total, arena.head, arena.tail) == (2352, 1024, 1328)
    assert arena.sections == {"TfLiteEvalTensor data": 168, "NodeAndRegistration struct": 128}
    with pytest.raises(ExportError, match="head"):
        parse_allocations(PRINTED.replace("head", "heap"))


def test_a_border_is_a_copy_where_the_padding_is_not_the_runtimes_own():
    odd, even = trace(Stem(), (4, 9, 9)), trace(Stem(), (4, 8, 8))
    assert [o.name for o in micro_program(odd).operations] == ["CONV_2D"]
    assert [o.name for o in micro_program(even).operations] == ["PAD", "CONV_2D"]
    assert predict_arena(odd).head == -(-4 * 81 // 16) * 16 + 8 * 25 + 8
    assert predict_arena(even).head == 4 * 64 + 4 * 100  # the copy beside the image is the worst moment


def test_activations_that_are_not_fused_are_operations():
    def names(act):
        return [o.name for o in micro_program(trace(Stem(act), (4, 9, 9))).operations]

    assert names("relu6") == ["CONV_2D"]
    assert names("hardswish") == ["CONV_2D", "HARD_SWISH"]
    assert names("silu") == ["CONV_2D", "LOGISTIC", "MUL"]
    with pytest.raises(IncompatibleError, match="gelu"):
        micro_program(trace(Stem("gelu"), (4, 9, 9)))


def relu3(x, kernel=3, channels=8):
    return T.activation(T.conv(x, channels, kernel), "relu")


def dense(x):
    once = T.concat(x, relu3(x, 3, 4))
    return T.concat(once, relu3(once, 3, 4))


CASES = {
    # what litert-torch 0.10, ai-edge-quantizer 0.10 and tflite-micro 0.dev20261023182759 allocated for the int8 network
    # conv 1x1 of 8 channels -> the operations -> (conv 1x1 of 4 channels) on an image of (8, 8, 8)
    "conv3": (lambda x: T.conv(x, 8, 3), False, 1024, 1360),
    "conv3 stride 2": (lambda x: T.conv(x, 8, 3, stride=2), False, 1312, 1536),
    "depthwise": (lambda x: T.conv(x, 8, 3, groups=8), False, 1024, 1360),
    "depthwise times 2": (lambda x: T.conv(x, 16, 3, groups=8), False, 1536, 1424),
    "relu": (lambda x: T.activation(x, "relu"), True, 1024, 1328),
    "hardswish": (lambda x: T.activation(x, "hardswish"), True, 1024, 1440),
    "silu": (lambda x: T.activation(x, "silu"), True, 1536, 1568),
    "sigmoid": (lambda x: T.activation(x, "sigmoid"), True, 1024, 1424),
    "max pool": (lambda x: T.max_pool(x, 3), True, 1024, 1488),
    "max pool stride 2": (lambda x: T.max_pool(x, 3, stride=2), True, 1312, 1680),
    "average pool 2": (lambda x: T.avg_pool(x, 2, stride=2), True, 1024, 1488),
    "average pool, border counted": (lambda x: T.avg_pool(x, 3, count_include_pad=True), True, 1312, 1664),
    "add": (lambda x: T.conv(x, 8, 1) + x, True, 1536, 1792),
    "head": (lambda x: T.linear(T.flatten(T.global_pool(x)), 10), False, 1024, 1552),
    "concat with what is read twice": (lambda x: T.concat(relu3(x), x), True, 2048, 1936),
    "concat with a pool": (lambda x: T.concat(T.avg_pool(x, 3), relu3(x)), True, 2048, 2096),
    "concat of a concat": (
        lambda x: T.concat(T.concat(relu3(x, 1, 4), relu3(x, 3, 4)), relu3(x, 5)), True, 2048, 2368,
    ),
    "dense": (lambda x: dense(x), True, 2048, 2464),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_single_operations_against_the_runtime(name):
    make, closed, head, tail = CASES[name]

    class Net(nas.Block):
        def forward(self, x):
            y = make(T.conv(x, 8, 1))
            return T.conv(y, 4, 1) if closed else y

    predicted = predict_arena(trace(Net(), (8, 8, 8)))
    assert predicted.head == head
    assert abs(predicted.tail - tail) <= 0.05 * tail


def overlap(offsets, sizes, spans):
    for i, j in itertools.combinations(range(len(sizes)), 2):
        together = spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1]
        if together and offsets[i] < offsets[j] + sizes[j] and offsets[j] < offsets[i] + sizes[i]:
            return True
    return False


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 4)), max_size=9))
def test_a_plan_never_overlaps_and_needs_at_least_what_is_alive(buffers):
    sizes = [size for size, _, _ in buffers]
    spans = [(start, start + length) for _, start, length in buffers]
    offsets, total = greedy_plan(sizes, spans)
    assert not overlap(offsets, sizes, spans)
    alive = max((sum(s for s, (a, b) in zip(sizes, spans, strict=True) if a <= t <= b) for t in range(15)), default=0)
    assert alive <= total <= sum(sizes)


def test_a_plan_by_hand():
    """Largest first: 10 at 0; 6, which lives with it, above; 4 below again, as the 10 is gone by then."""
    assert greedy_plan([4, 10, 6], [(2, 3), (0, 1), (1, 2)]) == ([0, 0, 10], 16)
    with pytest.raises(InvalidInputError, match="2 sizes"):
        greedy_plan([1, 2], [(0, 0)])


def test_of_buffers_of_one_size_the_later_is_placed_first():
    """A residual block of 8 channels on 32x32 and the border of the next convolution: 25,632 bytes in the runtime."""
    size = 8 * 32 * 32
    spans = [(0, 3), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert greedy_plan([size] * 4 + [8 * 34 * 34], spans)[1] == 25_632


def test_what_a_concatenation_reads_has_its_scale():
    class Net(nas.Block):
        def forward(self, x):
            return T.concat(relu3(x), relu3(x, 1), T.max_pool(x, 3), x)

    names = [o.name for o in micro_program(trace(Net(), (8, 8, 8))).operations]
    assert names == ["CONV_2D", "CONV_2D", "MAX_POOL_2D", "QUANTIZE", "QUANTIZE", "CONCATENATION"]


def test_flash_is_weights_biases_and_scales():
    flash = predict_flash(trace(nas.Sequential(Stem(), nas.Classifier()), (4, 8, 8), classes=10))
    assert flash.weights == 8 * 4 * 9 + 10 * 8
    assert flash.biases == 4 * (8 + 10)
    assert flash.quantisation == (8 + 10) * 24
    assert flash.total == flash.weights + flash.biases + flash.quantisation


def test_the_file_has_a_structure_of_its_own_for_each_operation():
    """Sizes of files that litert-torch 0.10 and ai-edge-quantizer 0.10 wrote, names left out; none was fitted."""

    class Fire(nas.Block):
        def forward(self, x):
            y = relu3(T.conv(x, 8, 1), 1, 4)
            return T.conv(T.concat(relu3(y, 1), relu3(y)), 4, 1)

    class Dense(nas.Block):
        def forward(self, x):
            return T.conv(dense(T.conv(x, 8, 1)), 4, 1)

    for block, size in ((Fire(), 3632), (Dense(), 3760)):
        graph = trace(block, (8, 8, 8))
        assert predict_flash(graph).total < predict_file(graph) == pytest.approx(size, rel=0.1)


def test_the_published_file_of_mcunet(reference: Path):
    """Of 320 kB / 1 MB: 755,784 bytes of weights and biases; the authors' `.tflite` file has 1,018,208."""
    (row,) = [r for r in json.loads(reference.read_text())["values"] if r["name"] == "mcunet-320kb-1mb_imagenet"]
    config = row["config"]
    blocks = tuple(tuple(b) for b in config["blocks_k_e_cin_cout_stride_mid"])
    flash = predict_flash(trace(TinyNet(config["stem"], blocks, config["classifier_in"]), (3, 176, 176), classes=1000))
    assert flash.weights + flash.biases == 755_784
    assert 0.93 * 1_018_208 < flash.total < 1_018_208  # the rest is the file's structure and names
