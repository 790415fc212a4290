"""Error distributions: is one space better than another, judged by samples of both and not by their best networks.

`F(e) = sum of w_i over the networks with e_i < e`. With equal weights it says which share of a space has an error
below e. Weights by complexity make two spaces comparable where one happens to hold larger networks: complexity is cut
into bins, and each bin gets the same mass in both spaces.

Reference:
    Radosavovic et al. (2019), "On Network Design Spaces for Visual Recognition", arXiv 1905.13214, sections 3 and 4,
    and the authors' code; Radosavovic et al. (2020), "Designing Network Design Spaces", arXiv 2003.13678, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasturtium.errors import InvalidInputError

Floats = NDArray[np.float64]

BINS = 10
"""Of complexity. The paper's figures have 10 to 40, for 100 to 500 networks of each space."""


def bin_edges(low: float, high: float, bins: int = BINS) -> Floats:
    """`(bins + 1,)`: the limits of bins of equal width.

    Raises:
        InvalidInputError: the range is empty or not finite, or there is no bin.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InvalidInputError(f"`bins` must be an integer of at least 1, got {bins!r}.")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InvalidInputError(
            f"Complexities must span a range of finite numbers to be binned, got {low!r} to {high!r}."
        )
    return np.linspace(low, high, bins + 1)


def complexity_weights(complexities: ArrayLike, edges: ArrayLike) -> Floats:
    """Weights, sum 1, under which each bin of complexity has the same mass: `1 / (bins * networks in the bin)`.

    Args:
        complexities: `(n,)`, of any unit.
        edges: `(bins + 1,)`, ascending; a bin holds its lower limit, the last one its upper limit too.

    Returns:
        `(n,)`.

    Raises:
        InvalidInputError: a complexity lies outside the bins, or a bin is empty.

    Example:
        >>> complexity_weights([0.1, 0.12, 0.5, 0.9], bin_edges(0.0, 1.0, 3)).tolist()
        [0.16666666666666666, 0.16666666666666666, 0.3333333333333333, 0.3333333333333333]

    Reference:
        Radosavovic et al. (2019), arXiv 1905.13214, section 4.3.
    """
    places = bin_of(complexities, edges)
    counts = np.bincount(places, minlength=len(np.asarray(edges)) - 1)
    if not counts.all():
        empty = np.flatnonzero(counts == 0)
        limits = np.asarray(edges, dtype=float)
        raise InvalidInputError(
            f"Each bin of complexity must hold a network, but {len(empty)} of {len(counts)} are empty, the first from "
            f"{limits[empty[0]]:.4g} to {limits[empty[0] + 1]:.4g}. Take fewer bins or more networks, or cut the range."
        )
    return 1.0 / (len(counts) * counts[places])


def bin_of(complexities: ArrayLike, edges: ArrayLike) -> NDArray[np.intp]:
    """`(n,)`: in which bin each complexity lies; see `complexity_weights`."""
    values, limits = np.asarray(complexities, dtype=float), np.asarray(edges, dtype=float)
    if len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise InvalidInputError(f"`edges` must be two or more ascending limits, got {limits.tolist()}.")
    outside = ~((values >= limits[0]) & (values <= limits[-1]))
    if outside.any():
        raise InvalidInputError(
            f"{outside.sum()} of {len(values)} complexities lie outside the bins, {limits[0]:.6g} to {limits[-1]:.6g}, "
            f"the first {values[outside][0]:.6g}. Leave these networks out."
        )
    return np.minimum(np.digitize(values, limits) - 1, len(limits) - 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSample:
    """Networks drawn from one space: errors and complexities.

    Args:
        name: Of the space.
        errors: `n`, each network's error; any number that is better when smaller will do.
        complexities: `n`, for example MACs.
        failed: Networks that were drawn and have no error (diverged, out of memory); they are in no distribution.
        fraction: Whether errors are fractions, which are shown in per cent; None for where all lie in [0, 1].

    Raises:
        InvalidInputError: there is no network, the lengths differ, or a number is not finite.
    """

    name: str
    errors: tuple[float, ...]
    complexities: tuple[float, ...]
    failed: int = 0
    fraction: bool | None = None

    @property
    def in_per_cent(self) -> bool:
        """Whether errors are shown in per cent."""
        return _fractions(self.errors) if self.fraction is None else self.fraction

    def __post_init__(self) -> None:
        if not self.errors or len(self.errors) != len(self.complexities):
            raise InvalidInputError(
                f"A sample of {self.name!r} needs one complexity for each of at least one error, got "
                f"{len(self.complexities)} and {len(self.errors)}."
            )
        if not (np.isfinite(self.errors).all() and np.isfinite(self.complexities).all()):
            raise InvalidInputError(f"Errors and complexities of {self.name!r} must be finite; count failures instead.")

    def within(self, low: float, high: float) -> ErrorSample:
        """The networks whose complexity lies in [low, high].

        Raises:
            InvalidInputError: there is none.
        """
        kept = [(e, c) for e, c in zip(self.errors, self.complexities, strict=True) if low <= c <= high]
        if not kept:
            raise InvalidInputError(f"No network of {self.name!r} has a complexity from {low:.4g} to {high:.4g}.")
        errors, complexities = zip(*kept, strict=True)
        return replace(self, errors=errors, complexities=complexities, fraction=self.in_per_cent)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "version": 1, "name": self.name, "errors": list(self.errors), "complexities": list(self.complexities),
            "failed": self.failed, "in_per_cent": self.in_per_cent,
        }  # fmt: skip


def _fractions(errors: ArrayLike) -> bool:
    values = np.asarray(errors, dtype=float)
    return bool(((values >= 0) & (values <= 1)).all())


class Distribution:
    """A weighted empirical distribution of errors.

    Args:
        errors: `(n,)`.
        weights: `(n,)`, not negative, sum above 0 (they are divided by it); None for equal ones.
        name: Of the space.
        fraction: See `ErrorSample`.

    Raises:
        InvalidInputError: the lengths differ, or a number is unusable.

    Example:
        >>> found = Distribution([0.4, 0.2, 0.3, 0.3])
        >>> found.below(0.3), found.above(0.3), found.minimum, round(found.mean, 6)
        (0.25, 0.25, 0.2, 0.3)
    """

    def __init__(
        self, errors: ArrayLike, weights: ArrayLike | None = None, *, name: str = "", fraction: bool | None = None
    ) -> None:
        values = np.asarray(errors, dtype=float)
        mass = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        if values.ndim != 1 or not len(values) or mass.shape != values.shape:
            raise InvalidInputError(f"Expected as many weights as errors, got shapes {mass.shape} and {values.shape}.")
        if not (np.isfinite(values).all() and np.isfinite(mass).all() and (mass >= 0).all() and mass.sum() > 0):
            raise InvalidInputError("Errors and weights must be finite, and weights not negative and not all 0.")
        order = np.argsort(values, kind="stable")
        self.name = name
        self.in_per_cent = _fractions(values) if fraction is None else fraction
        self.errors: Floats = values[order]
        self.weights: Floats = mass[order] / mass.sum()
        self._cumulated = np.minimum(np.concatenate([[0.0], np.cumsum(self.weights)]), 1.0)
        self._cumulated[-1] = 1.0

    @property
    def minimum(self) -> float:
        """The smallest error of a network with weight."""
        return float(self.errors[self.weights > 0][0])

    @cached_property
    def mean(self) -> float:
        """Weighted mean error."""
        return float(self.weights @ self.errors)

    @property
    def label(self) -> str:
        """For a legend: the name and `[smallest | mean error]`, as in the paper's figures; fractions in per cent."""
        ends = (f"{100 * x:.1f}" if self.in_per_cent else f"{x:.4g}" for x in (self.minimum, self.mean))
        return f"{self.name} [{'|'.join(ends)}]".strip()

    def below(self, error: float) -> float:
        """F(error): the share of networks with an error strictly below."""
        return float(self._cumulated[np.searchsorted(self.errors, error, side="left")])

    def above(self, error: float) -> float:
        """The share of networks with an error strictly above."""
        return 1.0 - float(self._cumulated[np.searchsorted(self.errors, error, side="right")])

    def up_to(self, errors: ArrayLike) -> Floats:
        """The share of networks with an error of at most each of the given ones: the curve as it is drawn."""
        return self._cumulated[np.searchsorted(self.errors, np.asarray(errors, dtype=float), side="right")]

    def before(self, errors: ArrayLike) -> Floats:
        """F at each of the given errors: the share of networks strictly below it."""
        return self._cumulated[np.searchsorted(self.errors, np.asarray(errors, dtype=float), side="left")]

    def best_of(self, counts: ArrayLike) -> Floats:
        """Expected smallest error of so many networks drawn by weight, with replacement: a "min of k" curve.

        Exact: the smallest of k exceeds an error with probability `(share above it)^k`. The paper draws instead.

        Args:
            counts: `(m,)`, each at least 1.

        Returns:
            `(m,)`.

        Raises:
            InvalidInputError: a count is below 1.
        """
        k = np.atleast_1d(np.asarray(counts, dtype=float))[:, None]
        if not (k >= 1).all():
            raise InvalidInputError(f"A smallest error is of at least 1 network, got {counts!r}.")
        survival = (1.0 - self._cumulated[None, :]) ** k
        return (survival[:, :-1] - survival[:, 1:]) @ self.errors

    def curve(self) -> tuple[Floats, Floats]:
        """Corners of the curve, for drawing with horizontal steps: errors and shares `(distinct errors + 1,)` each."""
        values = np.unique(self.errors)
        return np.concatenate([values[:1], values]), np.concatenate([[0.0], self.up_to(values)])


