"""Learning curves: the paper's formulas by hand, exact recovery, calibration, and decisions to stop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.surrogates.curves import FAMILIES, FEWEST, extrapolate, fit
from nasturtium.surrogates.stopping import CurveStopping, MedianStopping, stopping_from_dict

BY_NAME = {family.name: family for family in FAMILIES}

BY_HAND = {
    # exp(a + b / x + c log x) at x = 2: exp(-1 + .5 / 2 + .1 log 2) = exp(-.75) 2^.1
    "vapor pressure": ((-1.0, 0.5, 0.1), 2.0, math.exp(-0.75) * 2**0.1),
    # c - a x^-alpha at x = 4: .9 - .6 / 2
    "pow3": ((0.9, 0.6, 0.5), 4.0, 0.6),
    # log(a log x + b) at x = e: log(.7 + 1.3)
    "log log linear": ((0.7, 1.3), math.e, math.log(2)),
    # y_max x^eta / (kappa^eta + x^eta) at x = 3: .8 * 9 / (16 + 9)
    "Hill3": ((0.8, 2.0, 4.0), 3.0, 0.288),
    # a / (1 + (x / e^b)^c) at x = 2 e: .9 / (1 + 2^-1)
    "log power": ((0.9, 1.0, -1.0), 2 * math.e, 0.6),
    # c - (a x + b)^-alpha at x = 5: 1 - (3 * 5 + 1)^-.5 = 1 - 1/4
    "pow4": ((1.0, 3.0, 1.0, 0.5), 5.0, 0.75),
    # alpha - (alpha - beta) / (1 + (kappa x)^delta) at x = 6: .9 - .8 / (1 + 3^2)
    "MMF": ((0.9, 0.1, 0.5, 2.0), 6.0, 0.82),
    # c - exp(-a x^alpha + b) at x = 4: .9 - exp(-1 * 2 + 1)
    "exp4": ((0.9, 1.0, 1.0, 0.5), 4.0, 0.9 - math.exp(-1)),
    # alpha - (alpha - beta) exp(-kappa x^delta) at x = 9: .9 - .7 exp(-.5 * 3)
    "Janoschek": ((0.9, 0.2, 0.5, 0.5), 9.0, 0.9 - 0.7 * math.exp(-1.5)),
    # alpha - (alpha - beta) exp(-(kappa x)^delta) at x = 8: .9 - .7 exp(-2^2)
    "Weibull": ((0.9, 0.2, 0.25, 2.0), 8.0, 0.9 - 0.7 * math.exp(-4)),
    # c - a / log x, epochs counted from 2: at epoch 3, x = 4: .8 - .2 / log 4
    "ilog2": ((0.8, 0.2), 3.0, 0.8 - 0.2 / math.log(4)),
}
"""Parameters, epoch and value of each family of table 1 of Domhan et al. (2015)."""

TRUE = {
    "vapor pressure": (-0.5, -0.6, 0.03),
    "pow3": (0.9, 0.5, 0.6),
    "log log linear": (0.15, 1.6),
    "Hill3": (0.85, 0.9, 2.0),
    "log power": (0.85, 0.8, -0.8),
    "pow4": (0.95, 3.0, 1.0, 0.5),
    "MMF": (0.85, 0.2, 0.3, 1.3),
    "exp4": (0.85, 0.7, -0.2, 0.7),
    "Janoschek": (0.85, 0.2, 0.3, 0.8),
    "Weibull": (0.85, 0.2, 0.25, 0.8),
    "ilog2": (0.9, 0.35),
}


def test_the_families_are_those_of_the_paper() -> None:
    assert list(BY_HAND) == [family.name for family in FAMILIES]
    assert len(FAMILIES) == 11


@pytest.mark.parametrize("name", BY_HAND)
def test_formula_by_hand(name: str) -> None:
    parameters, epoch, value = BY_HAND[name]
    assert BY_NAME[name](np.array([epoch]), parameters)[0] == pytest.approx(value, rel=1e-12)
    many = BY_NAME[name](np.array([epoch, 2 * epoch]), np.array([parameters, parameters]))
    assert many.shape == (2, 2)
    assert many[1, 0] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", TRUE)
def test_a_curve_without_noise_is_recovered(name: str) -> None:
    """From 20 of 100 epochs: its own family's fit is exact, and the mixture is near the truth."""
    family = BY_NAME[name]
    x = np.arange(1, 101, dtype=np.float64)
    curve = family(x, TRUE[name])
    assert 0 < curve.min() < curve.max() < 1
    found = fit(family, x[:20], curve[:20])
    assert family(x[-1:], found)[0] == pytest.approx(curve[-1], abs=1e-3)
    forecast = extrapolate(curve[:20], 100)
    assert forecast.fits[name] == pytest.approx(curve[-1], abs=1e-3)
    assert forecast.mean == pytest.approx(curve[-1], abs=0.04)
    assert sum(forecast.weights.values()) == pytest.approx(1)
    assert abs(forecast.mean - curve[-1]) < 3 * forecast.std


