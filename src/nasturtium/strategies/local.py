"""Local search: climb from neighbour to neighbour, and start again at the top of each hill."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.preference import lexicographic, usable
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

RESTART = "restart"


@dataclass(slots=True)
class LocalSearch:
    """Evaluate the neighbours of the best network of a climb; move to the first that is better.

    When all neighbours are known and none is better, the search stays on the plateau if an equally good one is there,
    and else starts a new climb from a random network.

    Args:
        initial: Random networks before the first climb.
        near: Neighbours are nearest values only (a depth by one, the next width).

    Notes:
        Differs from the paper: the first better neighbour is taken, not the best of all; while a climb's last
        neighbours are still being trained the next climb begins; plateaus are walked. Several objectives are compared
        one after the other (violation of constraints, first objective, second …), so a single-objective climb it is.

    Reference:
        White, Nolen, Savani (2020), "Exploring the loss landscape in neural architecture search", arXiv 2005.02960,
        section 3.
    """

    initial: int = 10
    near: bool = False
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _climb: int = field(init=False, repr=False, compare=False, default=0)
    _climb_of: dict[int, int] = field(init=False, repr=False, compare=False)
    _best: Trial | None = field(init=False, repr=False, compare=False, default=None)
    _stood: set[int] = field(init=False, repr=False, compare=False)
    _ring: tuple[int, list[Architecture]] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.initial, bool) or not isinstance(self.initial, int) or self.initial < 1:
            raise InvalidInputError(f"`initial` must be an integer of 1 or more, got {self.initial!r}.")

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem = problem
        self._candidates = Candidates(problem)
        self._climb, self._climb_of = 0, {}
        self._best, self._ring, self._stood = None, None, set()

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose the next neighbour, or the start of a climb.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Random(f"{self._problem.seed}/{number}")
        if number >= self.initial and self._best is not None:
            neighbour = self._neighbour(self._best)
            if neighbour is not None:
                return self._propose(number, neighbour, (self._best.number,), "neighbour")
        drawn = self._candidates.uniform(rng)
        if isinstance(drawn, Exhausted):
            return drawn
        starts_climb = number >= self.initial and self._best is not None
        return self._propose(number, drawn, (), RESTART if starts_climb else "random")

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed, and in which climb."""
        if proposal.origin == RESTART:
            self._climb += 1
            self._best = None
        self._candidates.note(proposal)
        self._climb_of[proposal.number] = self._climb

    def tell(self, trial: Trial) -> None:
        """Move there if it belongs to this climb and is better, or as good and not yet stood on."""
        if self._climb_of.get(trial.number) != self._climb or not usable(trial, self._problem.objectives):
            return
        if self._best is not None:
            new, old = lexicographic(self._problem, trial), lexicographic(self._problem, self._best)
            if new > old or (new == old and trial.number in self._stood):
                return
        self._best = trial
        self._stood.add(trial.number)

    def _propose(self, number: int, architecture: Architecture, parents: tuple[int, ...], origin: str) -> Proposal:
        proposal = Proposal(number=number, architecture=architecture, parents=parents, origin=origin)
        self.recall(proposal)
        return proposal

    def _neighbour(self, trial: Trial) -> Architecture | None:
        """The next neighbour that may be proposed, in an order drawn once for each network stood on."""
        if self._ring is None or self._ring[0] != trial.number:
            ring = self._problem.space.neighbours(trial.architecture, near=self.near)
            Random(f"{self._problem.seed}/neighbours/{trial.number}").shuffle(ring)
            self._ring = (trial.number, ring)
        return next((a for a in self._ring[1] if self._candidates.admits(a)), None)
