"""Regularized (ageing) evolution."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Any

from nasturtium.errors import InvalidInputError, NasturtiumError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.kinds import Mutation, check_weights
from nasturtium.strategies.preference import preferences, usable
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

WIDEN = 40
"""Tries after which one more decision is mutated, when every near network is known or breaks a constraint."""


@dataclass(slots=True)
class RegularizedEvolution:
    """Keep a queue of the youngest networks; the child of a tournament's winner joins it, and the oldest leaves.

    Args:
        population: Length of the queue. None takes a quarter of the budget, in [10, 100]: 100 is the paper's, at a
            budget of 20,000; NATS-Bench (Dong et al. 2021) uses 10 at budgets of some hundred.
        sample: Size of a tournament; None takes a quarter of the population, the paper's ratio (25 of 100).
        crossover: Probability in [0, 1] that a child comes from two winners before it is mutated.
        how: Crossover, "uniform", "one_point" or "stage" (see `Space.cross`).
        only: Which decisions mutation may change (a pattern of names or several), for example "*.kernel".
        near: Whether mutation moves to nearest values only.
        mutation: Weights of kinds of mutations: "depth" (the next smaller or larger number of copies of a `repeat`: a
            block is appended, its decisions drawn, or the last one is removed), "operator" (any other value), "number"
            (of a width, kernel, resolution …: the next smaller or larger) or patterns of names, for example
            `{"depth": 1, "operator": 2, "*.width": 1}`. None gives every active decision an equal chance, and every
            other value of it. It takes the place of `only`.
        warm_start: Architectures to begin with, as `Architecture.to_dict` gives them, or architectures.

    Notes:
        Differs from the paper: a mutation changes one decision of any space, where the paper's rewires a hidden state,
        changes an operation or does nothing; a network that is known, or that breaks a cheap constraint, is drawn
        again; with several objectives the tournament's winner is the one of least violation, then of the best front,
        then the loneliest on it (Deb et al. 2002); failed trials do not enter the queue. The tournament is drawn with
        replacement, as in the paper's algorithm 1.

    Reference:
        Real, Aggarwal, Huang, Le (2019), "Regularized evolution for image classifier architecture search",
        arXiv 1802.01548, algorithm 1 and section 3.2.
    """

    population: int | None = None
    sample: int | None = None
    crossover: float = 0.0
    how: str = "uniform"
    only: str | Sequence[str] | None = None
    near: bool = False
    mutation: Mapping[str, float] | None = None
    warm_start: Sequence[Any] = ()
    _mutation: Mutation | None = field(init=False, repr=False, compare=False, default=None)
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _queue: deque[Trial] = field(init=False, repr=False, compare=False)
    _first: list[Architecture] = field(init=False, repr=False, compare=False)
    _ranking: list[tuple[float, ...]] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name, least in (("population", 2), ("sample", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, or None, got {value!r}.")
        if self.population is not None and self.sample is not None and self.sample > self.population:
            raise InvalidInputError(f"`sample` must be in [1, population={self.population}], got {self.sample}.")
        if not 0 <= self.crossover <= 1:
            raise InvalidInputError(f"`crossover` must be a probability in [0, 1], got {self.crossover!r}.")
        if self.mutation is not None:
            check_weights(self.mutation)
            if self.only is not None:
                raise InvalidInputError("Give `only` or `mutation`, not both: each says which decisions may change.")

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        warm = [a.to_dict() if isinstance(a, Architecture) else a for a in self.warm_start]
        return {
            "population": self.population, "sample": self.sample, "crossover": self.crossover, "how": self.how,
            "only": self.only, "near": self.near,
            "mutation": None if self.mutation is None else dict(self.mutation), "warm_start": warm,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RegularizedEvolution:
        """Inverse of `to_dict`."""
        return cls(**data)

    @property
    def _size(self) -> int:
        return self.population or min(100, max(10, round((self._problem.trials or 400) / 4)))

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            InvalidArchitectureError: an architecture to begin with is not of the space.
            UnknownNameError, InvalidInputError: `mutation` names no decision of the space.
        """
        self._problem = problem
        self._mutation = None if self.mutation is None else Mutation(problem.space, self.mutation, near=self.near)
        self._candidates = Candidates(problem)
        self._queue = deque(maxlen=self._size)
        self._ranking = None
        given = [a if isinstance(a, Architecture) else Architecture.from_dict(a) for a in self.warm_start]
        self._first = [problem.space.adopt(a) for a in given]

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a given, a random or a mutated architecture.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Random(f"{self._problem.seed}/{number}")
        if number < len(self._first) and self._candidates.admits(self._first[number]):
            return self._propose(number, self._first[number], (), "given")
        if number < self._size or not self._queue:
            drawn = self._candidates.uniform(rng)
            return drawn if isinstance(drawn, Exhausted) else self._propose(number, drawn, (), "random")
        parents: tuple[int, ...] = ()
        last: Architecture | None = None
        crossed = rng.random() < self.crossover and len(self._queue) > 1

        def child(generator: Random, attempt: int) -> Architecture:
            nonlocal parents, last
            winner = self._winner(generator)
            found, parents = winner.architecture, (winner.number,)
            if crossed:
                other = self._winner(generator)
                found = self._problem.space.cross(found, other.architecture, generator, self.how)  # type: ignore[arg-type]
                parents = (winner.number, other.number)
            for _ in range(1 + attempt // WIDEN):
                found = self._mutated(found, generator)
            last = found
            return found

        drawn = self._candidates.draw(rng, child)
        if isinstance(drawn, Exhausted):
            return drawn
        if drawn is not last:  # the candidates' other ways found it
            return self._propose(number, drawn, (), "random")
        return self._propose(number, drawn, parents, "crossover" if crossed else "mutation")

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._candidates.note(proposal)

    def tell(self, trial: Trial) -> None:
        """Let a completed trial join the queue."""
        if usable(trial, self._problem.objectives):
            self._queue.append(trial)
            self._ranking = None

    def _propose(self, number: int, architecture: Architecture, parents: tuple[int, ...], origin: str) -> Proposal:
        proposal = Proposal(number=number, architecture=architecture, parents=parents, origin=origin)
        self.recall(proposal)
        return proposal

    def _mutated(self, architecture: Architecture, rng: Random) -> Architecture:
        if self._mutation is not None:
            child = self._mutation(architecture, rng)
            return self._problem.space.sample(rng) if child is None else child
        try:
            return self._problem.space.mutate(architecture, rng, only=self.only, near=self.near)
        except InvalidInputError:
            raise
        except NasturtiumError:  # no single change stays in the space: the candidates' other ways take over
            return self._problem.space.sample(rng)

    def _winner(self, rng: Random) -> Trial:
        if self._ranking is None:
            self._ranking = preferences(self._problem, self._queue)
        ranking = self._ranking
        size = self.sample or ceil(self._size / 4)
        drawn = [rng.randrange(len(self._queue)) for _ in range(size)]
        return self._queue[min(drawn, key=lambda i: (ranking[i], i))]