def simulated(seed: int, epochs: int = 40, noise: float = 0.01) -> np.ndarray:
    """A noisy curve of a random family, with parameters around its usual ones, that rises within (0, 1)."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[rng.integers(len(FAMILIES))]
    x = np.arange(1, epochs + 1, dtype=np.float64)
    while True:
        curve = family(x, np.array(family.start) * np.exp(rng.normal(0, 0.25, len(family.start))))
        if np.all(np.isfinite(curve)) and 0.03 < curve.min() < curve.max() < 0.97 and curve[-1] > curve[0] + 0.05:
            return np.clip(curve + rng.normal(0, noise, epochs), 0, 1)


def covered(count: int) -> float:
    """Share of simulated curves whose last value lies in the 90 % interval from the first 12 of 40 epochs."""
    hits = []
    for seed in range(count):
        curve = simulated(seed)
        low, high = extrapolate(curve[:12], 40).interval(0.9)
        hits.append(low <= curve[-1] <= high)
    return float(np.mean(hits))


@pytest.mark.slow
def test_the_forecast_is_calibrated() -> None:
    assert 0.8 <= covered(100) <= 0.97


def test_most_of_a_few_curves_are_covered() -> None:
    """With a coverage of .8 or more, 8 or fewer of 15 come by chance in one of a hundred suites (binomial: .018)."""
    assert covered(15) * 15 > 8.5


def test_more_epochs_make_it_surer() -> None:
    curve = simulated(3)
    widths = [np.diff(extrapolate(curve[:seen], 40).interval())[0] for seen in (6, 14, 32)]
    assert widths[0] > widths[1] > widths[2]


def test_the_same_curve_gives_the_same_forecast() -> None:
    curve = simulated(5)[:10].tolist()
    one, two = extrapolate(curve, 40), extrapolate(curve, 40)
    assert np.array_equal(one.samples, two.samples)


def test_the_last_epoch_is_known() -> None:
    forecast = extrapolate([0.1, 0.2, 0.3, 0.4], 4)
    assert (forecast.mean, forecast.std) == (0.4, 0.0)
    assert forecast.probability_above(0.39) == 1


def test_a_curve_that_falls_is_survived() -> None:
    forecast = extrapolate([0.6, 0.5, 0.4, 0.3, 0.2], 20)
    assert 0 <= forecast.mean <= 1
    assert np.all(np.isfinite(forecast.samples))


@pytest.mark.parametrize("curve", [[0.5] * 8, [0.0] * 8, [1.0] * 8])
def test_a_flat_curve_stays(curve: list[float]) -> None:
    assert extrapolate(curve, 30).mean == pytest.approx(curve[0], abs=0.05)


@pytest.mark.parametrize(
    ("curve", "epochs", "message"),
    [
        ([0.1, 0.2, 0.3], 9, "4 epochs or more"),
        ([0.1, 0.2, 30.0, 0.3], 9, "fractions"),
        ([0.1] * 6, 5, "6, the curve's"),
    ],
)
def test_bad_curves(curve: list[float], epochs: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        extrapolate(curve, epochs)


# -- stopping ----------------------------------------------------------------------------------------------------------

LOW = [0.6 - 0.4 * epoch**-1.0 for epoch in range(1, 13)]
"""Rises to .6, and is at .57 by epoch 12."""


def test_a_training_that_cannot_win_is_stopped() -> None:
    rule = CurveStopping(best=0.9)
    assert rule.stops(LOW, 50)
    assert extrapolate(LOW, 50).probability_above(0.9) < 0.05


def test_a_training_that_may_win_goes_on() -> None:
    assert not CurveStopping(best=0.55).stops(LOW, 50)  # it has won
    assert not CurveStopping(best=0.58).stops(LOW, 50)  # it will
    assert not CurveStopping(best=0.9).stops(LOW[: FEWEST - 1], 50)  # too early to tell
    assert not CurveStopping(best=0.9, after=13).stops(LOW, 50)
    assert not CurveStopping(best=0.9, after=5, every=4).stops(LOW, 50)  # looks at 5, 9, 13
    assert CurveStopping(best=0.9, after=4, every=4).stops(LOW, 50)
    assert not CurveStopping(best=0.9).stops(LOW, 12)  # it is over anyway


def test_the_median_rule_by_hand() -> None:
    """Running averages at epoch 3 are .2, .4 and .6, so the median is .4; a curve of one epoch does not vote."""
    rule = MedianStopping(curves=((0.1, 0.2, 0.3, 0.9), (0.3, 0.4, 0.5), (0.5, 0.6, 0.7), (0.99,)))
    assert rule.stops([0.1, 0.39, 0.2], 10)
    assert not rule.stops([0.1, 0.41, 0.2], 10)
    assert not rule.stops([0.0] * 5, 10)  # nobody came so far
    assert not MedianStopping(curves=rule.curves, after=4).stops([0.1, 0.39, 0.2], 10)


@pytest.mark.parametrize(
    "rule", [CurveStopping(best=0.7, threshold=0.1, after=6), MedianStopping(curves=((0.1, 0.2),))]
)
def test_rules_as_json(rule: CurveStopping | MedianStopping) -> None:
    assert stopping_from_dict(rule.to_dict()) == rule


def test_bad_rules() -> None:
    with pytest.raises(UnknownNameError, match="stopping rule"):
        stopping_from_dict({"type": "curves"})
    with pytest.raises(InvalidInputError, match="does not take"):
        stopping_from_dict({"type": "curve", "worst": 3})
    for settings, message in (
        ({"best": 90}, "accuracy in"), ({"best": 0.9, "threshold": 0}, "`threshold`"),
        ({"best": 0.9, "after": 2}, "`after`"), ({"best": 0.9, "every": 0}, "`every`"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=message):
            CurveStopping(**settings)
    with pytest.raises(InvalidInputError, match="a curve or more"):
        MedianStopping(curves=())
