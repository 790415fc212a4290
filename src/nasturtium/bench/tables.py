"""What a benchmark needs of a table, how one is named, and its best and worst values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from nasturtium.errors import SizeUnknownError, TrialError
from nasturtium.space import Architecture
from nasturtium.strategies.naming import import_object
from nasturtium.trial import Constraint, Direction, Metric, Objective, Problem, violation
from nasturtium.trial.types import FULL, Fidelity

LISTED = 200_000
"""Spaces up to this size are gone through for the best that meets the constraints."""


class Table(Protocol):
    """Measured results of architectures, looked up in an instant: `estimators.Tabular`, or your own."""

    @property
    def fingerprint(self) -> str:
        """Changes with every value that it holds."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """What an estimate measures."""
        ...

    @property
    def known_metrics(self) -> Mapping[str, Metric]:
        """Those that are not the library's own, with their units."""
        ...

    @property
    def cheap(self) -> tuple[str, ...]:
        """What is known of an architecture before it is trained."""
        ...

    def estimate(self, architecture: Architecture, fidelity: Fidelity, job: Any = None) -> Mapping[str, float]:
        """Look up; raises `TrialError` for what it does not hold."""
        ...

    def cheap_metrics(self, architecture: Architecture) -> Mapping[str, float]:
        """What is known before training."""
        ...

    def key(self, architecture: Architecture) -> str:
        """Name of the row."""
        ...

    def report(self, architecture: Architecture) -> Mapping[str, float]:
        """Metrics that no strategy sees."""
        ...

    def seconds(self, architecture: Architecture, fidelity: Fidelity) -> float:
        """How long the measurement took."""
        ...

    def best(self, metric: str, direction: Direction) -> tuple[float, Architecture]:
        """The best value at full fidelity, and whose it is."""
        ...

    def problem(
        self,
        *,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        seed: int = 0,
        trials: int | None = None,
    ) -> Problem:
        """The problem that a strategy is given."""
        ...


@lru_cache(maxsize=8)
def load_table(name: str, data_root: str | None = None, observed: str | None = None) -> Table:
    """A table by name ("nasbench201/cifar10"), by path, or from `module:function`; kept for the next call.

    Args:
        name: What `estimators.table` takes, or a function of no arguments that returns a table.
        data_root: Folder of the published tables.
        observed: Column that NAS-Bench-201 shows: "mean" over training seeds (its default), or "one_seed".

    Raises:
        InvalidInputError: there is no such table.
    """
    module, _, function = name.partition(":")
    if function and function.isidentifier():
        return import_object(f"{module}:{function}", "table")()
    from nasturtium import estimators  # noqa: PLC0415  (loads torch, which a table of one's own does not need)

    options = {} if observed is None else {"observed": observed}
    return estimators.table(name, data_root=data_root, **options)


def extremes(table: Table, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> dict[str, Any]:
    """Best and worst full-fidelity value of each objective, and what the report says of the best one.

    With constraints the best is that of the architectures that meet them; it is None where the space is too large to
    go through. The worst is always that of the whole table: the fixed corner of the hypervolume.
    """
    found: dict[str, Any] = {}
    listed = list(_feasible(table, objectives, constraints)) if constraints else []
    for number, objective in enumerate(objectives):
        opposite: Direction = "minimize" if objective.direction == "maximize" else "maximize"
        worst, _ = table.best(objective.metric, opposite)
        best: float | None = None
        reported: Mapping[str, float] = {}
        if not constraints:
            best, architecture = table.best(objective.metric, objective.direction)
            reported = table.report(architecture)
        elif listed:
            choose = max if objective.direction == "maximize" else min
            architecture, metrics = choose(listed, key=lambda item, n=number: item[1][n])  # type: ignore[misc]
            best, reported = metrics[number], table.report(architecture)
        found[objective.metric] = {
            "best": None if best is None else float(best),
            "worst": float(worst),
            "report": {name: float(value) for name, value in reported.items()},
        }
    return found


def _feasible(
    table: Table, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Iterator[tuple[Architecture, list[float]]]:
    problem = table.problem(objectives=objectives)
    try:
        if problem.space.size > LISTED:
            return
    except SizeUnknownError:
        return
    for architecture in problem.space.enumerate():
        try:
            metrics = {**table.cheap_metrics(architecture), **table.estimate(architecture, FULL)}
        except TrialError:  # the table has no result of it
            continue
        values = [float(metrics.get(o.metric, np.nan)) for o in objectives]
        if not violation(metrics, constraints) and not np.isnan(values).any():
            yield architecture, values
