"""Strategies against each other: every strategy on every table with every seed, in processes, resumable."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path

from nasturtium.bench.cells import THREADS, Cell, Conditions, prepare_process, run_cell
from nasturtium.bench.planning import clean, load_runs, plan, stored_run
from nasturtium.bench.run import Run
from nasturtium.bench.simulation import ACCURACY, Schedule, check_conditions
from nasturtium.errors import InvalidInputError, StoreError, StudyMismatchError, UnknownNameError
from nasturtium.strategies import Named
from nasturtium.trial import Constraint, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a comparison is."""

    done: int
    total: int
    label: str
    """Of the cell that was just finished."""
    seconds_left: float
    """Forecast from how long cells of each strategy took so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The runs of a comparison.

    Args:
        runs: By (strategy, table), ordered by seed.
        failures: (cell, traceback) of those that raised an error; they are tried again on the next call.
        remarks: What a reader must know, such as runs of several versions of a strategy's code.
    """

    runs: Mapping[tuple[str, str], tuple[Run, ...]]
    failures: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, runs: Sequence[Run], failures: Sequence[tuple[str, str]] = ()) -> Comparison:
        """Group runs; refuse those that cannot be compared.

        Raises:
            StudyMismatchError: they differ in objectives, constraints, budget, workers or schedule.
        """
        grouped: dict[tuple[str, str], list[Run]] = defaultdict(list)
        shared: dict[str, object] = {}
        for run in runs:
            grouped[(str(run.facts["label"]), str(run.settings["table"]))].append(run)
            given = {k: run.settings[k] for k in _SHARED}
            shared = shared or given
            if given != shared:
                other = next(k for k in _SHARED if given[k] != shared[k])
                raise StudyMismatchError(
                    f"Runs with {other} = {shared[other]!r} and {given[other]!r} cannot be compared. Keep each "
                    "comparison in a folder of its own."
                )
        ordered = {key: tuple(sorted(group, key=lambda run: run.settings["seed"])) for key, group in grouped.items()}
        return cls(runs=ordered, failures=tuple(failures), remarks=tuple(_remarks(ordered)))

    def select(self, strategies: Sequence[str] = (), tables: Sequence[str] = ()) -> Comparison:
        """Only these strategies and tables, in this order; without any, all of them as they are.

        Raises:
            UnknownNameError: one was not run.
        """
        names = [str(Named.parse(text)) for text in strategies] or list(self.strategies)
        places = list(tables) or list(self.tables)
        for what, asked, known in (("strategy", names, self.strategies), ("table", places, self.tables)):
            for name in asked:
                if name not in known:
                    raise UnknownNameError(f"{what} of this comparison", name, known)
        kept = {(s, t): self.runs[(s, t)] for s in names for t in places if (s, t) in self.runs}
        return Comparison(runs=kept, failures=self.failures, remarks=tuple(_remarks(kept)))

    @property
    def strategies(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(dict.fromkeys(strategy for strategy, _ in self.runs))

    @property
    def tables(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(dict.fromkeys(table for _, table in self.runs))

    @property
    def first(self) -> Run:
        """Any run, for what all share."""
        return next(iter(self.runs.values()))[0]


_SHARED = ("objectives", "constraints", "evaluations", "seconds", "workers", "schedule", "thinking")


def _remarks(runs: Mapping[tuple[str, str], Sequence[Run]]) -> Iterator[str]:
    made: dict[str, set[str]] = defaultdict(set)
    for (strategy, _), group in runs.items():
        made[strategy] |= {str(run.facts.get("code", "")) for run in group}
    for strategy, codes in made.items():
        if len(codes) > 1:
            yield f"{strategy}: its runs were made by {len(codes)} versions of its code; --redo makes them anew."


def compare(
    strategies: Sequence[str],
    tables: Sequence[str],
    *,
    directory: str | Path,
    seeds: int | Sequence[int] = 20,
    evaluations: float | None = 100,
    seconds: float | None = None,
    workers: int = 1,
    schedule: Schedule = "asynchronous",
    thinking: bool = False,
    objectives: Sequence[Objective] = ACCURACY,
    constraints: Sequence[Constraint] = (),
    processes: int = 2,
    data_root: str | None = None,
    observed: str | None = None,
    redo: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Comparison:
    """Run every strategy on every table with every seed, and read all that the folder then holds.

    Each cell is a file of its own, written at once or not at all: after a kill at any instant the same call goes on,
    and a call with more seeds, strategies or tables adds them. Results do not depend on the number of processes, but
    times do: processes that share a machine slow each other.

    Args:
        strategies: As text, such as "evolution(population=20, sample=5)" or "module:function".
        tables: Names of `estimators.table`, paths, or `module:function`.
        directory: Of the files.
        seeds: How many, from 0, or which.
        evaluations: Budget of each search (see `simulate`).
        seconds: Budget in simulated time.
        workers: Simulated ones.
        schedule: Of the simulation.
        thinking: Whether real seconds of ask and tell pass on the simulated clock.
        objectives: The first decides which architecture is the result.
        constraints: To be met.
        processes: Real ones, spawned, of one thread each; 1 for this process.
        data_root: Folder of the published tables.
        observed: Column that NAS-Bench-201 shows (see `load_table`).
        redo: Whether cells of other settings, or made by other code of the strategy, are made anew instead of refused.
        progress: Called after each cell.

    Raises:
        StudyMismatchError: a cell is there with other settings; nothing is run then.
        InvalidInputError: a strategy or a table cannot be made.
        StoreError: a worker process was killed; what was finished is kept.
    """
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not strategies or not tables or not chosen:
        raise InvalidInputError("A comparison needs at least one strategy, one table and one seed.")
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise InvalidInputError(f"`processes` must be an integer of 1 or more, got {processes!r}.")
    check_conditions(evaluations, seconds, workers, schedule)
    conditions = Conditions(
        evaluations=evaluations, seconds=seconds, workers=workers, schedule=schedule, thinking=thinking,
        objectives=tuple(objectives), constraints=tuple(constraints), data_root=data_root, observed=observed,
    )  # fmt: skip
    folder = Path(directory)
    clean(folder)
    cells = plan(strategies, tables, chosen, conditions, folder)
    missing = [cell for cell in cells if _is_missing(cell, redo=redo)]
    failures = _run_all(missing, processes, progress) if missing else []
    stored = load_runs(folder) if not failures or any(folder.glob("*/*/*.npz")) else []
    if not stored:
        raise StoreError(f"Every cell failed. The first, {failures[0][0]}:\n{failures[0][1]}")
    return Comparison.of(_ordered(stored, cells), failures)


def load(directory: str | Path) -> Comparison:
    """The comparison that a folder holds.

    Raises:
        StoreError: there is none.
    """
    return Comparison.of(load_runs(Path(directory)))


def _ordered(runs: Sequence[Run], cells: Sequence[Cell]) -> list[Run]:
    """The strategies and tables that were asked for first, in that order."""
    strategies = list(dict.fromkeys(cell.strategy for cell in cells))
    tables = list(dict.fromkeys(cell.table for cell in cells))

    def place(run: Run) -> tuple[int, int]:
        label, table = run.facts["label"], run.settings["table"]
        return (
            strategies.index(label) if label in strategies else len(strategies),
            tables.index(table) if table in tables else len(tables),
        )

    return sorted(runs, key=place)


def _is_missing(cell: Cell, *, redo: bool) -> bool:
    try:
        stored = stored_run(cell)
    except StudyMismatchError:
        if redo:
            return True
        raise
    return stored is None or (redo and stored.facts.get("code") != cell.facts["code"])


def _run_all(cells: Sequence[Cell], processes: int, progress: Callable[[Progress], None]) -> list[tuple[str, str]]:
    """Run cells; returns the failures."""
    failures: list[tuple[str, str]] = []
    forecast = _Forecast(cells, processes)

    def note(cell: Cell, taken: float, error: str | None) -> None:
        if error is not None:
            failures.append((cell.label, error))
        progress(forecast.after(cell, taken))

    if processes == 1:
        for cell in cells:
            note(cell, *run_cell(cell))
        return failures
    queue, others = iter(cells), set(active_children())
    with (
        _one_thread_each(),
        ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=prepare_process) as pool,
    ):
        pending: dict[Future[tuple[float, str | None]], Cell] = {}
        submit = partial(_submit, pool, queue, pending)
        try:
            submit(2 * processes)
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    note(pending.pop(future), *future.result())
                submit(len(done))
        except BrokenProcessPool as error:
            raise StoreError(
                "A worker process was killed from outside (perhaps for want of memory). The cells that were finished "
                "are kept; run the same again to go on."
            ) from error
        except BaseException:
            for child in set(active_children()) - others:  # nothing is lost but what is under way
                child.terminate()
            raise
    return failures


def _submit(
    pool: ProcessPoolExecutor,
    queue: Iterator[Cell],
    pending: dict[Future[tuple[float, str | None]], Cell],
    number: int,
) -> None:
    for _ in range(number):
        cell = next(queue, None)
        if cell is None:
            return
        pending[pool.submit(run_cell, cell)] = cell


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread; numerical libraries read this when they are loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Forecast:
    """Time left, from how long cells of each strategy took."""

    def __init__(self, cells: Sequence[Cell], processes: int) -> None:
        self.processes = processes
        self.left: dict[str, int] = defaultdict(int)
        for cell in cells:
            self.left[cell.strategy] += 1
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.total, self.done = len(cells), 0
        self.begun = time.perf_counter()

    def after(self, cell: Cell, taken: float) -> Progress:
        """Count a cell."""
        self.done += 1
        self.left[cell.strategy] -= 1
        self.taken[cell.strategy].append(taken)
        mean = sum(map(sum, self.taken.values())) / self.done
        ahead = sum(
            count * (sum(self.taken[name]) / len(self.taken[name]) if self.taken[name] else mean)
            for name, count in self.left.items()
        )
        return Progress(done=self.done, total=self.total, label=cell.label, seconds_left=ahead / self.processes)
