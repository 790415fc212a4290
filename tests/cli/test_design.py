"""`nasturtium design`: TinyNAS, error distributions, scaling; text, JSON, files, going on, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.design import toy

import nasturtium as nas
from nasturtium.cli import main
from nasturtium.cli.design import PARTS
from nasturtium.hardware import predict_arena, predict_file
from nasturtium.study import Study

DATA = "tests.design.toy:task"
SPACES = ["--width", 0.2, "--width", 0.3, "--resolution", 48, "--resolution", 64, "--samples", 5]


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys, *arguments):
    code, out, _ = run(capsys, *arguments, "--format", "json")
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("name", PARTS)
def test_help_has_an_example(name, capsys):
    code, out, _ = run(capsys, "design", name, "--help")
    assert code == 0
    assert f"nasturtium design {name}" in " ".join(out.split())


# TinyNAS


def test_tiny_picks_the_space_that_computes_most(capsys, tmp_path):
    facts = run_json(capsys, "design", "tiny", "--sram", "1MB", "--flash", "4MB", *SPACES, "-o", tmp_path)
    assert facts["picked"] == {"width": 0.3, "resolution": 64}
    assert [row["acceptance"] for row in facts["ranked"]] == [1.0] * 4
    assert facts == json.loads((tmp_path / "scan.json").read_text())
    assert "share of the networks that fit" in (tmp_path / "scan.html").read_text()


def test_tiny_says_what_a_kilobyte_is(capsys):
    code, out, _ = run(capsys, "design", "tiny", "--sram", "50kB", *SPACES, "--sram-reserve", "1KiB")
    assert code == 0
    assert "50kB = 50,000 B, of which 1,024 B are reserved" in out
    assert "256 KiB = 262,144 bytes" in out
    code, out, _ = run(capsys, "design", "tiny", "--sram", "50KiB", *SPACES)
    assert "50KiB = 51,200 B" in out
    assert "262,144" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to keep to"),
        (["--sram", "2kB", *SPACES], 3, "Of none of the 4 spaces does a share"),
        (["--sram", "2KB", *SPACES], 2, "Say kB (powers of 1000) or KiB"),
        (["--sram", "64kB", "--data", "digits"], 2, "needs a place to keep"),
        (["--sram", "64kB", "--sram-reserve", "64kB"], 2, "sram_reserve"),
    ],
)
def test_tiny_refuses(arguments, code, message, capsys):
    found, _, err = run(capsys, "design", "tiny", *arguments)
    assert found == code
    assert message in err


@pytest.fixture(scope="module")
def specialized(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    arguments = [
        "design", "tiny", "--sram", "64kB", "--flash", "250kB", "--data", DATA, "--width", 0.2, "--resolution", 16,
        "--samples", 20, "--trials", 2, "--epochs", 1, "--strategy", "random", "--quiet", "-o", folder,
    ]  # fmt: skip
    assert main([str(a) for a in arguments]) == 0
    return folder


@pytest.mark.slow
def test_tiny_searches_the_picked_space_within_the_memory(specialized):
    study, task = Study.open(specialized / "search.db"), toy.task()
    assert len(study.trials) == 2
    assert {c.metric: c.limit for c in study.constraints} == {"sram": 64_000.0, "flash": 250_000.0}
    for member in study.members():
        graph = nas.trace(member.architecture, task.input_shape, **task.context)
        assert member.metrics["sram"] == predict_arena(graph).total <= 64_000
        assert member.metrics["flash"] == predict_file(graph) <= 250_000
        assert member.metrics["accuracy"] > 0


@pytest.mark.slow
def test_tiny_writes_a_file_that_fits(specialized):
    for module in ("litert_torch", "ai_edge_quantizer", "tflite_micro"):
        pytest.importorskip(module, reason="needs the extra tinyml")
    from nasturtium.design import Limits
    from nasturtium.errors import InfeasibleError
    from nasturtium.study.tiny_files import write_fitting

    study, task = Study.open(specialized / "search.db"), toy.task()
    found = write_fitting(study, specialized / "again", task, Limits(sram=64_000, flash=400_000))
    assert found.fits
    assert found.path.stat().st_size == found.file_bytes <= 400_000
    assert found.activation_bytes <= found.arena_bytes <= 64_000
    assert abs(found.arena_bytes - found.modelled_bytes) <= 0.1 * found.arena_bytes  # the search held to the arena
    assert abs(found.int8_accuracy - found.accuracy) <= 0.15  # 80 images
    with pytest.raises(InfeasibleError, match="takes an arena"):
        write_fitting(study, specialized / "again", task, Limits(sram=5000, flash=400_000))


# Error distributions

FUNCTION = [
    "design", "edf", "tests.design.toy:wide", "tests.design.toy:narrow", "--estimator", "tests.design.toy:error",
    "--input", "1x8x8", "--networks", 30, "--bins", 2, "--permutations", 200,
]  # fmt: skip


def test_edf_compares_two_spaces_by_any_function_and_goes_on(capsys, tmp_path):
    toy.ASKED.clear()
    facts = run_json(capsys, *FUNCTION, "-o", tmp_path)
    assert sorted(toy.ASKED) == sorted([*range(30)] * 2)
    comparison = facts["comparisons"][0]
    assert comparison["better"] == "first"
    assert comparison["p_value"] < 0.05
    assert comparison["effect"] > 0.3
    assert [space["failed"] for space in facts["spaces"]] == [3, 3]
    page = (tmp_path / "edf.html").read_text()
    first = facts["spaces"][0]
    assert f"wide [{100 * first['minimum']:.1f}|{100 * first['mean']:.1f}]" in page
    assert "are the smallest and the mean error" in page
    toy.ASKED.clear()
    file = tmp_path / "tests.design.toy-wide.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]) + '{"number": 28, "er')
    assert run_json(capsys, *FUNCTION, "-o", tmp_path) == facts
    assert toy.ASKED == [28, 29]
    whole = file.read_bytes()
    assert run_json(capsys, *FUNCTION, "-o", tmp_path) == facts
    assert file.read_bytes() == whole  # what was cut was replaced, and nothing was written on to it
    file.write_bytes(whole[:20])  # cut in the header
    assert run_json(capsys, *FUNCTION, "-o", tmp_path) == facts
    code, _, err = run(capsys, *FUNCTION, "--seed", 1, "-o", tmp_path)
    assert code == 2
    assert "answers of other settings" in err


def test_edf_prints_shares_read_off_the_curve(capsys, tmp_path):
    code, out, _ = run(capsys, *FUNCTION, "--bins", 0, "--above", 0.4, "-o", tmp_path)
    assert code == 0
    assert "> 40.0 %" in out
    assert "Kolmogorov-Smirnov, two-sided" in out
    assert "beats one of" in out


@pytest.mark.slow
def test_edf_trains_and_keeps_the_trainings(capsys, tmp_path):
    arguments = [
        "design", "edf", "tests.design.toy:wide", "tests.design.toy:narrow", "--data", DATA, "--networks", 3,
        "--epochs", 1, "--bins", 1, "--permutations", 50, "--quiet", "-o", tmp_path,
    ]  # fmt: skip
    facts = run_json(capsys, *arguments)
    assert [space["networks"] for space in facts["spaces"]] == [3, 3]
    study = Study.open(tmp_path / "tests.design.toy-wide.db")
    low, high = facts["bins"][0], facts["bins"][-1]
    errors = facts["samples"][0]["errors"]
    assert errors == [1 - t.metrics["accuracy"] for t in study.trials]
    assert all(low <= c <= high for c in facts["samples"][0]["complexities"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobile", "mobile", "-o", "x"], "given once"),
        (["mobile", "chain"], "needs a place"),
        (["mobile", "chian", "-o", "x"], "chain"),
        (["mobile", "chain", "--estimator", "tests.design.toy:ASKED", "-o", "x"], "must be an estimator"),
    ],
)
def test_edf_refuses(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "design", "edf", *arguments)
    assert code == 2
    assert message in err


# Scaling


def test_scale_states_costs_and_takes_factors_as_the_lecture_writes_them(capsys):
    facts = run_json(capsys, "design", "scale", "efficientnet_b0", "--factor", 2, 4, "--kind", "compound")
    assert [row["factor"] for row in facts["rows"]] == [1.0, 2.0, 4.0]
    assert facts["rows"][0]["macs"] == 385_814_752
    assert facts["coefficients"] == {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    assert facts["product"] == pytest.approx(1.92027)
    again = run_json(capsys, "design", "scale", "--factor", 2, 4, "efficientnet_b0", "--kind", "compound")
    assert again == facts


@pytest.mark.slow
def test_scale_searches_coefficients_on_data_and_goes_on(capsys, tmp_path):
    arguments = [
        "design", "scale", "tests.design.toy:network", "--factor", 2, "--data", DATA, "--epochs", 1, "--divisor", 1,
        "--step", 0.5, "--tolerance", 0.3, "--realised", 1.6, "--noise-repeats", 2, "-o", tmp_path,
    ]  # fmt: skip
    facts = run_json(capsys, *arguments)
    assert {row["kind"] for row in facts["rows"]} == {"base", "depth", "width", "resolution", "compound"}
    assert all(0 < row["accuracy"] < 1 for row in facts["rows"])
    assert abs(facts["product"] - 2) <= 0.3
    best = facts["search"]["tried"][0]
    assert [facts["coefficients"][name] for name in ("alpha", "beta", "gamma")] == [
        best[name] for name in ("alpha", "beta", "gamma")
    ]
    assert all(row["trainings"] == 1 and row["accuracy_low"] is None for row in facts["rows"])
    assert "accuracy on validation" in (tmp_path / "scale.html").read_text()
    lines = (tmp_path / "trainings.jsonl").read_text()
    assert run_json(capsys, *arguments) == facts
    assert (tmp_path / "trainings.jsonl").read_text() == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--factor", 2], "Missing argument"),
        (["3", "--factor", 2], "one network"),
        (["efficientnet_b0"], "Give positive factors"),
        (["efficientnet_b0", "resnet50", "--factor", 2], "one network"),
        (["efficientnet_b0", "--factor", 2, "--alpha", 1.2], "together"),
        (["efficientnet_b0", "--factor", 2, "--data", "digits"], "need a place"),
        (["efficientnet_b0", "--factor", 2, "--alpha", 1, "--beta", 1, "--gamma", 1], "make nothing larger"),
    ],
)
def test_scale_refuses(arguments, message, capsys):
    code, _, err = run(capsys, "design", "scale", *arguments)
    assert code == 2
    assert message in err
