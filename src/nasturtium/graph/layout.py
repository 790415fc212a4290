"""Layered layout of a directed acyclic graph, from left to right: which column, which place in it, which way round.

The steps are those of Sugiyama et al.: columns by longest path; lanes where a connection crosses a column, one for all
readers of a part; order in the columns by barycentres, the best of several sweeps by number of crossings; heights by
the mean of the neighbours, kept apart (least squares under order, by pooling adjacent violators).

Reference:
    Sugiyama, Tagawa, Toda (1981), "Methods for Visual Understanding of Hierarchical System Structures", IEEE Trans.
    Systems, Man, and Cybernetics 11(2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SWEEPS = 12


@dataclass(slots=True)
class Spot:
    """A part, or a lane of a connection, with its place. `x` and `y` are of the middle."""

    width: float
    height: float
    sources: list[int]
    """Spots that it reads."""
    is_lane: bool = False
    layer: int = 0
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Layout:
    """Places of all spots: the given ones first, then lanes."""

    spots: list[Spot]
    width: float
    height: float
    columns: list[list[int]] = field(default_factory=list)


def layered(spots: list[Spot], *, gap: float = 34.0, apart: float = 10.0, last: Sequence[int] = ()) -> Layout:
    """Place spots whose sources come before them.

    Args:
        spots: Their `width`, `height` and `sources` are read; lanes are added.
        gap: Space between columns.
        apart: Space between spots of a column.
        last: Spots that stand in the last column.

    Returns:
        The layout; its upper left corner is (0, 0).
    """
    _set_layers(spots, last)
    _add_lanes(spots)
    columns = _ordered(spots)
    _set_heights(spots, columns, apart)
    x = 0.0
    for number, column in enumerate(columns):
        wide = max((spots[n].width for n in column), default=0.0)
        for n in column:
            spots[n].x = x + wide / 2
            spots[n].width = wide if spots[n].is_lane else spots[n].width
        x += wide + (gap if number < len(columns) - 1 else 0.0)
    top = min((s.y - s.height / 2 for s in spots), default=0.0)
    for spot in spots:
        spot.y -= top
    return Layout(spots, x, max((s.y + s.height / 2 for s in spots), default=0.0), columns)


def _set_layers(spots: list[Spot], last: Sequence[int]) -> None:
    """Longest path; what reads one part and is read stands right before its first reader, beside its companions."""
    for spot in spots:
        spot.layer = 1 + max((spots[s].layer for s in spot.sources), default=-1)
    end = max((s.layer for s in spots), default=0)
    for n in last:
        spots[n].layer = end
    readers = _readers(spots)
    for n in range(len(spots) - 1, -1, -1):
        if len(set(spots[n].sources)) == 1 and readers[n]:
            spots[n].layer = min(spots[r].layer for r in readers[n]) - 1


def _readers(spots: list[Spot]) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in spots]
    for n, spot in enumerate(spots):
        for s in dict.fromkeys(spot.sources):
            readers[s].append(n)
    return readers


def _add_lanes(spots: list[Spot]) -> None:
    """A connection over several columns runs on a lane in each column between, which all readers share."""
    lanes: dict[tuple[int, int], int] = {}
    for n in range(len(spots)):
        spot = spots[n]
        for place, source in enumerate(spot.sources):
            before = source
            for layer in range(spots[source].layer + 1, spot.layer):
                lane = lanes.get((source, layer))
                if lane is None:
                    lane = lanes[source, layer] = len(spots)
                    spots.append(Spot(0.0, 6.0, [before], is_lane=True, layer=layer))
                before = lane
            spot.sources[place] = before


def _ordered(spots: list[Spot]) -> list[list[int]]:
    """Spots of each column from top to bottom, with few crossings."""
    columns: list[list[int]] = [[] for _ in range(1 + max((s.layer for s in spots), default=0))]
    for n, spot in enumerate(spots):
        columns[spot.layer].append(n)
    readers = _readers(spots)
    best, fewest = [list(c) for c in columns], _crossings(spots, columns)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in columns[1:] if forward else columns[-2::-1]:
            near = {n: spots[n].sources if forward else readers[n] for n in column}
            _sort_by_neighbours(column, near, columns, spots)
        crossings = _crossings(spots, columns)
        if crossings < fewest:
            best, fewest = [list(c) for c in columns], crossings
    return best


def _sort_by_neighbours(
    column: list[int], near: dict[int, list[int]], columns: list[list[int]], spots: list[Spot]
) -> None:
    layers = {spots[m].layer for ns in near.values() for m in ns}
    place = {m: i / max(len(columns[k]), 1) for k in layers for i, m in enumerate(columns[k])}
    own = {n: i / len(column) for i, n in enumerate(column)}
    mean = {n: sum(place[m] for m in near[n]) / len(near[n]) if near[n] else own[n] for n in column}
    column.sort(key=lambda n: (round(mean[n], 9), own[n]))


def _crossings(spots: list[Spot], columns: list[list[int]]) -> int:
    """Pairs of connections between neighbouring columns that cross."""
    total = 0
    place = {n: i for column in columns for i, n in enumerate(column)}
    for column in columns[1:]:
        ends = sorted((place[s], place[n]) for n in column for s in dict.fromkeys(spots[n].sources))
        total += sum(a[0] < b[0] and a[1] > b[1] for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _set_heights(spots: list[Spot], columns: list[list[int]], apart: float) -> None:
    """Each spot near the mean of its neighbours; order and distances in the column are kept."""
    for column in columns:
        y = 0.0
        for n in column:
            spots[n].y = y + spots[n].height / 2
            y += spots[n].height + apart
        for n in column:
            spots[n].y -= y / 2
    readers = _readers(spots)
    for sweep in range(2 * SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wishes, weights = [], []
            for n in column:
                near = spots[n].sources + readers[n]
                pulls = [(spots[m].y, 4.0 if spots[n].is_lane and spots[m].is_lane else 1.0) for m in near]
                weight = sum(w for _, w in pulls)
                wishes.append(sum(y * w for y, w in pulls) / weight if pulls else spots[n].y)
                weights.append(weight or 1.0)
            _keep_apart(spots, column, wishes, weights, apart)


def _keep_apart(spots: list[Spot], column: list[int], wishes: list[float], weights: list[float], apart: float) -> None:
    """Least squares of the distances to the wishes, under the order and the space between."""
    offsets, y = [], 0.0
    for place, n in enumerate(column):
        if place:
            before = spots[column[place - 1]]
            near = apart * (0.5 if spots[n].is_lane and before.is_lane else 1.0)
            y += before.height / 2 + near + spots[n].height / 2
        offsets.append(y)
    blocks: list[list[float]] = []  # mean, weight, members
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        blocks.append([wish - offset, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, total, members = blocks.pop()
            first = blocks[-1]
            first[0] = (first[0] * first[1] + mean * total) / (first[1] + total)
            first[1] += total
            first[2] += members
    place = 0
    for mean, _, members in blocks:
        for _ in range(int(members)):
            spots[column[place]].y = mean + offsets[place]
            place += 1
