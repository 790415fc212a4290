"""What a network takes of a microcontroller: SRAM, flash and MACs, quickly for many networks of one space.

Under TinyEngine's model a chain of blocks (`Sequential`, `Repeat`) is worked out block by block, each remembered with
the shape that it meets, so that a network costs little more than a look-up of its blocks. The numbers are those of
`Graph.peak_memory`, `Graph.flash_memory` and `Graph.macs` exactly; whatever is no chain is traced whole. So is every
network under TensorFlow Lite Micro, whose planner and whose own structures look at all of it: some milliseconds each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nasturtium.blocks import Repeat, Sequential
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph import Graph, trace
from nasturtium.graph.operations import BatchNorm, Input, TrainingOnly
from nasturtium.hardware.micro import predict_arena, predict_file
from nasturtium.space import Architecture, Block

Shape = tuple[int, ...]

REMEMBERED = 200_000
"""Blocks that `Footprints` keeps; it starts afresh beyond."""


class Footprint(NamedTuple):
    """What one network takes."""

    macs: int
    """Multiply-accumulates of one inference."""
    sram: int
    """Bytes of SRAM that the engine's model counts: activations alone, or the whole arena."""
    flash: int
    """Bytes of flash that it counts: int8 weights and int32 biases, or the whole int8 file; no code."""


class Engine(Protocol):
    """How a runtime for microcontrollers uses memory."""

    @property
    def title(self) -> str:
        """In words, for people."""
        ...

    @property
    def by_block(self) -> bool:
        """Whether a chain takes the most SRAM that one of its blocks takes, and the sum of their flash."""
        ...

    def sram(self, graph: Graph) -> int:
        """Bytes of SRAM: int8, batch 1."""
        ...

    def flash(self, graph: Graph) -> int:
        """Bytes of flash: int8."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """Activations at the worst moment, by the arguments of `Graph.peak_memory`; weights and biases."""

    title: str
    convention: str
    inplace_depthwise: bool

    @property
    def by_block(self) -> bool:
        """Yes."""
        return True

    def sram(self, graph: Graph) -> int:
        """Bytes of activations, without the runtime's own buffers."""
        return graph.peak_memory(convention=self.convention, inplace_depthwise=self.inplace_depthwise)

    def flash(self, graph: Graph) -> int:
        """Bytes of weights and biases."""
        return graph.flash_memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreted:
    """TensorFlow Lite Micro with its reference kernels: `hardware.predict_arena` and `hardware.predict_file`."""

    title: str

    @property
    def by_block(self) -> bool:
        """No: the planner places the tensors of the whole network, and each adds to the interpreter's structures."""
        return False

    def sram(self, graph: Graph) -> int:
        """Bytes of the whole arena, with 64-bit pointers.

        Raises:
            IncompatibleError: an operation that does not run there.
        """
        return predict_arena(graph).total

    def flash(self, graph: Graph) -> int:
        """Bytes of the int8 file: weights, biases, scales of channels and its own structure; the code comes on top."""
        return predict_file(graph)


ENGINES: dict[str, Engine] = {
    "tinyengine": Scheduled(
        title="TinyEngine: each convolution's input and output and the waiting residual, depthwise in place",
        convention="conv_in_out",
        inplace_depthwise=True,
    ),
    "conv_in_out": Scheduled(
        title="each convolution's input and output and the waiting residual",
        convention="conv_in_out",
        inplace_depthwise=False,
    ),
    "tflm": Interpreted(
        title="TensorFlow Lite Micro, reference kernels: the whole arena, with copies for padding and the "
        "interpreter's structures; the whole int8 file"
    ),
}
"""By name. The first two are MCUNet's published models of activations; the last is the arena of a `.tflite` file."""


def engine_named(name: str) -> Engine:
    """An engine by name.

    Raises:
        UnknownNameError: no engine of that name.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    return ENGINES[name]


class _Part(NamedTuple):
    """One block of a chain on one input."""

    footprint: Footprint
    output: Shape


class Footprints:
    """Footprints of many networks on inputs of one shape.

    Args:
        inputs: Shape of the input without the batch, `(channels, height, width)`.
        engine: A name of `ENGINES`, or an `Engine`.
        **context: What the task tells the network, for example `classes=10`.

    Raises:
        UnknownNameError: no engine of that name.
        InvalidInputError: the input is not one shape of positive integers.
        IncompatibleError: the engine cannot run an operation of a network (when it is called).

    Example:
        >>> import nasturtium as nas
        >>> footprints = Footprints((3, 32, 32), classes=10)
        >>> footprints(nas.Sequential(nas.Conv(8, stride=2), nas.Classifier()))
        Footprint(macs=55376, sram=5120, flash=368)

    Reference:
        Lin et al. (2020), "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, sections 3.1 and 3.2.
    """

    def __init__(self, inputs: Shape, engine: str | Engine = "tinyengine", **context: object) -> None:
        if not isinstance(inputs, tuple) or not inputs or any(type(n) is not int or n < 1 for n in inputs):
            raise InvalidInputError(f"`inputs` must be one shape such as (3, 160, 160), got {inputs!r}.")
        self.inputs = inputs
        self.engine = engine_named(engine) if isinstance(engine, str) else engine
        self.context = context
        self._parts: dict[tuple[Block, Shape], _Part | None] = {}

    def __call__(self, network: Architecture | Block) -> Footprint:
        """Footprint of a closed network.

        Raises:
            TraceError: the block has open choices, or does not return tensors.
            ShapeError: the input does not fit an operation.
        """
        block = network.block if isinstance(network, Architecture) else network
        if not self.engine.by_block:
            return self._whole(block)
        macs = sram = flash = 0
        shape = self.inputs
        for item in _chain(block):
            part = self._part(item, shape)
            if part is None:
                return self._whole(block)
            macs += part.footprint.macs
            sram = max(sram, part.footprint.sram)
            flash += part.footprint.flash
            shape = part.output
        return Footprint(macs, sram, flash)

    def _part(self, block: Block, shape: Shape) -> _Part | None:
        """One block's share; None where it depends on its surroundings."""
        key = (block, shape)
        try:
            return self._parts[key]
        except KeyError:
            if len(self._parts) >= REMEMBERED:
                self._parts.clear()
            found = self._parts[key] = self._traced(block, shape)
            return found

    def _traced(self, block: Block, shape: Shape) -> _Part | None:
        graph = trace(block, shape, **self.context)
        if len(graph.outputs) != 1 or _leans_out(graph):
            return None
        return _Part(self._of(graph), graph.nodes[graph.outputs[0].node].shape)

    def _whole(self, block: Block) -> Footprint:
        return self._of(trace(block, self.inputs, **self.context))

    def _of(self, graph: Graph) -> Footprint:
        return Footprint(graph.macs, self.engine.sram(graph), self.engine.flash(graph))


def _chain(block: Any) -> Iterator[Block]:
    """The blocks that run one after the other, each on the output of the one before."""
    if isinstance(block, (Sequential, Repeat)):
        for item in block.layers if isinstance(block, Sequential) else block.blocks:
            yield from _chain(item)
    else:
        yield block


def _leans_out(graph: Graph) -> bool:
    """Whether what a block takes depends on its neighbours.

    A batch norm on the block's own input may be folded into the layer before; a layer that the block ends with may
    take up a batch norm that follows, which the next block's first check finds.
    """
    nodes = graph.nodes
    return any(
        isinstance(node.operation, TrainingOnly)
        or (isinstance(node.operation, BatchNorm) and isinstance(nodes[node.inputs[0]].operation, Input))
        for node in nodes
    )
