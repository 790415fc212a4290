"""Spaces: an open block and the set of closed blocks that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Literal, final

from nasturtium.errors import (
    InfeasibleError,
    InvalidArchitectureError,
    InvalidInputError,
    InvalidSpaceError,
    SizeUnknownError,
    UnknownNameError,
)
from nasturtium.space.activation import Activation, activations
from nasturtium.space.architecture import Architecture
from nasturtium.space.block import Block, Open
from nasturtium.space.choice import Choice
from nasturtium.space.conditions import Condition, Conditions, Interval
from nasturtium.space.counting import unrank
from nasturtium.space.describe import space_fingerprint, space_from_dict, space_to_dict
from nasturtium.space.plan import Plan
from nasturtium.space.structure import Decision, Indices
from nasturtium.space.vary import Only, cross, mutate, neighbours

if TYPE_CHECKING:
    from nasturtium.space.listed import Listed

Sampler = Literal["uniform", "hierarchical"]


@final
class Space:
    """An open block, and the set of closed blocks that it stands for.

    Args:
        block: A block with fields left open (a closed block is a space of one architecture).
        quoted_size: The size that a paper states, where it is an approximation; kept beside the exact `size`.

    Raises:
        InvalidSpaceError: the block is not a block, or its choices contradict each other.

    Example:
        >>> import random
        >>> import nasturtium as nas
        >>> space = nas.Space(nas.Conv(nas.one_of(8, 16), kernel=nas.one_of(3, 5, 7)))
        >>> space.size
        6
        >>> space.sample(random.Random(0)) in space
        True
    """

    def __init__(self, block: Block | Open, *, quoted_size: int | None = None) -> None:
        if not isinstance(block, (Block, Choice)):
            raise InvalidSpaceError(f"A space is made of a block with open fields, got {block!r}.")
        self.block = block
        self.quoted_size = quoted_size
        self._plan = Plan(block)
        self._conditions = Conditions(self._plan, ())

    @classmethod
    def from_table(cls, space: Space, architectures: Iterable[Architecture] | Any) -> Space:
        """The part of a space that is listed: a table of architectures as a space of its own.

        It is a space like any other, but what is not listed is not in it: drawing is uniform over the rows, in whose
        order `enumerate` and `at` go. As two rows seldom differ in one decision only, variation goes by the nearest
        rows: `mutate` draws uniformly among them (`only` admits rows that differ nowhere else; `near` changes
        nothing), `neighbours` are all of them, and `cross` gives a row nearest to the crossed decisions. The nearest
        are the rows of the fewest changed decisions, and those of one more, and so on, until there are ln(rows), or as
        many as the architecture has single changes in the whole space.

        Args:
            space: The space of which they are.
            architectures: Each once; or a `(rows, decisions)` array of integers, see `indices`.

        Returns:
            A new space over the same block, without the conditions of `space`, which all rows meet.

        Raises:
            InvalidInputError: there are none, or one is repeated.
            InvalidArchitectureError: one is not of the space; the message says which.

        Example:
            >>> import nasturtium as nas
            >>> whole = nas.Space(nas.Conv(nas.int_range(1, 100), kernel=nas.one_of(3, 5, 7)))
            >>> table = nas.Space.from_table(whole, [whole.at(i) for i in (0, 4, 44)])
            >>> table.size, whole.at(4) in table, whole.at(5) in table
            (3, True, False)
        """
        import numpy as np  # noqa: PLC0415  (only tables need it)

        from nasturtium.space.listed import listed  # noqa: PLC0415

        if hasattr(architectures, "shape"):
            matrix = np.asarray(architectures)
        else:
            rows = [space._indices(a) for a in architectures]
            matrix = np.array(rows, dtype=np.int64).reshape(len(rows), len(space.decisions))
        found = listed(space._plan, matrix)
        if space._listed is not None or space.conditions:
            for number, indices in enumerate(matrix.tolist()):
                if not space._conditions.holds(indices):
                    raise InvalidArchitectureError(f"Row {number} of the table, {indices}, is not in {space!r}.")
        return cls._over(space, found)

    @classmethod
    def _over(cls, space: Space, conditions: Conditions) -> Space:
        """A space over another's block, under other conditions."""
        new = object.__new__(cls)
        new.block, new.quoted_size, new._plan = space.block, None, space._plan
        new._conditions = conditions
        return new

    @property
    def _listed(self) -> Listed | None:
        return self._conditions.table

    @property
    def is_table(self) -> bool:
        """Whether its architectures are listed; see `from_table`."""
        return self._listed is not None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, in definition order."""
        return tuple(self._plan.decisions)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of `where`, in order."""
        return self._conditions.conditions

    # Size and enumeration

    @cached_property
    def size(self) -> int:
        """Exact number of architectures: what `enumerate` yields.

        Raises:
            SizeUnknownError: conditions make an exact count infeasible; `estimate_size` gives an interval.
        """
        return self._conditions.size()

    def estimate_size(self, rng: Random, samples: int = 1000, *, confidence: float = 0.95) -> Interval:
        """Estimate the size by the share of architectures that meet the conditions.

        Args:
            rng: Generator.
            samples: Architectures drawn uniformly from the space without conditions.
            confidence: Of the two-sided interval, in (0, 1).

        Returns:
            The interval (Wilson's, for the share that meets the conditions); of width 0 where the size is known.
        """
        try:
            return Interval(low=self.size, high=self.size, estimate=self.size, confidence=confidence, samples=0)
        except SizeUnknownError:
            return self._conditions.estimate(rng, samples, confidence)

    def enumerate(self) -> Iterator[Architecture]:
        """All architectures, each once, in definition order (the first decision varies slowest)."""
        for indices in self._conditions.enumerate():
            yield self._make(indices)

    def at(self, index: int) -> Architecture:
        """The architecture that `enumerate` yields at `index`, without enumerating those before.

        Raises:
            InvalidInputError: the index is outside [0, size).
            SizeUnknownError: the space has conditions, and without them too many architectures to enumerate.
        """
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < self.size:
            raise InvalidInputError(f"`index` must be an integer in [0, {self.size}), got {index!r}.")
        if not self.conditions and self._listed is None:
            return self._make(unrank(self._plan.structure, self._plan.counter, index))
        return self._make(self._conditions.at(index))

    # Drawing and varying

    def sample(self, rng: Random, sampler: Sampler = "uniform") -> Architecture:
        """Draw an architecture.

        Args:
            rng: Generator.
            sampler: "uniform" over architectures (by counting), or "hierarchical": from the root down, each active
                decision uniform.

        Raises:
            InfeasibleError: none met the conditions in a bounded number of tries.
        """
        if sampler == "uniform":
            return self._make(self._conditions.uniform(rng))
        if sampler == "hierarchical":
            return self._make(self._conditions.hierarchical(rng))
        raise UnknownNameError("sampler", str(sampler), ("uniform", "hierarchical"))

    def mutate(self, architecture: Architecture, rng: Random, *, only: Only = None, near: bool = False) -> Architecture:
        """Change exactly one active decision.

        The decision is uniform among the active ones that have another value; the value is uniform among its others.
        Values that the change deactivates are dropped; those that it activates are drawn, each active decision
        uniform.

        Args:
            architecture: Of this space.
            rng: Generator.
            only: Which decisions may change: a pattern of names ("*.kernel", "layers.2.*"), a choice, a predicate on
                `Decision`, or several of these.
            near: Move to a nearest value only (a depth by one, one element of a subset).

        Raises:
            InvalidArchitectureError: the architecture is not of this space.
            InfeasibleError: no single change stays in the space.
        """
        indices = self._indices(architecture)
        if self._listed is not None:
            return self._make(self._listed.mutate(indices, rng, only))
        return self._make(mutate(self._conditions, indices, rng, only=only, near=near))

    def cross(
        self,
        a: Architecture,
        b: Architecture,
        rng: Random,
        how: Literal["uniform", "one_point", "stage"] = "uniform",
    ) -> Architecture:
        """Cross two architectures; the child is in the space.

        Args:
            a: A parent.
            b: A parent.
            rng: Generator.
            how: "uniform" takes each decision from either parent with equal chance; "one_point" takes those before a
                random one from `a` and the others from `b`; "stage" takes each outermost part of the network whole.

        Returns:
            A child whose every decision is that of a parent in which it is active. Where conditions refuse 100
            children in a row, it is `a`.
        """
        parents = self._indices(a), self._indices(b)
        if self._listed is not None:
            return self._make(self._listed.cross(*parents, rng, how))
        return self._make(cross(self._conditions, *parents, rng, how))

    def neighbours(
        self, architecture: Architecture, *, only: Only = None, near: bool = False, completions: str = "first"
    ) -> list[Architecture]:
        """All architectures that differ in one decision, without duplicates, in definition order.

        Of a decision with more than 10,000 values (a `subset` of many, a long `walk`) only the nearest ones count.

        Args:
            architecture: Of this space.
            only: Which decisions may change; see `mutate`.
            near: Nearest values only.
            completions: How newly activated decisions are completed: "first" takes the first value of each (one
                neighbour for each change); "all" gives every combination.
        """
        indices = self._indices(architecture)
        if self._listed is not None:
            return [self._make(found) for found in self._listed.neighbours(indices, only)]
        found = neighbours(self._conditions, indices, only=only, near=near, completions=completions)
        return [self._make(indices) for indices in found]

    def distance(self, a: Architecture, b: Architecture) -> int:
        """Number of decisions that are active in both and differ; 0 only for equal architectures."""
        pairs = zip(self._indices(a), self._indices(b), strict=True)
        return sum(x != y for x, y in pairs if x >= 0 and y >= 0)

    # Encoding

    @cached_property
    def width(self) -> int:
        """Length of an encoding."""
        return sum(d.choice.width for d in self._plan.decisions)

    @cached_property
    def encoding(self) -> tuple[tuple[str, int, int], ...]:
        """Where each decision stands in an encoding: (name, start, stop)."""
        places, start = [], 0
        for decision in self._plan.decisions:
            places.append((decision.name, start, start + decision.choice.width))
            start += decision.choice.width
        return tuple(places)

    def encode(self, architecture: Architecture) -> list[float]:
        """One-hot encoding: `width` numbers, 0 or 1; all 0 for inactive decisions (a subset: one 1 for each chosen)."""
        vector: list[float] = []
        for decision, index in zip(self._plan.decisions, self._indices(architecture), strict=True):
            vector += [0.0] * decision.choice.width if index < 0 else decision.choice.encode(index)
        return vector

    def decode(self, vector: Iterable[float]) -> Architecture:
        """The architecture of an encoding; of soft scores, the one of the highest at each active decision.

        Raises:
            InvalidArchitectureError: the length is wrong, an active decision has no score, or the result breaks a
                condition.
        """
        numbers = [float(x) for x in vector]
        if len(numbers) != self.width:
            raise InvalidArchitectureError(f"An encoding of this space has {self.width} numbers, got {len(numbers)}.")
        places = self.encoding

        def draw(position: int, _count: int) -> int:
            name, start, stop = places[position]
            scores = numbers[start:stop]
            if not any(scores):
                raise InvalidArchitectureError(f"The encoding has no value for {name!r}, which is active.")
            return self._plan.decisions[position].choice.decode(scores)

        indices = self._plan.settle([-1] * len(places), draw)
        self._conditions.check(indices)
        return self._make(indices)

    # Architectures by their decisions

    def architecture(self, decisions: Mapping[str | Choice, object], *, indices: bool = False) -> Architecture:
        """The architecture with given decisions.

        Args:
            decisions: Values (or indices, see below) of exactly the active decisions, by name or by choice. For an
                option that holds blocks, its label or the option itself.
            indices: Whether the values given are indices of options.

        Raises:
            InvalidArchitectureError: a value is not among the options, or an active decision is missing, or an
                inactive one is given.
            UnknownNameError: there is no such decision.
        """
        wanted = [-1] * len(self._plan.decisions)
        for name, value in decisions.items():
            decision = self.decision(name)
            wanted[decision.position] = _index(decision, value, indices)

        settled = self._plan.settle(wanted, self._missing)
        for position, index in enumerate(wanted):
            if index >= 0 and settled[position] < 0:
                name = self._plan.decisions[position].name
                raise InvalidArchitectureError(f"A value was given for {name!r}, which the other values deactivate.")
        self._conditions.check(settled)
        return self._make(settled)

    def indices(self, architecture: Architecture) -> tuple[int, ...]:
        """Index of each decision of an architecture, in the order of `decisions`; -1 where it is inactive.

        Raises:
            InvalidArchitectureError: the architecture is not of this space.
        """
        return self._indices(architecture)

    def of_indices(self, indices: Sequence[int]) -> Architecture:
        """Inverse of `indices`.

        Raises:
            InvalidArchitectureError: an index is out of range, an active decision has none, an inactive one has one,
                or a condition does not hold.
        """
        wanted = tuple(int(i) for i in indices)
        self._plan.check(wanted)
        self._conditions.check(wanted)
        return self._make(wanted)

    def settle(self, decisions: Mapping[str, int]) -> Architecture | None:
        """The architecture with given indices, where those of inactive decisions are dropped.

        Args:
            decisions: Indices by name, of all decisions that become active, and of any others.

        Returns:
            The architecture; None where a condition refuses it.

        Raises:
            UnknownNameError: there is no such decision.
            InvalidArchitectureError: an active decision has no index.
        """
        indices = self._settled(decisions)
        return self._make(indices) if self._conditions.holds(indices) else None

    def nearest(self, decisions: Mapping[str, int]) -> Architecture | None:
        """As `settle`; but where the space is a table, the row nearest to the given indices (the first of several).

        For strategies that compose an architecture decision by decision: in a table that is a sample of a large space,
        hardly any composition is a row.

        Args:
            decisions: As for `settle`.

        Returns:
            The architecture; None where a condition refuses it, and the space is no table.
        """
        if self._listed is None:
            return self.settle(decisions)
        return self._make(self._listed.closest(self._settled(decisions)))

    def _settled(self, decisions: Mapping[str, int]) -> Indices:
        wanted = [-1] * len(self._plan.decisions)
        for name, index in decisions.items():
            wanted[self.decision(name).position] = index
        return self._plan.settle(wanted, self._missing)

    def decision(self, name: str | Choice) -> Decision:
        """A decision by its name or its choice.

        Raises:
            UnknownNameError: there is none of that name.
            InvalidInputError: the choice does not stand in this space.
        """
        return self._conditions.decision(name)

    def active(self, architecture: Architecture) -> tuple[Decision, ...]:
        """The decisions that are active, in the order in which they are met."""
        return tuple([self._plan.decisions[p] for p in self._plan.order(self._indices(architecture))])

    def activation(self, name: str | Choice) -> tuple[Activation, ...]:
        """When a decision is active: the nearest decisions that control it, with the values that activate it.

        Args:
            name: A decision by its name or its choice.

        Returns:
            Nothing where it is always active; of several ways any suffices. A controlling decision may be conditional
            itself.

        Raises:
            UnknownNameError, InvalidInputError: the decision is not in the space.

        Example:
            >>> import nasturtium as nas
            >>> space = nas.Space(nas.repeat(nas.Conv(8, kernel=nas.one_of(3, 5)), times=nas.one_of(1, 2)))
            >>> [str(way) for way in space.activation("blocks.1.kernel")]
            ['blocks.length = 2']
        """
        return self._activations[self.decision(name).position]

    @cached_property
    def _activations(self) -> tuple[tuple[Activation, ...], ...]:
        return activations(self._plan.structure)

    def contains(self, architecture: object) -> bool:
        """Whether an architecture is one of this space's: its decisions, its closed block and the conditions."""
        if not isinstance(architecture, Architecture):
            return False
        try:
            indices = self._indices(architecture)
        except InvalidInputError:
            return False
        same = architecture._plan is self._plan or architecture.block == self._plan.closer.close(indices)
        return same and self._conditions.holds(indices)

    def __contains__(self, architecture: object) -> bool:
        return self.contains(architecture)

    def adopt(self, architecture: Architecture) -> Architecture:
        """The same architecture as one of this space, for one that was read from JSON.

        Raises:
            InvalidArchitectureError: it is not of this space.
        """
        if not self.contains(architecture):
            raise InvalidArchitectureError(f"{architecture!r} is not an architecture of this space.")
        return architecture if architecture._plan is self._plan else self._make(self._indices(architecture))

    # Conditions

    def where(self, predicate: Callable[..., bool], reads: Iterable[str | Choice] | None = None) -> Space:
        """The part of the space in which a condition holds.

        Args:
            predicate: Called with the values of `reads` in order (None for an inactive decision); without `reads`,
                with the `Architecture`. It must be pure.
            reads: Decisions by name or choice. Needed for an exact size of large spaces.

        Returns:
            A new space over the same block.

        Raises:
            UnknownNameError, InvalidInputError: a read decision is not in the space.
        """
        return self._over(self, self._conditions.adding(self._conditions.condition(predicate, reads)))

    # Identity

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the open block, the conditions and a table's rows; equal in every process."""
        rows = None if self._listed is None else self._listed.digest
        return space_fingerprint(self.block, self.conditions, rows)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON. Conditions are stored by the import path of their predicates."""
        stored = space_to_dict(self.block, self.conditions, self.quoted_size)
        return stored if self._listed is None else stored | {"rows": self._listed.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, trust: bool = False) -> Space:
        """The space of a dictionary made by `to_dict`.

        Args:
            data: The dictionary.
            trust: Whether to import block classes and predicates from other modules than Nasturtium's.
        """
        block, conditions, quoted_size = space_from_dict(data, trust=trust)
        space = cls(block, quoted_size=quoted_size)
        if "rows" in data:
            from nasturtium.space.listed import read_listed  # noqa: PLC0415

            space = cls._over(space, read_listed(space._plan, data["rows"]))  # type: ignore[arg-type]
        for predicate, reads in conditions:
            space = space.where(predicate, reads)
            space.quoted_size = quoted_size
        return space

    def __repr__(self) -> str:
        try:
            size = f"{self.size:,} architectures"
        except SizeUnknownError:
            size = "size unknown"
        return f"<Space of {type(self.block).__name__}: {len(self.decisions)} decisions, {size}>"

    def _missing(self, position: int, count: int) -> int:
        name = self._plan.decisions[position].name
        raise InvalidArchitectureError(f"The decision {name!r} is active, but no value was given for it.")

    def _make(self, indices: Indices) -> Architecture:
        return Architecture(plan=self._plan, indices=indices)

    def _indices(self, architecture: Architecture) -> Indices:
        """Indices of an architecture, converted by name where it comes from elsewhere."""
        if isinstance(architecture, Architecture) and architecture._plan is self._plan:
            return architecture._indices
        return self._convert(architecture)

    def _convert(self, architecture: Architecture) -> Indices:
        if not isinstance(architecture, Architecture):
            raise InvalidArchitectureError(f"Expected an `Architecture` of this space, got {architecture!r}.")
        wanted = [-1] * len(self._plan.decisions)
        for name, index in architecture.decisions.items():
            decision = self._plan.structure.by_name.get(name)
            if decision is None or not 0 <= index < decision.count:
                raise InvalidArchitectureError(
                    f"{architecture!r} is of another space: this one has no decision {name!r} with a value {index}."
                )
            wanted[decision.position] = index
        try:
            settled = self._plan.settle(wanted, _refuse)
        except InfeasibleError:
            settled = ()
        if settled != tuple(wanted):
            raise InvalidArchitectureError(
                f"{architecture!r} is of another space: it decides other things than are active here."
            )
        return settled


def _refuse(_position: int, _count: int) -> int:
    raise InfeasibleError("undecided")


def _index(decision: Decision, value: object, indices: bool) -> int:
    if indices:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < decision.count:
            return value
        raise InvalidArchitectureError(f"Index of {decision.name!r} must be in [0, {decision.count}), got {value!r}.")
    try:
        return decision.choice.index_of(value)
    except InvalidInputError as error:
        if isinstance(value, str) and decision.labels.count(value) == 1:
            return decision.labels.index(value)
        raise InvalidArchitectureError(f"{decision.name!r}: {error}") from None
