"""What a latency predictor reads of a network: its decisions, or its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph.graph import Graph
from nasturtium.graph.layers import kind_of
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.space import Architecture, Space

Matrix = NDArray[np.float64]
MOST_COUNTED = 48
"""Options, counted over all groups of like decisions, above which products of counts are left out."""


class Features(Protocol):
    """Numbers of networks, which a regression reads."""

    def __call__(self, networks: Sequence[Any]) -> Matrix:
        """`(networks, features)`."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ...


@dataclass(frozen=True, kw_only=True)
class CategoryFeatures:
    """Decisions as numbers: one-hot, how often like decisions take each option, and products of these counts.

    Counts let a few hundred networks teach what an operation costs wherever it stands; their products, how the cost of
    one depends on the others (a cache that many convolutions share, say).

    Args:
        counts: Number of options of each decision.
        groups: For each decision the number of its group: decisions of a group have the same options.
        products: Whether to add products of counts; None where there are at most 48 counts.

    Raises:
        InvalidInputError: the decisions of a group have different numbers of options.
    """

    counts: tuple[int, ...]
    groups: tuple[int, ...]
    products: bool | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.groups) or not self.counts:
            raise InvalidInputError(f"Each decision has a group, got {len(self.counts)} and {len(self.groups)}.")
        sizes: dict[int, int] = {}
        for count, group in zip(self.counts, self.groups, strict=True):
            if sizes.setdefault(group, count) != count:
                raise InvalidInputError(f"Decisions of group {group} have {sizes[group]} and {count} options.")

    def of_indices(self, matrix: Any) -> Matrix:
        """Features of decisions.

        Args:
            matrix: `(networks, decisions)`, indices; -1 where a decision is not active.

        Returns:
            `(networks, features)`.

        Raises:
            InvalidInputError: another shape, or an index out of range.
        """
        rows = np.asarray(matrix, dtype=np.int64)
        if rows.ndim != 2 or rows.shape[1] != len(self.counts):
            raise InvalidInputError(f"Decisions must be (networks, {len(self.counts)}), got {rows.shape}.")
        if (rows < -1).any() or (rows >= np.array(self.counts)).any():
            raise InvalidInputError("An index of a decision is out of range.")
        one_hot = [rows[:, [i]] == np.arange(count) for i, count in enumerate(self.counts)]
        counted: dict[int, Matrix] = {}
        for group, part in zip(self.groups, one_hot, strict=True):
            counted[group] = counted.get(group, np.zeros(part.shape)) + part
        sums = np.hstack([counted[group] for group in sorted(counted)])
        parts: list[Any] = [*one_hot, sums]
        if self.products if self.products is not None else sums.shape[1] <= MOST_COUNTED:
            parts += [sums[:, [i]] * sums[:, : i + 1] for i in range(sums.shape[1])]
        return np.hstack(parts).astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"counts": list(self.counts), "groups": list(self.groups), "products": self.products}


