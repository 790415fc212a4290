"""One cell of a comparison (strategy, table, seed): what it is, and how it is run in a process of its own.

It loads little, since every worker process does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from nasturtium.bench.run import FORMAT
from nasturtium.bench.simulation import Schedule, simulate
from nasturtium.bench.tables import load_table
from nasturtium.strategies import Named
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
    facts: Mapping[str, Any]
    """Stored with the run, not compared."""
    path: Path

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.strategy} on {self.table}, seed {self.seed}"

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
        facts = {**run.facts, **self.facts, "label": self.strategy}
        replace(run, settings=self.settings, facts=facts).save(self.path)
        return time.perf_counter() - begun


def prepare_process() -> None:
    """Make a worker process yield to others, and end with its parent however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
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
