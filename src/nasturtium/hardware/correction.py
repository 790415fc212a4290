"""What a few measured finalists of a search say of a latency model: one factor for the networks around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

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


class Finalist(NamedTuple):
    """A network that was predicted and measured."""

    predicted: float
    """By the model without it, in seconds, above 0."""
    measured: float
    """In seconds, above 0."""
    noise: float = 0.0
    """Relative standard deviation of what the measurement is off by: half of its interval's half width, about."""
    batch: str = ""
    """Networks of one batch were measured in the same processes, so they are off together."""


def fit_correction(finalists: Sequence[Finalist], error: float | None) -> Correction:
    """How much longer networks take than predicted, by a few of them.

    The relative residuals of finalists are taken as a bias of the model that is common to all, what their batch was
    measured wrong by, and a scatter of each. The bias has a normal prior around 0 of half the model's error on
    held-out networks, and at least 5 %. So it is drawn to 0: the more, the fewer the finalists are, the more they
    scatter, and the wider their intervals are; of many networks in one batch the noise of the machine is left, however
    many they are. Of one batch of `n`, `prior² / (prior² + noise² + scatter² / n)` of the mean residual is left. The
    scatter in the batches has a prior that counts as two networks with the model's error.

    One factor and no constant: the finalists of a search lie near one latency, where the two cannot be told apart, and
    a constant that is a little wrong is quite wrong for small networks.

    Args:
        finalists: Predicted by the model without them.
        error: Root mean squared relative error of the model on held-out networks; None where nobody knows.

    Raises:
        InvalidInputError: times that are not positive and finite, or noise that is not finite or below 0.
    """
    for each in finalists:
        if not (0 < each.predicted < math.inf and 0 < each.measured < math.inf and 0 <= each.noise < math.inf):
            raise InvalidInputError(
                f"A correction needs predictions and times that are finite and above 0 s, and noise of at least 0; got "
                f"{each!r}."
            )
    if not finalists:
        return Correction()
    known = max(UNKNOWN if error is None else error, NOISE)
    batches: dict[str, list[Finalist]] = {}
    for each in finalists:
        batches.setdefault(each.batch, []).append(each)
    residuals = [np.array([each.measured / each.predicted - 1 for each in batch]) for batch in batches.values()]
    squares = float(sum([np.sum((off - off.mean()) ** 2) for off in residuals]))
    variance = (PRIOR * known**2 + squares) / (PRIOR + len(finalists) - len(batches))
    precision, total = max(known / 2, LEAST_BIAS) ** -2, 0.0
    for off, batch in zip(residuals, batches.values(), strict=True):
        noise = float(np.mean([each.noise**2 for each in batch]))
        weight = 1 / (noise + variance / len(off))
        precision, total = precision + weight, total + weight * float(off.mean())
    return Correction(factor=1 + total / precision, networks=len(finalists), scatter=math.sqrt(variance))


def left_out(finalists: Sequence[Finalist], error: float | None) -> list[float]:
    """Predictions of finalists in seconds, each corrected by the others alone."""
    return [
        each.predicted * fit_correction([*finalists[:i], *finalists[i + 1 :]], error).factor
        for i, each in enumerate(finalists)
    ]
