"""Hyperband: successive halving from several lowest fidelities, so that none has to be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasturtium.strategies import ladder, nested, race
from nasturtium.strategies.brackets import Brackets
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Wait


@dataclass(slots=True)
class Hyperband:
    """Rounds of successive halving in turn: many networks from the lowest fidelity, down to few at the full one.

    With R = 81 epochs and eta = 3 a bracket begins with 81 networks of 1 epoch, 34 of 3, 15 of 9, 8 of 27, or 5 of 81,
    each about as expensive as 5 full trainings. With a strategy that learns it is what BOHB is for Bayesian
    optimisation: `Hyperband(strategy="bayesian")`, `Hyperband(strategy="evolution", options={"population": 20})`.

    Args:
        strategy: As in `SuccessiveHalving`.
        options: As there.
        fidelity: As there.
        minimum: As there.
        eta: As there.
        rungs: As there. Each bracket then has room for as many networks as make it cost as many full measurements as
            there are rungs.
        enough: As there.

    Notes:
        What is said there of learning, objectives, trials and budgets holds here too. While the trials of a bracket are
        under way the next bracket begins; after the last one the first comes again.

        Differs from the paper: the above; a bracket's networks come from any strategy. The number that starts is that
        of the paper's algorithm, `ceil(B/R eta^s / (s+1))`; the table of its journal version rounds otherwise.

    Reference:
        Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar (2018), "Hyperband: a novel bandit-based approach to
        hyperparameter optimization", JMLR 18, arXiv 1603.06560, algorithm 1; Falkner, Klein, Hutter (2018), "BOHB:
        robust and efficient hyperparameter optimization at scale", arXiv 1807.01774, section 4.1.
    """

    strategy: Any = "random"
    options: Mapping[str, Any] = field(default_factory=dict)
    fidelity: ladder.Kind = "epochs"
    minimum: float = 1 / 9
    eta: int = 3
    rungs: Sequence[float] | None = None
    enough: int | None = None
    _brackets: Brackets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        race.check_settings(
            self.strategy, self.options, self.fidelity, self.minimum, self.eta, self.rungs, self.enough
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return {
            "strategy": nested.describe(self.strategy), "options": dict(self.options), "fidelity": self.fidelity,
            "minimum": self.minimum, "eta": self.eta, "rungs": None if self.rungs is None else list(self.rungs),
            "enough": self.enough,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Hyperband:
        """Inverse of `to_dict`."""
        return cls(**nested.revive(data))

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        levels = ladder.shares(self.minimum, self.eta, self.rungs)
        plan = list(enumerate(ladder.bracket_sizes(levels, self.eta)))
        new, all_ = sum(sizes[0] for _, sizes in plan), sum(sum(sizes) for _, sizes in plan)
        runners = race.start(
            problem, strategy=self.strategy, options=self.options, fidelity=self.fidelity, levels=levels,
            enough=self.enough, share_new=new / all_,
        )  # fmt: skip
        self._brackets = Brackets(runners, plan, self.eta, overlap=True)

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
