"""TensorFlow Lite files: float and int8, written from PyTorch and run by the real interpreters.

`write_tflite` goes through litert-torch, `quantize_tflite` through ai-edge-quantizer; `LiteRTNetwork` runs a file in
LiteRT (phones), `MicroNetwork` in TensorFlow Lite Micro (microcontrollers), compiled for this machine. Images in the
file are `(1, height, width, channels)`; here they are `(n, channels, height, width)` on both sides, as in PyTorch.
All this needs the extra `tinyml`, whose packages exist for Linux on x86-64.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasturtium.errors import ExportError, InvalidInputError, MissingExtraError
from nasturtium.export.onnx import flat, quiet
from nasturtium.hardware.native import captured_stderr
from nasturtium.hardware.quantize import Images, Quantized
from nasturtium.hardware.tflite_file import check_readable, compact

ARENA_BYTES = 64 * 2**20
"""Given to the interpreter of TensorFlow Lite Micro unless the caller says otherwise: more than any board has."""

PACKAGES = {
    "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "ai_edge_litert": "ai-edge-litert",
    "tflite_micro": "tflite-micro",
}
"""Packages of the extra, by the name of their module."""


def require(name: str) -> Any:
    """A module of the extra `tinyml`, for example "ai_edge_litert.interpreter".

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    try:
        with warnings.catch_warnings(), captured_stderr():  # they warn of each other, and of GPUs that are not there
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        package = PACKAGES[name.partition(".")[0]]
        raise MissingExtraError(
            f"{package} is needed here, and importing it failed: {error}. "
            "Install the extra: pip install 'nasturtium[tinyml]' (Linux on x86-64)."
        ) from error


def write_tflite(model: nn.Module, path: str | Path, input_shape: Sequence[int]) -> Path:
    """Write a float32 `.tflite` file of batch 1.

    Args:
        model: A trained network of one input and one output, on the CPU; it is exported in evaluation mode.
        path: File to write.
        input_shape: `(channels, height, width)`, or `(features,)`.

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: the network cannot be converted.
    """
    litert_torch = require("litert_torch")
    target = Path(path)
    was_training = model.training
    single = _Single(model).eval()
    sample = torch.zeros(1, *input_shape)
    try:
        with torch.inference_mode():
            output = single(sample)
        last: nn.Module = single
        if sample.ndim == 4:
            last = litert_torch.to_channel_last_io(single, args=[0], **({"outputs": [0]} if output.ndim == 4 else {}))
            sample = sample.permute(0, 2, 3, 1).contiguous()
        with quiet(), captured_stderr():
            litert_torch.convert(last, (sample,)).export(str(target))
    except Exception as error:
        raise ExportError(f"The network cannot be written as .tflite: {type(error).__name__}: {error}.") from error
    finally:
        model.train(was_training)
    return target


def quantize_tflite(path: str | Path, batches: Iterable[Images], out: str | Path) -> Quantized:
    """Quantise a float `.tflite` file to int8 weights (per channel) and int8 activations, inputs and outputs too.

    The file is one that TensorFlow Lite Micro can read, whatever its size, and has no names; see `tflite_file.compact`.

    Args:
        path: A file that `write_tflite` wrote.
        batches: Calibration images, `(n, channels, height, width)` float32; see `quantize.calibration_images`.
        out: The int8 file to write.

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: the file cannot be quantised.
        InvalidInputError: no calibration images.
    """
    quantizer = require("ai_edge_quantizer.quantizer")
    recipe = require("ai_edge_quantizer.recipe")
    source, target = Path(path), Path(out)
    signatures = _interpreter(source, 1).get_signature_list()
    name, signature = next(iter(signatures.items()))
    samples = [{signature["inputs"][0]: image} for image in _ones(batches)]
    if not samples:
        raise InvalidInputError("Quantisation needs calibration images, got none.")
    try:
        with quiet(), captured_stderr():
            work = quantizer.Quantizer(str(source))
            work.load_quantization_recipe(recipe.static_wi8_ai8())
            result = work.quantize(work.calibrate({name: samples}, num_threads=1))
            target.write_bytes(compact(bytes(result.quantized_model)))
    except Exception as error:
        raise ExportError(f"{str(source)!r} cannot be quantised: {type(error).__name__}: {error}.") from error
    return Quantized(path=target, images=len(samples), bytes=target.stat().st_size, float_bytes=source.stat().st_size)


def operations(path: str | Path) -> tuple[str, ...]:
    """Names of a file's operations in order of execution, as TensorFlow Lite names them ("CONV_2D").

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: the file cannot be read.
    """
    details = _interpreter(Path(path), 1)._get_ops_details()  # nothing public tells
    return tuple([each["op_name"] for each in details])


