"""The graph: the narrow waist on which everything about a network is defined."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from nasturtium.graph.canonical import canonical_hash
from nasturtium.graph.drawing import draw
from nasturtium.graph.irregularity import irregularity
from nasturtium.graph.layers import Layer, layers
from nasturtium.graph.memory import flash_memory, peak_memory
from nasturtium.graph.operations import Operation, Shape, TrainingOnly
from nasturtium.graph.tensor import Context


class Node(NamedTuple):
    """One operation at its place."""

    operation: Operation
    inputs: tuple[int, ...]
    """Numbers of the nodes whose outputs it reads, in order."""
    shape: Shape
    """Output shape, without the batch."""
    path: str
    """Where it stands, for example "layers.2.blocks.0.expand.conv"; its weights are `path.weight` …"""


class Output(NamedTuple):
    """A named output of the graph."""

    name: str
    node: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A network for given inputs and context, lowered to primitive operations.

    Nodes stand in the order in which `forward` ran, which is a valid order of execution.
    Costs leave out what serves training-only outputs alone; whatever else is stated is counted, dead branches too.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    """Names of the inputs; they are the first nodes."""
    outputs: tuple[Output, ...]
    structure: object = 0
    """Nesting of the outputs: an output's number, or a tuple or dict of such."""
    context: Context = field(default_factory=Context)

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Shapes that a node reads."""
        return tuple([self.nodes[i].shape for i in node.inputs])

    @cached_property
    def training_only(self) -> frozenset[int]:
        """Nodes that serve training-only outputs alone."""
        roots = {o.node for o in self.outputs if isinstance(self.nodes[o.node].operation, TrainingOnly)}
        if not roots:
            return frozenset()
        serving = self.ancestors(roots)
        others = set(range(len(self.nodes))) - serving | ({o.node for o in self.outputs} - roots)
        return frozenset(serving - self.ancestors(others))

    def ancestors(self, roots: set[int]) -> set[int]:
        """The given nodes and all that they depend on."""
        found = set(roots)
        for index in range(max(roots, default=-1), -1, -1):
            if index in found:
                found.update(self.nodes[index].inputs)
        return found

    @cached_property
    def costed(self) -> tuple[int, ...]:
        """Nodes that count in the costs, in order."""
        return tuple(i for i in range(len(self.nodes)) if i not in self.training_only)

    @cached_property
    def _totals(self) -> tuple[int, int]:
        """Parameters and MACs, in one pass."""
        params = macs = 0
        seen: set[str] = set()
        nodes = self.nodes
        for index in self.costed:
            operation, sources, shape, path = nodes[index]
            shapes = [nodes[i].shape for i in sources]
            count = operation.params(*shapes)
            if count and path not in seen:
                seen.add(path)
                params += count
            macs += operation.macs(shape, *shapes)
        return params, macs

    @property
    def params(self) -> int:
        """Trainable parameters; tied weights count once."""
        return self._totals[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear weights, for one sample."""
        return self._totals[1]

    @cached_property
    def activations(self) -> int:
        """Elements of all convolution outputs, for one sample."""
        return sum(self.nodes[i].operation.activations(self.nodes[i].shape) for i in self.costed)

    @cached_property
    def irregularity(self) -> float:
        """Tensors read per step, 1 for a chain; see `nasturtium.graph.irregularity`, which gives its parts too."""
        return irregularity(self).irregularity

    @cached_property
    def kernels(self) -> int:
        """Launches, norms and activations fused: the number of `layers()`."""
        return len(self.layers())

    @cached_property
    def canonical_hash(self) -> str:
        """32 hexadecimal digits, equal for networks that are the same up to their weights."""
        return canonical_hash(self)

    def layers(self) -> tuple[Layer, ...]:
        """One row for each convolution, linear layer or other step, with the norm and activation that follow it."""
        return layers(self)

    def _repr_svg_(self) -> str:
        """The drawing, for notebooks."""
        return draw(self)

    def peak_memory(
        self,
        dtype: str = "int8",
        *,
        batch: int = 1,
        schedule: str = "given",
        inplace_depthwise: bool = False,
        convention: str = "liveness",
    ) -> int:
        """Bytes of activations alive at the worst moment; see `nasturtium.graph.memory.peak_memory`.

        The bare call means int8, batch 1, the given order, liveness.
        """
        return peak_memory(
            self,
            dtype,
            batch=batch,
            schedule=schedule,
            inplace_depthwise=inplace_depthwise,
            convention=convention,
        )

    def flash_memory(self, dtype: str = "int8", *, bias: bool = True) -> int:
        """Bytes of the stored weights, batch norms folded; see `nasturtium.graph.memory.flash_memory`.

        The bare call means int8 weights with int32 biases.
        """
        return flash_memory(self, dtype, bias=bias)
