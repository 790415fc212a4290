"""Peak memory: a brute-force simulation, and every row of MCUNet's published peaks."""

from __future__ import annotations

import json
import random
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph import operations as ops
from nasturtium.graph import tensor as T
from nasturtium.graph import trace
from nasturtium.space import Block
from tests.graph.programs import Builder, conv, random_graph


def simulated(graph, inplace_depthwise: bool = False) -> int:
    """Peak by explicit buffers: at every step, look ahead for what is still needed."""
    nodes = graph.nodes
    finals = {o.node for o in graph.outputs}

    def needed_after(tensor: int, step: int) -> bool:
        return tensor in finals or any(tensor in nodes[j].inputs for j in range(step + 1, len(nodes)))

    buffers: dict[int, int] = {}  # tensor -> bytes
    peak = 0
    for step, node in enumerate(nodes):
        size = prod(node.shape)
        candidates = []
        if node.operation.reuses_input:
            candidates = list(node.inputs if node.operation.is_commutative else node.inputs[:1])
        takes_over = [t for t in candidates if prod(nodes[t].shape) == size and not needed_after(t, step)]
        if takes_over:
            del buffers[takes_over[0]]
            buffers[step] = size
            peak = max(peak, sum(buffers.values()))
        else:
            extra = size
            op = node.operation
            if (
                inplace_depthwise
                and isinstance(op, ops.Conv)
                and op.groups == op.channels == nodes[node.inputs[0]].shape[0]
            ):
                source = node.inputs[0]
                if op.groups > 1 and not needed_after(source, step) and prod(nodes[source].shape) >= size:
                    extra = size // node.shape[0]
            peak = max(peak, sum(buffers.values()) + extra)
            buffers[step] = size
        for tensor in [t for t in buffers if not needed_after(t, step)]:
            del buffers[tensor]
    return peak


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 14), st.integers(1, 2), st.booleans())
def test_liveness_equals_brute_force(seed, size, inputs, inplace):
    graph = random_graph(random.Random(seed), size, inputs)
    assert graph.peak_memory(inplace_depthwise=inplace) == simulated(graph, inplace)


def test_convolution_norm_and_activation_are_one_buffer():
    b = Builder((4, 8, 8))
    x = b(ops.Activation("relu"), b(ops.BatchNorm(), b(conv(8, 3), 0)))
    assert b.graph(x).peak_memory() == (4 + 8) * 64


def test_a_residual_stays_alive():
    b = Builder((4, 8, 8))
    y = b(conv(4, 1), b(conv(24, 1), 0))
    assert b.graph(b(ops.Add(), 0, y)).peak_memory() == (4 + 24 + 4) * 64


def test_types_and_batch_scale():
    graph = random_graph(random.Random(5), 8)
    one = graph.peak_memory()
    assert graph.peak_memory("float32") == 4 * one
    assert graph.peak_memory("int8", batch=3) == 3 * one
    assert graph.peak_memory("int4", batch=2) == one


def test_unknown_settings_are_refused():
    graph = random_graph(random.Random(5), 3)
    with pytest.raises(UnknownNameError, match="int8"):
        graph.peak_memory("int9")
    with pytest.raises(UnknownNameError, match="liveness"):
        graph.peak_memory(convention="livenes")
    with pytest.raises(UnknownNameError, match="given"):
        graph.peak_memory(schedule="best")
    with pytest.raises(InvalidInputError, match="at least 1"):
        graph.peak_memory(batch=0)


class TinyNet(Block):
    """A row of the family "MCUNet/TinyNAS": (kernel, expand, in, out, stride, hidden) for each block."""

    stem: int
    blocks: tuple[tuple[int | None, ...], ...]
    classifier_in: int

    def forward(self, x):
        def part(x, width, kernel=1, stride=1, groups=1, act="relu6", name="conv"):
            with x.scope(name):
                x = T.batch_norm(T.conv(x, width, kernel, stride=stride, groups=groups))
                return T.activation(x, act)

        x = part(x, self.stem, 3, 2, name="stem")
        for number, (kernel, expand, width_in, width, stride, mid) in enumerate(self.blocks):
            assert x.channels == width_in
            hidden = round(width_in * expand) if mid is None else mid
            with x.scope(f"block_{number}"):
                y = part(x, hidden, name="expand") if expand != 1 else x
                y = part(y, hidden, kernel, stride, hidden, name="depthwise")
                y = part(y, width, act="identity", name="project")
                x = x + y if stride == 1 and width_in == width and number else y
        if self.classifier_in != x.channels:
            x = part(x, self.classifier_in, name="mix")
        return T.linear(T.flatten(T.global_pool(x)), x.context.classes)


def test_every_published_peak_of_mcunet(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if "peak_activation_bytes_inout_residual" in r]
    assert len(rows) >= 10
    for row in rows:
        config = row["config"]
        blocks = tuple(tuple(b) for b in config["blocks_k_e_cin_cout_stride_mid"])
        graph = trace(TinyNet(config["stem"], blocks, config["classifier_in"]), tuple(row["input_size"]), classes=1000)
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]
        assert graph.peak_memory(convention="conv_in_out") == row["peak_activation_bytes_inout_residual"], row["name"]
        inplace = graph.peak_memory(convention="conv_in_out", inplace_depthwise=True)
        assert inplace == row["peak_activation_bytes_inplace_dw"], row["name"]


class Alone(Block):
    affine: bool = True

    def forward(self, x):
        return T.batch_norm(x, affine=self.affine)


class Dense(Block):
    """Norm, activation, convolution, concatenated with the input; the convolution's own norm can be folded."""

    def forward(self, x):
        y = T.conv(T.activation(T.batch_norm(x, name="before")), 8, 1, name="conv")
        return T.concat(x, T.batch_norm(y, name="after"))


class ReadTwice(Block):
    """A convolution that something else reads beside its norm."""

    def forward(self, x):
        y = T.conv(x, 8, 1)
        return y + T.batch_norm(y)


class Returned(Block):
    """A convolution that the network returns too."""

    def forward(self, x):
        y = T.conv(x, 8, 1)
        return y, T.batch_norm(y)


class Tied(Block):
    """One convolution used twice, with a norm for each use."""

    conv: object
    first: object
    second: object

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


def test_norms_that_cannot_be_folded_are_stored():
    for affine in (True, False):
        alone = trace(Alone(affine), (16, 4, 4))
        assert alone.flash_memory() == alone.flash_memory("int4") == 16 * 2 * 4
        assert alone.flash_memory(bias=False) == 16 * 4
        assert alone.flash_memory("float16") == 16 * 2 * 2
        assert alone.flash_memory("float64") == 16 * 2 * 8
    conv = 16 * 8 + 8 * 4
    assert trace(Dense(), (16, 4, 4)).flash_memory() == 16 * 2 * 4 + conv
    for block in (ReadTwice(), Returned()):
        assert trace(block, (16, 4, 4)).flash_memory() == conv + 8 * 2 * 4


def test_a_layer_used_twice_takes_one_norm_only():
    class Plain(Block):
        def forward(self, x):
            return T.conv(x, 8, 1)

    conv = 8 * 8 + 8 * 4
    assert trace(Tied(Plain(), Alone(), Alone()), (8, 4, 4)).flash_memory() == conv + 2 * 8 * 2 * 4

    class Same(Block):
        conv: object
        norm: object

        def forward(self, x):
            return self.norm(self.conv(self.norm(self.conv(x))))

    assert trace(Same(Plain(), Alone()), (8, 4, 4)).flash_memory() == conv
