"""What a network takes on a microcontroller, predicted from its graph: the arena of TensorFlow Lite Micro, and flash.

The arena is predicted as that runtime works, which is not as frugal as `Graph.peak_memory`: no result is written over
an input; a convolution whose padding is not the runtime's "same" first copies its input with a border (3x3 with stride
2 on an even image, the most usual case); buffers are multiples of 16 bytes and are placed by its greedy planner.
`hardware.measure_arena` tells what it really allocates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph
from nasturtium.graph.memory import flash_memory
from nasturtium.hardware.support import support

ALIGNMENT = 16
"""Bytes of which every buffer in the arena is a multiple."""

BASE, OPERATION, TENSOR, END = 544, 64, 24, 96
"""Bytes of the tail with 64-bit pointers: the interpreter's own, and for each operation, tensor, input or output."""

CHANNEL = 8
"""Bytes of the tail for each output channel of a convolution: multiplier and shift."""

DATA = {
    "CONV_2D": 100, "DEPTHWISE_CONV_2D": 100, "FULLY_CONNECTED": 100, "PAD": 64, "PADV2": 56, "MAX_POOL_2D": 72,
    "AVERAGE_POOL_2D": 72, "MUL": 56, "ADD": 72, "MEAN": 64, "HARD_SWISH": 24, "LOGISTIC": 8, "TANH": 8,
}  # fmt: skip
"""Bytes of the tail for an operation's own data; others take `OTHER`."""
OTHER = 32

CONSTANTS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "PAD": 1, "PADV2": 2, "MEAN": 1, "RESHAPE": 1}
"""Tensors of constants that an operation reads: weights, bias, sizes."""

FUSED = ("relu", "relu6")
"""Activations that are a part of the operation before them."""

SEPARATE = {
    "relu": ("RELU",), "relu6": ("RELU6",), "hardswish": ("HARD_SWISH",), "sigmoid": ("LOGISTIC",),
    "silu": ("LOGISTIC", "MUL"), "tanh": ("TANH",), "hardsigmoid": ("MUL",), "prelu": ("RELU", "MUL", "MUL", "SUB"),
}  # fmt: skip
"""Operations of an activation that is not fused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroOperation:
    """One operation of the runtime."""

    name: str
    """As TensorFlow Lite names it ("CONV_2D")."""
    reads: tuple[int, ...]
    """Numbers of the tensors that it reads."""
    writes: int
    """Number of the tensor that it writes."""
    channels: int = 0
    """Output channels that have a scale of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroProgram:
    """A network as the runtime runs it."""

    operations: tuple[MicroOperation, ...]
    sizes: tuple[int, ...]
    """Elements of each tensor of activations; input first."""
    outputs: tuple[int, ...]
    """Tensors that live to the end."""
    inputs: int = 1


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
        """Of all three; the file's own structure and names, and the code, come on top."""
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


