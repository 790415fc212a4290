"""Children that start from their parents' weights: what is measured, kept, refused, and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasturtium as nas
from nasturtium import tasks
from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.estimators import Estimator, Inherited, Job, Parent, Trained, from_dict
from nasturtium.space import Architecture
from nasturtium.training import Recipe
from nasturtium.trial.types import FULL, Fidelity

ESTIMATOR = Inherited(epochs=1, first=Trained(epochs=8), recipe=Recipe(learning_rate=0.01))


@pytest.fixture(scope="module")
def digits() -> tasks.Task:
    return tasks.load("digits")


def network(width: int, times: int = 1) -> Architecture:
    blocks = nas.repeat(nas.MBConv(8, expand=2), times)
    return Architecture.of(nas.Sequential(nas.Conv(8, stride=2), blocks, nas.Conv(width), nas.Classifier()))


@pytest.fixture(scope="module")
def parent(digits: tasks.Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Parent, dict[str, float]]:
    place = tmp_path_factory.mktemp("parent")
    metrics = ESTIMATOR.estimate(network(8), FULL, Job(task=digits, seed=0, directory=place, threads=1))
    return Parent(architecture=network(8), directory=place), metrics


def test_a_child_goes_on_from_its_parent(
    digits: tasks.Task, parent: tuple[Parent, dict[str, float]], tmp_path: Path
) -> None:
    known, metrics = parent
    assert metrics["epochs"] == 8
    assert metrics["inherited"] == 0
    job = Job(task=digits, seed=1, directory=tmp_path, threads=1, parents=(known,))
    child = ESTIMATOR.estimate(network(12, 2), FULL, job)
    assert child["epochs"] == 1
    assert child["preserved"] == 1
    assert child["inherited"] > 0.6
    scratch = ESTIMATOR.next.estimate(network(12, 2), FULL, Job(task=digits, seed=1, threads=1))
    assert child["accuracy"] > metrics["accuracy"] - 0.05
    assert child["accuracy"] > scratch["accuracy"] + 0.2
    assert ESTIMATOR.estimate(network(12, 2), FULL, job) == child  # it stands in the folder
    again = ESTIMATOR.estimate(network(12, 2), FULL, Job(task=digits, seed=1, threads=1, parents=(known,)))
    assert {**again, "train_seconds": 0} == {**child, "train_seconds": 0}


def test_of_two_parents_the_one_that_gives_most(
    digits: tasks.Task, parent: tuple[Parent, dict[str, float]], tmp_path: Path
) -> None:
    other = network(24, 2)
    Trained(epochs=1).estimate(other, FULL, Job(task=digits, seed=3, directory=tmp_path, threads=1))
    parents = (Parent(architecture=other, directory=tmp_path), parent[0])
    child = ESTIMATOR.estimate(network(8), FULL, Job(task=digits, seed=1, threads=1, parents=parents))
    assert (child["preserved"], child["inherited"]) == (1, 1)  # the second: the first is wider and deeper


def test_what_cannot_be_inherited_is_refused(
    digits: tasks.Task, parent: tuple[Parent, dict[str, float]], tmp_path: Path
) -> None:
    empty = Parent(architecture=network(8), directory=tmp_path)
    with pytest.raises(StoreError, match="left no trained network"):
        ESTIMATOR.estimate(network(8), FULL, Job(task=digits, seed=1, parents=(empty,)))
    with pytest.raises(InvalidInputError, match="full width"):
        ESTIMATOR.estimate(network(8), Fidelity(width=0.5), Job(task=digits, seed=1, parents=(parent[0],)))
    with pytest.raises(InvalidInputError, match="`noise`"):
        Inherited(noise=-1)
    with pytest.raises(InvalidInputError, match="`epochs`"):
        Inherited(epochs=0)
    assert isinstance(ESTIMATOR, Estimator)
    assert from_dict(ESTIMATOR.to_dict()) == ESTIMATOR
    assert from_dict(Inherited().to_dict()) == Inherited()


def test_evolution_with_inheritance(digits: tasks.Task, tmp_path: Path) -> None:
    space = nas.Space(
        nas.Sequential(
            nas.Conv(8, stride=2), nas.Conv(nas.one_of(4, 6, 8, 12), kernel=nas.one_of(1, 3, 5)), nas.Classifier()
        )
    )
    study = nas.search(
        space, digits, maximize="accuracy", estimator=Inherited(epochs=1, first=Trained(epochs=1)), trials=6, seed=0,
        strategy=nas.strategies.RegularizedEvolution(population=3, sample=2), study=str(tmp_path / "study.db"),
    )  # fmt: skip
    descended = [trial for trial in study.trials if trial.parents]
    assert len(descended) >= 2
    for trial in study.trials:
        assert (trial.metrics["inherited"] > 0) == bool(trial.parents)
