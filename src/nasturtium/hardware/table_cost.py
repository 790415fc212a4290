"""A table of kernels as the cost in a supernet's loss: exactly, or operation by operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import Input, Operation, Shape
from nasturtium.hardware.additive import AdditiveFit
from nasturtium.hardware.kernels import FREE, Kernel, plain
from nasturtium.hardware.open_kernels import open_kernels
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import OpenGraph

Signature = tuple[Operation, tuple[Shape, ...]]


@dataclass(frozen=True)
class TableCost:
    """Latency in seconds as the `cost` of `ExpectedCost`, of DARTS and of ProxylessNAS.

    `ExpectedCost` asks for its `terms`: every kernel of the space, fused as in each architecture, with the condition
    on decisions at which it runs. So the expected latency equals the mean of the closed networks' predictions, and its
    gradient is exact.

    Called for one operation, as a function of it and its inputs' shapes, it cannot see what will be fused: the first
    operation of a kernel takes the kernel's time (the mean of those in the table that begin so), and an operation that
    stands only inside kernels takes none. Sums of that differ from `terms` where an operation is fused at some places
    and alone at others (an activation before a convolution, say), or is followed by different activations. The constant
    is that of the network's input, which `ExpectedCost` does not ask for: it is missing there, in a study's table too.

    A term below 0 is possible: a tiny kernel whose launch costs less in a network than alone.

    A study stores it whole (`to_dict`) and goes on with it from its file.
    """

    device: str
    seconds: Mapping[Kernel, float]
    fit: AdditiveFit
    _first: dict[Signature, float] = field(init=False, repr=False, compare=False)
    """Mean seconds of the kernels that begin with an operation."""
    _inside: frozenset[Signature] = field(init=False, repr=False, compare=False)
    """Operations that follow others in some kernel."""

    def __post_init__(self) -> None:
        first: dict[Signature, list[float]] = {}
        inside: set[Signature] = set()
        for kernel in self.seconds:
            first.setdefault((kernel.operations[0], kernel.inputs), []).append(self.of(kernel))
            inside.update([(o, (s,)) for o, s in zip(kernel.operations[1:], kernel.shapes, strict=False)])
        object.__setattr__(self, "_first", {key: sum(values) / len(values) for key, values in first.items()})
        object.__setattr__(self, "_inside", frozenset(inside))

    def __hash__(self) -> int:
        return hash((self.device, len(self.seconds)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; kernels in the order of their keys."""
        entries = [(kernel.key, {**kernel.to_dict(), "seconds": s}) for kernel, s in self.seconds.items()]
        return {"device": self.device, "kernels": [entry for _, entry in sorted(entries)], "fit": self.fit.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TableCost:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: fields are missing.
        """
        try:
            seconds = {Kernel.from_dict(each): float(each["seconds"]) for each in data["kernels"]}
            return cls(data["device"], seconds, AdditiveFit.from_dict(data["fit"]))
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A stored latency table lacks something: {error!r}.") from error

    def of(self, kernel: Kernel) -> float:
        """Seconds that one kernel adds to a network.

        Raises:
            InvalidInputError: the table lacks it.
        """
        if kernel not in self.seconds:
            raise InvalidInputError(
                f"The table of {self.device!r} lacks {kernel.text}: profile the space that is searched "
                "(`nasturtium profile DEVICE SPACE`), with the same input and classes."
            )
        return self.fit.slopes[kernel.group] * self.seconds[kernel] + self.fit.launch

    def terms(self, graph: OpenGraph, fixed: Mapping[int, int] | None = None) -> list[Diagram]:
        """Functions from decisions to seconds, whose sum is the latency of an architecture.

        Args:
            graph: The open graph of the space.
            fixed: Index of decisions, by position, that are decided already.

        Raises:
            InvalidInputError: the table lacks a kernel, or the space's kernels cannot be listed exactly.
            TraceError: an architecture cannot be traced.
        """
        diagrams = graph.record.diagrams
        sums: dict[int, tuple[Diagram, float]] = {}
        for kernel, when in open_kernels(graph, fixed):
            before = sums.get(when.number, (when, 0.0))[1]
            sums[when.number] = (when, before + self.of(kernel))
        constant = [diagrams.leaf(self.fit.constant)]
        return constant + [
            diagrams.combine(lambda holds, each=total: each if holds else 0.0, when) for when, total in sums.values()
        ]

    def __call__(self, operation: Operation, inputs: tuple[Shape, ...]) -> float:
        """Seconds of one operation, whatever follows it; see the class for how that differs.

        Raises:
            InvalidInputError: no kernel of the table has it on such inputs.
        """
        if isinstance(operation, Input):
            return self.fit.constant
        if isinstance(operation, FREE):
            return 0.0
        key = (plain(operation), inputs)
        found = self._first.get(key)
        if found is not None:
            return found
        if key in self._inside:
            return 0.0
        shapes = " and ".join(["x".join(map(str, shape)) for shape in inputs])
        raise InvalidInputError(f"The table of {self.device!r} has no kernel with {operation!r} on inputs of {shapes}.")

    def costs(self, operations: Iterable[Signature]) -> dict[Signature, float]:
        """A plain table of the given operations, by operation and shapes; each as of a call."""
        return {(operation, inputs): self(operation, inputs) for operation, inputs in operations}
