"""Comparing outcomes under several objectives: dominance, fronts, ranks, crowding, hypervolume.

A point is a sequence of numbers, one for each objective; `directions` says which way each is better.
A point that holds a NaN has no place: it dominates nothing, is on no front and adds no volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nasturtium.errors import InvalidInputError
from nasturtium.trial.objectives import violation
from nasturtium.trial.types import Constraint, Direction, Objective, Trial

Point = Sequence[float]


def dominates(a: Point, b: Point, directions: Sequence[Direction]) -> bool:
    """Whether `a` is at least as good as `b` in every objective and better in one."""
    p, q = _minimized([a, b], directions)
    return not _has_nan(p) and not _has_nan(q) and _dominates(p, q)


def pareto_front(points: Iterable[Point], directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the points that no other dominates, in the order given.

    Equal points do not dominate each other: all of them are on the front or none. Exact; O(n log n) for two
    objectives, O(n * front) otherwise.

    Args:
        points: `(point, objective)`.
        directions: One for each objective.
    """
    values = _minimized(points, directions)
    usable = [i for i, value in enumerate(values) if not _has_nan(value)]
    usable.sort(key=lambda i: values[i])
    front: list[int] = []
    if len(directions) <= 2:
        lowest = math.inf
        kept: tuple[float, ...] | None = None
        for i in usable:
            if values[i] == kept or kept is None or values[i][-1] < lowest:
                front.append(i)
                kept, lowest = values[i], values[i][-1]
        if len(directions) == 1:
            front = [i for i in front if values[i] == values[front[0]]]
    else:
        for i in usable:  # in lexicographic order a point is dominated only by an earlier one
            if not any(_dominates(values[j], values[i]) for j in front):
                front.append(i)
    return sorted(front)


