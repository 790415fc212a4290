"""Which of several trials is better: constraints first, then the objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nasturtium.trial import Objective, Trial, crowding, point_of, ranks, violation
from nasturtium.trial.types import Problem


def usable(trial: Trial, objectives: Sequence[Objective]) -> bool:
    """Whether a trial completed with a finite value of every objective."""
    return trial.state == "completed" and all(map(math.isfinite, point_of(trial, objectives)))


def lexicographic(problem: Problem, trial: Trial) -> tuple[float, ...]:
    """Smaller is better: violation of the constraints, then the objectives one after the other."""
    values = point_of(trial, problem.objectives)
    signs = [-1.0 if o.direction == "maximize" else 1.0 for o in problem.objectives]
    return (violation(trial.metrics, problem.constraints), *[s * v for s, v in zip(signs, values, strict=True)])


def preferences(problem: Problem, trials: Sequence[Trial]) -> list[tuple[float, ...]]:
    """A key for each trial among the others; smaller is better.

    Violation of the constraints first (Deb et al. 2002, constraint domination), then, for several objectives, the
    number of the front and the crowding distance within it; for one objective its value.
    """
    if len(problem.objectives) == 1:
        return [lexicographic(problem, t) for t in trials]
    points = [point_of(t, problem.objectives) for t in trials]
    fronts = ranks(points, [o.direction for o in problem.objectives])
    spread = [0.0] * len(trials)
    for front in set(fronts):
        members = [i for i, number in enumerate(fronts) if number == front]
        for i, distance in zip(members, crowding([points[i] for i in members]), strict=True):
            spread[i] = distance
    return [
        (violation(t.metrics, problem.constraints), float(front), -distance)
        for t, front, distance in zip(trials, fronts, spread, strict=True)
    ]
