"""Random search: the baseline that everything else has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random as Generator

from nasturtium.strategies.candidates import Candidates
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal


@dataclass(slots=True)
class Random:
    """Draw architectures independently; those that break a cheap constraint, or are known, are drawn again.

    Args:
        sampler: "uniform" over architectures, or "hierarchical" (each active decision uniform, from the root down).

    Notes:
        Differs from the paper: without replacement, and with the constraints' rejection.

    Reference:
        Bergstra, Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13. Li, Talwalkar (2019),
        "Random search and reproducibility for neural architecture search", arXiv 1902.07638.
    """

    sampler: str = "uniform"
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem = problem
        self._candidates = Candidates(problem)

    def ask(self, number: int) -> Proposal | Exhausted:
        """Draw the next architecture.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Generator(f"{self._problem.seed}/{number}")
        space, sampler = self._problem.space, self.sampler
        drawn = self._candidates.draw(rng, lambda generator, _: space.sample(generator, sampler))  # type: ignore[arg-type]
        if isinstance(drawn, Exhausted):
            return drawn
        proposal = Proposal(number=number, architecture=drawn, origin="random")
        self.recall(proposal)
        return proposal

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._candidates.note(proposal)

    def tell(self, trial: Trial) -> None:
        """Learn nothing."""
