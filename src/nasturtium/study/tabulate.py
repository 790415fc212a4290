"""A finished study as a table, on which any strategy can be replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasturtium.errors import InvalidArchitectureError, StoreError
from nasturtium.estimators.tables import Column, Tabular, make_table, merge_repeats
from nasturtium.space import Space
from nasturtium.study.problem import CHEAP
from nasturtium.trial import Trial
from nasturtium.trial.types import Fidelity

if TYPE_CHECKING:
    from nasturtium.study.results import Member

SECONDS = "train_seconds"


def tabulate(name: str, space: Space, members: Sequence[Member], input_shape: Sequence[int], classes: int) -> Tabular:
    """The table of some trials; see `Study.tabular`.

    Args:
        name: For people.
        space: That they searched.
        members: Of all runs; those that are not of the space (hand-designed references) are left out.
        input_shape: Of the task.
        classes: Of the task.

    Raises:
        StoreError: no trial of the space completed at full fidelity.
    """
    rows, kept = [], []
    for member in members:
        try:
            rows.append(space.indices(space.adopt(member.architecture)))
        except InvalidArchitectureError:
            continue  # a hand-designed reference
        kept.append(member)
    if not any(m.trial.state == "completed" and m.trial.fidelity == Fidelity() for m in kept):
        raise StoreError(f"{name!r} has no completed trial at full fidelity yet, so there is no table to make of it.")
    matrix, columns = merge_repeats(np.array(rows, dtype=np.int64).reshape(len(rows), -1), _columns(kept))
    return make_table(name, space, matrix, columns, listed=True, input_shape=input_shape, classes=classes)


def _columns(members: Sequence[Member]) -> list[Column]:
    """All columns, of which a trial has those of its fidelity."""
    trials = [m.trial for m in members]
    names = dict.fromkeys(name for t in trials for name in t.metrics if name != SECONDS)
    tests = dict.fromkeys(name for m in members for name in m.test_metrics or ())
    fidelities = dict.fromkeys(t.fidelity for t in trials)
    columns = [_column(name, [t.metrics.get(name) for t in trials], "cheap") for name in names if name in CHEAP]
    columns += [_column(f"test_{n}", [(m.test_metrics or {}).get(n) for m in members], "test") for n in tests]
    for fidelity in fidelities:
        at = [t if t.fidelity == fidelity else None for t in trials]
        for name in names:
            values = [None if t is None else t.metrics.get(name) for t in at]
            if name not in CHEAP and any(v is not None for v in values):
                columns.append(_column(name, values, "validation", fidelity))
        columns.append(_column(SECONDS, [None if t is None else _seconds(t) for t in at], "seconds", fidelity))
    return columns


def _seconds(trial: Trial) -> float:
    """What the trial cost: its training's own time where that is known, else that of the whole trial."""
    return trial.metrics.get(SECONDS, trial.seconds)


def _column(metric: str, values: Sequence[float | None], role: str, fidelity: Fidelity | None = None) -> Column:
    numbers = np.array([math.nan if v is None else v for v in values])
    return Column(
        metric=metric, values=numbers, role=role, fidelity=fidelity or Fidelity(), missing=True,  # type: ignore[arg-type]
    )  # fmt: skip
