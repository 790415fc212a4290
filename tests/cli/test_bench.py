"""`nasturtium bench` from end to end, on a table of 256 rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nasturtium.cli import main

TABLE = "tests.bench.toy:table"
SMALL = ["--table", TABLE, "--seeds", 3, "--evaluations", 30, "--processes", 1, "--checkpoint", 10, "--checkpoint", 30]


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["bench", *SMALL, "--strategy", "evolution(population=10)", "--strategy", "random", "-o", folder]
    assert main([str(a) for a in arguments]) == 0
    return folder


def test_it_prints_tables_and_writes_a_report(folder, capsys):
    code, out, err = run(capsys, "bench", "--show", "-o", folder)
    assert code == 0
    for text in (
        "mean regret of accuracy in points [95 % band]", "test_accuracy of the best by validation", "at 10", "at 30",
        "Evaluations until the mean over seeds is that of evolution(population=10)",
        "Is evolution(population=10) worse", "critical difference, runs", "Real time of ask and tell",
    ):  # fmt: skip
        assert text in out
    report = (folder / "report.html").read_text()
    assert "2 search strategies on 1 table" in report
    assert "Report:" in err


def test_json_is_plain_and_complete(folder, capsys):
    code, out, _ = run(capsys, "bench", "--show", "-o", folder, "--checkpoint", 30, "--json")
    assert code == 0
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert {s["strategy"]: s["seeds"] for s in found["standings"]} == {"evolution(population=10)": 3, "random": 3}
    assert {m["evaluations"] for m in found["margins"]} == {30.0}
    assert found["unit"] == "points"
    assert run(capsys, "bench", "--show", "-o", folder, "--checkpoint", 30, "--format", "json")[1] == out


def test_a_second_run_does_nothing_and_says_the_same(folder, capsys):
    stamps = {p: p.stat().st_mtime_ns for p in folder.glob("*/*/*.npz")}
    arguments = ["bench", *SMALL, "--strategy", "evolution(population=10)", "--strategy", "random", "-o", folder]
    _, shown, _ = run(capsys, "bench", "--show", "-o", folder, "--checkpoint", 10, "--checkpoint", 30)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (0, shown)
    assert "searches" not in err
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/*/*.npz")} == stamps


def test_the_strategies_named_are_shown(folder, capsys):
    _, out, _ = run(capsys, "bench", "--show", "--strategy", "random", "-o", folder)
    assert "evolution" not in out
    code, _, err = run(capsys, "bench", "--show", "--strategy", "grid", "-o", folder)
    assert code == 2
    assert "Unknown strategy of this comparison 'grid'" in err


def test_several_objectives_and_a_constraint(tmp_path, capsys):
    code, out, _ = run(
        capsys, "bench", *SMALL, "--strategy", "evolution", "--maximize", "accuracy", "--minimize", "cost",
        "--constraint", "cost <= 9", "--workers", 4, "--schedule", "deterministic", "-o", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "hypervolume" in out
    report = (tmp_path / "report.html").read_text()
    assert "hypervolume over evaluations" in report
    assert "within cost &lt;= 9" in report


def test_a_strategy_that_fails_is_named_and_the_rest_is_told(tmp_path, capsys):
    code, out, err = run(
        capsys, "bench", *SMALL, "--strategy", "random", "--strategy", "tests.bench.toy:Broken", "-o", tmp_path
    )
    assert code == 1
    assert "random" in out
    assert f"Failed: tests.bench.toy:Broken on {TABLE}, seed 0: RuntimeError: this strategy is broken" in err
    assert "3 of" in err or "6 of 6 searches, done" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a place"),
        (["-o", "x"], "needs tables and strategies"),
        (["-o", "x", "--show"], "There are no runs"),
        (["-o", "x", "--table", TABLE, "--strategy", "evolutoin"], "Did you mean 'evolution'"),
        (["-o", "x", "--table", TABLE, "--strategy", "random(1)"], "every option needs its name"),
        (["-o", "x", "--table", "nasbench999", "--strategy", "random"], "nasbench"),
        (["-o", "x", "--table", TABLE, "--strategy", "random", "--minimize", "beauty"], "beauty"),
        (["-o", "x", "--table", TABLE, "--strategy", "random", "--evaluations", "0"], "`evaluations` must be positive"),
    ],
)
def test_unusable_input_exits_with_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, _, err = run(capsys, "bench", *arguments)
    assert code == 2
    assert message in err
    assert not list(tmp_path.glob("x/*/*/*.npz"))


def test_other_settings_are_refused(folder, capsys):
    code, _, err = run(
        capsys, "bench", "--table", TABLE, "--strategy", "random", "--evaluations", 31, "--seeds", 1, "-o", folder
    )
    assert code == 2
    assert "evaluations: stored 30.0, given 31.0" in err
    assert "--redo" in err
