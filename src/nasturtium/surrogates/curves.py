"""Learning curves: from the first epochs of a training to its end, with how sure one can be.

Eleven parametric families are fitted; each gets a posterior of its parameters, and a weight by how well it explains the
curve. `predict` returns samples of the accuracy that will be measured at the end.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError

Values = NDArray[np.float64]

FEWEST = 4
"""Epochs before a curve is extrapolated: fewer do not tell families of two parameters from noise."""
WALKERS, BURN, KEPT = 40, 40, 15
"""Chains of one family's sampler, steps that are thrown away, and steps that are kept."""
DRAWS = 1000
"""Samples of the final value."""
NOISE = 0.01
"""Standard deviation of an accuracy around its curve before one has seen it; it counts as much as `TRUST` epochs."""
TRUST = 2.0
LOWEST, HIGHEST = -0.05, 1.05
"""No accuracy is predicted outside, but for rounding."""
DOUBT = 1 / 3
"""Weight that is shared equally by all families: a few epochs can make one look sure that is not the right one."""
STARTS, ITERATIONS = 6, 60
"""Fits of a family to a curve, done at once by Levenberg's and Marquardt's method, and its longest run."""
STEP = 1e-6
"""Of differences."""
PERFECT, SETTLED, WORTHLESS = 1e-14, 1e-6, 1e3
"""Sum of squares at which a fit ends, relative gain at which it does, and sum of squares at which it is none."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of curve.

    Args:
        name: As in the paper's table 1.
        formula: Value at epochs x >= 1 of the parameters, which broadcast against x.
        parameters: Their names, in the order of the formula.
        start: Where a fit begins.
        low: Least value of each parameter.
        high: Largest value of each parameter.
    """

    name: str
    formula: Callable[..., Values]
    parameters: tuple[str, ...]
    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, x: Values, parameters: Sequence[float] | Values) -> Values:
        """Values at x of one set of parameters `(parameter,)`, or of many `(set, parameter)`: `(set, x)`."""
        given = np.asarray(parameters, dtype=np.float64)
        columns = [given[..., i, None] for i in range(given.shape[-1])]
        with np.errstate(all="ignore"):
            return self.formula(np.asarray(x, dtype=np.float64), *columns)


