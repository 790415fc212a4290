"""Peak memory of a graph: how many bytes of activations are alive at the worst moment.

Two conventions. *Liveness* (the default, and what the bare name `peak_memory` means): nodes run one after another in
the given order, or in the best one where that is asked for; a tensor lives from its production to its last use; what
an operation may write over its input costs no second buffer; inputs count while they are needed; outputs live to the
end. *conv_in_out*: the published model of MCUNet, which looks at convolutions only. Weights, im2col buffers and code
are not activations and are not counted.

Flash of a graph: how many bytes its weights take where they are stored, batch norms folded into what precedes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph.downsets import Step
from nasturtium.graph.operations import Add, BatchNorm, Conv, Input, Linear, Operation, Shape
from nasturtium.graph.order import STATES, Order, best_order

if TYPE_CHECKING:
    from nasturtium.graph.graph import Graph

BITS = {
    "int4": 4, "int8": 8, "uint8": 8, "int16": 16, "float16": 16, "bfloat16": 16, "int32": 32, "float32": 32,
    "float64": 64,
}  # fmt: skip
"""Bits of one element, by the name of its type."""

CONVENTIONS = ("liveness", "conv_in_out")
SCHEDULES = ("given", "optimal")


def peak_memory(
    graph: Graph,
    dtype: str = "int8",
    *,
    batch: int = 1,
    schedule: str = "given",
    inplace_depthwise: bool = False,
    convention: str = "liveness",
) -> int:
    """Bytes of activations alive at the worst moment of an inference.

    Args:
        graph: The network; what serves training-only outputs alone is left out.
        dtype: Type of an activation, a key of `BITS`.
        batch: Samples at once.
        schedule: Order of execution. "given" is the order in which `forward` ran; "optimal" the one of least peak,
            found by `best_schedule`, which says whether it is proven: where it is not, this is the peak of the best
            order found.
        inplace_depthwise: Whether a depthwise convolution writes its result over its input, channel by channel, so
            that it needs one output channel beside its input (TinyEngine).
        convention: "liveness", or "conv_in_out": at each convolution its input and output, and the tensors that wait
            for a later sum (inside a residual block, the residual).

    Returns:
        Bytes; 0 under "conv_in_out" for a graph without convolutions.

    Raises:
        InvalidInputError: an unknown dtype, schedule or convention, a batch below 1, or another schedule than "given"
            with the convention "conv_in_out", which is about that order.

    Reference:
        Lin et al. 2020, "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, section 3.2 (in-place
        depthwise); the convention "conv_in_out" reproduces the activation column of its repository.
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError("convention", convention, CONVENTIONS)
    if schedule not in SCHEDULES:
        raise UnknownNameError("schedule", schedule, SCHEDULES)
    elements = _Elements(graph, bits=_bits(dtype, batch))
    if convention == "conv_in_out":
        if schedule != "given":
            raise InvalidInputError(
                f'The convention "conv_in_out" is about the given order, got schedule={schedule!r}. Leave one of the '
                "two out."
            )
        return elements.at_convolutions(inplace_depthwise=inplace_depthwise)
    if schedule == "optimal":
        return best_order(elements.steps(inplace_depthwise=inplace_depthwise)).peak
    return elements.alive(inplace_depthwise=inplace_depthwise)


def best_schedule(
    graph: Graph,
    dtype: str = "int8",
    *,
    batch: int = 1,
    inplace_depthwise: bool = False,
    states: int = STATES,
) -> Order:
    """The order of execution of least peak memory, under the convention "liveness".

    Exact where the search ends (`Order.is_optimal`). It ends for chains of blocks, such as residual networks. It need
    not for cells whose many branches wait for one concatenation, such as NASNet's: where it would look at more than
    `states` sets of nodes, the result is the best order found, with a lower bound that holds for every order but may
    lie far below.

    Args:
        graph: The network; what serves training-only outputs alone is left out.
        dtype: Type of an activation, a key of `BITS`.
        batch: Samples at once.
        inplace_depthwise: As for `peak_memory`.
        states: Sets of nodes to look at, at most.

    Returns:
        The order, whose `steps` are numbers of nodes, its peak and the lower bound, in bytes.

    Raises:
        InvalidInputError: an unknown dtype, or a batch below 1.

    Reference:
        See `nasturtium.graph.order`.
    """
    elements = _Elements(graph, bits=_bits(dtype, batch))
    found = best_order(elements.steps(inplace_depthwise=inplace_depthwise), states=states)
    return replace(found, steps=tuple([elements.order[i] for i in found.steps]))


