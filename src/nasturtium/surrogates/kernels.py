"""What a Gaussian process compares in two architectures: a kernel for each way of looking at them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Space
from nasturtium.space.choice import IntRange, OneOf
from nasturtium.space.structure import Decision
from nasturtium.surrogates.encodings import REMEMBERED, Encoder
from nasturtium.surrogates.gaussian_process import Rows
from nasturtium.surrogates.parts import Parts

Array = NDArray[np.float64]
Costs = Callable[[Architecture], Mapping[str, float]]
Names = str | Sequence[str | Sequence[str]]
"""One kernel, several that are summed, or, in lists within a list, one sum for each of several processes."""

KERNELS = ("decisions", "additive", "ordered", "paths", "wl")
"""Names of kernels; all of them may be summed."""
LINEAR = ("additive", "wl")
"""Kernels that are products of rows; the others are squared-exponential."""
CELL_PROCESSES = (("decisions", "wl"), ("paths",), ("decisions", "wl", "paths"))
"""The kernels of the three processes in a space of cells, by default."""
INACTIVE = -0.5
"""Place of an ordered decision that is not active, beside its range [0, 1]."""


class Kernels:
    """Makes the rows that a Gaussian process compares.

    Args:
        space: Whose architectures.
        names: Kernels to sum, or "auto": "decisions" and "wl" for a space of cells; else "decisions", "additive", and
            "ordered" where there are numeric decisions.

            - "decisions": exponential of the Hamming distance of the decisions (the categorical kernel).
            - "additive": each decision adds its own part (linear in the one-hot encoding).
            - "ordered": squared-exponential in the numeric decisions, each by its place in its range.
            - "paths": squared-exponential in which paths there are (BANANAS' encoding).
            - "wl": normalised Weisfeiler-Lehman kernel of the searched parts (NAS-BOWL).
        costs: Cheap metrics of an architecture, for `features`.
        features: Names of cheap metrics that are compared too, squared-exponentially, standardised over what is
            known, in logarithms where they are all positive.

    Raises:
        UnknownNameError: there is no such kernel.
        InvalidInputError: a graph kernel where parts cannot be traced; "ordered" without numeric decisions.
    """

    def __init__(
        self,
        space: Space,
        names: str | Sequence[str] = "auto",
        *,
        costs: Costs | None = None,
        features: Sequence[str] = (),
    ) -> None:
        self._order = [(d.name, d.count - 1) for d in space.decisions if _is_numeric(d)]
        self._costs, self._features = costs, tuple(features)
        self.cells = Encoder(space, "auto").kind == "paths"
        """Whether the space is one of cells, whose graphs can be compared."""
        if names == "auto":
            self.names: tuple[str, ...] = ("decisions", "wl") if self.cells else ("decisions", "additive")
            if not self.cells and self._order:
                self.names += ("ordered",)
        else:
            self.names = (names,) if isinstance(names, str) else tuple(names)
        for name in self.names:
            if name not in KERNELS:
                raise UnknownNameError("kernel", name, KERNELS)
        if "ordered" in self.names and not self._order:
            raise InvalidInputError("The kernel 'ordered' compares numeric decisions, and this space has none.")
        self._decisions = Encoder(space, "decisions")
        graphs = [name for name in ("paths", "wl") if name in self.names]
        traced = Parts(space) if graphs else None
        self._graphs = {name: Encoder(space, name, parts=traced) for name in graphs}
        self._places: dict[str, Array] = {}
        self._known: dict[str, Array] = {}

    def rows(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> Rows:
        """Rows of architectures, with the features and the scale of those that are known (`like`)."""
        return self.compose(self.matrices(architectures, like), self.names)

    def matrices(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> dict[str, Array]:
        """What each kernel compares, `(n, width)`, by its name; "features" where there are some."""
        found: dict[str, Array] = {}
        for name in self.names:
            if name == "decisions":
                found[name] = self._decisions.encode(architectures)
            elif name == "additive":
                rows = self._decisions.encode(architectures)
                found[name] = rows / np.maximum(1.0, np.linalg.norm(rows, axis=1, keepdims=True))
            elif name == "ordered":
                found[name] = np.stack([self._place(a) for a in architectures])
            elif name == "paths":
                found[name] = self._paths(architectures, like)
            else:
                wl = self._graphs["wl"]
                found[name] = wl.encode(architectures, like=like) / wl.norms(architectures)[:, None]
        if self._features:
            found["features"] = self._standardised(architectures, like)
        return found

    @staticmethod
    def compose(matrices: Mapping[str, Array], names: Sequence[str]) -> Rows:
        """The rows of a sum of some of the kernels, and of the features."""
        chosen = [*names, *(["features"] if "features" in matrices else [])]
        return Rows(
            squared=tuple([matrices[name] for name in chosen if name not in LINEAR]),
            linear=tuple([matrices[name] for name in chosen if name in LINEAR]),
        )

    def _paths(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> Array:
        """1 where a path is there; the last column holds how far those paths lead away that none of `like` has."""
        paths = self._graphs["paths"]
        present = np.minimum(paths.encode(architectures, like=like), 1.0)
        others = np.array([len(paths.counts(a)) for a in architectures]) - present.sum(axis=1)
        return np.column_stack([present, np.sqrt(others)])

    def _place(self, architecture: Architecture) -> Array:
        found = self._places.get(architecture.key)
        if found is None:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            chosen = architecture.decisions
            found = np.array([chosen[name] / last if name in chosen else INACTIVE for name, last in self._order])
            self._places[architecture.key] = found
        return found

    def _standardised(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> Array:
        known, asked = (np.stack([self._cost(a) for a in group]) for group in (like, architectures))
        positive = ~(known <= 0).any(axis=0)  # what is asked about must not change how the known are seen
        with np.errstate(invalid="ignore"):
            least = np.where(positive, np.fmin.reduce(known, axis=0), 1.0)
            known = np.where(positive, np.log(np.where(positive, known, 1.0)), known)
            asked = np.where(positive, np.log(np.where(positive, np.where(asked <= 0, least, asked), 1.0)), asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column may be unknown throughout
            centre, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        scaled = (asked - centre) / np.where(spread > 0, spread, 1.0)
        return np.nan_to_num(scaled)  # what is unknown stands in the middle

    def _cost(self, architecture: Architecture) -> Array:
        found = self._known.get(architecture.key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            metrics = self._costs(architecture) if self._costs is not None else {}
            for name in self._features:
                if name not in metrics:
                    raise UnknownNameError("cheap metric", name, list(metrics))
            found = self._known[architecture.key] = np.array([float(metrics[name]) for name in self._features])
        return found


class Processes:
    """What each of several Gaussian processes compares: a sum of kernels each.

    Args:
        space: Whose architectures.
        names: "auto": in a space of cells three processes, one of "decisions" and "wl", one of "paths", and one of all
            of these, elsewhere one; or names of kernels to sum; or a list of such lists, a process each.
        costs: As for `Kernels`.
        features: As for `Kernels`; seen by each.

    Raises:
        UnknownNameError: there is no such kernel.
        InvalidInputError: as for `Kernels`, or there is nothing in a list.
    """

    def __init__(
        self, space: Space, names: Names = "auto", *, costs: Costs | None = None, features: Sequence[str] = ()
    ) -> None:
        if names == "auto":
            alone = Kernels(space)
            self.names: tuple[tuple[str, ...], ...] = CELL_PROCESSES if alone.cells else (alone.names,)
        elif isinstance(names, str):
            self.names = ((names,),)
        elif all(isinstance(name, str) for name in names):
            self.names = (tuple(map(str, names)),)
        else:
            self.names = tuple([(group,) if isinstance(group, str) else tuple(group) for group in names])
        if not self.names or not all(self.names):
            raise InvalidInputError(f"A process needs at least one kernel of {', '.join(KERNELS)}; got {names!r}.")
        every = dict.fromkeys(name for group in self.names for name in group)
        self._kernels = Kernels(space, tuple(every), costs=costs, features=features)

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> list[Rows]:
        """Rows of architectures for each process; see `Kernels.rows`."""
        matrices = self._kernels.matrices(architectures, like)
        return [self._kernels.compose(matrices, group) for group in self.names]


def _is_numeric(decision: Decision) -> bool:
    """Whether a decision is among three or more numbers, so that their order may tell something."""
    choice = decision.choice
    if isinstance(choice, IntRange):
        return decision.count > 2
    numbers = isinstance(choice, OneOf) and all(type(option) in (int, float) for option in choice.options)
    return numbers and decision.count > 2
