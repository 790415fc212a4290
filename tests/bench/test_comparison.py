"""Comparisons in processes: the same whatever their number, resumable after a kill, strict about settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nasturtium.bench import Run, compare, load
from nasturtium.bench import comparison as room
from nasturtium.bench.planning import code_of, plan, slug
from nasturtium.errors import InvalidInputError, StoreError, StudyMismatchError, UnknownNameError
from nasturtium.strategies import Random
from tests.bench.toy import Scripted

PROJECT = Path(__file__).parents[2]
TABLE, OTHER = "tests.bench.toy:table", "tests.bench.toy:other_table"
EVOLUTION = "evolution(population=10, sample=3)"


def contents(folder: Path) -> dict[str, tuple[list[str], list[float]]]:
    found = {}
    for path in sorted(folder.glob("*/*/*.npz")):
        run = Run.load(path)
        found[str(path.relative_to(folder))] = (run.key.tolist(), run.end.tolist())
    return found


def test_results_do_not_depend_on_the_number_of_processes(tmp_path):
    one = compare([EVOLUTION, "random"], [TABLE, OTHER], directory=tmp_path / "1", seeds=2, evaluations=25, processes=1)
    two = compare([EVOLUTION, "random"], [TABLE, OTHER], directory=tmp_path / "2", seeds=2, evaluations=25, processes=2)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(contents(tmp_path / "1")) == 8
    assert one.strategies == two.strategies == (EVOLUTION, "random")
    assert one.tables == (TABLE, OTHER)
    assert not list(tmp_path.glob("*/*/*/.*"))
    assert os.environ.get("MKL_NUM_THREADS") == _MKL


_MKL = os.environ.get("MKL_NUM_THREADS")


def test_more_seeds_strategies_and_tables_are_added(tmp_path):
    counted: list[int] = []
    settings = {"directory": tmp_path, "evaluations": 10, "processes": 1, "progress": lambda p: counted.append(p.total)}
    compare(["random"], [TABLE], seeds=1, **settings)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/*.npz")}
    found = compare(["local", "random"], [OTHER, TABLE], seeds=[0, 4], **settings)
    assert counted == [1] + [7] * 7
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in before.items())
    assert (found.strategies, found.tables) == (("local", "random"), (OTHER, TABLE))
    assert [run.settings["seed"] for run in found.runs["random", TABLE]] == [0, 4]
    loaded = load(tmp_path)
    assert set(loaded.runs) == set(found.runs)
    assert set(loaded.select(["local"], [TABLE]).runs) == {("local", TABLE)}
    with pytest.raises(UnknownNameError, match="grid"):
        loaded.select(["grid"])


def test_a_kill_at_any_instant_loses_only_what_was_under_way(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    script = (
        "import sys; from nasturtium.bench import compare\n"
        "if __name__ == '__main__':\n"
        "    compare(['tests.bench.toy:Slow', 'random'], ['tests.bench.toy:table'], directory=sys.argv[1], seeds=12,\n"
        "            evaluations=10, processes=2)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    run = subprocess.Popen([sys.executable, str(program), str(folder)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*/*/*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    children = _children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    first = contents(folder)
    assert 3 <= len(first) < 24
    while any(map(_lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, children))  # no orphan goes on
    compare(["tests.bench.toy:Slow", "random"], [TABLE], directory=folder, seeds=12, evaluations=10, processes=1)
    compare(["tests.bench.toy:Slow", "random"], [TABLE], directory=whole, seeds=12, evaluations=10, processes=1)
    assert contents(folder) == contents(whole)
    assert not list(folder.glob("*/*/.*"))


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _lives(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_other_settings_are_refused_or_made_anew(tmp_path):
    settings = {"directory": tmp_path, "seeds": 1, "processes": 1}
    compare(["random"], [TABLE], evaluations=10, **settings)
    with pytest.raises(StudyMismatchError, match=r"evaluations: stored 10, given 12.*--redo"):
        compare(["random"], [TABLE], evaluations=12, **settings)
    found = compare(["random"], [TABLE], evaluations=12, redo=True, **settings)
    assert len(found.first) == 12


def test_a_table_that_changed_is_refused(tmp_path, monkeypatch):
    import tests.bench.toy as toy

    settings = {"directory": tmp_path, "seeds": 1, "processes": 1, "evaluations": 10}
    compare(["random"], [TABLE], **settings)
    room.load_runs(tmp_path)
    from nasturtium.bench import tables

    tables.load_table.cache_clear()
    changed = toy.other_table()
    monkeypatch.setattr(toy, "table", lambda: changed)
    with pytest.raises(StudyMismatchError, match="fingerprint"):
        compare(["random"], [TABLE], **settings)
    tables.load_table.cache_clear()


def test_runs_of_several_versions_of_the_code_are_remarked(tmp_path, monkeypatch):
    settings = {"directory": tmp_path, "processes": 1, "evaluations": 10}
    compare(["random"], [TABLE], seeds=1, **settings)
    monkeypatch.setattr("nasturtium.bench.planning.code_of", lambda _: "changed")
    found = compare(["random"], [TABLE], seeds=2, **settings)
    assert "2 versions of its code" in found.remarks[0]
    assert compare(["random"], [TABLE], seeds=2, redo=True, **settings).remarks == ()
    assert len(code_of(Random())) == 12


def test_a_damaged_file_is_made_again(tmp_path):
    settings = {"directory": tmp_path, "seeds": 1, "processes": 1, "evaluations": 10}
    compare(["random"], [TABLE], **settings)
    [path] = tmp_path.glob("*/*/*.npz")
    good = contents(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        load(tmp_path)
    compare(["random"], [TABLE], **settings)
    assert contents(tmp_path) == good


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    folder = tmp_path / slug(TABLE) / "random"
    folder.mkdir(parents=True)
    dead, alive = folder / ".00000.999999999.tmp", folder / f".00001.{os.getpid()}.tmp"
    dead.touch()
    alive.touch()
    compare(["random"], [TABLE], directory=tmp_path, seeds=1, evaluations=5, processes=1)
    assert not dead.exists()
    assert alive.exists()


def test_an_error_of_one_strategy_does_not_end_the_others(tmp_path):
    found = compare(
        ["tests.bench.toy:Broken", "random"], [TABLE], directory=tmp_path, seeds=2, evaluations=5, processes=1
    )
    assert set(found.runs) == {("random", TABLE)}
    assert [label for label, _ in found.failures] == [f"tests.bench.toy:Broken on {TABLE}, seed {s}" for s in (0, 1)]
    assert "this strategy is broken" in found.failures[0][1]
    with pytest.raises(StoreError, match="Every cell failed"):
        compare(["tests.bench.toy:Broken"], [TABLE], directory=tmp_path / "x", seeds=1, evaluations=5, processes=1)


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KILL_WORKER", str(os.getpid()))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    with pytest.raises(StoreError, match="killed from outside"):
        compare(["tests.bench.toy:killed"], [TABLE], directory=tmp_path, seeds=2, evaluations=5, processes=2)


def test_several_strategies_of_one_name_have_folders_of_their_own():
    assert slug("evolution(a=1)") != slug("evolution(a=2)")
    assert slug("random") == "random"
    assert "/" not in slug("nasbench201/cifar10")


def test_nothing_to_compare_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="at least one strategy"):
        compare([], [TABLE], directory=tmp_path)
    with pytest.raises(InvalidInputError, match="`processes` must be"):
        compare(["random"], [TABLE], directory=tmp_path, processes=0)
    with pytest.raises(StoreError, match="There are no runs"):
        load(tmp_path)


def test_the_forecast_weighs_strategies_by_what_is_left(tmp_path):
    from nasturtium.bench.cells import Conditions
    from nasturtium.bench.simulation import ACCURACY

    conditions = Conditions(
        evaluations=5, seconds=None, workers=1, schedule="asynchronous", thinking=False, objectives=ACCURACY,
        constraints=(), data_root=None, observed=None,
    )  # fmt: skip
    cells = plan(["random", "local"], [TABLE], [0, 1, 2], conditions, tmp_path)
    forecast = room._Forecast(cells, processes=2)
    assert forecast.after(cells[0], 1.0).seconds_left == pytest.approx(5 * 1.0 / 2)
    assert forecast.after(cells[1], 9.0).seconds_left == pytest.approx((2 * 1.0 + 2 * 9.0) / 2)


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    from nasturtium.bench import simulate
    from tests.bench.toy import Listed

    run = simulate(Scripted(), Listed([0.2, None, 0.4], [1, 1, 1]), evaluations=3)
    run.save(tmp_path / "run.npz")
    read = Run.load(tmp_path / "run.npz")
    assert read.settings == run.settings
    assert read.extremes == run.extremes
    assert read.best().tolist() == run.best().tolist()
    assert np.array_equal(read.values, run.values, equal_nan=True)
    assert np.array_equal(read.report["test_accuracy"], run.report["test_accuracy"], equal_nan=True)
