"""A table as an estimator: each estimate is a look-up, with the seconds of the training on a simulated clock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import inf, nan, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError, InvalidInputError, TrialError, UnknownNameError
from nasturtium.estimators.protocol import Job
from nasturtium.estimators.tables.column import ROLES, Column, Role
from nasturtium.space import Architecture, Space
from nasturtium.space.listed import Rows
from nasturtium.tasks import Task
from nasturtium.tasks.dataless import without_data
from nasturtium.trial import METRICS, Constraint, Metric, Objective, Problem
from nasturtium.trial import constraints as read_constraints
from nasturtium.trial.types import FULL, Direction, Fidelity

TABULAR_VERSION = 1
TOLERANCE = 1e-6
"""Two fidelities whose shares differ by less are the same."""

SHOWN = 3
"""Metrics that the text of a table names."""

Values = NDArray[np.floating[Any]]

Equal = Callable[[Architecture], tuple[str, int | None]]
"""The identity of an architecture that may be a row under other decisions, and that row (None: not in the table)."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tabular:
    """Known results as an estimator: each estimate is a look-up, at the simulated cost of the training.

    Two rows are two networks to a table, even where they compute the same function: they were trained apart and have
    different numbers. So `key` tells rows apart, and a search of `problem` or of `nas.search` uses it in place of the
    canonical hash, as it uses the table's cheap columns in place of the cost model.

    What a search may read are the columns of the roles "validation", "cheap" and "seconds". Test columns come out of
    `report` only.

    Args:
        name: For people.
        space: The space whose architectures have rows.
        rows: `(rows, decisions)` decision indices (`Space.indices`) of each row; -1 for an inactive decision.
        columns: Of as many numbers each.
        input_shape: Of the task on which the networks were trained.
        classes: Of that task.
        equal: Finds an architecture's row where its decisions are not those of a row; for tables that hold one of
            several equal networks.
        source: How `nas.estimators.table` opens it again in another process; None for a table in memory.

    Raises:
        InvalidInputError: a column has another length, two are the same, a row is repeated, or there is no
            validation column.
    """

    name: str
    space: Space
    rows: NDArray[np.integer[Any]]
    columns: Sequence[Column]
    input_shape: tuple[int, ...] = (3, 32, 32)
    classes: int = 10
    equal: Equal | None = None
    source: Mapping[str, Any] | None = None
    _rows: Rows = field(init=False)
    _known: Mapping[Role, Mapping[Fidelity, Mapping[str, Values]]] = field(init=False)

    def __post_init__(self) -> None:
        rows = Rows(self.rows)
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "rows", rows.matrix)
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        known: dict[Role, dict[Fidelity, dict[str, Values]]] = {role: {} for role in ROLES}
        for column in self.columns:
            found = known[column.role].setdefault(column.fidelity, {})
            if column.metric in found:
                raise InvalidInputError(f"The table {self.name!r} has two columns {_title(column)}.")
            if len(column.values) != len(rows):
                raise InvalidInputError(
                    f"The column {_title(column)} must have one number for each of {len(rows):,} rows, got "
                    f"{len(column.values):,}."
                )
            found[column.metric] = column.values
        object.__setattr__(self, "_known", known)
        if FULL not in known["validation"]:
            raise InvalidInputError(f"The table {self.name!r} needs a validation column at full fidelity.")
        repeated = rows.first_repeated()
        if repeated is not None:
            raise InvalidInputError(
                f"The rows {repeated[0]} and {repeated[1]} of the table {self.name!r} are the same architecture: merge "
                "them (their mean, say), or leave one out."
            )

    # -- what it holds -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def task(self) -> Task:
        """The task of the networks, without its images: shape and classes. Reading a split raises `DataError`."""
        return without_data(self.name, self.input_shape, self.classes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What an estimate measures."""
        return tuple(self._known["validation"][FULL])

    @property
    def cheap(self) -> tuple[str, ...]:
        """What is known of an architecture before it is trained."""
        return tuple(self._known["cheap"].get(FULL, ()))

    @cached_property
    def fidelities(self) -> tuple[Fidelity, ...]:
        """At which estimates are known, the cheapest first, the full one last."""
        return tuple(sorted(self._known["validation"], key=_cost))

    @property
    def timed(self) -> bool:
        """Whether the table has training times; else a full evaluation counts as 1 s on the simulated clock."""
        return bool(self._known["seconds"])

    def architecture(self, row: int) -> Architecture:
        """The architecture of a row."""
        if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not 0 <= row < len(self):
            raise InvalidInputError(f"`row` must be an integer in [0, {len(self):,}), got {row!r}.")
        return self.space.of_indices(self._rows.row(int(row)))

    def column(self, metric: str, fidelity: Fidelity = FULL, role: Role = "validation") -> NDArray[np.floating[Any]]:
        """All rows' numbers of a metric, read-only, for figures and for measuring regret."""
        found = self._at(role, fidelity)
        if metric not in found:
            raise UnknownNameError(f"{role} column of the table {self.name!r}", metric, found)
        return found[metric]

    def best(self, metric: str = "accuracy", direction: Direction = "maximize") -> tuple[float, Architecture]:
        """The best value of a metric over all rows at full fidelity, and its architecture (the first of several)."""
        if metric not in self.metrics and metric not in self.cheap:
            raise UnknownNameError(f"metric of the table {self.name!r}", metric, (*self.metrics, *self.cheap))
        values = self.column(metric, role="validation" if metric in self.metrics else "cheap")
        row = int(np.nanargmax(values) if direction == "maximize" else np.nanargmin(values))
        return float(values[row]), self.architecture(row)

    # -- looking up --------------------------------------------------------------------------------------------------

    def row(self, architecture: Architecture) -> int | None:
        """The row of an architecture; None where the table has none."""
        row = self._rows.find(self.space.indices(architecture))
        if row is None and self.equal is not None:
            return self.equal(architecture)[1]
        return row

    def key(self, architecture: Architecture) -> str:
        """Identity of an architecture: its row, where it has one."""
        row = self._rows.find(self.space.indices(architecture))
        if row is not None:
            return f"row {row}"
        if self.equal is None:
            return f"no row {architecture.key}"
        key, row = self.equal(architecture)
        return f"no row {key}" if row is None else f"row {row}"

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Look the validation metrics up.

        Args:
            architecture: One with a row.
            fidelity: One of `fidelities`.
            job: Not needed: seed and data are those of the table.

        Returns:
            The metrics at this fidelity; and "train_seconds", the simulated seconds, where the table has times.

        Raises:
            TrialError: the table has no row for it, or no result of it at this fidelity; kind "missing".
            InvalidInputError: the table has no such fidelity.
        """
        row = self._row(architecture)
        found = {}
        for name, values in self._at("validation", fidelity).items():
            value = float(values[row])
            if value == value:
                found[name] = value
        if not found:
            raise TrialError(
                f"The table {self.name!r} has no result of architecture {architecture.key} at {_text(fidelity)}: it "
                "was not measured there, or failed.",
                kind="missing",
            )
        if self.timed:
            found["train_seconds"] = self._seconds(row, fidelity)
        return found

    def cheap_metrics(self, architecture: Architecture) -> dict[str, float]:
        """What is known of an architecture before it is trained; NaN, which meets no limit, where the table lacks it.

        Of an architecture without a row nothing is known: a strategy that asks for it is told so, and no more.
        """
        row = self.row(architecture)
        known = self._known["cheap"].get(FULL, {})
        return {name: nan if row is None else float(values[row]) for name, values in known.items()}

    def report(self, architecture: Architecture) -> dict[str, float]:
        """Columns that are for the report only, such as "test_accuracy": nothing that searches may read them.

        Raises:
            TrialError: the table has no row for it.
        """
        row = self._row(architecture)
        return {n: float(v[row]) for n, v in self._known["test"].get(FULL, {}).items() if v[row] == v[row]}

    def seconds(self, architecture: Architecture, fidelity: Fidelity = FULL) -> float:
        """What one evaluation costs on the simulated clock.

        The table's time at this fidelity; else its time at full fidelity, or 1.0 where it has no times, multiplied by
        the shares of epochs, data and seconds.

        Raises:
            TrialError: the table has no row for it, or no time.
        """
        return self._seconds(self._row(architecture), fidelity) if self.timed else _share(fidelity)

    def _seconds(self, row: int, fidelity: Fidelity) -> float:
        known = self._known["seconds"]
        same = self._same("seconds", fidelity)
        for place, factor in ((same, 1.0), (FULL, _share(fidelity))):
            for values in known.get(place, {}).values() if place is not None else ():
                if values[row] == values[row]:
                    return float(values[row]) * factor
        raise TrialError(
            f"The table {self.name!r} has no training time of row {row} at {_text(fidelity)}.", kind="missing"
        )

    def _row(self, architecture: Architecture) -> int:
        row = self.row(architecture)
        if row is None:
            raise TrialError(
                f"The table {self.name!r} has no row for architecture {architecture.key}: it holds {len(self):,} "
                "architectures of this space. Search `table.space`, or `Space.from_table(space, architectures)`, whose "
                "every architecture has a row.",
                kind="missing",
            )
        return row

    def _at(self, role: Role, fidelity: Fidelity) -> Mapping[str, Values]:
        """The columns of a role at a fidelity."""
        same = self._same(role, fidelity)
        if same is None:
            known = ", ".join(map(_text, self.fidelities))
            raise InvalidInputError(
                f"The table {self.name!r} has no {role} columns at {_text(fidelity)}; it has results at {known} "
                "(`table.fidelities`)."
            )
        return self._known[role][same]

    def _same(self, role: Role, fidelity: Fidelity) -> Fidelity | None:
        """The table's own fidelity that equals a given one but for rounding; None where it has none."""
        if fidelity in self._known[role]:
            return fidelity
        given = asdict(fidelity)
        for known in self._known[role]:
            if all(abs(given[name] - share) < TOLERANCE for name, share in asdict(known).items()):
                return known
        return None

    # -- as an estimator and as a problem ----------------------------------------------------------------------------

    def problem(
        self,
        objectives: Sequence[Objective] = (Objective(metric="accuracy", direction="maximize"),),
        constraints: str | Constraint | Sequence[str | Constraint] = (),
        seed: int = 0,
        trials: int | None = None,
    ) -> Problem:
        """What a strategy is asked to solve on this table.

        Args:
            objectives: Over `metrics` and `cheap`.
            constraints: On the same.
            seed: Of the strategy.
            trials: Budget, where one is set.

        Raises:
            UnknownNameError: an objective or a constraint is on what the table does not have.
        """
        limits = read_constraints(constraints, extra=self.known_metrics)
        known = (*self.metrics, *self.cheap, "train_seconds") if self.timed else (*self.metrics, *self.cheap)
        for metric in (*[o.metric for o in objectives], *[c.metric for c in limits]):
            if metric not in known:
                raise UnknownNameError(f"metric of the table {self.name!r}", metric, known)
        return Problem(
            space=self.space, objectives=tuple(objectives), constraints=limits, seed=seed, trials=trials,
            cheap_metrics=self.cheap_metrics, key=self.key,
        )  # fmt: skip

    @cached_property
    def known_metrics(self) -> Mapping[str, Metric]:
        """The table's metrics that are not the library's own, for the objectives and constraints of a search."""
        names = [(name, False) for name in self.metrics] + [(name, True) for name in self.cheap]
        return {name: _metric(name, cheap) for name, cheap in names if name not in METRICS}

    @property
    def deterministic(self) -> bool:
        """True."""
        return True

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the space, the rows and the columns."""
        digest = hashlib.sha256(f"{TABULAR_VERSION}{self.space.fingerprint}{self.input_shape}{self.classes}".encode())
        digest.update(self.rows.astype(np.int64).tobytes())
        for column in self.columns:
            digest.update(_title(column).encode())
            digest.update(column.values.tobytes())
        return digest.hexdigest()

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Zero: a look-up takes no time to speak of. Simulated time is `seconds`."""
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: where the table is found and its fingerprint; a small table in memory is written out whole."""
        stored = {"version": TABULAR_VERSION, "type": "tabular", "fingerprint": self.fingerprint}
        if self.source is not None:
            return stored | {"source": dict(self.source)}
        from nasturtium.estimators.tables.plain import inline  # noqa: PLC0415

        return stored | {"table": inline(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tabular:
        """Inverse of `to_dict`.

        Raises:
            DataError: the table cannot be found, or is no longer what it was.
        """
        from nasturtium.estimators.tables.catalog import table  # noqa: PLC0415

        if data.get("version") != TABULAR_VERSION or not {"source", "table"} & set(data):
            raise InvalidInputError(
                f"A stored table must have version {TABULAR_VERSION} and a source, got {json.dumps(data)[:200]}."
            )
        if "source" in data:
            made = table(**data["source"])
        else:
            from nasturtium.estimators.tables.plain import from_inline  # noqa: PLC0415

            made = from_inline(data["table"])
        if made.fingerprint != data.get("fingerprint"):
            raise DataError(
                f"The table {made.name!r} is not what it was: its fingerprint must be "
                f"{str(data.get('fingerprint'))[:16]}…, got {made.fingerprint[:16]}…. Put the old file back, or begin "
                "a new study."
            )
        return made

    def save(self, path: str | Path) -> Path:
        """Write it in the plain format, by the suffix: ".npz" or ".parquet" (needs `nasturtium[parquet]`).

        Returns:
            The path; `nas.estimators.table(path)` reads it.

        Raises:
            InvalidInputError: another suffix.
            MissingExtraError: pyarrow is not installed.
            StoreError: it cannot be written.
        """
        from nasturtium.estimators.tables.plain import write  # noqa: PLC0415

        return write(self, Path(path))

    def __repr__(self) -> str:
        shown = ", ".join(self.metrics[:SHOWN]) + (" …" if len(self.metrics) > SHOWN else "")
        return f"<Tabular {self.name!r}: {len(self):,} rows of {shown}>"


def _metric(name: str, cheap: bool) -> Metric:
    """A metric of which the name is all that is known."""
    if name.startswith("latency") or name.endswith("seconds"):
        return Metric(name=name, unit="seconds", cheap=cheap)
    if "accuracy" in name:
        return Metric(name=name, unit="fraction", cheap=cheap, direction="maximize", highest=1.0)
    return Metric(name=name, cheap=cheap, lowest=-inf)


def _cost(fidelity: Fidelity) -> tuple[float, ...]:
    shares = asdict(fidelity)
    return prod(shares.values()), *shares.values()


def _share(fidelity: Fidelity) -> float:
    """The part of a full training's time that can be told from the fidelity alone."""
    return fidelity.epochs * fidelity.data * fidelity.seconds


def _text(fidelity: Fidelity) -> str:
    """A fidelity for people."""
    shares = [f"{name}={value:g}" for name, value in asdict(fidelity).items() if value != 1.0]
    return f"fidelity {', '.join(shares)}" if shares else "full fidelity"


def _title(column: Column) -> str:
    return f"{column.metric!r} ({column.role}, {_text(column.fidelity)})"
