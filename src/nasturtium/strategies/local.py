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

NEIGHBOUR, RESTART = "neighbour", "restart"


@dataclass(slots=True)
class LocalSearch:
    """Evaluate the neighbours of the best network of a climb; move to the first that is better.

    A neighbour that turns out as good as the network that is stood on is moved to as well, once: so plateaus are
    walked. When all neighbours are known, the search moves to the best of them if it is better, though it was met in
    another climb, and else starts a new climb from a random network; those known to be only as good are not moved to.
    So a climb ends at a local optimum, which may lie on a plateau.

    Args:
        initial: Random networks before the first climb.
        near: Neighbours are nearest values only (a depth by one, the next width).

    Notes:
        Differs from the paper: the first better neighbour is taken, not the best of all; while a climb's last
        neighbours are still being trained the next climb begins; plateaus are walked, over networks that the climb
        itself measures. Several objectives are compared one after the other (violation of constraints, first
        objective, second …), so a single-objective climb it is.

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
    _known: dict[str, Trial] = field(init=False, repr=False, compare=False)
    _rings: dict[int, list[Architecture]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.initial, bool) or not isinstance(self.initial, int) or self.initial < 1:
            raise InvalidInputError(f"`initial` must be an integer of 1 or more, got {self.initial!r}.")

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem = problem
        self._candidates = Candidates(problem)
        self._climb, self._climb_of = 0, {}
        self._best, self._stood = None, set()
        self._known, self._rings = {}, {}

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose the next neighbour, or the start of a climb.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Random(f"{self._problem.seed}/{number}")
        here = self._best if number >= self.initial else None
        while here is not None:
            neighbour = self._neighbour(here)
            if neighbour is not None:
                return self._propose(number, neighbour, (here.number,), NEIGHBOUR)
            here = self._better(here)
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
            self._rings.clear()
        elif proposal.origin == NEIGHBOUR and self._best is not None and self._best.number not in proposal.parents[:1]:
            # It moved to a known network on its way; another's proposal may name none, or one that is not known.
            parent = next((t for t in self._known.values() if t.number in proposal.parents[:1]), None)
            if parent is not None:
                self._best = parent
                self._stood.add(parent.number)
        self._candidates.note(proposal)
        self._climb_of[proposal.number] = self._climb

    def tell(self, trial: Trial) -> None:
        """Move there if it belongs to this climb and is better, or as good and not yet stood on."""
        if not usable(trial, self._problem.objectives):
            return
        self._known[self._problem.key(trial.architecture)] = trial
        if self._climb_of.get(trial.number) != self._climb:
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
        """The next neighbour that may be proposed."""
        return next((a for a in self._ring(trial) if self._candidates.admits(a)), None)

    def _better(self, trial: Trial) -> Trial | None:
        """The best of the neighbours whose outcome is known, if it is better."""
        known = [self._known.get(self._problem.key(a)) for a in self._ring(trial)]
        best = min((t for t in known if t is not None), key=self._rank, default=trial)
        return best if self._rank(best)[:-1] < self._rank(trial)[:-1] else None

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        return (*lexicographic(self._problem, trial), trial.number)

    def _ring(self, trial: Trial) -> list[Architecture]:
        """The neighbours, in an order drawn once for each network stood on."""
        if trial.number not in self._rings:
            ring = self._problem.space.neighbours(trial.architecture, near=self.near)
            Random(f"{self._problem.seed}/neighbours/{trial.number}").shuffle(ring)
            self._rings[trial.number] = ring
        return self._rings[trial.number]
