"""Fronts among trials, for devices one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from nasturtium.trial import Objective, Trial, of_device, pareto_trials


def on(asked: Any, wishes: Iterable[Any]) -> tuple[Any, ...]:
    """Objectives or constraints without those of other devices than that of a metric; all of them for None."""

    def other(name: str) -> bool:
        found = of_device(name)
        return asked is not None and found is not None and found.device != asked.device

    return tuple(wish for wish in wishes if not other(wish.metric))


def layers(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Iterable[list[Trial]]:
    """Fronts, one behind the other."""
    left = list(trials)
    while left:
        numbers = {t.number for t in pareto_trials(left, objectives)}
        if not numbers:
            return
        yield [t for t in left if t.number in numbers]
        left = [t for t in left if t.number not in numbers]


def best_first(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """In the order of the first objective, then of their numbers."""
    signs = {"maximize": -1.0, "minimize": 1.0}
    first = objectives[0]
    return sorted(trials, key=lambda t: (signs[first.direction] * t.metrics.get(first.metric, math.inf), t.number))
