"""Predictor-guided search: the laws, its ranking, its features, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random as Generator
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import wilcoxon
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture
from nasturtium.strategies import Candidates, Random
from nasturtium.strategies.learned.pool import Pool
from nasturtium.strategies.learned.predictor import PredictorGuided
from nasturtium.study.codec import describe, restore
from nasturtium.testing import STRATEGY_LAWS, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, toy_metrics, toy_outcome
from nasturtium.testing.strategies import fast, fresh_process, replayed
from nasturtium.trial import Objective

TRAJECTORY = Path(__file__).parent / "trajectories" / "predictor.json"


def small(**changes: Any) -> PredictorGuided:
    """Quick to train."""
    return PredictorGuided(**{"regressor": "ridge", "initial": 4, "batch": 3, "candidates": 60, **changes})


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(law, marks=pytest.mark.slow if law is fresh_process else (), id=law.__name__)
        for law in STRATEGY_LAWS
    ],
)
def test_it_keeps_the_laws(law: Callable[..., None]) -> None:
    if law is replayed:
        replayed(small, thorough=False)
    elif law is fast:
        fast(PredictorGuided, step_seconds=0.2)  # bound of a loaded machine; alone it takes some 0.03
    else:
        law(small)


def test_trajectory() -> None:
    """The first 25 proposals.

    Regenerate: python -c "import json; from tests.strategies.test_predictor import *; TRAJECTORY.write_text(json.dumps(
    trajectory(), indent=1) + chr(10))". Users' seeded searches then change too: say so in CHANGELOG.
    """
    assert trajectory() == json.loads(TRAJECTORY.read_text(encoding="utf-8"))


def trajectory() -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(small(initial=5, batch=5), problem, 25, concurrency=2).keys


@pytest.mark.parametrize("regressor", ["forest", "ridge"])
def test_better_than_random(regressor: str) -> None:
    """One-sided Wilcoxon signed-rank test on the best of 60 trials, paired by seed."""
    found: list[float] = []
    chance: list[float] = []
    for seed in range(12):
        problem = toy_problem(seed=seed, trials=60)
        learner = small(regressor=regressor, initial=10, batch=10, candidates=300, explore=0.3)
        for results, strategy in ((found, learner), (chance, Random())):
            results.append(max(t.metrics["accuracy"] for t in drive(strategy, problem, 60, concurrency=5).trials))
    assert wilcoxon(found, chance, alternative="greater").pvalue < 0.001


class Known:
    """Knows the answer: the toy's `params` from the one-hot rows, so that a ranking can be worked out by hand."""

    def fit(self, rows: Any, targets: Any) -> None:
        """Learn nothing."""

    def predict(self, rows: Any) -> Any:
        """Weights 1, 2, 3 in turn on the index of each decision of three options."""
        indices = np.asarray(rows).reshape(len(rows), -1, 3) @ np.arange(3)
        return indices @ np.array([1 + i % 3 for i in range(indices.shape[1])])


