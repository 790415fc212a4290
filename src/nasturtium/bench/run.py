"""What one simulated search did, as arrays, and its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import StoreError
from nasturtium.trial import Objective

FORMAT = 1
"""Of the files; another number is another layout."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.str_]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One search on one table with one seed: a row for each evaluation, in the order in which they were told.

    Args:
        settings: What was run: strategy, table, seed, budget, workers, schedule, objectives, constraints.
        extremes: Best and worst value of each objective in the table (see `tables.extremes`).
        facts: How it went: "ended" (why), "seconds" of real time, versions.
        number: Of the proposal.
        key: Row of the table.
        fidelity: `(evaluation, share)`: the fields of `Fidelity` in their order.
        share: What the evaluation costs, in full evaluations.
        values: `(evaluation, objective)`; NaN where it failed.
        violation: Of all constraints, relative; infinite where it failed.
        failed: Whether the look-up failed.
        start: Simulated seconds.
        end: Simulated seconds.
        worker: Which simulated worker ran it.
        ask_seconds: Real seconds of the `ask` calls that gave it, fruitless ones included.
        tell_seconds: Real seconds of its `tell`.
        report: For each metric of the report, that of the incumbent after each evaluation: the best by validation (the
            first objective, full fidelity, constraints met); NaN while there is none.
    """

    settings: Mapping[str, Any]
    extremes: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    number: Ints
    key: Words
    fidelity: Floats
    share: Floats
    values: Floats
    violation: Floats
    failed: Bools
    start: Floats
    end: Floats
    worker: Ints
    ask_seconds: Floats
    tell_seconds: Floats
    report: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.number)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What was to be made large or small."""
        return tuple(Objective(metric=metric, direction=way) for metric, way in self.settings["objectives"])

    @property
    def spent(self) -> Floats:
        """Full evaluations spent, after each evaluation."""
        return np.cumsum(self.share)

    @property
    def counted(self) -> Bools:
        """Which evaluations can be the result: at full fidelity, completed, constraints met."""
        full = (self.fidelity == 1).all(axis=1)
        return full & (self.violation == 0) & ~np.isnan(self.values).any(axis=1)

    def best(self) -> Floats:
        """Best value of the first objective after each evaluation; NaN while there is none."""
        return running_best(np.where(self.counted, self.values[:, 0], np.nan), self.objectives[0].direction)

    def makespan(self) -> float:
        """Simulated seconds from the first start to the last end."""
        return float(self.end.max(initial=0.0))

    def busy_share(self, *, ramp_down: bool = False) -> float:
        """Share of the workers' time in which they worked.

        Args:
            ramp_down: Whether to count up to the last end. By default up to the last start: after it there is nothing
                left to hand out, so idle workers are the budget's doing, not the schedule's. Where everything starts
                at once the two are the same.
        """
        until = self.makespan() if ramp_down or not self.start.max(initial=0.0) else float(self.start.max())
        if not until:
            return 1.0
        busy = np.clip(np.minimum(self.end, until) - self.start, 0, None).sum()
        return float(busy / (until * int(self.settings["workers"])))

    def save(self, path: Path) -> None:
        """Write the file, at once or not at all."""
        header = {
            "format": FORMAT, "settings": dict(self.settings), "extremes": dict(self.extremes),
            "facts": dict(self.facts),
        }  # fmt: skip
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"report_{name}": values for name, values in self.report.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a file that `save` wrote.

        Raises:
            StoreError: it is no such file, or of another format.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                header = json.loads(str(stored["header"]))
                arrays = {name: stored[name] for name in _ARRAYS if name in stored.files}
                report = {n.removeprefix("report_"): stored[n] for n in stored.files if n.startswith("report_")}
        except Exception as error:  # whatever a damaged archive raises: zip, JSON and NumPy have no common error
            raise StoreError(f"The run {str(path)!r} cannot be read: {error}. Remove it; it is made again.") from error
        if header["format"] != FORMAT:
            raise StoreError(
                f"The run {str(path)!r} has format {header['format']}, this version of Nasturtium reads {FORMAT}. "
                "Remove it, or take another folder."
            )
        return cls(
            settings=header["settings"], extremes=header["extremes"], facts=header["facts"], report=report, **arrays
        )


_ARRAYS = (
    "number", "key", "fidelity", "share", "values", "violation", "failed", "start", "end", "worker", "ask_seconds",
    "tell_seconds",
)  # fmt: skip


def running_best(values: Floats, direction: str) -> Floats:
    """The best of the values so far; NaN is skipped."""
    if direction == "maximize":
        return np.fmax.accumulate(values) if len(values) else values
    return np.fmin.accumulate(values) if len(values) else values
