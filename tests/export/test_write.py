"""The directory that the user takes home."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import nasturtium
from nasturtium import export, tasks
from nasturtium.errors import ExportError
from nasturtium.export.onnx import compare
from nasturtium.graph import tensor as ops
from nasturtium.graph import trace
from nasturtium.graph.operations import ACTIVATIONS
from nasturtium.model import Module, build
from nasturtium.space import Architecture, Block
from nasturtium.trial import Constraint
from tests.model.my_layers import Blur
from tests.model.networks import Chain, ConvAct, Edges, Head, Heads, Inverted, Shuffle, Uneven

BLOCK = Chain(
    (ConvAct(8, function="hardswish"), Inverted(8, gate=True), Shuffle(), Edges(), Inverted(12, stride=2), Head())
)

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nasturtium":
            raise ImportError("nasturtium is not here")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import model, torch
torch.set_num_threads(1)
x = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    y = model.load()(*x)
torch.save(y, sys.argv[3])
assert "nasturtium" not in sys.modules
"""


@pytest.fixture(scope="module")
def task():
    return tasks.load("digits")


@pytest.fixture(scope="module")
def trained(task):
    """A network that has seen a few batches."""
    graph = trace(BLOCK, task.input_shape, **task.context)
    model = build(graph, seed=0)
    train = task.split("train")
    images = (torch.from_numpy(train.images[:128].copy()).float() * task.scale - task.mean[0]) / task.std[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), torch.from_numpy(train.labels[:128].copy())).backward()
        optimizer.step()
    return graph, model.eval(), images


@pytest.fixture(scope="module")
def exported(tmp_path_factory, task, trained):
    graph, model, _ = trained
    return export.write(
        tmp_path_factory.mktemp("export") / "runs" / "best",
        graph=graph,
        weights=model,
        architecture=Architecture.of(BLOCK),
        task=task,
        metrics={"validation_accuracy": 0.93, "test_accuracy": tasks.wilson(330, 360)},
        constraints=[
            Constraint(metric="params", relation="<=", limit=60_000),
            Constraint(metric="macs", relation="<=", limit=1000),
            Constraint(metric="latency", relation="<=", limit=1.0),
            Constraint(metric="accuracy", relation=">=", limit=0.95),
            Constraint(metric="energy", relation="<=", limit=1.0),
        ],
        costs={"latency": 0.002},
        provenance={"seed": 7, "epochs": 5, "command": "nasturtium search digits --seed 7"},
    )


