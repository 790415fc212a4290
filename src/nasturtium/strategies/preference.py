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
    number of the front and the crowding distance within it, both among those of equal violation (so that a network
    that breaks a limit does not push one that meets it off its front); for one objective its value.
    """
    if len(problem.objectives) == 1:
        return [lexicographic(problem, t) for t in trials]
    directions = [o.direction for o in problem.objectives]
    points = [point_of(t, problem.objectives) for t in trials]
    missed = [violation(t.metrics, problem.constraints) for t in trials]
    keys: list[tuple[float, ...]] = [()] * len(trials)
    for amount, equals in _groups(missed).items():
        fronts = ranks([points[i] for i in equals], directions)
        for front, places in _groups(fronts).items():
            members = [equals[place] for place in places]
            for i, distance in zip(members, crowding([points[i] for i in members]), strict=True):
                keys[i] = (amount, float(front), -distance)
    return keys


def _groups(values: Sequence[float]) -> dict[float, list[int]]:
    """The places of each value."""
    found: dict[float, list[int]] = {}
    for place, value in enumerate(values):
        found.setdefault(value, []).append(place)
    return found
