"""`nasturtium device` and `nasturtium agent`, through `main`."""

import json

import pytest

import nasturtium as nas
from nasturtium.cli import main


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NASTURTIUM_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_list_shows_memory_in_units_of_1024(capsys):
    assert main(["device", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("mcu-320k")]
    assert "320 KiB" in row
    assert "1 MiB" in row
    assert main(["device", "list", "--format", "json"]) == 0
    assert {d["name"] for d in json.loads(capsys.readouterr().out)} == {*nas.hardware.BUILT_IN}


def test_a_device_is_added_then_shown(capsys, tmp_path):
    added = [
        "device",
        "add",
        "m4",
        "--runtime",
        "tflm",
        "--target",
        "microcontroller",
        "--sram",
        "192KiB",
        "--flash",
        "1MB",
    ]
    assert main(added) == 0
    assert nas.hardware.device("m4").sram == 196_608
    assert nas.hardware.device("m4").flash == 1_000_000
    assert main(["device", "show", "m4"]) == 0
    assert "192 KiB (196,608 bytes)" in capsys.readouterr().out
    assert main(added) == 2
    assert "a device 'm4' already" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["192 foo", "KiB", "0.5B", "-3KiB", "inf", "nan", "infKiB", "1e400"])
def test_a_memory_that_is_none_is_refused(capsys, size):
    given = [
        "device",
        "add",
        "m",
        "--runtime",
        "tflm",
        "--target",
        "microcontroller",
        "--sram",
        size,
        "--flash",
        "1MiB",
    ]
    assert main(given) == 2
    assert "memory" in capsys.readouterr().err


def test_a_measurement_is_printed_with_its_interval_and_warnings(capsys, monkeypatch):
    found = nas.hardware.Measurement(
        seconds=2e-3, low=1.9e-3, high=2.1e-3, processes=(2e-3,), samples=(5,), warnings=("busy",),
        conditions=nas.hardware.Conditions(device=nas.hardware.device("cpu"), machine="a machine", load=1.0),
    )  # fmt: skip
    given = {}

    def measure(graph, device, *, plan):
        given.update(graph=graph, device=device, plan=plan)
        return found

    monkeypatch.setattr(nas.hardware, "measure", measure)
    asked = ["device", "measure", "cpu", "mobilenetv2_035", "--input", "3x32x32", "--precision", "0.05"]
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert "95 % interval 1.9 ms to 2.1 ms" in out
    assert "a machine, load 1.0" in out
    assert "Warning: busy" in err
    assert given["plan"].precision == 0.05
    assert given["graph"].nodes[0].shape == (3, 32, 32)
    assert main([*asked, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 2e-3


def test_the_agent_gives_its_file_and_tokens_and_needs_one(capsys, tmp_path, monkeypatch):
    assert main(["agent", "file", str(tmp_path)]) == 0
    assert "def serve(" in (tmp_path / "agent.py").read_text()
    assert main(["agent", "file", str(tmp_path)]) == 2
    capsys.readouterr()
    assert main(["agent", "token"]) == 0
    assert len(capsys.readouterr().out.strip()) >= 32
    monkeypatch.delenv("NASTURTIUM_AGENT_TOKEN", raising=False)
    assert main(["agent", "serve"]) == 2
    assert "at least 16 characters" in capsys.readouterr().err