def _bits(dtype: str, batch: int) -> int:
    """Bits of one element of a whole batch."""
    if dtype not in BITS:
        raise UnknownNameError("dtype", dtype, BITS)
    if not isinstance(batch, int) or batch < 1:
        raise InvalidInputError(f"`batch` must be an integer of at least 1, got {batch!r}.")
    return BITS[dtype] * batch


BIAS_BYTES = 4
"""Of one bias: int32, as quantised kernels accumulate."""


def flash_memory(graph: Graph, dtype: str = "int8", *, bias: bool = True) -> int:
    """Bytes of the weights as they are stored for inference.

    Weights of convolutions and linear layers are stored in `dtype`. A batch norm is folded into the convolution or
    linear layer that it alone reads, so that each of their output channels has a bias (int32), also where none was
    trained. A batch norm that reads anything else (a sum, a concatenation, a pooling), or something that others read
    too, cannot be folded: it stores a scale and a shift for each channel, whether or not it is trained with them, as
    int32 beside weights of an integer type and in `dtype` itself beside floating-point ones. Where a layer is used
    several times, each use must be read by the same batch norm alone. What else has parameters (group norms, users'
    modules) is stored in `dtype`. Weights used several times are stored once. The code, the scales and zero points of
    the quantisation and the file's format are not counted.

    Args:
        graph: The network; what serves training-only outputs alone is left out.
        dtype: Type of a weight, a key of `BITS`.
        bias: Whether to count the biases, and the shifts of batch norms that are not folded.

    Returns:
        Bytes, each tensor of weights rounded up.

    Raises:
        UnknownNameError: an unknown dtype.

    Reference:
        Lin et al. 2020, "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, section 3.1: the flash
        constraint is on int8 weights.
    """
    if dtype not in BITS:
        raise UnknownNameError("dtype", dtype, BITS)
    total = 0
    seen: set[str] = set()
    folded = _folded(graph)
    wide = BITS[dtype] if "float" in dtype else 8 * BIAS_BYTES
    for i in graph.costed:
        node = graph.nodes[i]
        operation, shapes = node.operation, graph.input_shapes(node)
        count = operation.params(*shapes)
        if i in folded or node.path in seen:
            continue
        seen.add(node.path)
        if isinstance(operation, BatchNorm):
            total += node.shape[0] * wide // 8 * (2 if bias else 1)
            continue
        if isinstance(operation, (Conv, Linear)):
            count = prod(operation.weights(*shapes)["weight"])
            total += BIAS_BYTES * node.shape[0] if bias else 0
        total += -(-count * BITS[dtype] // 8)
    return total


def _folded(graph: Graph) -> set[int]:
    """The batch norms that are folded into what precedes them; see `flash_memory`."""
    nodes = graph.nodes
    readers: dict[int, list[int]] = {i: [] for i in graph.costed}
    for i in graph.costed:
        for j in dict.fromkeys(nodes[i].inputs):
            readers[j].append(i)
    outputs = {output.node for output in graph.outputs}
    uses: dict[str, list[int]] = {}
    for i in graph.costed:
        if isinstance(nodes[i].operation, (Conv, Linear)):
            uses.setdefault(nodes[i].path, []).append(i)
    found: set[int] = set()
    for layer in uses.values():
        after = [j for i in layer for j in readers[i]]
        norms = {nodes[j].path for j in after if isinstance(nodes[j].operation, BatchNorm)}
        if len(norms) == 1 and all(len(readers[i]) == 1 and i not in outputs for i in layer):
            found.update(after if {nodes[j].path for j in after} == norms else ())
    return found


def overwritable(operation: Operation, sizes: Sequence[int], size: int) -> range:
    """Which inputs an operation may write its result over, by position, in order of preference.

    Its first; any where the order of the inputs does not matter. Only an input of the output's size qualifies.

    Args:
        operation: The operation.
        sizes: Elements of each input.
        size: Elements of the output.
    """
    if not operation.reuses_input:
        return range(0)
    if operation.is_commutative:
        return range(len(sizes))
    return range(1 if sizes and sizes[0] == size else 0)


def is_depthwise(operation: Operation, inputs: Sequence[Shape]) -> bool:
    """Whether it is a convolution of each channel with itself alone."""
    return isinstance(operation, Conv) and operation.groups == operation.channels == inputs[0][0] > 1


class _Elements:
    """Sizes in bytes and last uses of a graph's tensors."""

    def __init__(self, graph: Graph, *, bits: int) -> None:
        self.graph = graph
        self.bits = bits
        self.order = graph.costed
        self.size = {i: -(-prod(graph.nodes[i].shape) * bits // 8) for i in self.order}
        self.last = {i: i for i in self.order}
        for i in self.order:
            for j in graph.nodes[i].inputs:
                self.last[j] = i
        for output in graph.outputs:
            if output.node in self.last:
                self.last[output.node] = len(graph.nodes)

    def alive(self, *, inplace_depthwise: bool) -> int:
        """The most bytes alive at once."""
        live = peak = 0
        for i in self.order:
            inputs = self.graph.nodes[i].inputs
            peak = max(peak, live + self._extra(i, inplace_depthwise=inplace_depthwise))
            live += self.size[i]
            dead = {j for j in inputs if self.last[j] == i}
            live -= sum(self.size[j] for j in dead) + (self.size[i] if self.last[i] == i else 0)
        return peak

    def _extra(self, i: int, *, inplace_depthwise: bool) -> int:
        """Bytes that node `i` needs beside what is alive before it."""
        operation, inputs, shape, _ = self.graph.nodes[i]
        size = self.size[i]
        sizes = [self.size[j] for j in inputs]
        if any(self.last[inputs[k]] == i and sizes[k] == size for k in overwritable(operation, sizes, size)):
            return 0
        if inplace_depthwise and is_depthwise(operation, self.graph.input_shapes(self.graph.nodes[i])):
            source = inputs[0]
            if self.last[source] == i and self.size[source] >= size:
                return size // shape[0]
        return size

    def steps(self, *, inplace_depthwise: bool) -> list[Step]:
        """The nodes as steps of a schedule, numbered by their place in the order."""
        place = {i: k for k, i in enumerate(self.order)}
        kept = {output.node for output in self.graph.outputs}
        steps = []
        for i in self.order:
            node = self.graph.nodes[i]
            sizes = [self.size[j] for j in node.inputs]
            over = [k for k in overwritable(node.operation, sizes, self.size[i]) if sizes[k] == self.size[i]]
            beside = None
            if inplace_depthwise and is_depthwise(node.operation, self.graph.input_shapes(node)):
                beside = (place[node.inputs[0]], self.size[i] // node.shape[0]) if sizes[0] >= self.size[i] else None
            steps.append(
                Step(
                    size=self.size[i],
                    reads=tuple([place[j] for j in node.inputs]),
                    over=tuple([place[node.inputs[k]] for k in over]),
                    beside=beside,
                    kept=i in kept,
                    first=isinstance(node.operation, Input),
                )
            )
        return steps

    def at_convolutions(self, *, inplace_depthwise: bool) -> int:
        """The most bytes of input, output and waiting residuals at a convolution."""
        nodes = self.graph.nodes
        until_sum: dict[int, int] = {}
        for i in self.order:
            if isinstance(nodes[i].operation, Add):
                until_sum.update(dict.fromkeys(nodes[i].inputs, i))
        waiting: set[int] = set()
        peak = 0
        for i in self.order:
            node = nodes[i]
            if node.operation.is_convolution:
                source = node.inputs[0]
                held = sum(self.size[j] for j in waiting if j != source)
                out = self.size[i]
                if inplace_depthwise and is_depthwise(node.operation, self.graph.input_shapes(node)):
                    out //= node.shape[0]
                peak = max(peak, self.size[source] + out + held)
            if until_sum.get(i, i) > i:
                waiting.add(i)
            waiting -= {j for j in node.inputs if until_sum.get(j) == i}
        return peak
