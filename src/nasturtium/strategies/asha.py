"""ASHA: successive halving that never waits."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.strategies import ladder, nested, race
from nasturtium.strategies.preference import lexicographic
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Wait

GROWTH = 10
"""With several objectives a rung is ranked again when one in so many more have come."""


@dataclass(slots=True)
class ASHA:
    """Promote any network in the top `1/eta` of its rung that was not promoted yet; if there is none, begin a new one.

    Nobody waits for a rung to be complete, so that slow trials hold up nothing. The higher rungs come first.

    Args:
        strategy: As in `SuccessiveHalving`.
        options: As there.
        fidelity: As there.
        minimum: As there.
        eta: As there; 4 in the paper's experiments.
        rungs: As there.
        offset: The early-stopping rate: new networks begin so many rungs higher.
        enough: As in `SuccessiveHalving`.

    Notes:
        What is said there of learning, objectives, trials and budgets holds here too.

        Differs from the paper: when the space has no more networks and all are measured, the best of the highest rung
        goes on to full fidelity if none has come there; with several objectives, a rung of 20 or more is ranked again
        only when a tenth more results have come.

    Reference:
        Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar (2020), "A system for massively parallel
        hyperparameter tuning", arXiv 1810.05934, algorithm 2.
    """

    strategy: Any = "random"
    options: Mapping[str, Any] = field(default_factory=dict)
    fidelity: ladder.Kind = "epochs"
    minimum: float = 1 / 9
    eta: int = 3
    rungs: Sequence[float] | None = None
    offset: int = 0
    enough: int | None = None
    _race: race.Race = field(init=False, repr=False, compare=False)
    _rungs: list[_Rung] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        race.check_settings(
            self.strategy, self.options, self.fidelity, self.minimum, self.eta, self.rungs, self.enough
        )  # fmt: skip
        rungs = len(ladder.shares(self.minimum, self.eta, self.rungs))
        if isinstance(self.offset, bool) or not isinstance(self.offset, int) or not 0 <= self.offset < rungs:
            raise InvalidInputError(f"`offset` must be in [0, {rungs}) with these rungs, got {self.offset!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return {
            "strategy": nested.describe(self.strategy), "options": dict(self.options), "fidelity": self.fidelity,
            "minimum": self.minimum, "eta": self.eta, "rungs": None if self.rungs is None else list(self.rungs),
            "offset": self.offset, "enough": self.enough,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ASHA:
        """Inverse of `to_dict`."""
        return cls(**nested.revive(data))

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        levels = ladder.shares(self.minimum, self.eta, self.rungs)
        self._race = race.start(
            problem, strategy=self.strategy, options=self.options, fidelity=self.fidelity, levels=levels,
            enough=self.enough, share_new=1 - 1 / self.eta, lowest=self.offset,
        )  # fmt: skip
        self._rungs = [_Rung(self._race, level, self.eta) for level in range(len(levels))]

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose a network that goes on, or a new one.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        chance = self._race.last_chance(number)
        if chance is not None:
            return chance
        for level in range(self._race.top - 1, self.offset - 1, -1):
            network = self._rungs[level].promotable()
            if network is not None:
                return self._race.promote(number, network, level + 1)
        answer = self._race.new(number, self.offset)
        if isinstance(answer, Proposal):
            return answer
        if self._race.pending:
            return Wait()
        return self._to_the_top(number) or answer

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._race.recall(proposal)

    def tell(self, trial: Trial) -> None:
        """Learn an outcome."""
        network, level = self._race.tell(trial)
        if self._race.result(network, level) is not None:
            self._rungs[level].add(network)

    def _to_the_top(self, number: int) -> Proposal | None:
        """The best of the highest rung that has any, one rung up; None if that is the full fidelity."""
        for level in range(self._race.top, -1, -1):
            best = self._rungs[level].best()
            if best is not None:
                if level == self._race.top or self._race.reached(best) > level:
                    return None
                return self._race.promote(number, best, level + 1)
        return None


class _Rung:
    """The networks that have a result at a level, and which of them may go on.

    With one objective a result is sorted in when it comes. With several, ranking all takes O(n^2): they are ranked
    again when a tenth more have come (each one up to the 20th), and those since then may go on only after that. When
    this is depends on the number of results alone, so that a resumed search ranks the same.
    """

    def __init__(self, runners: race.Race, level: int, eta: int) -> None:
        self._race, self._level, self._eta = runners, level, eta
        self._single = len(runners.problem.objectives) == 1
        self._networks: list[int] = []
        self._order: list[tuple[tuple[float, ...], int]] = []
        self._due = 0  # how many of the networks are to be ranked
        self._ranked = 0  # how many are
        self._first: tuple[int, int | None] | None = None  # of how many networks which is the best
        self._left: list[tuple[tuple[float, ...], int]] = []  # those in order that did not go on

    def add(self, network: int) -> None:
        """Take a network's result."""
        self._networks.append(network)
        if self._single:
            result = self._race.result(network, self._level)
            assert result is not None
            entry = lexicographic(self._race.problem, result), network
            insort(self._order, entry)
            insort(self._left, entry)
        elif len(self._networks) >= self._due + max(1, self._due // GROWTH):
            self._due = len(self._networks)

    def promotable(self) -> int | None:
        """The best network that did not go on, if it is in the top share."""
        self._rank()
        while self._left and self._race.reached(self._left[0][1]) > self._level:
            del self._left[0]
        if self._left and bisect_left(self._order, self._left[0]) < len(self._order) // self._eta:
            return self._left[0][1]
        return None

    def best(self) -> int | None:
        """The best network, of all that have a result."""
        if self._single:
            return self._order[0][1] if self._order else None
        if self._first is None or self._first[0] != len(self._networks):  # beside `_due`: asking must change nothing
            ranked = self._race.ranked(self._networks, self._level)
            self._first = len(self._networks), ranked[0] if ranked else None
        return self._first[1]

    def _rank(self) -> None:
        if self._ranked < self._due:
            ranked = self._race.ranked(self._networks[: self._due], self._level)
            self._ranked = self._due
            self._order = [((float(place),), network) for place, network in enumerate(ranked)]
            self._left = list(self._order)
