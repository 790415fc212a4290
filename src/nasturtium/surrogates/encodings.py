"""Architectures as numbers: what a surrogate learns from.

Three encodings: the decisions themselves; the paths from input to output (BANANAS); the Weisfeiler-Lehman features of
the graph of operations (NAS-BOWL). The last two look at the searched parts, see `parts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Space
from nasturtium.surrogates.parts import OperationGraph, Parts

Array = NDArray[np.float64]
Kind = Literal["auto", "decisions", "paths", "wl"]
KINDS: tuple[Kind, ...] = ("auto", "decisions", "paths", "wl")
CELLS = 2
"""Searched parts up to which "auto" takes a space for a cell space."""
CELL_NODES = 20
"""Nodes up to which a part is a cell; `2 ** (CELL_NODES - 2)` bounds its paths."""
MOST_PATHS = 300_000
SAMPLES = 20
REMEMBERED = 20_000
"""Architectures whose encodings are kept; then all are forgotten, so that memory stays flat."""
ROUNDS = 1
"""Of Weisfeiler-Lehman relabelling; NAS-BOWL finds that one is often enough (section 4)."""


class Encoder:
    """Turns architectures of a space into rows of numbers; what was encoded once is remembered.

    Args:
        space: Whose architectures.
        kind: "decisions" (one-hot), "paths" (how often each sequence of operations leads from input to output), "wl"
            (how often each neighbourhood of operations occurs), or "auto": paths for a cell space, else decisions.
        rounds: Of relabelling, for "wl": a feature sees so many steps back.
        parts: The space's parts, where another encoder has traced them too; None finds them.

    Raises:
        UnknownNameError: no such kind.
        InvalidInputError: the space's parts cannot be traced alone (never with "auto" or "decisions").

    Reference:
        White, Neiswanger, Savani (2021), arXiv 1910.11858, section 3 (paths). Ru, Wan, Dong, Osborne (2021),
        "Interpretable neural architecture search via Bayesian optimisation with Weisfeiler-Lehman kernels", arXiv
        2006.07556, section 3 (wl).
    """

    def __init__(
        self, space: Space, kind: Kind | str = "auto", *, rounds: int = ROUNDS, parts: Parts | None = None
    ) -> None:
        if kind not in KINDS:
            raise UnknownNameError("encoding", kind, KINDS)
        self._space, self._rounds = space, rounds
        self._parts = None if kind == "decisions" else _cells(space) if kind == "auto" else parts or Parts(space)
        self.kind = kind if kind != "auto" else "decisions" if self._parts is None else "paths"
        self._rows: dict[str, Array] = {}
        self._counts: dict[str, Counter[str]] = {}

    def encode(self, architectures: Sequence[Architecture], *, like: Sequence[Architecture] | None = None) -> Array:
        """Rows of numbers.

        Args:
            architectures: Of the space.
            like: The columns of "paths" and "wl" are the features that occur in these, sorted; features that occur in
                none of them are left out. Default: in the architectures themselves.

        Returns:
            `(n, width)`; 0 and 1 for decisions, counts for the others.
        """
        if self.kind == "decisions":
            return np.stack([self._row(a) for a in architectures])
        labels = sorted({label for a in (architectures if like is None else like) for label in self.counts(a)})
        place = {label: i for i, label in enumerate(labels)}
        rows = np.zeros((len(architectures), len(labels)))
        for row, architecture in zip(rows, architectures, strict=True):
            for label, count in self.counts(architecture).items():
                if label in place:
                    row[place[label]] = count
        return rows

    def norms(self, architectures: Sequence[Architecture]) -> Array:
        """`(n,)` Euclidean lengths of the rows with all their features, left-out ones included."""
        if self.kind == "decisions":
            return np.sqrt(np.square(self.encode(architectures)).sum(axis=1))
        return np.sqrt([float(sum(c * c for c in self.counts(a).values())) for a in architectures])

    def counts(self, architecture: Architecture) -> Counter[str]:
        """How often each feature occurs in an architecture, by its label; for "paths" and "wl".

        Raises:
            InvalidInputError: it has too many paths.
        """
        found = self._counts.get(architecture.key)
        if found is None:
            assert self._parts is not None
            if len(self._counts) >= REMEMBERED:
                self._counts.clear()
            found = Counter()
            for number, graph in self._parts.graphs(architecture):
                made = _paths(graph) if self.kind == "paths" else weisfeiler_lehman(graph, self._rounds)
                for label, count in made.items():
                    found[f"{number}: {label}"] += count
            self._counts[architecture.key] = found
        return found

    def _row(self, architecture: Architecture) -> Array:
        row = self._rows.get(architecture.key)
        if row is None:
            if len(self._rows) >= REMEMBERED:
                self._rows.clear()
            row = self._rows[architecture.key] = np.asarray(self._space.encode(architecture), dtype=np.float64)
        return row


def weisfeiler_lehman(graph: OperationGraph, rounds: int) -> Counter[str]:
    """How often each label occurs, over the given labels and those of so many rounds of relabelling.

    A round replaces a node's label by its own together with the sorted labels of what it reads.

    Reference:
        Shervashidze et al. (2011), "Weisfeiler-Lehman graph kernels", JMLR 12, algorithm 1; directed, as in NAS-BOWL.
    """
    labels = list(graph.labels)
    found: Counter[str] = Counter(f"0 {label}" for label in labels)
    for number in range(1, rounds + 1):
        labels = [
            f"{label} <- [{' | '.join(sorted(labels[s] for s in sources))}]"
            for label, sources in zip(labels, graph.sources, strict=True)
        ]
        found.update(f"{number} {label}" for label in labels)
    return found


def _paths(graph: OperationGraph) -> Counter[str]:
    return Counter(" > ".join(path) for path in graph.paths(MOST_PATHS))


def _cells(space: Space) -> Parts | None:
    """The parts of a cell space; None for a space whose structure is not in a few cells."""
    try:
        parts = Parts(space)
        if len(parts) > CELLS:
            return None
        rng = Random("cells")
        drawn = [graph for _ in range(SAMPLES) for _, graph in parts.graphs(space.sample(rng))]
    except InvalidInputError:
        return None
    return parts if max(len(graph.labels) for graph in drawn) <= CELL_NODES else None
