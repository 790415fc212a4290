"""Latency tables: profiling without a clock, adding up, and the expected latency of a supernet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph import Graph
from nasturtium.hardware import Device, LatencyTable, Measured, device, model_from_dict, plan_profile, profile
from nasturtium.hardware.additive import GROUPS, Sum, fit_additive
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.latency import LatencyModel
from nasturtium.space.lowering import lower
from nasturtium.supernets import ExpectedCost

CONTEXT = {"classes": 3}
SHAPE = (3, 6, 6)
SPACE = nas.Space(
    nas.Sequential(
        nas.Conv(4),
        nas.repeat(
            nas.MBConv(nas.one_of(4, 8), kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2)),
            times=nas.one_of(1, 2), stride=1,
        ),
        nas.Classifier(),
    )
)  # fmt: skip
CALL, LAUNCH, MAC = 2e-5, 1e-5, 1e-9


@dataclass
class Time:
    seconds: float


def seconds_of(graph: Graph) -> float:
    """A made-up device: a call costs, a launch costs, and so does every MAC."""
    return CALL + sum([LAUNCH + MAC * kernel.macs for kernel in kernels(graph)])


class Clock:
    """Measures the made-up device, and stops after some networks."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.measured = 0

    def __call__(self, graphs: Sequence[Graph], on: Device, reference: float | None) -> list[Time]:
        if self.stop is not None and self.measured >= self.stop:
            raise KeyboardInterrupt
        self.measured += len(graphs)
        return [Time(seconds_of(graph)) for graph in graphs]


@pytest.fixture(scope="module")
def plan():
    return plan_profile(SPACE, device("cpu"), SHAPE, name="small", context=CONTEXT, fit=16, held_out=12, seed=1)


@pytest.fixture
def table(plan, tmp_path: Path) -> LatencyTable:
    return profile(plan, tmp_path / "table.jsonl", measure=Clock())


def test_a_profile_adds_up_to_whole_networks(table: LatencyTable) -> None:
    """Exact up to the weak pull to slope 1: sum of kernels, less a call for each, plus one call."""
    assert isinstance(table, LatencyModel)
    assert table.fit.form == "launches"
    assert table.error is not None
    assert (table.error.networks, table.error.training) == (12, 16)
    assert table.error.within_5 == 1.0
    graph = nas.trace(next(SPACE.enumerate()), SHAPE, **CONTEXT)
    found = table.predict(graph)
    assert found.seconds == pytest.approx(seconds_of(graph), rel=0.05)
    assert found.low <= found.seconds <= found.high
    assert "small on 3x6x6" in found.source


