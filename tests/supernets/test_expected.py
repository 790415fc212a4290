"""The law of the expected cost: the mean over all closed networks, by their probabilities, as `trace` counts them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from random import Random
from typing import Any

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, TraceError
from nasturtium.graph.operations import Conv, Operation, Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space.lowering import lower
from nasturtium.supernets.expected import ExpectedCost
from nasturtium.zoo import autodeeplab, darts, enas_macro, nasbench201, once_for_all, proxylessnas
from tests.space.open_blocks import spaces

CASES = {name: case for name, case in spaces().items() if name not in ("depth", "user's module")}  # slow ones


class Twice(nas.Block):
    """Calls its child once or twice on one input: two operations, one weight."""

    body: Any
    times: int

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y if self.times == 1 else y + self.body(x)


class Auxiliary(nas.Block):
    """A head for training only, where it is asked for; its first convolution may serve the network too."""

    body: Any
    head: bool
    shared: bool

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        y = nas.ops.conv(x, 5, 1, name="first")
        y = nas.ops.conv(y, 3, name="second")
        main = nas.ops.conv(nas.ops.concat(x, y) if self.shared else x, 2, name="main")
        return main, nas.ops.training_only(y) if self.head else y


def drawn(space: nas.Space, seed: int) -> dict[str, torch.Tensor]:
    """Random probabilities of every decision, float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        d.name: torch.softmax(2 * torch.randn(d.count, generator=generator, dtype=torch.float64), 0)
        for d in space.decisions
    }


def mean(
    networks: list[tuple[nas.Architecture, nas.Graph]], p: dict[str, torch.Tensor], cost: Callable[[nas.Graph], float]
) -> float:
    """The expectation by enumeration."""
    total = 0.0
    for architecture, graph in networks:
        probability = prod([float(p[name][index]) for name, index in architecture.decisions.items()])
        total = total + probability * cost(graph)
    return total


def seconds(operation: Operation, inputs: tuple[Shape, ...]) -> float:
    """A made-up latency that no other cost is proportional to."""
    fixed = {"conv": 3.0, "add": 1.5, "max_pool": 0.7, "linear": 2.0}.get(operation.kind, 0.1)
    return fixed + 1e-3 * sum(shape[0] * len(inputs) for shape in inputs)


def total_seconds(graph: nas.Graph) -> float:
    """The same of a closed network."""
    costed = [graph.nodes[i] for i in graph.costed[len(graph.inputs) :]]
    return sum(seconds(node.operation, graph.input_shapes(node)) for node in costed)


COSTS: dict[str, tuple[Any, Callable[[nas.Graph], float]]] = {
    "macs": ("macs", lambda g: g.macs),
    "params": ("params", lambda g: g.params),
    "activations": ("activations", lambda g: g.activations),
    "seconds": (seconds, total_seconds),
}


def more() -> dict[str, tuple[nas.Space, Any]]:
    """Further spaces: tied weights, heads for training only, cells."""
    depth = nas.one_of(1, 2, 3, name="depth")
    return {
        "depth": (
            nas.Space(
                nas.Sequential(
                    nas.repeat(nas.MBConv(4, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2)), nas.one_of(0, 1, 2)),
                    nas.Classifier(classes=3),
                )
            ),
            (4, 6, 6),
        ),
        "called twice": (nas.Space(Twice(nas.Conv(nas.one_of(2, 4), 1), nas.one_of(1, 2))), (3, 4, 4)),
        "training only": (
            nas.Space(Auxiliary(nas.Conv(nas.one_of(3, 4), 1), nas.one_of(False, True), nas.one_of(False, True))),
            (3, 4, 4),
        ),
        "one depth for two stages": (
            nas.Space(
                nas.Sequential(
                    nas.repeat(nas.Conv(nas.one_of(2, 3)), depth),
                    nas.repeat(nas.Conv(4, nas.one_of(1, 3)), depth, stride=2),
                )
            ),
            (3, 8, 8),
        ),
        "nothing open": (nas.Space(nas.Sequential(nas.Conv(4), nas.Classifier(classes=2))), (3, 4, 4)),
    }


CASES |= more()


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_mean_over_all_architectures(name: str) -> None:
    space, inputs = CASES[name]
    graph = lower(space, inputs)
    p = drawn(space, 1)
    try:
        networks = [(architecture, nas.trace(architecture, inputs)) for architecture in space.enumerate()]
    except TraceError:
        with pytest.raises(TraceError):
            ExpectedCost(graph, "macs")
        return
    for cost, of in COSTS.values():
        expected = ExpectedCost(graph, cost)(p)
        assert float(expected) == pytest.approx(mean(networks, p, of), rel=1e-6 if len(networks) == 1 else 1e-9)


def test_edge_selection_with_one_cell_decided() -> None:
    space, inputs = darts.space((3, 8, 8), width=2, layers=3, nodes=1), (3, 8, 8)
    graph = lower(space, inputs, classes=2)
    first = space.sample(Random(0))
    reduce = {name: index for name, index in first.decisions.items() if name.startswith("reduce")}
    expected = ExpectedCost(graph, "macs", fixed=reduce)
    assert set(expected.decisions) == {"normal_op_0_2", "normal_op_1_2"}  # one pair of inputs only
    p = drawn(space, 2)
    found = 0.0
    for i in range(7):
        for j in range(7):
            decisions = dict(first.decisions) | {"normal_op_0_2": i, "normal_op_1_2": j}
            macs = nas.trace(space.architecture(decisions, indices=True), inputs, classes=2).macs
            found += float(p["normal_op_0_2"][i] * p["normal_op_1_2"][j]) * macs
    assert float(expected(p)) == pytest.approx(found, rel=1e-12)


