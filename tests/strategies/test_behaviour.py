"""What each strategy does: seeded trajectories, better than chance, its own rules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from nasturtium.errors import InfeasibleError
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.strategies import Grid, LocalSearch, Random, RegularizedEvolution
from nasturtium.study.codec import describe, restore
from nasturtium.testing import drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, toy_metrics
from nasturtium.trial import Objective, Problem

TRAJECTORIES = Path(__file__).with_name("trajectories.json")
"""A snapshot of our own: the first 30 proposals by seed. It changes only with a strategy's random decisions, and then
users' seeded searches change too: say so in CHANGELOG as a breaking change, and write the file anew."""

ALPHA = 0.001
SEEDS = 30

TRACED: dict[str, Callable[[], Any]] = {
    "Random()": Random,
    "RegularizedEvolution(population=5, sample=3, crossover=0.3)": lambda: RegularizedEvolution(
        population=5, sample=3, crossover=0.3
    ),
    "LocalSearch(initial=3)": lambda: LocalSearch(initial=3),
    "Grid(points=2)": lambda: Grid(points=2),
}


def trajectory(make: Callable[[], Any]) -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(make(), problem, 30, concurrency=2).keys


@pytest.mark.parametrize("name", TRACED)
def test_trajectory(name: str) -> None:
    assert trajectory(TRACED[name]) == json.loads(TRAJECTORIES.read_text(encoding="utf-8"))[name]


def best_of(strategy: Any, problem: Problem, trials: int, outcome: Any = None) -> float:
    run = drive(strategy, problem, trials, concurrency=4, outcome=outcome)
    return max(trial.metrics["accuracy"] for trial in run.trials)


@pytest.mark.parametrize("make", [RegularizedEvolution, LocalSearch])
def test_better_than_random_on_a_known_optimum(make: Callable[[], Any]) -> None:
    """One-sided Wilcoxon signed-rank test on the best of 100 trials, paired by seed."""
    space = toy_space(10, 3)
    problems = [toy_problem(space, seed=seed, trials=100) for seed in range(SEEDS)]
    found = [best_of(make(), problem, 100) for problem in problems]
    chance = [best_of(Random(), problem, 100) for problem in problems]
    assert wilcoxon(found, chance, alternative="greater").pvalue < ALPHA


class Cell(Block):
    edges: Any

    def forward(self, x: Any) -> Any:
        return x


def test_nasbench201(data_root: Path) -> None:
    """Best test accuracy of 100 cells on CIFAR-10, against the exact expectation of random search, 93.847."""
    path = data_root / "nasbench201" / "nasbench201.npz"
    if not path.is_file():
        pytest.skip(f"no NAS-Bench-201 table: {path} is absent")
    with np.load(path, allow_pickle=False) as table:
        rows = map(tuple, table["ops"].tolist())
        accuracy = dict(zip(rows, (table["test_acc_200"][:, 0] / 100).tolist(), strict=True))
    space = Space(Cell(tuple(one_of(0, 1, 2, 3, 4) for _ in range(6))))

    def outcome(architecture: Architecture) -> dict[str, float]:
        return {"accuracy": accuracy[tuple(architecture.decisions.values())]}

    def best(make: Callable[[], Any]) -> list[float]:
        return [
            best_of(make(), toy_problem(space, seed=seed, trials=100), 100, outcome=outcome) for seed in range(SEEDS)
        ]

    chance = best(Random)
    assert abs(mean(chance) - 0.93847) < 4 * stdev(chance) / math.sqrt(SEEDS)
    for make in (lambda: RegularizedEvolution(population=20, sample=5), LocalSearch):
        assert wilcoxon(best(make), chance, alternative="greater").pvalue < ALPHA


def test_evolution_keeps_the_young() -> None:
    """A parent is among the youngest networks that were told, however good an older one is."""
    run = drive(RegularizedEvolution(population=4, sample=4), toy_problem(toy_space(10, 3)), 60)
    for proposal in run.proposals[4:]:
        assert all(proposal.number - 4 <= parent < proposal.number for parent in proposal.parents)
        assert proposal.origin == "mutation"


def test_evolution_starts_warm() -> None:
    space = toy_space(5, 3)
    best = space.at(space.size - 2)
    strategy = RegularizedEvolution(population=4, sample=2, warm_start=[best])
    copy = restore(json.loads(json.dumps(describe(strategy, "strategy"))), "strategy")
    for each in (strategy, copy):
        run = drive(each, toy_problem(space), 10)
        assert run.proposals[0].architecture == best
        assert run.proposals[0].origin == "given"