def pareto_trials(
    trials: Iterable[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> tuple[Trial, ...]:
    """Return the completed trials that meet the constraints and that no other such trial dominates, by number."""
    usable = [t for t in trials if t.state == "completed" and violation(t.metrics, constraints) == 0]
    usable.sort(key=lambda trial: trial.number)
    points = [point_of(trial, objectives) for trial in usable]
    return tuple(usable[i] for i in pareto_front(points, [o.direction for o in objectives]))


def point_of(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the trial's values of the objectives; NaN for what it does not have."""
    return tuple(float(trial.metrics.get(objective.metric, math.nan)) for objective in objectives)


def ranks(points: Iterable[Point], directions: Sequence[Direction]) -> list[int]:
    """Return each point's front number: 0 for the Pareto front, 1 for the front once that is removed, and so on.

    Points with NaN get the number of fronts, behind all others. O(n * fronts * front).

    Reference:
        Deb et al. (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III.A.
    """
    values = list(points)
    result = [-1] * len(values)
    left = [i for i, value in enumerate(values) if not _has_nan(value)]
    number = 0
    while left:
        front = {left[k] for k in pareto_front([values[i] for i in left], directions)}
        for i in front:
            result[i] = number
        left = [i for i in left if i not in front]
        number += 1
    return [number if rank < 0 else rank for rank in result]


def crowding(points: Iterable[Point]) -> list[float]:
    """Return each point's crowding distance among the points given: large where it stands alone.

    Extreme points get infinity. Equal points count once, and share the distance, so that copies of an extreme do not
    crowd out the rest. Directions do not matter.

    Reference:
        Deb et al. (2002), section III.B. Differs from the paper: copies share a distance; an objective in which all
        are equal adds nothing.
    """
    given = [tuple(map(float, point)) for point in points]
    distinct = sorted({point for point in given if not _has_nan(point)})
    distance = dict.fromkeys(distinct, 0.0)
    for k in range(len(distinct[0]) if distinct else 0):
        order = sorted(distinct, key=lambda point: point[k])
        span = order[-1][k] - order[0][k]
        if span <= 0:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, point, after in zip(order, order[1:], order[2:], strict=False):
            distance[point] += (after[k] - before[k]) / span
    if len(distinct) == 1:
        distance[distinct[0]] = math.inf
    return [distance.get(point, 0.0) for point in given]


def hypervolume(points: Iterable[Point], reference: Point, directions: Sequence[Direction]) -> float:
    """Volume that the points dominate, bounded by a reference point; exact in any number of objectives.

    O(n log n) for two objectives. For more, the recursion of While et al.: each point's own box less what the later
    points already cover; exponential in the worst case, fast for fronts of some hundred points.

    Args:
        points: `(point, objective)`, any order; duplicates, dominated points and points with NaN add nothing.
        reference: `(objective,)`. Points that are not better than it in every objective add nothing.
        directions: One for each objective.

    Returns:
        Volume in the product of the objectives' units; 0.0 without points.

    Raises:
        InvalidInputError: The reference is not finite, or lengths differ.

    Reference:
        While, Bradstreet, Barone (2012), "A fast way of calculating exact hypervolumes", IEEE TEC 16(1). Differs from
        the paper: ends in the two-dimensional sweep, and takes the last objective as the slicing order.
    """
    [corner] = _minimized([reference], directions)
    if not all(map(math.isfinite, corner)):
        raise InvalidInputError(f"The reference point must be finite, got {tuple(reference)!r}.")
    shifted = [
        tuple(r - v for v, r in zip(value, corner, strict=True))
        for value in _minimized(points, directions)
        if all(v < r for v, r in zip(value, corner, strict=True))
    ]
    return _volume(_maximal(shifted))


def hypervolume_history(
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    reference: Point,
    constraints: Sequence[Constraint] = (),
) -> list[float]:
    """Hypervolume of the front of the first trial, the first two, and so on, in the order given.

    Args:
        trials: Failed ones, those that break a constraint and those with NaN add nothing.
        objectives: At least one.
        reference: Values of the objectives, worse than what counts; see `hypervolume`.
        constraints: Which a trial must meet.

    Returns:
        One volume for each trial; it never falls.
    """
    directions = [o.direction for o in objectives]
    front: list[Point] = []
    history: list[float] = []
    volume = hypervolume([], reference, directions)
    for trial in trials:
        point = point_of(trial, objectives)
        counts = trial.state == "completed" and not _has_nan(point) and violation(trial.metrics, constraints) == 0
        if counts and not any(p == point or dominates(p, point, directions) for p in front):
            front = [p for p in front if not dominates(point, p, directions)] + [point]
            volume = hypervolume(front, reference, directions)
        history.append(volume)
    return history


def _volume(boxes: list[tuple[float, ...]]) -> float:
    """Volume of the union of boxes [0, b], none inside another."""
    if not boxes:
        return 0.0
    dimensions = len(boxes[0])
    if dimensions == 1:
        return max(box[0] for box in boxes)
    if dimensions == 2:
        total = height = 0.0
        for x, y in sorted(boxes, reverse=True):
            if y > height:
                total += x * (y - height)
                height = y
        return total
    boxes = sorted(boxes, key=lambda box: box[-1])
    total = 0.0
    for i, box in enumerate(boxes):
        # Later boxes reach at least as far in the last objective, so the overlap is a problem of one dimension less.
        overlaps = _maximal([tuple(map(min, box[:-1], other[:-1])) for other in boxes[i + 1 :]])
        total += box[-1] * (math.prod(box[:-1]) - _volume(overlaps))
    return total


def _maximal(boxes: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
    kept: list[tuple[float, ...]] = []
    for box in sorted(set(boxes), reverse=True):
        if not any(all(k >= b for k, b in zip(other, box, strict=True)) for other in kept):
            kept.append(box)
    return kept


def _dominates(p: tuple[float, ...], q: tuple[float, ...]) -> bool:
    return p != q and all(x <= y for x, y in zip(p, q, strict=True))


def _minimized(points: Iterable[Point], directions: Sequence[Direction]) -> list[tuple[float, ...]]:
    signs = []
    for direction in directions:
        if direction not in ("maximize", "minimize"):
            raise InvalidInputError(f"A direction is 'maximize' or 'minimize', got {direction!r}.")
        signs.append(1.0 if direction == "minimize" else -1.0)
    if not signs:
        raise InvalidInputError("At least one objective is needed to compare points, got no directions.")
    values = []
    for point in points:
        if len(point) != len(signs):
            raise InvalidInputError(f"A point needs {len(signs)} values, one for each direction, got {tuple(point)!r}.")
        values.append(tuple(sign * value for sign, value in zip(signs, point, strict=True)))
    return values


def _has_nan(point: Point) -> bool:
    return any(map(math.isnan, point))
