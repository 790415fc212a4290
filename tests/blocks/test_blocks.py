"""Blocks: shapes, costs in closed form, and names that do not depend on fields' values."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.blocks import (
    AvgPool,
    BasicBlock,
    Bottleneck,
    DepthwiseSeparable,
    Linear,
    MaxPool,
    make_divisible,
)
from nasturtium.errors import InvalidInputError, InvalidSpaceError, ShapeError

KERNELS = st.sampled_from([1, 3, 5, 7])
WIDTHS = st.integers(1, 24)
SIDES = st.integers(1, 17)


@given(WIDTHS, WIDTHS, KERNELS, st.integers(1, 3), SIDES, SIDES)
def test_conv_shape_and_cost(inside: int, width: int, kernel: int, stride: int, height: int, side: int) -> None:
    graph = nas.trace(nas.Conv(width, kernel, stride), (inside, height, side))
    out = (width, ceil(height / stride), ceil(side / stride))
    assert graph.nodes[-1].shape == out
    assert graph.params == inside * width * kernel**2 + 2 * width
    assert graph.macs == inside * width * kernel**2 * out[1] * out[2]


@given(KERNELS, st.integers(1, 4), SIDES, SIDES)
def test_tensorflow_padding_keeps_the_ceiling(kernel: int, stride: int, height: int, side: int) -> None:
    graph = nas.trace(nas.Conv(4, kernel, stride, padding="tf_same"), (3, height, side))
    assert graph.nodes[-1].shape == (4, ceil(height / stride), ceil(side / stride))


@given(WIDTHS, WIDTHS, KERNELS, st.sampled_from([1, 2]), st.sampled_from([1, 2, 3.5, 6]), st.sampled_from([None, 0.25]))
@settings(deadline=None)
def test_mbconv_parameters(inside: int, width: int, kernel: int, stride: int, expand: float, se: float | None) -> None:
    graph = nas.trace(nas.MBConv(width, kernel, stride, expand, se=se), (inside, 8, 8))
    hidden = max(1, round(inside * expand))
    params = hidden * kernel**2 + 2 * hidden + hidden * width + 2 * width
    if hidden != inside:
        params += inside * hidden + 2 * hidden
    if se:
        middle = max(1, round(hidden * se))
        params += 2 * hidden * middle + middle + hidden
    assert graph.params == params
    assert graph.nodes[-1].shape == (width, 8 // stride, 8 // stride)
    assert (graph.nodes[-1].path == "add") == (stride == 1 and width == inside)


@given(WIDTHS, WIDTHS, KERNELS, st.sampled_from([1, 2]))
def test_depthwise_separable_is_an_inverted_residual_without_expansion(
    inside: int, width: int, kernel: int, stride: int
) -> None:
    separable = nas.trace(DepthwiseSeparable(width, kernel, stride), (inside, 9, 9))
    inverted = nas.trace(nas.MBConv(width, kernel, stride, 1, act="relu"), (inside, 9, 9))
    assert [(n.operation, n.inputs, n.path) for n in separable.nodes] == [
        (n.operation, n.inputs, n.path) for n in inverted.nodes
    ]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("shortcut", ["conv", "pool", "pad"])
@pytest.mark.parametrize(("inside", "stride"), [(8, 1), (16, 1), (8, 2), (16, 2)])
def test_residual_shapes(block: type, shortcut: str, inside: int, stride: int) -> None:
    graph = nas.trace(block(16, stride=stride, shortcut=shortcut), (inside, 9, 9))
    assert graph.nodes[-1].shape == (16, ceil(9 / stride), ceil(9 / stride))
    has_weights = any(n.path.startswith("shortcut.conv") for n in graph.nodes)
    assert has_weights == (shortcut != "pad" and (inside != 16 or stride != 1))


def test_residual_refuses() -> None:
    with pytest.raises(InvalidInputError, match="conv, pool, pad"):
        nas.trace(BasicBlock(8, shortcut="none"), (8, 4, 4))
    with pytest.raises(InvalidInputError, match="cannot go from 8 to 4"):
        nas.trace(BasicBlock(4, shortcut="pad"), (8, 4, 4))


@pytest.mark.parametrize(
    "variants",
    [
        [nas.MBConv(16, k, s, e, se=se) for k in (3, 7) for s in (1, 2) for e in (1, 2, 6) for se in (None, 0.25)],
        [BasicBlock(w, stride=s, se=se) for w in (8, 16) for s in (1, 2) for se in (None, 0.25)],
        [Bottleneck(w, stride=s, ratio=r) for w in (8, 16) for s in (1, 2) for r in (0.25, 0.5)],
    ],
    ids=lambda v: type(v[0]).__name__,
)
def test_names_do_not_depend_on_values(variants: list) -> None:
    """A weight that two variants have stands at one path: the paths are the union's, none is renumbered."""
    kinds: dict[str, str] = {}
    for block in variants:
        for node in nas.trace(block, (8, 8, 8)).nodes:
            assert kinds.setdefault(node.path, node.operation.kind) == node.operation.kind
            assert not node.path[-1].isdigit()


