"""How far a latency model is off, on whole networks that it did not see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nasturtium.errors import InvalidInputError

LEAST_FOR_RANKS = 3
"""Networks below which no rank correlation is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """Errors of predicted latencies, relative to the measured ones."""

    networks: int
    """Held-out networks."""
    within_5: float
    """Share of networks predicted within 5 % of what was measured."""
    within_10: float
    """Share of networks predicted within 10 %."""
    rmspe: float
    """Root of the mean squared relative error, a fraction."""
    bias: float
    """Median of predicted over measured, minus 1: above 0 where the model is too slow."""
    worst: float
    """Largest relative error."""
    spearman: float | None
    """Rank correlation; None for fewer than 3 networks, or where all predictions or measurements are equal."""
    covered: float | None = None
    """Share of measured values inside the model's intervals; None where it was not looked at."""
    training: int = 0
    """Networks that the model was fitted on."""
    how: str = "held out"
    """How the networks were kept from the model."""
    unreadable: int = 0
    """Further held-out networks that the model refuses, since it never saw such kernels; in none of the numbers."""

    @property
    def text(self) -> str:
        """One line for people."""
        ranks = "" if self.spearman is None else f", Spearman {self.spearman:.3f}"
        refused = f"; {self.unreadable} more refused" if self.unreadable else ""
        return (
            f"{self.within_5:.0%} within 5 %, {self.within_10:.0%} within 10 %, RMSPE {self.rmspe:.1%}{ranks} "
            f"(n = {self.networks}, {self.how}{refused})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorReport:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: fields are missing or unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise InvalidInputError(f"An error report cannot be read: {error}.") from error


def error_report(
    predicted: ArrayLike,
    measured: ArrayLike,
    *,
    intervals: tuple[ArrayLike, ArrayLike] | None = None,
    training: int = 0,
    how: str = "held out",
    unreadable: int = 0,
) -> ErrorReport:
    """Compare predictions with measurements of the same networks.

    Args:
        predicted: `(networks,)`, in seconds.
        measured: `(networks,)`, in seconds, above 0.
        intervals: Lower and upper ends of the model's intervals, each `(networks,)`.
        training: Networks that the model was fitted on.
        how: How these were kept from it.
        unreadable: Further held-out networks that it refuses.

    Raises:
        InvalidInputError: no networks, different numbers, or times that are not positive and finite.

    Reference:
        Zhang et al. (2021), "nn-Meter", MobiSys, section 6: accuracy within 5 % and 10 %, and RMSPE.
    """
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if guess.ndim != 1 or guess.shape != truth.shape or not len(guess):
        raise InvalidInputError(
            f"Errors need one prediction for each measurement, got {guess.shape} and {truth.shape}."
        )
    if not (np.isfinite(guess).all() and np.isfinite(truth).all() and (truth > 0).all()):
        raise InvalidInputError("Errors need finite predictions and measurements above 0 seconds.")
    relative = guess / truth - 1
    off = np.abs(relative)
    covered = None
    if intervals is not None:
        low, high = (np.asarray(end, dtype=float) for end in intervals)
        covered = float(np.mean((low <= truth) & (truth <= high)))
    return ErrorReport(
        networks=len(guess),
        within_5=float(np.mean(off <= 0.05)),
        within_10=float(np.mean(off <= 0.10)),
        rmspe=float(math.sqrt(np.mean(off**2))),
        bias=float(np.median(relative)),
        worst=float(off.max()),
        spearman=spearman(guess, truth),
        covered=covered,
        training=training,
        how=how,
        unreadable=unreadable,
    )


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Rank correlation with mean ranks for ties; None for fewer than 3 pairs or a constant side."""
    left, right = _ranks(np.asarray(a, dtype=float)), _ranks(np.asarray(b, dtype=float))
    if len(left) < LEAST_FOR_RANKS or left.std() == 0 or right.std() == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[places.ravel()]


def conformal_radius(errors: Sequence[float] | np.ndarray[Any, Any], confidence: float) -> float:
    """The radius that covers a new error with at least the given probability, if errors are exchangeable.

    Args:
        errors: Absolute errors of networks that the model did not see.
        confidence: In (0, 1).

    Returns:
        The `ceil((n + 1) confidence)`-th smallest error; infinite where n is too small for that.

    Reference:
        Vovk, Gammerman, Shafer (2005), "Algorithmic Learning in a Random World", section 2.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"`confidence` must be in (0, 1), got {confidence!r}.")
    ordered = np.sort(np.asarray(errors, dtype=float))
    place = math.ceil((len(ordered) + 1) * confidence)
    return float(ordered[place - 1]) if place <= len(ordered) else math.inf
