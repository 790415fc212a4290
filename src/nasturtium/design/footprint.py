"""What a network takes of a microcontroller: SRAM, flash and MACs, quickly for many networks of one space.

A chain of blocks (`Sequential`, `Repeat`) is worked out block by block, each remembered with the shape that it meets,
so that a network costs little more than a look-up of its blocks. The numbers are those of `Graph.peak_memory`,
`Graph.flash_memory` and `Graph.macs` exactly; whatever is no chain is traced whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from nasturtium.blocks import Repeat, Sequential
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph import Graph, trace
from nasturtium.graph.operations import BatchNorm, Input, TrainingOnly
from nasturtium.space import Architecture, Block

Shape = tuple[int, ...]

REMEMBERED = 200_000
"""Blocks that `Footprints` keeps; it starts afresh beyond."""


class Footprint(NamedTuple):
    """What one network takes."""

    macs: int
    """Multiply-accumulates of one inference."""
    sram: int
    """Bytes of activations at the worst moment, int8, as the engine schedules them."""
    flash: int
    """Bytes of int8 weights and int32 biases; no code, no quantisation parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How a runtime for microcontrollers uses memory: the arguments of `Graph.peak_memory`."""

    title: str
    """In words, for people."""
    convention: str
    inplace_depthwise: bool

    def sram(self, graph: Graph) -> int:
        """Bytes of activations at the worst moment: int8, batch 1."""
        return graph.peak_memory(convention=self.convention, inplace_depthwise=self.inplace_depthwise)


ENGINES = {
    "tinyengine": Engine(
        title="TinyEngine: each convolution's input and output and the waiting residual, depthwise in place",
        convention="conv_in_out",
        inplace_depthwise=True,
    ),
    "conv_in_out": Engine(
        title="each convolution's input and output and the waiting residual",
        convention="conv_in_out",
        inplace_depthwise=False,
    ),
    "tflm": Engine(
        title="TensorFlow Lite Micro: tensors alive in the given order, without the interpreter's own structures",
        convention="liveness",
        inplace_depthwise=False,
    ),
}
"""By name. The first two are MCUNet's published models; the last is what a `.tflite` file needs."""


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
        self.engine = engine if isinstance(engine, Engine) else engine_named(engine)
        self.context = context
        self._parts: dict[tuple[Block, Shape], _Part | None] = {}

    def __call__(self, network: Architecture | Block) -> Footprint:
        """Footprint of a closed network.

        Raises:
            TraceError: the block has open choices, or does not return tensors.
            ShapeError: the input does not fit an operation.
        """
        block = network.block if isinstance(network, Architecture) else network
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
        return Footprint(graph.macs, self.engine.sram(graph), graph.flash_memory())


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
