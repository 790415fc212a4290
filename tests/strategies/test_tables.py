"""Strategies that compose an architecture decision by decision, in spaces that are tables of a few rows."""

from __future__ import annotations

from random import Random as Generator
from typing import Any

import pytest

from nasturtium.space import Space
from nasturtium.strategies import Controller, Grid, Optuna
from nasturtium.testing import drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, toy_metrics


def table_of(space: Space, rows: int = 150) -> Space:
    rng, found = Generator(3), {}
    while len(found) < rows:
        drawn = space.sample(rng)
        found[drawn.key] = drawn
    return Space.from_table(space, list(found.values()))


SPACES = {
    "plain": table_of(toy_space(5, 3)),  # of 59,049
    "conditional": table_of(toy_space(4, 3, conditional=True)),
}


@pytest.mark.parametrize(("kind", "concurrency"), [("plain", 1), ("conditional", 3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Optuna("tpe", {"n_startup_trials": 8, "n_ei_candidates": 4}, tries=4),
        lambda: Optuna("nsga2", {"population_size": 6}, tries=4),
        lambda: Optuna("cmaes", tries=4),
        lambda: Controller(hidden=8, batch=4),
        lambda: Controller("ppo", hidden=8, batch=6, epochs=2),
    ],
    ids=["tpe", "nsga2", "cmaes", "reinforce", "ppo"],
)
def test_rows_are_proposed_and_the_sampler_learns_of_them(make: Any, kind: str, concurrency: int) -> None:
    space = SPACES[kind]
    run = drive(make(), toy_problem(space, seed=2), 30, concurrency=concurrency)
    assert len(set(run.keys)) == 30
    assert all(p.architecture in space for p in run.proposals)
    chosen = sum(p.origin != "random" for p in run.proposals)
    assert chosen >= 15, [p.origin for p in run.proposals]  # without the nearest row hardly any would be
    cut = len(run.log) // 2
    again = drive(make(), toy_problem(space, seed=2), 30, concurrency=concurrency, replay=run.log[:cut])
    assert again.keys == run.keys


def test_optuna_is_told_the_decisions_of_the_row() -> None:
    space = SPACES["plain"]
    strategy = Optuna("random")
    run = drive(strategy, toy_problem(space, seed=2), 10)
    told = [str(t.params) for t in strategy._study._study.trials if t.state.name == "COMPLETE"]
    assert list(dict.fromkeys(told)) == [str(dict(t.architecture.decisions)) for t in run.trials]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_grid_of_a_table_is_its_rows(space: Space) -> None:
    """All rows; those of two values of one decision, in the axis' order; coarse to fine from the ends of all."""
    assert drive(Grid(), toy_problem(space), 200).keys == [a.key for a in space.enumerate()]
    name = "layers.0.a"
    fixed = drive(Grid(axes={name: [2, 0]}), toy_problem(space), 200)
    assert fixed.exhausted
    assert set(fixed.keys) == {a.key for a in space.enumerate() if a.decisions[name] in (0, 2)}
    rest = [d.name for d in space.decisions if d.name != name]
    order = [[a.decisions.get(each, 0) for each in rest] for a in (p.architecture for p in fixed.proposals)]
    if space is SPACES["plain"]:  # "layers.0.a" is the first decision there, so it moves last
        firsts = [p.architecture.decisions[name] for p in fixed.proposals]
        half = firsts.count(2)
        assert firsts == [2] * half + [0] * (len(firsts) - half)
        assert order == sorted(order[:half]) + sorted(order[half:])
    coarse = drive(Grid(points=2), toy_problem(space, constraints=at_most(30)), 200)
    assert coarse.exhausted
    assert all(p.architecture in space and toy_metrics(p.architecture)["params"] <= 30 for p in coarse.proposals)
    assert len(set(coarse.keys)) == len(coarse.keys)
