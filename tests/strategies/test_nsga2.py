"""NSGA-II: the laws, sorting and crowding by hand, extremes, generations, constraint domination."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random as Generator
from statistics import mean
from typing import Any

import pytest
from scipy.stats import wilcoxon

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.strategies import Random
from nasturtium.strategies.nsga2 import NSGA2, survivors
from nasturtium.strategies.preference import preferences
from nasturtium.study.codec import describe, restore
from nasturtium.testing import STRATEGY_LAWS, check_strategy, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, toy_metrics
from nasturtium.trial import Constraint, Objective, Problem, Trial
from nasturtium.trial.pareto import crowding, hypervolume_history, ranks

TRAJECTORY = Path(__file__).with_name("trajectories") / "nsga2.json"
DOWN = (Objective(metric="x", direction="minimize"), Objective(metric="y", direction="minimize"))
TWO = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
SPACE = toy_space(4, 3)


def test_laws() -> None:
    check_strategy(lambda: NSGA2(population=6))


@pytest.mark.slow
def test_laws_of_generations() -> None:
    """Where they differ: generations, other crossovers, near mutations."""
    some = ("seeded", "finite", "pending", "out_of_order", "public_only")
    skipped = [law.__name__ for law in STRATEGY_LAWS if law.__name__ not in some]
    check_strategy(lambda: NSGA2(population=6, offspring=None, how="stage", near=True), skip=skipped)


def trials_at(points: list[tuple[float, ...]], names: str = "xyz", first: int = 0, **more: Any) -> list[Trial]:
    made = []
    for number, point in enumerate(points, first):
        metrics = dict(zip(names, point, strict=False)) | {k: v[number - first] for k, v in more.items()}
        made.append(Trial(number=number, architecture=SPACE.at(number), metrics=metrics))
    return made


# Fronts by hand: A(1,5) B(2,3) C(4,2) D(6,1) do not dominate each other; A and B dominate E(3,5), B and C
# dominate F(5,4), E and F do not dominate each other; all dominate G(6,6).
POINTS = [(1, 5), (2, 3), (4, 2), (6, 1), (3, 5), (5, 4), (6, 6)]


def test_fronts_by_hand() -> None:
    assert ranks(POINTS, ["minimize", "minimize"]) == [0, 0, 0, 0, 1, 1, 2]


def test_crowding_by_hand() -> None:
    """Front 0 spans 5 in x and 4 in y. B: (4-1)/5 + (5-2)/4 = 1.35; C: (6-2)/5 + (3-1)/4 = 1.3."""
    found = crowding(POINTS[:4])
    assert found[0] == found[3] == math.inf
    assert found[1] == pytest.approx(3 / 5 + 3 / 4)
    assert found[2] == pytest.approx(4 / 5 + 2 / 4)


@pytest.mark.parametrize(
    ("size", "kept"), [(2, "AD"), (3, "ABD"), (4, "ABCD"), (5, "ABCDE"), (6, "ABCDEF"), (7, "ABCDEFG")]
)
def test_survival_by_hand(size: int, kept: str) -> None:
    """Whole fronts first; of the one that is cut the ends, then B (1.35) before C (1.3); E before F as the earlier."""
    found = survivors(Problem(space=SPACE, objectives=DOWN), trials_at(POINTS), size)
    assert "".join(sorted("ABCDEFG"[t.number] for t in found)) == kept


def test_copies_do_not_fill_the_population() -> None:
    """Five networks at one end of the front and one at the other, room for two: one of each stays."""
    found = survivors(Problem(space=SPACE, objectives=DOWN), trials_at([(1, 9)] * 5 + [(9, 1), (5, 5)]), 3)
    assert [tuple(t.metrics.values()) for t in found] == [(1, 9), (9, 1), (5, 5)]


def test_constraint_domination_by_hand() -> None:
    """A feasible network beats any that is not; of two that are not, the one of less violation; only feasible ones
    are ranked against each other: (2, 2) breaks the limit, so it does not push (3, 3) off the front.
    """
    limit = (Constraint(metric="size", relation="<=", limit=10.0),)
    problem = Problem(space=SPACE, objectives=DOWN, constraints=limit)
    trials = trials_at([(2, 2), (1, 1), (3, 3), (4, 1)], size=[11, 20, 10, 5])
    keys = preferences(problem, trials)
    assert [key[:2] for key in keys] == [(pytest.approx(0.1), 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0)]
    assert [t.number for t in survivors(problem, trials, 3)] == [2, 3, 0]


def brute_ranks(points: list[tuple[float, ...]]) -> list[int]:
    """Definition by definition: peel off what nothing left dominates."""
    found = [-1] * len(points)
    level = 0
    while -1 in found:
        left = [i for i, rank in enumerate(found) if rank < 0]
        for i in left:
            p = points[i]
            if not any(all(a <= b for a, b in zip(points[j], p)) and points[j] != p for j in left):
                found[i] = -2 - level
        found = [-2 - r if r <= -2 else r for r in found]
        level += 1
    return found


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_fronts_are_those_of_the_definition(objectives: int) -> None:
    rng = Generator(objectives)
    for _ in range(20):
        points = [tuple(rng.randrange(6) for _ in range(objectives)) for _ in range(30)]
        assert ranks(points, ["minimize"] * objectives) == brute_ranks(points)


@pytest.mark.parametrize("objectives", [2, 3])
def test_sorting_and_crowding_are_those_of_pymoo(objectives: int) -> None:
    """On points without ties in any objective, where the definitions agree; `pymoo` is not a dependency."""
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting", exc_type=ImportError)
    metrics = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics", exc_type=ImportError)
    import numpy as np

    rng = np.random.default_rng(objectives)
    points = rng.random((60, objectives))
    fronts = sorting.NonDominatedSorting().do(points)
    expected = np.empty(60, dtype=int)
    for number, front in enumerate(fronts):
        expected[front] = number
        distance = metrics.get_crowding_function("cd").do(points[front], n_remove=0)
        # pymoo divides the sum by the number of objectives
        np.testing.assert_allclose(np.array(crowding(points[front].tolist())) / objectives, distance)
    assert ranks(points.tolist(), ["minimize"] * objectives) == expected.tolist()


def test_generations() -> None:
    """The first population is random; children are bred of it until as many were told, then of the survivors."""
    problem = toy_problem(toy_space(10, 3), objectives=TWO, trials=120)
    run = drive(NSGA2(population=8, offspring=None), problem, 40)
    assert [p.origin for p in run.proposals[:8]] == ["random"] * 8
    assert all(max(p.parents) < 8 for p in run.proposals[8:16])
    later = [n for p in run.proposals[16:24] for n in p.parents]
    assert all(n < 16 for n in later)
    assert any(n >= 8 for n in later)
    assert {p.origin for p in run.proposals[8:]} <= {"crossover", "mutation"}


def test_the_steady_state_uses_each_result_at_once() -> None:
    """A child that is better than all is a parent of one of the next few, in the generation of 8 of none."""
    problem = toy_problem(toy_space(10, 3), trials=120)
    run = drive(NSGA2(population=8), problem, 60)
    at_once = [n for p in run.proposals[9:16] for n in p.parents if n >= 8]
    assert at_once


def test_extremes_are_never_lost() -> None:
    """After every selection the population holds the best told value of each objective."""
    problem = toy_problem(toy_space(6, 4), objectives=TWO, trials=200, seed=5)
    strategy = NSGA2(population=6, offspring=3)
    strategy.setup(problem)
    told: list[dict[str, float]] = []
    for number in range(120):
        proposal: Any = strategy.ask(number)
        metrics = {"accuracy": Generator(proposal.architecture.key).random(), **toy_metrics(proposal.architecture)}
        strategy.tell(Trial(number=number, architecture=proposal.architecture, metrics=metrics))
        told.append(metrics)
        kept = [t.metrics for t in (*strategy._parents, *strategy._children)]
        assert max(m["accuracy"] for m in kept) == max(m["accuracy"] for m in told)
        assert min(m["params"] for m in kept) == min(m["params"] for m in told)


def test_better_than_random_on_two_objectives() -> None:
    """Hypervolume of 120 networks, one-sided Wilcoxon signed-rank test paired by seed."""
    space = toy_space(8, 4)

    def outcome(a: Any) -> dict[str, float]:
        """A front that has to be found: what costs most helps least."""
        index = list(a.decisions.values())
        return {**toy_metrics(a), "accuracy": sum(i / (1 + p % 3) for p, i in enumerate(index)) / 48}

    volumes: dict[Any, list[float]] = {NSGA2: [], Random: []}
    for make, found in volumes.items():
        for seed in range(20):
            problem = toy_problem(space, objectives=TWO, trials=120, seed=seed)
            run = drive(make(), problem, 120, concurrency=2, outcome=outcome)
            found.append(hypervolume_history(run.trials, TWO, (0.0, 100.0))[-1])
    assert wilcoxon(volumes[NSGA2], volumes[Random], alternative="greater").pvalue < 0.001
    assert mean(volumes[NSGA2]) > mean(volumes[Random])


def test_a_measured_constraint_is_learnt() -> None:
    problem = toy_problem(toy_space(10, 3), objectives=TWO[:1], constraints=at_most(20), cheap_metrics=lambda _: {})
    run = drive(NSGA2(population=10), problem, 200)
    assert all(t.metrics["params"] <= 20 for t in survivors(problem, run.trials, 10))
    assert mean(t.metrics["params"] for t in run.trials[-20:]) < 26
    assert mean(t.metrics["params"] for t in run.trials[:20]) > 33


def test_hypervolume_history_by_hand() -> None:
    """Against (10, 10): (5, 5) dominates 25; (8, 2) adds (10-8) x (5-2) = 6; (6, 6) nothing; (2, 8) adds 6 too; a
    failed and an infeasible trial nothing.
    """
    trials = trials_at([(5, 5), (8, 2), (6, 6), (2, 8), (1, 1)], z=[0, 0, 0, 0, 1])
    failed = Trial(number=9, architecture=SPACE.at(9), state="failed")
    limit = (Constraint(metric="z", relation="<=", limit=0.5),)
    assert hypervolume_history([failed, *trials], DOWN, (10, 10), limit) == [0, 25, 31, 31, 37, 37]
    assert hypervolume_history([], DOWN, (10, 10)) == []


def test_starts_warm_and_is_stored() -> None:
    space = toy_space(5, 3)
    best = space.at(space.size - 2)
    strategy = NSGA2(population=4, warm_start=[best])
    copy = restore(json.loads(json.dumps(describe(strategy, "strategy"))), "strategy")
    for each in (strategy, copy):
        run = drive(each, toy_problem(space), 10)
        assert (run.proposals[0].architecture, run.proposals[0].origin) == (best, "given")


@pytest.mark.parametrize(("trials", "size"), [(None, 40), (20_000, 40), (40, 10), (120, 20)])
def test_population_by_budget(trials: int | None, size: int) -> None:
    run = drive(NSGA2(), toy_problem(toy_space(10, 3), trials=trials), size + 1)
    assert [p.origin == "random" for p in run.proposals] == [True] * size + [False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NSGA2(population=1), "`population` must be an integer of 2"),
        (lambda: NSGA2(offspring=0), "`offspring` must be an integer of 1"),
        (lambda: NSGA2(crossover=2), "probability"),
        (lambda: NSGA2(mutation=0), "positive number"),
        (lambda: NSGA2(how="stages"), "Did you mean 'stage'"),
        (lambda: NSGA2(population=3).setup(toy_problem(objectives=TWO)), "at least 4, twice the objectives"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        make()


def trajectory() -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18), objectives=TWO)
    return drive(NSGA2(population=6), problem, 30, concurrency=2).keys


def test_trajectory() -> None:
    """A snapshot of our own; written anew by `python -m tests.strategies.test_nsga2`."""
    assert trajectory() == json.loads(TRAJECTORY.read_text(encoding="utf-8"))


if __name__ == "__main__":
    TRAJECTORY.write_text(json.dumps(trajectory()) + "\n", encoding="utf-8")