def normalized(
    samples: Sequence[ErrorSample], *, bins: int = BINS, low: float | None = None, high: float | None = None
) -> tuple[tuple[ErrorSample, ...], Floats, tuple[Distribution, ...]]:
    """Spaces on the same footing: networks in the range of complexity that all share, weighted alike by bins.

    Args:
        samples: Of the spaces.
        bins: Of complexity, of equal width.
        low: Least complexity; None for the greatest of the spaces' least.
        high: Greatest complexity; None for the least of the spaces' greatest.

    Returns:
        The samples without the networks outside the range, the bins' `(bins + 1,)` limits, and the distributions.

    Raises:
        InvalidInputError: there is no sample, the ranges do not overlap, or a bin is empty in a space.
    """
    if not samples:
        raise InvalidInputError("There is no sample to compare.")
    lowest = max(min(s.complexities) for s in samples) if low is None else low
    highest = min(max(s.complexities) for s in samples) if high is None else high
    edges = bin_edges(lowest, highest, bins)
    kept = tuple(s.within(lowest, highest) for s in samples)
    found = []
    for sample in kept:
        try:
            weights = complexity_weights(sample.complexities, edges)
        except InvalidInputError as error:
            raise InvalidInputError(f"The space {sample.name!r}: {error}") from error
        found.append(Distribution(sample.errors, weights, name=sample.name, fraction=sample.in_per_cent))
    return kept, edges, tuple(found)
