"""The log of a study. Every state change is one transaction, so a process may die at any instant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from nasturtium.errors import StoreError
from nasturtium.space import Architecture
from nasturtium.study import schema
from nasturtium.study.database import Location, connect, translated
from nasturtium.study.lease import Lease
from nasturtium.trial.types import Fidelity, Proposal, Trial

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """What a study is of: its identity, and what made it."""

    space: Json
    space_fingerprint: str
    task: Json
    task_fingerprint: str
    settings: Json
    versions: Json
    hardware: Json
    created: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One strategy's run within a study."""

    id: int
    role: str
    budget: int
    status: str
    """"running", "finished", "exhausted" or "stopped"."""
    reason: str | None
    seconds: float
    """Wall time spent on it so far, over all sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedProposal:
    """A proposal, and how many trials its strategy had been told before."""

    proposal: Proposal
    told: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTrial:
    """A finished trial, and where it stands in the order of completion."""

    trial: Trial
    position: int
    attempts: int = 1
    test_metrics: Mapping[str, float] | None = None


@dataclass(slots=True)
class Store:
    """One study in a database.

    Reading is always allowed. Writing needs `acquire`; each write is one transaction that first confirms the lease.
    """

    location: Location
    engine: Engine
    decode: Callable[[Json], Architecture]
    name: str = "study"
    _study_id: int | None = None
    _lease: Lease | None = None

    @classmethod
    def open(
        cls,
        location: Location,
        *,
        create: bool = False,
        decode: Callable[[Json], Architecture] = Architecture.from_dict,
    ) -> Self:
        """Open the database, creating it or upgrading its schema.

        Raises:
            StoreError: see `database.connect`.
        """
        return cls(location=location, engine=connect(location, create=create), decode=decode)

    def close(self) -> None:
        """Release the lease and the connections."""
        try:
            if self._lease is not None:
                self._lease.release()
        finally:
            self._lease = None
            self.engine.dispose()

    # -- the study ---------------------------------------------------------------------------------------------------

    def record(self) -> StudyRecord | None:
        """What is stored about the study; None before it was created."""
        with self._reading() as connection:
            row = connection.execute(sa.select(schema.study).where(schema.study.c.name == self.name)).mappings().first()
        if row is None:
            return None
        self._study_id = int(row["id"])
        names = (
            "space",
            "space_fingerprint",
            "task",
            "task_fingerprint",
            "settings",
            "versions",
            "hardware",
            "created",
        )
        return StudyRecord(**{name: row[name] for name in names})

    def create(self, record: StudyRecord) -> None:
        """Store a new study and take the right to write to it.

        Two processes may come here at once: one creates the study, the other finds it.
        """
        values = asdict(record) | {"created": time.time(), "name": self.name}
        with translated(self.location), self.engine.begin() as connection:
            query = sa.select(schema.study.c.id).where(schema.study.c.name == self.name)
            if connection.execute(query).first() is None:
                connection.execute(sa.insert(schema.study).values(**values))
            known = connection.execute(query).scalar_one()
        self._study_id = int(known)

    def acquire(self) -> None:
        """Take the right to write; held until `close`.

        Raises:
            StoreError: another live process holds it.
        """
        lease = Lease(self.engine, self.location, self._id)
        lease.acquire()
        self._lease = lease

    def update_settings(self, settings: Json) -> None:
        """Store settings whose free part (workers, limits …) changed."""
        with self._writing() as connection:
            where = schema.study.c.id == self._id
            connection.execute(sa.update(schema.study).where(where).values(settings=settings))

    # -- runs --------------------------------------------------------------------------------------------------------

    def runs(self) -> tuple[RunRecord, ...]:
        """All runs, in the order of their creation."""
        if self._study_id is None and self.record() is None:
            return ()
        with self._reading() as connection:
            query = sa.select(schema.run).where(schema.run.c.study_id == self._id).order_by(schema.run.c.id)
            rows = connection.execute(query).mappings().all()
        return tuple(_run(row) for row in rows)

    def ensure_run(self, role: str, budget: int) -> RunRecord:
        """The run of a role, created if need be; a larger budget than the stored one extends it."""
        table = schema.run
        where = (table.c.study_id == self._id) & (table.c.role == role)
        with self._writing() as connection:
            row = connection.execute(sa.select(table).where(where)).mappings().first()
            if row is None:
                values = {"study_id": self._id, "role": role, "budget": budget, "status": "running", "seconds": 0.0}
                connection.execute(sa.insert(table).values(**values))
            elif budget > row["budget"]:
                connection.execute(sa.update(table).where(where).values(budget=budget, status="running", reason=None))
            row = connection.execute(sa.select(table).where(where)).mappings().one()
        return _run(row)

    def set_status(self, run_id: int, status: str, reason: str | None = None) -> None:
        """Say how a run stands."""
        with self._writing() as connection:
            where = schema.run.c.id == run_id
            connection.execute(sa.update(schema.run).where(where).values(status=status, reason=reason))

    # -- the log -----------------------------------------------------------------------------------------------------

    def proposals(self, run_id: int) -> list[LoggedProposal]:
        """All proposals of a run, in number order."""
        table = schema.proposal
        with self._reading() as connection:
            query = sa.select(table).where(table.c.run_id == run_id).order_by(table.c.number)
            rows = connection.execute(query).mappings().all()
        return [LoggedProposal(proposal=self._proposal(row), told=row["told"]) for row in rows]

    def trials(self, run_id: int) -> list[LoggedTrial]:
        """All finished trials of a run, in number order."""
        table, origin = schema.trial, schema.proposal
        joined = table.join(origin, (table.c.run_id == origin.c.run_id) & (table.c.number == origin.c.number))
        columns = [origin.c[name] for name in ("architecture", "fidelity", "parents", "origin")]
        with self._reading() as connection:
            query = sa.select(table, *columns).select_from(joined).where(table.c.run_id == run_id)
            rows = connection.execute(query.order_by(table.c.number)).mappings().all()
        return [self._trial(row) for row in rows]

    def add_proposal(self, run_id: int, proposal: Proposal, told: int) -> None:
        """Log a proposal before anything is done with it."""
        with self._writing() as connection:
            connection.execute(
                sa.insert(schema.proposal).values(
                    run_id=run_id,
                    number=proposal.number,
                    architecture=proposal.architecture.to_dict(),
                    architecture_key=proposal.architecture.key,
                    fidelity=asdict(proposal.fidelity),
                    parents=list(proposal.parents),
                    origin=proposal.origin,
                    told=told,
                )
            )

    def add_trial(self, run_id: int, logged: LoggedTrial, session_seconds: float = 0.0) -> None:
        """Log an outcome; `session_seconds` is the wall time since the last one."""
        trial = logged.trial
        with self._writing() as connection:
            connection.execute(
                sa.insert(schema.trial).values(
                    run_id=run_id,
                    number=trial.number,
                    position=logged.position,
                    state=trial.state,
                    metrics=dict(trial.metrics),
                    error=trial.error,
                    error_kind=trial.error_kind,
                    seconds=trial.seconds,
                    attempts=logged.attempts,
                    finished=time.time(),
                )
            )
            spent = schema.run.c.seconds + session_seconds
            connection.execute(sa.update(schema.run).where(schema.run.c.id == run_id).values(seconds=spent))

    def set_test_metrics(self, run_id: int, number: int, metrics: Mapping[str, float]) -> None:
        """Store what was measured on the test split; a second time is an error of the caller."""
        table = schema.trial
        where = (table.c.run_id == run_id) & (table.c.number == number)
        with translated(self.location), self.engine.begin() as connection:
            connection.execute(sa.update(table).where(where).values(test_metrics=dict(metrics)))

    def add_report(self, run_id: int, number: int, step: int, report: Mapping[str, float]) -> None:
        """Log one epoch of a trial; an epoch that is repeated after a kill replaces the earlier report."""
        table = schema.curve
        key = {"run_id": run_id, "number": number, "step": step}
        finite = {name: value if math.isfinite(value) else None for name, value in report.items()}
        with self._writing() as connection:
            connection.execute(sa.delete(table).where(*(table.c[name] == value for name, value in key.items())))
            connection.execute(sa.insert(table).values(**key, report=finite))

    def curves(self, run_id: int, number: int) -> list[dict[str, float | None]]:
        """Per-epoch reports of one trial, in order; a value that was not finite is None."""
        table = schema.curve
        with self._reading() as connection:
            query = sa.select(table).where(table.c.run_id == run_id, table.c.number == number).order_by(table.c.step)
            return [dict(row["report"]) for row in connection.execute(query).mappings()]

    def add_event(self, kind: str, detail: Json | None = None) -> None:
        """Log what happened to the study ("started", "interrupted", "worker lost" …)."""
        with self._writing() as connection:
            values = {"study_id": self._id, "time": time.time(), "kind": kind, "detail": detail or {}}
            connection.execute(sa.insert(schema.event).values(**values))

    def events(self) -> list[tuple[float, str, Json]]:
        """(unix time, kind, detail) in order."""
        table = schema.event
        with self._reading() as connection:
            query = sa.select(table).where(table.c.study_id == self._id).order_by(table.c.id)
            return [(row["time"], row["kind"], row["detail"]) for row in connection.execute(query).mappings()]

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _id(self) -> int:
        if self._study_id is None and self.record() is None:
            raise StoreError(f"{self.location.text!r} holds no study named {self.name!r} yet.")
        assert self._study_id is not None
        return self._study_id

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self.location), self.engine.connect() as connection:
            yield connection.execution_options(nasturtium_reads=True)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._lease is None:
            raise StoreError(f"The study {self.location.text!r} was opened for reading; `search` and `resume` write.")
        with translated(self.location), self.engine.begin() as connection:
            self._lease.check(connection)
            yield connection

    def _proposal(self, row: RowMapping) -> Proposal:
        return Proposal(
            number=row["number"],
            architecture=self.decode(row["architecture"]),
            fidelity=Fidelity(**row["fidelity"]),
            parents=tuple(row["parents"]),
            origin=row["origin"],
        )

    def _trial(self, row: RowMapping) -> LoggedTrial:
        proposal = self._proposal(row)
        trial = Trial(
            number=proposal.number,
            architecture=proposal.architecture,
            fidelity=proposal.fidelity,
            parents=proposal.parents,
            origin=proposal.origin,
            state=row["state"],
            metrics=row["metrics"],
            error=row["error"],
            error_kind=row["error_kind"],
            seconds=row["seconds"],
        )
        return LoggedTrial(
            trial=trial, position=row["position"], attempts=row["attempts"], test_metrics=row["test_metrics"]
        )


def _run(row: RowMapping) -> RunRecord:
    names = ("id", "role", "budget", "status", "reason", "seconds")
    return RunRecord(**{name: row[name] for name in names})
