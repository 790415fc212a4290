"""Fidelities of trainings: width, time, stopping rules; and judging by the beginning of a training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import nasturtium as nas
from nasturtium import tasks
from nasturtium.errors import InvalidInputError
from nasturtium.estimators import Estimator, Job, Trained
from nasturtium.estimators.curve import Extrapolated
from nasturtium.space import Architecture
from nasturtium.study.codec import describe, restore
from nasturtium.surrogates.curves import extrapolate
from nasturtium.surrogates.stopping import CurveStopping, MedianStopping
from nasturtium.trial.types import FULL, Fidelity


@pytest.fixture(scope="module")
def digits():
    return tasks.load("digits")


def network(width=8):
    return Architecture.of(nas.Sequential(nas.Conv(width), nas.MBConv(2 * width, stride=2, expand=2), nas.Classifier()))


def history(directory):
    return json.loads((directory / "history.json").read_text())


# -- width -------------------------------------------------------------------------------------------------------------


def test_width_trains_a_narrower_network(digits, tmp_path, monkeypatch):
    """At half the width the convolution has 4 channels instead of 8, and the block 8 instead of 16."""
    built = []
    monkeypatch.setattr(
        "nasturtium.estimators.trained.build",
        lambda graph, seed, real=nas.estimators.trained.build: built.append(graph) or real(graph, seed=seed),
    )
    metrics = Trained(epochs=1).estimate(
        network(), Fidelity(width=0.5), Job(task=digits, seed=0, directory=tmp_path, threads=1)
    )
    narrow = Architecture.of(nas.Sequential(nas.Conv(4), nas.MBConv(8, stride=2, expand=2), nas.Classifier()))
    assert built[0].canonical_hash == nas.trace(narrow, digits.input_shape, **digits.context).canonical_hash
    assert 0 < metrics["accuracy"] <= 1
    same = Trained(epochs=1).estimate(narrow, FULL, Job(task=digits, seed=0, threads=1))
    assert same["accuracy"] == metrics["accuracy"]


def test_what_cannot_be_narrowed_is_refused(digits):
    class Fixed(nas.Block):
        def forward(self, x):
            return nas.ops.linear(nas.ops.flatten(nas.ops.conv(x, 4, kernel=3)), x.context.classes)

    with pytest.raises(InvalidInputError, match=r"cannot be measured at width=0\.5.*no width to scale"):
        Trained(epochs=1).estimate(Architecture.of(Fixed()), Fidelity(width=0.5), Job(task=digits, seed=0))


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_limit_of_time_ends_training(digits, tmp_path):
    """With next to no time one epoch is trained; the record says that it was stopped."""
    estimator = Trained(epochs=50, seconds=1e-6)
    metrics = estimator.estimate(network(), FULL, Job(task=digits, seed=0, directory=tmp_path, threads=1))
    assert metrics["epochs"] == 1
    assert history(tmp_path)["stopped"] is True
    assert not estimator.deterministic
    assert estimator.expected_seconds(digits, 1e6) == 1e-6


def test_a_share_of_the_time(digits, tmp_path):
    """The limit allows all 6 epochs; a share of it does not, and ends with the epoch in which it is reached."""
    job = Job(task=digits, seed=0, threads=1)
    assert Trained(epochs=3, seconds=1000).estimate(network(), FULL, job)["epochs"] == 3
    low = Trained(epochs=3, seconds=1000).estimate(
        network(), Fidelity(seconds=1e-9), replace(job, directory=tmp_path)
    )  # fmt: skip
    assert low["epochs"] == 1
    spent = [epoch["seconds"] for epoch in history(tmp_path)["history"]]
    assert sum(spent[:-1]) < 1e-6 <= sum(spent)


def test_a_share_of_no_limit_is_refused(digits):
    with pytest.raises(InvalidInputError, match=r"needs a limit.*Trained\(seconds=60\)"):
        Trained(epochs=1).estimate(network(), Fidelity(seconds=0.5), Job(task=digits, seed=0))


@pytest.mark.parametrize("name", ["epochs", "data", "width", "resolution", "seconds"])
@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), True, "half"])
def test_bad_shares(name, share):
    with pytest.raises(InvalidInputError, match=rf"'{name}' must be a share in \(0, 1\]"):
        Fidelity(**{name: share})


def test_what_a_fidelity_says_of_itself():
    assert FULL.is_full
    assert FULL.text == "full"
    low = Fidelity(epochs=1 / 9, width=0.5)
    assert not low.is_full
    assert low.text == "epochs 11.1 %, width 50 %"
    assert low.reductions == {"epochs": 1 / 9, "width": 0.5}


# -- stopping rules ----------------------------------------------------------------------------------------------------


def test_a_curve_that_cannot_win_ends_the_training(digits, tmp_path):
    """Training ends with the first epoch at which the rule, asked about the recorded curve, says so."""
    rule = CurveStopping(best=1.0, threshold=0.5, after=5)
    job = Job(task=digits, seed=0, directory=tmp_path, threads=1)
    metrics = Trained(epochs=30, stopping=rule).estimate(network(2), FULL, job)
    record = history(tmp_path)
    curve = [epoch["validation_accuracy"] for epoch in record["history"]]
    stops = [rule.stops(curve[:seen], 30) for seen in range(1, len(curve) + 1)]
    assert record["stopped"] is True
    assert metrics["epochs"] == len(curve) < 30
    assert stops == [False] * (len(curve) - 1) + [True]


def test_the_median_rule_ends_a_training(digits):
    rule = MedianStopping(curves=((1.0,) * 9,), after=3)
    metrics = Trained(epochs=9, stopping=rule).estimate(network(2), FULL, Job(task=digits, seed=0, threads=1))
    assert metrics["epochs"] == 3


# -- extrapolation -----------------------------------------------------------------------------------------------------


def test_the_beginning_of_a_training_is_extrapolated(digits, tmp_path):
    """A quarter of 16 epochs is trained, exactly as the first 4 of a full training, and forecast to epoch 16."""
    of = Trained(epochs=16)
    estimator = Extrapolated(epochs=0.25, of=of)
    assert isinstance(estimator, Estimator)
    job = Job(task=digits, seed=0, threads=1)
    metrics = estimator.estimate(network(), FULL, replace(job, directory=tmp_path / "part"))
    replace(of, report_validation=True).estimate(network(), FULL, replace(job, directory=tmp_path / "whole"))
    begun, whole = history(tmp_path / "part")["history"], history(tmp_path / "whole")["history"]
    assert [e["loss"] for e in begun] == [e["loss"] for e in whole[:4]]
    forecast = extrapolate([e["validation_accuracy"] for e in begun], 16)
    assert metrics["accuracy"] == forecast.mean
    assert metrics["accuracy_std"] == forecast.std > 0
    assert metrics["accuracy_trained"] == begun[-1]["validation_accuracy"]
    assert metrics["epochs"] == 4
    again = estimator.estimate(network(), FULL, replace(job, directory=tmp_path / "part"))
    assert again == metrics


def test_extrapolation_at_a_fidelity(digits):
    """Half of 20 epochs, and of these a half."""
    metrics = Extrapolated(epochs=0.5, of=Trained(epochs=20)).estimate(
        network(2), Fidelity(epochs=0.5), Job(task=digits, seed=0, threads=1)
    )
    assert metrics["epochs"] == 5
    with pytest.raises(InvalidInputError, match="More than 4 epochs"):
        Extrapolated(of=Trained(epochs=20)).estimate(network(2), Fidelity(epochs=0.2), Job(task=digits, seed=0))


@pytest.mark.parametrize(
    "estimator",
    [
        Extrapolated(epochs=0.3, of=Trained(epochs=40, patience=3)),
        Trained(epochs=3, seconds=20.0),
        Trained(epochs=3, stopping=CurveStopping(best=0.9)),
        Trained(epochs=3, stopping=MedianStopping(curves=((0.1, 0.2),))),
    ],
)
def test_settings_as_json(estimator):
    stored = json.loads(json.dumps(describe(estimator, "estimator")))
    assert restore(stored, "estimator") == estimator
    assert type(estimator).from_dict(json.loads(json.dumps(estimator.to_dict()))) == estimator
    assert restore(stored, "estimator").fingerprint == estimator.fingerprint


def test_settings_that_came_later_do_not_change_older_studies():
    assert set(Trained().to_dict()) == {
        "version", "type", "epochs", "recipe", "device", "patience", "report_validation"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trained(seconds=0), "`seconds` must be a positive"),
        (lambda: Trained(stopping=0.05), "`stopping` must be a CurveStopping"),
        (lambda: Extrapolated(epochs=1.0), r"share of the epochs in \(0, 1\)"),
        (lambda: Extrapolated(of=3), "`of` must be a `Trained`"),
        (lambda: Extrapolated(of=Trained(epochs=4)), "more than 4 epochs"),
        (lambda: Extrapolated.from_dict({"epoch": 3}), "no unknown keys"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()
