"""One-Shot: the ramp, sub-networks by zeroing, and what a search gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.study import codec
from nasturtium.supernets import OneShot, Run, Searcher
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.zoo import nasbench201

SPACE = nasbench201.space(width=4, cells=1)


@pytest.fixture(scope="module")
def task() -> Task:
    digits = nas.tasks.load("digits")
    splits = dict(digits.splits) | {"train": digits.split("train").take(np.arange(192))}
    return replace(digits, splits=splits, loader=None)


def test_the_ramp_is_linear() -> None:
    method = OneShot(dropout=0.4, ramp=0.5)
    assert [method.ramp_at(t) for t in (0, 0.25, 0.5, 0.9)] == pytest.approx([0, 0.5, 1, 1])
    assert OneShot(dropout=0.4, ramp=0).ramp_at(0) == 1


def test_settings_come_back_from_json() -> None:
    for method in (OneShot(), OneShot(epochs=2, recipe=Recipe(batch_size=8), sample=3)):
        assert codec.restore(codec.describe(method, "searcher"), "searcher") == method
    with pytest.raises(InvalidInputError, match="Did you mean 'dropout'"):
        OneShot.from_dict({"type": "one_shot", "dropuot": 0.1})


class OnlyPath:
    """A gate that zeroes every branch but those of one architecture: a sub-network of a trained sum."""

    def __init__(self, architecture: nas.Architecture) -> None:
        self.chosen = dict(architecture.decisions)

    def weights(self, decision: str, count: int) -> list[float]:
        return [1.0 if i == self.chosen.get(decision, 0) else 0.0 for i in range(count)]


def test_a_sub_network_is_the_sum_with_the_others_zeroed(task: Task) -> None:
    shared = nas.supernet(SPACE, task.input_shape, seed=0, **task.context).eval()
    x = torch.randn(3, *task.input_shape, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        path = SPACE.sample(Random(seed))
        torch.testing.assert_close(shared.mix(OnlyPath(path))(x), shared.extract(path)(x))


def test_a_search_trains_and_ranks(task: Task, tmp_path: Path) -> None:
    method = OneShot(epochs=2, samples=3, keep=2, parts=2, calibration=64, recipe=Recipe(batch_size=64), sample=0)
    assert isinstance(method, Searcher)
    method.check(SPACE, task)
    seen: list[float] = []

    class Killed(Exception):
        pass

    def kill(record: object) -> None:
        raise Killed

    run = Run(task=task, seed=0, directory=tmp_path / "parts", report=kill)
    with pytest.raises(Killed):
        method.search(SPACE, run)
    parts = method.search(SPACE, replace(run, report=lambda record: seen.append(record["epoch"])))
    whole = method.search(SPACE, replace(run, directory=None, report=lambda record: None))
    assert seen == [2]
    assert all(torch.equal(parts.state[name], tensor) for name, tensor in whole.state.items())
    assert [f.architecture for f in parts.found] == [f.architecture for f in whole.found]
    assert len(whole.found) == 2
    accuracies = [f.evidence["shared_accuracy"] for f in whole.found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert whole.steps == 2 * 3
    assert whole.history[-1]["ramp"] == pytest.approx(5 / 6)
    assert whole.history[1]["loss"] < whole.history[0]["loss"]


def test_what_cannot_be_added_up_is_named(task: Task) -> None:
    space = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8)), nas.Classifier()))
    with pytest.raises(IncompatibleError, match=r"layers\.0\.width"):
        OneShot().check(space, task)
    with pytest.raises(InvalidInputError, match="dropout"):
        OneShot(dropout=1.0)
    with pytest.raises(InvalidInputError, match="samples"):
        OneShot(samples=0)
