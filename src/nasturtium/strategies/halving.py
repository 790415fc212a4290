"""Successive halving: measure many networks cheaply, and the best of them better and better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.strategies import ladder, nested, race
from nasturtium.strategies.brackets import Brackets
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Wait


@dataclass(slots=True)
class SuccessiveHalving:
    """Measure `networks` networks at the lowest fidelity, the best `1/eta` of them at the next, and so on to the full.

    Then it begins again with new networks, until the budget ends. The same network at a higher fidelity is a new trial
    with origin "promoted", whose parent is its trial before; a budget counts trials, of which a cheap one counts as
    much as a full one. What is found are the networks that were measured at full fidelity. While a rung is not complete
    it waits: with several workers `Hyperband` and `ASHA` keep them busier.

    Args:
        strategy: Proposes the new networks: a name, or a strategy.
        options: Settings of a strategy that is given by name.
        fidelity: What is reduced: "epochs", "data", "width", "resolution" or "seconds" (a share of the estimator's time
            limit).
        minimum: The lowest share of the full measurement; 1/9 gives three rungs, as mild as the rank correlation of
            short trainings asks for.
        eta: One of so many goes on; 3 is the paper's (Hyperband, section 2).
        rungs: Shares instead of `minimum` and `eta`, rising to 1, for an estimator that has only some, such as a table:
            [0.06, 1.0].
        networks: Networks at the lowest fidelity; None takes as many as leave one at the top, or fewer, so that one
            round fits the budget.
        enough: See Notes; None is one more than the space's decisions, as in BOHB.

    Notes:
        The strategy that proposes learns from one fidelity at a time: the highest at which `enough` networks have a
        result, the lowest before; networks without a result there count as failed for it until they have one. With
        `BayesianOptimization` this is BOHB's rule (Falkner et al. 2018, section 4.1); BOHB's third of random networks
        is left to the strategy's own way to explore. With several objectives networks go on by violation of the
        constraints, then by the number of their front, then by crowding (Deb et al. 2002).

        Differs from the paper: failed trials leave their place to others; where a space has fewer networks than a round
        has room for, at least one goes on from each rung; if a budget ends and nothing was measured at full fidelity,
        its last trial is the best network at full fidelity.

    Reference:
        Jamieson, Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization",
        arXiv 1502.07943, figure 1.
    """

    strategy: Any = "random"
    options: Mapping[str, Any] = field(default_factory=dict)
    fidelity: ladder.Kind = "epochs"
    minimum: float = 1 / 9
    eta: int = 3
    rungs: Sequence[float] | None = None
    networks: int | None = None
    enough: int | None = None
    _brackets: Brackets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        race.check_settings(
            self.strategy, self.options, self.fidelity, self.minimum, self.eta, self.rungs, self.enough
        )  # fmt: skip
        race.check_count("networks", self.networks)
        least = self.eta ** (len(ladder.shares(self.minimum, self.eta, self.rungs)) - 1)
        if self.networks is not None and self.networks < least:
            raise InvalidInputError(
                f"`networks` must be {least} or more, so that one of them reaches the full {self.fidelity} through "
                f"these rungs with eta={self.eta}, got {self.networks}. Or take fewer rungs."
            )

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return {
            "strategy": nested.describe(self.strategy), "options": dict(self.options), "fidelity": self.fidelity,
            "minimum": self.minimum, "eta": self.eta, "rungs": None if self.rungs is None else list(self.rungs),
            "networks": self.networks, "enough": self.enough,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SuccessiveHalving:
        """Inverse of `to_dict`."""
        return cls(**nested.revive(data))

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        levels = ladder.shares(self.minimum, self.eta, self.rungs)
        sizes = self._sizes(len(levels), problem.trials)
        runners = race.start(
            problem, strategy=self.strategy, options=self.options, fidelity=self.fidelity, levels=levels,
            enough=self.enough, share_new=sizes[0] / sum(sizes),
        )  # fmt: skip
        self._brackets = Brackets(runners, [(0, sizes)], self.eta, overlap=False)

    def _sizes(self, rungs: int, budget: int | None) -> tuple[int, ...]:
        """Networks on each rung."""
        start = self.networks or self.eta ** (rungs - 1)
        if self.networks is None and budget is not None:
            while start > 1 and sum(max(1, start // self.eta**i) for i in range(rungs)) > budget:
                start -= 1
        return tuple(max(1, start // self.eta**i) for i in range(rungs))

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose a new network, or one that goes on.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        return self._brackets.ask(number)

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._brackets.recall(proposal)

    def tell(self, trial: Trial) -> None:
        """Learn an outcome."""
        self._brackets.tell(trial)
