"""Compound scaling found by a grid: the grid's points, rounding, noise, and networks scaled to several costs."""

from __future__ import annotations

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.design import Multipliers, Scaled, find_coefficients, scaled_family
from nasturtium.design.coefficients import CHANCE, KINDS, Grid, identity, multipliers_of, noise_margin
from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.zoo.efficientnet import efficientnet

SHAPE = (3, 32, 32)
NETWORK = nas.Sequential(
    nas.Conv(16, stride=2), nas.repeat(nas.MBConv(16), 2), nas.repeat(nas.MBConv(32), 4, stride=2), nas.Classifier()
)


def macs(scaled: Scaled) -> float:
    return nas.cost(scaled.network, scaled.input_shape, classes=10).macs


def test_the_grid_holds_efficientnets_coefficients_and_only_what_the_constraint_admits():
    points = Grid().points()
    assert Multipliers(1.2, 1.1, 1.15) in points
    assert all(min(p) >= 1 and abs(p.cost - 2) <= 0.1 + 1e-9 for p in points)
    assert len(points) == len(set(points))
    brute = [
        (a, b, g)
        for a in range(100, 215, 5) for b in range(100, 150, 5) for g in range(100, 150, 5)
        if abs(a / 100 * (b / 100) ** 2 * (g / 100) ** 2 - 2) <= 0.1 + 1e-9
    ]  # fmt: skip
    assert len(points) == len(brute)


def test_a_finer_level_is_a_box_of_one_coarse_step_around_the_centre():
    grid = Grid(levels=2, refine=2, tolerance=10)
    box = grid.around(Multipliers(1.2, 1.1, 1.15), 2)
    assert len(box) == 5**3
    assert {p.depth for p in box} == {1.15, 1.175, 1.2, 1.225, 1.25}
    edge = grid.around(Multipliers(2.0, 1.0, 1.0), 2)
    assert {p.width for p in edge} == {1.0, 1.025, 1.05}


def test_coarse_to_fine_finds_the_peak_with_fewer_networks_than_the_fine_grid():
    """A score with one peak, of the multipliers that a network was scaled by, read off a network without rounding."""
    network, shape = nas.repeat(nas.Conv(1000), 20), (1, 1000, 1000)
    peak = Multipliers(1.25, 1.1, 1.15)

    def score(scaled: Scaled) -> float:
        blocks = scaled.network.blocks
        by = (len(blocks) / 20, blocks[0].width / 1000, scaled.input_shape[1] / 1000)
        return -sum((a - b) ** 2 for a, b in zip(by, peak, strict=True))

    def found(grid):
        return find_coefficients(network, score, lambda s: 1.0, input_shape=shape, grid=grid, divisor=1)

    fine = found(Grid(tolerance=0.15, realised=None))
    coarse = found(Grid(step=0.1, levels=2, tolerance=0.15, realised=None))
    assert fine.best.multipliers == pytest.approx(peak)
    assert coarse.best.multipliers == pytest.approx(peak)
    assert coarse.best.level == 2
    assert len(coarse.tried) < len(fine.tried)
    assert coarse.stopped == "all levels were looked at"


def test_points_that_round_to_one_network_are_scored_once():
    asked = []

    def score(scaled):
        asked.append(identity(scaled))
        return float(len(asked))

    found = find_coefficients(NETWORK, score, macs, input_shape=SHAPE, grid=Grid(step=0.1, realised=None))
    assert len(asked) == len(set(asked)) == len(found.tried)
    assert sum(len(t.points) for t in found.tried) == len(Grid(step=0.1).points())
    assert len(found.tried) < len(Grid(step=0.1).points())
    assert [t.score for t in found.tried] == sorted((t.score for t in found.tried), reverse=True)


def test_networks_that_rounding_makes_too_large_or_small_are_left_out():
    found = find_coefficients(NETWORK, lambda s: 1.0, macs, input_shape=SHAPE, grid=Grid(step=0.1, realised=1.1))
    assert found.left_out > 0
    assert all(1 / 1.1 <= t.cost / 2 <= 1.1 for t in found.tried)
    base = macs(Scaled(NETWORK, SHAPE))
    first = found.best
    again = nas.design.scale(NETWORK, *first.multipliers, input_shape=SHAPE)
    assert first.cost == pytest.approx(macs(again) / base)
    assert [t.cost for t in found.tried] == sorted(t.cost for t in found.tried)  # equal scores: the cheaper first
    with pytest.raises(InfeasibleError, match="smaller `divisor`"):
        find_coefficients(
            nas.repeat(nas.Conv(8), 1), lambda s: 1.0, lambda s: 1.0, input_shape=(3, 8, 8), grid=Grid(realised=1.0)
        )


