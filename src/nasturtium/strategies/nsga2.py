"""NSGA-II: a population that spreads along the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from nasturtium.errors import InvalidInputError, NasturtiumError, UnknownNameError
from nasturtium.space import Architecture, Decision
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.preference import preferences, usable
from nasturtium.trial import Trial, point_of
from nasturtium.trial.types import Exhausted, Problem, Proposal

CROSSOVERS = ("uniform", "one_point", "stage")
WIDEN = 40
"""Tries after which one more decision changes on average, when near networks are known or break a constraint."""


@dataclass(slots=True)
class NSGA2:
    """Breed a population, and keep of parents and children those on the best fronts, spread out along them.

    Two tournaments of two choose the parents of a child, by violation of the constraints, then front, then crowding
    distance. When `offspring` children have been told, parents and children together are cut down to `population`,
    whole fronts first and then the loneliest of the front that does not fit, so that the extremes of each objective
    stay.

    Args:
        population: Survivors of a selection. None takes 40, the default of NSGA-Net's code, or a sixth of the budget
            where that is less, but no fewer than 10 and than twice the objectives.
        offspring: Children told between two selections. 1, the default, is the steady state, which uses each result at
            once and which Durillo et al. (2009) find better than generations; None takes `population`, the paper's.
        crossover: Probability in [0, 1] that a child has two parents; 0.9 is the paper's (section IV).
        how: Crossover, "uniform", "one_point" or "stage" (see `Space.cross`).
        mutation: Expected number of decisions that a mutation changes; 1 is the paper's rate of 1/n for n decisions.
        near: Whether mutation moves to nearest values only.
        warm_start: Architectures to begin with, as `Architecture.to_dict` gives them, or architectures.

    Notes:
        Differs from the paper: the steady state by default (see `offspring`); variation is crossover and mutation of
        decisions instead of SBX and polynomial mutation; a child that is known or breaks a cheap constraint is bred
        again; trials under way do not hold anything up: children are bred from the present population meanwhile, and
        each result counts in the generation in which it is told; failed trials do not count; equal points count as one
        (the others of them go last in their front), so that copies of an extreme do not fill the population. The first
        results, up to `population`, are the first population.

        The defaults were chosen on the 12-epoch accuracy of NAS-Bench-201 against a latency, which no report uses.

        Time: a selection costs O(objectives * population^2), so much for each child in the steady state.

    Reference:
        Deb, Pratap, Agarwal, Meyarivan (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
        TEC 6(2), section III (main loop III.C, constraints VI). Lu et al. (2019), "NSGA-Net: neural architecture
        search using multi-objective genetic algorithm", arXiv 1810.03522. Durillo, Nebro, Luna, Alba (2009), "On the
        effect of the steady-state selection scheme in multi-objective genetic algorithms", EMO 2009.
    """

    population: int | None = None
    offspring: int | None = 1
    crossover: float = 0.9
    how: str = "uniform"
    mutation: float = 1.0
    near: bool = False
    warm_start: Sequence[Any] = ()
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _parents: list[Trial] = field(init=False, repr=False, compare=False)
    _children: list[Trial] = field(init=False, repr=False, compare=False)
    _first: list[Architecture] = field(init=False, repr=False, compare=False)
    _ranking: list[tuple[float, ...]] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name, least in (("population", 2), ("offspring", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, or None, got {value!r}.")
        if not 0 <= self.crossover <= 1:
            raise InvalidInputError(f"`crossover` must be a probability in [0, 1], got {self.crossover!r}.")
        if not 0 < self.mutation < math.inf:
            raise InvalidInputError(f"`mutation` must be a positive number of decisions, got {self.mutation!r}.")
        if self.how not in CROSSOVERS:
            raise UnknownNameError("crossover", str(self.how), CROSSOVERS)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        warm = [a.to_dict() if isinstance(a, Architecture) else a for a in self.warm_start]
        return {
            "population": self.population, "offspring": self.offspring, "crossover": self.crossover, "how": self.how,
            "mutation": self.mutation, "near": self.near, "warm_start": warm,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NSGA2:
        """Inverse of `to_dict`."""
        return cls(**data)

    @property
    def _size(self) -> int:
        least = 2 * len(self._problem.objectives)
        return self.population or max(least, min(40, max(10, round((self._problem.trials or 400) / 6))))

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            InvalidArchitectureError: an architecture to begin with is not of the space.
            InvalidInputError: the population cannot hold both ends of each objective.
        """
        if self.population is not None and self.population < 2 * len(problem.objectives):
            raise InvalidInputError(
                f"`population` must be at least {2 * len(problem.objectives)}, twice the objectives, so that their "
                f"extremes can be kept, got {self.population}."
            )
        self._problem = problem
        self._candidates = Candidates(problem)
        self._parents, self._children, self._ranking = [], [], None
        given = [a if isinstance(a, Architecture) else Architecture.from_dict(a) for a in self.warm_start]
        self._first = [problem.space.adopt(a) for a in given]

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a given, a random or a bred architecture.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Random(f"{self._problem.seed}/{number}")
        if number < len(self._first) and self._candidates.admits(self._first[number]):
            return self._propose(number, self._first[number], (), "given")
        if number < self._size or len(self._parents) < 2:
            drawn = self._candidates.uniform(rng)
            return drawn if isinstance(drawn, Exhausted) else self._propose(number, drawn, (), "random")
        parents: tuple[int, ...] = ()
        last: Architecture | None = None

        def child(generator: Random, attempt: int) -> Architecture:
            nonlocal parents, last
            last, parents = self._bred(generator, 1 + attempt // WIDEN)
            return last

        drawn = self._candidates.draw(rng, child)
        if isinstance(drawn, Exhausted):
            return drawn
        if drawn is not last:  # the candidates' other ways found it
            return self._propose(number, drawn, (), "random")
        return self._propose(number, drawn, parents, "crossover" if len(parents) == 2 else "mutation")

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._candidates.note(proposal)

    def tell(self, trial: Trial) -> None:
        """Let a completed trial join its generation; select when the generation is full."""
        if not usable(trial, self._problem.objectives):
            return
        if len(self._parents) < self._size:
            self._parents.append(trial)
            self._ranking = None
            return
        self._children.append(trial)
        if len(self._children) >= (self.offspring or self._size):
            self._parents = survivors(self._problem, [*self._parents, *self._children], self._size)
            self._children, self._ranking = [], None

    def _propose(self, number: int, architecture: Architecture, parents: tuple[int, ...], origin: str) -> Proposal:
        proposal = Proposal(number=number, architecture=architecture, parents=parents, origin=origin)
        self.recall(proposal)
        return proposal

    def _bred(self, rng: Random, width: int) -> tuple[Architecture, tuple[int, ...]]:
        mother = self._winner(rng)
        found = mother.architecture
        parents: tuple[int, ...] = (mother.number,)
        if rng.random() < self.crossover:
            father = self._winner(rng)
            if father is not mother:
                found = self._problem.space.cross(found, father.architecture, rng, self.how)  # type: ignore[arg-type]
                parents = (mother.number, father.number)
        return self._mutated(found, rng, width), parents

    def _mutated(self, architecture: Architecture, rng: Random, width: int) -> Architecture:
        """Each active decision changed with probability `mutation * width / n`."""
        space = self._problem.space
        active = space.active(architecture)
        rate = self.mutation * width / max(1, len(active))
        for decision in [d for d in active if rng.random() < rate]:
            try:
                architecture = space.mutate(architecture, rng, only=_exactly(decision), near=self.near)
            except NasturtiumError:  # one value only, or a mutation before it made it inactive
                continue
        return architecture

    def _winner(self, rng: Random) -> Trial:
        """The better of two of the population; the earlier where they are equal."""
        if self._ranking is None:
            self._ranking = preferences(self._problem, self._parents)
        ranking = self._ranking
        first, second = rng.randrange(len(self._parents)), rng.randrange(len(self._parents))
        return self._parents[min(first, second, key=lambda i: (ranking[i], i))]


def survivors(problem: Problem, trials: Sequence[Trial], size: int) -> list[Trial]:
    """The best `size` trials by constraint domination: fronts in order, the loneliest first in the one that is cut.

    Of trials with equal values the first counts; the others go last in their front.
    """
    ranking = preferences(problem, trials)
    several = len(problem.objectives) > 1
    seen: set[tuple[float, ...]] = set()
    keyed: list[tuple[tuple[float, ...], Trial]] = []
    for trial, (*outer, last) in sorted(zip(trials, ranking, strict=True), key=lambda pair: pair[0].number):
        point = point_of(trial, problem.objectives)
        keyed.append(((*outer, float(several and point in seen), last, trial.number), trial))
        seen.add(point)
    return [trial for _, trial in sorted(keyed, key=lambda pair: pair[0])[:size]]


def _exactly(decision: Decision) -> Callable[[Decision], bool]:
    return lambda other: other.position == decision.position
