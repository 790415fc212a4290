"""Fronts, ranks, crowding and hypervolume against brute force and closed forms."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture, Block
from nasturtium.trial import (
    Direction,
    Objective,
    Trial,
    crowding,
    dominates,
    hypervolume,
    params,
    pareto_front,
    pareto_trials,
    ranks,
)

DOWN: Direction = "minimize"
UP: Direction = "maximize"


@st.composite
def clouds(draw: st.DrawFn) -> tuple[list[tuple[float, ...]], list[Direction]]:
    dimensions = draw(st.integers(1, 4))
    value = st.integers(0, 5).map(float) | st.just(math.nan)
    points = draw(st.lists(st.tuples(*[value] * dimensions), max_size=12))
    return points, draw(st.lists(st.sampled_from([DOWN, UP]), min_size=dimensions, max_size=dimensions))


@given(clouds())
def test_front_is_brute_force(cloud: tuple[list[tuple[float, ...]], list[Direction]]) -> None:
    points, directions = cloud
    expected = [
        i
        for i, p in enumerate(points)
        if not any(map(math.isnan, p)) and not any(dominates(q, p, directions) for q in points)
    ]
    assert pareto_front(points, directions) == expected


@given(clouds())
def test_ranks_peel_fronts(cloud: tuple[list[tuple[float, ...]], list[Direction]]) -> None:
    points, directions = cloud
    found = ranks(points, directions)
    assert [i for i, rank in enumerate(found) if rank == 0] == pareto_front(points, directions) or all(
        any(map(math.isnan, p)) for p in points
    )
    for p, q in itertools.permutations(range(len(points)), 2):
        if dominates(points[p], points[q], directions):
            assert found[p] < found[q]


@given(clouds())
def test_hypervolume_counts_cells(cloud: tuple[list[tuple[float, ...]], list[Direction]]) -> None:
    """On an integer lattice the volume is the number of unit cells that some point dominates."""
    points, directions = cloud
    signs = [1 if d == DOWN else -1 for d in directions]
    reference = [5.0 if d == DOWN else 0.0 for d in directions]
    low = [0 if d == DOWN else -5 for d in directions]
    values = [[s * v for s, v in zip(signs, p, strict=True)] for p in points if not any(map(math.isnan, p))]
    cells = itertools.product(*[range(start, start + 5) for start in low])
    expected = sum(any(all(v <= c for v, c in zip(value, cell, strict=True)) for value in values) for cell in cells)
    assert hypervolume(points, reference, directions) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 10, 200])
def test_hypervolume_of_a_staircase(n: int) -> None:
    points = [(float(i), float(n - 1 - i)) for i in range(n)]
    random.Random(0).shuffle(points)
    assert hypervolume(points, (n, n), [DOWN, DOWN]) == n * (n + 1) / 2


@pytest.mark.parametrize("n", [3, 8])
def test_hypervolume_of_a_plane_of_cubes(n: int) -> None:
    """Points of x + y + z = n - 1 dominate the lattice cells with x + y + z >= n - 1 of a cube of side n."""
    points = [(x, y, n - 1 - x - y) for x in range(n) for y in range(n - x)]
    expected = sum(x + y + z >= n - 1 for x, y, z in itertools.product(range(n), repeat=3))
    assert hypervolume(points, (n, n, n), [DOWN] * 3) == expected


def test_hypervolume_of_a_front_of_100_in_three_dimensions_matches_two_orders() -> None:
    rng = random.Random(1)
    points = [(x := rng.random(), y := rng.random(), 2 - x - y) for _ in range(100)]
    turned = [(c, a, b) for a, b, c in points]
    one = hypervolume(points, (2, 2, 2), [DOWN] * 3)
    assert hypervolume(turned, (2, 2, 2), [DOWN] * 3) == pytest.approx(one, rel=1e-12)


def test_what_lies_beyond_the_reference_adds_nothing() -> None:
    assert hypervolume([], (1, 1), [DOWN, DOWN]) == 0
    assert hypervolume([(2, 0), (1, 0), (math.nan, 0)], (1, 1), [DOWN, DOWN]) == 0
    assert hypervolume([(0.9, 10)], (0, 20), [UP, DOWN]) == pytest.approx(9)
    with pytest.raises(InvalidInputError, match="finite"):
        hypervolume([(0, 0)], (math.inf, 1), [DOWN, DOWN])


def test_equal_points_stay_together() -> None:
    assert pareto_front([(1, 2), (1, 2), (2, 3), (2, 1)], [DOWN, DOWN]) == [0, 1, 3]
    assert not dominates((1, 2), (1, 2), [DOWN, DOWN])


def test_malformed_points_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="needs 2 values"):
        pareto_front([(1,)], [DOWN, UP])
    with pytest.raises(InvalidInputError, match="got 'up'"):
        dominates((1,), (2,), ["up"])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="no directions"):
        pareto_front([], [])


def test_crowding() -> None:
    assert crowding([(0, 4), (1, 2), (3, 1), (4, 0)]) == [math.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, math.inf]
    assert crowding([(1, 1), (1, 1)]) == [math.inf, math.inf]
    assert crowding([(1, math.nan)]) == [0]


class Nothing(Block):
    size: int


def test_front_of_trials_leaves_out_what_failed_or_breaks_a_limit() -> None:
    def trial(number: int, **metrics: float) -> Trial:
        state = "completed" if metrics else "failed"
        return Trial(number=number, architecture=Architecture.of(Nothing(number)), state=state, metrics=metrics)

    trials = [trial(3, params=50, accuracy=0.9), trial(0), trial(1, params=500, accuracy=0.99), trial(2, params=9)]
    trials.append(trial(4, params=40, accuracy=0.9))
    aims = (Objective(metric="accuracy", direction=UP), Objective(metric="params", direction=DOWN))
    assert [t.number for t in pareto_trials(trials, aims, [params <= 100])] == [4]
    assert [t.number for t in pareto_trials(trials, aims)] == [1, 4]
