"""The file of a study: its schema, what is refused, and what a failing disk leaves."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
import study_fakes as fakes

import nasturtium as nas
from nasturtium.errors import InfeasibleError, InvalidInputError, StoreError, StudyMismatchError
from nasturtium.study import Study, schema
from nasturtium.study.database import connect, locate


def test_migrations_give_the_schema_that_the_code_uses(tmp_path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = connect(locate(tmp_path / "new.db"), create=True)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.HEAD
    config = Config()
    config.set_main_option("script_location", "nasturtium.study:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]
    engine.dispose()


def test_pragmas(tmp_path) -> None:
    engine = connect(locate(tmp_path / "new.db"), create=True)
    with engine.connect() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys")
        values = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    engine.dispose()


def test_a_newer_schema_is_refused_and_untouched(run, tmp_path) -> None:
    run(trials=1, concurrency=1)
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    for attempt in (lambda: run(trials=2), lambda: Study.open(path)):
        with pytest.raises(StoreError, match=r"newer nasturtium: its schema is 9999, this version knows up to"):
            attempt()


def test_what_is_no_study_is_refused_and_untouched(run, tmp_path) -> None:
    text = tmp_path / "text.db"
    text.write_text("dear diary, " * 500)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE songs (name)")
    before = text.read_bytes(), other.read_bytes()
    for name, message in (("text.db", "not a SQLite file"), ("other.db", "not a study: it holds the tables songs")):
        with pytest.raises(StoreError, match=message):
            run(name)
        with pytest.raises(StoreError, match=message):
            Study.open(tmp_path / name)
    assert (text.read_bytes(), other.read_bytes()) == before
    with pytest.raises(StoreError, match="is a directory"):
        run(str(tmp_path), study=tmp_path)
    with pytest.raises(StoreError, match="no study at"):
        Study.open(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(StoreError, match="cannot be made"):
        run(study=text / "inside" / "study.db")
    for address in ("sqlite://", "sqlite:///:memory:", "", "nonsense://x"):
        with pytest.raises((InvalidInputError, nas.errors.MissingExtraError)):
            run(study=address)


@pytest.mark.parametrize("damage", ["middle", "cut", "header"])
def test_a_damaged_study_is_a_clear_error(run, tmp_path, damage) -> None:
    run(trials=30, fake={"epochs": 1})
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    if damage == "middle":
        content[4096:] = os.urandom(len(content) - 4096)
    elif damage == "cut":
        del content[4096:]
    else:
        content[18:100] = bytes(82)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|not a study|cannot be used|malformed"):
        run(trials=30, fake={"epochs": 1})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_a_clear_error(run, tmp_path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="permissions"):
        run(study=closed / "study.db")


def test_a_study_of_other_settings_is_refused_with_the_difference(run) -> None:
    run(trials=3)
    cases = {
        "space": {"space": fakes.space(largest=7)},
        "seed: the study has 0, given 3": {"seed": 3},
        "concurrency: the study has 4, given 2": {"concurrency": 2},
        "estimator.arguments.epochs: the study has 3, given 5": {"fake": {"epochs": 5}},
        "strategy.arguments.wait_every: the study has 0, given 2": {"climber": {"wait_every": 2}},
        "objectives": {"minimize": "params"},
        "constraints": {"constraints": ["params <= 5k"]},
        "data: the study has digits": {"task": nas.tasks.load("digits", seed=1)},
    }
    for message, options in cases.items():
        with pytest.raises(StudyMismatchError, match=message):
            run(**({"trials": 3} | options))
    with pytest.raises(StudyMismatchError) as caught:
        run(trials=3, seed=3, concurrency=1)
    assert ("seed", 0, 3) in caught.value.differences
    assert len(run(trials=3, workers=2, time_limit=100).trials) == 3  # how it is run is free


def test_bad_arguments_and_hopeless_searches_write_nothing(run, tmp_path) -> None:
    class Hopeless(fakes.Climber):
        def ask(self, number):
            raise InfeasibleError("No network meets the constraints; the nearest has 900 params.")

    cases = [
        ({"strategy": Hopeless()}, InfeasibleError, "nearest"),
        ({"trials": 0}, InvalidInputError, "`trials` must be"),
        ({"workers": -1}, InvalidInputError, "`workers` must be"),
        ({"time_limit": 0}, InvalidInputError, "`time_limit` must be"),
        ({"seed": 1.5}, InvalidInputError, "`seed` must be"),
        ({"schedule": "random"}, InvalidInputError, "`schedule` must be"),
        ({"maximize": "beauty"}, InvalidInputError, "beauty"),
        ({"constraints": ["params < 5k"]}, InvalidInputError, "inclusive"),
        ({"space": 3}, InvalidInputError, "`space` must be"),
        ({"task": 3}, InvalidInputError, "`task` must be"),
        ({"task": "digitss"}, InvalidInputError, "digitss"),
        ({"estimator": 3}, InvalidInputError, "`estimator` must have"),
        ({"strategy": 3}, InvalidInputError, "`strategy` must have"),
        ({"baseline": "luck"}, InvalidInputError, "`baseline` must be"),
        ({"references": [("open", fakes.space().block)]}, InvalidInputError, "must be a closed block"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            run(**options)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {here!r})
import study_fakes as fakes, nasturtium as nas
nas.tasks.load("digits"), nas.estimators.Trained
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    nas.search(fakes.space(), "digits", maximize="accuracy", minimize="macs", trials=60, study={path!r},
               strategy=fakes.Climber(), estimator=fakes.Fake(epochs=2))
except nas.errors.StoreError as error:
    print(error)
"""


