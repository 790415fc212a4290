"""What a told trial is worth to a controller, from the trials told so far."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nasturtium.trial import Trial, point_of, violation
from nasturtium.trial.reward import Reward
from nasturtium.trial.types import Problem


class Judge:
    """Gives rewards in the order in which trials are told.

    Args:
        problem: Objectives and constraints.
        reward: The user's; None for the default that `Controller` describes.
    """

    def __init__(self, problem: Problem, reward: Reward | None) -> None:
        self.problem, self.reward = problem, reward
        self._lowest: float | None = None
        self._scale: float | None = None
        self._standing = Standing(1 + len(problem.objectives))

    def __call__(self, trial: Trial) -> float | None:
        """The reward of a trial: finite; None for a failed one as long as there is no other."""
        value = self._value(trial) if trial.state == "completed" else math.nan
        if not math.isfinite(value):
            return self._lowest
        self._lowest = value if self._lowest is None else min(value, self._lowest)
        return value

    def _value(self, trial: Trial) -> float:
        excess = violation(trial.metrics, self.problem.constraints)
        if self.reward is not None:
            return penalised(float(self.reward(trial.metrics)), excess)
        points = point_of(trial, self.problem.objectives)
        signs = [1.0 if o.direction == "maximize" else -1.0 for o in self.problem.objectives]
        values = [sign * value for sign, value in zip(signs, points, strict=True)]
        if not all(map(math.isfinite, values)):
            return math.nan
        if len(values) > 1:
            return self._standing.join([-excess, *values])
        if signs[0] < 0:
            self._scale = self._scale or abs(values[0])
            return penalised(values[0] / (self._scale or 1.0), excess)
        return penalised(values[0], excess)


def penalised(reward: float, excess: float) -> float:
    """A reward less what missing constraints by a share costs: R / (1 + excess) where R is positive.

    For a limit on a latency that is MnasNet's hard constraint, `R * (latency / target) ** -1`; a negative reward
    falls by as much as a positive one of its size. Where a metric is not known (an infinite excess) all is lost.
    """
    return reward - abs(reward) * (1.0 if math.isinf(excess) else excess / (1 + excess))


class Standing:
    """The share of the points so far that do not dominate a new one; constraints first, by their violation.

    Args:
        columns: The negated violation and the objectives, all to be large.
    """

    def __init__(self, columns: int) -> None:
        self._points: npt.NDArray[np.float64] = np.empty((64, columns))
        self._count = 0

    def join(self, point: list[float]) -> float:
        """Add a point; its share in (0, 1], of all with itself."""
        if self._count == len(self._points):
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
        new = self._points[self._count] = np.array(point)
        self._count += 1
        known = self._points[: self._count]
        nearer = known[:, 0] > new[0]
        alike = known[:, 0] == new[0]
        objectives, own = known[:, 1:], new[1:]
        better = alike & (objectives >= own).all(axis=1) & (objectives > own).any(axis=1)
        return 1.0 - float(np.count_nonzero(nearer | better)) / self._count
