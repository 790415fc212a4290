"""Exact numbers of architectures, and proposals for drawing them uniformly.

A decision that occurs once multiplies. What occurs at several places (a node with several parents, or a choice that is
the length of several prefixes) is *met* at the lowest node below which all its occurrences lie, and eliminated there:
with T1 the count where it is taken as given and Z the count where it is forbidden, `(T1 - Z) * own + Z`.
A choice that steers several nodes is eliminated value by value in the same way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from random import Random

from nasturtium.space.structure import Indices, Node, Structure

FORBIDDEN = -1
"""In an environment: the decision must not be active."""

Environment = Mapping[int, int]
"""What is settled: node id -> 1 (given) or 0 (forbidden); `decision_id(position)` -> index or `FORBIDDEN`."""

_EMPTY: Environment = {}


def decision_id(position: int) -> int:
    """Key of a decision in an environment."""
    return -position - 1


class Counter:
    """Counts the architectures of a structure."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.tree = structure.tree
        self._memo: dict[object, int] = {}
        self._met: dict[tuple[int, int], tuple[int, ...]] = {}
        self._reach: dict[int, frozenset[int]] = {}
        self._certain: dict[int, frozenset[int]] = {}
        self._edges = {n.id: [c.id for c in n.children] for n in structure.nodes}
        for decision in structure.decisions:
            if len(decision.nodes) > 1:
                self._edges[decision_id(decision.position)] = []
                for node in decision.nodes:
                    self._edges[node.id].append(decision_id(decision.position))
        parents: dict[int, int] = {}
        for children in self._edges.values():
            for child in children:
                parents[child] = parents.get(child, 0) + 1
        self._several = {i for i, n in parents.items() if n > 1}

    def count(self, env: Environment = _EMPTY, *, proposals: bool = False) -> int:
        """Number of architectures under an environment.

        Args:
            env: Restrictions.
            proposals: Count what `Proposer` draws from instead: what is met is decided even where it is inactive.
        """
        return self.node(self.structure.root, env, proposals)

    def node(self, node: Node, env: Environment, proposals: bool = False) -> int:
        """Number of ways to decide all below a node."""
        if env:
            reach = self.reach(node.id)
            env = {k: v for k, v in env.items() if k in reach}
        key = (node.id, proposals, frozenset(env.items())) if env else (node.id, proposals)
        found = self._memo.get(key)
        if found is None:
            if self.steers_itself(node) and decision_id(node.decision) not in env:
                found = sum(self.by_value(node, env, proposals))
            else:
                found = 0
                for number in range(len(node.groups)):
                    members = self.members(node, number, env)
                    if members:
                        found += members * self.group(node, number, env, proposals)
            self._memo[key] = found
        return found

    def steers_itself(self, node: Node) -> bool:
        """Whether a node's own decision also occurs below it."""
        if self.tree or node.decision < 0:
            return False
        own = decision_id(node.decision)
        return own in self._several and any(own in self.reach(c.id) for c in node.children)

    def by_value(self, node: Node, env: Environment, proposals: bool) -> list[int]:
        """Number of ways to decide all below a node, for each value of its own decision."""
        own = decision_id(node.decision)
        return [self.node(node, {**env, own: value}, proposals) for value in range(node.count)]

    def members(self, node: Node, number: int, env: Environment) -> int:
        """How many of the group's indices the environment allows."""
        _, indices, size = node.groups[number]
        fixed = env.get(decision_id(node.decision)) if env and node.decision >= 0 else None
        if fixed is None:
            return size
        return int(fixed != FORBIDDEN and (indices is None or fixed in indices))

    def group(self, node: Node, number: int, env: Environment, proposals: bool) -> int:
        """Number of ways to decide all that one group of children activates."""
        return self._eliminate(node, number, self.met(node, number), env, proposals)

    def _eliminate(self, node: Node, number: int, met: tuple[int, ...], env: Environment, proposals: bool) -> int:
        while met and met[0] in env:
            met = met[1:]
        if not met:
            result = 1
            for child in node.groups[number][0]:
                result *= env[child.id] if child.id in env else self.node(child, env, proposals)
                if not result:
                    break
            return result
        first, rest = met[0], met[1:]
        certain = proposals or first in self.certain_in(node, number)
        if first >= 0:
            own = self.node(self.structure.nodes[first], env, proposals)
            given = self._eliminate(node, number, rest, {**env, first: 1}, proposals)
            if own == 1:
                return given
            without = 0 if certain else self._eliminate(node, number, rest, {**env, first: 0}, proposals)
            return (given - without) * own + without
        without = 0 if certain else self._eliminate(node, number, rest, {**env, first: FORBIDDEN}, proposals)
        values = range(self.structure.decisions[-first - 1].count)
        each = [self._eliminate(node, number, rest, {**env, first: v}, proposals) for v in values]
        return sum(each) - without * len(each) + without

    def met(self, node: Node, number: int) -> tuple[int, ...]:
        """What is met at a group of children, deepest first."""
        if self.tree:
            return ()
        key = (node.id, number)
        found = self._met.get(key)
        if found is None:
            found = self._met[key] = self._find_met(node, number)
        return found

    def _starts(self, node: Node, number: int) -> list[int]:
        starts = [c.id for c in node.groups[number][0]]
        own = decision_id(node.decision)
        return [*starts, own] if node.decision >= 0 and own in self._edges else starts

    def _find_met(self, node: Node, number: int) -> tuple[int, ...]:
        starts = self._starts(node, number)
        seen: dict[int, int] = {}
        for start in starts:
            for reached in self.reach(start):
                if reached in self._several:
                    seen[reached] = seen.get(reached, 0) + 1
        candidates = {i for i, times in seen.items() if times > 1}
        if not candidates:
            return ()
        order, dominator = _dominators(starts, self._edges)
        # A node's own decision needs no elimination here: its value is settled by the group.
        own = decision_id(node.decision)
        return tuple([i for i in reversed(order) if i in candidates and dominator[i] is None and i != own])

    def reach(self, number: int) -> frozenset[int]:
        """Ids of a node and all below it, and of their decisions."""
        found = self._reach.get(number)
        if found is None:
            reached = {number}
            if number >= 0 and (decision := self.structure.nodes[number].decision) >= 0:
                reached.add(decision_id(decision))
            for child in self._edges[number]:
                reached |= self.reach(child)
            found = self._reach[number] = frozenset(reached)
        return found

    def certain(self, number: int) -> frozenset[int]:
        """Ids of what is active whenever a node is."""
        found = self._certain.get(number)
        if found is None:
            found = frozenset((number,))
            if number >= 0:
                node = self.structure.nodes[number]
                if node.decision >= 0:
                    found |= {decision_id(node.decision)}
                groups = [self.certain_in(node, g) for g in range(len(node.groups))]
                found |= frozenset.intersection(*groups)
            self._certain[number] = found
        return found

    def certain_in(self, node: Node, number: int) -> frozenset[int]:
        """Ids of what is active whenever a group of children is."""
        return frozenset().union(*[self.certain(c) for c in self._starts(node, number)])


