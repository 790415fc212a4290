"""Did searching pay? The search against random search at the same budget, with an interval, stated plainly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasturtium.tasks import Interval, paired_difference
from nasturtium.trial import Constraint, Objective, Trial, hypervolume, metric, point_of, violation

CONFIDENCE = 0.95
MARGIN = 0.1
"""How far the reference point of the hypervolume lies behind the worst value, as a share of the range."""

History = Mapping[str, tuple[float, ...]]
"""Hypervolume after each trial, by role ("search", "baseline:random"), as a share of the box in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """The best feasible trial of a run, and on which validation images it was right."""

    trial: Trial
    correct: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Search against random search."""

    metric: str
    direction: str
    search: float | None
    """Best feasible value; None if no trial was feasible."""
    random: float | None
    search_trial: int | None
    random_trial: int | None
    search_trials: int
    random_trials: int
    difference: Interval | None
    """Search minus random in the metric, with its 95% interval from the same validation images; None without them."""
    hypervolume_search: float | None = None
    """Share of the box between the reference point and the best value of each objective; None for one objective."""
    hypervolume_random: float | None = None
    unproved: tuple[str, ...] = ()
    """Why the runs cannot be compared, in words: no network of one is shown to meet what the others are held to."""
    predicted: tuple[str, ...] = ()
    """The limits that networks of both runs meet by prediction only: nothing was measured for them."""

    @property
    def gain(self) -> float | None:
        """How much better the search is, in the metric's unit; positive when it is better."""
        if self.search is None or self.random is None:
            return None
        return self.search - self.random if self.direction == "maximize" else self.random - self.search

    @property
    def significant(self) -> bool | None:
        """Whether the interval excludes zero; None without an interval."""
        return None if self.difference is None else self.difference.excludes_zero

    @property
    def text(self) -> str:
        """The result in plain words."""
        if self.unproved:
            return f"The search and random search are not compared. {' '.join(self.unproved)}"
        return " ".join([self._best(), *self._fronts(), *self._basis()])

    def _best(self) -> str:
        shown = metric(self.metric).format
        budget = f"random search with {self.random_trials} trials"
        if self.search is None or self.random is None:
            if self.search is None and self.random is None:
                return f"Neither the search nor {budget} found a network that meets the constraints."
            winner, loser = ("The search", budget) if self.random is None else ("Random search", "the search")
            return f"{winner} found a network that meets the constraints; {loser} found none."
        head = f"Best feasible {self.metric}: {shown(self.search)} by search, {shown(self.random)} by {budget}"
        if self.difference is None:
            return f"{head}; without the validation images of both there is no interval."
        points = [100 * value for value in (self.difference.estimate, self.difference.low, self.difference.high)]
        interval = f"{points[0]:+.1f} points (95% interval {points[1]:+.1f} to {points[2]:+.1f})"
        if not self.difference.excludes_zero:
            return f"{head}: {interval}, which is not significant: these validation images cannot tell them apart."
        better = "better" if (self.gain or 0) > 0 else "worse"
        return f"{head}: {interval}, significantly {better}."

    def _fronts(self) -> list[str]:
        if self.hypervolume_search is None or self.hypervolume_random is None:
            return []
        return [
            f"Hypervolume of the front: {self.hypervolume_search:.3f} by search, "
            f"{self.hypervolume_random:.3f} by random search."
        ]

    def _basis(self) -> list[str]:
        if not self.predicted:
            return []
        return [f"Both rest on predictions: no network was measured for {', '.join(self.predicted)}."]


def compare(
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    search: tuple[Contender | None, Sequence[Trial]],
    random: tuple[Contender | None, Sequence[Trial]],
    counts: Callable[[str, Trial], bool] | None = None,
    *,
    unproved: Sequence[str] = (),
    predicted: Sequence[str] = (),
) -> Comparison:
    """Compare two runs of one study.

    The interval is of the difference in accuracy on the same images (Agresti, Min 2005); it covers the drawing of the
    images, not the noise of training, and both sides' winners were chosen on these images.

    Args:
        objectives: The first one is compared; all of them by hypervolume if there are several.
        constraints: What is feasible.
        search: Best feasible trial, and all trials by number.
        random: The same of random search.
        counts: As of `hypervolume_histories`.
        unproved: Why the runs cannot be compared, in words; there is then no difference, and no hypervolume.
        predicted: Limits for which nothing was measured in either run, for people.
    """
    first = objectives[0]
    (ours, our_trials), (theirs, their_trials) = search, random
    difference = None
    rows = [] if unproved else [one.correct for one in (ours, theirs) if one is not None and one.correct is not None]
    if first.metric == "accuracy" and len(rows) == 2 and len(rows[0]) == len(rows[1]):
        difference = paired_difference(rows[0].tolist(), rows[1].tolist(), CONFIDENCE)
    runs = {"search": our_trials, "baseline:random": their_trials}
    curves = {} if unproved else hypervolume_histories(objectives, constraints, runs, counts)
    return Comparison(
        metric=first.metric,
        direction=first.direction,
        search=None if ours is None else ours.trial.metrics[first.metric],
        random=None if theirs is None else theirs.trial.metrics[first.metric],
        search_trial=None if ours is None else ours.trial.number,
        random_trial=None if theirs is None else theirs.trial.number,
        search_trials=len(our_trials),
        random_trials=len(their_trials),
        difference=difference,
        hypervolume_search=curves["search"][-1] if curves.get("search") else None,
        hypervolume_random=curves["baseline:random"][-1] if curves.get("baseline:random") else None,
        unproved=tuple(unproved),
        predicted=tuple(predicted),
    )


def hypervolume_histories(
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    runs: Mapping[str, Sequence[Trial]],
    counts: Callable[[str, Trial], bool] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Hypervolume after each trial of each run, as a share of the box that all runs' feasible trials span.

    Trials at a lower fidelity add nothing. The reference point lies `MARGIN` of the range behind the worst feasible
    value of any run in each objective; the box reaches from there to the best value. Empty for a single objective.

    Args:
        objectives: At least two, or it is empty.
        constraints: What is feasible.
        runs: Trials by number, by role.
        counts: Whether a feasible trial of a role counts: where finalists were measured on a device, those that are
            shown to meet the limits on it. None for all.
    """
    if len(objectives) < 2:
        return {}
    directions = [objective.direction for objective in objectives]

    def point(role: str, trial: Trial) -> tuple[float, ...] | None:
        measured = trial.state == "completed" and trial.fidelity.is_full
        feasible = measured and violation(trial.metrics, constraints) == 0
        feasible = feasible and (counts is None or counts(role, trial))
        return point_of(trial, objectives) if feasible else None

    points = [p for role, trials in runs.items() for t in trials if (p := point(role, t)) is not None]
    if not points:
        return {role: (0.0,) * len(trials) for role, trials in runs.items()}
    reference, box = [], 1.0
    for values, direction in zip(zip(*points, strict=True), directions, strict=True):
        spread = (max(values) - min(values)) or abs(max(values)) or 1.0
        edge = min(values) - MARGIN * spread if direction == "maximize" else max(values) + MARGIN * spread
        reference.append(edge)
        box *= abs((max(values) if direction == "maximize" else min(values)) - edge)
    result = {}
    for role, trials in runs.items():
        volumes: list[float] = []
        known: list[tuple[float, ...]] = []
        for trial in trials:
            new = point(role, trial)
            if new is not None:
                known.append(new)
            grown = volumes[-1] if new is None and volumes else hypervolume(known, reference, directions) / box
            volumes.append(grown)
        result[role] = tuple(volumes)
    return result
