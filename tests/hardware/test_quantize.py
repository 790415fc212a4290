"""int8 through ONNX Runtime: calibrated on training images, judged by the runtime itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import ExportError, InvalidInputError
from nasturtium.hardware import OnnxNetwork, calibration_images, evaluate_runtime, quantize_onnx
from nasturtium.hardware.runtimes import write_onnx_fast


@pytest.fixture(scope="module")
def task():
    return nas.tasks.load("digits")


@pytest.fixture(scope="module")
def model(task):
    net = nas.Sequential(nas.Conv(16), nas.Conv(16, stride=2), nas.Classifier())
    model = nas.build(nas.trace(net, task.input_shape, **task.context), seed=0)
    nas.training.fit(model, task, nas.Recipe(batch_size=32), epochs=12, seed=0)
    return model.eval()


@pytest.fixture(scope="module")
def files(task, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx_fast(model, [torch.zeros(2, *task.input_shape)], folder / "float.onnx")
    return folder / "float.onnx", quantize_onnx(folder / "float.onnx", calibration_images(task), folder / "int8.onnx")


def test_weights_and_activations_are_int8(files):
    path, made = files
    kinds = {t.data_type for t in onnx.load(made.path).graph.initializer if len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(made.path).graph.node)
    assert made.images == 128
    assert made.float_bytes == path.stat().st_size


def test_accuracy_is_that_of_the_runtime_and_close_to_the_float_networks(task, model, files):
    path, made = files
    torch_says = nas.training.evaluate(model, task)
    float_says = evaluate_runtime(OnnxNetwork(path), task)
    assert (float_says.correct == torch_says.correct).mean() > 0.995
    assert float_says.loss == pytest.approx(torch_says.loss, rel=1e-3)
    int8_says = evaluate_runtime(OnnxNetwork(made.path), task)
    difference = nas.tasks.paired_difference(int8_says.correct, float_says.correct)
    assert difference.estimate > -0.03
    assert torch_says.accuracy > 0.5  # it has learnt, so equality says something


def test_logits_are_nearly_those_of_the_float_network(task, model, files):
    images = next(calibration_images(task, count=64, batch=64))
    with torch.inference_mode():
        exact = model(torch.from_numpy(images)).numpy()
    given = OnnxNetwork(files[1].path)(images)
    assert not np.array_equal(given, exact)
    assert np.corrcoef(given.ravel(), exact.ravel())[0, 1] > 0.98


def test_calibration_sees_training_images_only(task):
    images = np.concatenate(list(calibration_images(task, count=50, batch=16)))
    assert images.shape == (50, *task.input_shape)
    train = (task.split("train").images * task.scale - task.mean[0]) / task.std[0]
    distance = np.abs(images[:, None] - train[None]).reshape(50, len(train), -1).max(axis=2)
    assert distance.min(axis=1).max() < 1e-4
    again = np.concatenate(list(calibration_images(task, count=50, batch=50)))
    assert np.array_equal(images, again)
    other = np.concatenate(list(calibration_images(task, count=50, seed=1)))
    assert not np.array_equal(images, other)


def test_loss_by_hand(task):
    """Logits 0 everywhere: the loss is ln(classes), and class 0 is what is said."""
    split = replace(task.split("validation"))
    got = evaluate_runtime(lambda x: np.zeros((len(x), task.classes), np.float32), task, split)
    assert got.loss == pytest.approx(np.log(task.classes))
    assert np.array_equal(got.correct, split.labels == 0)


def test_mistakes_are_named(task, files, tmp_path):
    with pytest.raises(InvalidInputError, match="calibration images"):
        quantize_onnx(files[0], [], tmp_path / "a.onnx")
    with pytest.raises(InvalidInputError, match="minmax"):
        quantize_onnx(files[0], [], tmp_path / "a.onnx", calibration="median")
    (tmp_path / "b.onnx").write_text("no")
    with pytest.raises(ExportError, match=r"b\.onnx"):
        OnnxNetwork(tmp_path / "b.onnx")
    with pytest.raises(InvalidInputError, match="logits of shape"):
        evaluate_runtime(lambda x: np.zeros((len(x), 3), np.float32), task)
    with pytest.raises(InvalidInputError, match="at least 1"):
        next(calibration_images(task, count=0))
