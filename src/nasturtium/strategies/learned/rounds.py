"""Proposals in rounds: a model is trained once, and the best few of its candidates are proposed one after the other.

A round is a function of the problem and of what was known when it began. What was known is counted, not stored: a
resumed strategy recalls the log and trains again only for the round that is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

LEAST = 2
"""Usable trials without which there is nothing to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A candidate, and where it comes from."""

    architecture: Architecture
    parents: tuple[int, ...] = ()
    origin: str = "random"


Plan = Callable[[int, list[Trial], Candidates], list[Choice]]
"""From the number of a round's first proposal, the usable trials told before, and what may be proposed, its choices."""


class Rounds:
    """The bookkeeping of a strategy that proposes in rounds.

    Args:
        problem: To solve.
        initial: Random proposals before the first round.
        size: Proposals of a round; where its plan gives fewer, random ones complete it.
        plan: Makes a round's choices; each must be admitted by the candidates it is given, and no two be one network.
        usable: Which trials can be learnt from.
    """

    def __init__(
        self, problem: Problem, *, initial: int, size: int, plan: Plan, usable: Callable[[Trial], bool]
    ) -> None:
        self._problem, self._plan, self._usable = problem, plan, usable
        self._initial, self._size = initial, size
        self._candidates = Candidates(problem)
        self._told: list[Trial] = []
        self._start: int | None = None
        self._known = 0
        self._choices: list[Choice] | None = None
        self._unplanned: list[Proposal] = []
        """Proposals of a recalled round: its plan must not see them."""

    def ask(self, number: int) -> Proposal | Exhausted:
        """The round's next choice, or a random network."""
        begins = self._begins(number)
        if begins:
            self._note_all()
            choices, position = self._plan(number, self._told[:], self._candidates), 0
        elif self._start is not None:
            if self._choices is None:
                self._choices = self._plan(self._start, self._told[: self._known], self._candidates)
                self._note_all()
            choices, position = self._choices, number - self._start
        else:
            choices, position = [], 0
        if position < len(choices):
            choice = choices[position]
        else:
            drawn = self._candidates.uniform(Random(f"{self._problem.seed}/{number}"))
            if isinstance(drawn, Exhausted):
                return drawn  # no round begins, so that a later ask finds the state that a resumed strategy has
            choice = Choice(architecture=drawn)
        proposal = Proposal(
            number=number, architecture=choice.architecture, parents=choice.parents, origin=choice.origin
        )
        self.recall(proposal)
        if begins:
            self._choices = choices
            self._note_all()
        return proposal

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed, and what was known when its round began."""
        if self._begins(proposal.number):
            self._note_all()
            self._start, self._known, self._choices = proposal.number, len(self._told), None
        if self._start is not None and self._choices is None:
            self._unplanned.append(proposal)
        else:
            self._candidates.note(proposal)

    def tell(self, trial: Trial) -> None:
        """Keep a trial that can be learnt from."""
        if self._usable(trial):
            self._told.append(trial)

    def _begins(self, number: int) -> bool:
        if number < self._initial or len(self._told) < LEAST:
            return False
        return self._start is None or number >= self._start + self._size

    def _note_all(self) -> None:
        for proposal in self._unplanned:
            self._candidates.note(proposal)
        self._unplanned.clear()


def source(*key: object) -> np.random.Generator:
    """A numpy generator of its own for a key, such as (seed, "model", number)."""
    return np.random.default_rng(seed_of(*key))


def seed_of(*key: object) -> int:
    """A seed in [0, 2^31) for a key, the same in every process."""
    return Random("/".join(map(str, key))).getrandbits(31)
