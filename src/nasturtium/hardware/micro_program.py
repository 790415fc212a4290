"""A network as TensorFlow Lite Micro runs it: its graph, lowered to that runtime's operations and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from nasturtium.errors import IncompatibleError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph
from nasturtium.hardware.support import support

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


def micro_program(graph: Graph) -> MicroProgram:
    """The operations that the exported file has, norms folded and activations fused.

    Raises:
        IncompatibleError: an operation that does not run there, or a user's own module.
    """
    return _Lowering(graph).program()


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
        return self._numbered(tuple(dict.fromkeys(self.tensor[i] for i in kept)))

    def _numbered(self, outputs: tuple[int, ...]) -> MicroProgram:
        """The program with its tensors numbered as in the file, which has those of the quantiser last."""
        made = {o.writes: o.name for o in self.operations}
        used = {*made, *outputs, *(j for o in self.operations for j in o.reads)}
        order = sorted(used, key=lambda tensor: (made.get(tensor) == "QUANTIZE", tensor))
        number = {tensor: k for k, tensor in enumerate(order)}
        return MicroProgram(
            operations=tuple(
                replace(o, reads=tuple(number[j] for j in o.reads), writes=number[o.writes]) for o in self.operations
            ),
            sizes=tuple(self.sizes[tensor] for tensor in order),
            outputs=tuple(number[tensor] for tensor in outputs),
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
            case ops.Concat():
                return self._concat(node.inputs, prod(node.shape))
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

    def _concat(self, inputs: Sequence[int], size: int) -> int:
        """All inputs at one scale: what has one of its own, or other readers, is quantised once more."""
        reads: list[int] = []
        for j in inputs:
            tensor = self.tensor[j]
            made = next((o for o in self.operations if o.writes == tensor), None)
            name = "" if made is None else made.name
            if made is not None and name == "CONCATENATION" and self.readers[j] == 1:  # one within the other is one
                self.operations.remove(made)
                reads.extend(made.reads)
            elif name in KEEPING or self.readers[j] > 1:
                reads.append(self._add("QUANTIZE", [tensor], self.sizes[tensor]))
            else:
                reads.append(tensor)
        return self._add("CONCATENATION", reads, size)

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
    "multiply": "MUL", "slice": "SLICE", "pad": "PAD", "resize": "RESIZE_NEAREST_NEIGHBOR",
    "adaptive_avg_pool": "AVERAGE_POOL_2D", "group_norm": "MEAN",
}  # fmt: skip
"""Operations that become one of the runtime's."""

KEEPING = (
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "PADV2", "RESHAPE", "TRANSPOSE", "SLICE", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
"""Operations whose output has the scale of their input."""

FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D")
"""Operations of the runtime that take an activation along."""


def _same(extent: int, span: int, stride: int) -> tuple[int, int]:
    """Pixels before and after that the runtime's padding "same" adds."""
    total = max(0, (-(-extent // stride) - 1) * stride + span - extent)
    return total // 2, total - total // 2
