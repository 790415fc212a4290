"""`nasturtium profile`, without a clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasturtium.cli import main
from nasturtium.hardware import LatencyTable, profiling
from nasturtium.hardware.kernels import kernels


class Time:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def test_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(graphs, on, reference):
        return [Time(1e-5 * len(kernels(graph))) for graph in graphs]

    monkeypatch.setattr(profiling, "measure_kernels", measure)
    monkeypatch.setattr(profiling, "_reference", lambda device: 1e-3)
    monkeypatch.chdir(tmp_path)
    arguments = ["profile", "cpu", "nasbench_macro", "--input", "3x16x16", "--fit", "6", "--held-out", "6"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "distinct kernels, of all architectures, and 12 whole networks on cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "--table", "table.json", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert "left" in err
    said = json.loads(out)
    assert said["error"]["networks"] == 6
    assert said["error"]["within_5"] == 1.0
    table = LatencyTable.from_dict(json.loads((tmp_path / "table.json").read_text()))
    assert len(table.seconds) == said["kernels"]
    assert main(arguments) == 0  # all is there
    out, err = capsys.readouterr()
    assert "left" not in err
    assert "100% within 5 %" in out
    assert main([*arguments[:-1], "7"]) == 2
    assert "held_out: 6 there, 7 now" in capsys.readouterr().err


def test_a_space_of_ones_own_needs_its_input_and_a_device_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "profiled_space.py").write_text(
        "import nasturtium as nas\n\n"
        "def space():\n    return nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8)), nas.Classifier()))\n"
    )
    (tmp_path / "boards.toml").write_text("[two]\nthreads = 2\n")
    assert main(["profile", "cpu", "profiled_space:space", "--dry-run"]) == 2
    assert "give --input" in capsys.readouterr().err
    asked = ["profile", "two", "profiled_space:space", "--input", "1x8x8", "--dry-run", "--format", "json"]
    assert main(asked) == 2
    assert "two" in capsys.readouterr().err
    assert main([*asked, "--file", "boards.toml", "--fit", "1", "--held-out", "0"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["device"]["threads"] == 2
    assert said["input"] == [1, 8, 8]
    assert "distinct kernels" in said["plan"]
