"""The matrix of spaces and methods says what the methods themselves say."""

from __future__ import annotations

import json

import pytest

import nasturtium as nas
from nasturtium.cli.app import main
from nasturtium.errors import UnknownNameError
from nasturtium.study.method import METHODS, read_method
from nasturtium.supernets import Searcher
from nasturtium.tasks.dataless import without_data

KERNELS = nas.Space(nas.Sequential(nas.Conv(8, nas.one_of(1, 3, 5, 7, 9, name="kernel")), nas.Classifier()))
CLOSED = nas.Space(nas.Sequential(nas.Conv(8), nas.Classifier()))


def test_every_method_is_a_searcher() -> None:
    for name in METHODS:
        method = read_method(name)
        assert isinstance(method, Searcher)
        assert type(method).__name__.lower().replace("-", "") == name.replace("-", "")


def test_verdicts_are_the_methods_own() -> None:
    task = without_data("small", (1, 8, 8), 3)
    spaces = {"kernels": (KERNELS, task), "closed": (CLOSED, task)}
    heard = []
    found = nas.study.compatibility(spaces, ["enas", "once-for-all"], report=heard.append)
    assert (found.spaces, found.methods) == (("kernels", "closed"), ("enas", "once-for-all"))
    assert found.of("kernels", "once-for-all").possible
    assert found.of("kernels", "enas").possible
    for method in found.methods:
        verdict = found.of("closed", method)
        assert not verdict.possible
        with pytest.raises(nas.errors.IncompatibleError) as error:
            read_method(method).check(CLOSED, task)
        assert verdict.reason == str(error.value)
    assert tuple(heard) == found.verdicts
    assert json.loads(json.dumps(found.to_dict()))["verdicts"][0]["method"] == "enas"
    with pytest.raises(KeyError):
        found.of("kernels", "darts")
    with pytest.raises(UnknownNameError):
        nas.study.compatibility(spaces, ["dart"])


def test_what_is_no_method_of_a_search_has_a_column_too() -> None:
    """SPOS goes with whatever has a supernet; Auto-DeepLab says why it goes with nothing yet."""
    task = without_data("small", (3, 64, 64), 3)
    spaces = {"kernels": (KERNELS, task), "closed": (CLOSED, task)}
    found = nas.study.compatibility(spaces, ["shared-weights", "auto-deeplab"])
    assert found.of("kernels", "shared-weights").possible
    assert "nothing is left open" in found.of("closed", "shared-weights").reason
    assert "this space has none" in found.of("kernels", "auto-deeplab").reason
    found = nas.study.compatibility({"trellis": (nas.zoo.autodeeplab.space(), task)}, ["auto-deeplab"])
    assert "pixels have labels" in found.of("trellis", "auto-deeplab").reason
    assert set(METHODS) < set(nas.study.COMPARED)
    assert {"shared-weights", "auto-deeplab"} < set(nas.study.COMPARED)
    with pytest.raises(UnknownNameError, match="shared-weights"):
        nas.study.compatibility(spaces, ["shared-weight"])


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compat", "nasbench201", "--method", "enas", "--method", "once-for-all", "--shape", "3x8x8"]) == 0
    said = capsys.readouterr().out
    assert next(line.split() for line in said.splitlines() if line.startswith("nasbench201 ")) == [
        "nasbench201",
        "yes",
        "no",
    ]
    assert "nasbench201 with once-for-all: Progressive shrinking needs" in said
    assert main(["compat", "nasbench201", "--shape", "3x8"]) == 2