def test_a_round_is_the_top_of_the_ranking_then_draws_from_its_better_half() -> None:
    problem = toy_problem(toy_space(3, 3))
    strategy = PredictorGuided(
        regressor=Known(), initial=4, batch=10, candidates=1500, explore=0.5, encoding="decisions"
    )
    run = drive(strategy, problem, 14)
    told = {p.architecture for p in run.proposals[:4]}
    sizes = sorted((toy_metrics(a)["params"] for a in problem.space.enumerate() if a not in told), reverse=True)
    proposed = [toy_metrics(p.architecture)["params"] for p in run.proposals[4:]]
    # 725 are new of 729: 1,500 draws, half of them near the best, find the largest and nearly all
    assert proposed[0] == sizes[0]
    assert proposed[:5] == sorted(proposed[:5], reverse=True)
    assert min(proposed[:5]) >= sizes[15]
    assert all(sizes[0] > size >= sizes[len(sizes) // 2] - 2 for size in proposed[5:])


def test_all_exploitation_and_all_exploration() -> None:
    problem = toy_problem(toy_space(3, 3))
    greedy, curious = (
        [
            toy_metrics(p.architecture)["params"]
            for p in drive(
                PredictorGuided(regressor=Known(), initial=4, batch=20, explore=explore, encoding="decisions"),
                problem,
                24,
            ).proposals[4:]
        ]
        for explore in (0.0, 1.0)
    )
    assert greedy == sorted(greedy, reverse=True)
    assert curious != sorted(curious, reverse=True)
    assert sum(greedy) > sum(curious)


class Recorder(Ridge):  # type: ignore[misc]
    """Keeps what it was given."""

    seen: ClassVar[list[Any]] = []

    def fit(self, rows: Any, targets: Any) -> Any:
        """Keep, then learn."""
        self.seen.append(np.asarray(rows))
        return super().fit(rows, targets)

    def predict(self, rows: Any) -> Any:
        """Keep, then predict."""
        self.seen.append(np.asarray(rows))
        return super().predict(rows)


def test_cheap_metrics_are_features() -> None:
    """The last column is the standardised `params`, beside the one-hot decisions."""
    Recorder.seen.clear()
    space = toy_space(5, 3)
    run = drive(small(regressor=Recorder(), features=("params",), encoding="decisions"), toy_problem(space), 5)
    learnt, asked = Recorder.seen
    sizes = np.array([toy_metrics(p.architecture)["params"] for p in run.proposals[:4]])
    assert learnt[:, :-1].tolist() == [space.encode(p.architecture) for p in run.proposals[:4]]
    assert learnt[:, -1] == pytest.approx((sizes - sizes.mean()) / sizes.std())
    others = [toy_metrics(space.decode(row[:-1]))["params"] for row in asked]
    assert asked[:, -1] == pytest.approx((np.array(others) - sizes.mean()) / sizes.std())


def test_a_feature_that_is_not_known_stands_in_the_middle() -> None:
    """One NaN among the trials: the others are standardised without it, and it is 0."""
    Recorder.seen.clear()
    space, problem = toy_space(5, 3), toy_problem(toy_space(5, 3))
    lost = drive(small(), problem, 1).proposals[0].architecture.key
    cheap = lambda a: {"params": float("nan") if a.key == lost else toy_metrics(a)["params"]}  # noqa: E731
    strategy = small(regressor=Recorder(), features=("params",), encoding="decisions")
    run = drive(strategy, toy_problem(space, cheap_metrics=cheap), 5)
    learnt, asked = Recorder.seen
    sizes = np.array([toy_metrics(p.architecture)["params"] for p in run.proposals[1:4]])
    assert learnt[:, -1] == pytest.approx([0.0, *(sizes - sizes.mean()) / sizes.std()])
    assert np.isfinite(asked).all()


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown cheap metric 'parms'.*Did you mean 'params'"):
        drive(small(features=["parms"]), toy_problem(), 6)


@pytest.mark.parametrize(
    ("regressor", "options"),
    [
        ("ensemble", {"epochs": 5}),
        ("ensemble", {"epochs": 5, "loss": "rank"}),
        ("sklearn.neighbors:KNeighborsRegressor", {"n_neighbors": 3}),
        (KNeighborsRegressor(n_neighbors=3), {}),
    ],
)
def test_any_regressor(regressor: Any, options: Mapping[str, Any]) -> None:
    run = drive(small(regressor=regressor, options=options), toy_problem(), 12)
    assert len(run.proposals) == 12
    assert any(p.origin == "mutation" for p in run.proposals)


def test_an_object_is_not_trained_itself() -> None:
    given = Ridge()
    drive(small(regressor=given), toy_problem(), 8)
    assert not hasattr(given, "coef_")


def test_measured_constraints_are_learnt() -> None:
    problem = toy_problem(constraints=at_most(30), cheap_metrics=lambda _: {}, trials=60)
    run = drive(small(initial=10), problem, 60)
    assert sum(t.metrics["params"] <= 30 for t in run.trials[:10]) <= 3
    assert sum(t.metrics["params"] <= 30 for t in run.trials[30:]) >= 12


@pytest.mark.parametrize("cheap", [True, False])
def test_two_objectives_cover_the_front(cheap: bool) -> None:
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    changes: dict[str, Any] = {} if cheap else {"cheap_metrics": lambda _: {}}
    run = drive(small(initial=10, explore=0.0), toy_problem(objectives=objectives, trials=80, **changes), 80)
    first = [t.metrics["params"] for t in run.trials[:10]]
    sizes = [t.metrics["params"] for t in run.trials]
    assert min(sizes) < min(first) - 5
    assert max(sizes) > max(first) + 5


@pytest.mark.parametrize("regressor", ["boosting", Ridge(alpha=2.0)])
def test_settings_are_stored(regressor: Any) -> None:
    strategy = small(regressor=regressor, features=("params",))
    stored = json.loads(json.dumps(describe(strategy, "strategy")))
    again = restore(stored, "strategy")
    assert describe(again, "strategy") == stored
    assert drive(again, toy_problem(), 10).keys == drive(strategy, toy_problem(), 10).keys


def test_an_object_without_arguments_cannot_be_stored() -> None:
    with pytest.raises(InvalidInputError, match="has no `get_params`"):
        describe(small(regressor=Known()), "strategy")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"regressor": "forrest"}, UnknownNameError, "Did you mean 'forest'"),
        ({"batch": 0}, InvalidInputError, "`batch` must be an integer of 1 or more, got 0"),
        ({"explore": 1.5}, InvalidInputError, r"`explore` must be a share in \[0, 1\], got 1.5"),
        ({"features": "params"}, InvalidInputError, "list of names, got the text 'params'"),
    ],
)
def test_settings_are_checked(settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        PredictorGuided(**settings)


def test_the_pool_holds_each_new_architecture_once() -> None:
    space = toy_space(2, 3)
    problem = toy_problem(space)
    trials = drive(Random(), problem, 6).trials
    pool = Pool(problem, trials, Generator(1))
    pool.add_neighbours(trials[:1])
    ring = [a for a in space.neighbours(trials[0].architecture) if a not in {t.architecture for t in trials}]
    assert pool.architectures == ring
    pool.add_mutations(trials, 10, draws=10, edits=2)
    pool.add_random(200)
    assert len(set(pool.architectures)) == len(pool) == 81 - len(trials)
    assert not {t.architecture for t in trials} & set(pool.architectures)


def test_the_pool_gives_each_slot_its_best_that_may_be_proposed() -> None:
    """`params` at most 9; two candidates of one network; NaN is worst."""
    problem = toy_problem(toy_space(2, 3), constraints=at_most(9), key=lambda a: str(sorted(a.decisions.values())))
    pool = Pool(problem, [], Generator(1))
    pool.add_random(81)
    candidates = Candidates(problem)
    sizes = np.array([toy_metrics(a)["params"] for a in pool.architectures])
    assert len(pool) > 60
    nearest, second, last = pool.take(np.stack([sizes, sizes, np.full(len(pool), np.nan)]), candidates)
    assert toy_metrics(nearest.architecture)["params"] == 9
    taken: list[Architecture] = [c.architecture for c in (nearest, second, last)]
    assert len({problem.key(a) for a in taken}) == 3
    assert all(toy_outcome(a)["params"] <= 9 for a in taken)
