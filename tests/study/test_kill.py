"""A search that is killed at any instant goes on as if nothing had happened; nothing of it stays behind."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time

import psutil
import pytest
import study_fakes as fakes

from nasturtium.errors import StoreError
from nasturtium.study import Study

KILLS = 24
FEW = 8


def trials_logged(path) -> int:
    try:
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT count(*) FROM trial").fetchone()[0]
    except sqlite3.OperationalError:
        return -1


@pytest.mark.parametrize("most", [FEW, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_search_killed_many_times_ends_as_an_uninterrupted_one(run, start, tmp_path, most: int) -> None:
    options = {
        "trials": 16, "baseline": "random", "fake": {"epochs": 4, "pause": 0.06}, "climber": {"wait_every": 4},
    }  # fmt: skip
    whole = run("whole.db", **options)
    rng = random.Random(1)
    kills = while_training = 0
    process = start("killed.db", **options)
    begun = time.monotonic()
    # The first kills come while it starts (database, imports), the others once it works, at random moments.
    while kills < most:
        known = trials_logged(tmp_path / "killed.db")
        delay = rng.uniform(0.2, 2.0) if kills < most // 4 else rng.uniform(0.02, 0.5)
        if kills >= most // 4:
            while process.poll() is None and not lease_held_by(tmp_path / "killed.db", process.pid):
                time.sleep(0.01)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            while_training += trials_logged(tmp_path / "killed.db") >= max(known, 0)
        else:
            assert process.returncode == 0, process.stderr.read()
            break
        process = start("killed.db", **options)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    print(f"{kills} kills in {time.monotonic() - begun:.0f} s")
    assert kills >= most * 5 // 6
    assert fakes.summary(Study.open(tmp_path / "killed.db")) == fakes.summary(whole)


def lease_held_by(path, pid: int) -> bool:
    try:
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT count(*) FROM lease WHERE pid = ?", (pid,)).fetchone()[0] == 1
    except sqlite3.OperationalError:
        return False


@pytest.mark.slow
def test_with_workers_the_kill_takes_them_along_and_the_result_is_the_same(run, start, tmp_path) -> None:
    options = {"trials": 8, "fake": {"epochs": 4, "pause": 0.1}}
    whole = run("whole.db", **options)
    for kill in range(3):
        process = start("killed.db", workers=2, **options)
        while trials_logged(tmp_path / "killed.db") < 2 * kill + 1:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=5)
        assert not alive
    process = start("killed.db", workers=3, **options)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert fakes.summary(Study.open(tmp_path / "killed.db")) == fakes.summary(whole)


@pytest.mark.parametrize(
    ("sign", "workers"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow)],
)
def test_a_stop_is_clean_and_says_how_to_go_on(run, start, tmp_path, sign, workers) -> None:
    options = {"trials": 6, "fake": {"epochs": 4, "pause": 0.1}}
    process = start("stopped.db", workers=workers, **options)
    while trials_logged(tmp_path / "stopped.db") < 1:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == (workers if workers > 1 else 0)
    process.send_signal(sign)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 130, error
    assert "run the same command again" in out
    assert not psutil.wait_procs(children, timeout=5)[1]
    study = Study.open(tmp_path / "stopped.db")
    assert 1 <= len(study.trials) < 6
    assert study.status == "running"
    assert fakes.summary(run("stopped.db", **options)) == fakes.summary(run("whole.db", **options))


def test_two_processes_that_begin_at_once_make_one_study(run, start, tmp_path) -> None:
    options = {"trials": 5, "fake": {"epochs": 1, "pause": 0.05}}
    for attempt in range(3):
        both = [start(f"{attempt}.db", **options) for _ in range(2)]
        errors = [process.communicate(timeout=60)[1] for process in both]
        codes = [process.returncode for process in both]
        assert 0 in codes, errors
        assert all(code == 0 or "in use" in error for code, error in zip(codes, errors, strict=True)), errors
        assert fakes.summary(Study.open(tmp_path / f"{attempt}.db")) == fakes.summary(run("whole.db", **options))


def test_a_second_process_is_refused_while_the_first_works(run, start, tmp_path) -> None:
    options = {"trials": 40, "fake": {"epochs": 4, "pause": 0.1}}
    first = start(**options)
    while trials_logged(tmp_path / "study.db") < 1:
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.02)
    with pytest.raises(StoreError, match=rf"in use: process {first.pid} .* wait until it ends"):
        run(**options)
    assert len(Study.open(tmp_path / "study.db").trials) >= 1  # reading is allowed
    second = start(**(options | {"seed": 5}))
    _, error = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "StudyMismatchError" in error
    assert "seed: the study has 0, given 5" in error
    assert first.poll() is None
