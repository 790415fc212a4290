"""Latency predictors: regression, features of graphs and decisions, transfer."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.hardware import (
    DecisionFeatures,
    GraphFeatures,
    LatencyPredictor,
    Measured,
    device,
    error_report,
    fit_predictor,
    model_from_dict,
    transfer_predictor,
)  # fmt: skip
from nasturtium.hardware.kernels import kernels
from nasturtium.hardware.latency import LatencyModel
from nasturtium.hardware.regression import fit_regression
from nasturtium.hardware.transfer import fit_transfer

SHAPE = (8, 6, 6)
SPACE = nas.Space(
    nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2, 3)), times=nas.one_of(1, 2, 3), stride=1)
)


def seconds_of(graph: nas.Graph, launch: float = 1e-5, mac: float = 1e-9) -> float:
    """A made-up device."""
    return sum([launch + mac * kernel.macs for kernel in kernels(graph)])


@pytest.fixture(scope="module")
def networks():
    found = list({SPACE.sample(Random(i)): None for i in range(60)})
    return [(a, nas.trace(a, SHAPE)) for a in found]


def test_a_linear_device_is_learned_exactly() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (200, 12)).astype(float)
    seconds = 1e-3 + rows @ rng.uniform(1e-4, 1e-3, 12)
    fit = fit_regression(rows[:100], seconds[:100])
    assert error_report(fit.predict(rows[100:]), seconds[100:]).worst < 1e-3


def test_outliers_do_not_count_and_intervals_cover() -> None:
    """Noise of 3 %, and every twentieth measurement three times too slow."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 2, (1200, 12)).astype(float)
    truth = 1e-3 + rows @ rng.uniform(1e-4, 1e-3, 12)
    noisy = truth * np.exp(0.03 * rng.normal(size=1200))
    spoilt = noisy * np.where(rng.random(1200) < 0.05, 3.0, 1.0)
    fit = fit_regression(rows[:200], spoilt[:200])
    assert error_report(fit.predict(rows[200:]), truth[200:]).worst < 0.05
    plain = fit_regression(rows[:200], noisy[:200])
    low, high = plain.intervals(rows[200:], 0.9)
    covered = np.mean((low <= noisy[200:]) & (noisy[200:] <= high))
    assert 0.84 < covered < 0.96


def test_too_little_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="At least 5 networks"):
        fit_regression(np.ones((4, 2)), np.ones(4))
    with pytest.raises(InvalidInputError, match="above 0 seconds"):
        fit_regression(np.ones((6, 2)), np.zeros(6))


@pytest.mark.parametrize("reads", ["graphs", "decisions"])
def test_a_space_is_learned(networks, reads: str) -> None:
    features = DecisionFeatures(SPACE) if reads == "decisions" else None
    rows = [Measured(a if features else graph, seconds_of(graph)) for a, graph in networks]
    found = fit_predictor(device("cpu"), rows, features=features, seed=3)
    assert isinstance(found, LatencyModel)
    assert found.error is not None
    assert found.error.networks == round(0.2 * len(rows))
    assert found.error.within_10 == 1.0
    guess = found.predict(rows[0].network)
    assert guess.seconds == pytest.approx(rows[0].seconds, rel=0.1)
    again = model_from_dict(json.loads(json.dumps(found.to_dict())))
    assert isinstance(again, LatencyPredictor)
    assert again.predict(rows[0].network) == guess
    twice = found.corrected([Measured(row.network, 2 * row.seconds) for row in rows] * 3)
    assert twice.predict(rows[0].network).seconds > 1.2 * guess.seconds


@pytest.mark.parametrize("factor", [1.1, 1.0])
def test_a_round_of_finalists_corrects_what_is_around_them(factor: float) -> None:
    """Slow networks take another time than those of the fit say; six are measured, with noise."""
    rng = np.random.default_rng(2)
    wide = nas.Space(
        nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(1, 2, 3, 4)), times=6, stride=1)
    )
    drawn = list({wide.sample(Random(i)): None for i in range(150)})
    times = {a: seconds_of(nas.trace(a, SHAPE)) for a in drawn}
    drawn.sort(key=times.__getitem__)
    late = [drawn[i] for i in rng.permutation(np.arange(100, 150))]
    rows = [Measured(a, times[a] * rng.normal(1, 0.01)) for a in drawn[:100]]
    found = fit_predictor(device("cpu"), rows, features=DecisionFeatures(wide))
    better = found.corrected([Measured(a, factor * times[a] * rng.normal(1, 0.01), 0.01, "a") for a in late[:6]])
    off = [abs(better.predict(a).seconds / (factor * times[a]) - 1) for a in late[6:]]
    assert sum(off) / len(off) < 0.03
    assert better.correction.networks == 6
    assert json.loads(json.dumps(better.to_dict()))["recent"] == [[0.01, "a"]] * 6
    assert model_from_dict(json.loads(json.dumps(better.to_dict()))).predict(late[7]) == better.predict(late[7])


def test_new_kinds_of_kernels_are_refused_then_learned(networks) -> None:
    found = fit_predictor(device("cpu"), [Measured(graph, seconds_of(graph)) for _, graph in networks])
    other = nas.trace(nas.Conv(8, kernel=7), SHAPE)
    with pytest.raises(InvalidInputError, match="conv 7x7"):
        found.predict(other)
    assert found.corrected([Measured(other, seconds_of(other))]).predict(other).seconds > 0
    with pytest.raises(InvalidInputError, match="reads graphs"):
        found.predict(networks[0][0])
    with pytest.raises(InvalidInputError, match="takes architectures"):
        DecisionFeatures(SPACE)([other])
    assert GraphFeatures(()).kinds == ()


