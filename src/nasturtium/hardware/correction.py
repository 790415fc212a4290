"""What a few measured finalists of a search say of a latency model: one factor for the networks around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError

UNKNOWN = 0.1
"""Relative error of a model that was never compared with whole networks."""
NOISE = 0.01
"""Relative error that a measurement has at least."""
LEAST_BIAS = 0.05
"""Standard deviation, before anything is measured, of how far a model is off around finalists: at least this much,
since a search picks them, and the held-out networks were drawn at random."""
PRIOR = 2.0
"""Networks that the model's error counts as, where the scatter of the finalists is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A factor on the predictions of a model."""

    factor: float = 1.0
    networks: int = 0
    """Finalists that it comes from."""
    scatter: float = 0.0
    """Relative standard deviation of single networks around it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def fit_correction(
    predicted: Sequence[float] | NDArray[np.float64],
    measured: Sequence[float] | NDArray[np.float64],
    error: float | None,
) -> Correction:
    """How much longer networks take than predicted, by a few of them.

    The relative residuals of finalists are taken as a common bias and a scatter around it. The bias has a normal prior
    around 0, as wide as the model's error on held-out networks, and at least 5 %; so it is drawn to 0, the more so
    the fewer the finalists are and the more they scatter: `n / (n + scatter² / prior²)` of their mean residual is
    left. The scatter around the mean has a prior that counts as two networks with the model's error.

    One factor and no constant: the finalists of a search lie near one latency, where the two cannot be told apart, and
    a constant that is a little wrong is quite wrong for small networks.

    Args:
        predicted: By the model without them, in seconds, above 0; one for each network.
        measured: In seconds, above 0.
        error: Root mean squared relative error of the model on held-out networks; None where nobody knows.

    Raises:
        InvalidInputError: different numbers, or times that are not positive and finite.
    """
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if guess.ndim != 1 or guess.shape != truth.shape:
        raise InvalidInputError(f"Each network needs a prediction and a time, got {guess.shape} and {truth.shape}.")
    if not (np.isfinite(guess).all() and np.isfinite(truth).all() and (guess > 0).all() and (truth > 0).all()):
        raise InvalidInputError("A correction needs predictions and times that are finite and above 0 s.")
    count = len(guess)
    if not count:
        return Correction()
    off, known = truth / guess - 1, max(UNKNOWN if error is None else error, NOISE)
    prior = max(known, LEAST_BIAS)
    variance = (PRIOR * known**2 + float(np.sum((off - off.mean()) ** 2))) / (PRIOR + count - 1)
    bias = float(off.sum()) / (count + variance / prior**2)
    return Correction(factor=1 + bias, networks=count, scatter=float(np.sqrt(variance)))


def left_out(
    predicted: Sequence[float] | NDArray[np.float64],
    measured: Sequence[float] | NDArray[np.float64],
    error: float | None,
) -> NDArray[np.float64]:
    """Predictions of finalists, each corrected by the others alone, `(networks,)`."""
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    factors = [fit_correction(np.delete(guess, i), np.delete(truth, i), error).factor for i in range(len(guess))]
    return guess * np.array(factors, dtype=float)
