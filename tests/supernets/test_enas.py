"""ENAS: it finds what is known to be right, goes on exactly where it was stopped, and refuses what it cannot search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.cell import Zero
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.study import codec
from nasturtium.supernets.enas import ENAS, MACRO, MICRO
from nasturtium.supernets.enas_controller import SharedController, Skips, Teaching
from nasturtium.supernets.path_step import batch_statistics
from nasturtium.supernets.searcher import Run, Searcher, remove_checkpoints
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.zoo import enas, enas_macro

QUICK = Recipe(learning_rate=0.1, batch_size=50, warmup=0.0, memory_format="contiguous", augment="none")
TEACHING = Teaching(hidden=8, learning_rate=0.05, tanh_constant=2.5, baseline_decay=0.9)


@pytest.fixture(scope="module")
def task() -> Task:
    return nas.tasks.load("digits")


def fork() -> nas.Space:
    """A decision of which one option is useful and the other is zero."""
    layer = nas.one_of(Zero(), nas.Conv(16), name="fork")
    return nas.Space(nas.Sequential(nas.Conv(16), layer, nas.Conv(16, stride=2), nas.Classifier()))


def quick(**changes: Any) -> ENAS:
    settings: dict[str, Any] = {
        "epochs": 2, "recipe": QUICK, "restart": None, "share": 0.2, "steps": 10, "samples": 4, "teaching": TEACHING,
        "candidates": 4, "sample": 0, **changes,
    }  # fmt: skip
    return ENAS(**settings)


def test_it_finds_the_useful_branch(task: Task) -> None:
    result = quick().search(fork(), Run(task=task, seed=0))
    best = result.found[0]
    assert dict(best.architecture.decisions) == {"fork": 1}
    assert best.evidence["shared_accuracy"] > 0.3  # chance is 0.1, and that of the other branch
    assert best.evidence["probability"] > 0.9  # a half at the start
    assert [record["epoch"] for record in result.history] == [1.0, 2.0]
    assert {"loss", "reward", "accuracy", "entropy", "baseline", "seconds"} <= set(result.history[0])
    kept = len(task.split("train")) - round(0.2 * len(task.split("train")))
    assert result.steps == 2 * (kept // 50)
    assert set(result.state) == set(nas.supernet(fork(), task.input_shape, **task.context).state_dict())


def test_a_search_that_was_stopped_goes_on_exactly(task: Task, tmp_path: Path) -> None:
    method, space, task = quick(steps=3), fork(), small(task)

    class Stop(Exception):
        pass

    def stop(_record: object) -> None:
        raise Stop

    whole = method.search(space, Run(task=task, seed=4))
    with pytest.raises(Stop):
        method.search(space, Run(task=task, seed=4, directory=tmp_path, report=stop))
    rest = method.search(space, Run(task=task, seed=4, directory=tmp_path))
    assert [f.architecture for f in rest.found] == [f.architecture for f in whole.found]
    assert [dict(f.evidence) for f in rest.found] == [dict(f.evidence) for f in whole.found]
    assert all(torch.equal(rest.state[name], tensor) for name, tensor in whole.state.items())
    for one, other in zip(rest.history, whole.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]  # until the result is kept
    again = method.search(space, Run(task=task, seed=4, directory=tmp_path, report=stop))
    assert [f.architecture for f in again.found] == [f.architecture for f in whole.found]
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("space", "method"),
    [
        (enas.space(width=4, layers=1, nodes=2), quick(epochs=1, steps=1, samples=2, candidates=1)),
        (
            enas_macro.space(width=4, layers=3),
            quick(
                epochs=1, steps=1, samples=2, candidates=1, teaching=replace(TEACHING, skips=Skips(pattern="*_skip_*"))
            ),
        ),
    ],
)
def test_both_spaces_of_the_paper(space: nas.Space, method: ENAS, task: Task) -> None:
    method.check(space, task)
    result = method.search(space, Run(task=small(task), seed=0))
    assert result.found[0].architecture in space
    assert ("skip_rate" in result.history[0]) == (method.teaching.skips is not None)


def small(task: Task) -> Task:
    """A tenth of the train images."""
    train = task.split("train")
    return replace(task, splits={**task.splits, "train": train.take(np.arange(0, len(train), 10))})


def test_reward_takes_the_statistics_of_the_batch_and_leaves_no_trace(task: Task) -> None:
    net = nas.supernet(fork(), task.input_shape, seed=0, **task.context)
    net.set(fork().sample(Random(1)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x = torch.randn(16, *task.input_shape) * 5 + 3
    with torch.no_grad():
        by_training = net(x)
        net.load_state_dict(before)
        with batch_statistics(net):
            assert torch.equal(net(x), by_training)
            assert not net.training
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_rate_begins_anew_in_cosines_of_10_20_40_and_80_epochs() -> None:
    method = ENAS()
    for start, length in ((0, 10), (10, 20), (30, 40), (70, 80)):
        assert method.rate(start, 0.05) == pytest.approx(0.05)
        assert method.rate(start + length / 2, 0.05) == pytest.approx((0.05 + 0.0005) / 2)
        assert method.rate(start + length - 1e-9, 0.05) == pytest.approx(0.0005)


def test_defaults_are_those_of_the_scripts() -> None:
    micro, macro = ENAS(), ENAS.macro()
    assert (micro.epochs, micro.steps, micro.samples) == (150, 30, 10)
    assert (MICRO.batch_size, MICRO.learning_rate, MICRO.weight_decay, MICRO.clip) == (160, 0.05, 1e-4, 5.0)
    assert (micro.teaching.learning_rate, micro.teaching.tanh_constant) == (0.0035, 1.10)
    assert (micro.teaching.entropy, micro.teaching.baseline_decay, micro.teaching.hidden) == (1e-4, 0.99, 64)
    assert (macro.epochs, macro.steps, macro.samples, MACRO.batch_size) == (310, 50, 20, 128)
    assert macro.teaching.skips == Skips(pattern="*_skip_*", target=0.4, weight=0.8)
    assert (macro.teaching.learning_rate, macro.teaching.tanh_constant) == (0.001, 1.5)


def test_settings_go_to_json_and_back() -> None:
    for method in (ENAS(), ENAS.macro(epochs=3), quick()):
        assert isinstance(method, Searcher)
        assert ENAS.from_dict(method.to_dict()) == method
        stored = json.loads(json.dumps(codec.describe(method, "method")))  # as a study does
        assert codec.restore(stored, "method") == method


def test_initial_weights_are_where_it_starts(task: Task) -> None:
    net = nas.supernet(fork(), task.input_shape, seed=9, **task.context)
    still = quick(epochs=1, recipe=replace(QUICK, learning_rate=1e-12), last_learning_rate=0.0, steps=1, samples=1)
    result = still.search(fork(), Run(task=small(task), seed=0, initial=net.state_dict()))
    weights = dict(net.named_parameters())
    assert weights
    assert all(torch.allclose(result.state[name], w.detach(), atol=1e-7) for name, w in weights.items())


def test_what_it_cannot_search_is_refused_before_anything_trains(task: Task) -> None:
    with pytest.raises(IncompatibleError, match="nothing is left open"):
        quick().check(nas.Space(nas.Sequential(nas.Conv(4), nas.Classifier())), task)
    with pytest.raises(IncompatibleError, match="No decision's name"):
        ENAS.macro().check(fork(), task)
    layers = [*[nas.Conv(4, stride=2)] * 3, nas.Conv(nas.one_of(4, 8), padding="valid"), nas.Classifier()]
    deep = nas.Space(nas.Sequential(*layers))
    with pytest.raises(IncompatibleError, match="supernet"):
        quick().check(deep, task)


@pytest.mark.parametrize(
    "bad",
    [{"epochs": 0}, {"share": 1.0}, {"samples": 0}, {"restart": 0}, {"last_learning_rate": 1.0}, {"candidates": True}],
)
def test_bad_settings_say_what_is_expected(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        quick(**bad)


def test_a_search_in_the_middle_of_a_cosine_says_so(task: Task) -> None:
    result = quick(epochs=1, restart=2, steps=1, samples=1, candidates=1).search(fork(), Run(task=small(task), seed=0))
    assert "not checked" in result.notes[0]
    assert "middle of a cosine" in result.notes[1]


def test_the_controller_is_the_spaces_own() -> None:
    made = SharedController(fork(), TEACHING, 0)
    assert all(child in fork() for child in made.draw(Random(0), 20))
