"""What a network really takes of a microcontroller: its int8 file written, and its arena allocated."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.device import Device

if TYPE_CHECKING:
    from torch import nn

VERSION = 1
CALIBRATION = 2
"""Drawn images from which ranges are taken: memory does not depend on them."""

MADE_BY = ("litert-torch", "ai-edge-quantizer", "tflite-micro")

ASSUMPTION = (
    "TensorFlow Lite Micro's reference kernels, structures for 64-bit pointers; optimised kernels (CMSIS-NN, ESP-NN) "
    "ask for scratch buffers on top"
)
"""Under which a measured arena is an upper bound for a board."""
UNTRAINED = (
    "The file was written with untrained weights, as the trial left none: that of the trained network may hold an "
    "operation more or less."
)
"""Said of a memory that was counted without trained weights."""
ALONE = {
    "sram": "the arena alone; the stack and the variables of the program come on top",
    "flash": "the .tflite file alone; the code of the runtime and of its kernels comes on top (some 50 to 150 kB)",
}
"""What is compared with a limit on a memory; a network that meets the chip's own is not yet a program that fits."""

SOURCES = {
    "sram": "predicted from the graph (the model of the arena)",
    "flash": "predicted from the graph (weights, biases and scales: a lower bound, without code and without the file's "
    "own structure)",
}
"""Where a memory comes from that was not measured, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMemory:
    """Bytes of an int8 `.tflite` file and of the arena in which it runs, both counted and not modelled."""

    file_bytes: int
    arena_bytes: int
    activation_bytes: int
    """The part of the arena that holds activations and scratch buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMeasurement:
    """Bytes that one network takes of a microcontroller: an exact count, so the interval is the number itself.

    Raises:
        InvalidInputError: the number of bytes is negative, or the kind is neither "sram" nor "flash".
    """

    kind: str
    """"sram" or "flash"."""
    bytes: int
    device: Device
    facts: Mapping[str, str] = field(default_factory=dict)
    """How it was found, for people."""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in SOURCES:
            raise InvalidInputError(f"A memory is 'sram' or 'flash', got {self.kind!r}.")
        if self.bytes < 0:
            raise InvalidInputError(f"Bytes are a whole number of at least 0, got {self.bytes!r}.")

    @property
    def value(self) -> float:
        """The bytes; so are `low` and `high`."""
        return float(self.bytes)

    low = high = value

    @property
    def confidence(self) -> float:
        """A count is sure."""
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "version": VERSION, "kind": self.kind, "bytes": self.bytes, "device": self.device.to_dict(),
            "facts": dict(self.facts), "warnings": list(self.warnings),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemoryMeasurement:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: another version, or fields are missing or unknown.
        """
        given = dict(data)
        version = given.pop("version", None)
        try:
            if version != VERSION:
                raise InvalidInputError(f"A measured memory of version {version!r} cannot be read, only {VERSION}.")
            given |= {"device": Device.from_dict(given["device"]), "warnings": tuple(given.get("warnings", ()))}
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A measured memory cannot be read: {error!r} in {dict(data)!r}.") from error


def missing_packages() -> tuple[str, ...]:
    """Packages of the extra `tinyml` that are not installed here; nothing is imported."""
    from nasturtium.hardware.tflite import PACKAGES  # noqa: PLC0415  (loads torch)

    return tuple(package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None)


def measure_file(model: nn.Module, input_shape: Sequence[int]) -> FileMemory:
    """Write a network as int8 `.tflite`, allocate it in TensorFlow Lite Micro, and count.

    The file is thrown away: its ranges are those of drawn images, which change no size. Seconds to half a minute.

    Args:
        model: With the weights that it has; trained ones may need an operation more than untrained ones.
        input_shape: `(channels, height, width)`, or `(features,)`.

    Raises:
        MissingExtraError: the extra `tinyml` is not installed.
        ExportError: the network cannot be converted, or not run there.
    """
    from nasturtium.hardware import arena, tflite  # noqa: PLC0415  (load torch)

    images = np.random.default_rng(0).standard_normal((CALIBRATION, *input_shape)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="nasturtium-") as folder:
        source = tflite.write_tflite(model.eval(), Path(folder) / "float.tflite", input_shape)
        made = tflite.quantize_tflite(source, [images], Path(folder) / "int8.tflite")
        found = arena.measure_arena(made.path)
    return FileMemory(file_bytes=made.bytes, arena_bytes=found.total, activation_bytes=found.head)


def memory_of(found: FileMemory, kind: str, device: Device, *, trained: bool) -> MemoryMeasurement:
    """The part of a file's memory that a metric asks for, with how it was found.

    Args:
        found: Of the file.
        kind: "sram" for the arena, "flash" for the file.
        device: Whose memory it is to fit.
        trained: Whether the network had trained weights; where not, the measurement says so in its warnings.
    """
    detail = f" ({found.activation_bytes:,} B of it activations); {ASSUMPTION}" if kind == "sram" else ""
    facts = {
        "measured for": f"{device.name}, {device.text}",
        "how": {
            "sram": "the arena that TensorFlow Lite Micro allocated for the int8 file and ran it in",
            "flash": "the size of the int8 file",
        }[kind]
        + f", with {'trained' if trained else 'untrained'} weights",
        "it is": f"{ALONE[kind]}{detail}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in MADE_BY),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    count = found.arena_bytes if kind == "sram" else found.file_bytes
    warned = () if trained else (UNTRAINED,)
    return MemoryMeasurement(kind=kind, bytes=count, device=device, facts=facts, warnings=warned)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