def alone(directory, tmp_path, inputs):
    """Outputs of `model.py` in a fresh interpreter that cannot import nasturtium."""
    torch.save(inputs, tmp_path / "x.pt")
    subprocess.run(
        [sys.executable, "-I", "-B", "-c", ALONE, str(directory), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")],
        check=True,
        cwd=tmp_path,
    )
    return torch.load(tmp_path / "y.pt", weights_only=True)


def test_it_holds_what_it_says(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted(export.FILES)
    assert [p.name for p in exported.parent.iterdir()] == ["best"], "no temporary directory is left"


def test_model_runs_where_nasturtium_cannot_be_imported(exported, trained, tmp_path):
    _, model, images = trained
    with torch.no_grad():
        expected = model(images[:9])
    torch.testing.assert_close(alone(exported, tmp_path, [images[:9]]), expected, rtol=1e-5, atol=1e-6)


def test_the_command_classifies_a_picture(exported, trained, task, tmp_path):
    _, model, images = trained
    raw = task.split("train").images[3]
    pixels = np.round(raw[0] * (255 * task.scale)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, str(exported / "model.py"), "picture.png"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    with torch.no_grad():
        probability, best = model(images[3:4]).softmax(1)[0].max(0)
    assert done.stdout == f"picture.png: {task.class_names[best]} ({probability:.1%})\n"
    usage = subprocess.run([sys.executable, str(exported / "model.py")], capture_output=True, text=True)
    assert usage.returncode == 1
    assert "usage" in usage.stderr


@pytest.mark.parametrize("batch", [1, 7])
def test_onnx_computes_the_same_for_any_batch(exported, trained, task, batch):
    _, model, images = trained
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": images[:batch].numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, model(images[:batch]).numpy(), rtol=1e-3, atol=1e-4)
    stored = {p.key: p.value for p in onnx.load(exported / "model.onnx").metadata_props}
    assert json.loads(stored["classes"]) == list(task.class_names)
    onnx.checker.check_model(str(exported / "model.onnx"), full_check=True)


def test_onnx_that_differs_is_refused(exported, trained):
    _, model, images = trained
    other = build(trained[0], seed=99).eval()
    assert compare(exported / "model.onnx", model, [images[:5]]).largest_difference < 1e-4
    with pytest.raises(ExportError, match="differ by"):
        compare(exported / "model.onnx", other, [images[:5]])


def test_the_card_and_the_json(exported, trained):
    graph = trained[0]
    card = (exported / "README.md").read_text()
    for text in (
        "| test_accuracy | 91.7 % | 88.4 % to 94.1 % (95%) |",
        "| params <= 60k |",
        "| met |",
        "**missed**",
        "int8, batch 1, the given order, liveness",
        f"| {graph.macs} |",
        "nasturtium search digits --seed 7",
        "onnxruntime.InferenceSession",
        "import model",
        "| seed | 7 |",
    ):
        assert text in card, text
    stored = json.loads((exported / "architecture.json").read_text())
    assert stored["version"] == 1
    assert Architecture.from_dict(stored["architecture"], trust=True).block == BLOCK
    assert [c["verdict"] for c in stored["constraints"]] == ["met", "missed", "met", "missed", "not measured"]
    assert stored["costs"]["params"] == graph.params
    assert stored["provenance"]["versions"]["nasturtium"] == nasturtium.__version__
    assert stored["onnx"]["largest_difference"] <= stored["onnx"]["tolerance"]


def test_snippets_of_the_card_run(exported):
    card = (exported / "README.md").read_text()
    snippets = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert len(snippets) == 2
    for snippet in snippets:
        code = snippet + "\nprint(tuple(output.shape))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True,
            env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": ""},
        )  # fmt: skip
        assert done.stdout == "(1, 10)\n"


def write(path, trained, **options):
    return export.write(path, graph=trained[0], weights=trained[1], architecture=BLOCK, **options)


def test_nothing_is_overwritten_by_accident(tmp_path, trained):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("x")
    with pytest.raises(ExportError, match=r"not empty.*thesis\.txt"):
        write(tmp_path / "data", trained)
    with pytest.raises(ExportError, match="no earlier export"):
        write(tmp_path / "data", trained, overwrite=True)
    with pytest.raises(ExportError, match="is a file"):
        write(tmp_path / "data" / "thesis.txt", trained)
    with pytest.raises(ExportError, match="Nothing can be written"):
        write(tmp_path / "data" / "thesis.txt" / "below", trained)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["thesis.txt"]
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", trained)
    (tmp_path / "old" / "stale.txt").write_text("x")
    write(tmp_path / "old", trained, overwrite=True, title="Second")
    assert sorted(p.name for p in (tmp_path / "old").iterdir()) == sorted(export.FILES)
    assert (tmp_path / "old" / "README.md").read_text().startswith("# Second")


def test_weights_that_do_not_fit_leave_nothing(tmp_path, trained):
    graph = trained[0]
    other = build(trace(Chain((ConvAct(4), Head())), (1, 8, 8), classes=10), seed=0)
    with pytest.raises(ExportError, match="weights do not fit"):
        export.write(tmp_path / "x", graph=graph, weights=other, architecture=BLOCK)
    assert not list(tmp_path.iterdir())


def test_a_failure_on_the_way_leaves_nothing(tmp_path, trained, monkeypatch):
    monkeypatch.setattr("nasturtium.export.onnx.ABSOLUTE", -1.0)
    with pytest.raises(ExportError, match="differ by"):
        write(tmp_path / "x", trained)
    assert not list(tmp_path.iterdir())


def test_the_terminal_stays_quiet(tmp_path, trained, capfd):
    write(tmp_path / "x", trained)
    assert capfd.readouterr() == ("", "")


class Everything(Block):
    """Every operation that an exporter may stumble over."""

    def forward(self, x):
        normed = [ops.group_norm(ops.conv(x, 4), groups=2) for _ in ACTIVATIONS]
        y = ops.concat(*[ops.activation(n, f) for n, f in zip(normed, ACTIVATIONS, strict=True)])
        y = ops.avg_pool(y, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=True)
        z = ops.max_pool(ops.zero(y, stride=1, channels=3), 2, stride=2, padding=0, ceil_mode=True)
        z = ops.resize(z, (y.height, y.width), "bilinear")
        small = ops.resize(ops.adaptive_avg_pool(y, (3, 2)), (y.height, y.width))
        shifted = ops.pad(ops.pad(y, (1, -1, 2, 0)), (-1, 1, -2, 0))
        z = ops.concat(z, small, shifted, ops.zero(y))
        return ops.resize(z, (9, 7), "bilinear", align_corners=True) * ops.global_pool(z, "max")


@pytest.mark.slow
def test_every_operation_reaches_onnx(tmp_path):
    block = Chain((Everything(), Uneven(), Shuffle(), Head()))
    graph = trace(block, (3, 13, 12), classes=4)
    path = export.write(tmp_path / "e", graph=graph, weights=build(graph, seed=0), architecture=block)
    assert (path / "model.onnx").is_file()


def test_two_inputs_several_outputs_and_a_users_module(tmp_path):
    block = Heads(Chain((Module(Blur, channels=4), Inverted(4))))
    graph = trace(block, {"left": (2, 6, 6), "right": (3, 6, 6)}, classes=4)
    model = build(graph, seed=0).eval()
    path = export.write(tmp_path / "e", graph=graph, weights=model.state_dict(), architecture=block)
    assert (path / "my_layers.py").is_file()
    inputs = [torch.randn(3, 2, 6, 6), torch.randn(3, 3, 6, 6)]
    got = alone(path, tmp_path, inputs)
    with torch.no_grad():
        expected = model(*inputs)
    assert list(got) == ["logits", "maps"]
    torch.testing.assert_close(got["maps"][1], expected["maps"][1])
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["logits", "maps.0", "maps.1"]
    onnx_logits = session.run(["logits"], {"left": inputs[0].numpy(), "right": inputs[1].numpy()})[0]
    np.testing.assert_allclose(onnx_logits, expected["logits"].numpy(), rtol=1e-3, atol=1e-4)
