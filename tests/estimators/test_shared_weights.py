"""Judging by shared weights: one supernet a study, found again, with a measured trust."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.estimators import Job, SharedWeights, Trained, compare_rankings, from_dict, read_trust, supernet_files
from nasturtium.supernets import save
from nasturtium.tasks import Task
from nasturtium.testing import check_estimator
from nasturtium.trial import FULL, Fidelity


def small(task: Task) -> Task:
    splits = dict(task.splits) | {"train": task.split("train").take(np.arange(192))}
    return replace(task, splits=splits, loader=None)


@pytest.fixture(scope="module")
def task() -> Task:
    return small(nas.tasks.load("digits"))


@pytest.fixture(scope="module")
def space() -> nas.Space:
    return nas.Space(
        nas.Sequential(nas.Conv(nas.one_of(4, 8), stride=2), nas.Conv(8, kernel=nas.one_of(1, 3)), nas.Classifier())
    )


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Each test begins as a new process does, without a supernet in memory."""
    supernet_files._latest.clear()


def make(space: nas.Space, **settings: object) -> SharedWeights:
    return SharedWeights(**{"space": space, "epochs": 2, "calibration": 64, "sample": 0, **settings})


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each training of a supernet; holds the epochs that it resumed."""
    seen: list[int] = []
    real = supernet_files.train_single_path

    def train(*args: object, **settings: object) -> object:
        result = real(*args, **settings)
        seen.append(result.resumed)
        return result

    monkeypatch.setattr(supernet_files, "train_single_path", train)
    return seen


def test_the_contract(space: nas.Space, task: Task) -> None:
    made = make(space)
    measured = check_estimator(made, space.sample(Random(0)), task)
    assert set(measured) == {"accuracy", "loss", "supernet_seconds", "measure_seconds"}
    stored = from_dict(json.loads(json.dumps(made.to_dict())))
    assert stored.fingerprint == made.fingerprint
    for other in (
        make(space, epochs=3),
        make(space, seed=1),
        make(space, sampler="fair"),
        make(nas.Space(nas.Conv(4))),
    ):
        assert other.fingerprint != made.fingerprint
    assert make(space, directory="elsewhere").fingerprint == made.fingerprint


def test_a_study_trains_its_supernet_once(
    space: nas.Space, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    settings = {"maximize": "accuracy", "strategy": "evolution(population=2, sample=1)", "concurrency": 1}

    def go(trials: int) -> nas.Study:
        return nas.search(
            space, task, estimator=make(space, sample=2, alone=Trained(epochs=1)), trials=trials,
            study=tmp_path / "study.db", **settings,
        )  # fmt: skip

    assert len(go(2).trials) == 2
    supernet_files._latest.clear()  # another process goes on
    study = go(3)
    assert seen == [0]
    costs = {trial.metrics["supernet_seconds"] for trial in study.trials}
    assert len(costs) == 1
    assert costs.pop() > 0
    (folder,) = (tmp_path / "study.db.files").glob("trials/search/0/supernet-*")
    facts = json.loads((folder / "supernet.json").read_text())
    assert [record["epoch"] for record in facts["history"]] == [1, 2]
    assert read_trust(folder).n == 2
    assert not read_trust(folder).better_than_chance
    best = study.best
    found = nas.estimators.measure_test(best.architecture, task, weights=best.weights)
    assert found.n == len(task.split("test"))


def test_a_stopped_training_goes_on_from_a_trial_beside(
    space: nas.Space, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def kill(record: object) -> None:
        raise Killed

    seen, path = counted(monkeypatch), space.sample(Random(0))
    with pytest.raises(Killed):
        make(space).estimate(path, FULL, Job(task=task, seed=0, directory=tmp_path / "0", report=kill))
    first = make(space).estimate(path, FULL, Job(task=task, seed=1, directory=tmp_path / "1"))
    supernet_files._latest.clear()
    whole = make(space).estimate(path, FULL, Job(task=task, seed=2, directory=None))
    assert seen == [1, 0]
    assert (first["accuracy"], first["loss"]) == (whole["accuracy"], whole["loss"])


@pytest.mark.slow
def test_worker_processes_share_one_supernet(space: nas.Space, tmp_path: Path) -> None:
    digits = nas.tasks.load("digits")
    made = make(space, directory=tmp_path / "kept")
    study = nas.search(
        space, digits, maximize="accuracy", strategy="random", estimator=made, trials=4, workers=2, concurrency=2,
        study=tmp_path / "study.db",
    )  # fmt: skip
    assert len({trial.metrics["supernet_seconds"] for trial in study.trials}) == 1
    assert len(list((tmp_path / "kept").glob("supernet-*"))) == 1
    beside = nas.search(
        space, digits, maximize="accuracy", strategy="random", estimator=make(space), trials=4, workers=2,
        concurrency=2, study=tmp_path / "beside.db",
    )  # fmt: skip
    assert len({trial.metrics["supernet_seconds"] for trial in beside.trials}) == 1
    assert len(list((tmp_path / "beside.db.files").glob("trials/search/*/supernet-*"))) == 1
    for one, other in zip(study.trials, beside.trials, strict=True):
        assert one.metrics["loss"] == other.metrics["loss"]


def test_training_starts_from_given_weights(space: nas.Space, task: Task, tmp_path: Path) -> None:
    shared = nas.supernet(space, task.input_shape, seed=3, **task.context)
    save(shared, tmp_path / "a.safetensors")
    slow = nas.training.Recipe(learning_rate=1e-12)
    made = make(space, epochs=1, recipe=slow, initial=tmp_path / "a.safetensors")
    ready = made.supernet(Job(task=task, seed=0))
    begun = dict(shared.named_parameters())
    for name, weight in ready.supernet.named_parameters():
        torch.testing.assert_close(weight.detach(), begun[name].detach(), rtol=0, atol=1e-8)
    assert made.fingerprint != make(space, epochs=1, recipe=slow).fingerprint
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert make(space, epochs=1, recipe=slow, initial=tmp_path / "b.safetensors").fingerprint == made.fingerprint
    assert from_dict(json.loads(json.dumps(made.to_dict()))).fingerprint == made.fingerprint
    with pytest.raises(InvalidInputError, match="not both"):
        make(space, initial=tmp_path / "a.safetensors", weights=tmp_path / "b.safetensors")


def test_a_given_file_is_used(space: nas.Space, task: Task, tmp_path: Path) -> None:
    shared = nas.supernet(space, task.input_shape, seed=3, **task.context)
    save(shared, tmp_path / "a.safetensors")
    made, path = make(space, weights=tmp_path / "a.safetensors"), space.sample(Random(0))
    job = Job(task=task, seed=0)
    metrics = made.estimate(path, FULL, job)
    assert metrics["supernet_seconds"] == 0
    ready = made.supernet(job)
    assert all(torch.equal(a, b) for a, b in zip(ready.supernet.parameters(), shared.parameters(), strict=True))
    assert make(space, weights=tmp_path / "a.safetensors", epochs=9).fingerprint == made.fingerprint
    stored = made.to_dict()
    save(nas.supernet(space, task.input_shape, seed=4, **task.context), tmp_path / "a.safetensors")
    with pytest.raises(InvalidInputError, match="changed"):
        from_dict(stored)


def test_rankings_are_compared_and_kept(space: nas.Space, task: Task, tmp_path: Path) -> None:
    class Said:
        """Ranks by MACs, or against them."""

        def __init__(self, sign: int) -> None:
            self.sign = sign

        def estimate(self, architecture: nas.Architecture, fidelity: Fidelity, job: Job) -> dict[str, float]:
            return {"accuracy": self.sign * nas.cost(architecture, task.input_shape, **task.context).macs}

    whole = nas.Space(nas.Sequential(nas.Conv(nas.int_range(1, 8)), nas.Classifier()))
    networks, job = list(whole.enumerate()), Job(task=task, seed=0, directory=tmp_path)
    assert compare_rankings(Said(1), Said(2), networks, job).tau == pytest.approx(1)
    found = compare_rankings(Said(1), Said(-1), networks, job)
    assert found.tau == pytest.approx(-1)
    assert read_trust(tmp_path) == found
    assert len(json.loads((tmp_path / "trust.json").read_text())["networks"]) == 8
    with pytest.raises(InvalidInputError, match="Said reports accuracy"):
        compare_rankings(Said(1), Said(1), networks, job, metric="loss")


def test_bad_use_is_refused(space: nas.Space, task: Task) -> None:
    made, path = make(space), space.sample(Random(0))
    with pytest.raises(InvalidInputError, match="full fidelity"):
        made.estimate(path, Fidelity(epochs=0.5), Job(task=task, seed=0))
    with pytest.raises(InvalidArchitectureError, match="references"):
        made.estimate(nas.Architecture.of(nas.Sequential(nas.Conv(4), nas.Classifier())), FULL, Job(task=task, seed=0))
    with pytest.raises(InvalidInputError, match="Job"):
        made.estimate(path)
    for wrong in ({"epochs": 0}, {"space": 3}, {"calibration": 1}, {"weights": "absent.safetensors"}):
        with pytest.raises(InvalidInputError):
            SharedWeights(**{"space": space, **wrong})
    with pytest.raises(InvalidInputError, match="version"):
        SharedWeights.from_dict({"version": 9})
