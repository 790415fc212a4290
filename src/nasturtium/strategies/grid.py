"""Grid search: full factorial, or coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture, Space
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.preference import preferences, usable
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Wait

BARREN = 20_000
"""Points in a row that break a cheap constraint or a condition before the grid gives up."""


@dataclass(slots=True)
class Grid:
    """Go through the space in definition order (the last decision varies fastest), or coarse to fine.

    Coarse to fine: first a grid of `points` values of each decision, spread over its whole range; then, around each of
    the `best` networks, a box of one grid step to either side with half the step; and so on down to single steps. The
    cost is about `points^D (1 + best (L - 1))` instead of all architectures, for D decisions and L levels.

    Args:
        points: Values of each decision in the first grid, at least 2; None goes through the whole space.
        best: Networks around which the grid is narrowed.

    Notes:
        Decisions are taken as ordered, by the order in which their options are given. A decision that is inactive in a
        combination is left out, so a conditional space has fewer points than the product. With many decisions the
        budget ends inside the first grid: that is what grid search is. After `BARREN` points in a row that break a
        cheap constraint it gives up and says so.

    Reference:
        Bergstra, Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, section 2.
    """

    points: int | None = None
    best: int = 2
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _told: list[Trial] = field(init=False, repr=False, compare=False)
    _pending: set[int] = field(init=False, repr=False, compare=False)
    _steps: list[int] = field(init=False, repr=False, compare=False)
    _level: int = field(init=False, repr=False, compare=False, default=0)
    _barren: bool = field(init=False, repr=False, compare=False, default=False)
    _walk: Iterator[Architecture | None] = field(init=False, repr=False, compare=False)
    _ahead: Architecture | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.points is not None and (not isinstance(self.points, int) or self.points < 2):
            raise InvalidInputError(f"`points` must be an integer of 2 or more, or None, got {self.points!r}.")
        if not isinstance(self.best, int) or self.best < 1:
            raise InvalidInputError(f"`best` must be an integer of 1 or more, got {self.best!r}.")

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem = problem
        self._candidates = Candidates(problem)
        self._told, self._pending, self._level, self._ahead = [], set(), 0, None
        self._barren = False
        counts = [d.choice.count for d in problem.space.decisions]
        if self.points is None:
            self._walk = problem.space.enumerate()
        else:
            self._steps = [max(1, -(-(n - 1) // (self.points - 1))) for n in counts]
            ranges = [sorted({*range(0, n, step), n - 1}) for n, step in zip(counts, self._steps, strict=True)]
            self._walk = self._box(ranges)

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose the next point of the grid.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        while True:
            if self._ahead is None or not self._candidates.admits(self._ahead):
                self._ahead = self._next()
            if self._ahead is not None:
                proposal = Proposal(number=number, architecture=self._ahead, origin=f"grid {self._level}")
                self.recall(proposal)
                return proposal
            if self._barren:
                self._candidates.refuse_if_infeasible()
                return Exhausted(
                    f"{BARREN:,} points of the grid in a row break a constraint: the grid begins where networks do not "
                    "fit; give `points` for a coarser one, or take another strategy"
                )
            if self._pending:
                return Wait()
            if not self._narrow():
                break
        self._candidates.refuse_if_infeasible()
        return Exhausted("every point of the grid was proposed")

    def _next(self) -> Architecture | None:
        """The next point that may be proposed; None at the end, or after too many that break a constraint."""
        broken = 0
        for architecture in self._walk:
            if architecture is None or self._candidates.violation(architecture):
                broken += 1
                if broken >= BARREN:
                    self._barren = True
                    return None
            else:
                broken = 0
                if self._candidates.is_new(architecture):
                    return architecture
        return None

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        level = int(proposal.origin.rpartition(" ")[2])
        while self._level < level and self._narrow():
            pass
        self._candidates.note(proposal)
        self._pending.add(proposal.number)

    def tell(self, trial: Trial) -> None:
        """Learn where the best points lie."""
        self._pending.discard(trial.number)
        if usable(trial, self._problem.objectives):
            self._told.append(trial)

    def _narrow(self) -> bool:
        """Begin the next, finer grid around the best points; False where there is none."""
        if self.points is None or not self._told or all(step == 1 for step in self._steps):
            return False
        order = sorted(
            zip(preferences(self._problem, self._told), self._told, strict=True), key=lambda p: (p[0], p[1].number)
        )
        centres = [trial.architecture for _, trial in order[: self.best]]
        steps, self._steps = self._steps, [max(1, step // 2) for step in self._steps]
        self._level += 1
        boxes = [self._around(centre, steps) for centre in centres]
        self._walk = (a for ranges in boxes for a in self._box(ranges))
        return True

    def _around(self, centre: Architecture, reach: Sequence[int]) -> list[list[int]]:
        ranges = []
        for decision, far, step in zip(self._problem.space.decisions, reach, self._steps, strict=True):
            index = centre.decisions.get(decision.name, 0)
            low, high = max(0, index - far), min(decision.choice.count - 1, index + far)
            ranges.append(sorted({*range(index, low - 1, -step), *range(index, high + 1, step)}))
        return ranges

    def _box(self, ranges: Sequence[Sequence[int]]) -> Iterator[Architecture | None]:
        """Every architecture whose decisions are in the ranges, once; None for one that a condition refuses.

        Counts like an odometer, over active decisions only: in the order in which they are met, a decision depends on
        earlier ones alone, so the later ones begin anew when one moves on.
        """
        space = self._problem.space
        free = Space(space.block) if space.conditions else space
        values = {d.name: list(reach) for d, reach in zip(space.decisions, ranges, strict=True)}
        place = dict.fromkeys(values, 0)
        while True:
            indices = {name: values[name][at] for name, at in place.items()}
            shape = free.settle(indices)
            yield shape if free is space else space.settle(indices)
            for name in reversed(list(shape.decisions) if shape else ()):
                if place[name] + 1 < len(values[name]):
                    place[name] += 1
                    break
                place[name] = 0
            else:
                return