class DecisionFeatures:
    """The decisions of architectures of one space, as `CategoryFeatures`; like decisions are those of equal options.

    Args:
        space: The space.

    Raises:
        InvalidInputError: the space has no decisions.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        labels = [(decision.count, tuple(decision.labels)) for decision in space.decisions]
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        self.categories = CategoryFeatures(
            counts=tuple([count for count, _ in labels]), groups=tuple([numbers[label] for label in labels])
        )

    def __call__(self, networks: Sequence[Any]) -> Matrix:
        """`(networks, features)` of architectures.

        Raises:
            InvalidArchitectureError: something is no architecture of the space.
        """
        for network in networks:
            if not isinstance(network, Architecture):
                raise InvalidArchitectureError(
                    f"This predictor reads decisions, so it takes architectures of its space, got a "
                    f"{type(network).__name__}. A predictor with `GraphFeatures` reads graphs."
                )
        return self.categories.of_indices(
            np.array([self.space.indices(a) for a in networks]).reshape(len(networks), len(self.categories.counts))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "decisions", "space": self.space.to_dict()}


class GraphFeatures:
    """What a graph's kernels are and how large, by kind: a predictor for networks of any space.

    For each kind of kernel ("depthwise 5x5 /2, batch norm, relu", say): how many there are, and the sums of their
    MACs, of the elements that they read and write, and of their weights; and the same for all kinds together. Kinds
    that the training networks did not have are refused.

    Args:
        kinds: Of the training networks; see `fitted`.

    Reference:
        Zhang et al. (2021), "nn-Meter", MobiSys, table 3: features of kernels. Differs from the paper: sums over a
        network's kernels, since only whole networks are measured.
    """

    SIZES = 4
    """Numbers of each kind."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)

    @classmethod
    def fitted(cls, graphs: Sequence[Graph]) -> GraphFeatures:
        """With the kinds that occur in some graphs."""
        return cls(sorted({_kind(kernel) for graph in graphs for kernel in kernels(graph)}))

    def reads(self, graph: Graph) -> bool:
        """Whether all kinds of a graph's kernels are known."""
        return {_kind(kernel) for kernel in kernels(graph)} <= set(self.kinds)

    def grown(self, graphs: Sequence[Graph]) -> GraphFeatures:
        """With the kinds that occur in more graphs too."""
        return GraphFeatures(sorted({*self.kinds, *GraphFeatures.fitted(graphs).kinds}))

    def moved(self, rows: Matrix, to: GraphFeatures) -> Matrix:
        """These features' numbers as those of `to`, which knows more kinds."""
        found = np.zeros((len(rows), len(to.kinds) + 1, self.SIZES))
        places = [*[to.kinds.index(kind) for kind in self.kinds], len(to.kinds)]
        found[:, places] = rows.reshape(len(rows), len(self.kinds) + 1, self.SIZES)
        return found.reshape(len(rows), (len(to.kinds) + 1) * self.SIZES)

    def __call__(self, networks: Sequence[Any]) -> Matrix:
        """`(networks, features)` of graphs.

        Raises:
            InvalidInputError: something is no graph, or has kinds of kernels that are not known.
        """
        places = {kind: number for number, kind in enumerate(self.kinds)}
        found = np.zeros((len(networks), len(places) + 1, self.SIZES))
        for row, graph in enumerate(networks):
            if not isinstance(graph, Graph):
                raise InvalidInputError(f"This predictor reads graphs, got a {type(graph).__name__}: `nas.trace` it.")
            for kernel, times in Counter(kernels(graph)).items():
                kind = _kind(kernel)
                if kind not in places:
                    raise InvalidInputError(
                        f"The predictor was fitted on networks without kernels of the kind {kind!r}: measure some that "
                        "have it, and correct it with them."
                    )
                sizes = times * np.array(_sizes(kernel), dtype=float)
                found[row, places[kind]] += sizes
                found[row, -1] += sizes
        return found.reshape(len(networks), (len(self.kinds) + 1) * self.SIZES)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "graph", "kinds": list(self.kinds)}


def _kind(kernel: Kernel) -> str:
    first, *rest = kernel.operations
    return ", ".join([kind_of(first, kernel.inputs), *[kind_of(each, ()) for each in rest]])


def _sizes(kernel: Kernel) -> tuple[float, ...]:
    elements = sum(map(prod, kernel.inputs)) + prod(kernel.shapes[-1])
    return (1.0, float(kernel.macs), float(elements), float(kernel.weights))


def features_from_dict(data: Mapping[str, Any], *, trust: bool = False) -> DecisionFeatures | GraphFeatures:
    """Inverse of `to_dict`.

    Args:
        data: What it gave.
        trust: Whether a space of modules that are not nasturtium's may be read; see `Space.from_dict`.

    Raises:
        InvalidInputError: an unknown type.
    """
    if data.get("type") == "decisions":
        return DecisionFeatures(Space.from_dict(data["space"], trust=trust))
    if data.get("type") == "graph":
        return GraphFeatures(data["kinds"])
    raise InvalidInputError(f"Features are of type 'decisions' or 'graph', got {data.get('type')!r}.")
