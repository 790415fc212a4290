"""What a network takes on a microcontroller, predicted from its graph: the arena of TensorFlow Lite Micro, and flash.

The arena is predicted as that runtime works, which is not as frugal as `Graph.peak_memory`: no result is written over
an input; a convolution whose padding is not the runtime's "same" first copies its input with a border (3x3 with stride
2 on an even image, the most usual case); buffers are multiples of 16 bytes and are placed by its greedy planner.
`hardware.measure_arena` tells what it really allocates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph
from nasturtium.graph.memory import flash_memory
from nasturtium.hardware.micro_program import MicroProgram, micro_program

ALIGNMENT = 16
"""Bytes of which every buffer in the arena is a multiple."""

BASE, OPERATION, TENSOR, END = 544, 64, 24, 96
"""Bytes of the tail with 64-bit pointers: the interpreter's own, and for each operation, tensor, input or output."""

CHANNEL = 8
"""Bytes of the tail for each output channel of a convolution: multiplier and shift."""

DATA = {
    "CONV_2D": 100, "DEPTHWISE_CONV_2D": 100, "FULLY_CONNECTED": 100, "PAD": 64, "PADV2": 56, "MAX_POOL_2D": 72,
    "AVERAGE_POOL_2D": 72, "MUL": 56, "ADD": 72, "MEAN": 64, "HARD_SWISH": 24, "LOGISTIC": 8, "TANH": 8,
    "CONCATENATION": 112, "QUANTIZE": 20,
}  # fmt: skip
"""Bytes of the tail for an operation's own data; others take `OTHER`."""
OTHER = 32

STRUCTURE, STRUCTURE_OPERATION, STRUCTURE_WEIGHTS = 567, 134, 178
"""Bytes of a file beside its numbers: of any file, for each operation, and for each one with weights.

Least squares over the twelve files of `benchmarks/arena.py`; within 90 bytes on each.
"""

CONSTANTS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "PAD": 1, "PADV2": 2, "MEAN": 1, "RESHAPE": 1}
"""Tensors of constants that an operation reads: weights, bias, sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaPrediction:
    """Bytes that the runtime is expected to allocate."""

    head: int
    """Activations, placed by the greedy planner."""
    tail: int
    """Structs and the scales of channels, estimated, with 64-bit pointers."""
    alive: int
    """Most bytes of activations alive at once: what a perfect planner would need."""

    @property
    def total(self) -> int:
        """Of both parts."""
        return self.head + self.tail


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashPrediction:
    """Bytes that an int8 network takes in flash."""

    weights: int
    biases: int
    quantisation: int
    """Scale (float32) and zero point (int64) of each channel, for weights and for biases, as `.tflite` has them."""

    @property
    def total(self) -> int:
        """Of all three: a lower bound. The file's own structure (some 2 to 20 kB), and the code, come on top."""
        return self.weights + self.biases + self.quantisation


def predict_arena(graph: Graph) -> ArenaPrediction:
    """The arena of the int8 network in TensorFlow Lite Micro.

    Args:
        graph: The network, of batch 1; what serves training-only outputs alone is left out.

    Raises:
        IncompatibleError: an operation that does not run there, or a user's own module.
    """
    program = micro_program(graph)
    sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in program.sizes]
    spans = _lifetimes(program)
    alive = max(
        sum(size for size, (start, end) in zip(sizes, spans, strict=True) if start <= step <= end)
        for step in range(max(1, len(program.operations)))
    )
    return ArenaPrediction(head=greedy_plan(sizes, spans)[1], tail=_tail(program), alive=alive)


def predict_flash(graph: Graph) -> FlashPrediction:
    """Flash of the int8 network: weights, biases and quantisation parameters.

    A lower bound of the `.tflite` file, which has a structure of its own (operations, tensors, shapes); and a board
    needs the code of the runtime on top.

    Args:
        graph: The network; what serves training-only outputs alone is left out.
    """
    weights = flash_memory(graph, "int8", bias=False)
    biases = flash_memory(graph, "int8") - weights
    seen: dict[str, int] = {}
    for i in graph.costed:
        node = graph.nodes[i]
        if isinstance(node.operation, ops.Conv | ops.Linear):
            seen.setdefault(node.path, node.shape[0])
    return FlashPrediction(weights=weights, biases=biases, quantisation=2 * (4 + 8) * sum(seen.values()))


def predict_file(graph: Graph) -> int:
    """Size of the int8 `.tflite` file in bytes: what `predict_flash` counts, and the file's own structure, estimated.

    Args:
        graph: The network, of batch 1; what serves training-only outputs alone is left out.

    Raises:
        IncompatibleError: an operation that does not run there, or a user's own module.
    """
    made = micro_program(graph).operations
    weighted = sum(operation.channels > 0 for operation in made)
    structure = STRUCTURE + STRUCTURE_OPERATION * len(made) + STRUCTURE_WEIGHTS * weighted
    return predict_flash(graph).total + structure


def greedy_plan(sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of buffers, the largest placed first, each at the lowest place that is free while it lives.

    Of buffers of one size the later is placed first, as the runtime's planner does.

    Args:
        sizes: Bytes of each buffer.
        spans: First and last step at which each is used; both count.

    Returns:
        The offsets, and the bytes that all need together.

    Raises:
        InvalidInputError: not one span for each size.

    Reference:
        Pisarchyk, Lee (2020), "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288,
        section 4.2 ("greedy by size"); `GreedyMemoryPlanner` of TensorFlow Lite Micro.
    """
    if len(sizes) != len(spans):
        raise InvalidInputError(f"Each buffer needs a size and a span, got {len(sizes)} sizes and {len(spans)} spans.")
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda k: (-sizes[k], -k)):
        start, end = spans[i]
        others = [j for j in placed if spans[j][0] <= end and start <= spans[j][1]]
        offset = 0
        for j in sorted(others, key=lambda k: offsets[k]):
            if offsets[j] - offset >= sizes[i]:
                break
            offset = max(offset, offsets[j] + sizes[j])
        offsets[i] = offset
        placed.append(i)
    return offsets, max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)


def _lifetimes(program: MicroProgram) -> list[tuple[int, int]]:
    """First and last operation at which each tensor is used."""
    start = [0] * len(program.sizes)
    end = [0] * len(program.sizes)
    for step, operation in enumerate(program.operations):
        start[operation.writes] = end[operation.writes] = step
        for tensor in operation.reads:
            end[tensor] = step
    for tensor in program.outputs:
        end[tensor] = max(0, len(program.operations) - 1)
    return list(zip(start, end, strict=True))


def _tail(program: MicroProgram) -> int:
    tensors = len(program.sizes)
    total = BASE + END * (program.inputs + len(program.outputs))
    for operation in program.operations:
        tensors += CONSTANTS.get(operation.name, 0)
        total += OPERATION + DATA.get(operation.name, OTHER) + CHANNEL * operation.channels
    return total + TENSOR * tensors
