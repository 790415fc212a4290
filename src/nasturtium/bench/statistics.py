"""Means with bands, paired differences, and ranks with a critical difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2_000
"""Of a bootstrap."""
LEVEL = 0.95
"""Of bands and intervals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """A mean over seeds with its bootstrap interval, at each point of a grid."""

    mean: Floats
    low: Floats
    high: Floats
    n: int
    """Seeds."""


def band(samples: Floats, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Band:
    """Mean over the first axis and its percentile bootstrap interval.

    Args:
        samples: `(seed, point)`; whole seeds are drawn, so the interval holds at each point, not for the whole curve.
        resamples: Bootstrap samples.
        level: Of the interval.
        seed: Of the bootstrap.

    Reference:
        Efron, Tibshirani (1993), "An introduction to the bootstrap", chapter 13.
    """
    n = len(samples)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = counts @ samples / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(mean=samples.mean(axis=0), low=low, high=high, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of paired differences with its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    def verdict(self, margin: float) -> str:
        """Whether the first is worse (larger) by more than a margin: "no", "yes", "open" if the interval holds it."""
        if self.high <= margin:
            return "no"
        return "yes" if self.low > margin else "open"


def difference(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> Difference:
    """Mean of `a - b`, pair by pair, with its 95 % bootstrap interval."""
    found = band(np.asarray(a, dtype=float)[:, None] - np.asarray(b, dtype=float)[:, None])
    return Difference(mean=float(found.mean[0]), low=float(found.low[0]), high=float(found.high[0]), n=found.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Average ranks of strategies (1 is best), whether they differ at all, and by how much they must to count."""

    mean: tuple[float, ...]
    blocks: int
    chi_square: float
    """Friedman's statistic."""
    p_value: float
    """Of Iman and Davenport's F."""
    critical_difference: float
    """Nemenyi's, at 5 %."""


def rank(scores: Floats) -> Ranks:
    """Rank strategies within each block, and test the average ranks.

    Args:
        scores: `(block, strategy)`, smaller is better; ties share the average rank. A block is one independent problem.

    Notes:
        Friedman's statistic is that of the average ranks without correction for ties, as Demšar gives it; Iman and
        Davenport's F is the less conservative test that he recommends. NaN where there are fewer than two blocks or
        strategies.

    Reference:
        Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7, section 3.2.
    """
    from scipy import stats  # noqa: PLC0415  (its import takes a second)

    ranks = stats.rankdata(scores, axis=1)
    return from_average_ranks(ranks.mean(axis=0), len(scores))


def from_average_ranks(mean: Sequence[float] | Floats, blocks: int) -> Ranks:
    """Friedman's test and Nemenyi's critical difference, from average ranks over blocks."""
    from scipy import stats  # noqa: PLC0415

    averages = np.asarray(mean, dtype=float)
    k = len(averages)
    chi = p = critical = math.nan
    if k > 1 and blocks > 0:
        critical = critical_difference(k, blocks)
    if k > 1 and blocks > 1:
        chi = 12 * blocks / (k * (k + 1)) * float((averages**2).sum() - k * (k + 1) ** 2 / 4)
        below = blocks * (k - 1) - chi
        p = float(stats.f.sf((blocks - 1) * chi / below, k - 1, (k - 1) * (blocks - 1))) if below > 1e-9 else 0.0
    return Ranks(
        mean=tuple(map(float, averages)), blocks=blocks, chi_square=chi, p_value=p, critical_difference=critical
    )


def critical_difference(strategies: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks: two that differ by less are not told apart.

    Reference:
        Demšar (2006), section 3.2.2 and table 5.
    """
    from scipy import stats  # noqa: PLC0415

    q = float(stats.studentized_range.ppf(1 - alpha, strategies, np.inf)) / math.sqrt(2)
    return q * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def cliques(mean: Sequence[float], critical: float) -> list[tuple[int, ...]]:
    """Largest groups of strategies, by index, whose average ranks lie within the critical difference."""
    order = sorted(range(len(mean)), key=lambda i: mean[i])
    found: list[tuple[int, ...]] = []
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and mean[order[end + 1]] - mean[order[start]] <= critical:
            end += 1
        group = tuple(order[start : end + 1])
        if len(group) > 1 and not (found and set(group) <= set(found[-1])):
            found.append(group)
    return found