def test_head_and_vectors() -> None:
    graph = nas.trace(nas.Classifier(features=32), (8, 4, 4), classes=5)
    assert graph.params == 8 * 32 + 32 + 32 * 5 + 5
    graph = nas.trace(nas.Sequential(Linear(6), nas.Classifier(3)), (2, 4, 4))
    assert graph.params == 32 * 6 + 6 + 6 * 3 + 3
    assert nas.trace(nas.Classifier(3), (7,)).nodes[-1].shape == (3,)


def test_pools() -> None:
    assert nas.trace(MaxPool(3, 2), (4, 9, 9)).nodes[-1].shape == (4, 5, 5)
    assert nas.trace(AvgPool(2, 2, 0), (4, 9, 9)).nodes[-1].shape == (4, 4, 4)
    assert nas.trace(AvgPool(2, 2, 0, ceil_mode=True), (4, 9, 9)).nodes[-1].shape == (4, 5, 5)


def test_none_keeps_the_width() -> None:
    for block in (nas.Conv(), nas.MBConv(), DepthwiseSeparable(), BasicBlock(), Bottleneck()):
        assert nas.trace(block, (12, 8, 8)).nodes[-1].shape == (12, 8, 8)


def test_sequential_takes_layers_either_way() -> None:
    a, b = nas.Conv(4), nas.Conv(8)
    assert nas.Sequential(a, b) == nas.Sequential(layers=[a, b])
    assert nas.Sequential() == nas.Sequential(layers=())
    assert repr(nas.Sequential(nas.Identity())) == "Sequential(Identity())"
    with pytest.raises(InvalidInputError, match="not as both"):
        nas.Sequential(a, layers=(b,))
    assert [n.path for n in nas.trace(nas.Sequential(a, b), (1, 2, 2)).nodes if n.operation.kind == "conv"] == [
        "layers.0.conv.conv",
        "layers.1.conv.conv",
    ]


def test_wrong_width_is_named() -> None:
    with pytest.raises(ShapeError, match="at least 1 channel"):
        nas.trace(nas.Conv(0), (1, 2, 2))
    with pytest.raises(InvalidInputError, match="same, tf_same, valid"):
        nas.trace(nas.Conv(1, padding="full"), (1, 2, 2))


@given(st.floats(1, 5000), st.sampled_from([1, 4, 8, 16]))
def test_make_divisible(value: float, divisor: int) -> None:
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= divisor
    assert rounded >= 0.9 * value or divisor == 1
    assert abs(rounded - value) <= max(divisor, 1)


class TestRepeat:
    """Copies, depth, overrides."""

    def test_closed(self) -> None:
        stage = nas.repeat(nas.MBConv(8), 3, stride=2, width=8)
        assert [b.stride for b in stage.blocks] == [2, 1, 1]
        assert not stage.is_open
        assert nas.trace(stage, (4, 8, 8)).nodes[-1].shape == (8, 4, 4)

    def test_each_copy_decides_anew(self) -> None:
        block = nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(2, 3))
        assert nas.Space(nas.repeat(block, 3)).size == 4**3
        assert nas.Space(nas.repeat(block, 3, shared=True)).size == 4
        assert nas.Space(nas.repeat(block, nas.one_of(1, 2))).size == 4 + 16
        assert nas.Space(nas.repeat(block, nas.int_range(0, 2))).size == 1 + 4 + 16
        assert nas.Space(nas.repeat(block, nas.one_of(1, 2), width=nas.one_of(4, 8))).size == 8 + 32

    def test_decisions_are_named_by_their_place(self) -> None:
        space = nas.Space(nas.Sequential(nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5)), nas.one_of(1, 2))))
        names = [d.name for d in space.decisions]
        assert "layers.0.blocks.0.kernel" in names
        assert "layers.0.blocks.1.kernel" in names

    def test_choice_between_blocks(self) -> None:
        stage = nas.repeat(nas.one_of(nas.MBConv(8), nas.Identity()), 2, stride=2)
        space = nas.Space(stage)
        assert space.size == 4
        shapes = {nas.trace(a, (8, 4, 4)).nodes[-1].shape for a in space.enumerate()}
        assert shapes == {(8, 4, 4), (8, 2, 2)}

    def test_refuses(self) -> None:
        with pytest.raises(InvalidInputError, match=r"cannot set strid .*fields width"):
            nas.repeat(nas.MBConv(8), 2, strid=2)
        with pytest.raises(InvalidInputError, match="takes a block"):
            nas.repeat(8, 2, stride=2)
        for times in (-1, 1.5, True, nas.one_of(1, "2"), nas.subset((1, 2), 1)):
            with pytest.raises(InvalidSpaceError, match="times"):
                nas.repeat(nas.MBConv(8), times)
