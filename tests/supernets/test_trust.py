"""Kendall's tau and its interval: against counting by hand, and against scipy's bootstrap."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import bootstrap, kendalltau

from nasturtium.errors import InvalidInputError
from nasturtium.supernets import Trust, measure_trust


def by_counting(x: list[float], y: list[float]) -> float:
    """Tau-b from its definition: pairs that agree minus pairs that do not, over those without ties."""
    score = ties_x = ties_y = pairs = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
            score, ties_x, ties_y, pairs = score + a * b, ties_x + (a == 0), ties_y + (b == 0), pairs + 1
    return float(score / math.sqrt((pairs - ties_x) * (pairs - ties_y)))


def noisy(n: int, noise: float, seed: int = 0) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x.tolist(), (x + noise * rng.normal(size=n)).tolist()


def test_tau_is_that_of_the_definition() -> None:
    x, y = [1, 2, 3, 3, 5, 5, 7], [2, 1, 3, 4, 4, 6, 6]
    assert measure_trust(x, y, seed=0).tau == pytest.approx(by_counting(x, y))
    assert measure_trust(x, y, seed=0).tau == pytest.approx(kendalltau(x, y).statistic)
    assert measure_trust([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], seed=0).tau == pytest.approx(-1)


def test_the_interval_is_the_percentile_bootstrap() -> None:
    x, y = noisy(60, 1.0)
    ours = measure_trust(x, y, seed=0, resamples=3000)
    theirs = bootstrap(
        (x, y), lambda a, b: kendalltau(a, b).statistic, paired=True, vectorized=False, method="percentile",
        n_resamples=400, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours.low == pytest.approx(theirs.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.high, abs=0.05)
    assert ours.low < ours.tau < ours.high
    assert ours == measure_trust(x, y, seed=0, resamples=3000)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Normal pairs of correlation r have tau = 2/pi arcsin r."""
    truth = 2 / math.pi * math.asin(1 / math.sqrt(2))  # noise 1
    found = [measure_trust(*noisy(40, 1.0, seed), seed=seed, resamples=300) for seed in range(40)]
    assert sum(t.low <= truth <= t.high for t in found) >= 33  # of 40; 38 expected, and 33 has a chance of 2 %


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (noisy(50, 0.1), "ranks well"),
        (noisy(50, 1e3), "contains 0"),
        ((list(range(20)), list(range(20, 0, -1))), "worse than chance"),
        (([1, 2, 3], [1, 3, 2]), "proves nothing"),
        (([1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]), "Nothing can be said"),
    ],
)
def test_the_sentence_says_what_it_means(values: tuple[list[float], list[float]], words: str) -> None:
    found = measure_trust(*values, seed=0, resamples=300, names=("proxies", "full training"))
    assert words in found.sentence
    assert found.better_than_chance == ("ranks" in found.sentence and "better than chance, and" in found.sentence)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert repr(Trust.from_dict(stored)) == repr(found)


def test_networks_without_a_value_are_left_out() -> None:
    x, y = noisy(20, 0.5)
    assert measure_trust([*x, math.nan, 1.0], [*y, 1.0, math.nan], seed=0) == measure_trust(x, y, seed=0)
    assert measure_trust([], [], seed=0).n == 0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="got 2 and 1"):
        measure_trust([1, 2], [1], seed=0)
    with pytest.raises(InvalidInputError, match="confidence"):
        measure_trust([1, 2], [1, 2], seed=0, confidence=95)
    with pytest.raises(InvalidInputError, match="version"):
        Trust.from_dict({"tau": 1.0})
