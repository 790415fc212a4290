"""The default: what is known to do best at the budget, for the space and the objectives at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.strategies.evolution import RegularizedEvolution
from nasturtium.strategies.learned.bayesian import BayesianOptimization
from nasturtium.strategies.learned.features import described, read_features
from nasturtium.strategies.nsga2 import NSGA2
from nasturtium.surrogates.kernels import Kernels
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Strategy, Wait

COSTS = ("params", "macs")
"""Cheap metrics that the model sees outside of cell spaces, where the problem has them."""


@dataclass(slots=True)
class Auto:
    """Bayesian optimisation while trials are few, then evolution.

    - Budget: a Gaussian process chooses the first `switch` trials. Beyond, its cost grows and its lead shrinks: from
      then on evolution goes on from what was found, with an ask that costs the same at any number of trials.
    - Space: processes compare graphs, paths and decisions in a space of cells, and elsewhere decisions with their order
      (see `surrogates.Processes`) and the parameters and multiply-accumulates that are known before training. In a cell
      the graph's features tell these already.
    - Objectives: one is maximised by the upper confidence bound; for several the expected gain of hypervolume counts,
      and NSGA-II follows in place of regularized evolution.

    In the benchmarks it is measured beside random search and every other strategy, see `docs/reference/search.md`.

    Args:
        switch: Trials after which evolution takes over.
        features: Cheap metrics that the model sees besides, such as the zero-cost scores "synflow" and "naswot"; worked
            out for each candidate where no table has them, which takes about a second each.

    Notes:
        Of its own making; its parts say where they come from. Settings are those of the parts' papers, or were chosen
        on other objectives than the reported ones (`docs/reference/search.md` says which and how).
    """

    switch: int = 400
    features: Sequence[str] = ()
    _model: BayesianOptimization = field(init=False, repr=False, compare=False)
    _evolution: Strategy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.switch, bool) or not isinstance(self.switch, int) or self.switch < 1:
            raise InvalidInputError(f"`switch` must be an integer of 1 or more, got {self.switch!r}.")
        self.features = read_features(self.features)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return described(self)

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._model = BayesianOptimization(features=tuple(dict.fromkeys((*self.features, *_features(problem)))))
        self._evolution = NSGA2() if len(problem.objectives) > 1 else RegularizedEvolution()
        for part in (self._model, self._evolution):
            part.setup(problem)

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose by the model, or, from `switch` on, by evolution.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        first, *others = self._parts(number)
        answer = first.ask(number)
        if isinstance(answer, Proposal):
            for part in others:
                part.recall(answer)
        return answer

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed, whoever proposed it."""
        for part in self._parts(proposal.number):
            part.recall(proposal)

    def tell(self, trial: Trial) -> None:
        """Let those learn that have use for it."""
        for part in self._parts(trial.number):
            part.tell(trial)

    def _parts(self, number: int) -> list[Strategy]:
        """Who proposes, and who follows; a model that is asked no more hears no more."""
        return [self._model, self._evolution] if number < self.switch else [self._evolution]


def _features(problem: Problem) -> tuple[str, ...]:
    if Kernels(problem.space).cells:
        return ()
    known = problem.cheap_metrics(problem.space.sample(Random("costs")))
    return tuple(name for name in COSTS if name in known)