def test_a_hand_computed_cell() -> None:
    """Two of three states, each through a 1x1 convolution (48 MACs) or nothing: p(edge) p(convolution) 48, added."""
    edges = [nas.one_of(nas.Conv(3, 1), nas.Identity(), name=f"op_{i}") for i in range(3)]
    space = nas.Space(Picked(nas.subset(tuple(edges), 2, name="edges")))
    expected = ExpectedCost(lower(space, (3, 4, 4)), lambda operation, _: 48.0 if isinstance(operation, Conv) else 0.0)
    p = {
        "edges": torch.tensor([0.5, 0.3, 0.2]),  # states 0 1, 0 2, 1 2
        "op_0": torch.tensor([0.9, 0.1]),
        "op_1": torch.tensor([0.6, 0.4]),
        "op_2": torch.tensor([0.2, 0.8]),
    }
    assert float(expected(p)) == pytest.approx(48 * (0.8 * 0.9 + 0.7 * 0.6 + 0.5 * 0.2), rel=1e-6)


class Picked(nas.Block):
    """Adds up what was picked."""

    edges: tuple[Any, ...]

    def forward(self, x: Tensor) -> Tensor:
        parts = [edge(x) for edge in self.edges]
        return parts[0] + parts[1]


@pytest.mark.parametrize(
    ("space", "inputs", "number"),
    [
        (nasbench201.space(cells=1), (3, 32, 32), 5),
        (darts.space(layers=3, width=4, nodes=2, auxiliary=True), (3, 32, 32), 3),
        (proxylessnas.proxylessnas((3, 64, 64)), (3, 64, 64), 3),
        (once_for_all.mobilenetv3_space((3, 64, 64)), (3, 64, 64), 3),
        (enas_macro.space(width=4, layers=4), (3, 16, 16), 3),
        (autodeeplab.space((3, 32, 32), filters=4, layers=2, blocks=1), (3, 32, 32), 2),
    ],
    ids=["nasbench201", "darts", "proxylessnas", "once_for_all", "enas", "autodeeplab"],
)
def test_certain_decisions_give_the_closed_networks_cost(space: nas.Space, inputs: Any, number: int) -> None:
    graph = lower(space, inputs, classes=5)
    macs, params = ExpectedCost(graph, "macs"), ExpectedCost(graph, "params")
    for seed in range(number):
        architecture = space.sample(Random(seed))
        p = {
            d.name: torch.nn.functional.one_hot(torch.tensor(architecture.decisions.get(d.name, 0)), d.count).double()
            for d in space.decisions
        }
        closed = nas.trace(architecture, inputs, classes=5)
        assert float(macs(p)) == closed.macs
        assert float(params(p)) == closed.params
        assert float(ExpectedCost(graph, "macs", fixed=architecture)(p)) == closed.macs


def test_gradients_of_both_orders_are_the_differences() -> None:
    space, inputs = CASES["depth"]
    expected = ExpectedCost(lower(space, inputs), seconds)
    sizes = list(expected.decisions.values())
    x = torch.randn(sum(sizes), dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def value(logits: torch.Tensor) -> torch.Tensor:
        parts = [torch.softmax(part, 0) for part in logits.split(sizes)]
        return expected(dict(zip(expected.decisions, parts, strict=True)))

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value(logits), logits, create_graph=True)[0]

    direction = torch.randn_like(x)
    ahead, back = [(x + sign * 1e-5 * direction).detach().requires_grad_() for sign in (1, -1)]
    first = gradient(x) @ direction
    assert float(first.detach()) == pytest.approx(float((value(ahead) - value(back)).detach()) / 2e-5, rel=1e-7)
    second = torch.autograd.grad(first, x)[0]
    differences = (gradient(ahead) - gradient(back)) / 2e-5
    assert second.tolist() == pytest.approx(differences.tolist(), rel=1e-6, abs=1e-8)


def test_what_is_wrong_is_said() -> None:
    space = nas.Space(nas.Conv(nas.one_of(2, 4, name="width"), 1))
    graph = lower(space, (3, 4, 4))
    expected = ExpectedCost(graph, "macs")
    with pytest.raises(InvalidInputError, match="depends on the decision 'width'"):
        expected({})
    with pytest.raises(InvalidInputError, match=r"must be \(2,\)"):
        expected({"width": torch.ones(3) / 3})
    with pytest.raises(InvalidInputError, match="must sum to 1, got 2"):
        expected({"width": torch.ones(2)})
    with pytest.raises(InvalidInputError, match="additive cost"):
        ExpectedCost(graph, "latency")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="finite"):
        ExpectedCost(graph, lambda *_: float("nan"))
    with pytest.raises(InvalidArchitectureError, match="decisions are width"):
        ExpectedCost(graph, "macs", fixed={"kernel": 0})