@pytest.mark.parametrize(("trials", "size"), [(None, 100), (20_000, 100), (40, 10), (80, 20)])
def test_evolution_scales_its_population_with_the_budget(trials: int | None, size: int) -> None:
    run = drive(RegularizedEvolution(), toy_problem(toy_space(10, 3), trials=trials), size + 1)
    assert [p.origin for p in run.proposals] == ["random"] * size + ["mutation"]


def test_evolution_prefers_what_meets_a_measured_constraint() -> None:
    """A limit on a metric that is not cheap is learnt: most of what is proposed later meets it."""
    problem = toy_problem(toy_space(10, 3), constraints=at_most(12), cheap_metrics=lambda _: {}, trials=120)
    run = drive(RegularizedEvolution(population=10, sample=5), problem, 120)
    late = [trial.metrics["params"] for trial in run.trials[80:]]
    assert mean(value <= 20 for value in late) > 0.5
    assert mean(t.metrics["params"] for t in run.trials[:10]) > 25


def test_evolution_covers_two_objectives() -> None:
    """Both ends of the front come near, which one objective alone does not give."""
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    run = drive(RegularizedEvolution(population=30, sample=6), toy_problem(objectives=objectives), 300)
    sizes = [trial.metrics["params"] for trial in run.trials]
    assert min(sizes) < 20
    assert max(sizes) > 60


def test_local_search_climbs_to_the_top_of_a_single_hill() -> None:
    space = toy_space(4, 3)
    run = drive(LocalSearch(initial=1), toy_problem(space), 120)
    top = max(toy_metrics(a)["params"] for a in space.enumerate())
    assert max(trial.metrics["params"] for trial in run.trials) == top
    assert any(p.origin == "restart" for p in run.proposals)


def test_grid_goes_in_definition_order() -> None:
    space = toy_space(2, 3)
    run = drive(Grid(), toy_problem(space), 100)
    assert [p.architecture for p in run.proposals] == list(space.enumerate())


def test_grid_narrows_around_the_best() -> None:
    """Coarse to fine finds the top of a separable hill with far fewer trials than the full factorial."""
    space = Space(Cell((one_of(*range(17)), one_of(*range(17)))))

    def outcome(architecture: Architecture) -> dict[str, float]:
        x, y = architecture.decisions.values()
        return {"accuracy": 1 - ((x - 11) ** 2 + (y - 6) ** 2) / 1000}

    run = drive(Grid(points=3, best=1), toy_problem(space), 1000, concurrency=4, outcome=outcome)
    assert max(trial.metrics["accuracy"] for trial in run.trials) == 1
    assert len(run.proposals) < 0.25 * space.size
    assert run.exhausted


def test_the_nearest_miss_is_named_with_units() -> None:
    with pytest.raises(InfeasibleError, match=r"params 1 where <= 0\.5 is asked") as raised:
        drive(Random(), toy_problem(toy_space(2, 3), constraints=at_most(0.5)), 1)
    assert "all 81 were tried" in str(raised.value)


def test_a_tiny_feasible_corner_of_a_large_space_is_found() -> None:
    """21 of 10^12 networks fit; sampling alone would never meet one."""
    problem = toy_problem(toy_space(10, 4), constraints=at_most(2))
    for make in (Random, RegularizedEvolution, LocalSearch):
        run = drive(make(), problem, 5)
        assert len(run.proposals) == 5


def test_a_coarse_grid_does_not_walk_inactive_decisions() -> None:
    """Of 21 decisions two are active at first: each network comes once, at once, where 3^18 combinations equal it."""
    space = toy_space(10, 3, conditional=True)
    run = drive(Grid(points=3), toy_problem(space), 60)
    assert run.keys[:9] == ["0" + x + y for x in "012" for y in "012"]
    assert len({len(key) for key in run.keys}) > 1
    assert len(set(run.keys)) == 60


def test_a_coarse_grid_keeps_to_conditions() -> None:
    space = toy_space(2, 3).where(lambda a: sum(a.decisions.values()) <= 3)
    run = drive(Grid(points=3), toy_problem(space), 200)
    assert {p.architecture for p in run.proposals} == set(space.enumerate())
    barren = toy_space(10, 4).where(lambda a: sum(a.decisions.values()) > 59)
    with pytest.raises(InfeasibleError, match="empty or nearly so"):
        drive(Grid(points=2), toy_problem(barren), 3)
