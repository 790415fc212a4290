"""Random search: the baseline that everything else has to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random as Generator

from nasturtium.errors import InvalidInputError
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


def chance_of_top(trials: int, share: float, *, size: int | None = None) -> float:
    """Probability that at least one of so many uniform draws is among the best `share` of all architectures.

    Args:
        trials: Draws, at least 0.
        share: In (0, 1]: 0.05 for the best twentieth.
        size: Architectures in the space, which are then drawn without replacement; None for a space so large that it
            does not matter, `1 - (1 - share)^trials`.

    Raises:
        InvalidInputError: a number is out of range.

    Example:
        >>> round(chance_of_top(60, 0.05), 4)
        0.9539

    Reference:
        Bergstra, Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, section 2.
    """
    if trials < 0 or not 0 < share <= 1 or (size is not None and not trials <= size):
        raise InvalidInputError(
            f"Expected trials >= 0 (at most `size`) and `share` in (0, 1], got {trials}, {share} and size {size}."
        )
    if size is None:
        return 1 - (1 - share) ** trials
    others = size - max(1, math.floor(share * size + 1e-9))
    return 1 - math.comb(others, trials) / math.comb(size, trials)


def expected_best(values: Sequence[float], trials: int) -> float:
    """Exact expectation of the largest of so many values drawn without replacement: what random search reaches.

    The largest of `trials` of n values is the k-th smallest with probability C(k - 1, trials - 1) / C(n, trials).

    Args:
        values: Of all architectures of the space; larger is better.
        trials: Draws, in [1, number of values].

    Raises:
        InvalidInputError: `trials` is out of range.

    Reference:
        Dodge et al. (2019), "Show your work: improved reporting of experimental results", arXiv 1909.03004, section
        3.1. Differs from the paper: without replacement.
    """
    count = len(values)
    if not 1 <= trials <= count:
        raise InvalidInputError(f"`trials` must be in [1, {count}], the number of values, got {trials}.")
    share = trials / count  # of the largest value: C(n - 1, t - 1) / C(n, t)
    terms = []
    for below, value in zip(range(count - 1, trials - 2, -1), sorted(values, reverse=True), strict=False):
        terms.append(share * value)
        if below:
            share *= (below - trials + 1) / below  # C(b - 1, t - 1) / C(b, t - 1)
    return math.fsum(terms)
