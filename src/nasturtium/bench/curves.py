"""Curves of runs: regret, the report's metrics and hypervolume, over evaluations and over simulated time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasturtium.bench.run import Floats, Run, running_best
from nasturtium.trial import METRICS, Direction, Objective, hypervolume

POINTS = 300
"""At most so many points of a curve."""
SLACK = 1e-9


def scale_of(metric: str) -> tuple[float, str]:
    """Factor and unit in which a regret is told: percentage points for fractions such as accuracy."""
    known = METRICS.get(metric)
    if known is not None:
        return (100.0, "points") if known.unit == "fraction" else (1.0, known.unit)
    return (100.0, "points") if "accuracy" in metric.split("_") else (1.0, metric)


def evaluation_grid(budget: float, points: int = POINTS) -> Floats:
    """Whole numbers of evaluations from 1 to a budget: all of them, or evenly spread on a logarithmic axis."""
    last = max(1, math.floor(budget + SLACK))
    if last <= points:
        return np.arange(1.0, last + 1)
    return np.unique(np.rint(np.geomspace(1, last, points)))


def position(run: Run, evaluations: Floats) -> NDArray[np.intp]:
    """Index of the last evaluation within each budget; -1 for none."""
    return np.searchsorted(run.spent, np.asarray(evaluations) + SLACK, side="right") - 1


def best_at(run: Run, evaluations: Floats) -> Floats:
    """Best validation value within each budget of full evaluations; the table's worst while there is none."""
    return _taken(run.best(), position(run, evaluations), _bound(run, "worst"))


def best_at_seconds(run: Run, seconds: Floats) -> Floats:
    """Best validation value by each simulated time; the table's worst while there is none."""
    order = np.argsort(run.end, kind="stable")
    values = np.where(run.counted, run.values[:, 0], np.nan)[order]
    at = np.searchsorted(run.end[order], np.asarray(seconds), side="right") - 1
    return _taken(running_best(values, run.objectives[0].direction), at, _bound(run, "worst"))


def regret(run: Run, best: Floats) -> Floats:
    """How far values lie behind the table's best, in points for fractions; never negative.

    NaN where the best that meets the constraints is not known.
    """
    objective = run.objectives[0]
    factor, _ = scale_of(objective.metric)
    top = _bound(run, "best")
    return factor * ((top - best) if objective.direction == "maximize" else (best - top))


def report_at(run: Run, metric: str, evaluations: Floats) -> Floats:
    """A metric of the report of the best-by-validation architecture within each budget; NaN while there is none."""
    if metric not in run.report:
        return np.full(len(np.atleast_1d(evaluations)), np.nan)
    return _taken(run.report[metric], position(run, evaluations), math.nan)


def evaluations_to_reach(run: Run, target: float) -> float:
    """Full evaluations until the best validation value is at least as good as a target; infinite if never."""
    best = run.best()
    with np.errstate(invalid="ignore"):
        reached = best >= target if run.objectives[0].direction == "maximize" else best <= target
    found = np.flatnonzero(reached)
    return float(run.spent[found[0]]) if len(found) else math.inf


def mean_evaluations_to_reach(runs: Sequence[Run], target: float) -> float:
    """Full evaluations, in whole numbers, until the mean of the best values over seeds is as good as a target."""
    grid = np.arange(1.0, math.floor(min(run.spent[-1] for run in runs) + SLACK) + 1)
    mean = np.mean([best_at(run, grid) for run in runs], axis=0)
    reached = mean >= target if runs[0].objectives[0].direction == "maximize" else mean <= target
    found = np.flatnonzero(reached)
    return float(grid[found[0]]) if len(found) else math.inf


def hypervolume_at(run: Run, evaluations: Floats) -> Floats:
    """Hypervolume within each budget, as a share of the box from the table's worst to its best value of each objective.

    The corner is fixed by the table, so volumes of all strategies compare.
    """
    objectives = run.objectives
    unit = np.stack([_unit(run, objective, run.values[:, i]) for i, objective in enumerate(objectives)], axis=1)
    directions: list[Direction] = ["maximize"] * len(objectives)
    corner = [0.0] * len(objectives)
    volumes = np.zeros(len(run) + 1)
    front: list[tuple[float, ...]] = []
    for i, counted in enumerate(run.counted):
        volumes[i + 1] = volumes[i]
        point = tuple(map(float, unit[i]))
        if counted and not any(all(f >= p for f, p in zip(kept, point, strict=True)) for kept in front):
            front = [kept for kept in front if not all(p >= f for f, p in zip(kept, point, strict=True))]
            front.append(point)
            volumes[i + 1] = hypervolume(front, corner, directions)
    return volumes[position(run, evaluations) + 1]


def _unit(run: Run, objective: Objective, values: Floats) -> Floats:
    bounds = run.extremes[objective.metric]
    worst = float(bounds["worst"])
    best = worst if bounds["best"] is None else float(bounds["best"])
    span = best - worst
    return (values - worst) / span if span else np.zeros_like(values)


def _bound(run: Run, which: str) -> float:
    value = run.extremes[run.objectives[0].metric][which]
    return math.nan if value is None else float(value)


def _taken(values: Floats, at: NDArray[np.intp], missing: float) -> Floats:
    if not len(values):
        return np.full(len(at), missing)
    found = np.where(at >= 0, values[np.maximum(at, 0)], missing)
    return np.where(np.isnan(found), missing, found)
