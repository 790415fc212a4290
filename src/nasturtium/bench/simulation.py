"""A search on a table: ask and tell without a store, on a simulated clock."""

from __future__ import annotations

import heapq
import math
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from nasturtium.bench.run import Run
from nasturtium.bench.tables import Table, extremes
from nasturtium.errors import InfeasibleError, InvalidInputError, TrialError
from nasturtium.strategies import Named
from nasturtium.trial import Constraint, Objective, Strategy, violation
from nasturtium.trial.types import FULL, Exhausted, Fidelity, Problem, Proposal, Trial, Wait

Schedule = Literal["asynchronous", "deterministic"]
ACCURACY = (Objective(metric="accuracy", direction="maximize"),)
SHARES = tuple(field.name for field in fields(Fidelity))
SLACK = 1e-9
"""Rounding of sums of shares of epochs."""


def simulate(
    strategy: Strategy | str,
    table: Table,
    *,
    evaluations: float | None = None,
    seconds: float | None = None,
    seed: int = 0,
    workers: int = 1,
    schedule: Schedule = "asynchronous",
    objectives: Sequence[Objective] = ACCURACY,
    constraints: Sequence[Constraint] = (),
    thinking: bool = False,
    bounds: Mapping[str, Any] | None = None,
) -> Run:
    """Run a strategy on a table as a study would, in simulated time.

    Asynchronous schedule: a finished trial is told at once and its worker gets the next proposal; what finishes at the
    same instant is told, by number, before anything is asked. Deterministic schedule: proposal k is asked for when
    exactly the trials up to k - workers are told, in number order, as in a study. A strategy that waits leaves the
    worker idle until the next trial is told. A look-up that fails is a failed trial; it costs its share of the budget,
    and the seconds that the table states for it, if any.

    Args:
        strategy: To run, or its text.
        table: To run it on.
        evaluations: Budget in full evaluations; a low fidelity counts as its share (`Fidelity.share`). Nothing is asked
            for once it is spent; the last evaluation may go beyond it.
        seconds: Budget in simulated seconds; what is under way at its end is finished. One budget or both.
        seed: Of the strategy.
        workers: Simulated; each runs one evaluation at a time.
        schedule: Of telling and asking.
        objectives: The first decides which architecture is the result.
        constraints: To be met by the result.
        thinking: Whether the real seconds of ask and tell pass on the simulated clock, one process asking for all
            workers. The result then depends on the machine.
        bounds: What `tables.extremes` gave for this table and these objectives, where known.

    Raises:
        InvalidInputError: no budget, or the strategy waits though nothing is under way.
        InfeasibleError: nothing meets the constraints.
    """
    check_conditions(evaluations, seconds, workers, schedule)
    made = Named.parse(strategy).make() if isinstance(strategy, str) else strategy
    problem = table.problem(
        objectives=tuple(objectives), constraints=tuple(constraints), seed=seed,
        trials=None if evaluations is None else math.ceil(evaluations),
    )  # fmt: skip
    loop = _Loop(made, table, problem, workers, schedule, evaluations or math.inf, seconds or math.inf, thinking)
    begun = time.perf_counter()
    loop.run()
    taken = time.perf_counter() - begun
    settings = {
        "strategy": repr(made), "seed": seed, "evaluations": evaluations, "seconds": seconds, "workers": workers,
        "schedule": schedule, "thinking": thinking, "objectives": [[o.metric, o.direction] for o in objectives],
        "constraints": [[c.metric, c.relation, c.limit] for c in constraints],
    }  # fmt: skip
    return loop.log.run(
        settings=settings,
        extremes=extremes(table, objectives, constraints) if bounds is None else bounds,
        facts={"ended": loop.ended or "the budget is spent", "seconds": taken},
    )


