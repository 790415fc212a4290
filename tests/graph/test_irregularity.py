"""Irregularity: its definition against a plain simulation, and `CostModel` against the graph."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.cli import main
from nasturtium.errors import InvalidInputError
from nasturtium.graph import CostModel, Graph, cost, irregularity, operations, trace
from nasturtium.graph import tensor as ops
from nasturtium.graph.layers import FOLLOWERS
from nasturtium.space import Block
from tests.graph.programs import random_graph
from tests.graph.test_cost import SIZE, Headed, Holder, Root, Step, random_web

seeds = st.integers(0, 2**40)


def assert_equal(found: nas.graph.Cost, graph: Graph) -> None:
    assert (found.irregularity, found.kernels) == (graph.irregularity, graph.kernels)


def by_hand(graph: Graph) -> dict[str, int]:
    """The four parts from the nodes alone: fuse, then number the steps by asking for the longest path."""
    nodes = graph.nodes
    readers = Counter(i for n in graph.costed for i in nodes[n].inputs)
    kernels, edges, step = [], 0, {}

    def depth(n: int) -> int:
        operation = nodes[n].operation
        if isinstance(operation, operations.Input):
            return 0
        if n not in step:
            before = max(depth(i) for i in nodes[n].inputs)
            step[n] = before if fused(n) else before + 1
        return step[n]

    def fused(n: int) -> bool:
        operation, inputs = nodes[n].operation, nodes[n].inputs
        if not isinstance(operation, FOLLOWERS) or readers[inputs[0]] != 1:
            return False
        return not isinstance(nodes[inputs[0]].operation, operations.Input)

    for n in graph.costed:
        if not isinstance(nodes[n].operation, operations.Input) and not fused(n):
            kernels.append(n)
            edges += len(nodes[n].inputs)
    steps = Counter(depth(n) for n in kernels)
    return {
        "kernels": len(kernels),
        "edges": edges,
        "depth": max(steps, default=0),
        "branches": max(steps.values(), default=0),
    }


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_parts_of_random_graphs(seed):
    rng = random.Random(seed)
    graph = random_graph(rng, rng.randint(1, 15), inputs=rng.randint(1, 3))
    found = irregularity(graph)
    expected = by_hand(graph)
    assert {name: getattr(found, name) for name in expected} == expected
    assert graph.irregularity == found.irregularity == expected["edges"] / expected["depth"]
    assert 1 <= found.fragmentation <= found.irregularity
    assert found.fragmentation <= found.branches <= found.kernels
    assert found.depth <= found.kernels <= found.edges


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_random_webs_of_blocks_are_as_irregular_as_their_graph(seed):
    block = Root(random_web(random.Random(seed)))
    assert_equal(cost(block, SIZE), trace(block, SIZE))


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_several_inputs(seed):
    block = random_web(random.Random(seed))
    shapes = {"left": SIZE, "right": SIZE}
    assert_equal(cost(block, shapes), trace(block, shapes))


def first(result):
    """The first of a child's results."""
    return result[0] if isinstance(result, tuple) else result


class Follows(Block):
    """Norms and activations on the input and before the output: who owns them is the caller's to see."""

    before: str
    inner: Block
    after: str

    def forward(self, x):
        return self._some(first(self.inner(self._some(x, self.before))), self.after)

    def _some(self, x, what):
        match what:
            case "norm":
                return ops.batch_norm(x)
            case "both":
                return ops.activation(ops.batch_norm(x))
            case "twice":
                return ops.activation(x, name="a") + ops.activation(x, name="b")
            case "gate":
                return ops.activation(x, "sigmoid") * x
            case _:
                return x


class Pair(Block):
    """Two children on one tensor, one of which may be idle; the first's result may leave too."""

    left: Block
    right: Block
    leak: bool

    def forward(self, x):
        y = first(self.left(x))
        z = ops.add(y, first(self.right(x)))
        return (z, y) if self.leak else z


class Chain(Block):
    parts: tuple[Block, ...]

    def forward(self, x):
        for part in self.parts:
            x = first(part(x))
        return x


def random_chain(rng: random.Random, depth: int = 3) -> Block:
    def some(depth: int) -> Block:
        kind = rng.random()
        if depth == 0 or kind < 0.2:
            return Step(rng.choice(["conv", "cna", "act", "pool", "gate", "idle"]))
        if kind < 0.5:
            names = ["", "norm", "both", "twice", "gate"]
            return Follows(rng.choice(names), some(depth - 1), rng.choice(names))
        if kind < 0.75:
            return Pair(some(depth - 1), some(depth - 1), rng.random() < 0.3)
        return Chain(tuple(some(depth - 1) for _ in range(rng.randint(1, 3))))

    return Chain((some(depth), some(depth)))


