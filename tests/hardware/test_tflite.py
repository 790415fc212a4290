"""int8 `.tflite` files by the real converter, quantiser and interpreters (slow: the converter)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import ExportError, MissingExtraError
from nasturtium.hardware import (
    LiteRTNetwork,
    MicroNetwork,
    calibration_images,
    evaluate_runtime,
    fits_arena,
    measure_arena,
    predict_arena,
    predict_flash,
    quantize_tflite,
    smallest_arena,
    write_c_array,
    write_tflite,
)
from nasturtium.hardware import tflite as room
from nasturtium.hardware.micro_program import micro_program

MISSING = [name for name in room.PACKAGES if importlib.util.find_spec(name) is None]
tinyml = pytest.mark.skipif(bool(MISSING), reason=f"the extra tinyml is not installed: {', '.join(MISSING)}")

NETWORK = nas.Sequential(nas.Conv(8), nas.MBConv(16, expand=3, stride=2), nas.MBConv(16, expand=3), nas.Classifier())


@pytest.fixture(scope="module")
def task():
    return nas.tasks.load("digits")


@pytest.fixture(scope="module")
def trained(task):
    graph = nas.trace(NETWORK, task.input_shape, **task.context)
    model = nas.build(graph, seed=0)
    nas.training.fit(model, task, nas.Recipe(batch_size=32), epochs=20, seed=0)
    return graph, model


@pytest.fixture(scope="module")
def files(task, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    write_tflite(trained[1], folder / "float.tflite", task.input_shape)
    quantize_tflite(folder / "float.tflite", calibration_images(task), folder / "int8.tflite")
    return folder / "float.tflite", folder / "int8.tflite"


@tinyml
@pytest.mark.slow
def test_accuracy_through_the_real_interpreters(task, trained, files):
    torch_says = nas.training.evaluate(trained[1], task)
    float_says = evaluate_runtime(LiteRTNetwork(files[0]), task)
    assert (float_says.correct == torch_says.correct).mean() > 0.99
    int8_says = evaluate_runtime(LiteRTNetwork(files[1]), task)
    micro_says = evaluate_runtime(MicroNetwork(files[1]), task)
    for said in (int8_says, micro_says):
        assert nas.tasks.paired_difference(said.correct, torch_says.correct).estimate > -0.04
    assert (micro_says.correct == int8_says.correct).mean() > 0.97


@tinyml
@pytest.mark.slow
def test_the_two_interpreters_differ_by_a_step_at_most(task, files):
    light, micro = LiteRTNetwork(files[1]), MicroNetwork(files[1])
    for image in next(calibration_images(task, count=20, batch=20)):
        given = light.input.encode(np.ascontiguousarray(np.moveaxis(image[None], 1, -1)))
        assert np.abs(light.run(given).astype(int) - micro.run(given).astype(int)).max() <= 1


@tinyml
@pytest.mark.slow
def test_the_arena_is_what_was_predicted_and_really_needed(trained, files):
    arena, predicted = measure_arena(files[1]), predict_arena(trained[0])
    assert arena.total == arena.head + arena.tail
    assert predicted.head == arena.head
    assert abs(predicted.tail - arena.tail) <= 0.05 * arena.tail
    smallest = smallest_arena(files[1])
    assert 0 <= arena.total - smallest <= 0.02 * arena.total
    assert fits_arena(files[1], smallest)
    assert not fits_arena(files[1], smallest - 16)
    with pytest.raises(ExportError, match="arena"):
        MicroNetwork(files[1], arena_bytes=smallest // 2)


@tinyml
@pytest.mark.slow
def test_the_file_holds_the_predicted_flash_and_its_own_structure(trained, files):
    assert predict_flash(trained[0]).total < files[1].stat().st_size < files[0].stat().st_size * 2


@tinyml
@pytest.mark.slow
def test_the_operations_are_the_predicted_ones_and_can_be_registered(trained, files, tmp_path):
    names = room.operations(files[1])
    assert names == tuple(operation.name for operation in micro_program(trained[0]).operations)
    header, _ = write_c_array(files[1], tmp_path, operations=names)
    assert "AddFullyConnected" in header.read_text()


def test_a_missing_extra_is_named(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(room.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"litert-torch.*nasturtium\[tinyml\]"):
        room.require("litert_torch")


def test_files_that_are_none_are_refused(tmp_path: Path):
    if "ai_edge_litert" in MISSING:
        pytest.skip("the extra tinyml is not installed: ai_edge_litert")
    (tmp_path / "no.tflite").write_bytes(b"no")
    with pytest.raises(ExportError, match=r"no\.tflite"):
        LiteRTNetwork(tmp_path / "no.tflite")