def check_conditions(evaluations: float | None, seconds: float | None, workers: int, schedule: str) -> None:
    """Refuse conditions under which nothing can be simulated.

    Raises:
        InvalidInputError: with what is wrong.
    """
    if evaluations is None and seconds is None:
        raise InvalidInputError("A simulation needs a budget: give `evaluations`, `seconds` or both.")
    for name, value in (("evaluations", evaluations), ("seconds", seconds), ("workers", workers)):
        if value is not None and not 0 < value < math.inf:
            raise InvalidInputError(f"`{name}` must be positive and finite, got {value!r}.")
    if schedule not in ("asynchronous", "deterministic"):
        raise InvalidInputError(f"`schedule` must be 'asynchronous' or 'deterministic', got {schedule!r}.")


@dataclass(slots=True)
class _Log:
    """Rows of the run, kept as flat arrays so that 100,000 of them are light."""

    problem: Problem
    table: Table
    keys: list[str] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    workers: array[int] = field(default_factory=lambda: array("q"))
    rows: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    reports: dict[str, array[float]] = field(default_factory=dict)
    best: float = math.nan
    incumbent: Mapping[str, float] = field(default_factory=dict)

    def add(self, trial: Trial, key: str, worker: int, start: float, end: float, ask: float, tell: float) -> None:
        """Note a trial that was told."""
        missed = violation(trial.metrics, self.problem.constraints) if trial.state == "completed" else math.inf
        values = [trial.metrics.get(o.metric, math.nan) for o in self.problem.objectives]
        fidelity = [getattr(trial.fidelity, name) for name in SHARES]
        self.numbers.append(trial.number)
        self.keys.append(key)
        self.workers.append(worker)
        self.values.extend(values)
        failed = float(trial.state == "failed")
        self.rows.extend((trial.fidelity.share, missed, failed, start, end, ask, tell, *fidelity))
        if missed == 0 and trial.fidelity == FULL and not any(map(math.isnan, values)):
            self._rival(trial, values[0])
        for name in self.incumbent.keys() - self.reports.keys():
            self.reports[name] = array("d", [math.nan] * (len(self.keys) - 1))
        for name, column in self.reports.items():
            column.append(self.incumbent.get(name, math.nan))

    def _rival(self, trial: Trial, value: float) -> None:
        better = value > self.best if self.problem.objectives[0].direction == "maximize" else value < self.best
        if better or math.isnan(self.best):
            self.best = value
            self.incumbent = {name: float(v) for name, v in self.table.report(trial.architecture).items()}

    def run(self, **about: Any) -> Run:
        """The rows as arrays."""
        rows = np.array(self.rows, dtype=float).reshape(-1, 7 + len(SHARES))
        return Run(
            **about,
            number=np.array(self.numbers, dtype=np.int64), key=np.array(self.keys, dtype=np.str_),
            share=rows[:, 0], violation=rows[:, 1], failed=rows[:, 2] == 1, start=rows[:, 3], end=rows[:, 4],
            ask_seconds=rows[:, 5], tell_seconds=rows[:, 6], fidelity=rows[:, 7:],
            values=np.array(self.values, dtype=float).reshape(-1, len(self.problem.objectives)),
            worker=np.array(self.workers, dtype=np.int64),
            report={name: np.array(column, dtype=float) for name, column in self.reports.items()},
        )  # fmt: skip


@dataclass(slots=True)
class _Work:
    """One evaluation under way; its outcome is known from the start, since it is looked up."""

    trial: Trial
    worker: int
    start: float
    end: float
    ask: float


