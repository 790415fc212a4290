"""Targets as a Gaussian process likes them: the bad half drawn together, so that the good half is told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UPPER = 0.9
"""The quantile whose distance from the median is the scale on which the bad half is drawn together."""


class LowerLog:
    """Values at or above the median are kept; below, a distance d from the median becomes `s log(1 + d / s)`.

    The scale s is the distance from the median to the upper decile. All is then standardised. So a network that failed
    to learn at all does not make all others look alike.

    Args:
        values: `(n,)`, larger is better; finite.

    Notes:
        Differs from the paper, which draws both sides together around zero: here the side that matters keeps its
        distances.

    Reference:
        Eriksson, Poloczek (2021), "Scalable constrained Bayesian optimization", arXiv 2002.08526, section 3.2 (bilog).
    """

    def __init__(self, values: Array) -> None:
        values = np.asarray(values, dtype=np.float64)
        self._median = float(np.median(values))
        self._spread = float(np.quantile(values, UPPER)) - self._median
        warped = self._drawn(values)
        self._centre, self._scale = float(warped.mean()), float(warped.std()) or 1.0
        self.values: Array = (warped - self._centre) / self._scale
        """`(n,)` the given values, warped."""

    def forward(self, values: Array) -> Array:
        """Where any values stand among the warped ones; increasing."""
        found: Array = (self._drawn(np.asarray(values, dtype=np.float64)) - self._centre) / self._scale
        return found

    def inverse(self, warped: Array) -> Array:
        """The values that `forward` takes to these."""
        given = np.asarray(warped, dtype=np.float64) * self._scale + self._centre
        if not self._spread > 0:
            return given
        below = np.maximum(self._median - given, 0.0)
        found: Array = np.where(below > 0, self._median - self._spread * np.expm1(below / self._spread), given)
        return found

    def _drawn(self, values: Array) -> Array:
        """Without the standardisation; as they are where the upper half is all one value."""
        if not self._spread > 0:
            return values
        below = np.maximum(self._median - values, 0.0)
        drawn: Array = np.where(below > 0, self._median - self._spread * np.log1p(below / self._spread), values)
        return drawn
