"""What "fits" means of an int8 file, with a made interpreter: the arena, a margin, the stated assumption."""

from __future__ import annotations

import json
import random
import types

import pytest

import nasturtium as nas
from nasturtium import estimators
from nasturtium.design.tiny import Limits
from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.hardware import arena, quantize, tflite
from nasturtium.study.tiny_files import write_fitting

ARENA = 10_000


@pytest.fixture
def study(monkeypatch, tmp_path):
    """A study of one trial; converter, interpreters and weights are replaced."""
    written = types.SimpleNamespace(path=tmp_path / "model_int8.tflite", bytes=5_000)
    monkeypatch.setattr(estimators, "load_weights", lambda model, weights: None)
    monkeypatch.setattr(tflite, "write_tflite", lambda model, path, shape: path)
    monkeypatch.setattr(tflite, "quantize_tflite", lambda source, images, out: written)
    monkeypatch.setattr(tflite, "LiteRTNetwork", lambda path: None)
    monkeypatch.setattr(arena, "measure_arena", lambda path: arena.Arena(total=ARENA, head=8_000, tail=2_000))
    monkeypatch.setattr(quantize, "evaluate_runtime", lambda network, task, part: types.SimpleNamespace(accuracy=0.8))
    space = nas.Space(nas.Sequential(nas.Conv(4, stride=2), nas.Classifier()))
    member = types.SimpleNamespace(
        number=3, architecture=space.sample(random.Random(0)), weights=None, metrics={"accuracy": 0.9, "sram": 8_000.0}
    )
    return types.SimpleNamespace(feasible=lambda: [member])


def test_a_margin_is_kept_free_beside_the_arena_and_the_assumption_is_stated(study, tmp_path):
    task = nas.tasks.load("digits")
    found = write_fitting(study, tmp_path, task, Limits(sram=ARENA + 500, flash=6_000), margin=500)
    assert (found.fits, found.arena_bytes, found.margin_bytes) == (True, ARENA, 500)
    said = json.loads(json.dumps(found.to_dict()))
    assert "reference kernels and a margin of 500 B" in said["assumption"]
    assert "CMSIS-NN" in said["assumption"]
    with pytest.raises(InfeasibleError, match="margin of 501 B"):
        write_fitting(study, tmp_path, task, Limits(sram=ARENA + 500, flash=6_000), margin=501)
    with pytest.raises(InvalidInputError, match="margin"):
        write_fitting(study, tmp_path, task, Limits(), margin=-1)
