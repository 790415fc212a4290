"""Predictions and error reports."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nasturtium.errors import InvalidInputError
from nasturtium.hardware import ErrorReport, Prediction, error_report
from nasturtium.hardware.latency import Measured, check_measured
from nasturtium.hardware.report import conformal_radius, spearman


def test_an_error_report_by_hand() -> None:
    """Errors of 4 %, -10 %, 20 % and 0."""
    found = error_report([1.04, 0.9, 1.2, 2.0], [1.0, 1.0, 1.0, 2.0], training=7)
    assert (found.networks, found.training) == (4, 7)
    assert found.within_5 == 0.5
    assert found.within_10 == 0.75
    assert found.rmspe == pytest.approx(math.sqrt((0.04**2 + 0.1**2 + 0.2**2) / 4))
    assert found.worst == pytest.approx(0.2)
    assert found.bias == pytest.approx(0.02)
    assert found.covered is None
    assert ErrorReport.from_dict(found.to_dict()) == found
    assert "75% within 10 %" in found.text
    assert "n = 4" in found.text


def test_intervals_are_looked_at() -> None:
    assert error_report([1, 1], [1, 2], intervals=([0.5, 0.5], [1.5, 1.5])).covered == 0.5


@pytest.mark.parametrize(("guess", "truth"), [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0]), ([math.nan], [1.0])])
def test_what_is_no_comparison_is_refused(guess: list[float], truth: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="Errors need"):
        error_report(guess, truth)


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40), rng.integers(0, 6, 40)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_the_conformal_radius_covers() -> None:
    """With 39 errors the 38th smallest covers a new one with probability 0.95, exactly."""
    assert conformal_radius(list(range(39)), 0.95) == 37
    assert conformal_radius(list(range(18)), 0.95) == math.inf
    rng = np.random.default_rng(0)
    hits = [rng.exponential() <= conformal_radius(rng.exponential(size=39), 0.95) for _ in range(4000)]
    assert abs(np.mean(hits) - 0.95) < 0.012


def test_a_prediction_lies_in_its_interval() -> None:
    found = Prediction(seconds=2e-3, low=1e-3, high=math.inf, source="a guess")
    assert found.text == "2 ms, predicted (95 % interval 1 ms to any time) by a guess"
    with pytest.raises(InvalidInputError, match="low <= seconds <= high"):
        Prediction(seconds=1.0, low=2.0, high=3.0)


def test_measurements_are_positive() -> None:
    with pytest.raises(InvalidInputError, match="Measurement 1"):
        check_measured([Measured("a", 1.0), Measured("b", 0.0)])