def _dominators(starts: list[int], edges: Mapping[int, list[int]]) -> tuple[list[int], dict[int, int | None]]:
    """Ids below `starts` in topological order, with their immediate dominators (None: the virtual root)."""
    order: list[int] = []
    seen: set[int] = set()

    def visit(number: int) -> None:
        if number not in seen:
            seen.add(number)
            for child in edges[number]:
                visit(child)
            order.append(number)

    for start in starts:
        visit(start)
    order.reverse()
    rank = {number: i for i, number in enumerate(order)}
    parents: dict[int, list[int | None]] = {number: [] for number in order}
    for start in starts:
        parents[start].append(None)
    for number in order:
        for child in edges[number]:
            parents[child].append(number)
    dominator: dict[int, int | None] = {}
    for number in order:
        common = parents[number][0]
        for parent in parents[number][1:]:
            while common != parent:
                if common is None or parent is None:
                    common = parent = None
                elif rank[common] > rank[parent]:
                    common = dominator[common]
                else:
                    parent = dominator[parent]
        dominator[number] = common
    return order, dominator


class Proposer:
    """Draws architectures uniformly: exactly where no sharing is uncertain, else with rejection that keeps it so."""

    def __init__(self, structure: Structure, counter: Counter) -> None:
        self.structure = structure
        self.counter = counter
        self._plans: dict[object, tuple[list[int] | None, int]] = {}
        self._flat: dict[int, tuple[list[int] | None, int]] = {}

    def propose(self, rng: Random, env: Environment = _EMPTY) -> list[int] | None:
        """Indices drawn uniformly under an environment, or None where the draw is rejected."""
        if not env and self.structure.tree:
            return self._propose_tree(rng)
        indices = [-1] * len(self.structure.decisions)
        visited: set[int] = set()
        pending: list[tuple[int, int]] = []
        stack: list[tuple[Node, Environment]] = [(self.structure.root, env)]
        while stack:
            node, env = stack.pop()
            if node.id in visited:
                continue
            visited.add(node.id)
            if env:
                reach = self.counter.reach(node.id)
                env = {k: v for k, v in env.items() if k in reach}
            if self.counter.steers_itself(node) and decision_id(node.decision) not in env:
                env = {**env, decision_id(node.decision): _draw(self.counter.by_value(node, env, True), rng)}
            number = self._choose_group(node, env, rng)
            if node.decision >= 0:
                indices[node.decision] = self._choose_index(node, number, env, rng)
            met = self.counter.met(node, number)
            if met:
                env = self._settle(node, number, met, env, rng, pending)
            stack.extend([(child, env) for child in reversed(node.groups[number][0])])
        for number, weight in pending:
            inactive = number not in visited if number >= 0 else indices[-number - 1] < 0
            if inactive and rng.randrange(weight):
                return None
        return indices

    def _choose_group(self, node: Node, env: Environment, rng: Random) -> int:
        if len(node.groups) == 1:
            return 0
        key = (node.id, frozenset(env.items()))
        plan = self._plans.get(key)
        if plan is None:
            cumulative, total = [], 0
            for number in range(len(node.groups)):
                members = self.counter.members(node, number, env)
                total += members * self.counter.group(node, number, env, True) if members else 0
                cumulative.append(total)
            plan = self._plans[key] = (cumulative, total)
        return bisect_right(plan[0] or [], rng.randrange(plan[1]))

    def _choose_index(self, node: Node, number: int, env: Environment, rng: Random) -> int:
        fixed = env.get(decision_id(node.decision)) if env else None
        if fixed is not None:
            return fixed
        indices = node.groups[number][1]
        return rng.randrange(node.count) if indices is None else indices[rng.randrange(len(indices))]

    def _settle(
        self,
        node: Node,
        number: int,
        met: tuple[int, ...],
        env: Environment,
        rng: Random,
        pending: list[tuple[int, int]],
    ) -> Environment:
        """Settle what is met at a group: value by value, or as given."""
        counter = self.counter
        env = dict(env)
        for turn, first in enumerate(met):
            if first in env:
                continue
            if first >= 0:
                pending.append((first, counter.node(self.structure.nodes[first], env, True)))
                env[first] = 1
                continue
            rest = met[turn + 1 :]
            values = range(self.structure.decisions[-first - 1].count)
            weights = [counter._eliminate(node, number, rest, {**env, first: v}, True) for v in values]
            pending.append((first, len(weights)))
            env[first] = _draw(weights, rng)
        return env

    def _propose_tree(self, rng: Random) -> list[int]:
        indices = [-1] * len(self.structure.decisions)
        stack = [self.structure.root]
        plans, random = self._flat, rng.random
        while stack:
            node = stack.pop()
            if node.decision < 0:
                stack.extend(node.everything[::-1])
                continue
            if node.active is None:
                indices[node.decision] = int(random() * node.count)
                continue
            plan = plans.get(node.id)
            if plan is None:
                plan = plans[node.id] = self._tree_plan(node)
            cumulative, total = plan
            index = int(random() * total) if cumulative is None else bisect_right(cumulative, rng.randrange(total))
            indices[node.decision] = index
            stack.extend(node.active(index)[::-1])
        return indices

    def _tree_plan(self, node: Node) -> tuple[list[int] | None, int]:
        weights = [0] * node.count
        for number, (_, indices, _) in enumerate(node.groups):
            for index in indices or ():
                weights[index] = self.counter.group(node, number, {}, False)
        if len(set(weights)) == 1:
            return None, len(weights)
        cumulative, total = [], 0
        for weight in weights:
            total += weight
            cumulative.append(total)
        return cumulative, total


