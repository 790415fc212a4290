"""Are two error distributions different, and by how much: Kolmogorov-Smirnov with weights, and effect sizes."""

from __future__ import annotations

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
        p_value: Probability of so great a D or greater, were the spaces alike at each complexity.
        method: How it was found.
        superiority: Probability that a network of A has a smaller error than one of B, ties counted half.
        superiority_low: Lower end of its interval.
        superiority_high: Upper end.
        mean_difference: Mean error of A less that of B.
        mean_difference_low: Lower end of its interval.
        mean_difference_high: Upper end.
        confidence: Of the intervals (bootstrap over networks, within the bins where there are bins).
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

    @property
    def effect(self) -> float:
        """Cliff's delta, in [-1, 1]: above 0 where A is better; 2 x superiority - 1."""
        return 2 * self.superiority - 1

    @property
    def sentence(self) -> str:
        """In words."""
        found = f"D = {self.statistic:.3f}, p = {self.p_value:.2g} ({self.method})"
        effect = (
            f"a network of {self.first} beats one of {self.second} with probability {self.superiority:.2f} "
            f"[{self.superiority_low:.2f}, {self.superiority_high:.2f}]"
        )
        means = (
            f"mean error {100 * self.mean_difference:+.2f} points "
            f"[{100 * self.mean_difference_low:+.2f}, {100 * self.mean_difference_high:+.2f}]"
        )
        return f"{self.first} against {self.second}: {found}; {effect}; {means}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"version": 1, **asdict(self), "effect": self.effect}


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
    as they are: under the hypothesis that the spaces are alike at each complexity all these labellings are equally
    likely, so the test is exact up to the number of permutations drawn.

    Args:
        first: Networks of A.
        second: Networks of B.
        edges: `(bins + 1,)`, limits of the bins of complexity as `normalized` gives them; None for equal weights.
        permutations: Drawn, where there are bins.
        resamples: Of the bootstrap.
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
    if min(permutations, resamples) < 1:
        raise InvalidInputError(f"Expected 1 or more permutations and resamples, got {permutations} and {resamples}.")
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
        confidence=confidence,
    )  # fmt: skip


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
    """Ends of the intervals of superiority and of the difference of means: percentiles over resampled networks."""
    draw = [[g[places[g] == b] for b in np.unique(places[g])] for g in groups]
    rows = []
    for _ in range(count):
        chosen = [np.concatenate([rng.choice(m, len(m)) for m in members]) for members in draw]
        a, b = (Distribution(errors[c], _weights(places[c])) for c in chosen)
        rows.append((superiority(a, b), a.mean - b.mean))
    low, high = np.quantile(np.array(rows), [tail, 1 - tail], axis=0)
    return [float(x) for x in low], [float(x) for x in high]
