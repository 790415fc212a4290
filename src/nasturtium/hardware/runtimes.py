"""Preparing a network for a runtime: files that a fresh process times, and that process for PyTorch's runtimes.

A runtime is one entry of `RUNTIMES`: how its file is written, and the command of the process that times such files.
Weights do not matter for the time, so they are drawn, unless a module is given.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasturtium.blocks import Classifier, Conv, MBConv, Sequential
from nasturtium.errors import ExportError, InvalidInputError
from nasturtium.export.onnx import quiet
from nasturtium.graph import Graph, trace
from nasturtium.hardware import agent, tflite
from nasturtium.hardware.device import Device
from nasturtium.model import build

CALIBRATION = 8
"""Random inputs from which the ranges of an int8 network are taken where it is only timed."""


@dataclass(frozen=True, slots=True)
class RuntimeSupport:
    """How networks reach a runtime, and who times them there."""

    suffix: str
    write: Callable[[nn.Module, Sequence[Tensor], Path], None]
    command: tuple[str, ...]
    """Of one fresh process: job on standard input, result on standard output (see `agent.work`)."""
    reference: str
    """The runtime of the reference kernel, in the same process."""


def drawn_inputs(graph: Graph, batch: int) -> tuple[Tensor, ...]:
    """Standard normal inputs, `(batch, *shape)`, always the same."""
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, *graph.nodes[i].shape, generator=rng) for i in range(len(graph.inputs)))


@cache
def reference_graph() -> Graph:
    """The reference kernel: a small network of usual layers, about 2 million MACs, the same for every device."""
    layers = (Conv(16, stride=2), MBConv(24, expand=4, stride=2), MBConv(24, expand=4), Conv(64, kernel=1))
    return trace(Sequential(*layers, Classifier()), ((3, 48, 48),), classes=10)


def write_onnx_fast(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """Write an ONNX file with a free batch size, twenty times faster than `export.onnx`, for timing only.

    It goes through TorchScript; the operations and their fusion in ONNX Runtime are those of the exported file.

    Raises:
        ExportError: the network cannot be written.
    """
    names = [f"input{i}" for i in range(len(inputs))]
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, tuple(inputs), str(path), dynamo=False, input_names=names,
                dynamic_axes={name: {0: "batch"} for name in names},
            )  # fmt: skip
    except Exception as error:
        raise ExportError(f"The network cannot be written as ONNX: {type(error).__name__}: {error}.") from error


def write_onnx_int8(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """Write an int8 ONNX file as `quantize.quantize_onnx` does, of any number of inputs, calibrated on random ones.

    For timing only: the ranges have no influence on the time.

    Raises:
        ExportError: the network cannot be written or quantised.
    """
    from onnxruntime.quantization import (  # noqa: PLC0415  (slow to import, rarely needed)
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            shapes = {f"input{i}": tuple(x.shape) for i, x in enumerate(inputs)}
            self.samples = iter(
                [{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(CALIBRATION)]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.samples, None)

    plain, processed = path.with_suffix(".float.onnx"), path.with_suffix(".processed.onnx")
    write_onnx_fast(module, inputs, plain)
    try:
        with quiet():
            quant_pre_process(str(plain), str(processed), skip_symbolic_shape=True)
            quantize_static(
                str(processed), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, reduce_range=True,
            )  # fmt: skip
    except Exception as error:
        raise ExportError(f"The network cannot be quantised: {type(error).__name__}: {error}.") from error
    finally:
        plain.unlink(missing_ok=True)
        processed.unlink(missing_ok=True)


def write_module(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """Write a module and its inputs for a process of PyTorch; only this library's own processes read the file."""
    torch.save({"module": module, "inputs": tuple(inputs)}, path)


