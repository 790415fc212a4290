"""A small table, and strategies and tables whose every step is known beforehand."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasturtium.errors import TrialError
from nasturtium.estimators import Column, Tabular
from nasturtium.testing import toy_space
from nasturtium.trial import Fidelity, Objective, Problem, Proposal, Trial, Wait
from nasturtium.trial.types import Exhausted

ACCURACY = (Objective(metric="accuracy", direction="maximize"),)


def table() -> Tabular:
    """256 architectures of four decisions; accuracy, test accuracy, a cost and seconds."""
    space = toy_space(2, 4)
    architectures = list(space.enumerate())
    rows = np.array([space.indices(a) for a in architectures])
    noise = np.random.default_rng(7).uniform(0, 0.2, len(rows))
    accuracy = 0.2 + 0.05 * rows.sum(axis=1) + noise
    return Tabular(
        name="toy", space=space, rows=rows,
        columns=[
            Column(metric="accuracy", values=accuracy),
            Column(metric="accuracy", values=0.5 * accuracy, fidelity=Fidelity(epochs=0.25)),
            Column(metric="test_accuracy", values=accuracy - 0.01, role="test"),
            Column(metric="cost", values=1.0 + rows.sum(axis=1), role="cheap"),
            Column(metric="train_seconds", values=10.0 + rows.sum(axis=1), role="seconds"),
        ],
    )  # fmt: skip


def other_table() -> Tabular:
    """The same architectures with other accuracies."""
    first = table()
    values = 1 - 0.5 * first.column("accuracy")
    return Tabular(name="other", space=first.space, rows=first.rows, columns=[Column(metric="accuracy", values=values)])


@dataclass(slots=True)
class Scripted:
    """Walk the space in its order; wait where the script says so, and note every call."""

    epochs: float = 1.0
    generation: int | None = None
    """Every so many proposals it waits until all are told."""
    last: int | None = None
    sleep: float = 0.0
    calls: list[tuple[str, int]] = field(init=False, default_factory=list)
    told: int = field(init=False, default=0)
    _problem: Any = field(init=False, default=None)
    _order: Any = field(init=False, default=None)

    def setup(self, problem: Problem) -> None:
        self._problem, self._order, self.told = problem, list(problem.space.enumerate()), 0
        self.calls.clear()

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        time.sleep(self.sleep)
        if number == self.last:
            return Exhausted("the script ends")
        if self.generation and number % self.generation == 0 and self.told < number:
            self.calls.append(("wait", number))
            return Wait()
        self.calls.append(("ask", number))
        return Proposal(number=number, architecture=self._order[number], fidelity=Fidelity(epochs=self.epochs))

    def recall(self, proposal: Proposal) -> None:
        pass

    def tell(self, trial: Trial) -> None:
        self.told += 1
        self.calls.append(("tell", trial.number))


@dataclass
class Listed:
    """A table of given accuracies and seconds, in the order of the space; None is a look-up that fails."""

    accuracies: Sequence[float | None]
    durations: Sequence[float]
    space: Any = field(default_factory=lambda: toy_space(2, 4))

    def __post_init__(self) -> None:
        self.places = {a.key: i for i, a in enumerate(self.space.enumerate())}

    def estimate(self, architecture: Any, fidelity: Fidelity, job: object = None) -> Mapping[str, float]:
        value = self.accuracies[self.places[architecture.key]]
        if value is None:
            raise TrialError("no row")
        return {"accuracy": value}

    def cheap_metrics(self, architecture: Any) -> Mapping[str, float]:
        return {"cost": float(self.places[architecture.key])}

    def key(self, architecture: Any) -> str:
        return f"row {self.places[architecture.key]}"

    def report(self, architecture: Any) -> Mapping[str, float]:
        return {"test_accuracy": self.accuracies[self.places[architecture.key]] - 0.5}

    def seconds(self, architecture: Any, fidelity: Fidelity) -> float:
        return self.durations[self.places[architecture.key]] * fidelity.epochs

    def best(self, metric: str, direction: str) -> tuple[float, Any]:
        known = [(v, i) for i, v in enumerate(self.accuracies) if v is not None]
        value, place = max(known) if direction == "maximize" else min(known)
        return value, list(self.space.enumerate())[place]

    def problem(self, *, objectives=ACCURACY, constraints=(), seed=0, trials=None) -> Problem:
        return Problem(
            space=self.space, objectives=tuple(objectives), constraints=tuple(constraints), seed=seed, trials=trials,
            cheap_metrics=self.cheap_metrics, key=self.key,
        )  # fmt: skip


@dataclass(slots=True)
class Slow(Scripted):
    """A scripted strategy that takes its time, to be interrupted."""

    sleep: float = 0.02


@dataclass(slots=True)
class Broken(Scripted):
    """Raises at the third proposal."""

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        if number == 2:
            raise RuntimeError("this strategy is broken")
        return Scripted.ask(self, number)


def killed() -> Scripted:
    """End this process as the system does when memory runs out; only in a worker."""
    if os.environ.get("KILL_WORKER") != str(os.getppid()):
        return Scripted()
    os.kill(os.getpid(), 9)
    raise AssertionError
