"""Conditions on a space: which architectures remain, how many, and how to draw from them uniformly.

Conditions are grouped by the decisions that they read. A group that reads only decisions which are always active and
steer nothing is *free*: its satisfying combinations are a table, and multiply. Another group is *bound*: it is
eliminated at the lowest certain part of the structure that holds its decisions, by enumerating these and those that
control whether they are active, each combination with its exact count. What is too large for a table is met by
rejection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from math import prod, sqrt
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING

from nasturtium.errors import (
    InfeasibleError,
    InvalidArchitectureError,
    InvalidInputError,
    SizeUnknownError,
    UnknownNameError,
)
from nasturtium.space.architecture import Architecture
from nasturtium.space.choice import Choice
from nasturtium.space.counting import Environment, decision_id
from nasturtium.space.plan import Plan
from nasturtium.space.structure import Decision, Indices, Node

if TYPE_CHECKING:
    from nasturtium.space.listed import Listed

LIMIT = 200_000
"""Largest number of joint values, or architectures, that is enumerated for an exact answer."""

TRIES = 20_000
"""Draws before rejection gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimated number of architectures.

    Attributes:
        low: Lower end.
        high: Upper end.
        estimate: Most likely value.
        confidence: Chance that the interval holds the true value.
        samples: Architectures drawn; 0 where the number is exact.
    """

    low: int
    high: int
    estimate: int
    confidence: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A predicate and the decisions that it reads (None: the whole architecture)."""

    predicate: Callable[..., bool]
    reads: tuple[Decision, ...] | None

    def holds(self, plan: Plan, indices: Indices | list[int]) -> bool:
        """Whether it holds for indices (-1: inactive)."""
        if self.reads is None:
            return bool(self.predicate(Architecture(plan=plan, indices=tuple(indices))))
        found = [(d, indices[d.position]) for d in self.reads]
        return bool(self.predicate(*[d.choice.value_at(i) if i >= 0 else None for d, i in found]))

    def __str__(self) -> str:
        name = getattr(self.predicate, "__name__", repr(self.predicate))
        return f"{name}({', '.join(d.name for d in self.reads) if self.reads is not None else 'architecture'})"


@dataclass(slots=True)
class _Table:
    """Joint values of some decisions that meet a group's conditions, with the ways to decide the rest."""

    node: Node
    positions: tuple[int, ...]
    rows: list[tuple[int, ...]]
    cumulative: list[int] | None
    total: int
    conditions: tuple[Condition, ...]

    def draw(self, rng: Random) -> tuple[int, ...]:
        """A row, with chance proportional to its ways."""
        if self.cumulative is None:
            return self.rows[int(rng.random() * len(self.rows))]
        return self.rows[bisect_right(self.cumulative, rng.randrange(self.total))]