FAMILIES: tuple[Family, ...] = (
    Family(
        "vapor pressure", lambda x, a, b, c: np.exp(a + b / x + c * np.log(x)), ("a", "b", "c"),
        (-0.6, -0.5, 0.04), (-10, -10, -1), (1, 10, 1),
    ),
    Family(
        "pow3", lambda x, c, a, alpha: c - a * x**-alpha, ("c", "a", "alpha"),
        (0.84, 0.52, 0.5), (0, -2, 0.01), (2, 5, 5),
    ),
    Family(
        "log log linear", lambda x, a, b: np.log(a * np.log(x) + b), ("a", "b"), (0.2, 1.3), (-1, 0.5), (1, 3),
    ),
    Family(
        "Hill3", lambda x, top, eta, kappa: top * x**eta / (kappa**eta + x**eta), ("y_max", "eta", "kappa"),
        (0.77, 0.6, 2.5), (0, 0.01, 1e-3), (2, 10, 1e3),
    ),
    Family(
        "log power", lambda x, a, b, c: a / (1 + (x / np.exp(b)) ** c), ("a", "b", "c"),
        (0.77, 1.0, -0.5), (0, -10, -10), (2, 10, -0.01),
    ),
    Family(
        "pow4", lambda x, c, a, b, alpha: c - (a * x + b) ** -alpha, ("c", "a", "b", "alpha"),
        (0.85, 2.0, 1.0, 0.6), (0, 1e-3, 1e-3, 0.01), (2, 1e3, 1e3, 5),
    ),
    Family(
        "MMF", lambda x, alpha, beta, kappa, delta: alpha - (alpha - beta) / (1 + (kappa * x) ** delta),
        ("alpha", "beta", "kappa", "delta"), (0.8, 0.1, 0.3, 1.0), (0, -1, 1e-4, 0.05), (2, 1, 20, 10),
    ),
    Family(
        "exp4", lambda x, c, a, b, alpha: c - np.exp(-a * x**alpha + b), ("c", "a", "b", "alpha"),
        (0.8, 0.6, -0.3, 0.6), (0, 1e-3, -5, 0.05), (2, 10, 5, 3),
    ),
    Family(
        "Janoschek", lambda x, alpha, beta, kappa, delta: alpha - (alpha - beta) * np.exp(-kappa * x**delta),
        ("alpha", "beta", "kappa", "delta"), (0.8, 0.1, 0.4, 0.6), (0, -1, 1e-3, 0.05), (2, 1, 10, 3),
    ),
    Family(
        "Weibull", lambda x, alpha, beta, kappa, delta: alpha - (alpha - beta) * np.exp(-((kappa * x) ** delta)),
        ("alpha", "beta", "kappa", "delta"), (0.8, 0.1, 0.3, 0.6), (0, -1, 1e-4, 0.05), (2, 1, 20, 3),
    ),
    Family("ilog2", lambda x, c, a: c - a / np.log(x + 1), ("c", "a"), (0.8, 0.4), (0, -2), (2, 5)),
)  # fmt: skip
"""The families of the paper's table 1. In ilog2 epochs are counted from 2, as in the authors' code: log 1 is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a training will come to.

    Args:
        samples: `(draw,)` accuracies that may be measured at the end, equally likely.
        weights: Share of each family in the samples, by name.
        fits: Value at the end of each family's best fit, by name.
    """

    samples: Values
    weights: dict[str, float]
    fits: dict[str, float]

    @property
    def mean(self) -> float:
        """Expected value."""
        return float(self.samples.mean())

    @property
    def std(self) -> float:
        """Standard deviation, of curve and noise together."""
        return float(self.samples.std())

    def interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the value with so much probability."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.samples, [tail, 1 - tail])
        return float(low), float(high)

    def probability_above(self, value: float) -> float:
        """Probability that the value will be above another."""
        return float((self.samples > value).mean())


def extrapolate(curve: Sequence[float], epochs: int) -> Forecast:
    """Forecast the last value of a learning curve from its beginning.

    The same curve gives the same forecast. Takes some tenths of a second.

    Args:
        curve: Validation accuracies of epochs 1, 2 …, fractions; at least `FEWEST`.
        epochs: The last epoch, which is forecast.

    Raises:
        InvalidInputError: too few values, one that is no fraction, or an end before the curve's.

    Example:
        >>> from nasturtium.surrogates.curves import extrapolate
        >>> forecast = extrapolate([0.8 - 0.5 * epoch**-0.7 for epoch in range(1, 11)], 50)
        >>> round(forecast.mean, 2)
        0.77

    Notes:
        Differs from the paper: there one chain samples the parameters of a weighted sum of all families, the weights
        and the noise together, with emcee; here each family is sampled by itself, with the same affine-invariant moves
        (Goodman, Weare 2010) from its best fit, the noise is integrated out, and the forecast mixes the families by
        exp(-BIC / 2). The prior is flat within wide limits, and rules out curves that end below where they began or
        leave [0, 1]; the paper's rules out those too. In ilog2 epochs are counted from 2, as in the authors' code.

    Reference:
        Domhan, Springenberg, Hutter (2015), "Speeding up automatic hyperparameter optimization of deep neural networks
        by extrapolation of learning curves", IJCAI, section 3 and table 1.
    """
    y = _checked(curve, epochs)
    if epochs == len(y):
        return Forecast(np.array([y[-1]]), {}, {})
    x = np.arange(1, len(y) + 1, dtype=np.float64)
    rng = np.random.default_rng(zlib.crc32(y.tobytes() + bytes(str(epochs), "ascii")))
    fitted = [(family, best) for family in FAMILIES if (best := fit(family, x, y)) is not None]
    scores = np.array([_bic(family, x, y, best) for family, best in fitted])
    weights = np.exp(-(scores - scores.min()) / 2)
    weights = (1 - DOUBT) * weights / weights.sum() + DOUBT / len(weights)
    counts = rng.multinomial(DRAWS, weights)
    drawn = [
        _final(family, _sample(family, x, y, best, epochs, rng), x, y, epochs, count, rng)
        for (family, best), count in zip(fitted, counts, strict=True)
        if count
    ]
    return Forecast(
        samples=np.clip(np.concatenate(drawn), 0.0, 1.0),
        weights={family.name: float(w) for (family, _), w in zip(fitted, weights, strict=True)},
        fits={family.name: float(family(np.array([epochs]), best)[0]) for family, best in fitted},
    )


