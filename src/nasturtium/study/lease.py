"""The right to write to a study: one process at a time, taken over at once when that process is dead."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from nasturtium.errors import NasturtiumError, StoreError
from nasturtium.study import schema
from nasturtium.study.database import Location, translated

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A holder on another host that was silent for this long is taken for dead."""


@dataclass(slots=True)
class Lease:
    """Holds a study for this process. Every write transaction calls `check` first.

    On one host a dead holder is recognised by its process number and start time, so a killed search can be continued
    at once. A holder on another host (PostgreSQL) counts as dead after `STALE_SECONDS` without a heartbeat.
    """

    engine: Engine
    location: Location
    study_id: int
    owner: str = field(default_factory=lambda: secrets.token_hex(16))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the study.

        Raises:
            StoreError: another live process holds it; the message says which.
        """
        table = schema.lease
        with translated(self.location), self.engine.begin() as connection:
            held = connection.execute(sa.select(table).where(table.c.study_id == self.study_id)).mappings().first()
            if held is not None:
                if _alive(held):
                    raise StoreError(_in_use(self.location, held))
                connection.execute(sa.delete(table).where(table.c.study_id == self.study_id))
            now = time.time()
            connection.execute(
                sa.insert(table).values(
                    study_id=self.study_id, owner=self.owner, host=socket.gethostname(), pid=os.getpid(),
                    process_started=psutil.Process().create_time(), acquired=now, heartbeat=now,
                )
            )  # fmt: skip
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="nasturtium-heartbeat", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the study back; harmless when it is not held."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        table = schema.lease
        with translated(self.location), self.engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.owner == self.owner))

    def check(self, connection: Connection) -> None:
        """Within a write transaction: confirm that this process still holds the study, and say that it lives."""
        table = schema.lease
        result = connection.execute(sa.update(table).where(table.c.owner == self.owner).values(heartbeat=time.time()))
        if result.rowcount != 1:
            raise StoreError(
                f"This process no longer holds the study {self.location.text!r}: another one took it over, as this one "
                f"gave no sign of life for {STALE_SECONDS:.0f} s. What was finished is kept; the other process goes on."
            )

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                with translated(self.location), self.engine.begin() as connection:
                    self.check(connection)
            except NasturtiumError:  # the search's next own write meets the same error and reports it
                return


def _alive(held: RowMapping) -> bool:
    if held["host"] != socket.gethostname():
        return bool(time.time() - held["heartbeat"] < STALE_SECONDS)
    try:
        process = psutil.Process(held["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - held["process_started"]) < 1.0
    except psutil.NoSuchProcess:
        return False


def _in_use(location: Location, held: RowMapping) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["acquired"]))
    return (
        f"The study {location.text!r} is in use: process {held['pid']} on host {held['host']!r} works on it since "
        f"{since}. One process writes to a study at a time (several workers come by `workers`); wait until it ends or "
        "stop it, then run the same command again, or give another `study`. Reading (`nasturtium status`) always works."
    )