def test_kinds_that_only_held_out_networks_have_are_refused(networks) -> None:
    """They would get the weight 0 and be predicted as free; the report counts them instead."""
    odd = [nas.trace(nas.Sequential(nas.Conv(width, kernel=7), nas.Conv(8)), SHAPE) for width in (3, 5)]
    rows = [Measured(graph, seconds_of(graph)) for graph in [*(g for _, g in networks), *odd]]
    for seed in range(50):  # a split that holds out both
        found = fit_predictor(device("cpu"), rows, features=GraphFeatures.fitted([r.network for r in rows]), seed=seed)
        if found.unreadable == 2:
            break
    assert found.unreadable == 2
    assert found.error is not None
    assert found.error.unreadable == 2
    assert found.error.networks == round(0.2 * len(rows)) - 2
    assert "2 more refused" in found.error.text
    with pytest.raises(InvalidInputError, match="conv 7x7"):
        found.predict(odd[0])
    assert model_from_dict(json.loads(json.dumps(found.to_dict()))).error == found.error


def test_a_predictor_is_not_judged_by_networks_that_it_saw(networks) -> None:
    rows = [Measured(graph, seconds_of(graph)) for _, graph in networks]
    twice = fit_predictor(device("cpu"), [*rows, *rows], seed=1)  # measured twice: both on one side
    assert not {*twice.fitted.keys} & {*twice.held_out.keys}
    found = fit_predictor(device("cpu"), rows, seed=1)
    assert found.error is not None
    held = [row for row in rows if row.network.canonical_hash in found.held_out.keys]
    better = found.corrected(held[:4])
    assert better.error is not None
    assert better.error.networks == found.error.networks - 4
    assert found.corrected(held).error is None
    none = fit_predictor(device("cpu"), rows, held_out=0.0).corrected(rows[:1])
    assert none.error is None


def test_trust_reaches_the_space_of_a_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    restore = nas.Space.from_dict.__func__  # type: ignore[attr-defined]

    def from_dict(cls, data, *, trust=False):
        seen.append(trust)
        return restore(cls, data, trust=trust)

    monkeypatch.setattr(nas.Space, "from_dict", classmethod(from_dict))
    drawn = list({SPACE.sample(Random(i)): None for i in range(12)})
    known = fit_predictor(
        device("cpu"), [Measured(a, 1e-3 + 1e-4 * i) for i, a in enumerate(drawn)], features=DecisionFeatures(SPACE)
    )
    moved = transfer_predictor(device("cpu-eager"), [known], [Measured(a, 1e-3) for a in drawn[:6]])
    for model in (known, moved):
        data = json.loads(json.dumps(model.to_dict()))
        model_from_dict(data, trust=True)
        model_from_dict(data)
    assert seen == [True, False] * 2


def test_a_new_device_from_few_measurements(networks) -> None:
    """It mixes two known devices; ten measurements are enough, where a model of its own has none to spare."""
    costs = [(1e-5, 0.0), (1e-6, 2e-9)]
    sources = [
        fit_predictor(device("cpu").replace(name=f"known-{i}"), [Measured(g, seconds_of(g, *c)) for _, g in networks])
        for i, c in enumerate(costs)
    ]
    graphs = [graph for _, graph in networks]
    truth = [3 * seconds_of(g, 1e-5, 1e-9) for g in graphs]
    found = transfer_predictor(
        device("cpu").replace(name="new"), sources, [Measured(g, s) for g, s in zip(graphs[:10], truth, strict=False)]
    )
    guesses = [found.predict(graph) for graph in graphs[10:]]
    report = error_report([g.seconds for g in guesses], truth[10:])
    assert report.within_10 == 1.0
    assert found.error is not None
    assert found.error.how == "each left out in turn"
    assert "known-0, known-1" in found.source
    again = model_from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.predict(graphs[0]).seconds == pytest.approx(found.predict(graphs[0]).seconds)


@pytest.mark.parametrize("measured", [5, 20])
def test_intervals_of_a_transfer_cover(measured: int) -> None:
    """Five networks tell little of the noise: with normal quantiles these 90 % intervals held 78 %."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(40):
        sources = np.exp(rng.normal(size=(120, 1)) * 0.4 + rng.normal(size=(120, 6)) * 0.1)
        target = np.exp(np.log(sources) @ rng.dirichlet(np.ones(6)) + 0.05 * rng.normal(size=120))
        fit = fit_transfer(sources[:measured], target[:measured])
        assert 1 <= fit.freedom < measured
        low, high = fit.intervals(sources[measured:], 0.9)
        hits.append(np.mean((low <= target[measured:]) & (target[measured:] <= high)))
    assert 0.84 < np.mean(hits) < 0.97


def test_a_transfer_needs_sources_and_measurements() -> None:
    with pytest.raises(InvalidInputError, match="at least one model"):
        transfer_predictor(device("cpu"), [], [])
    with pytest.raises(InvalidInputError, match="at least 5 measured"):
        fit_transfer(np.ones((3, 2)), np.ones(3))
