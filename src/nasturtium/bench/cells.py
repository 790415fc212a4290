"""One cell of a comparison (strategy, table, seed): what it is, its file, and how it is run in a process of its own."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import psutil

from nasturtium.bench.naming import Named
from nasturtium.bench.run import FORMAT, Run
from nasturtium.bench.simulation import Schedule, simulate
from nasturtium.bench.tables import Table, extremes, load_table
from nasturtium.errors import StoreError, StudyMismatchError
from nasturtium.study.codec import describe
from nasturtium.study.identity import differences, versions
from nasturtium.trial import Constraint, Objective

NICE = 10
"""Added to the niceness of worker processes."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all cells of a comparison share."""

    evaluations: float | None
    seconds: float | None
    workers: int
    schedule: Schedule
    thinking: bool
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    data_root: str | None
    observed: str | None

    def settings(self) -> dict[str, Any]:
        """As plain JSON; what another folder of data is does not matter, since the table has a fingerprint."""
        return {
            "format": FORMAT, "evaluations": self.evaluations, "seconds": self.seconds, "workers": self.workers,
            "schedule": self.schedule, "thinking": self.thinking,
            "objectives": [[o.metric, o.direction] for o in self.objectives],
            "constraints": [[c.metric, c.relation, c.limit] for c in self.constraints],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One search to run."""

    strategy: str
    table: str
    seed: int
    conditions: Conditions
    settings: Mapping[str, Any]
    """Compared with those of a stored run."""
    bounds: Mapping[str, Any]
    code: str
    path: Path

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.strategy} on {self.table}, seed {self.seed}"

    def stored(self) -> Run | None:
        """The run of this cell, if it is there.

        Raises:
            StudyMismatchError: it was made with other settings.
        """
        if not self.path.exists():
            return None
        try:
            run = Run.load(self.path)
        except StoreError:
            return None  # a damaged file is made again
        found = differences(run.settings, self.settings)
        if found:
            shown = "; ".join(f"{name}: stored {old!r}, given {new!r}" for name, old, new in found)
            raise StudyMismatchError(
                f"{str(self.path)!r} was run with other settings than {self.label} ({shown}). Take another folder, or "
                "run again with redo=True (`--redo`) to make such cells anew."
            )
        return run

    def run(self) -> float:
        """Run and store; returns the real seconds that it took."""
        begun = time.perf_counter()
        given = self.conditions
        table = load_table(self.table, given.data_root, given.observed)
        run = simulate(
            Named.parse(self.strategy).make(), table, evaluations=given.evaluations, seconds=given.seconds,
            seed=self.seed, workers=given.workers, schedule=given.schedule, objectives=given.objectives,
            constraints=given.constraints, thinking=given.thinking, bounds=self.bounds,
        )  # fmt: skip
        facts = {**run.facts, "label": self.strategy, "code": self.code, "versions": versions()}
        replace(run, settings=self.settings, facts=facts).save(self.path)
        return time.perf_counter() - begun


def plan(
    strategies: Sequence[str], tables: Sequence[str], seeds: Sequence[int], conditions: Conditions, directory: Path
) -> list[Cell]:
    """Every cell, seed by seed, so that a comparison that is cut short has as many of each.

    Raises:
        InvalidInputError: a strategy or a table cannot be made.
    """
    named = [Named.parse(text) for text in strategies]
    made = {str(name): name.make() for name in named}
    known: dict[str, tuple[Table, dict[str, Any]]] = {}
    for name in tables:
        table = load_table(name, conditions.data_root, conditions.observed)
        known[name] = (table, extremes(table, conditions.objectives, conditions.constraints))
    cells = []
    for seed in seeds:
        for name, (table, bounds) in known.items():
            for label, strategy in made.items():
                settings = conditions.settings() | {
                    "strategy": describe(strategy, "strategy"), "table": name, "fingerprint": table.fingerprint,
                    "seed": seed,
                }  # fmt: skip
                path = directory / slug(name) / slug(label) / f"{seed:05d}.npz"
                cells.append(
                    Cell(
                        strategy=label, table=name, seed=seed, conditions=conditions, settings=settings, bounds=bounds,
                        code=code_of(strategy), path=path,
                    )
                )  # fmt: skip
    return cells


def slug(text: str) -> str:
    """A text as the name of a folder; a digest keeps different ones apart."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")[:60]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def code_of(strategy: object) -> str:
    """Digest of the source of the strategy's module; empty where there is none."""
    try:
        source = inspect.getsource(sys.modules[type(strategy).__module__])
    except (OSError, KeyError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def clean(directory: Path) -> None:
    """Remove what processes that are gone left half written."""
    for path in directory.glob("*/*/.*.tmp"):
        parts = path.name.split(".")
        if not (parts[-2].isdigit() and psutil.pid_exists(int(parts[-2]))):
            path.unlink(missing_ok=True)


def prepare_process() -> None:
    """Make a worker process yield to others, and end with its parent however that ends."""
    os.nice(NICE)
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_cell(cell: Cell) -> tuple[float, str | None]:
    """Run a cell in a worker process: seconds taken, and the traceback if it failed."""
    begun = time.perf_counter()
    try:
        return cell.run(), None
    except Exception:  # noqa: BLE001  (a strategy's error must not end the others; it is reported)
        return time.perf_counter() - begun, traceback.format_exc()


def load_runs(directory: Path) -> list[Run]:
    """All runs of a folder.

    Raises:
        StoreError: there is none, or one cannot be read.
    """
    paths = sorted(directory.glob("*/*/*.npz"))
    if not paths:
        raise StoreError(f"There are no runs in {str(directory)!r}: run `nasturtium bench … -o {directory}` first.")
    return [Run.load(path) for path in paths]