def fit(family: Family, x: Values, y: Values) -> Values | None:
    """Parameters of a family that fit a curve best, by least squares; None where no start leads anywhere.

    Args:
        family: Of which.
        x: `(point,)` epochs.
        y: `(point,)` values.
    """
    low, high = np.array(family.low, dtype=np.float64), np.array(family.high, dtype=np.float64)
    points = np.clip([_start(family, y, number) for number in range(STARTS)], low + 1e-6, high - 1e-6)
    residuals = _residuals(family, x, y, points)
    costs, damping = np.sum(residuals**2, axis=-1), np.full(STARTS, 1e-2)
    for _ in range(ITERATIONS):
        slopes = _slopes(family, x, points)
        curvature = slopes @ slopes.transpose(0, 2, 1)
        diagonal = np.einsum("sii->si", curvature)
        diagonal *= 1 + damping[:, None]
        diagonal += 1e-12
        steps = np.linalg.solve(curvature, np.einsum("spx,sx->sp", slopes, residuals)[..., None])[..., 0]
        moved = np.clip(points - steps, low, high)
        there = _residuals(family, x, y, moved)
        lower = np.sum(there**2, axis=-1)
        better = lower < costs
        settled = np.all(~better | (costs - lower < SETTLED * costs)) and np.all(better | (damping > 1e6))
        points = np.where(better[:, None], moved, points)
        residuals = np.where(better[:, None], there, residuals)
        costs = np.where(better, lower, costs)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-12, 1e8)
        if settled or costs.min() < PERFECT:
            break
    return points[int(np.argmin(costs))] if costs.min() < WORTHLESS else None


def _residuals(family: Family, x: Values, y: Values, points: Values) -> Values:
    """`(set, point)`; large where a curve is not finite."""
    return np.nan_to_num(family(x, points) - y, nan=1e3, posinf=1e3, neginf=-1e3)


def _slopes(family: Family, x: Values, points: Values) -> Values:
    """Derivatives `(set, parameter, point)` by central differences, all in one call."""
    steps = np.eye(points.shape[-1]) * STEP
    ahead, behind = family(x, points[:, None] + steps), family(x, points[:, None] - steps)
    return np.nan_to_num((ahead - behind) / (2 * STEP), nan=0.0, posinf=0.0, neginf=0.0)


