"""How much a candidate is expected to add to the hypervolume of a front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from numpy.typing import NDArray
from scipy.stats import norm

from nasturtium.strategies.learned.rounds import seed_of
from nasturtium.trial import Objective, Trial, point_of

Array = NDArray[np.float64]

DRAWS = 64
"""Quasi-random draws of the objectives of each candidate."""
BEYOND = 0.1
"""The reference point lies so far beyond the front's worst values, in shares of its extent (Ishibuchi et al. 2018)."""


class Front:
    """The front of measured trials, and what draws would add to it.

    Args:
        objectives: Two or more.
        trials: That meet the constraints; one or more.

    Reference:
        Daulton, Balandat, Bakshy (2020), "Differentiable expected hypervolume improvement for parallel multi-objective
        Bayesian optimization", arXiv 2006.05078, section 3 (box decomposition; here for one candidate at a time).
    """

    draws = DRAWS

    def __init__(self, objectives: Sequence[Objective], trials: Sequence[Trial]) -> None:
        signs = np.array([1.0 if o.direction == "maximize" else -1.0 for o in objectives])
        points = signs * np.array([point_of(t, objectives) for t in trials])
        front = points[_not_dominated(points)]
        low, high = front.min(axis=0), front.max(axis=0)
        whole = points.max(axis=0) - points.min(axis=0)
        extent = np.where(high > low, high - low, np.where(whole > 0, whole, 1.0))
        self._low, self._extent = low, extent
        boxes = FastNondominatedPartitioning(
            ref_point=torch.full((len(objectives),), -BEYOND, dtype=torch.float64),
            Y=torch.from_numpy((front - low) / extent),
        ).get_hypercell_bounds()
        self._lower, self._upper = boxes[0].numpy(), boxes[1].numpy()

    def normal(self, objective: int, seed: int, number: int) -> Array:
        """`(draws,)` standard normal, for one objective; independent of those of the others."""
        dimensions = len(self._low)
        key = seed_of(seed, "front", number)
        engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=key)  # type: ignore[no-untyped-call]
        uniform = engine.draw(DRAWS, dtype=torch.float64).numpy()[:, objective]
        drawn: Array = norm.ppf(np.clip(uniform, 1e-6, 1 - 1e-6))
        return drawn

    def gain(self, values: Array) -> Array:
        """Mean gain of hypervolume over draws.

        Args:
            values: `(draws, n, objectives)`, larger is better.

        Returns:
            `(n,)`, in units of the front's extent.
        """
        scaled = (values - self._low) / self._extent
        total = np.zeros(scaled.shape[:2])
        for lower, upper in zip(self._lower, self._upper, strict=True):
            total += np.clip(np.minimum(scaled, upper) - lower, 0.0, None).prod(axis=-1)
        mean: Array = total.mean(axis=0)
        return mean


def _not_dominated(points: Array) -> NDArray[np.bool_]:
    """For each point whether no other is at least as good in all and better in one; of equal ones the first stays."""
    better = (points[:, None] >= points[None]).all(axis=-1) & (points[:, None] > points[None]).any(axis=-1)
    equal = (points[:, None] == points[None]).all(axis=-1)
    earlier = np.tril(equal, -1).any(axis=1)
    kept: NDArray[np.bool_] = ~better.any(axis=0) & ~earlier
    return kept
