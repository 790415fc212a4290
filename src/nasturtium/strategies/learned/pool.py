"""What a model is asked about: random networks, and mutations and neighbours of the best; and who of them is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import NasturtiumError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.learned.rounds import Choice
from nasturtium.trial import Trial
from nasturtium.trial.types import Problem

PATIENCE = 5
"""Draws for each random network that is asked for, in a space that has few new ones."""


class Pool:
    """Different architectures that were not told yet; what may be proposed of them is checked when one is taken.

    Args:
        problem: Its space is drawn from.
        known: Trials whose architectures are left out.
        rng: Source of chance.
    """

    def __init__(self, problem: Problem, known: Iterable[Trial], rng: Random) -> None:
        self._space, self._rng = problem.space, rng
        self._seen = {trial.architecture.key for trial in known}
        self.choices: list[Choice] = []

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def architectures(self) -> list[Architecture]:
        """The candidates, in the order in which they were added."""
        return [choice.architecture for choice in self.choices]

    def add_random(self, count: int) -> None:
        """Add up to `count` architectures, uniform over the space."""
        full = len(self) + count
        for _ in range(PATIENCE * count):
            if len(self) >= full:
                break
            self.add(self._space.sample(self._rng), (), "random")

    def add_mutations(self, parents: Sequence[Trial], count: int, *, draws: int, edits: int = 1) -> None:
        """Add up to `count` mutations: `draws` of the first parent, then, where too few are new, of the next.

        Args:
            parents: The best trials, best first.
            count: Of new architectures.
            draws: Mutations of one parent.
            edits: Most decisions that are changed, one after the other; each number up to it comes equally often.
        """
        full = len(self) + count
        for trial in parents:
            for draw in range(draws):
                if len(self) >= full:
                    return
                found = trial.architecture
                try:
                    for _ in range(1 + draw % edits):
                        found = self._space.mutate(found, self._rng)
                except NasturtiumError:  # no single change of this one stays in the space
                    break
                self.add(found, (trial.number,), "mutation")

    def add_neighbours(self, parents: Sequence[Trial]) -> None:
        """Add every architecture that differs from a parent in one decision."""
        for trial in parents:
            for found in self._space.neighbours(trial.architecture):
                self.add(found, (trial.number,), "neighbour")

    def take(self, scores: NDArray[np.float64], candidates: Candidates) -> list[Choice]:
        """For each row of scores the best candidate that may be proposed and was not taken for an earlier row.

        Args:
            scores: `(slots, n)`; larger is better, NaN is worst.
            candidates: Says what may be proposed. Asked in the order of scores, as constraints and hashes cost time.

        Returns:
            At most one choice a slot; fewer where the pool runs out.
        """
        key = candidates.problem.key
        refused: set[int] = set()
        taken: list[Choice] = []
        networks: set[str] = set()
        for row in scores:
            order = np.argsort(-np.nan_to_num(row, nan=-np.inf), kind="stable")
            for i in map(int, order):
                if i in refused:
                    continue
                refused.add(i)  # taken, or never to be
                choice = self.choices[i]
                if candidates.admits(choice.architecture) and key(choice.architecture) not in networks:
                    networks.add(key(choice.architecture))
                    taken.append(choice)
                    break
            else:
                break
        return taken

    def add(self, architecture: Architecture, parents: tuple[int, ...], origin: str) -> None:
        """Add an architecture, unless it is here or was told."""
        if architecture.key not in self._seen:
            self._seen.add(architecture.key)
            self.choices.append(Choice(architecture=architecture, parents=parents, origin=origin))
