"""Given networks as a run of their own: hand-designed ones, trained like the search's, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasturtium.space import Architecture
from nasturtium.trial.types import Exhausted, Problem, Proposal, Trial


@dataclass(slots=True)
class Listed:
    """A strategy that proposes given architectures, one after the other; `origin` is each one's name."""

    networks: Sequence[tuple[str, Architecture]]

    def setup(self, problem: Problem) -> None:
        """Nothing to learn from it: a reference need not meet the constraints."""

    def ask(self, number: int) -> Proposal | Exhausted:
        """The next one."""
        if number >= len(self.networks):
            return Exhausted("every given network is trained")
        name, architecture = self.networks[number]
        return Proposal(number=number, architecture=architecture, origin=name)

    def recall(self, proposal: Proposal) -> None:
        """Nothing to restore."""

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""
