"""Targets as a Gaussian process likes them: the bad half drawn together, so that the good half is told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]


class HalfRank:
    """Values at or above the median are kept; those below stand at the normal quantiles of their ranks.

    The normal distribution has the median as its mean and the spread of the upper half. All is then standardised. So a
    network that failed to learn at all is no further from the median than the worst of a normal sample.

    Args:
        values: `(n,)`, larger is better; finite.

    Reference:
        Song, Zhang, Lee, Fertig, Huang et al. (2024), "The Vizier Gaussian process bandit algorithm", arXiv
        2408.11527, section 3 (output warping).
    """

    def __init__(self, values: Array) -> None:
        values = np.asarray(values, dtype=np.float64)
        median = float(np.median(values))
        spread = float(np.sqrt(np.mean(np.square(values[values >= median] - median))))
        low = values < median
        warped = values.copy()
        if spread > 0:  # else the upper half is all one value, and the lower is left as it is
            warped[low] = median + spread * norm.ppf((rankdata(values)[low] - 0.5) / len(values))
        self._centre = float(warped.mean())
        self._scale = float(warped.std()) or 1.0
        self.values: Array = (warped - self._centre) / self._scale
        """`(n,)` the given values, warped."""
        order = np.argsort(self.values, kind="stable")
        self._warped, self._given = self.values[order], values[order]

    def inverse(self, warped: Array) -> Array:
        """Values of the objective for warped ones: linear between those that are known, and beyond with the scale."""
        inside: Array = np.interp(warped, self._warped, self._given)
        above = np.maximum(warped - self._warped[-1], 0.0) * self._scale
        below = np.maximum(self._warped[0] - warped, 0.0) * self._scale
        return inside + above - below

    def forward(self, value: float) -> float:
        """Where a value stands among the warped ones; inverse of `inverse`."""
        order = np.argsort(self._given, kind="stable")
        inside = float(np.interp(value, self._given[order], self._warped[order]))
        above = max(value - float(self._given.max()), 0.0) / self._scale
        below = max(float(self._given.min()) - value, 0.0) / self._scale
        return inside + above - below
