"""Open a study's database: engine, pragmas, schema version, and errors that say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from nasturtium.errors import InvalidInputError, MissingExtraError, StoreError
from nasturtium.study.schema import HEAD, VERSION_TABLE

BUSY_SECONDS = 30.0
_SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a study lives: the database and the directory of its trials' files."""

    url: URL
    files: Path
    text: str
    """What the user gave; for messages and for the line that says how to go on."""

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a database server."""
        if self.url.get_backend_name() != "sqlite" or not self.url.database:
            return None
        return Path(self.url.database)


def locate(study: str | Path | URL, files: str | Path | None = None) -> Location:
    """Read a path ("runs/digits.db") or a URL ("sqlite:///…", "postgresql+psycopg://…").

    Args:
        study: A path of a SQLite file, or a SQLAlchemy URL.
        files: Directory of weights and checkpoints; default `<study>.files` beside a SQLite file, and
            `<database>.files` in the current directory for a server.

    Raises:
        InvalidInputError: not a URL that SQLAlchemy knows, or an in-memory database.
    """
    text = study.render_as_string(hide_password=True) if isinstance(study, URL) else str(study)
    if not text.strip():
        raise InvalidInputError("`study` must be a path such as 'runs/digits.db' or a database URL, got ''.")
    try:
        url = study if isinstance(study, URL) else make_url(text) if "://" in text else _sqlite_url(Path(text))
    except ArgumentError as error:
        raise InvalidInputError(f"`study` must be a path or a database URL, got {text!r} ({error}).") from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidInputError(f"A study must survive its process, so {text!r} cannot hold one; give a file.")
    if files is None:
        database = Path(url.database or "study")
        files = (
            database.with_name(database.name + ".files")
            if url.get_backend_name() == "sqlite"
            else Path(f"{database.name}.files")
        )
    return Location(url=url, files=Path(files), text=text)


def _sqlite_url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def connect(location: Location, *, create: bool) -> Engine:
    """Open the database with the schema of this version, creating or upgrading it in one transaction.

    Raises:
        StoreError: not a study, corrupt, a newer schema, no permission, or (without `create`) absent.
        MissingExtraError: the URL's driver is not installed.
    """
    path = location.path
    if path is not None:
        _check_file(path, create)
    try:
        engine = sa.create_engine(location.url)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise MissingExtraError(
            f"The study {location.text!r} needs the driver of {location.url.drivername!r} ({error}); "
            "run `pip install 'nasturtium[postgresql]'` for PostgreSQL."
        ) from error
    if path is not None:
        _configure_sqlite(engine)
    with translated(location):
        _migrate(engine, location)
    return engine


def _check_file(path: Path, create: bool) -> None:
    if path.is_dir():
        raise StoreError(
            f"The study must be a file, but {str(path)!r} is a directory; give a path such as '{path}/study.db'."
        )
    if not path.exists():
        if not create:
            raise StoreError(f"There is no study at {str(path)!r}; `nasturtium search … --study {path}` makes one.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The directory of the study {str(path)!r} cannot be made: {error}.") from error
        return
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StoreError(f"The study {str(path)!r} cannot be read: {error}.") from error
    if head and head != _SQLITE_MAGIC:
        raise StoreError(
            f"The study {str(path)!r} is not a SQLite file: it begins with {head!r}. It is another file or is damaged; "
            "nothing was written to it. Give another path, or restore it from a copy."
        )


def _configure_sqlite(engine: Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001  (SQLAlchemy's signature)
        connection.isolation_level = None  # transactions are begun below, explicitly
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("nasturtium_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _migrate(engine: Engine, location: Location) -> None:
    with engine.connect().execution_options(nasturtium_reads=True) as connection:
        current = _revision(connection, location)
    if location.path is not None:
        _use_wal(engine)  # kept in the file; not before it is known to be a study, or empty
    if current == HEAD:
        return
    with engine.begin() as connection:
        current = _revision(connection, location)  # another process may have been first
        if current != HEAD:
            _upgrade(connection)


def _use_wal(engine: Engine) -> None:
    connection = engine.raw_connection()  # the mode cannot be changed inside a transaction
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  (0.2 s that opening a current study does not need)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "nasturtium.study:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection, location: Location) -> str | None:
    tables = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        if "study" in tables or (tables and location.path is not None):
            raise StoreError(
                f"{location.text!r} is a database, but not a study: it holds the tables {', '.join(sorted(tables))}. "
                "Nothing was written to it; give another path."
            )
        return None
    row = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).first()  # noqa: S608  (a constant)
    current = None if row is None else str(row[0])
    if current is not None and current > HEAD:
        raise StoreError(
            f"The study {location.text!r} was written by a newer nasturtium: its schema is {current}, this version "
            f"knows up to {HEAD}. Upgrade nasturtium to open it; nothing was written to it."
        )
    return current


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Turn a database's errors into one paragraph that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(_explain(location, error)) from error
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise StoreError(f"The study {location.text!r} cannot be used: {error}.") from error


def _explain(location: Location, error: DBAPIError) -> str:
    cause = " ".join(str(error.orig).split())
    study = f"The study {location.text!r}"
    if "malformed" in cause or "not a database" in cause:
        return f"{study} is damaged ({cause}). Restore it from a copy, or give another path; nothing was written to it."
    if "full" in cause or "disk I/O" in cause:
        return (
            f"{study} could not be written: no space is left on its disk, or the disk fails ({cause}). All that was "
            "finished is kept; free some space and run the same command again."
        )
    if "unable to open" in cause or "readonly" in cause or "read-only" in cause:
        return f"{study} cannot be opened for writing ({cause}); check the permissions of the file and its directory."
    if "locked" in cause:
        return f"{study} was locked by another process for {BUSY_SECONDS:.0f} s ({cause}); find it, then run again."
    return f"{study} cannot be used ({cause})."
