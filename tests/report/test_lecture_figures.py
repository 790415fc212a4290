"""Figures of the lecture: what they show is what was measured and proposed."""

from __future__ import annotations

from math import comb, sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any

import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.report.lecture_figures import (
    constraint_map_figure,
    grid_against_random,
    grid_against_random_figure,
    response,
)
from nasturtium.space import Block, Space, int_range
from nasturtium.strategies.feasibility import constraint_map
from nasturtium.strategies.random_search import chance_of_top, expected_best


class Scaled(Block):
    width: Any
    resolution: Any

    def forward(self, x: Any) -> Any:
        return x


def the_map() -> Any:
    """MACs grow with width and with resolution squared: 1, 4, 9 times 1, 2."""
    space = Space(Scaled(int_range(1, 2, name="width"), int_range(1, 3, name="resolution")))
    return constraint_map(
        space.where(lambda a: a.decisions != {"width": 1, "resolution": 2}),
        {"width": (1, 2), "resolution": (1, 2, 3)},
        ["macs <= 4"],
        lambda a: {"macs": (1 + a.decisions["width"]) * (1 + a.decisions["resolution"]) ** 2},
    )


def test_constraint_map_figure() -> None:
    """Met: (1, 1), (2, 1), (1, 2); missed: (1, 3) and (2, 2); (2, 3) is not of the space."""
    met, missed, edge = constraint_map_figure(the_map()).data
    assert set(zip(met.y, met.x)) == {("1", "1"), ("2", "1"), ("1", "2")}
    assert set(zip(missed.y, missed.x)) == {("1", "3"), ("2", "2")}
    assert list(zip(edge.y, edge.x)) == [("1", "2"), ("2", "1")]
    assert set(missed.text) == {"9", "8"}
    with pytest.raises(InvalidInputError, match="no metric 'params'"):
        constraint_map_figure(the_map(), "params")


def test_grid_tries_three_values_where_random_tries_nine() -> None:
    """Of 60 values nine random points of the square hit 60 (1 - C(3540, 9) / C(3600, 9)) distinct ones; the grid 3."""
    found = grid_against_random(3, seeds=100)
    assert set(found.distinct["grid"]) == {3}
    expected = 60 * (1 - comb(3540, 9) / comb(3600, 9))
    error = stdev(found.distinct["random"]) / sqrt(100)
    assert abs(fmean(found.distinct["random"]) - expected) < 4 * error
    assert {len(places) for places in found.shown.values()} == {9}
    assert found.shown["grid"][0] == (10, 10)
    better = fmean(found.best["random"]) - fmean(found.best["grid"])
    spread = sqrt(sum(stdev(found.best[n]) ** 2 / 100 for n in ("grid", "random")))
    assert better > 3 * spread
    lines = str(found).splitlines()
    assert "9 trials" in lines[0]
    assert lines[2].split()[:4] == ["grid", "3.00", "±", "0.00"]


def test_grid_against_random_figure() -> None:
    found = grid_against_random(3, seeds=2)
    figure = grid_against_random_figure(found)
    assert [len(trace.x) for trace in figure.data] == [60, 9, 9] * 2
    assert len(set(figure.data[2].x)) == 3
    assert "grid: 3 values" in figure.layout.annotations[0].text
    with pytest.raises(InvalidInputError, match="`side`"):
        grid_against_random(1)


def test_response_by_hand() -> None:
    assert response((0, 0), 0.0) == pytest.approx(1)
    assert response((59, 0), 0.0) == pytest.approx(0.05 / 1.05)


def test_chance_of_the_top() -> None:
    """METHODS.md 10: N = 60, q = 0.05 gives 0.9539, N = 59 gives 0.9515; without replacement by hand: of 4, best 2."""
    assert round(chance_of_top(60, 0.05), 4) == 0.9539
    assert round(chance_of_top(59, 0.05), 4) == 0.9515
    assert chance_of_top(2, 0.5, size=4) == pytest.approx(1 - 1 / 6)
    assert chance_of_top(3, 0.5, size=4) == 1
    rng = Random(0)
    counted = fmean(min(rng.sample(range(2000), 60)) < 100 for _ in range(2000))
    assert abs(counted - chance_of_top(60, 0.05, size=2000)) < 4 * sqrt(0.95 * 0.05 / 2000)
    for bad in ((-1, 0.5, None), (3, 0.0, None), (5, 0.5, 4)):
        with pytest.raises(InvalidInputError, match="share"):
            chance_of_top(bad[0], bad[1], size=bad[2])


def test_expected_best_by_hand() -> None:
    """Of 1, 2, 4 two: the pairs' best are 2, 4, 4."""
    values = [4.0, 1.0, 2.0]
    assert [expected_best(values, n) for n in (1, 2, 3)] == pytest.approx([7 / 3, 10 / 3, 4])
    with pytest.raises(InvalidInputError, match=r"in \[1, 3\]"):
        expected_best(values, 4)
