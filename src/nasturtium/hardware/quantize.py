"""Post-training int8 quantisation through ONNX Runtime, with calibration on real images, and its measured accuracy.

Static quantisation: the ranges of all activations are taken from calibration images, once; weights are quantised for
each output channel, activations for each tensor. Whether int8 is faster is another question: measure it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from nasturtium.errors import ExportError, InvalidInputError
from nasturtium.export.onnx import quiet
from nasturtium.tasks import Split, Task
from nasturtium.tasks.task import SplitName
from nasturtium.training.evaluation import Evaluation
from nasturtium.training.feed import Feed

Images = NDArray[np.float32]
"""`(n, channels, height, width)`, normalised as the network was trained."""

Runner = Callable[[Images], NDArray[np.float32]]
"""A network in some runtime: images to logits, `(n, classes)`."""

Calibration = Literal["minmax", "entropy", "percentile"]
CALIBRATION_IMAGES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """An int8 file, and what it was made from."""

    path: Path
    images: int
    """Calibration images that were seen."""
    bytes: int
    """Size of the int8 file."""
    float_bytes: int
    """Size of the float file."""


def calibration_images(
    task: Task, *, count: int = CALIBRATION_IMAGES, batch: int = 32, size: tuple[int, int] | None = None, seed: int = 0
) -> Iterator[Images]:
    """Training images in batches, normalised and not augmented, from which ranges are taken.

    Args:
        task: The task; validation and test stay unseen.
        count: Images; all where there are fewer.
        batch: Images in one batch.
        size: (height, width) to resize to, or None.
        seed: Of the draw.

    Raises:
        InvalidInputError: `count` or `batch` is below 1.
    """
    if count < 1 or batch < 1:
        raise InvalidInputError(f"`count` and `batch` must be at least 1 image, got {count!r} and {batch!r}.")
    split = task.split("train")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(split))[:count])
    feed = Feed(split, task, device=torch.device("cpu"), size=size, rows=rows)
    for x, _ in feed.in_order(batch):
        yield x.numpy()


def quantize_onnx(
    path: str | Path,
    batches: Iterable[Images],
    out: str | Path,
    *,
    per_channel: bool = True,
    calibration: Calibration = "minmax",
    weight_bits: Literal[7, 8] = 7,
) -> Quantized:
    """Quantise an ONNX file of one input to int8 weights and activations (QDQ).

    Args:
        path: The float file, for example `model.onnx` of an export.
        batches: Calibration images, `(n, channels, height, width)` float32; see `calibration_images`.
        out: The int8 file to write.
        per_channel: Whether each output channel of a weight has a scale of its own, or the whole tensor one.
        calibration: Range of an activation: all that was seen; that of least relative entropy; or all but the rarest.
        weight_bits: 7 keeps weights in half of int8's range: x86 processors without VNNI add pairs of products in 16
            bits, which weights of the whole range overflow, silently. 8 for processors that add in 32 bits (VNNI, Arm).

    Raises:
        ExportError: the file cannot be read or quantised.
        InvalidInputError: no calibration images, an unknown method, or other bits.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415  (both slow to import)

    methods = {
        "minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }  # fmt: skip
    if calibration not in methods:
        raise InvalidInputError(f"`calibration` must be one of {', '.join(methods)}, got {calibration!r}.")
    if weight_bits not in (7, 8):
        raise InvalidInputError(f"`weight_bits` must be 7 or 8, got {weight_bits!r}.")
    source, target = Path(path), Path(out)
    try:
        reader = _Reader(_session(source).get_inputs()[0].name, batches)
        with tempfile.TemporaryDirectory() as folder, quiet():
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared), str(target), reader, quant_format=QuantFormat.QDQ, per_channel=per_channel,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=methods[calibration],
                reduce_range=weight_bits == 7,
            )  # fmt: skip
    except InvalidInputError:
        raise
    except Exception as error:
        raise ExportError(f"{str(source)!r} cannot be quantised: {type(error).__name__}: {error}.") from error
    return Quantized(path=target, images=reader.images, bytes=target.stat().st_size, float_bytes=source.stat().st_size)


class OnnxNetwork:
    """An ONNX file in ONNX Runtime: images to its first output.

    Args:
        path: A file of one input.
        threads: Threads of one inference.

    Raises:
        ExportError: the file cannot be read.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self.session = _session(Path(path), threads)
        self.name = self.session.get_inputs()[0].name

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Logits of `(n, channels, height, width)`."""
        return np.asarray(self.session.run(None, {self.name: images})[0], dtype=np.float32)


def evaluate_runtime(
    run: Runner,
    task: Task,
    split: SplitName | Split = "validation",
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Accuracy and loss of a network in whatever runtime, on the images that PyTorch is judged on.

    Args:
        run: The network: normalised images to logits.
        task: The task.
        split: A split's name, or images of the task's kind.
        size: (height, width) to resize to, or None.
        batch_size: Images at a time.

    Returns:
        As `training.evaluate` does; `tasks.paired_difference` of two `correct` tells what quantisation costs.

    Raises:
        InvalidInputError: the logits do not fit the task.
    """
    images = task.split(split) if isinstance(split, str) else split
    feed = Feed(images, task, device=torch.device("cpu"), size=size)
    correct: list[NDArray[np.bool_]] = []
    total = 0.0
    for x, labels in feed.in_order(batch_size):
        logits, y = run(x.numpy()).astype(np.float64), labels.numpy()
        if logits.shape != (len(y), task.classes):
            raise InvalidInputError(
                f"The network must return logits of shape (batch, {task.classes}) for the {task.classes} classes of "
                f"{task.name!r}, got {logits.shape} for {len(y)} images."
            )
        shifted = logits - logits.max(axis=1, keepdims=True)
        total += float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]).sum())
        correct.append((logits.argmax(axis=1) == y) & np.isfinite(logits).all(axis=1))
    right = np.concatenate(correct)
    return Evaluation(accuracy=float(right.mean()), loss=total / len(right), correct=right, n=len(right))


class _Reader:
    """Calibration batches as ONNX Runtime asks for them; counts the images."""

    def __init__(self, name: str, batches: Iterable[Images]) -> None:
        self.name = name
        self.batches = iter(batches)
        self.images = 0

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by the input's name."""
        batch = next(self.batches, None)
        if batch is None:
            if not self.images:
                raise InvalidInputError("Quantisation needs calibration images, got none.")
            return None
        self.images += len(batch)
        return {self.name: batch}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Not used: all batches are read."""


def _session(path: Path, threads: int = 1) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot read {str(path)!r}: {error}.") from error
