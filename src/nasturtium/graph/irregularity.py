"""Irregularity of a graph: how far its kernels are from running one after another, each on one tensor.

At equal MACs an irregular network runs slower: every small kernel has its own launch, its own reads and writes, and
less work to spread over a device; sums and concatenations read several tensors and multiply nothing.

A *kernel* is one row of `Graph.layers()`: an operation with the norm, activation, dropout or flattening that alone
reads its result, as runtimes fuse them. The kernels are laid out in steps: each runs one step after the last of those
that it reads from.

Reference:
    Ma et al. (2018), "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", arXiv 1807.11164,
    section 2, guidelines G3 ("network fragmentation reduces degree of parallelism") and G4 ("element-wise operations
    are non-negligible"). They count a block's operators; the ratio here is of whole graphs and ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasturtium.graph.layers import FOLLOWERS

if TYPE_CHECKING:
    from nasturtium.graph.cost import _Summary
    from nasturtium.graph.graph import Graph

UNREACHED = -(1 << 60)
"""Length of a path that does not exist."""

Paths = tuple[list[list[int]], list[int]]
"""Kernels on the longest path from each input to each output, and from each input to anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Irregularity:
    """What makes a graph irregular, part by part; what serves training-only outputs alone is left out."""

    kernels: int
    """Launches: rows of `Graph.layers()`."""
    edges: int
    """Tensors that kernels read, counted once for each reading."""
    depth: int
    """Kernels on the longest path, which is the number of steps."""
    branches: int
    """Most kernels in one step."""

    @property
    def fragmentation(self) -> float:
        """Mean number of kernels in a step: `kernels / depth`; 1 for a graph without kernels."""
        return self.kernels / self.depth if self.depth else 1.0

    @property
    def irregularity(self) -> float:
        """Mean number of tensors that a step reads: `edges / depth`; 1 for a graph without kernels.

        It is at least 1, and 1 exactly for a chain. It is `fragmentation` (kernels side by side) times `edges /
        kernels` (tensors that a kernel reads).
        """
        return ratio(self.edges, self.depth)


def irregularity(graph: Graph) -> Irregularity:
    """Irregularity of a graph, part by part; `Graph.irregularity` is the one number.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.graph import irregularity
        >>> irregularity(nas.trace(nas.Sequential(nas.Conv(8), nas.Conv(8)), (3, 8, 8))).irregularity
        1.0
    """
    step: dict[int, int] = {}
    edges = 0
    rows = graph.layers()
    for row in rows:
        sources = graph.nodes[row.nodes[0]].inputs
        edges += len(sources)
        turn = 1 + max([step.get(i, 0) for i in sources], default=0)
        step.update(dict.fromkeys(row.nodes, turn))
    steps = Counter(step[row.nodes[0]] for row in rows)
    return Irregularity(
        kernels=len(rows), edges=edges, depth=max(steps, default=0), branches=max(steps.values(), default=0)
    )


def ratio(edges: int, depth: int) -> float:
    """Tensors read per step."""
    return edges / depth if depth else 1.0


