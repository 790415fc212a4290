"""The factor that a few finalists give a latency model."""

from __future__ import annotations

import numpy as np
import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.correction import Correction, fit_correction, left_out


def test_by_hand() -> None:
    """Two finalists, 10 % and 20 % late, a model with 10 % error: scatter² = (2 * 0.01 + 0.005) / 3."""
    found = fit_correction([1.0, 2.0], [1.1, 2.4], 0.1)
    variance = (2 * 0.1**2 + 2 * 0.05**2) / 3
    assert found.scatter == pytest.approx(variance**0.5)
    assert found.factor == pytest.approx(1 + 0.3 / (2 + variance / 0.1**2))
    assert found.networks == 2
    one = fit_correction([1.0], [1.2], 0.1)
    assert one.factor == pytest.approx(1 + 0.2 / 2)  # a single one is believed by half
    assert left_out([1.0, 2.0], [1.1, 2.4], 0.1) == pytest.approx(
        [fit_correction([2.0], [2.4], 0.1).factor, 2 * fit_correction([1.0], [1.1], 0.1).factor]
    )
    assert fit_correction([], [], 0.1) == Correction()


def test_it_comes_nearer_than_nothing_and_than_the_mean() -> None:
    """Where the bias is drawn from the prior, shrinking beats the plain mean, which beats nothing, in mean square."""
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(2000):
        bias = rng.normal(0, 0.05)
        measured = 1 + bias + rng.normal(0, 0.05, 3)
        squares.append([(1 + bias - guess) ** 2 for guess in (
            fit_correction(np.ones(3), measured, 0.05).factor, measured.mean(), 1.0)])  # fmt: skip
    ours, mean, nothing = np.mean(squares, axis=0)
    assert ours < mean < nothing


def test_one_wild_measurement_hardly_counts() -> None:
    measured = [1.0, 1.01, 0.99, 1.0, 1.6]
    assert fit_correction(np.ones(5), measured, 0.02).factor < 1.03 < np.mean(measured)


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="above 0 s"):
        fit_correction([1.0, 0.0], [1.0, 1.0], None)
    with pytest.raises(InvalidInputError, match="a prediction and a time"):
        fit_correction([1.0], [1.0, 1.0], None)