def test_norms_across_the_borders_of_blocks():
    rng = random.Random(0)
    model = CostModel(SIZE)
    for _ in range(600):
        block = random_chain(rng)
        assert_equal(model(block), trace(block, SIZE))


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_spaces_of_the_zoo(name):
    rng = random.Random(1)
    space = nas.zoo.space(name)
    size = (3, 64, 64)
    model = CostModel(size, classes=7)
    for _ in range(6):
        architecture = space.sample(rng, sampler="hierarchical")
        graph = trace(architecture, size, classes=7)
        assert_equal(model(architecture), graph)
        found = irregularity(graph)
        assert by_hand(graph) == {n: getattr(found, n) for n in ("kernels", "edges", "depth", "branches")}


def test_training_only_outputs_are_left_out():
    graph = trace(Headed(Step("conv")), SIZE)
    assert (irregularity(graph).kernels, graph.irregularity) == (2, 1.0)
    assert cost(Headed(Step("conv")), SIZE).irregularity == 1.0


def test_a_chain_is_regular():
    chain = nas.Sequential(nas.Conv(8, stride=2), *[nas.Conv(8) for _ in range(5)], nas.Classifier(10))
    found = irregularity(trace(chain, (3, 16, 16)))
    assert (found.kernels, found.edges, found.depth, found.branches) == (8, 8, 8, 1)
    assert found.irregularity == found.fragmentation == cost(chain, (3, 16, 16)).irregularity == 1.0


def test_a_network_of_no_kernels_is_regular():
    assert trace(nas.Identity(), SIZE).irregularity == cost(nas.Identity(), SIZE).irregularity == 1.0
    assert irregularity(trace(nas.Identity(), SIZE)).fragmentation == 1.0


class Branches(Block):
    """One tensor read by so many convolutions, whose sum is the output."""

    count: int

    def forward(self, x):
        return ops.add(*[ops.conv(x, 3, name=f"branch_{k}") for k in range(self.count)])


@pytest.mark.parametrize("count", [2, 3, 8])
def test_parallel_branches(count):
    found = irregularity(trace(Branches(count), SIZE))
    assert (found.kernels, found.edges, found.depth, found.branches) == (count + 1, 2 * count, 2, count)
    assert found.irregularity == count == cost(Branches(count), SIZE).irregularity
    assert found.fragmentation == (count + 1) / 2


def test_published_networks_in_order_of_their_irregularity():
    """VGG-like chains, residual networks, and cells, as the literature ranks them."""
    mobile = nas.zoo.mobilenetv2.mobilenetv2()
    resnet = nas.zoo.resnet.resnet(50)
    cell = nas.zoo.nasbench201.network(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    found = [cost(block, (3, 64, 64), classes=10).irregularity for block in (mobile, resnet, cell)]
    assert 1 < found[0] < found[1] < found[2]


def test_it_does_not_count_in_the_equality_of_costs():
    found = cost(Holder(Step("conv")), SIZE)
    assert found == replace(found, wired=trace(Step("conv"), SIZE))
    assert "wired" not in repr(found)


def test_it_is_a_cheap_metric():
    limit = nas.irregularity <= 1.5
    assert nas.trial.parse_constraint("irregularity <= 1.5") == limit
    assert nas.trial.parse_objective("minimize irregularity").metric == "irregularity"
    with pytest.raises(InvalidInputError, match="at least 1"):
        _ = nas.irregularity <= 0.5


def test_the_command_tells_it(capsys):
    assert main(["cost", "resnet18", "--input", "3x64x64", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    graph = trace(nas.zoo.resnet.resnet(18), (3, 64, 64), classes=1000)
    assert told["irregularity"] == graph.irregularity
    assert told["irregularity_parts"] == asdict(irregularity(graph))
    limit = ["--constraint", "irregularity <= 2"]
    assert main(["space", "nasbench201", "--samples", "40", *limit, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["share_feasible"] < 1 <= told["costs"]["irregularity"]["min"]
    assert main(["cost", "resnet18", "--input", "3x64x64"]) == 0
    assert "tensors read per step" in capsys.readouterr().out
