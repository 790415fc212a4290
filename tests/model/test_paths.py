"""Plans are those of the closed networks, step by step, however their stretches were remembered."""

from __future__ import annotations

from random import Random

import pytest
import torch

import nasturtium as nas
from nasturtium.model import paths as module
from nasturtium.model.paths import Paths
from nasturtium.model.supernet import Supernet
from tests.model.test_supernet import CASES, batch, flat, make, samples


def calls(net: Supernet, architecture: nas.Architecture) -> list[str]:
    """What the plan of an architecture calls, in order."""
    names: list[str] = []
    recorder = Paths(net.graph, net._channels, lambda node, form, held: lambda *_: names.append(form.path))
    plan = recorder.plan(tuple(net.graph.indices(architecture.decisions)))
    plan.run([torch.zeros(1)] * len(net.graph.inputs))
    return names


@pytest.mark.parametrize("common", [1, 1024])
@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_the_closed_network(name: str, common: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From plans that others left stretches for, and where none is remembered."""
    monkeypatch.setattr(module, "COMMON", common)
    space, inputs = CASES[name]
    net = make(space, inputs)
    called: list[str] = []
    kept = Paths(net.graph, net._channels, lambda node, form, held: lambda *_: called.append(form.path))
    for architecture in samples(space, inputs, 6):
        called.clear()
        kept.plan(tuple(net.graph.indices(architecture.decisions))).run([torch.zeros(1)] * len(net.graph.inputs))
        assert called == [step.form.path for step in net.graph.resolve(architecture).steps[len(net.graph.inputs) :]]
        assert calls(net, architecture) == called


def test_a_chain_is_made_of_stretches_that_come_again() -> None:
    space, inputs = CASES["mobile"]
    net, rng = make(space, inputs), Random(0)
    plans = [net._paths.plan(tuple(net.graph.indices(space.sample(rng).decisions))) for _ in range(40)]
    assert min(len(plan.stretches) for plan in plans) > 5
    distinct = {id(stretch) for plan in plans for stretch in plan.stretches}
    assert len(distinct) < sum(len(plan.stretches) for plan in plans) / 3


def test_what_is_forgotten_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    space, inputs = CASES["mobile"]
    net = make(space, inputs).eval()
    x = batch(inputs)
    drawn = samples(space, inputs, 4)
    before = [flat(net.set(a)(*x)) for a in drawn]
    monkeypatch.setattr(module, "STEPS", 3)
    monkeypatch.setattr(module, "PLANS", 2)
    for turn in range(2):
        for a, expected in zip(drawn, before, strict=True):
            found = flat(net.set(a)(*x))
            assert all(torch.equal(b, c) for b, c in zip(found, expected, strict=True)), turn
