"""Tables of a study. Portable SQL only: what SQLite holds, PostgreSQL holds as well.

Numbers that a search depends on (metrics, decisions) are JSON, whose floats round-trip exactly.
A change here needs a migration in `migrations/versions` and a new `HEAD`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

HEAD = "0001"
"""Newest schema revision that this version of the library knows."""

VERSION_TABLE = "nasturtium_version"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("created", Float, nullable=False),
    Column("space", JSON, nullable=False),
    Column("space_fingerprint", Text, nullable=False),
    Column("task", JSON, nullable=False),
    Column("task_fingerprint", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("hardware", JSON, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("role", String(100), nullable=False),
    Column("budget", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text),
    Column("seconds", Float, nullable=False),
    UniqueConstraint("study_id", "role"),
)

proposal = Table(
    "proposal",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("architecture", JSON, nullable=False),
    Column("architecture_key", Text, nullable=False),
    Column("fidelity", JSON, nullable=False),
    Column("parents", JSON, nullable=False),
    Column("origin", Text, nullable=False),
    Column("told", Integer, nullable=False),
)
"""`told`: how many trials the strategy had been told when it proposed this one; what replaying needs."""

trial = Table(
    "trial",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("error", Text),
    Column("error_kind", String(20)),
    Column("seconds", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("finished", Float, nullable=False),
    Column("test_metrics", JSON),
)
"""`position`: order of completion. `test_metrics`: measured once, on what is exported; no strategy sees them."""

curve = Table(
    "curve",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("report", JSON, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("time", Float, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("detail", JSON, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("owner", String(40), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("acquired", Float, nullable=False),
    Column("heartbeat", Float, nullable=False),
)
"""The one process that may write to a study."""