@dataclass(slots=True)
class _Loop:
    """The event loop: each step is O(log workers)."""

    strategy: Strategy
    table: Table
    problem: Problem
    workers: int
    schedule: Schedule
    evaluations: float
    seconds: float
    thinking: bool
    log: _Log = field(init=False)
    now: float = 0.0
    spent: float = 0.0
    asked: int = 0
    told: int = 0
    asking: float = 0.0
    waiting: bool = False
    ended: str | None = None
    idle: list[int] = field(init=False)
    running: list[tuple[float, int]] = field(default_factory=list)
    works: dict[int, _Work] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    order: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.log = _Log(self.problem, self.table)
        self.idle = list(range(self.workers))

    def run(self) -> None:
        """Run to the end of the budget, or of the space."""
        self.strategy.setup(self.problem)
        while True:
            self._propose()
            if not self.running:
                break
            self._advance()
        while self._tell_next():
            pass

    def _advance(self) -> None:
        """Go to the next end; all that ends by then is finished."""
        self.now = max(self.now, self.running[0][0])
        while self.running and self.running[0][0] <= self.now:
            _, number = heapq.heappop(self.running)
            heapq.heappush(self.idle, self.works[number].worker)
            if self.schedule == "deterministic":
                self.finished.add(number)
            else:
                self.order.append(number)

    def _propose(self) -> None:
        """Ask for as much as the schedule, the workers and the budget allow now."""
        while True:
            if self.waiting and not self._tell_next():
                return
            self.waiting = False
            if not self._tell_due() or not self._may_ask():
                return
            answer = self._ask()
            if isinstance(answer, Proposal):
                self._start(answer)
            elif isinstance(answer, Exhausted):
                self.ended = answer.reason
            elif self.told == self.asked:
                raise InvalidInputError(
                    f"The strategy {self.strategy!r} waits for a trial at proposal {self.asked}, but all are told. It "
                    "must propose, or answer `Exhausted`, when nothing is pending."
                )
            else:
                self.waiting = True

    def _may_ask(self) -> bool:
        left = self.spent < self.evaluations - SLACK and self.now < self.seconds
        return self.ended is None and left and bool(self.idle)

    def _tell_due(self) -> bool:
        """Tell what the next proposal is to see; False while that is not finished."""
        if self.schedule == "deterministic":
            while self.told < self.asked - self.workers + 1:
                if not self._tell_next():
                    return False
            return True
        while self._tell_next():
            pass
        return True

    def _tell_next(self) -> bool:
        if self.schedule == "deterministic":
            if self.told not in self.finished:
                return False
            number = self.told
            self.finished.remove(number)
        elif self.order:
            number = self.order.popleft()
        else:
            return False
        work = self.works.pop(number)
        begun = time.perf_counter()
        self.strategy.tell(work.trial)
        taken = time.perf_counter() - begun
        self._think(taken)
        self.told += 1
        key = str(self.table.key(work.trial.architecture))
        self.log.add(work.trial, key, work.worker, work.start, work.end, work.ask, taken)
        return True

    def _ask(self) -> Proposal | Wait | Exhausted:
        begun = time.perf_counter()
        try:
            answer = self.strategy.ask(self.asked)
        except InfeasibleError as error:
            if not self.asked:
                raise
            answer = Exhausted(str(error))
        taken = time.perf_counter() - begun
        self.asking += taken
        self._think(taken)
        return answer

    def _think(self, seconds: float) -> None:
        if self.thinking:
            self.now += seconds

    def _start(self, proposal: Proposal) -> None:
        architecture, fidelity = proposal.architecture, proposal.fidelity
        error, kind = None, None
        metrics: dict[str, float] = {}
        try:
            measured = self.table.estimate(architecture, fidelity)
            metrics = {**self.table.cheap_metrics(architecture), **measured}
        except TrialError as failure:
            error, kind = str(failure), failure.kind
        lasted = self._duration(proposal)
        trial = Trial(
            number=proposal.number, architecture=architecture, fidelity=fidelity, parents=proposal.parents,
            origin=proposal.origin, state="completed" if error is None else "failed", metrics=metrics, error=error,
            error_kind=kind, seconds=lasted,
        )  # fmt: skip
        end = self.now + lasted
        self.works[trial.number] = _Work(trial, heapq.heappop(self.idle), self.now, end, self.asking)
        heapq.heappush(self.running, (end, trial.number))
        self.asked += 1
        self.spent += fidelity.share
        self.asking = 0.0

    def _duration(self, proposal: Proposal) -> float:
        try:
            seconds = float(self.table.seconds(proposal.architecture, proposal.fidelity))
        except TrialError:
            return 0.0
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
