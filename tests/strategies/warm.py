"""Evolution that begins with given networks, on any problem."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasturtium.strategies import RegularizedEvolution
from nasturtium.trial import Exhausted, Problem, Proposal, Trial


@dataclass
class WarmEvolution:
    """`RegularizedEvolution` whose warm start is the first, the last and the middle network of the problem's space."""

    population: int = 5
    inner: RegularizedEvolution = field(init=False, repr=False)

    def setup(self, problem: Problem) -> None:
        size = problem.space.size
        given = [problem.space.at(index) for index in (0, size - 1, size // 2)]
        self.inner = RegularizedEvolution(population=self.population, sample=2, warm_start=given)
        self.inner.setup(problem)

    def ask(self, number: int) -> Proposal | Exhausted:
        return self.inner.ask(number)

    def recall(self, proposal: Proposal) -> None:
        self.inner.recall(proposal)

    def tell(self, trial: Trial) -> None:
        self.inner.tell(trial)
