"""Are two error distributions different, and by how much: Kolmogorov-Smirnov with weights, and effect sizes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.design.edf import Distribution, ErrorSample, bin_of, complexity_weights
from nasturtium.errors import InvalidInputError

Floats = NDArray[np.float64]

PERMUTATIONS = 2000
"""Of the labels, for a p-value: the least that can come out is 1 / 2001."""
RESAMPLES = 1000
"""Of the networks, for an interval."""
LEAST = 3
"""Networks that each bin needs in both spaces for an interval: from fewer no spread can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceComparison:
    """Two spaces, A and B, by their error distributions.

    Attributes:
        first: Name of A.
        second: Name of B.
        n: Networks of A and of B.
        statistic: D, the greatest distance of the two curves, in [0, 1].
        at: The error at which they are farthest apart.
        better: Which curve is higher there, "first" or "second", or "" where the curves are one.
        p_value: Probability of so great a D or greater, were the spaces alike; see `compare_spaces` for what alike is.
        method: How it was found.
        superiority: Probability that a network of A has a smaller error than one of B, ties counted half.
        superiority_low: Lower end of its interval.
        superiority_high: Upper end.
        mean_difference: Mean error of A less that of B.
        mean_difference_low: Lower end of its interval.
        mean_difference_high: Upper end.
        confidence: Of the intervals (bootstrap over networks, within the bins where there are bins). Their ends are NaN
            where a bin holds fewer than `LEAST` networks of a space, or no resample was asked for.
        complexity_shift: By how much A's networks are larger within a bin, in widths of a bin, mean over the bins; None
            without bins. Far from 0, part of a difference may be one of complexity: take more bins.
        largest_shift: The same of the bin in which it is greatest in absolute value.
        in_per_cent: Whether errors are fractions.
    """

    first: str
    second: str
    n: tuple[int, int]
    statistic: float
    at: float
    better: str
    p_value: float
    method: str
    superiority: float
    superiority_low: float
    superiority_high: float
    mean_difference: float
    mean_difference_low: float
    mean_difference_high: float
    confidence: float
    complexity_shift: float | None = None
    largest_shift: float | None = None
    in_per_cent: bool = True

    @property
    def effect(self) -> float:
        """Cliff's delta, in [-1, 1]: above 0 where A is better; 2 x superiority - 1."""
        return 2 * self.superiority - 1

    @property
    def sentence(self) -> str:
        """In words."""
        parts = [
            f"D = {self.statistic:.3f}, p = {self.p_value:.2g} ({self.method})",
            f"a network of {self.first} beats one of {self.second} with probability {self.superiority:.2f}"
            + self._between(self.superiority_low, self.superiority_high, ".2f"),
        ]
        ends = self.mean_difference_low, self.mean_difference_high
        if self.in_per_cent:
            low, high = (100 * x for x in ends)
            parts.append(f"mean error {100 * self.mean_difference:+.2f} points" + self._between(low, high, "+.2f"))
        else:
            parts.append(f"mean error {self.mean_difference:+.4g}" + self._between(*ends, "+.4g"))
        if self.complexity_shift is not None and self.largest_shift is not None:
            parts.append(
                f"complexities within a bin differ by {self.complexity_shift:+.2f} of its width, at most by "
                f"{self.largest_shift:+.2f}"
            )
        return f"{self.first} against {self.second}: {'; '.join(parts)}."

    @staticmethod
    def _between(low: float, high: float, form: str) -> str:
        return " (no interval)" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; None for the ends of an interval that there is not."""
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
        return {"version": 1, **plain, "effect": self.effect}


def ks_statistic(first: Distribution, second: Distribution) -> tuple[float, float, float]:
    """The greatest distance of two curves, `sup |F1(e) - F2(e)|`.

    Returns:
        The distance, the signed difference there (above 0 where the first curve is higher), and the error where.
    """
    points = np.unique(np.concatenate([first.errors, second.errors]))
    gaps = first.up_to(points) - second.up_to(points)
    place = int(np.abs(gaps).argmax())
    return float(abs(gaps[place])), float(gaps[place]), float(points[place])


def superiority(first: Distribution, second: Distribution) -> float:
    """Probability that a network of the first has a smaller error than one of the second, ties counted half."""
    above, below = 1.0 - second.up_to(first.errors), second.before(first.errors)
    return float(first.weights @ ((above + 1.0 - below) / 2))


def compare_spaces(
    first: ErrorSample,
    second: ErrorSample,
    *,
    edges: Floats | None = None,
    permutations: int = PERMUTATIONS,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> SpaceComparison:
    """Compare the error distributions of two spaces.

    Without bins the p-value is scipy's exact or asymptotic one of `ks_2samp`. With bins that does not apply, since the
    networks have weights; then the spaces' labels are permuted within each bin of complexity, which leaves all weights
    as they are. That is exact, up to the number of permutations drawn, under the hypothesis that error and complexity
    have the same joint distribution in both spaces within each bin. It is not exact where the spaces only have the same
    errors at each complexity but lie differently within a bin: `complexity_shift` tells how differently.

    The intervals are percentiles of a bootstrap that draws m - 1 of the m networks of each bin, with replacement: m
    draws would make the variance of a bin's mean too small by the factor (m - 1) / m.

    Args:
        first: Networks of A.
        second: Networks of B.
        edges: `(bins + 1,)`, limits of the bins of complexity as `normalized` gives them; None for equal weights.
        permutations: Drawn, where there are bins.
        resamples: Of the bootstrap; 0 for no intervals.
        confidence: Of the intervals, in (0, 1).
        seed: Of both.

    Raises:
        InvalidInputError: a complexity lies outside the bins, or a bin is empty in one of the spaces.

    Notes:
        Differs from the paper: it gives D and scipy's p-value for the curves without weights only.

    Reference:
        Radosavovic et al. (2019), arXiv 1905.13214, section 3.3.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"`confidence` must lie in (0, 1), got {confidence!r}.")
    if permutations < 1 or resamples < 0:
        raise InvalidInputError(
            f"Expected 1 or more permutations and 0 or more resamples, got {permutations} and {resamples}."
        )
    errors = np.concatenate([first.errors, second.errors])
    places = np.zeros(len(errors), dtype=np.intp)
    if edges is not None:
        places = bin_of(np.concatenate([first.complexities, second.complexities]), edges)
        complexity_weights(first.complexities, edges)
        complexity_weights(second.complexities, edges)
    sizes = len(first.errors), len(second.errors)
    groups = (np.arange(sizes[0]), np.arange(sizes[0], sum(sizes)))
    weights = [_weights(places[g]) for g in groups]
    curves = [Distribution(errors[g], w) for g, w in zip(groups, weights, strict=True)]
    statistic, gap, at = ks_statistic(curves[0], curves[1])
    if edges is None:
        p_value, method = _plain(first, second)
    else:
        rng = np.random.default_rng(seed)
        p_value, method = _permuted(errors, places, sizes[0], statistic, permutations, rng), "permutation within bins"
    tail = (1 - confidence) / 2
    low, high = _intervals(errors, places, groups, resamples, tail, np.random.default_rng([seed, 1]))
    return SpaceComparison(
        first=first.name, second=second.name, n=sizes, statistic=statistic, at=at,
        better="first" if gap > 0 else "second" if gap < 0 else "", p_value=p_value, method=method,
        superiority=superiority(curves[0], curves[1]), superiority_low=low[0], superiority_high=high[0],
        mean_difference=curves[0].mean - curves[1].mean, mean_difference_low=low[1], mean_difference_high=high[1],
        confidence=confidence, in_per_cent=first.in_per_cent and second.in_per_cent, **_shifts(first, second, edges),
    )  # fmt: skip