class Conditions:
    """The conditions of one space over a plan."""

    def __init__(self, plan: Plan, conditions: tuple[Condition, ...]) -> None:
        self.plan = plan
        self.conditions = conditions

    # Making and checking

    def decision(self, name: str | Choice) -> Decision:
        """A decision by name or choice; see `Space.decision`."""
        structure = self.plan.structure
        if isinstance(name, Choice):
            found = structure.by_choice.get(name)
            if found is not None:
                return found
            copies = [d.name for d in structure.decisions if d.choice.origin is name]
            hint = f" Its copies are {', '.join(map(repr, copies))}: name one of them." if copies else ""
            raise InvalidInputError(f"{name!r} does not stand in this space.{hint}")
        if name not in structure.by_name:
            raise UnknownNameError("decision", str(name), structure.by_name)
        return structure.by_name[name]

    def condition(self, predicate: Callable[..., bool], reads: Iterable[str | Choice] | None) -> Condition:
        """A condition on this plan's decisions."""
        if not callable(predicate):
            raise InvalidInputError(f"A condition needs a function that answers yes or no, got {predicate!r}.")
        if isinstance(reads, (str, Choice)):
            raise InvalidInputError(f"`reads` must be a list of decisions, got {reads!r}: write `reads=[...]`.")
        decisions = None if reads is None else tuple([self.decision(r) for r in reads])
        if decisions == ():
            raise InvalidInputError("`reads` must name at least one decision, or be left out to read the architecture.")
        return Condition(predicate=predicate, reads=decisions)

    @property
    def table(self) -> Listed | None:
        """Itself, where the architectures are listed."""
        return None

    def adding(self, condition: Condition) -> Conditions:
        """These and one more."""
        return Conditions(self.plan, (*self.conditions, condition))

    def holds(self, indices: Indices | list[int]) -> bool:
        """Whether all conditions hold."""
        return all(c.holds(self.plan, indices) for c in self.conditions)

    def check(self, indices: Indices) -> None:
        """Raise InvalidArchitectureError where a condition does not hold."""
        for condition in self.conditions:
            if not condition.holds(self.plan, indices):
                raise InvalidArchitectureError(f"The decisions break the condition {condition}.")

    # Tables

    @cached_property
    def _tables(self) -> tuple[list[_Table], list[_Table], list[Condition]]:
        """Free tables, bound tables (at disjoint nodes), and the conditions that are left to rejection."""
        free: list[_Table] = []
        bound: list[_Table] = []
        rest = [c for c in self.conditions if c.reads is None]
        groups = [_Group(c) for c in self.conditions if c.reads is not None]
        merged = _merge(groups, lambda a, b: bool(a.positions & b.positions))
        for group in [g for g in merged if self._is_free(g)]:
            table = self._free_table(group)
            rest += group.conditions if table is None else ()
            free += [table] if table else []
        located = [(g, self._attach(g.positions)) for g in merged if not self._is_free(g)]
        for group in _merge([g for g, _ in located], self._interact):
            table = self._bound_table(group)
            rest += group.conditions if table is None else ()
            bound += [table] if table else []
        return free, bound, rest

    def _interact(self, a: _Group, b: _Group) -> bool:
        counter = self.plan.counter
        return bool(counter.reach(self._attach(a.positions).id) & counter.reach(self._attach(b.positions).id))

    def _is_free(self, group: _Group) -> bool:
        certain = self.plan.counter.certain(self.plan.structure.root.id)
        return all(self.plan.leaf[p] and decision_id(p) in certain for p in group.positions)

    def _attach(self, positions: frozenset[int]) -> Node:
        """The lowest certain node that holds decisions and shares nothing with what is outside."""
        reach = self.plan.counter.reach
        wanted = frozenset(map(decision_id, positions))
        node = self.plan.structure.root
        while node.decision < 0:
            inside = [c for c in node.children if wanted <= reach(c.id)]
            if len(inside) != 1:
                break
            others = frozenset[int]().union(*[reach(c.id) for c in node.children if c is not inside[0]])
            if others & reach(inside[0].id) or node.children.count(inside[0]) > 1:
                break
            node = inside[0]
        return node

    def _free_table(self, group: _Group) -> _Table | None:
        """Satisfying combinations of decisions that are independent of all else; None where there are too many."""
        plan, positions = self.plan, tuple(sorted(group.positions))
        if prod(plan.counts[p] for p in positions) > LIMIT:
            return None
        rows = []
        indices = [-1] * len(plan.decisions)
        for row in product(*[range(plan.counts[p]) for p in positions]):
            for position, index in zip(positions, row, strict=True):
                indices[position] = index
            if all(c.holds(plan, indices) for c in group.conditions):
                rows.append(row)
        return _Table(plan.structure.root, positions, rows, None, len(rows), tuple(group.conditions))

    def _bound_table(self, group: _Group) -> _Table | None:
        """Satisfying combinations, each with the ways to decide the rest; None where there are too many."""
        plan, counter, node = self.plan, self.plan.counter, self._attach(group.positions)
        wanted = frozenset(map(decision_id, group.positions))
        relevant = {n.id for n in plan.structure.nodes if counter.reach(n.id) & wanted}
        positions = tuple(sorted({n.decision for n in plan.structure.nodes if n.id in relevant and n.decision >= 0}))
        rows: list[tuple[int, ...]] = []
        cumulative: list[int] = []
        total = 0
        search = plan.enumerate((), node, relevant)
        indices, trail = next(search)
        for _ in range(LIMIT):
            skip = _broken(group.conditions, plan, indices, trail)
            if skip is None:
                rows.append(tuple([indices[p] for p in positions]))
                total += counter.node(node, self._environment(positions, rows[-1], leaves=False))
                cumulative.append(total)
            try:
                indices, trail = search.send(skip)
            except StopIteration:
                return _Table(node, positions, rows, cumulative, total, tuple(group.conditions))
        return None

    def _environment(self, positions: Iterable[int], row: Iterable[int], *, leaves: bool = True) -> dict[int, int]:
        """The environment that fixes decisions; with `leaves=False` a leaf's value, which does not count, is 0."""
        leaf = self.plan.leaf
        pairs = zip(positions, row, strict=True)
        return {decision_id(p): i if leaves or not leaf[p] else 0 for p, i in pairs if i >= 0}

    # Size

    def size(self) -> int:
        """Exact number of architectures; see `Space.size`."""
        plan = self.plan
        total = plan.counter.count()
        if not self.conditions:
            return total
        if self._tables[2]:
            if total > LIMIT:
                listed = ", ".join(map(str, self._tables[2]))
                raise SizeUnknownError(
                    f"Counting exactly is not feasible under {listed}: it reads more than {LIMIT:,} combinations. "
                    "Give `where` the few decisions that it `reads`, or use `estimate_size`."
                )
            return sum(1 for _ in self.enumerate())
        return self._known()

    def _known(self) -> int:
        """Number of architectures that meet the conditions which have tables."""
        free, bound, _ = self._tables
        total = self.plan.counter.count()
        for table in bound:
            total = total // self.plan.counter.node(table.node, {}) * table.total
        for table in free:
            total = total // prod(self.plan.counts[p] for p in table.positions) * len(table.rows)
        return total

    def estimate(self, rng: Random, samples: int, confidence: float) -> Interval:
        """Interval of the size by sampling; see `Space.estimate_size`."""
        if samples < 1 or not 0 < confidence < 1:
            raise InvalidInputError(
                f"`samples` must be at least 1 and `confidence` in (0, 1), got {samples!r} and {confidence!r}."
            )
        known, rest = self._known(), self._tables[2]
        hits = 0
        for _ in range(samples):
            drawn = self._draw(rng)
            hits += all(c.holds(self.plan, drawn) for c in rest)
        low, high = wilson(hits, samples, confidence)
        return Interval(
            low=int(known * low),
            high=min(known, int(known * high) + 1),
            estimate=known * hits // samples,
            confidence=confidence,
            samples=samples,
        )

    # Enumeration

    def enumerate(self) -> Iterator[Indices]:
        """All indices that meet the conditions, in definition order."""
        search = self.plan.enumerate()
        indices, trail = next(search)
        while True:
            skip = _broken(self.conditions, self.plan, indices, trail)
            if skip is None:
                yield tuple(indices)
            try:
                indices, trail = search.send(skip)
            except StopIteration:
                return

    def at(self, index: int) -> Indices:
        """The one at a place of the enumeration."""
        if self.plan.counter.count() > LIMIT:
            raise SizeUnknownError(
                f"Under conditions, `at` enumerates: it takes at most {LIMIT:,} architectures without the conditions."
            )
        return next(islice(self.enumerate(), index, None))

    # Drawing

    def uniform(self, rng: Random) -> Indices:
        """Indices drawn uniformly from those that meet the conditions."""
        if not self.conditions:
            return tuple(self._propose(rng, {}))
        rest = self._tables[2]
        for _ in range(TRIES):
            indices = self._draw(rng)
            if all(c.holds(self.plan, indices) for c in rest):
                return tuple(indices)
        raise self._infeasible()

    def hierarchical(self, rng: Random) -> Indices:
        """Indices with each active decision uniform, given the conditions."""
        if not self.conditions:
            return tuple(self.plan.hierarchical(rng))
        free, bound, rest = self._tables
        self._refuse_empty()
        checked = [*rest, *(c for table in bound for c in table.conditions)]
        for _ in range(TRIES):
            indices = self.plan.hierarchical(rng)
            for table in free:
                for position, index in zip(table.positions, table.draw(rng), strict=True):
                    indices[position] = index
            if all(c.holds(self.plan, indices) for c in checked):
                return tuple(indices)
        raise self._infeasible()

    def _draw(self, rng: Random) -> list[int]:
        """Uniform among those that meet the conditions which have tables."""
        free, bound, _ = self._tables
        self._refuse_empty()
        env: dict[int, int] = {}
        for table in bound:
            env.update(self._environment(table.positions, table.draw(rng)))
        indices = self._propose(rng, env)
        for table in free:
            for position, index in zip(table.positions, table.draw(rng), strict=True):
                indices[position] = index
        return indices

    def _propose(self, rng: Random, env: Environment) -> list[int]:
        for _ in range(TRIES):
            indices = self.plan.proposer.propose(rng, env)
            if indices is not None:
                return indices
        raise InfeasibleError(
            f"{TRIES:,} draws were rejected, because shared choices are almost always inactive; "
            'use `sampler="hierarchical"`.'
        )

    def _refuse_empty(self) -> None:
        free, bound, _ = self._tables
        for table in (*free, *bound):
            if not table.total:
                listed = ", ".join(map(str, table.conditions))
                raise InfeasibleError(f"The space is empty: no architecture meets {listed}.")

    def _infeasible(self) -> InfeasibleError:
        listed = ", ".join(map(str, self.conditions))
        return InfeasibleError(
            f"None of {TRIES:,} architectures drawn met {listed}; the space is empty or nearly so: loosen a condition."
        )