def test_a_disk_that_fills_up_keeps_what_was_finished(run, tmp_path) -> None:
    """Files may not grow beyond a limit: SQLite meets the same failed write as on a full disk."""
    path = tmp_path / "study.db"
    script = FULL_DISK.format(here=str(Path(__file__).parent), path=str(path), size=350_000)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "run the same command again" in result.stdout, result.stderr
    kept = Study.open(path)
    assert 1 <= len(kept.trials) < 60
    assert not kept.failures
    options = {"trials": 60, "fake": {"epochs": 2}}
    assert fakes.summary(run("study.db", **options)) == fakes.summary(run("whole.db", **options))


def test_only_the_holder_writes(run, tmp_path) -> None:
    run(trials=1, concurrency=1)
    from nasturtium.study.store import Store

    reader = Store.open(locate(tmp_path / "study.db"))
    reader.record()
    with pytest.raises(StoreError, match="opened for reading"):
        reader.add_event("mischief")
    first, second = Store.open(locate(tmp_path / "study.db")), Store.open(locate(tmp_path / "study.db"))
    for store in (first, second):
        store.record()
    first.acquire()
    with pytest.raises(StoreError, match="in use"):
        second.acquire()
    with second.engine.begin() as connection:  # as another host does after a long silence
        connection.execute(sa.delete(schema.lease))
    second.acquire()
    with pytest.raises(StoreError, match="no longer holds"):
        first.add_event("late")
    for store in (reader, first, second):
        store.close()


def test_a_holder_on_another_host_is_dead_after_a_minute_of_silence(run, tmp_path) -> None:
    run(trials=1, concurrency=1)
    from nasturtium.study.store import Store

    def held(heartbeat: float) -> None:
        values = "study_id, owner, host, pid, process_started, acquired, heartbeat"
        with sqlite3.connect(tmp_path / "study.db") as connection:
            connection.execute("DELETE FROM lease")
            connection.execute(f"INSERT INTO lease ({values}) VALUES (1, 'x', 'elsewhere', 1, 0, 0, {heartbeat})")

    import time

    held(time.time() - 20)
    with pytest.raises(StoreError, match="on host 'elsewhere'"):
        run(trials=1, concurrency=1)
    held(time.time() - 100)
    store = Store.open(locate(tmp_path / "study.db"))
    store.record()
    store.acquire()
    store.close()


def test_reading_does_not_wait_for_a_writer(run, tmp_path) -> None:
    run(trials=2)
    writer = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert len(Study.open(tmp_path / "study.db").trials) == 2
    writer.execute("ROLLBACK")
    writer.close()


def test_files_that_a_deleted_study_left_do_not_leak_into_a_new_one(run, tmp_path) -> None:
    def stop(event) -> None:
        if type(event).__name__ == "EpochReported" and event.number == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(trials=4, listeners=[stop])
    for path in tmp_path.glob("study.db*"):
        if path.is_file():
            path.unlink()
    assert (tmp_path / "study.db.files" / "trials" / "search" / "2" / "checkpoint.json").is_file()
    other = {"trials": 4, "seed": 9, "fake": {"epochs": 5}}
    assert fakes.summary(run(**other)) == fakes.summary(run("whole.db", **other))


def test_the_schema_is_portable_to_postgresql() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    for table in schema.metadata.sorted_tables:
        assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


POSTGRESQL = os.environ.get("NASTURTIUM_TEST_POSTGRESQL")


@pytest.mark.skipif(POSTGRESQL is None, reason="set NASTURTIUM_TEST_POSTGRESQL to the URL of an empty database")
def test_a_study_on_postgresql(run, tmp_path) -> None:
    options = {"trials": 8, "baseline": "random", "files": tmp_path / "files"}
    study = run(study=POSTGRESQL, **options)
    assert fakes.summary(study) == fakes.summary(run("whole.db", **(options | {"files": None})))
    assert fakes.summary(run(study=POSTGRESQL, **options)) == fakes.summary(study)
