"""Grid search: full factorial, or coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Decision, Space
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.kinds import numbers_of
from nasturtium.strategies.preference import preferences, usable
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal, Wait

BARREN = 20_000
"""Points in a row that break a cheap constraint or a condition before the grid gives up."""


@dataclass(slots=True)
class Grid:
    """Go through the space, or the given axes, in definition order (the last varies fastest), or coarse to fine.

    Coarse to fine: first a grid of `points` values of each decision, spread over its whole range; then, around each of
    the `best` networks, a box of one grid step to either side with half the step; and so on down to single steps. The
    cost is about `points^D (1 + best (L - 1))` instead of all architectures, for D decisions and L levels.

    Args:
        points: Values of each decision in the first grid, at least 2; None goes through all of them. On axes: a wide
            range with a large step, then narrowed.
        best: Networks around which the grid is narrowed.
        axes: Values to try by decision, in order, for example
            `{"width": [0.5, 1.0], "resolution": range(48, 225, 16)}`; a name may be a pattern ("*.kernel") for several
            decisions. Other decisions keep all their values; a single value fixes a decision. None takes all values of
            all decisions.

    Notes:
        Decisions are taken as ordered, by the order in which their options are given. A decision that is inactive in a
        combination is left out, so a conditional space has fewer points than the product; in a space that is a table,
        the points are the rows whose decisions are all of the grid. With many decisions the
        budget ends inside the first grid: that is what grid search is. After `BARREN` points in a row that break a
        cheap constraint it gives up and says so.

    Reference:
        Bergstra, Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, section 2.
    """

    points: int | None = None
    best: int = 2
    axes: Mapping[str, Sequence[Any]] | None = None
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _values: list[list[int]] = field(init=False, repr=False, compare=False)
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
        if self.axes is not None:
            self.axes = {name: axis_values(name, values) for name, values in self.axes.items()}

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            UnknownNameError: an axis names no decision.
            InvalidInputError: a value is not among a decision's, or two axes name one decision.
        """
        self._problem = problem
        self._candidates = Candidates(problem)
        self._told, self._pending, self._level, self._ahead = [], set(), 0, None
        self._barren = False
        self._values = axis_indices(problem.space, self.axes or {})
        if self.points is None:
            self._walk = problem.space.enumerate() if self.axes is None else self._box(self._values)
        else:
            parts = self.points - 1
            self._steps = [max(1, -(-(len(axis) - 1) // parts)) for axis in self._values]
            self._walk = self._box(
                [
                    [axis[place] for place in sorted({*range(0, len(axis), step), len(axis) - 1})]
                    for axis, step in zip(self._values, self._steps, strict=True)
                ]
            )

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose the next point of the grid.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        while True:
            if not self._barren and (self._ahead is None or not self._candidates.admits(self._ahead)):
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
        name, _, stage = proposal.origin.rpartition(" ")
        level = int(stage) if name == "grid" and stage.isdigit() else 0  # another's says nothing of the grid
        while self._level < level and self._narrow():
            pass
        self._candidates.note(proposal)
        self._pending.add(proposal.number)

    def tell(self, trial: Trial) -> None:
        """Learn where the best points lie."""
        self._pending.discard(trial.number)
        if usable(trial, self._problem.objectives) and self._is_on_axes(trial.architecture):
            self._told.append(trial)

    def _is_on_axes(self, architecture: Architecture) -> bool:
        """Whether the grid can be narrowed around it: another's proposal may lie beside the axes."""
        chosen = architecture.decisions
        return all(
            chosen[decision.name] in axis
            for decision, axis in zip(self._problem.space.decisions, self._values, strict=True)
            if decision.name in chosen
        )

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
        self._barren = False
        boxes = [self._around(centre, steps) for centre in centres]
        self._walk = (a for ranges in boxes for a in self._box(ranges))
        return True

    def _around(self, centre: Architecture, reach: Sequence[int]) -> list[list[int]]:
        ranges = []
        for decision, axis, far, step in zip(
            self._problem.space.decisions, self._values, reach, self._steps, strict=True
        ):
            place = axis.index(centre.decisions.get(decision.name, axis[0]))
            low, high = max(0, place - far), min(len(axis) - 1, place + far)
            places = sorted({*range(place, low - 1, -step), *range(place, high + 1, step)})
            ranges.append([axis[at] for at in places])
        return ranges

    def _box(self, ranges: Sequence[Sequence[int]]) -> Iterator[Architecture | None]:
        """Every architecture whose decisions are in the ranges, once; None for one that a condition refuses.

        Counts like an odometer, over active decisions only: in the order in which they are met, a decision depends on
        earlier ones alone, so the later ones begin anew when one moves on.
        """
        space = self._problem.space
        if space.is_table:
            yield from _rows_within(space, ranges)
            return
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


def _rows_within(space: Space, ranges: Sequence[Sequence[int]]) -> list[Architecture]:
    """The rows of a table whose active decisions are in the ranges, in the order in which an odometer meets them."""
    places = {d.name: {index: at for at, index in enumerate(r)} for d, r in zip(space.decisions, ranges, strict=True)}
    found = []
    for row in space.enumerate():
        order = [places[name].get(index) for name, index in row.decisions.items()]
        if None not in order:
            found.append((order, row))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def axis_values(name: str, values: object) -> list[Any]:
    """The values of an axis as a list.

    Raises:
        InvalidInputError: there are none, or no sequence of values was given.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InvalidInputError(f"The axis {name!r} must be a list or a range of values, not empty, got {values!r}.")
    return list(values)


def axis_indices(space: Space, axes: Mapping[str, Sequence[object]]) -> list[list[int]]:
    """For each decision the indices of the values to try: those of its axis, else all.

    Raises:
        UnknownNameError: an axis names no decision.
        InvalidInputError: a value is not among a decision's, or is given twice, or two axes name one decision.
    """
    found: dict[str, tuple[str, list[int]]] = {}
    for name, values in axes.items():
        members = [d for d in space.decisions if fnmatchcase(d.name, name)]
        if not members:
            raise UnknownNameError("decision", name, [d.name for d in space.decisions])
        for decision in members:
            if decision.name in found:
                other = found[decision.name][0]
                raise InvalidInputError(f"The axes {other!r} and {name!r} both give values to {decision.name!r}.")
            found[decision.name] = name, [_index(decision, value) for value in values]
            if len(set(found[decision.name][1])) < len(values):
                raise InvalidInputError(f"The axis {name!r} gives a value of {decision.name!r} twice: {values!r}.")
    return [found[d.name][1] if d.name in found else list(range(d.count)) for d in space.decisions]


def _index(decision: Decision, value: object) -> int:
    try:
        return decision.choice.index_of(value)
    except InvalidInputError:
        pass
    labels = decision.labels
    if isinstance(value, str) and labels.count(value) == 1:
        return labels.index(value)
    numbers = numbers_of(decision)
    if numbers and isinstance(value, (int, float)):
        near = min(range(decision.count), key=lambda i: abs(numbers[i] - value))
        hint = f" The nearest is {decision.label(near)}."
    else:
        hint = ""
    known = ", ".join(labels[:20]) + (" …" if len(labels) > 20 else "")
    raise InvalidInputError(f"{decision.name!r} has no value {value!r}. It has {known}.{hint}")
