"""`nasturtium zoo` and `nasturtium space` on the spaces of the library."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import nasturtium as nas
from nasturtium.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_zoo_lists_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "zoo")
    assert code == 0
    for family in nas.zoo.FAMILIES:
        assert family.name in out
        assert family.paper in out
    assert f"{len(nas.zoo.FAMILIES)} families, {len(nas.zoo.SPACES)} with a search space" in out


def test_zoo_as_json_and_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "zoo", "--format", "json", "--task", "segmentation", "--spaces")
    (found,) = json.loads(out)
    assert (found["name"], found["size"]) == ("autodeeplab", 556_627_761_561_600 * 28_657)
    code, _, err = run(capsys, "zoo", "--task", "translation")
    assert code == 2
    assert "semantic segmentation" in err


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_space_says_what_it_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "space", name, "--samples", 3, "--format", "json")
    assert code == 0
    told, family = json.loads(out), nas.zoo.family(name)
    assert (told["size"], told["paper"], told["samples"]) == (family.size, family.paper, 3)
    assert tuple(told["input"]) == family.input_shape
    assert [d["name"] for d in told["decisions"]] == [d.name for d in nas.zoo.space(name).decisions]
    assert told["costs"]["macs"]["min"] > 0


def test_space_draws_a_sample_and_says_when_choices_are_active(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "space", "mobile", "--samples", 2, "--svg", tmp_path / "mobile.svg")
    assert code == 0
    assert "layers.1.blocks.length = 2 or 3" in out
    assert "mobile.svg" in err
    assert ET.parse(tmp_path / "mobile.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space", "mobile", "--samples", "0"], "samples"),
        (["space", "mobile", "--classes", "0"], "classes"),
        (["space", "mobile", "--svg", "nowhere/x.svg"], "no folder"),
        (["space", "mobil"], "mobile"),
    ],
)
def test_bad_input_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
