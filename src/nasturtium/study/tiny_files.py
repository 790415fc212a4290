"""From a search inside a memory to an int8 `.tflite` file that fits, proved by the real interpreters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasturtium.design.tiny import Limits
from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.tasks import Task

if TYPE_CHECKING:
    from nasturtium.study.results import Member, Study

FLOAT_FILE, INT8_FILE = "model.tflite", "model_int8.tflite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8File:
    """A network as a microcontroller gets it, measured and not modelled.

    Attributes:
        trial: Of the study.
        path: The `.tflite` file.
        file_bytes: Its size: what it takes of flash, beside the interpreter's code.
        arena_bytes: SRAM that TensorFlow Lite Micro allocated, with its reference kernels and structures for 64-bit
            pointers. An upper bound for a board with the same kernels, and none for one with optimised kernels.
        margin_bytes: Of SRAM, kept free beside the arena, for the scratch buffers of such kernels.
        activation_bytes: The part of it that holds activations.
        modelled_bytes: What the search's model of memory said: the arena under "tflm", activations under the others.
        accuracy: On validation, of the network in PyTorch.
        int8_accuracy: On validation, of the file in LiteRT.
        fits: Whether the arena and the margin keep to the SRAM less its reserve, and the file to the flash less its
            reserve. It holds under `assumption`.
    """

    trial: int
    path: Path
    file_bytes: int
    arena_bytes: int
    activation_bytes: int
    modelled_bytes: int
    accuracy: float
    int8_accuracy: float
    fits: bool
    margin_bytes: int = 0

    @property
    def assumption(self) -> str:
        """Under which it fits, for people."""
        return (
            f"TensorFlow Lite Micro's reference kernels and a margin of {self.margin_bytes:,} B of SRAM; optimised "
            "kernels (CMSIS-NN, ESP-NN) ask for scratch buffers on top"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "version": 1, "path": self.path.name, "assumption": self.assumption}


def write_fitting(
    study: Study,
    folder: str | Path,
    task: Task,
    limits: Limits,
    *,
    margin: int = 0,
    report: Callable[[Int8File], None] = lambda _: None,
) -> Int8File:
    """Write the most accurate network of a search as an int8 `.tflite` file that really fits.

    What a search holds to is a model: the interpreter's structures and the file's format come on top. So networks are
    written in order of their accuracy until one fits.

    Args:
        study: Of `specialize`, whose trials have the metric "sram".
        folder: Where to; the files of the last one that was tried stay there.
        task: The study's; its train images calibrate, its validation images measure. Test stays unseen.
        limits: Of the device.
        margin: Bytes of SRAM to keep free beside the measured arena, for kernels that need scratch buffers.
        report: Called with each file that was tried.

    Raises:
        MissingExtraError: the extra `tinyml` is not installed.
        ExportError: a network cannot be converted.
        InfeasibleError: none fits; names the nearest.
        InvalidInputError: the margin is negative.
    """
    if margin < 0:
        raise InvalidInputError(f"`margin` must be at least 0 bytes, got {margin!r}.")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    tried: list[Int8File] = []
    for member in sorted(study.feasible(), key=lambda m: -m.metrics["accuracy"]):
        found = _written(member, target, task, limits, margin)
        report(found)
        if found.fits:
            return found
        tried.append(found)
    nearest = min(tried, key=lambda f: f.arena_bytes, default=None)
    said = (
        f"; the nearest, trial {nearest.trial}, takes an arena of {nearest.arena_bytes:,} B and a file of "
        f"{nearest.file_bytes:,} B"
        if nearest
        else ""
    )
    raise InfeasibleError(
        f"None of the {len(tried)} networks that met the modelled limits fits {limits} as a .tflite file, with a "
        f"margin of {margin:,} B of SRAM{said}. Search "
        "with a larger reserve of SRAM or flash, so that the interpreter's own part has room."
    )


def _written(member: Member, folder: Path, task: Task, limits: Limits, margin: int) -> Int8File:
    from nasturtium.estimators import load_weights  # noqa: PLC0415  (PyTorch)
    from nasturtium.graph import trace  # noqa: PLC0415
    from nasturtium.hardware import arena, quantize, tflite  # noqa: PLC0415
    from nasturtium.model import build  # noqa: PLC0415

    model = build(trace(member.architecture, task.input_shape, **task.context), seed=0)
    load_weights(model, member.weights)
    source = tflite.write_tflite(model.eval(), folder / FLOAT_FILE, task.input_shape)
    written = tflite.quantize_tflite(source, quantize.calibration_images(task), folder / INT8_FILE)
    measured = arena.measure_arena(written.path)
    judged = quantize.evaluate_runtime(tflite.LiteRTNetwork(written.path), task, "validation")
    return Int8File(
        trial=member.number,
        path=written.path,
        file_bytes=written.bytes,
        arena_bytes=measured.total,
        activation_bytes=measured.head,
        modelled_bytes=int(member.metrics["sram"]),
        accuracy=member.metrics["accuracy"],
        int8_accuracy=judged.accuracy,
        fits=(limits.sram is None or measured.total + margin <= limits.sram - limits.sram_reserve)
        and (limits.flash is None or written.bytes <= limits.flash - limits.flash_reserve),
        margin_bytes=margin,
    )