class Wiring:
    """A block's readings and paths, for whoever calls it; made from its summary in a `CostModel`.

    Whether a norm or an activation is a kernel of its own depends on how often its source is read. Inside the block
    that is known; what is known of the block's inputs and outputs is how often and by what they are read inside, and
    the caller, who sees all readings, decides.
    """

    __slots__ = ("_fused", "_paths", "_summary", "edges", "followers", "kernels", "reads")

    def __init__(self, summary: _Summary) -> None:
        self._summary = summary
        self._paths: dict[tuple[int, int], Paths] = {}
        self.edges = 0
        """Readings by kernels, those that an input or output may yet fuse included."""
        self.kernels = 0
        """Kernels, likewise."""
        self.reads = [0] * len(summary.shapes)
        """How often each value is read in here."""
        self.followers = [0] * len(summary.shapes)
        """How often by an operation that may belong to its kernel."""
        for step in summary.steps:
            if step.operation is not None:
                self.kernels += 1
                self.edges += len(step.inputs)
                for v in step.inputs:
                    self.reads[v] += 1
                    self.followers[v] += isinstance(step.operation, FOLLOWERS)
            elif step.child is not None:
                self._read_by(step.child, (*step.inputs, *step.outputs))
        inner = set(range(summary.arity, len(summary.shapes))).difference(summary.outputs)
        self._fused = {v for v in inner if self.fuses(v)}
        self.edges -= len(self._fused)
        self.kernels -= len(self._fused)

    def _read_by(self, child: _Summary, values: tuple[int, ...]) -> None:
        wiring = child.wiring
        self.edges += wiring.edges
        self.kernels += wiring.kernels
        for v, inside in zip(values, (*child.used, *child.produced), strict=True):
            self.reads[v] += wiring.reads[inside]
            self.followers[v] += wiring.followers[inside]

    def fuses(self, value: int) -> bool:
        """Whether a value is read once in here, by what may belong to its kernel."""
        return self.reads[value] == 1 == self.followers[value]

    def whole_kernels(self) -> int:
        """Kernels, where the block is the whole network."""
        return self.kernels - len(self._fused_outputs())

    def _fused_outputs(self) -> set[int]:
        return {v for v in self._summary.produced if self.fuses(v)}

    def whole(self) -> float:
        """Irregularity, where the block is the whole network: a graph's inputs fuse nothing."""
        fused = self._fused_outputs()
        _, deepest = self.paths(0, _bits(self._summary.produced, fused))
        return ratio(self.edges - len(fused), max(deepest, default=0))

    def paths(self, inputs: int, outputs: int) -> Paths:
        """Longest paths, remembered.

        Args:
            inputs: Bit k: the reader of the k-th of `used` belongs to the kernel that made it.
            outputs: Bit k: the same of the k-th of `produced` and its reader in here.
        """
        key = (inputs, outputs)
        found = self._paths.get(key)
        if found is None:
            summary = self._summary
            fused = self._fused.union(
                [v for bit, v in enumerate(summary.used) if inputs >> bit & 1],
                [v for bit, v in enumerate(summary.produced) if outputs >> bit & 1],
            )
            found = self._paths[key] = self._longest(fused)
        return found

    def _longest(self, fused: set[int]) -> Paths:
        summary = self._summary
        starts = range(len(summary.used))
        length = [[UNREACHED] * len(starts) for _ in summary.shapes]
        for k in starts:
            length[summary.used[k]][k] = 0
        deepest = [UNREACHED] * len(starts)
        for step in summary.steps:
            sources = [length[v] for v in step.inputs]
            if step.child is not None:
                inner, ends = step.child.wiring.paths(_bits(step.inputs, fused), _bits(step.outputs, fused))
                for v, row in zip(step.outputs, inner, strict=True):
                    length[v] = _joined(row, sources, starts)
                last = _joined(ends, sources, starts)
            else:
                own = 0 if isinstance(step.operation, FOLLOWERS) and step.inputs[0] in fused else 1
                last = length[step.outputs.start] = _joined([own] * len(sources), sources, starts)
            deepest = [max(a, b) for a, b in zip(deepest, last, strict=True)]
        return [length[v] for v in summary.produced], deepest


def _bits(values: Iterable[int], members: set[int]) -> int:
    """Bit k: the k-th value is a member."""
    return sum([1 << bit for bit, v in enumerate(values) if v in members])


def _joined(more: list[int], sources: list[list[int]], starts: range) -> list[int]:
    """Longest path from each start through any of the sources, with what each of these adds."""
    if len(sources) == 1:
        return [x + more[0] for x in sources[0]]
    pairs = list(zip(sources, more, strict=True))
    return [max([source[k] + add for source, add in pairs], default=UNREACHED) for k in starts]
