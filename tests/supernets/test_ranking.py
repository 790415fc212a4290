"""Searchers that rank by shared weights train a sample alone, and say how the two rankings agree."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

import nasturtium as nas
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.model import Supernet
from nasturtium.study import codec
from nasturtium.supernets import ENAS, Alone, OnceForAll, OneShot, Run, measure, ranking
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.ranking import Timed, compare, read_trust
from nasturtium.supernets.sampling import distinct, network_key
from nasturtium.tasks import Task
from nasturtium.training import FitResult, Recipe

SPACE = nas.Space(
    nas.Sequential(
        nas.Conv(4, stride=2), *[nas.one_of(nas.Identity(), nas.Conv(4, k)) for k in (1, 3, 5)], nas.Classifier()
    )
)
ALIKE = nas.Space(
    nas.Sequential(
        nas.Conv(4, stride=2), *[nas.one_of(nas.Identity(), nas.Conv(4)) for _ in range(3)], nas.Classifier()
    )
)
"""An identity in any of three places: eight architectures, four networks."""
NUMBERS = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 6, 8), nas.one_of(1, 3), stride=2), nas.Classifier()))
QUICK: dict[str, Any] = {"sample": 5, "alone": Alone(epochs=1, recipe=Recipe(batch_size=32))}
METHODS: dict[str, tuple[nas.Space, Any]] = {
    "one-shot": (SPACE, OneShot(epochs=1, samples=2, keep=2, calibration=64, **QUICK)),
    "enas": (SPACE, ENAS(epochs=1, restart=None, steps=1, samples=1, candidates=2, **QUICK)),
    "once-for-all": (NUMBERS, OnceForAll(epochs=6, measured=5, calibration=64, **QUICK)),
}


@pytest.fixture(scope="module")
def task() -> Task:
    digits = nas.tasks.load("digits")
    splits = dict(digits.splits)
    for name, count in (("train", 128), ("validation", 100)):
        splits[name] = digits.split(name).take(np.arange(count))
    return replace(digits, splits=splits, loader=None)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_is_trained_alone(name: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, method = METHODS[name]
    stored = json.loads(json.dumps(codec.describe(method, "method")))
    assert codec.restore(stored, "method") == method
    trained: list[str] = []
    real = Alone.train

    def counted(self: Alone, architecture: nas.Architecture, *args: Any, **more: Any) -> Timed:
        trained.append(architecture.key)
        return real(self, architecture, *args, **more)

    monkeypatch.setattr(Alone, "train", counted)

    def kill(record: Any) -> None:
        if record.get("trained_alone") == 3:
            raise Killed

    with pytest.raises(Killed):
        method.search(space, Run(task=task, seed=0, directory=tmp_path, report=kill))
    with pytest.raises(StoreError, match="not finished"):
        read_trust(tmp_path)
    result = method.search(space, Run(task=task, seed=0, directory=tmp_path))
    assert len(trained) == 6  # the third was not written yet
    assert len(set(trained)) == 5
    rows = json.loads((tmp_path / "trust.json").read_text())["networks"]
    assert [row["architecture"] for row in rows] == list(dict.fromkeys(trained))
    assert result.trust.to_dict() == read_trust(tmp_path).to_dict()
    assert (result.trust.n, result.trust.full) == (5, "training alone")
    expected = kendalltau([row["cheap"] for row in rows], [row["full"] for row in rows]).statistic
    assert result.trust.tau == pytest.approx(expected, nan_ok=True)
    assert any(note.startswith(result.trust.sentence) for note in result.notes)
    for found in result.found:
        assert found.evidence["shared_tau_networks"] == 5
        assert math.isnan(expected) or found.evidence["shared_tau"] == pytest.approx(expected)
    shared = nas.supernet(space, task.input_shape, kernel_transform=name == "once-for-all", **task.context)
    shared.load_state_dict(result.state)
    if name == "enas":
        return  # other calibration images
    batches = calibration_batches(task, images=64, seed=0)
    by_key = {a.key: a for a in distinct(space, 20, Random(0))}
    for row in rows:
        assert measure(shared, by_key[row["architecture"]], task, batches=batches).accuracy == row["cheap"]


def test_alone_is_an_ordinary_training(task: Task) -> None:
    alone = QUICK["alone"]
    path = SPACE.sample(Random(0))
    model = nas.build(nas.trace(path, task.input_shape, **task.context), seed=7)
    nas.training.fit(model, task, alone.recipe, epochs=1, seed=7)
    assert alone.accuracy(path, task, seed=7) == nas.training.evaluate(model, task, "validation").accuracy
    assert Alone.from_dict(json.loads(json.dumps(alone.to_dict()))) == alone
    with pytest.raises(InvalidInputError, match="epochs"):
        Alone(epochs=0)
    exploding = Alone(epochs=1, recipe=Recipe(learning_rate=1e30))
    assert exploding.accuracy(path, task, seed=0) is None


def checked(task: Task, directory: Path, weights: Supernet, space: nas.Space = SPACE) -> ranking.Checked:
    batches = calibration_batches(task, images=32, seed=0)
    run = Run(task=task, seed=0, directory=directory)
    return ranking.check_ranking(weights, space, run, batches=batches, facts={}, **QUICK)


def test_what_diverged_is_left_out_and_said_but_no_memory_is_no_result(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = nas.supernet(SPACE, task.input_shape, **task.context)
    calls: list[str] = []

    def failing(*kinds: str | None) -> Any:
        def fit(*args: Any, **more: Any) -> Any:
            kind = kinds[len(calls) % len(kinds)]
            calls.append(str(kind))
            if kind is not None:
                raise TrialError("It failed.", kind=kind)
            return FitResult(
                history=(), seconds=7.0, images=0, stopped=False, resumed=0, precision="float32", channels_last=False
            )

        return fit

    monkeypatch.setattr(ranking, "fit", failing(None, "diverged", None, "memory"))
    with pytest.raises(TrialError):
        checked(task, tmp_path, shared)
    assert len(json.loads((tmp_path / "trust.json").read_text())["networks"]) == 3
    calls.clear()
    monkeypatch.setattr(ranking, "fit", failing(None))
    found = checked(task, tmp_path, shared)
    assert len(calls) == 2  # that without memory, and the last
    assert "The training of 1 diverged, so they are left out." in found.note
    rows = json.loads((tmp_path / "trust.json").read_text())["networks"]
    assert [row["seconds"] for row in rows if row["full"] is not None] == [7.0] * 4  # as the training says


def test_other_shared_weights_are_another_check(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(self: Alone, architecture: nas.Architecture, *args: Any, **more: Any) -> Timed:
        trained.append(architecture.key)
        return Timed(float(len(trained)), 0.0)

    monkeypatch.setattr(Alone, "train", train)
    for seed, expected in ((0, 5), (0, 5), (1, 10)):
        checked(task, tmp_path, nas.supernet(SPACE, task.input_shape, seed=seed, **task.context))
        assert len(trained) == expected


def test_a_network_by_other_decisions_counts_once(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (len(distinct(ALIKE, 100, Random(0))), len(distinct(ALIKE, 100, Random(0), key=network_key(task)))) == (8, 4)
    monkeypatch.setattr(Alone, "train", lambda *args, **more: Timed(0.5, 0.0))
    checked(task, tmp_path, nas.supernet(ALIKE, task.input_shape, **task.context), ALIKE)
    assert len(json.loads((tmp_path / "trust.json").read_text())["networks"]) == 4


def test_values_of_another_identity_are_measured_anew(tmp_path: Path) -> None:
    networks = distinct(SPACE, 5, Random(0))
    asked: list[int] = []

    def value(_: object, number: int) -> float | None:
        asked.append(number)
        return None if number == 4 else float(number)

    first = compare(value, value, networks, seed=0, directory=tmp_path, identity="a")
    assert (first.trust.tau, first.trust.n) == (pytest.approx(1), 4)
    assert compare(value, value, networks, seed=0, directory=tmp_path, identity="a") == first
    assert len(asked) == 10
    for identity in ("b", None):
        compare(value, value, networks, seed=0, directory=tmp_path, identity=identity)
    assert len(asked) == 30


def test_settings_at_their_defaults_are_not_said() -> None:
    """Studies that are older than them go on."""
    for kind in (OneShot, ENAS, OnceForAll):
        assert not {"sample", "alone"} & set(kind().to_dict())
        assert kind(sample=0).to_dict()["sample"] == 0
        assert "sample" not in ranking.training_settings(kind(sample=0).to_dict())
        with pytest.raises(InvalidInputError, match="sample"):
            kind(sample=-1)


def test_different_architectures_are_drawn() -> None:
    assert len(distinct(SPACE, 100, Random(0))) == SPACE.size == 8
    some = distinct(SPACE, 5, Random(0), how="hierarchical")
    assert len({a.key for a in some}) == 5
    assert len(distinct(SPACE, 5, Random(0), key=lambda a: a.decisions[SPACE.decisions[0].name])) == 2
    assert distinct(SPACE, 0, Random(0)) == []