def greedy_plan(sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of buffers, the largest placed first, each at the lowest place that is free while it lives.

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
    for i in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
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


def micro_program(graph: Graph) -> MicroProgram:
    """The operations that the exported file has, norms folded and activations fused.

    Raises:
        IncompatibleError: an operation that does not run there, or a user's own module.
    """
    return _Lowering(graph).program()


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


class _Lowering:
    """From a graph to the runtime's operations."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operations: list[MicroOperation] = []
        self.sizes: list[int] = []
        self.tensor: dict[int, int] = {}
        self.readers: dict[int, int] = dict.fromkeys(range(len(graph.nodes)), 0)
        for i in graph.costed:
            for j in graph.nodes[i].inputs:
                self.readers[j] += 1
        for output in graph.outputs:
            self.readers[output.node] += 1

    def program(self) -> MicroProgram:
        """Lower every node in order."""
        for i in self.graph.costed:
            node = self.graph.nodes[i]
            entry = support(node.operation, "tflm", *self.graph.input_shapes(node))
            if entry.verdict == "no" or isinstance(node.operation, ops.Opaque):
                raise IncompatibleError(f"{entry.operation} at `{node.path}`: {entry.reason} {entry.remedy}".rstrip())
            self.tensor[i] = self._lower(i)
        kept = [o.node for o in self.graph.outputs if o.node in self.tensor]
        return MicroProgram(
            operations=tuple(self.operations),
            sizes=tuple(self.sizes),
            outputs=tuple(dict.fromkeys(self.tensor[i] for i in kept)),
            inputs=len(self.graph.inputs),
        )

    def _lower(self, i: int) -> int:
        node = self.graph.nodes[i]
        operation = node.operation
        reads = [self.tensor[j] for j in node.inputs]
        match operation:
            case ops.Input():
                return self._new(prod(node.shape))
            case ops.Conv():
                return self._conv(i, operation, reads[0])
            case ops.Linear():
                return self._add("FULLY_CONNECTED", reads, prod(node.shape), channels=node.shape[0])
            case ops.BatchNorm():
                return self._norm(i, reads[0])
            case ops.Activation():
                return self._activation(i, operation.function, reads[0])
            case ops.Dropout() | ops.DropPath() | ops.TrainingOnly():
                return reads[0]
            case ops.MaxPool() | ops.AvgPool():
                return self._pool(i, operation, reads[0])
            case ops.GlobalPool():
                name = "MEAN" if operation.function == "avg" else "REDUCE_MAX"
                return self._add(name, reads, prod(node.shape))
            case ops.Flatten():
                return self._flatten(i, reads[0])
            case ops.Add():
                total = reads[0]
                for other in reads[1:]:
                    total = self._add("ADD", [total, other], prod(node.shape))
                return total
            case ops.Shuffle():
                for name in ("RESHAPE", "TRANSPOSE", "RESHAPE"):
                    reads = [self._add(name, reads, prod(node.shape))]
                return reads[0]
        return self._add(NAMES.get(operation.kind, operation.kind.upper()), reads, prod(node.shape))

    def _conv(self, i: int, operation: ops.Conv, source: int) -> int:
        node = self.graph.nodes[i]
        shape = self.graph.nodes[node.inputs[0]].shape
        span = [operation.dilation[k] * (operation.kernel[k] - 1) + 1 for k in (0, 1)]
        source = self._pad(source, shape, operation.padding, span, operation.stride)
        depthwise = operation.groups == shape[0]  # also of an image of one channel
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self._add(name, [source], prod(node.shape), channels=operation.channels)

    def _pool(self, i: int, operation: ops.MaxPool | ops.AvgPool, source: int) -> int:
        node = self.graph.nodes[i]
        shape = self.graph.nodes[node.inputs[0]].shape
        vertical, horizontal = operation.padding
        padding = (vertical, vertical, horizontal, horizontal)
        largest = isinstance(operation, ops.MaxPool)
        counted = isinstance(operation, ops.AvgPool) and operation.count_include_pad  # "same" does not count it
        name = "PADV2" if largest else "PAD"
        source = self._pad(source, shape, padding, operation.kernel, operation.stride, name=name, always=counted)
        return self._add("MAX_POOL_2D" if largest else "AVERAGE_POOL_2D", [source], prod(node.shape))

    def _pad(
        self,
        source: int,
        shape: ops.Shape,
        padding: tuple[int, int, int, int],
        span: Sequence[int],
        stride: Sequence[int],
        *,
        name: str = "PAD",
        always: bool = False,
    ) -> int:
        """The tensor with its border, which is a copy where the padding is not the runtime's own "same"."""
        if not any(padding):
            return source
        top, bottom, left, right = padding
        wanted = [_same(shape[k + 1], span[k], stride[k]) for k in (0, 1)]
        if [(top, bottom), (left, right)] == wanted and not always:
            return source
        size = shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right)
        if (top, left) != (bottom, right):  # an uneven border is added with channels first
            source = self._add("TRANSPOSE", [source], prod(shape))
            return self._add("TRANSPOSE", [self._add("PAD", [source], size)], size)
        return self._add(name, [source], size)

    def _norm(self, i: int, source: int) -> int:
        """A norm, folded into the convolution or linear layer that it alone reads."""
        before = self.graph.nodes[i].inputs[0]
        if isinstance(self.graph.nodes[before].operation, ops.Conv | ops.Linear) and self.readers[before] == 1:
            return source
        size = prod(self.graph.nodes[i].shape)
        return self._add("ADD", [self._add("MUL", [source], size)], size)

    def _activation(self, i: int, function: str, source: int) -> int:
        before = self.graph.nodes[i].inputs[0]
        made = next((o.name for o in self.operations if o.writes == source), "")
        if function in FUSED and self.readers[before] == 1 and made in FUSING:
            return source
        size = prod(self.graph.nodes[i].shape)
        if function == "leaky_relu":  # computed in float32
            wide = self._add("DEQUANTIZE", [source], 4 * size)
            return self._add("QUANTIZE", [self._add("LEAKY_RELU", [wide], 4 * size)], size)
        first = source
        for name in SEPARATE[function]:
            source = self._add(name, [source] if name != "MUL" else [first, source], size)
        return source

    def _flatten(self, i: int, source: int) -> int:
        shape = self.graph.nodes[self.graph.nodes[i].inputs[0]].shape
        size = prod(shape)
        if len(shape) != 3 or shape[1:] == (1, 1):
            return source
        source = self._add("TRANSPOSE", [source], size)  # back to channels first
        return self._add("RESHAPE", [source], size)

    def _new(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def _add(self, name: str, reads: Sequence[int], size: int, *, channels: int = 0) -> int:
        tensor = self._new(size)
        self.operations.append(MicroOperation(name=name, reads=tuple(reads), writes=tensor, channels=channels))
        return tensor


NAMES = {
    "multiply": "MUL", "concat": "CONCATENATION", "slice": "SLICE", "pad": "PAD", "resize": "RESIZE_NEAREST_NEIGHBOR",
    "adaptive_avg_pool": "AVERAGE_POOL_2D", "group_norm": "MEAN",
}  # fmt: skip
"""Operations that become one of the runtime's."""

FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D")
"""Operations of the runtime that take an activation along."""


def _same(extent: int, span: int, stride: int) -> tuple[int, int]:
    """Pixels before and after that the runtime's padding "same" adds."""
    total = max(0, (-(-extent // stride) - 1) * stride + span - extent)
    return total // 2, total - total // 2
