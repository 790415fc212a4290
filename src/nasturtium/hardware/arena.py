"""The arena of TensorFlow Lite Micro: what its own recording allocator says it gave away.

The arena is the one block of SRAM that the interpreter uses. Its *head* holds activations and scratch buffers, placed
by the planner; its *tail* holds what lives as long as the network: structs of tensors and operations, and quantisation
parameters of each channel. The interpreter here has TensorFlow Lite Micro's reference kernels and is compiled for this
machine, whose pointers have 64 bits; those of a microcontroller have 32. So with the reference kernels, a board's head
is the same and its tail smaller: the measured total is an upper bound. It is none for a board whose kernels are
optimised (CMSIS-NN, ESP-NN): those ask for scratch buffers in the head, which can be tens of kilobytes. Leave a margin
for them, and measure on the board.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nasturtium.errors import ExportError
from nasturtium.hardware.native import captured_stderr
from nasturtium.hardware.tflite import ARENA_BYTES, MicroNetwork

_TOTALS = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_SECTION = re.compile(r"'([^']+)' used (\d+) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Bytes that an interpreter allocated."""

    total: int
    head: int
    """Activations and scratch buffers."""
    tail: int
    """What lives as long as the network."""
    sections: Mapping[str, int] = field(default_factory=dict)
    """Parts of the tail by the allocator's own names; what is missing to the tail is the interpreter's own."""


def parse_allocations(text: str) -> Arena:
    """Read what the recording allocator prints.

    Args:
        text: Lines such as "[RecordingMicroAllocator] Arena allocation head 1024 bytes".

    Raises:
        ExportError: one of total, head and tail is missing.
    """
    totals = {name: int(count) for name, count in _TOTALS.findall(text)}
    missing = [name for name in ("total", "head", "tail") if name not in totals]
    if missing:
        raise ExportError(
            f"TensorFlow Lite Micro did not print its arena's {', '.join(missing)}; it printed {text[:200]!r}."
        )
    sections = {name: int(count) for name, count in _SECTION.findall(text)}
    return Arena(**totals, sections=MappingProxyType(sections))


def measure_arena(path: str | Path, *, arena_bytes: int = ARENA_BYTES) -> Arena:
    """Allocate a `.tflite` file in TensorFlow Lite Micro with its reference kernels, run it, and read what it took.

    Args:
        path: The file, float32 or int8.
        arena_bytes: Memory to offer.

    Raises:
        MissingExtraError: the extra `tinyml` is not installed.
        ExportError: an operation has no kernel there, the arena is too small, or the file does not run.
    """
    network = MicroNetwork(path, arena_bytes=arena_bytes)
    details = network.interpreter.get_input_details(0)
    network.run(np.zeros(tuple(details["shape"]), details["dtype"]))
    with captured_stderr() as stream:
        network.interpreter.print_allocations()
        stream.seek(0)
        text = stream.read().decode(errors="replace")
    return parse_allocations(text)


def fits_arena(path: str | Path, arena_bytes: int) -> bool:
    """Whether a `.tflite` file runs in an arena of so many bytes with the reference kernels, tried in its own process.

    Raises:
        MissingExtraError: the extra `tinyml` is not installed.
        ExportError: the file does not run in any arena.
    """
    if _runs(path, arena_bytes):
        return True
    measure_arena(path)  # says why, where the arena is not the reason
    return False


def smallest_arena(path: str | Path, *, step: int = 16) -> int:
    """The smallest arena, in bytes, in which a `.tflite` file runs with the reference kernels; a multiple of `step`.

    Found by halving between nothing and twice what the allocator reports, each size in a process of its own.

    Raises:
        MissingExtraError: the extra `tinyml` is not installed.
        ExportError: the file does not run in any arena.
    """
    low, high = 0, -(-2 * measure_arena(path).total // step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs(path, middle * step) else (middle, high)
    return high * step


_TRY = (
    "import sys; from tflite_micro import runtime; "
    "runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))"
)


def _runs(path: str | Path, arena_bytes: int) -> bool:
    command = [sys.executable, "-c", _TRY, str(path), str(arena_bytes)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  (our own words)