def test_a_stopped_profile_goes_on(plan, table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "stopped.jsonl"
    with pytest.raises(KeyboardInterrupt):
        profile(plan, path, measure=Clock(stop=20), batch=4)
    with path.open("a") as file:
        file.write('{"use": "kernel", "ke')  # killed while it wrote
    clock, reports = Clock(), []
    again = profile(plan, path, measure=clock, batch=4, progress=reports.append)
    assert clock.measured == len(plan.tasks) - 20
    assert again == table
    assert reports[-1].done == reports[-1].total == len(plan.tasks)
    assert reports[-1].left == 0.0
    assert profile(plan, path, measure=Clock(stop=0)) == table  # nothing is left to measure


def test_the_reference_kernel_is_kept(plan, tmp_path: Path) -> None:
    path, seen = tmp_path / "table.jsonl", []

    def measure(graphs: Sequence[Graph], on: Device, reference: float | None) -> list[Time]:
        seen.append(reference)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return [Time(1e-3) for _ in graphs]

    with pytest.raises(KeyboardInterrupt):
        profile(plan, path, measure=measure, calibrate=lambda _: 0.25)
    profile(plan, path, measure=measure, calibrate=lambda _: 0.5)
    assert set(seen) == {0.25}


def test_another_profile_in_the_file_is_refused(plan, tmp_path: Path) -> None:
    profile(plan, tmp_path / "table.jsonl", measure=Clock())
    other = plan_profile(SPACE, device("cpu-eager"), SHAPE, name="small", context=CONTEXT, fit=0, held_out=0, seed=1)
    with pytest.raises(IncompatibleError, match=r"device.*fit: 16 there, 0 now"):
        profile(other, tmp_path / "table.jsonl", measure=Clock())
    (tmp_path / "no.jsonl").write_text("{}\n")
    with pytest.raises(InvalidInputError, match="is no profile"):
        profile(plan, tmp_path / "no.jsonl", measure=Clock())


def test_a_kernel_that_cannot_be_measured_is_named(plan, tmp_path: Path) -> None:
    def measure(graphs: Sequence[Graph], on: Device, reference: float | None) -> list[Time]:
        if any(k.group == "depthwise" for graph in graphs for k in kernels(graph)):
            raise InvalidInputError("no such operation here.")
        return [Time(1e-3) for _ in graphs]

    with pytest.raises(InvalidInputError, match=r"(depthwise|whole network).* cannot be measured on 'cpu': no such"):
        profile(plan, tmp_path / "table.jsonl", measure=measure)


def test_an_unchecked_table_is_refused(tmp_path: Path) -> None:
    plan = plan_profile(SPACE, device("cpu"), SHAPE, context=CONTEXT, fit=0, held_out=0)
    bare = profile(plan, tmp_path / "table.jsonl", measure=Clock())
    graph = nas.trace(next(SPACE.enumerate()), SHAPE, **CONTEXT)
    with pytest.raises(InvalidInputError, match="never compared with whole networks"):
        bare.predict(graph)
    with pytest.raises(InvalidInputError, match="never compared"):
        _ = bare.cost
    found = bare.unchecked().predict(graph)
    assert found.seconds == pytest.approx(sum(seconds_of(k.graph()) for k in kernels(graph)))
    assert found.high == float("inf")


def test_an_unknown_kernel_is_named(table: LatencyTable) -> None:
    graph = nas.trace(nas.Sequential(nas.Conv(5), nas.Classifier()), SHAPE, **CONTEXT)
    with pytest.raises(InvalidInputError, match="lacks 3 of the network's 3 kernels: conv 3x3, batch norm, relu on"):
        table.predict(graph)


def test_json(table: LatencyTable) -> None:
    assert model_from_dict(json.loads(json.dumps(table.to_dict()))) == table
    with pytest.raises(InvalidInputError, match="type is one of"):
        model_from_dict({"type": "oracle"})


def test_finalists_correct_a_table(table: LatencyTable) -> None:
    """A device that became half as fast: what is measured then moves the fit."""
    graphs = [nas.trace(a, SHAPE, **CONTEXT) for a in SPACE.enumerate()]
    slower = table.corrected([Measured(graph, 2 * seconds_of(graph)) for graph in graphs])
    before, after = table.predict(graphs[0]).seconds, slower.predict(graphs[0]).seconds
    assert 1.1 * before < after <= 2.1 * before
    assert slower.error is not None
    assert table.error is not None
    assert slower.error.rmspe > table.error.rmspe  # the held-out networks were measured before


def test_the_expected_latency_is_the_mean_over_networks(table: LatencyTable) -> None:
    """Law: brute force over all closed networks, weighted by their probabilities; and its gradient."""
    fixed = {decision.name: 1 for decision in SPACE.decisions if decision.name.endswith("kernel")}
    expected = ExpectedCost(lower(SPACE, SHAPE, **CONTEXT), table.cost, fixed=fixed)
    torch.manual_seed(0)
    logits = {name: torch.randn(n, dtype=torch.float64, requires_grad=True) for name, n in expected.decisions.items()}

    def brute(probabilities: dict[str, torch.Tensor]) -> torch.Tensor:
        total, known = torch.zeros((), dtype=torch.float64), {}
        names = list(probabilities)
        for indices in product(*[range(len(p)) for p in probabilities.values()]):
            share = torch.stack([probabilities[n][i] for n, i in zip(names, indices, strict=True)]).prod()
            architecture = SPACE.settle({**fixed, **dict(zip(names, indices, strict=True))})
            if architecture not in known:
                known[architecture] = table.predict(nas.trace(architecture, SHAPE, **CONTEXT)).seconds
            total = total + share * known[architecture]
        return total

    fast, slow = (
        expected({n: x.softmax(0) for n, x in logits.items()}),
        brute({n: x.softmax(0) for n, x in logits.items()}),
    )
    assert fast.item() == pytest.approx(slow.item(), rel=1e-9)
    for one, other in zip(
        torch.autograd.grad(fast, list(logits.values())), torch.autograd.grad(slow, list(logits.values())), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-15)


def test_one_operation_at_a_time(table: LatencyTable) -> None:
    """Where nothing is fused at one place and alone at another, the sum over operations is the prediction."""
    cost = table.cost
    for architecture in SPACE.enumerate():
        graph = nas.trace(architecture, SHAPE, **CONTEXT)
        total = sum([cost(node.operation, graph.input_shapes(node)) for node in graph.nodes])
        assert total == pytest.approx(table.predict(graph).seconds, rel=1e-9)
    with pytest.raises(InvalidInputError, match="no kernel with Conv"):
        cost(nas.graph.operations.Conv(99), (SHAPE,))


def test_losses_take_a_table(table: LatencyTable) -> None:
    from nasturtium.supernets import DARTS, ProxylessNAS
    from nasturtium.supernets.proxyless_cost import MultipliedLog

    assert DARTS(cost=table.cost, cost_weight=0.1).cost is not None
    assert ProxylessNAS(cost=table.cost, reference=1e-2, penalty=MultipliedLog()).cost is not None


# Adding up


def sums(seed: int, number: int) -> list[Sum]:
    import random

    rng = random.Random(seed)
    return [Sum({group: rng.uniform(1e-4, 1e-3) for group in GROUPS}, rng.randrange(10, 60)) for _ in range(number)]


@pytest.mark.parametrize(
    ("form", "slope", "constant", "launch"),
    [("sum", 1.0, 0.0, 0.0), ("constant", 1.0, 2e-3, 0.0), ("line", 0.6, 1e-3, 0.0), ("launches", 0.8, 1e-3, -2e-5)],
)
def test_the_form_is_found(form: str, slope: float, constant: float, launch: float) -> None:
    given = sums(0, 30)
    times = [constant + slope * s.total + launch * s.launches for s in given]
    fit = fit_additive(given, times)
    assert fit.form == form
    assert fit.networks == 30
    fresh = sums(1, 5)
    for each in fresh:
        assert fit(each) == pytest.approx(constant + slope * each.total + launch * each.launches, rel=0.01)


def test_groups_have_slopes_of_their_own() -> None:
    given = sums(0, 60)
    times = [s.total - 0.7 * s.seconds["depthwise"] for s in given]
    fit = fit_additive(given, times)
    assert fit.form == "groups"
    assert fit.slopes["depthwise"] == pytest.approx(0.3, abs=0.05)
    assert fit.slopes["pointwise"] == pytest.approx(1.0, abs=0.05)


def test_few_networks_take_simple_forms() -> None:
    given = sums(0, 5)
    assert fit_additive(given, [0.5 * s.total + 1e-3 for s in given]).form in ("sum", "constant")
    assert fit_additive([], []).form == "sum"
    with pytest.raises(InvalidInputError, match="form must be one of"):
        fit_additive(given, [1.0] * 5, "cubic")


def test_times_of_a_table_are_finite() -> None:
    kernel = Kernel.of((nas.graph.operations.Conv(4),), (SHAPE,))
    with pytest.raises(InvalidInputError, match="finite time"):
        LatencyTable(device=device("cpu"), seconds={kernel: float("nan")})