def write_litert(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """Write a float32 `.tflite` file of batch 1.

    Raises:
        ExportError: the network has several inputs, or cannot be written.
        MissingExtraError: the extra `tinyml` is not installed.
    """
    if len(inputs) != 1 or inputs[0].shape[0] != 1:
        raise ExportError(
            f"LiteRT is timed on one input of batch 1, got {len(inputs)} inputs of {[tuple(x.shape) for x in inputs]}."
        )
    tflite.write_tflite(module, path, tuple(inputs[0].shape[1:]))


def write_litert_int8(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """Write an int8 `.tflite` file of batch 1, calibrated on random inputs: for timing only.

    Raises:
        ExportError: as `write_litert`, or it cannot be quantised.
        MissingExtraError: the extra `tinyml` is not installed.
    """
    plain = path.with_suffix(".float.tflite")
    write_litert(module, inputs, plain)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((CALIBRATION, *inputs[0].shape[1:])).astype(np.float32)
    try:
        tflite.quantize_tflite(plain, [images], path)
    finally:
        plain.unlink(missing_ok=True)


_THIS = (sys.executable, "-m", "nasturtium.hardware.runtimes")

RUNTIMES: Mapping[str, RuntimeSupport] = {
    "eager": RuntimeSupport(".pt", write_module, (*_THIS, "eager"), "eager"),
    "compiled": RuntimeSupport(".pt", write_module, (*_THIS, "compiled"), "eager"),
    "onnx": RuntimeSupport(".onnx", write_onnx_fast, tuple(agent.own_command()), "onnx"),
    "onnx_int8": RuntimeSupport(".onnx", write_onnx_int8, tuple(agent.own_command()), "onnx"),
    "litert": RuntimeSupport(".tflite", write_litert, (*_THIS, "litert"), "litert"),
    "litert_int8": RuntimeSupport(".tflite", write_litert_int8, (*_THIS, "litert"), "litert"),
}
"""The runtimes that are timed here."""


def support(device: Device) -> RuntimeSupport:
    """How networks reach a device's runtime.

    Raises:
        InvalidInputError: nothing is timed on such a device.
        MissingExtraError: the runtime is not installed.
    """
    if device.is_microcontroller or device.runtime == "tflm":
        raise InvalidInputError(
            f"Nothing is timed on {device.name!r}: for microcontrollers, memory is exact and latency is unknown here. "
            "Ask for its peak memory and flash, or measure on the board."
        )
    if device.runtime == "litert":
        tflite.require("ai_edge_litert.interpreter")
        return RUNTIMES["litert_int8" if device.dtype == "int8" else "litert"]
    if device.is_cuda and not torch.cuda.is_available():
        raise InvalidInputError(f"Device {device.name!r} needs CUDA, which PyTorch does not find on this machine.")
    return RUNTIMES[device.runtime]


def prepare(network: Graph | nn.Module, device: Device, path: Path, *, inputs: Sequence[Tensor] = ()) -> Path:
    """Write a network for a device's runtime.

    Args:
        network: A graph, whose weights are drawn, or a module in evaluation mode on the CPU.
        device: Where it will be timed.
        path: Without suffix.
        inputs: For a module: `(batch, *shape)` each.

    Returns:
        The file, with the runtime's suffix.

    Raises:
        InvalidInputError: a module without inputs, or a device on which nothing is timed.
        MissingExtraError: the runtime is not installed.
        ExportError: the network cannot be written for this runtime.
    """
    kind = support(device)
    if isinstance(network, Graph):
        module: nn.Module = build(network, seed=0)
        inputs = drawn_inputs(network, device.batch)
    elif inputs:
        module = network
        if any(x.ndim == 0 or len(x) != device.batch for x in inputs):
            raise InvalidInputError(
                f"Device {device.name!r} runs batches of {device.batch}, got `inputs` of "
                f"{[tuple(x.shape) for x in inputs]}. Give inputs of that batch, or `device.replace(batch=...)`."
            )
    else:
        raise InvalidInputError("A module is timed on given `inputs`, got none; a graph needs none.")
    target = path.with_name(path.name + kind.suffix)
    kind.write(module.eval(), inputs, target)
    return target


def prepare_reference(device: Device, folder: Path) -> Path:
    """Write the reference kernel, in float32 and batch 1, for the process that times a device's networks."""
    kind = RUNTIMES[support(device).reference]
    target = folder / f"reference{kind.suffix}"
    graph = reference_graph()
    kind.write(build(graph, seed=0).eval(), drawn_inputs(graph, 1), target)
    return target


# One fresh process of PyTorch


def module_run(path: str, job: Mapping[str, Any], *, compiled: bool) -> agent.Run:
    """One inference of a stored module on its stored inputs, finished when it returns."""
    stored = torch.load(path, weights_only=False)  # written a moment ago by `write_module`
    place, dtype = torch.device(job["target"]), getattr(torch, job["dtype"])
    module = stored["module"].to(place, dtype).eval()
    inputs = [x.to(place, dtype) for x in stored["inputs"]]
    function = torch.compile(module) if compiled else module

    def run() -> None:
        with torch.inference_mode():
            function(*inputs)
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return run


def litert_run(path: str, job: Mapping[str, Any]) -> tuple[agent.Run, str]:
    """One inference of a `.tflite` file on a random input, and the kernels that compute it.

    LiteRT computes with XNNPACK unless told otherwise, so that is timed; where XNNPACK refuses a network, LiteRT's own
    kernels are.
    """
    interpreter, kernels = tflite.fast_interpreter(path, threads=job["threads"])
    (details,) = interpreter.get_input_details()
    image = np.random.default_rng(0).standard_normal(details["shape"])
    interpreter.set_tensor(details["index"], image.astype(details["dtype"]))
    return interpreter.invoke, kernels


def one_run(path: Path, device: Device) -> agent.Run:
    """One inference of a file that `prepare` wrote, in this process, with its threads as they are set."""
    if device.runtime in {"onnx", "onnx_int8"}:
        return agent.session_run(str(path), device.threads, device.batch)
    job = {"target": device.target, "dtype": device.dtype, "threads": device.threads}
    return _run(device.runtime, str(path), job)[0]


def _run(kind: str, path: str, job: Mapping[str, Any]) -> tuple[agent.Run, str]:
    """One inference of a file in a runtime of this process, and its kernels ("" where there is no choice)."""
    if kind == "litert":
        return litert_run(path, job)
    return module_run(path, job, compiled=kind == "compiled"), ""


def work(job: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Time each of the job's networks in turns with the reference; see `agent.work`.

    Args:
        job: As there, with "target" and "dtype".
        kind: "eager", "compiled" or "litert".
    """
    cores = agent.pin(job["threads"], job.get("cores"))
    torch.set_num_threads(job["threads"])
    reference, kernels = _run("litert" if kind == "litert" else "eager", job["reference"], {**job, "dtype": "float32"})
    results = []
    for path in job["networks"]:
        run, own = _run(kind, path, job)
        run()  # a compiled one compiles now
        results.append(agent.in_turns(run, reference, job))
        if own != kernels:
            results[-1]["note"] = f"The network was computed by {own}, the reference kernel by {kernels}."
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    if kind == "litert":
        versions["ai-edge-litert"] = f"{version('ai-edge-litert')} ({kernels})"
    return {**agent.circumstances(cores, versions), "results": results}


def main() -> int:
    """Read a job, time it, write the result."""
    print(json.dumps(work(json.loads(sys.stdin.read()), sys.argv[1])))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
