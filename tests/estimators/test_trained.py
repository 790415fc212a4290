"""The trained estimator: real digits, exact resume, finished results, fidelities, errors."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import nasturtium as nas
from nasturtium import tasks
from nasturtium.errors import InvalidInputError, StoreError, TrialError, UnknownNameError
from nasturtium.estimators import Estimator, Job, Trained, from_dict, load_weights, measure_test, read_correct
from nasturtium.graph import trace
from nasturtium.model import build
from nasturtium.space import Architecture
from nasturtium.training import Recipe, evaluate
from nasturtium.trial.types import FULL, Fidelity


@pytest.fixture(scope="module")
def digits():
    return tasks.load("digits")


def network(width=8):
    return Architecture.of(
        nas.Sequential(
            nas.Conv(width), nas.MBConv(width, expand=2), nas.MBConv(2 * width, stride=2, expand=3), nas.Classifier()
        )
    )


class Guarded(tasks.Task):
    """A task whose test split may not be read."""

    def split(self, name):
        if name == "test":
            raise AssertionError("an estimator read test")
        return super().split(name)


def guarded(task):
    return Guarded(
        name=task.name, splits=task.splits, class_names=task.class_names, source=task.source,
        augmentation=task.augmentation,
    )  # fmt: skip


def test_a_small_mobile_network_learns_digits(digits, tmp_path):
    estimator = Trained(epochs=15)
    assert isinstance(estimator, Estimator)
    metrics = estimator.estimate(network(16), FULL, Job(task=guarded(digits), seed=0, directory=tmp_path, threads=1))
    assert metrics["accuracy"] >= 0.96
    assert metrics["epochs"] == 15
    assert sorted(p.name for p in tmp_path.iterdir()) == ["correct.npy", "history.json", "weights.safetensors"]
    correct = read_correct(tmp_path)
    assert correct.shape == (359,)
    assert correct.mean() == pytest.approx(metrics["accuracy"])
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(history["history"]) == 15
    model = build(trace(network(16), digits.input_shape, **digits.context), seed=9)
    load_weights(model, tmp_path)
    assert evaluate(model, digits).correct.tolist() == correct.tolist()
    test = measure_test(network(16), digits, weights=tmp_path)
    assert test.accuracy == measure_test(model, digits).accuracy >= 0.93


def test_the_same_job_gives_the_same_numbers(digits):
    results = [Trained(epochs=2).estimate(network(), FULL, Job(task=digits, seed=s, threads=1)) for s in (1, 1, 2)]
    for result in results:
        del result["train_seconds"]
    assert results[0] == results[1] != results[2]


class Killed(Exception):
    """Stands for a kill."""


def test_an_interrupted_estimate_continues(digits, tmp_path):
    def kill(epoch):
        if epoch["epoch"] == 2:
            raise Killed

    estimator = Trained(epochs=4)
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    expected = estimator.estimate(network(), FULL, Job(task=digits, seed=1, directory=whole, threads=1))
    with pytest.raises(Killed):
        estimator.estimate(network(), FULL, Job(task=digits, seed=1, directory=parts, threads=1, report=kill))
    assert [p.name for p in parts.iterdir()] == ["checkpoint.pt"]
    seen = []
    job = Job(task=digits, seed=1, directory=parts, threads=1, report=lambda e: seen.append(e["epoch"]))
    assert estimator.estimate(network(), FULL, job)["accuracy"] == expected["accuracy"]
    assert seen == [3, 4]
    one, two = load_file(whole / "weights.safetensors"), load_file(parts / "weights.safetensors")
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_finished_estimate_answers_again_without_training(digits, tmp_path):
    seen = []
    job = Job(task=digits, seed=1, directory=tmp_path, threads=1, report=lambda e: seen.append(e))
    first = Trained(epochs=1).estimate(network(), FULL, job)
    assert Trained(epochs=1).estimate(network(), FULL, job) == first
    assert len(seen) == 1
    Trained(epochs=1, recipe=Recipe(label_smoothing=0.0)).estimate(network(), FULL, job)
    assert len(seen) == 2
    (tmp_path / "history.json").write_text("{")
    Trained(epochs=1).estimate(network(), FULL, job)
    assert len(seen) == 3


def test_fidelities(digits):
    job = Job(task=digits, seed=0, threads=1)
    metrics = Trained(epochs=4).estimate(network(), Fidelity(epochs=0.5, data=0.5, resolution=0.75), job)
    assert metrics["epochs"] == 2
    with pytest.raises(InvalidInputError, match="'data'"):
        Trained(epochs=1).estimate(network(), Fidelity(data=0.0), job)


def test_patience_ends_early(digits):
    job = Job(task=digits, seed=0, threads=1)
    estimator = Trained(epochs=30, patience=1, recipe=Recipe(learning_rate=1e-6))
    assert estimator.estimate(network(), FULL, job)["epochs"] < 30


def test_divergence_is_a_trial_error(digits, tmp_path):
    with pytest.raises(TrialError) as caught:
        Trained(epochs=2, recipe=Recipe(learning_rate=1e8, warmup=0.0)).estimate(
            network(), FULL, Job(task=digits, seed=0, directory=tmp_path, threads=1)
        )
    assert caught.value.kind == "diverged"


def test_threads_are_put_back(digits):
    before = torch.get_num_threads()
    Trained(epochs=1).estimate(network(), FULL, Job(task=digits, seed=0, threads=before + 1))
    assert torch.get_num_threads() == before


def test_json_both_ways():
    estimator = Trained(epochs=3, recipe=Recipe(optimizer="adamw"), device="cpu", patience=2)
    stored = json.loads(json.dumps(estimator.to_dict()))
    assert from_dict(stored) == estimator
    assert from_dict(stored).fingerprint == estimator.fingerprint != Trained(epochs=4).fingerprint
    with pytest.raises(UnknownNameError, match="Did you mean 'trained'"):
        from_dict({"type": "trainde"})
    with pytest.raises(InvalidInputError, match="trust"):
        from_dict({"type": "somewhere:Mine"})
    with pytest.raises(InvalidInputError, match="unknown keys"):
        Trained.from_dict({**stored, "epoch": 3})
    with pytest.raises(InvalidInputError, match='a "type"'):
        from_dict({})


MINE = """
class Mine:
    deterministic = True
    fingerprint = "mine"
    def estimate(self, architecture, fidelity, job): return {"accuracy": 0.5}
    def expected_seconds(self, task, macs): return 0.0
    def to_dict(self): return {"type": "my_estimator:Mine"}
    @classmethod
    def from_dict(cls, data): return cls()