def test_it_stops_below_the_noise():
    levels = []
    arguments = {"input_shape": SHAPE, "grid": Grid(step=0.25, levels=4, tolerance=0.3, realised=None)}
    found = find_coefficients(
        NETWORK, lambda s: macs(s) * 1e-9, macs, noise=1.0, report=lambda t, left: levels.append(t.level), **arguments
    )
    assert set(levels) == {1, 2}
    assert "no more than the noise" in found.stopped
    assert len(found.alike) == len(found.tried)
    quiet = find_coefficients(NETWORK, macs, macs, **arguments)
    assert max(t.level for t in quiet.tried) > 2 or "no network that was not tried" in quiet.stopped
    assert quiet.alike[0] == quiet.best
    assert quiet.to_dict()["tried"][0]["score"] == quiet.best.score


def test_differences_within_what_noise_explains_are_not_told_apart():
    assert noise_margin(1.0, 1) == pytest.approx(1.959964 * 2**0.5)
    rng, told = np.random.default_rng(0), 0
    for _ in range(2000):  # 20 networks that are alike, each with the noise of one training
        scores = rng.normal(0, 1, 20)
        told += (scores[0] - scores[1:] > noise_margin(1.0, 19)).any()
    assert told / 2000 < CHANCE
    scores = iter([5.0, 4.0, *[0.0] * 1000])
    found = find_coefficients(
        NETWORK, lambda s: next(scores), macs, input_shape=SHAPE, grid=Grid(step=0.25, realised=None), noise=0.5
    )
    assert len(found.tried) > 2
    assert [t.score for t in found.alike] == [5.0, 4.0]
    assert 1.96 * 2**0.5 * 0.5 < found.margin < 3 * 2**0.5 * 0.5
    assert found.to_dict()["margin"] == found.margin


def test_multipliers_of_each_way():
    assert multipliers_of("depth", 4, Multipliers(1.2, 1.1, 1.15)) == (4, 1, 1)
    assert multipliers_of("width", 4, Multipliers(1.2, 1.1, 1.15)) == (1, 2, 1)
    assert multipliers_of("resolution", 4, Multipliers(1.2, 1.1, 1.15)) == (1, 1, 2)
    for factor in (0.5, 2, 4, 8):
        for kind in KINDS:
            assert multipliers_of(kind, factor, Multipliers(1.2, 1.1, 1.15)).cost == pytest.approx(factor)
    exact = Multipliers(2 ** (1 / 3), 2 ** (1 / 6), 2 ** (1 / 6))
    assert multipliers_of("compound", 2, exact) == pytest.approx(exact)
    with pytest.raises(InvalidInputError, match="`kind`"):
        multipliers_of("height", 2, exact)
    with pytest.raises(InvalidInputError, match="`factor`"):
        multipliers_of("depth", 0, exact)
    with pytest.raises(InvalidInputError, match="make nothing larger"):
        multipliers_of("compound", 2, Multipliers(1, 1, 1))


def test_scaled_efficientnet_costs_what_it_should():
    """B0 at 224 pixels by 2, 4 and 8: MACs within what rounding of widths and whole blocks adds."""
    network, shape = efficientnet(classes=1000), (3, 224, 224)
    base = nas.cost(network, shape).macs
    found = scaled_family(network, (2, 4), Multipliers(1.2, 1.1, 1.15), input_shape=shape, kinds=("compound",))
    for one in found:
        grown = nas.cost(one.scaled.network, one.scaled.input_shape).macs / base
        assert one.factor * 0.9 < grown < one.factor * 1.35
    assert [one.factor for one in found] == [2.0, 4.0]


def test_bad_input():
    for wrong in ({"cost": 1.0}, {"step": 0.0}, {"levels": 0}, {"refine": 1}, {"realised": 0.5}, {"tolerance": -1.0}):
        with pytest.raises(InvalidInputError):
            Grid(**wrong)
    with pytest.raises(InvalidInputError, match="`noise`"):
        find_coefficients(NETWORK, macs, macs, input_shape=SHAPE, noise=-1.0)
