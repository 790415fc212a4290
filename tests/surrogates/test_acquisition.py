"""Acquisition functions against the reference vector, quadrature with many digits, and their limits."""

from __future__ import annotations

import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.surrogates.acquisition import (
    augmented_chebyshev,
    expected_improvement,
    independent_thompson,
    log_expected_improvement,
    probability_of_feasibility,
    probability_of_improvement,
    thompson,
    upper_confidence_bound,
)


def test_the_reference_vector() -> None:
    """METHODS.md section 14, a minimisation: mu=.10, s=.05, best=.12."""
    assert expected_improvement(-0.10, 0.05, -0.12) == pytest.approx(0.031522, abs=5e-7)
    assert probability_of_improvement(-0.10, 0.05, -0.12) == pytest.approx(0.655422, abs=5e-7)
    assert -upper_confidence_bound(-0.10, 0.05, kappa=0.5) == pytest.approx(0.075, abs=1e-12)


@pytest.mark.parametrize("z", [3.0, 0.0, -0.999, -1.001, -4.9, -5.1, -40.0, -99.9, -100.1, -1e4, -1e7])
def test_log_expected_improvement_against_fifty_digits(z: float) -> None:
    with mpmath.workdps(80):
        x = mpmath.mpf(z)
        exact = mpmath.log(mpmath.npdf(x) + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2)
        assert float(log_expected_improvement(2 * z + 1, 2.0, 1.0)) == pytest.approx(
            float(exact + mpmath.log(2)), rel=1e-11, abs=1e-10
        )
        if z > -30:
            assert float(expected_improvement(z, 1.0, 0.0)) == pytest.approx(float(mpmath.exp(exact)), rel=1e-9)


def test_certain_candidates_are_exact() -> None:
    mean = [0.3, 0.5, 0.7]
    assert expected_improvement(mean, 0.0, 0.5).tolist() == [0.0, 0.0, 0.7 - 0.5]
    assert log_expected_improvement(mean, 0.0, 0.5).tolist() == [-math.inf, -math.inf, math.log(0.7 - 0.5)]
    assert probability_of_improvement(mean, 0.0, 0.5).tolist() == [0.0, 0.0, 1.0]
    assert probability_of_feasibility(mean, 0.0, "<=", 0.5).tolist() == [1.0, 1.0, 0.0]
    assert probability_of_feasibility(mean, 0.0, ">=", 0.5).tolist() == [0.0, 1.0, 1.0]


def test_probability_of_feasibility() -> None:
    """One standard deviation of room: Phi(1) = 0.841345."""
    assert probability_of_feasibility(3.0, 2.0, "<=", 5.0) == pytest.approx(0.841345, abs=5e-7)
    assert probability_of_feasibility(3.0, 2.0, ">=", 5.0) == pytest.approx(1 - 0.841345, abs=5e-7)


def test_thompson_draws_have_the_covariance() -> None:
    covariance = np.array([[2.0, 1.2, 0.0], [1.2, 1.0, 0.0], [0.0, 0.0, 0.0]])
    drawn = thompson([1.0, -1.0, 4.0], covariance, np.random.default_rng(3), draws=40_000)
    assert drawn.mean(axis=0) == pytest.approx([1.0, -1.0, 4.0], abs=0.03)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.05)
    assert np.all(drawn[:, 2] == 4.0)


def test_independent_thompson_is_independent() -> None:
    drawn = independent_thompson(np.zeros(20_000), np.full(20_000, 3.0), np.random.default_rng(3))
    assert drawn.std() == pytest.approx(3.0, abs=0.06)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_augmented_chebyshev_by_hand() -> None:
    """max(.5 * .2, .5 * .8) + .05 * (.1 + .4) = .425."""
    assert augmented_chebyshev([[0.2, 0.8], [0.5, 0.5]], [0.5, 0.5]) == pytest.approx([0.425, 0.275])


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match="0 or more, got -1"):
        expected_improvement(0.0, -1.0, 0.0)
    with pytest.raises(InvalidInputError, match="'<=' or '>='"):
        probability_of_feasibility(0.0, 1.0, "<", 0.0)  # type: ignore[arg-type]
