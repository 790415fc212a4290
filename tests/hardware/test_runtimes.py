"""Preparing networks for runtimes, and the process that times them (here without starting one)."""

import importlib.util
import types

import numpy as np
import onnxruntime
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import ExportError, InvalidInputError, MissingExtraError
from nasturtium.hardware import agent, runtimes, tflite

GRAPH = nas.trace(nas.Sequential(nas.Conv(4, stride=2), nas.Classifier()), (1, 8, 8), classes=3)
JOB = {"threads": 1, "batch": 2, "turns": 2, "seconds": 0.002, "least": 2, "target": "cpu", "dtype": "float32"}


@pytest.fixture(autouse=True)
def stay_unpinned(monkeypatch):
    monkeypatch.setattr(agent, "pin", lambda threads, cores=None: [0])


def test_the_onnx_file_that_is_timed_computes_what_pytorch_computes(tmp_path):
    device = nas.hardware.device("cpu").replace(batch=2)
    path = runtimes.prepare(GRAPH, device, tmp_path / "network")
    (x,) = runtimes.drawn_inputs(GRAPH, 5)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        ours = nas.build(GRAPH, seed=0).eval()(x).numpy()
    np.testing.assert_allclose(session.run(None, {"input0": x.numpy()})[0], ours, atol=1e-5)  # a free batch


def test_an_int8_file_holds_int8_weights(tmp_path):
    import onnx

    path = runtimes.prepare(GRAPH, nas.hardware.device("cpu-int8"), tmp_path / "network")
    kinds = {t.data_type for t in onnx.load(path).graph.initializer if t.dims and len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    assert [f.name for f in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.parametrize(
    ("name", "work"), [("cpu", agent.work), ("cpu-eager", lambda job: runtimes.work(job, "eager"))]
)
def test_a_process_gives_turns_with_references_around_them(tmp_path, name, work):
    device = nas.hardware.device(name).replace(batch=2)
    network = runtimes.prepare(GRAPH, device, tmp_path / "network")
    reference = runtimes.prepare_reference(device, tmp_path)
    found = work({**JOB, "networks": [str(network)] * 2, "reference": str(reference)})
    assert len(found["results"]) == 2
    for result in found["results"]:
        assert [len(result["network"]), len(result["reference"])] == [2, 3]
        assert all(len(b) >= 2 and min(wall for wall, _, _ in b) > 0 for b in result["network"])
    assert found["machine"]
    assert set(found["versions"]) >= {"python", "numpy"}


def test_what_is_not_timed_says_why(tmp_path):
    with pytest.raises(InvalidInputError, match="memory is exact and latency is unknown"):
        runtimes.prepare(GRAPH, nas.hardware.device("mcu-256k"), tmp_path / "x")
    with pytest.raises(InvalidInputError, match="timed on given `inputs`"):
        runtimes.prepare(torch.nn.Identity(), nas.hardware.device("cpu"), tmp_path / "x")
    with pytest.raises(InvalidInputError, match=r"batches of 1, got `inputs` of \[\(2, 1\)\]"):
        runtimes.prepare(torch.nn.Identity(), nas.hardware.device("cpu"), tmp_path / "x", inputs=(torch.zeros(2, 1),))
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="needs CUDA"):
            runtimes.prepare(GRAPH, nas.hardware.device("cuda"), tmp_path / "x")


def test_litert_says_what_to_install_where_it_is_not(tmp_path):
    if importlib.util.find_spec("ai_edge_litert"):
        pytest.skip("LiteRT is installed")
    with pytest.raises(MissingExtraError, match=r"nasturtium\[tinyml\]"):
        runtimes.prepare(GRAPH, nas.hardware.device("cpu-litert"), tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu-litert", "cpu-litert-int8"])
def test_litert_gives_turns_too(tmp_path, name):
    pytest.importorskip("ai_edge_litert", reason="needs nasturtium[tinyml]")
    device = nas.hardware.device(name)
    network = runtimes.prepare(GRAPH, device, tmp_path / "network")
    reference = runtimes.prepare_reference(device, tmp_path)
    found = runtimes.work({**JOB, "networks": [str(network)], "reference": str(reference)}, "litert")
    assert [len(found["results"][0][part]) for part in ("network", "reference")] == [2, 3]
    assert found["versions"]["ai-edge-litert"].endswith("(XNNPACK)")


class Interpreter:
    """Of LiteRT, as far as timing needs it; XNNPACK refuses what is called "refused"."""

    def __init__(self, path, *, num_threads, experimental_op_resolver_type=None):
        self.own = experimental_op_resolver_type is not None
        self.refused = "refused" in path and not self.own

    def allocate_tensors(self):
        if self.refused:
            raise RuntimeError("failed to create XNNPACK runtime")

    def get_input_details(self):
        return [{"shape": np.array([1, 2]), "dtype": np.float32, "index": 0}]

    def set_tensor(self, index, value):
        assert value.shape == (1, 2)

    def invoke(self):
        pass


def test_litert_is_timed_as_it_computes_by_default_and_says_where_it_cannot(monkeypatch):
    module = types.SimpleNamespace(
        Interpreter=Interpreter, OpResolverType=types.SimpleNamespace(BUILTIN_WITHOUT_DEFAULT_DELEGATES=1)
    )
    monkeypatch.setattr(tflite, "require", lambda name: module)
    monkeypatch.setattr(runtimes, "version", lambda name: "2.0")
    job = {**JOB, "networks": ["refused.tflite", "taken.tflite"], "reference": "reference.tflite"}
    found = runtimes.work(job, "litert")
    assert found["versions"]["ai-edge-litert"] == "2.0 (XNNPACK)"
    assert "computed by LiteRT's own kernels, the reference kernel by XNNPACK" in found["results"][0]["note"]
    assert "note" not in found["results"][1]


def test_several_inputs_are_no_network_for_litert(tmp_path):
    with pytest.raises(ExportError, match="one input of batch 1"):
        runtimes.write_litert(torch.nn.Identity(), (torch.zeros(2, 1),), tmp_path / "x")


def test_a_module_that_onnx_cannot_hold_is_an_export_error(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(ExportError, match="ValueError: no"):
        runtimes.prepare(Odd(), nas.hardware.device("cpu"), tmp_path / "x", inputs=(torch.zeros(1, 1),))
