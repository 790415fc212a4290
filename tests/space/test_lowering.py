"""The law of lowering: an architecture's part of the open graph is the graph that `trace` gives."""

from __future__ import annotations

import re
import subprocess
import sys
from random import Random
from typing import Any

import pytest

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, TraceError
from nasturtium.space.lowering import lower
from nasturtium.space.open_graph import OpenGraph
from nasturtium.zoo import nasbench201
from nasturtium.zoo.mobile import mobile
from tests.space.open_blocks import Product, Residual, Uneven, conv, spaces

CASES = spaces()


def check(graph: OpenGraph, architecture: nas.Architecture, inputs: Any, **context: object) -> None:
    """Every operation that matters, its wiring, its path and its shapes are the same."""
    closed = nas.trace(architecture, inputs, **context)
    resolved = graph.resolve(architecture)
    assert [o.name for o in closed.outputs] == [name for name, _ in graph.outputs]
    assert closed.structure == graph.structure
    pairs = dict(enumerate(range(len(closed.inputs))))
    stack = list(zip([o.node for o in closed.outputs], resolved.outputs, strict=True))
    while stack:
        left, right = stack.pop()
        if pairs.get(left) == right and left >= len(closed.inputs):
            continue  # compared on another way to it
        node, step = closed.nodes[left], resolved.steps[right]
        assert (node.operation, node.path, node.shape) == (step.form.operation, step.form.path, step.form.shape)
        assert step.form.inputs == tuple(resolved.steps[i].form.shape for i in step.inputs)
        assert pairs.setdefault(left, right) == right
        stack.extend(zip(node.inputs, step.inputs, strict=True))
    assert len(resolved.steps) == len(set(pairs.values()))


@pytest.mark.parametrize("name", CASES)
def test_resolving_is_tracing(name: str) -> None:
    space, inputs = CASES[name]
    graph = lower(space, inputs)
    for architecture in space.enumerate() if space.size <= 60 else [space.sample(Random(i)) for i in range(60)]:
        try:
            nas.trace(architecture, inputs)
        except TraceError as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                graph.resolve(architecture)
        else:
            check(graph, architecture, inputs)


def test_resolving_is_tracing_for_the_zoo() -> None:
    for space, inputs in (
        (nasbench201.space(cells=2), (3, 32, 32)),
        (mobile((3, 32, 32)), (3, 32, 32)),
    ):
        graph = lower(space, inputs, classes=10)
        for seed in range(8):
            check(graph, space.sample(Random(seed), "hierarchical"), inputs, classes=10)


def test_the_work_is_a_sum_over_blocks_not_a_product() -> None:
    space = nasbench201.space(cells=5)
    graph = lower(space, (3, 32, 32), classes=10)
    cells = 15 * (6 * 8 + 2)  # each edge: skip none, zero 1, two convolutions of 3, pooling 1; two sums a cell
    assert space.size == 15_625
    assert len(graph.nodes) == cells + len([n for n in graph.nodes if ".cell." not in n.path])
    deep = nas.Space(nas.Sequential(*(Residual(4, nas.one_of(1, 3, 5)) for _ in range(40))))
    assert len(lower(deep, (4, 8, 8)).nodes) == 1 + 40 * 3


def test_a_prefix_is_shared_by_all_depths() -> None:
    space = nas.Space(nas.repeat(nas.Conv(4, kernel=nas.one_of(3, 5)), nas.one_of(1, 2, 3)))
    graph = lower(space, (4, 8, 8))
    assert len(graph.nodes) == 1 + 3 * 3
    assert len(graph.outputs[0][1].leaves()) == 3


def test_a_residual_at_some_widths_is_one_node_and_a_selection() -> None:
    graph = lower(Residual(nas.one_of(4, 8)), (4, 8, 8))
    assert [n.path for n in graph.nodes] == ["input", "conv", "norm", "add"]
    assert {form.operation.channels for form in graph.nodes[1].variants} == {4, 8}  # type: ignore[attr-defined]
    assert len(graph.outputs[0][1].leaves()) == 2


def test_options_that_are_blocks_have_paths_of_their_own() -> None:
    graph = lower(nas.Sequential(nas.one_of(conv(4), conv(8))), (4, 8, 8))
    paths = {n.path for n in graph.nodes}
    assert {"layers.0.0.conv.conv", "layers.0.1.conv.conv"} <= paths


def test_too_many_variants_name_the_choices() -> None:
    widths = tuple(nas.one_of(2, 3, 4, 5) for _ in range(6))
    with pytest.raises(TraceError, match=r"Product at 'layers\.1' has more than 400 variants.*layers\.1\.widths\.0"):
        lower(nas.Sequential(nas.Conv(4), Product(widths)), (4, 8, 8))
    assert len(lower(Product(widths[:3]), (4, 8, 8), limit=64).nodes) == 4


def test_outputs_nested_differently_are_refused() -> None:
    with pytest.raises(TraceError, match="nested alike"):
        lower(Uneven(nas.one_of(1, 2)), (4, 8, 8))


def test_architectures_that_cannot_be_traced_fail_alone() -> None:
    space = nas.Space(nas.Sequential(nas.blocks.MaxPool(kernel=nas.one_of(2, 9), stride=2, padding=0), nas.Conv(4)))
    graph = lower(space, (4, 8, 8))
    good, bad = space.enumerate()
    check(graph, good, (4, 8, 8))
    with pytest.raises(ShapeError, match="spans 9 pixels"):
        graph.resolve(bad)
    with pytest.raises(ShapeError, match="spans 9 pixels"):
        lower(nas.blocks.MaxPool(kernel=nas.one_of(9, 10), padding=0), (4, 8, 8))


def test_foreign_decisions_and_bad_arguments_are_refused() -> None:
    graph = lower(Residual(nas.one_of(4, 8)), (4, 8, 8))
    with pytest.raises(InvalidArchitectureError, match="width"):
        graph.resolve({"depth": 1})
    with pytest.raises(InvalidInputError, match="open block"):
        lower("mobile", (4, 8, 8))
    with pytest.raises(InvalidInputError, match="limit"):
        lower(Residual(4), (4, 8, 8), limit=0)


def test_lowering_loads_no_torch() -> None:
    code = (
        "import sys; from nasturtium.space.lowering import lower; from nasturtium.zoo.mobile import mobile;"
        "lower(mobile((1, 8, 8)), (1, 8, 8), classes=10); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
