"""Brackets of successive halving: one after the other, or one while the last is still under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nasturtium.strategies.race import OFF, Race
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Proposal, Wait


@dataclass(slots=True)
class Bracket:
    """One run of successive halving: how many networks start, and how many go on from each rung.

    Args:
        bottom: Level of the lowest rung.
        sizes: Networks on each rung, from the lowest.
        eta: Of as many networks one goes on, where fewer came than there is room for.
    """

    bottom: int
    sizes: tuple[int, ...]
    eta: int
    members: list[int] = field(default_factory=list)
    _ranked: dict[int, tuple[list[int], int, list[int]]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether all have started."""
        return len(self.members) >= self.sizes[0]

    def under_way(self, race: Race) -> bool:
        """Whether a network of the bracket is being measured."""
        levels = range(self.bottom, self.bottom + len(self.sizes))
        return any(race.under_way(network, level) for network in self.members for level in levels)

    def promotion(self, race: Race, *, closed: bool = False) -> tuple[int, int] | None:
        """The next network to go on and its level; None if a rung is still under way, or none is left.

        Args:
            race: What is known of the networks.
            closed: Whether no more networks will come, so that a bracket that is not full goes on.
        """
        if not self.is_full and not closed:
            return None
        alive = self.members
        for rung, level in enumerate(range(self.bottom, self.bottom + len(self.sizes) - 1)):
            if any(race.under_way(network, level) for network in alive):
                return None
            size = self.sizes[rung + 1] if self.is_full else max(1, len(self.members) // self.eta ** (rung + 1))
            alive = self._best(race, rung, alive)[:size]
            for network in alive:
                if race.reached(network) <= level:
                    return network, level + 1
        return None

    def _best(self, race: Race, rung: int, alive: list[int]) -> list[int]:
        """The networks of a rung, ranked; kept, since it is asked for again and again."""
        level = self.bottom + rung
        known = sum(race.result(network, level) is not None for network in alive)
        kept = self._ranked.get(rung)
        if kept is None or kept[:2] != (alive, known):
            kept = self._ranked[rung] = list(alive), known, race.ranked(alive, level)
        return kept[2]


class Brackets:
    """A plan of brackets, gone through again and again.

    Args:
        race: The networks.
        plan: Bottom level and sizes of each bracket.
        eta: See `Bracket`.
        overlap: Whether the next bracket begins while the last one's trials are under way.
    """

    def __init__(self, race: Race, plan: Sequence[tuple[int, tuple[int, ...]]], eta: int, *, overlap: bool) -> None:
        self._race, self._plan, self._eta, self._overlap = race, plan, eta, overlap
        self._open: list[Bracket] = []
        self._begun = 0

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Promote where a rung is complete, else fill the last bracket, else begin the next one."""
        chance = self._race.last_chance(number)
        if chance is not None:
            return chance
        self._close()
        promoted = self._promote(number)
        if promoted is not None:
            return promoted
        last = self._open[-1] if self._open else None
        if last is not None and last.is_full and not self._overlap and last.under_way(self._race):
            return Wait()
        filling = last if last is not None and not last.is_full else None
        bottom = filling.bottom if filling is not None else self._plan[self._begun % len(self._plan)][0]
        answer = self._race.new(number, bottom)
        if isinstance(answer, Proposal):
            self._enter(self._race.size - 1)
            return answer
        if isinstance(answer, Wait) and self._race.pending:
            return answer
        return self._promote(number, closed=True) or (Wait() if self._race.pending else answer)

    def recall(self, proposal: Proposal) -> None:
        """Take a proposal of the log."""
        known = self._race.size
        network = self._race.recall(proposal)
        if network == known and self._race.reached(network) != OFF:
            self._enter(network)

    def tell(self, trial: Trial) -> None:
        """Learn an outcome."""
        self._race.tell(trial)

    def _promote(self, number: int, *, closed: bool = False) -> Proposal | None:
        for bracket in self._open:
            found = bracket.promotion(self._race, closed=closed)
            if found is not None:
                return self._race.promote(number, *found)
        return None

    def _enter(self, network: int) -> None:
        """Put a new network into the last bracket, or the next one."""
        if not self._open or self._open[-1].is_full:
            bottom, sizes = self._plan[self._begun % len(self._plan)]
            self._begun += 1
            self._open.append(Bracket(bottom, sizes, self._eta))
        self._open[-1].members.append(network)

    def _close(self) -> None:
        """Forget the brackets that have come to their end."""
        self._open = [
            bracket
            for bracket in self._open
            if not bracket.is_full or bracket.under_way(self._race) or bracket.promotion(self._race) is not None
        ]
