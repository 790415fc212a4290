"""What one more measurement is worth, from a model's mean and standard deviation: where to look next.

All are for maximisation, vectorised over candidates, and larger is better. To minimise, negate mean and best.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, ndtr

from nasturtium.errors import InvalidInputError

Array = NDArray[np.float64]

FAR = -100.0
"""Below this z, log EI takes its asymptotic series, whose error there is under 1e-10."""
RHO = 0.05
"""Share of the weighted sum in the augmented Chebyshev function (Knowles 2006, equation 2)."""
_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


def expected_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Array:
    """Expected improvement `(mean - best) Phi(z) + std phi(z)` with `z = (mean - best) / std`.

    Args:
        mean: Of the model at each candidate.
        std: Of the model at each candidate, 0 or more; where it is 0 the improvement is `max(mean - best, 0)` exactly.
        best: The best value measured so far.

    Returns:
        0 or more, in the objective's unit.

    Reference:
        Jones, Schonlau, Welch (1998), "Efficient global optimization of expensive black-box functions", Journal of
        Global Optimization 13, equation 15.
    """
    gain, std, z = _standard(mean, std, best)
    value = gain * ndtr(z) + std * np.exp(-0.5 * z * z - _LOG_ROOT_TWO_PI)
    # Far below the best the two terms cancel; there the logarithm's form keeps its digits.
    with np.errstate(divide="ignore"):
        value = np.where((z < -5) & (std > 0), np.exp(np.log(std) + _log_unit_improvement(z)), value)
    return np.where(std > 0, np.maximum(value, 0.0), np.maximum(gain, 0.0))


def log_expected_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Array:
    """Logarithm of `expected_improvement`, finite where that one underflows (z = -40 and far below).

    Args:
        mean: Of the model at each candidate.
        std: Of the model at each candidate, 0 or more.
        best: The best value measured so far.

    Returns:
        `-inf` only where `std` is 0 and the mean does not exceed the best.

    Reference:
        Ament, Daulton, Eriksson, Balandat, Bakshy (2023), "Unexpected improvements to expected improvement for Bayesian
        optimization", arXiv 2310.20708, equation 9.
    """
    gain, std, z = _standard(mean, std, best)
    with np.errstate(divide="ignore"):
        certain = np.log(np.maximum(gain, 0.0))
        return np.where(std > 0, np.log(std) + _log_unit_improvement(z), certain)


def probability_of_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Array:
    """Probability `Phi((mean - best) / std)` that a candidate is better than the best.

    Args:
        mean: Of the model at each candidate.
        std: Of the model at each candidate, 0 or more; where it is 0, the answer is 1 if the mean exceeds the best.
        best: The best value measured so far.

    Reference:
        Kushner (1964), "A new method of locating the maximum point of an arbitrary multipeak curve in the presence of
        noise", Journal of Basic Engineering 86(1).
    """
    gain, std, z = _standard(mean, std, best)
    return np.where(std > 0, ndtr(z), (gain > 0).astype(np.float64))


def upper_confidence_bound(mean: ArrayLike, std: ArrayLike, kappa: float = 0.5) -> Array:
    """Upper confidence bound `mean + kappa * std`; to minimise, its negative on `-mean` is the lower one.

    Args:
        mean: Of the model at each candidate.
        std: Of the model at each candidate, 0 or more.
        kappa: Weight of the uncertainty; 0.5 is that of White et al. (2021), arXiv 1910.11858.

    Reference:
        Srinivas, Krause, Kakade, Seeger (2010), "Gaussian process optimization in the bandit setting", arXiv
        0912.3995, equation 6.
    """
    return np.asarray(mean, dtype=np.float64) + kappa * np.asarray(std, dtype=np.float64)


def thompson(mean: ArrayLike, covariance: ArrayLike, rng: np.random.Generator, draws: int = 1) -> Array:
    """Thompson sampling: functions drawn from the joint posterior; each is maximised by its own candidate.

    Args:
        mean: `(n,)`, of the model at each candidate.
        covariance: `(n, n)`, of the model between candidates; negative eigenvalues (rounding) count as 0.
        rng: Source of chance.
        draws: Number of functions.

    Returns:
        `(draws, n)`.

    Reference:
        Thompson (1933), "On the likelihood that one unknown probability exceeds another", Biometrika 25.
    """
    mean = np.asarray(mean, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn: Array = mean + rng.standard_normal((draws, len(mean))) @ root.T
    return drawn


def independent_thompson(mean: ArrayLike, std: ArrayLike, rng: np.random.Generator) -> Array:
    """Independent Thompson sampling: one draw of `N(mean, std^2)` for each candidate on its own.

    Args:
        mean: Of the model at each candidate.
        std: Of the model at each candidate, 0 or more.
        rng: Source of chance.

    Reference:
        White, Neiswanger, Savani (2021), "BANANAS: Bayesian optimization with neural architectures for neural
        architecture search", arXiv 1910.11858, section 3 (acquisition functions).
    """
    return rng.normal(np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64))


def probability_of_feasibility(mean: ArrayLike, std: ArrayLike, relation: Literal["<=", ">="], limit: float) -> Array:
    """Probability that a measured metric meets its limit: a factor of expected improvement.

    Args:
        mean: Of the metric's model at each candidate.
        std: Of the metric's model at each candidate, 0 or more; where it is 0, the answer is 0 or 1.
        relation: "<=" or ">=".
        limit: Of the metric.

    Reference:
        Gardner, Kusner, Xu, Weinberger, Cunningham (2014), "Bayesian optimization with inequality constraints", ICML,
        equation 5.
    """
    if relation not in ("<=", ">="):
        raise InvalidInputError(f"`relation` must be '<=' or '>=', got {relation!r}.")
    sign = 1.0 if relation == "<=" else -1.0
    room, std, z = _standard(-sign * np.asarray(mean, dtype=np.float64), std, -sign * limit)
    return np.where(std > 0, ndtr(z), (room >= 0).astype(np.float64))


def augmented_chebyshev(costs: ArrayLike, weights: ArrayLike, rho: float = RHO) -> Array:
    """One cost of several: `max_i w_i c_i + rho * sum_i w_i c_i`; smaller is better.

    Args:
        costs: `(..., objectives)`, each scaled to [0, 1] over what was measured, 0 the best.
        weights: `(objectives,)`, 0 or more, of sum 1.
        rho: Share of the sum, which keeps weakly dominated points from tying; 0.05 is the paper's.

    Returns:
        `(...)`.

    Reference:
        Knowles (2006), "ParEGO: a hybrid algorithm with on-line landscape approximation for expensive multiobjective
        optimization problems", IEEE TEC 10(1), equation 2.
    """
    weighted = np.asarray(costs, dtype=np.float64) * np.asarray(weights, dtype=np.float64)
    summed: Array = weighted.max(axis=-1) + rho * weighted.sum(axis=-1)
    return summed


def _standard(mean: ArrayLike, std: ArrayLike, best: float) -> tuple[Array, Array, Array]:
    """Gain over the best, standard deviation, and their ratio (of the gain's sign times infinity where it is 0)."""
    gain, deviation = np.broadcast_arrays(np.asarray(mean, dtype=np.float64) - best, np.asarray(std, dtype=np.float64))
    if np.any(deviation < 0):
        raise InvalidInputError(f"A standard deviation must be 0 or more, got {deviation.min()}.")
    return gain, deviation, gain / np.where(deviation > 0, deviation, 1.0)


def _log_unit_improvement(z: Array) -> Array:
    """`log(phi(z) + z Phi(z))` without cancellation."""
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near * near - _LOG_ROOT_TWO_PI) + near * ndtr(near))
    middle = np.clip(z, FAR, -1.0)  # phi(z) (1 - |z| R) with Mills' ratio R = sqrt(pi/2) erfcx(|z| / sqrt(2)) < 1/|z|
    mills = math.sqrt(math.pi / 2) * erfcx(-middle / math.sqrt(2))
    scaled = np.log1p(middle * mills)
    square = np.square(np.minimum(z, FAR))
    series = -np.log(square) + np.log1p(-3 / square + 15 / np.square(square))
    tail = -0.5 * z * z - _LOG_ROOT_TWO_PI + np.where(z < FAR, series, scaled)
    return np.where(z > -1.0, direct, tail)


__all__ = [
    "augmented_chebyshev",
    "expected_improvement",
    "independent_thompson",
    "log_expected_improvement",
    "probability_of_feasibility",
    "probability_of_improvement",
    "thompson",
    "upper_confidence_bound",
]