def _start(family: Family, y: Values, number: int) -> Values:
    """A start of a fit: the family's usual one, with its asymptote a little above the curve's best, and others."""
    start = np.array(family.start, dtype=np.float64)
    number, stretched = number % 3, (1.0, 2.5)[number // 3]
    for i, name in enumerate(family.parameters):
        if name in ("c", "a", "y_max", "alpha") and i == 0 and family.name != "vapor pressure":
            start[i] = min(1.0, float(y.max()) + (0.02, 0.1, 0.002)[number]) if family.name != "log log linear" else 0.2
        elif name == "beta":
            start[i] = float(y[0]) - (0.1, 0.3, 0.0)[number]
        elif number and name in ("delta", "eta", "alpha"):
            start[i] *= (1.0, 0.5, 2.0)[number]
        elif name == "kappa":
            start[i] /= stretched**2
        elif name in ("a", "b"):
            start[i] *= stretched
    return start


def _checked(curve: Sequence[float], epochs: int) -> Values:
    y = np.asarray(curve, dtype=np.float64)
    if y.ndim != 1 or len(y) < FEWEST:
        raise InvalidInputError(f"A curve of {FEWEST} epochs or more is needed to extrapolate, got {len(y)}.")
    if not np.all((y >= 0) & (y <= 1)):
        raise InvalidInputError(f"A learning curve must hold fractions in [0, 1], got {list(curve)!r}.")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < len(y):
        raise InvalidInputError(
            f"`epochs` must be an integer of {len(y)}, the curve's length, or more, got {epochs!r}."
        )
    return y


def _log_likelihood(residuals: Values) -> Values:
    """Of curves `(curve, point)`, the noise integrated out over an inverse gamma prior around `NOISE`."""
    squares = np.sum(residuals**2, axis=-1) + TRUST * NOISE**2
    return -0.5 * (residuals.shape[-1] + TRUST) * np.log(squares)


def _bic(family: Family, x: Values, y: Values, best: Values) -> float:
    fitted = float(_log_likelihood(family(x, best) - y))
    return len(best) * math.log(len(y)) - 2 * fitted


def _log_posterior(family: Family, x: Values, y: Values, parameters: Values, epochs: int) -> Values:
    """Of sets of parameters `(set, parameter)`, up to a constant: `(set,)`."""
    inside = np.all((parameters >= family.low) & (parameters <= family.high), axis=-1)
    values = family(np.append(x, epochs), parameters)
    last = values[..., -1]
    good = (
        inside & np.all(np.isfinite(values), axis=-1) & (last >= LOWEST) & (last <= HIGHEST) & (last >= values[..., 0])
    )
    with np.errstate(all="ignore"):
        likelihood = _log_likelihood(values[..., :-1] - y)
    return np.where(good, likelihood, -np.inf)


def _sample(family: Family, x: Values, y: Values, best: Values, epochs: int, rng: np.random.Generator) -> Values:
    """Sets of parameters `(set, parameter)` from the posterior of a family, by affine-invariant stretch moves."""
    slopes = _slopes(family, x, best[None])[0]
    spread = (np.sum((family(x, best) - y) ** 2) + TRUST * NOISE**2) / (len(y) + TRUST)
    ridge = np.diag(spread / (0.3 * (1 + np.abs(best))) ** 2)  # where the curve says nothing of a parameter
    deviations = np.linalg.cholesky(np.linalg.inv(slopes @ slopes.T + ridge) * spread)
    walkers = best + rng.standard_normal((WALKERS, len(best))) @ deviations.T
    walkers = np.clip(walkers, family.low, family.high)
    walkers[0] = best
    heights = _log_posterior(family, x, y, walkers, epochs)
    half = WALKERS // 2
    kept = []
    for step in range(BURN + KEPT):
        for mine, others in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            z = (1 + rng.random(half)) ** 2 / 2  # density 1 / sqrt(z) on [1/2, 2]
            partners = walkers[others][rng.integers(0, half, half)]
            moved = partners + z[:, None] * (walkers[mine] - partners)
            there = _log_posterior(family, x, y, moved, epochs)
            with np.errstate(invalid="ignore"):
                ratio = (len(best) - 1) * np.log(z) + there - heights[mine]
            accepted = np.log(rng.random(half)) < np.where(np.isnan(ratio), -np.inf, ratio)
            walkers[mine] = np.where(accepted[:, None], moved, walkers[mine])
            heights[mine] = np.where(accepted, there, heights[mine])
        if step >= BURN:
            kept.append(walkers[np.isfinite(heights)].copy())
    return np.concatenate(kept)


def _final(
    family: Family, parameters: Values, x: Values, y: Values, epochs: int, count: int, rng: np.random.Generator
) -> Values:
    """So many draws of the last value, noise included."""
    if not len(parameters):  # no walker came inside the prior: the curve falls, and stays where it is
        return np.full(count, y[-1]) + NOISE * rng.standard_normal(count)
    chosen = parameters[rng.integers(0, len(parameters), count)]
    values = family(np.append(x, epochs), chosen)
    squares = np.sum((values[:, :-1] - y) ** 2, axis=-1) + TRUST * NOISE**2
    variance = squares / rng.chisquare(len(y) + TRUST, count)
    return values[:, -1] + np.sqrt(variance) * rng.standard_normal(count)