class NotOne:
    @classmethod
    def from_dict(cls, data): return 3
"""


def test_a_users_estimator(tmp_path, monkeypatch):
    (tmp_path / "my_estimator.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(from_dict({"type": "my_estimator:Mine"}, trust=True), Estimator)
    with pytest.raises(InvalidInputError, match="must have what"):
        from_dict({"type": "my_estimator:NotOne"}, trust=True)
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        from_dict({"type": "my_estimator:Absent"}, trust=True)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 1.5}, {"epochs": True}, {"epochs": 1, "patience": 0}])
def test_wrong_settings(wrong):
    with pytest.raises(InvalidInputError, match=r"epochs|patience"):
        Trained(**wrong)


def test_test_needs_weights_that_fit(digits, tmp_path):
    with pytest.raises(InvalidInputError, match="weights"):
        measure_test(network(), digits)
    with pytest.raises(StoreError, match="Cannot load"):
        measure_test(network(), digits, weights=tmp_path)
    Trained(epochs=1).estimate(network(), FULL, Job(task=digits, seed=0, directory=tmp_path, threads=1))
    with pytest.raises(StoreError, match="Cannot load"):
        measure_test(network(12), digits, weights=tmp_path)
    with pytest.raises(StoreError, match="classified"):
        read_correct(tmp_path / "absent")


def test_forecasts_are_of_the_right_order(digits):
    architecture = nas.zoo.space("mobile").sample(random.Random(0))
    estimator = Trained(epochs=2)
    graph = trace(architecture, digits.input_shape, **digits.context)
    real = estimator.estimate(architecture, FULL, Job(task=digits, seed=0, threads=1))["train_seconds"]
    assert real / 5 < estimator.measured_seconds(architecture, digits, threads=1) < real * 5
    assert real / 20 < estimator.expected_seconds(digits, graph.macs) < real * 20