def _draw(weights: list[int], rng: Random) -> int:
    ticket = rng.randrange(sum(weights))
    return bisect_right(list(accumulate(weights)), ticket)


def unrank(structure: Structure, counter: Counter, index: int) -> Indices:
    """Indices of the architecture that enumeration yields at `index`."""
    indices = [-1] * len(structure.decisions)
    if structure.tree:
        _unrank_tree(structure.root, index, indices, counter)
        return tuple(indices)
    env: dict[int, int] = {}
    stack = [structure.root]
    while stack:
        node = stack.pop()
        if node.decision < 0:
            stack.extend(node.everything[::-1])
            continue
        if indices[node.decision] < 0:
            for value in range(node.count):
                env[decision_id(node.decision)] = value
                ways = counter.count(env)
                if index < ways:
                    break
                index -= ways
            indices[node.decision] = value
        if node.active is not None:
            stack.extend(node.active(indices[node.decision])[::-1])
    return tuple(indices)


def _unrank_tree(node: Node, index: int, indices: list[int], counter: Counter) -> None:
    children = node.everything
    if node.decision >= 0:
        value = index
        if node.active is None:
            index = 0
        else:
            for value in range(node.count):
                ways = 1
                for child in node.active(value):
                    ways *= counter.node(child, {})
                if index < ways:
                    break
                index -= ways
            children = node.active(value)
        indices[node.decision] = value
    for child in reversed(children):
        index, own = divmod(index, counter.node(child, {}))
        _unrank_tree(child, own, indices, counter)
