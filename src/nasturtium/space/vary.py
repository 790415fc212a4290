"""Mutation, crossover and neighbourhood, on indices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from random import Random

from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.space.choice import Choice
from nasturtium.space.conditions import Conditions
from nasturtium.space.plan import Plan, first_value
from nasturtium.space.structure import Decision, Indices, Node

Only = str | Choice | Callable[[Decision], bool] | Iterable[str | Choice] | None
"""Which decisions may change: a pattern of names, a choice, a predicate, or several patterns and choices."""

MANY = 10_000
"""Of a decision with more values than this, only the nearest are neighbours."""

TRIES = 64
"""Blind tries to meet the conditions before all changes are listed."""


def allowed(conditions: Conditions, only: Only) -> list[bool]:
    """For each decision whether `only` admits it.

    Raises:
        InvalidInputError: it admits none.
    """
    decisions = conditions.plan.decisions
    if only is None:
        return [True] * len(decisions)
    if callable(only):
        found = [bool(only(d)) for d in decisions]
    else:
        parts = [only] if isinstance(only, (str, Choice)) else list(only)
        names = [p for p in parts if isinstance(p, str)]
        chosen = {conditions.decision(p).position for p in parts if isinstance(p, Choice)}
        found = [d.position in chosen or any(fnmatchcase(d.name, n) for n in names) for d in decisions]
    if not any(found):
        known = ", ".join(d.name for d in decisions[:8])
        raise InvalidInputError(f"`only`={only!r} admits no decision of the space; there are {known or 'none'} ….")
    return found


def _values(plan: Plan, position: int, index: int, *, near: bool) -> list[int]:
    if near or plan.counts[position] > MANY:
        return plan.decisions[position].choice.neighbours(index)
    return [i for i in range(plan.counts[position]) if i != index]


def _change(plan: Plan, indices: Indices, position: int, value: int, rng: Random) -> Indices:
    """One decision changed; what that activates is drawn."""
    if plan.leaf[position]:
        return (*indices[:position], value, *indices[position + 1 :])
    wanted = list(indices)
    wanted[position] = value
    random = rng.random
    return plan.settle(wanted, lambda _, count: int(random() * count))


def mutate(conditions: Conditions, indices: Indices, rng: Random, *, only: Only, near: bool) -> Indices:
    """One active decision changed; see `Space.mutate`."""
    plan = conditions.plan
    counts = plan.counts
    candidates = [p for p, index in enumerate(indices) if index >= 0 and counts[p] > 1]
    if only is not None:
        admitted = allowed(conditions, only)
        candidates = [p for p in candidates if admitted[p]]
    if not candidates:
        raise InfeasibleError("No active decision" + (f" that {only!r} admits" if only else "") + " has another value.")
    random = rng.random
    for _ in range(TRIES if conditions.conditions else 1):
        position = candidates[int(random() * len(candidates))]
        if near:
            values = _values(plan, position, indices[position], near=True)
            value = values[int(random() * len(values))]
        else:
            value = int(random() * (counts[position] - 1))
            value += value >= indices[position]
        child = _change(plan, indices, position, value, rng)
        if not conditions.conditions or conditions.holds(child):
            return child
    changes = [(p, v) for p in candidates for v in _values(plan, p, indices[p], near=near)]
    rng.shuffle(changes)
    for position, value in changes:
        for _ in range(1 if plan.leaf[position] else TRIES):
            child = _change(plan, indices, position, value, rng)
            if conditions.holds(child):
                return child
    raise InfeasibleError(f"No change of a single decision meets {', '.join(map(str, conditions.conditions))}.")


def cross(conditions: Conditions, a: Indices, b: Indices, rng: Random, how: str) -> Indices:
    """A child of two architectures; see `Space.cross`."""
    for _ in range(100):
        child = crossed(conditions.plan, a, b, rng, how)
        if not conditions.conditions or conditions.holds(child):
            return child
    return a


def crossed(plan: Plan, a: Indices, b: Indices, rng: Random, how: str) -> Indices:
    """A child of two architectures, whatever the conditions say."""
    if how not in ("uniform", "one_point", "stage"):
        raise UnknownNameError("crossover", how, ("uniform", "one_point", "stage"))
    return _merge(plan, a, b, _takes_b(plan, how, rng), rng)


def _takes_b(plan: Plan, how: str, rng: Random) -> list[bool]:
    """For each decision whether the child prefers the second parent's value."""
    n = len(plan.decisions)
    if how == "uniform":
        bits = rng.getrandbits(n) if n else 0
        return [bool(bits >> i & 1) for i in range(n)]
    if how == "one_point":
        cut = rng.randrange(n + 1)
        return [i >= cut for i in range(n)]
    stages = stage_of(plan)
    sides = [rng.random() < 0.5 for _ in range(max(stages, default=0) + 1)]
    return [sides[s] for s in stages]


def stage_of(plan: Plan) -> list[int]:
    """For each decision the number of the outermost part of the network that holds it first."""
    node: Node = plan.structure.root
    while len(node.children) == 1 and node.decision < 0:
        node = node.children[0]
    parts = node.children or (node,)
    found = [0] * len(plan.decisions)
    for number in range(len(parts) - 1, -1, -1):
        for key in plan.counter.reach(parts[number].id):
            if key < 0:
                found[-key - 1] = number
    return found


def _merge(plan: Plan, a: Indices, b: Indices, takes_b: list[bool], rng: Random) -> Indices:
    pairs = zip(a, b, takes_b, strict=True)
    wanted = [(y if second and y >= 0 else x) if x >= 0 else y for x, y, second in pairs]
    return plan.settle(wanted, lambda _, count: int(rng.random() * count))


def neighbours(
    conditions: Conditions, indices: Indices, *, only: Only, near: bool, completions: str
) -> Iterator[Indices]:
    """All that differ in one decision; see `Space.neighbours`."""
    if completions not in ("first", "all"):
        raise UnknownNameError("completions", completions, ("first", "all"))
    plan = conditions.plan
    admitted = allowed(conditions, only) if plan.decisions else []
    for position, index in enumerate(indices):
        if index < 0 or not admitted[position]:
            continue
        for value in _values(plan, position, index, near=near):
            for child in _completed(plan, indices, position, value, completions):
                if conditions.holds(child):
                    yield child


def _completed(plan: Plan, indices: Indices, position: int, value: int, completions: str) -> Iterator[Indices]:
    wanted = list(indices)
    wanted[position] = value
    if completions == "first" or plan.leaf[position]:
        yield plan.settle(wanted, first_value)
        return
    for found, trail in plan.enumerate(wanted):
        active = set(trail)
        yield tuple([index if p in active else -1 for p, index in enumerate(found)])
