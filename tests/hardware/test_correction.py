"""The factor that a few finalists give a latency model."""

from __future__ import annotations

import numpy as np
import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.correction import Correction, Finalist, fit_correction, left_out


def late(ratios, noise: float = 0.0, batch: str = "") -> list[Finalist]:
    """Networks that take so many times as long as predicted."""
    return [Finalist(1.0, float(ratio), noise, batch) for ratio in ratios]


def test_by_hand() -> None:
    """Two finalists, 10 % and 20 % late, a model with 20 % error: scatter² = (2 * 0.04 + 0.005) / 3, prior 10 %."""
    pair = [Finalist(1.0, 1.1), Finalist(2.0, 2.4)]
    found = fit_correction(pair, 0.2)
    variance = (2 * 0.2**2 + 2 * 0.05**2) / 3
    assert found.scatter == pytest.approx(variance**0.5)
    assert found.factor == pytest.approx(1 + 0.15 * 0.1**2 / (0.1**2 + variance / 2))
    assert found.networks == 2
    assert left_out(pair, 0.2) == pytest.approx(
        [fit_correction(pair[1:], 0.2).factor, 2 * fit_correction(pair[:1], 0.2).factor]
    )
    assert fit_correction([], 0.1) == Correction()


def test_two_batches_are_weighed_by_their_noise() -> None:
    """One batch right but noisy, one precise: a weighted mean with the prior as a third."""
    many = [*late([1.0, 1.0], 0.1, "a"), *late([1.1, 1.1], 0.01, "b")]
    variance = 2 * 0.02**2 / (2 + 4 - 2)
    weights = [1 / (0.1**2 + variance / 2), 1 / (0.01**2 + variance / 2), 0.05**-2]
    assert fit_correction(many, 0.02).factor == pytest.approx(1 + weights[1] * 0.1 / sum(weights))


def test_the_noise_of_a_batch_stays_however_many_it_has() -> None:
    """A batch that was measured while the machine was slow: half of it is believed at most, not nearly all."""
    assert fit_correction(late([1.1] * 50, 0.05, "slow"), 0.02).factor == pytest.approx(1.05, abs=0.001)
    assert fit_correction(late([1.1] * 50, 0.0), 0.02).factor == pytest.approx(1.1, abs=0.001)


def test_it_comes_nearer_than_nothing_and_than_the_mean() -> None:
    """Where bias and noise are as it believes, shrinking beats the plain mean and nothing, in mean square."""
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(2000):
        bias, common = rng.normal(0, 0.05, 2)
        measured = 1 + bias + common + rng.normal(0, 0.05, 3)
        guesses = fit_correction(late(measured, 0.05), 0.05).factor, measured.mean(), 1.0
        squares.append([(1 + bias - guess) ** 2 for guess in guesses])
    ours, mean, nothing = np.mean(squares, axis=0)
    assert ours < min(mean, nothing)


def test_one_wild_measurement_hardly_counts() -> None:
    measured = [1.0, 1.01, 0.99, 1.0, 1.6]
    assert fit_correction(late(measured), 0.02).factor < 1.03 < np.mean(measured)


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="above 0 s"):
        fit_correction([Finalist(1.0, 1.0), Finalist(0.0, 1.0)], None)
    with pytest.raises(InvalidInputError, match="noise of at least 0"):
        fit_correction(late([1.0], -0.1), None)