class _Group:
    """Conditions that are treated together."""

    def __init__(self, *conditions: Condition) -> None:
        self.conditions: list[Condition] = list(conditions)
        self.positions = frozenset(d.position for c in conditions for d in c.reads or ())


def _merge(groups: list[_Group], related: Callable[[_Group, _Group], bool]) -> list[_Group]:
    """Merge related groups until none are."""
    done: list[_Group] = []
    for group in groups:
        again = group
        while touching := [g for g in done if related(g, again)]:
            done = [g for g in done if g not in touching]
            again = _Group(*[c for g in (*touching, again) for c in g.conditions])
        done.append(again)
    return done


def _broken(conditions: Iterable[Condition], plan: Plan, indices: list[int], trail: list[int]) -> int | None:
    """None where all conditions hold; else how much of the trail need not be tried again."""
    for condition in conditions:
        if not condition.holds(plan, indices):
            reads = condition.reads
            if reads is None or any(indices[d.position] < 0 for d in reads):
                return len(trail)
            return 1 + max(trail.index(d.position) for d in reads)
    return None


def wilson(hits: int, samples: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval for a share.

    Reference:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22(158).
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / samples
    middle = share + z * z / (2 * samples)
    margin = z * sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    low = 0.0 if hits == 0 else max(0.0, (middle - margin) / scale)
    return low, 1.0 if hits == samples else min(1.0, (middle + margin) / scale)