class LiteRTNetwork:
    """A `.tflite` file in LiteRT: images to its output, one image after another.

    Args:
        path: A file of one input and one output, float32 or int8.
        threads: Threads of one inference.

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: the file cannot be read.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self.interpreter = _interpreter(Path(path), threads)
        self.input = _Codec(self.interpreter.get_input_details()[0])
        self.output = _Codec(self.interpreter.get_output_details()[0])

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Outputs of `(n, channels, height, width)`."""
        return self.output.decode([self.run(self.input.encode(image)) for image in _ones([images])])

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """The file's own output for its own input."""
        self.interpreter.set_tensor(self.input.index, image)
        self.interpreter.invoke()
        return np.array(self.interpreter.get_tensor(self.output.index))


class MicroNetwork:
    """A `.tflite` file in TensorFlow Lite Micro, as it computes on a microcontroller, one image after another.

    Args:
        path: A file of one input and one output, float32 or int8.
        arena_bytes: Memory that the interpreter gets for everything but the file itself.

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: an operation has no kernel there, the arena is too small, or the file's constants lie where that
            runtime does not look.
    """

    def __init__(self, path: str | Path, *, arena_bytes: int = ARENA_BYTES) -> None:
        self.path = str(path)
        runtime = require("tflite_micro").runtime  # an attribute, not a module of that path
        require("ai_edge_litert")  # reads the file's format
        check_readable(path)
        try:
            self.interpreter = runtime.Interpreter.from_file(str(path), arena_size=arena_bytes)
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"TensorFlow Lite Micro cannot take {str(path)!r} into an arena of {arena_bytes:,} bytes: {error}. "
                "An operation has no kernel there (see `hardware.check`), or the arena is too small."
            ) from error
        self.input = _Codec(self.interpreter.get_input_details(0))
        self.output = _Codec(self.interpreter.get_output_details(0))

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Outputs of `(n, channels, height, width)`."""
        return self.output.decode([self.run(self.input.encode(image)) for image in _ones([images])])

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """The file's own output for its own input.

        Raises:
            ExportError: an operation fails, or the input is not of the file's shape and type.
        """
        try:
            self.interpreter.set_input(image, 0)
            self.interpreter.invoke()
            return np.array(self.interpreter.get_output(0))
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"TensorFlow Lite Micro took {self.path!r} and cannot run it on an input of {image.shape}, "
                f"{image.dtype}: {error}."
            ) from error


class _Codec:
    """Between real numbers and a tensor's own: q = real / scale + zero."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.index = details.get("index", 0)
        self.dtype = np.dtype(details["dtype"])
        parameters = details["quantization_parameters"]
        self.scale = float(parameters["scales"][0]) if len(parameters["scales"]) else 1.0
        self.zero = int(parameters["zero_points"][0]) if len(parameters["zero_points"]) else 0

    def encode(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Real numbers to the tensor's own, those out of its range to the nearest."""
        if self.dtype == np.float32:
            return image
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(image / self.scale) + self.zero, limits.min, limits.max).astype(self.dtype)

    def decode(self, outputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The tensor's own numbers to real ones, images with channels first."""
        values = np.concatenate(outputs).astype(np.float32)
        if self.dtype != np.float32:
            values = (values - self.zero) * np.float32(self.scale)
        return np.moveaxis(values, -1, 1) if values.ndim == 4 else values


class _Single(nn.Module):
    """A network whose only output may stand in a tuple or dict."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        outputs = flat(self.network(x))
        if len(outputs) != 1:
            raise InvalidInputError(f"A .tflite file is written of a network of one output, got {len(outputs)}.")
        return outputs[0]


def _ones(batches: Iterable[Images]) -> Iterator[NDArray[np.float32]]:
    """Images one by one, with channels last and a batch of one."""
    for batch in batches:
        last = np.moveaxis(batch, 1, -1) if batch.ndim == 4 else batch
        for image in last:
            yield np.ascontiguousarray(image[None], dtype=np.float32)


def _interpreter(path: Path, threads: int) -> Any:
    """LiteRT's interpreter with its own kernels (its XNNPACK delegate refuses some networks)."""
    module = require("ai_edge_litert.interpreter")
    try:
        made = module.Interpreter(
            str(path),
            num_threads=threads,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot read {str(path)!r}: {error}.") from error
    return made


XNNPACK, OWN_KERNELS = "XNNPACK", "LiteRT's own kernels"


def fast_interpreter(path: str | Path, *, threads: int = 1) -> tuple[Any, str]:
    """LiteRT's interpreter as it computes by default, for timing, and its kernels.

    Args:
        path: A `.tflite` file.
        threads: Of one inference.

    Returns:
        The interpreter, its tensors allocated and run once, and `XNNPACK`, or `OWN_KERNELS` where XNNPACK refuses the
        network.

    Raises:
        MissingExtraError: the extra is not installed.
        ExportError: the file cannot be read.
    """
    module = require("ai_edge_litert.interpreter")
    try:
        made = module.Interpreter(str(path), num_threads=threads)
        made.allocate_tensors()
        made.invoke()
    except (RuntimeError, ValueError):  # XNNPACK refuses it, or it is no such file: the other one tells
        return _interpreter(Path(path), threads), OWN_KERNELS
    return made, XNNPACK