def _shifts(first: ErrorSample, second: ErrorSample, edges: Floats | None) -> dict[str, float]:
    """How much larger A's networks are within the bins."""
    if edges is None:
        return {}
    width = np.diff(edges)
    means = []
    for sample in (first, second):
        places = bin_of(sample.complexities, edges)
        sums = np.bincount(places, weights=np.asarray(sample.complexities) - edges[places])
        means.append(sums / np.bincount(places) / width)
    gaps = means[0] - means[1]
    return {"complexity_shift": float(gaps.mean()), "largest_shift": float(gaps[np.abs(gaps).argmax()])}


def _weights(places: NDArray[np.intp]) -> Floats:
    """Each bin that is met has the same mass."""
    counts = np.bincount(places)
    return 1.0 / (np.count_nonzero(counts) * counts[places])


def _plain(first: ErrorSample, second: ErrorSample) -> tuple[float, str]:
    from scipy.stats import ks_2samp  # noqa: PLC0415  (takes a second to load)

    return float(ks_2samp(first.errors, second.errors).pvalue), "Kolmogorov-Smirnov, two-sided"


def _permuted(
    errors: Floats, places: NDArray[np.intp], size: int, found: float, count: int, rng: np.random.Generator
) -> float:
    """Share of labellings with so great a distance; that of the data counts as one of them."""
    order = np.argsort(errors, kind="stable")
    ends = np.flatnonzero(np.diff(errors[order], append=np.inf) > 0)
    bins = [np.flatnonzero(places == b) for b in np.unique(places)]
    signs = _signed(places, size)
    extreme = 0
    for _ in range(count):
        mass = np.empty_like(signs)
        for members in bins:
            mass[members] = signs[rng.permutation(members)]
        gaps = np.abs(np.cumsum(mass[order])[ends])
        extreme += gaps.max() >= found - 1e-12
    return (extreme + 1) / (count + 1)


def _signed(places: NDArray[np.intp], size: int) -> Floats:
    """Weights of the networks of A, and those of B with a minus."""
    return np.concatenate([_weights(places[:size]), -_weights(places[size:])])


def _intervals(
    errors: Floats,
    places: NDArray[np.intp],
    groups: tuple[NDArray[np.intp], NDArray[np.intp]],
    count: int,
    tail: float,
    rng: np.random.Generator,
) -> tuple[list[float], list[float]]:
    """Ends of the intervals of superiority and of the difference of means: percentiles over resampled networks.

    Reference:
        McCarthy, Snowden (1985), "The Bootstrap and Finite Population Sampling", Vital and Health Statistics 2(95),
        section 2: m - 1 draws from a stratum of m.
    """
    draw = [[g[places[g] == b] for b in np.unique(places[g])] for g in groups]
    if count == 0 or min(len(m) for members in draw for m in members) < LEAST:
        return [math.nan] * 2, [math.nan] * 2
    rows = []
    for _ in range(count):
        chosen = [np.concatenate([rng.choice(m, len(m) - 1) for m in members]) for members in draw]
        a, b = (Distribution(errors[c], _weights(places[c])) for c in chosen)
        rows.append((superiority(a, b), a.mean - b.mean))
    low, high = np.quantile(np.array(rows), [tail, 1 - tail], axis=0)
    return [float(x) for x in low], [float(x) for x in high]
