"""What every strategy shares: nothing is proposed twice, and nothing that breaks a cheap constraint.

Two networks are the same when `Problem.key` says so (the canonical hash), whatever their decisions. Constraints on
cheap metrics are checked here, before anything is trained; constraints on measured metrics are the strategy's to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from nasturtium.errors import InfeasibleError, NasturtiumError, SizeUnknownError
from nasturtium.space import Architecture
from nasturtium.trial import METRICS, Constraint, excess, format_constraint, format_number, violation
from nasturtium.trial.types import Exhausted, Problem, Proposal

TRIES = 500
"""Draws from the strategy's own source before other ways are tried."""
ENUMERABLE = 25_000
"""Spaces up to this size are searched to the last architecture."""
DESCENTS, STALLED, STEPS = 6, 250, 5_000
"""Guided descents on the violation in a larger space; mutations in a row without gain, and in all, that end one."""

Source = Callable[[Random, int], Architecture]
"""Draws an architecture; the second argument counts the tries, so that a source can widen its reach."""


class Candidates:
    """The architectures that a strategy may still propose.

    Args:
        problem: Space, constraints, costs, key.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._networks: set[str] = set()
        self._decisions: set[str] = set()
        self._cheap: tuple[Constraint, ...] | None = None
        self._feasible: list[Architecture] | None = None
        self._nearest: tuple[float, Architecture] | None = None

    def note(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._decisions.add(proposal.architecture.key)
        self._networks.add(self.problem.key(proposal.architecture))

    def violation(self, architecture: Architecture) -> float:
        """By how much an architecture breaks the cheap constraints; 0 if it meets them."""
        metrics = self.problem.cheap_metrics(architecture) if self.problem.constraints else {}
        if self._cheap is None:
            self._cheap = tuple(c for c in self.problem.constraints if c.metric in metrics)
        amount = violation(metrics, self._cheap)
        if amount and (self._nearest is None or amount < self._nearest[0]):
            self._nearest = (amount, architecture)
        return amount

    def is_new(self, architecture: Architecture) -> bool:
        """Whether no equal network was proposed."""
        if architecture.key in self._decisions:
            return False
        if self.problem.key(architecture) in self._networks:
            self._decisions.add(architecture.key)  # so that its hash is not computed again
            return False
        return True

    def admits(self, architecture: Architecture) -> bool:
        """Whether an architecture may be proposed."""
        return (
            architecture.key not in self._decisions and not self.violation(architecture) and self.is_new(architecture)
        )

    def draw(self, rng: Random, source: Source) -> Architecture | Exhausted:
        """An architecture that may be proposed, from a source if it gives one, else from anywhere in the space.

        Raises:
            InfeasibleError: nothing that meets the constraints was found; the message names the nearest miss.
        """
        met = False
        closest: tuple[float, Architecture] | None = None
        for attempt in range(TRIES):
            architecture = source(rng, attempt)
            if architecture.key in self._decisions:
                met = True
                continue
            amount = self.violation(architecture)
            if not amount:
                met = True
                if self.is_new(architecture):
                    return architecture
            elif closest is None or amount < closest[0]:
                closest = (amount, architecture)
        if self._size() <= ENUMERABLE:
            return self._last(rng)
        # From this draw's own closest, not from the nearest of all draws: a resumed strategy has not seen those.
        for architecture in self._descend(rng, closest[1] if closest else None):
            met = True
            if self.is_new(architecture):
                return architecture
        if met or self._networks:
            return Exhausted(f"{TRIES} draws gave no network that is new and meets the constraints")
        raise self._infeasible(f"none of {TRIES} samples and {DESCENTS} guided descents did")

    def uniform(self, rng: Random) -> Architecture | Exhausted:
        """An architecture that may be proposed, uniform over the architectures of the space that may be."""
        return self.draw(rng, lambda generator, _: self.problem.space.sample(generator))

    def refuse_if_infeasible(self) -> None:
        """Raise `InfeasibleError` where nothing was proposed and nothing in the space meets the constraints."""
        if not self._networks:
            self.uniform(Random("feasible"))

    def _size(self) -> float:
        try:
            return self.problem.space.size
        except SizeUnknownError:
            return float("inf")

    def _last(self, rng: Random) -> Architecture | Exhausted:
        """One of those that are left in a small space."""
        if self._feasible is None:
            self._feasible = [a for a in self.problem.space.enumerate() if not self.violation(a)]
        if not self._feasible:
            raise self._infeasible(f"all {self.problem.space.size:,} were tried")
        order = [a for a in self._feasible if a.key not in self._decisions]
        rng.shuffle(order)
        for architecture in order:
            if self.is_new(architecture):
                return architecture
        return Exhausted()

    def _descend(self, rng: Random, closest: Architecture | None) -> Iterator[Architecture]:
        """Architectures that meet the constraints, reached by mutations that break them less and less."""
        space = self.problem.space
        starts = [closest] if closest is not None else []
        starts += [space.sample(rng) for _ in range(DESCENTS - len(starts))]
        for current in starts:
            amount = self.violation(current)
            idle = 0
            for _ in range(STEPS):
                if not amount:
                    yield current
                try:
                    child = space.mutate(current, rng)
                except NasturtiumError:
                    break
                below = self.violation(child)
                idle = 0 if below < amount else idle + 1
                if below <= amount:
                    current, amount = child, below
                if idle >= STALLED:
                    break

    def _infeasible(self, how: str) -> InfeasibleError:
        limits = " and ".join(f"`{format_constraint(c)}`" for c in self._cheap or ())
        if self._nearest is None:
            return InfeasibleError(f"No architecture that meets {limits} was found: {how}.")
        architecture = self._nearest[1]
        metrics = self.problem.cheap_metrics(architecture)
        misses = []
        for c in self._cheap or ():
            if excess(metrics[c.metric], c) > 0:
                known = METRICS.get(c.metric)
                shown = known.format if known else format_number
                misses.append(f"{c.metric} {shown(metrics[c.metric])} where {c.relation} {shown(c.limit)} is asked")
        return InfeasibleError(
            f"No architecture that meets {limits} was found: {how}. The nearest has {', '.join(misses)} "
            f"(architecture {architecture.key}). Relax the limit or take a space of smaller networks."
        )
