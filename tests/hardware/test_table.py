"""Latency tables: profiling without a clock, adding up, and the expected latency of a supernet."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError, TrialError
from nasturtium.graph import Graph
from nasturtium.hardware import (
    Device,
    LatencyTable,
    Measured,
    device,
    model_from_dict,
    plan_profile,
    profile,
    read_table,
)  # fmt: skip
from nasturtium.hardware.additive import GROUPS, Sum, fit_additive
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.latency import LatencyModel
from nasturtium.hardware.profiling import machine_of
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


def test_a_finished_profile_is_read_without_touching_it(plan, table: LatencyTable, tmp_path: Path) -> None:
    """Neither its space nor a device is needed, and a line that was cut stays as it is."""
    path = tmp_path / "table.jsonl"
    assert read_table(path) == table
    lines = path.read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[:-1]) + '{"use": "kernel", "ke')
    before = (tmp_path / "part.jsonl").read_bytes()
    with pytest.raises(InvalidInputError, match=f"not finished: 1 of {len(plan.tasks)}"):
        read_table(tmp_path / "part.jsonl")
    assert (tmp_path / "part.jsonl").read_bytes() == before
    for text, message in (("", "is empty"), ("{}\n", "is no profile"), (lines[0] + "1\n", "no measurement")):
        (tmp_path / "no.jsonl").write_text(text)
        with pytest.raises(InvalidInputError, match=message):
            read_table(tmp_path / "no.jsonl")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_table(tmp_path / "none.jsonl")


def test_a_profile_does_not_go_on_on_another_machine(plan, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    here = {"processor": "Brand X", "versions": {"onnxruntime": "1.0", "numpy": "2.0"}}
    with pytest.raises(KeyboardInterrupt):
        profile(plan, path, measure=Clock(stop=12), machine=lambda _: here)
    for other in ({**here, "processor": "Brand Y"}, {**here, "versions": {"onnxruntime": "1.1", "numpy": "2.0"}}):
        with pytest.raises(IncompatibleError, match=r"machine: .*Brand X.* there, .*Brand .* now"):
            profile(plan, path, measure=Clock(), machine=lambda _, other=other: other)
    found = profile(plan, path, measure=Clock(), machine=lambda _: here)
    assert (found.machine, dict(found.versions)) == ("Brand X", here["versions"])
    assert found.source.endswith("each measured once on Brand X (numpy 2.0, onnxruntime 1.0)")
    assert model_from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert set(machine_of(device("cpu"))["versions"]) == {"python", "onnxruntime"}
    assert set(machine_of(device("cpu-eager"))["versions"]) == {"python", "torch"}


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


def test_a_device_without_a_clock_is_refused_before_anything_is_written(plan, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing is timed on 'mcu-256k'"):
        plan_profile(SPACE, device("mcu-256k"), SHAPE, context=CONTEXT)
    if not torch.cuda.is_available():
        path = tmp_path / "cuda.jsonl"
        with pytest.raises(InvalidInputError, match="needs CUDA"):
            profile(dataclasses.replace(plan, device=device("cuda")), path)
        assert not path.exists()


def test_one_that_fails_costs_no_other_its_measurement(plan, tmp_path: Path) -> None:
    path, bad = tmp_path / "table.jsonl", plan.tasks[1].graph.canonical_hash

    def measure(graphs: Sequence[Graph], on: Device, reference: float | None) -> list[Time]:
        if any(graph.canonical_hash == bad for graph in graphs):
            raise InvalidInputError("no such operation here.")
        return [Time(1e-3) for _ in graphs]

    with pytest.raises(InvalidInputError, match="cannot be measured on 'cpu': no such"):
        profile(plan, path, measure=measure, batch=4)
    assert len(path.read_text().splitlines()) == 1 + 3


def test_an_agent_that_is_gone_is_no_fault_of_a_network(plan, tmp_path: Path) -> None:
    calls = []

    def measure(graphs: Sequence[Graph], on: Device, reference: float | None) -> list[Time]:
        calls.append(len(graphs))
        raise TrialError("The agent cannot be reached.", "worker")

    with pytest.raises(TrialError, match="cannot be reached"):
        profile(plan, tmp_path / "table.jsonl", measure=measure, batch=4)
    assert calls == [4]


def test_equal_graphs_are_one_network() -> None:
    """A convolution here or there, four architectures but three graphs: none is fitted on and held out at once."""
    choice = [nas.one_of(nas.Identity(), nas.Conv(3), name=name) for name in "ab"]
    plan = plan_profile(nas.Space(nas.Sequential(*choice)), device("cpu"), SHAPE, fit=2, held_out=2)
    found = [task.graph.canonical_hash for task in plan.tasks if task.use != "kernel"]
    assert len(found) == len(set(found)) == 3


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


def test_a_round_of_finalists_corrects_what_is_around_them(table: LatencyTable) -> None:
    """The slower half of the space takes another time than the profile says; six of it are measured, noisily."""
    graphs = list({g.canonical_hash: g for a in SPACE.enumerate() for g in [nas.trace(a, SHAPE, **CONTEXT)]}.values())
    slow = sorted(graphs, key=seconds_of)[len(graphs) // 2 :]
    sums, own = [table.sums(g) for g in slow], [table.predict(g).seconds / seconds_of(g) - 1 for g in slow]
    for factor in (1.1, 0.9, 1.0):
        errors = []
        for seed in range(10):
            rng = random.Random(seed)
            order = rng.sample(range(len(slow)), len(slow))
            rows = [Measured(slow[i], factor * seconds_of(slow[i]) * rng.gauss(1, 0.02)) for i in order[:6]]
            better = table.corrected(rows[:3]).corrected(rows[3:])
            assert better.correction.networks == 6
            assert better.error_near is not None
            assert better.error_near.rmspe < 0.06
            errors += [better.fit(sums[i]) / (factor * seconds_of(slow[i])) - 1 for i in order[6:]]
        assert abs(sum(errors)) / len(errors) < 0.01
        assert max(map(abs, errors)) < max(map(abs, own)) + 0.025  # what it was off by itself, and the noise


def test_a_finalist_that_is_measured_again_counts_once(table: LatencyTable) -> None:
    graph = nas.trace(next(SPACE.enumerate()), SHAPE, **CONTEXT)
    once = table.corrected([Measured(graph, 2 * seconds_of(graph))])
    often = once.corrected([Measured(graph, 2 * seconds_of(graph))] * 9)
    assert once.correction == often.correction
    assert once.error_near is None
    assert once.fit.form == table.fit.form
    assert model_from_dict(json.loads(json.dumps(often.to_dict()))) == often


def test_finalists_correct_a_table(table: LatencyTable) -> None:
    """A device that became half as fast: what is measured then moves the fit."""
    held = {row.graph for row in table.held_out}
    graphs = [nas.trace(a, SHAPE, **CONTEXT) for a in SPACE.enumerate()]
    graphs = [graph for graph in graphs if graph.canonical_hash not in held]
    slower = table.corrected([Measured(graph, 2 * seconds_of(graph)) for graph in graphs])
    before, after = table.predict(graphs[0]).seconds, slower.predict(graphs[0]).seconds
    assert 1.1 * before < after <= 2.1 * before
    assert slower.error is not None
    assert table.error is not None
    assert slower.error.rmspe > table.error.rmspe  # the held-out networks were measured before


def test_a_table_is_not_judged_by_networks_that_corrected_it(plan, table: LatencyTable) -> None:
    held = [t.graph for t in plan.tasks if t.use == "held_out"]
    better = table.corrected([Measured(graph, seconds_of(graph)) for graph in held[:5]])
    assert better.error is not None
    assert better.error.networks == len(held) - 5
    assert len(better.unseen) == len(held) - 5
    known = model_from_dict(json.loads(json.dumps(better.to_dict())))
    assert known.error == better.error
    all_seen = table.corrected([Measured(graph, seconds_of(graph)) for graph in held])
    assert all_seen.error is None
    assert all_seen.predict(held[0]).high == float("inf")  # it still predicts, but claims nothing
    assert "all held-out networks corrected it" in all_seen.text


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


def test_a_study_stores_a_table(table: LatencyTable) -> None:
    """Whole, and restored to the same expected latency."""
    from nasturtium.study import codec
    from nasturtium.supernets import DARTS, ProxylessNAS
    from nasturtium.supernets.stored_cost import cost_facts, cost_from_json, cost_to_json

    method = ProxylessNAS(cost=table.cost, reference=1e-2)
    again = codec.restore(json.loads(json.dumps(codec.describe(method, "method"))), "method")
    assert again == method
    darts = DARTS(cost=table.cost, cost_weight=0.1)
    assert codec.restore(json.loads(json.dumps(codec.describe(darts, "searcher"))), "searcher") == darts
    assert darts.facts(SPACE)["cost_code"] is None  # the settings have all of it
    graph = lower(SPACE, SHAPE, **CONTEXT)
    first, second = (ExpectedCost(graph, cost) for cost in (method.cost, again.cost))
    even = {name: torch.full((n,), 1 / n, dtype=torch.float64) for name, n in first.decisions.items()}
    assert first(even).item() == pytest.approx(second(even).item(), rel=1e-12)
    assert cost_facts(again.cost) == cost_facts(method.cost)
    slower = table.corrected(
        [Measured(t, 2 * seconds_of(t)) for t in [nas.trace(next(SPACE.enumerate()), SHAPE, **CONTEXT)]]
    )
    assert cost_facts(slower.cost) != cost_facts(table.cost)
    with pytest.raises(InvalidInputError, match="lacks something"):
        cost_from_json({"latency_table": {"device": "cpu"}})
    data = cost_to_json(table.cost)
    del data["latency_table"]["fit"]["slopes"]["linear"]
    with pytest.raises(InvalidInputError, match="cannot be read"):
        cost_from_json(data)


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
