"""BANANAS: the laws, its rounds, its candidates, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random as Generator
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from nasturtium.errors import InvalidInputError
from nasturtium.strategies import Random
from nasturtium.strategies.learned.bananas import Bananas
from nasturtium.strategies.learned.pool import Pool
from nasturtium.study.codec import describe, restore
from nasturtium.surrogates.ensemble import Ensemble
from nasturtium.testing import STRATEGY_LAWS, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, toy_outcome
from nasturtium.testing.strategies import fast, replayed
from nasturtium.trial import Objective, Proposal, Trial

TRAJECTORY = Path(__file__).parent / "trajectories" / "bananas.json"


def small(**changes: Any) -> Bananas:
    """Quick to train."""
    return Bananas(**{"initial": 4, "batch": 3, "candidates": 30, "epochs": 3, "members": 3, **changes})


@pytest.mark.parametrize("law", STRATEGY_LAWS, ids=lambda law: law.__name__)
def test_it_keeps_the_laws(law: Callable[..., None]) -> None:
    if law is replayed:
        replayed(small, thorough=False)
    elif law is fast:
        fast(Bananas, step_seconds=0.2)  # bound of a loaded machine; alone it takes some 0.025
    else:
        law(small)


def test_trajectory() -> None:
    """The first 25 proposals.

    Regenerate: python -c "import json; from tests.strategies.test_bananas import *; TRAJECTORY.write_text(json.dumps(
    trajectory(), indent=1) + chr(10))". Users' seeded searches then change too: say so in CHANGELOG.
    """
    assert trajectory() == json.loads(TRAJECTORY.read_text(encoding="utf-8"))


def trajectory() -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(Bananas(initial=5, batch=5, candidates=40, epochs=10), problem, 25, concurrency=2).keys


def test_better_than_random() -> None:
    """One-sided Wilcoxon signed-rank test on the best of 70 trials, paired by seed."""
    found: list[float] = []
    chance: list[float] = []
    for seed in range(12):
        problem = toy_problem(seed=seed, trials=70)
        for results, make in ((found, lambda: Bananas(epochs=40)), (chance, Random)):
            results.append(max(t.metrics["accuracy"] for t in drive(make(), problem, 70).trials))
    assert wilcoxon(found, chance, alternative="greater").pvalue < 0.001


def test_candidates_are_mutations_of_the_best_when_the_round_began() -> None:
    """With one parent, all of a round differ in one decision from the best of what was told before it."""
    space = toy_space(5, 4)
    run = drive(small(parents=1, candidates=200), toy_problem(space), 16)
    for start in (4, 7, 10, 13):
        best = max(run.trials[:start], key=lambda t: t.metrics["accuracy"])
        for proposal in run.proposals[start : start + 3]:
            assert proposal.origin == "mutation"
            assert proposal.parents == (best.number,)
            assert space.distance(proposal.architecture, best.architecture) == 1


def test_the_ensemble_is_trained_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a resume in the middle of the fourth round, which trains for this one only."""
    rows: list[int] = []
    fit = Ensemble.fit

    def counted(self: Ensemble, x: Any, y: Any) -> Ensemble:
        rows.append(len(x))
        return fit(self, x, y)

    monkeypatch.setattr(Ensemble, "fit", counted)
    run = drive(small(), toy_problem(), 16)
    assert rows == [4, 7, 10, 13]
    rows.clear()
    cut = run.log.index(run.proposals[14]) + 1
    again = drive(small(), toy_problem(), 16, replay=run.log[:cut])
    assert rows == [13]
    assert again.keys == run.keys


def test_random_until_something_can_be_learnt() -> None:
    """With 20 trials under way two are told before proposal 21."""
    run = drive(small(), toy_problem(), 30, concurrency=20)
    assert [p.origin for p in run.proposals[:21]] == ["random"] * 21
    assert run.proposals[21].origin == "mutation"


@pytest.mark.parametrize("acquisition", ["its", "ei", "ucb", "ts", "pi"])
@pytest.mark.parametrize("loss", ["mae", "mape"])
def test_every_acquisition_learns(acquisition: Any, loss: Any) -> None:
    problem = toy_problem(trials=40)
    run = drive(small(acquisition=acquisition, loss=loss, epochs=20), problem, 40)
    first, last = run.trials[:4], run.trials[-8:]
    assert sum(t.metrics["params"] for t in last) / 8 > 1.2 * sum(t.metrics["params"] for t in first) / 4


def test_a_bound_is_of_the_objective_in_its_own_direction() -> None:
    """An error that no network undercuts, as in the paper's code: 0.045."""
    problem = toy_problem(objectives=(Objective(metric="error", direction="minimize"),))
    strategy = small(loss="mape", bound=0.0)
    run = drive(strategy, problem, 20, outcome=lambda a: {"error": 1 - toy_outcome(a)["accuracy"]})
    assert min(t.metrics["error"] for t in run.trials[4:]) < min(t.metrics["error"] for t in run.trials[:4])
    with pytest.raises(InvalidInputError, match="`bound` must be above every target"):
        drive(small(loss="mape", bound=0.9), problem, 8, outcome=lambda a: {"error": 1 - toy_outcome(a)["accuracy"]})


def test_measured_constraints_are_learnt() -> None:
    """A limit on a metric that is not cheap: most of what is proposed late meets it, few random networks do."""
    problem = toy_problem(constraints=at_most(30), cheap_metrics=lambda _: {}, trials=60)
    run = drive(small(initial=10, epochs=30), problem, 60)
    assert sum(t.metrics["params"] <= 30 for t in run.trials[:10]) <= 3
    assert sum(t.metrics["params"] <= 30 for t in run.trials[30:]) >= 15


@pytest.mark.parametrize("cheap", [True, False])
def test_two_objectives_cover_the_front(cheap: bool) -> None:
    """Small ones and accurate ones come, whether the second objective is read or learnt."""
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    changes: dict[str, Any] = {} if cheap else {"cheap_metrics": lambda _: {}}
    problem = toy_problem(objectives=objectives, trials=80, **changes)
    run = drive(small(initial=10, epochs=20, batch=5, candidates=100), problem, 80)
    first = [t.metrics["params"] for t in run.trials[:10]]
    sizes = [t.metrics["params"] for t in run.trials]
    assert min(sizes) < min(first) - 5
    assert max(sizes) > max(first) + 5


@pytest.mark.parametrize("acquisition", ["its", "ei", "ucb", "pi"])
def test_a_candidate_whose_cheap_objective_is_not_known_comes_last(acquisition: Any) -> None:
    """The others are scored as if it were not there."""
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    plain = toy_problem(objectives=objectives)
    log = drive(small(), plain, 4).log
    trials = [entry for entry in log if isinstance(entry, Trial)]

    def scores(lost: str) -> Any:
        cheap = lambda a: {"params": float("nan") if a.key == lost else toy_outcome(a)["params"]}  # noqa: E731
        problem = toy_problem(objectives=objectives, cheap_metrics=cheap)
        strategy = small(acquisition=acquisition)
        strategy.setup(problem)
        pool = Pool(problem, trials, Generator(1))
        pool.add_random(8)
        predicted = np.random.default_rng(0).random((3, len(pool), 1))
        return pool, strategy._score(4, trials, pool, predicted)

    pool, _ = scores("")
    lost = pool.architectures[2].key
    _, row = scores(lost)
    assert np.isnan(row[:, 2]).all()
    assert np.isfinite(np.delete(row, 2, axis=1)).all()
    assert len(np.unique(np.delete(row, 2, axis=1)[0])) > 1


def test_only_cheap_objectives_need_no_model() -> None:
    problem = toy_problem(objectives=(Objective(metric="params", direction="minimize"),))
    run = drive(small(), problem, 30)
    assert all(isinstance(p, Proposal) for p in run.proposals)
    assert min(t.metrics["params"] for t in run.trials) < 20


def test_settings_are_stored() -> None:
    strategy = Bananas(acquisition="ei", loss="mape", bound=0.99, batch=4)
    assert restore(json.loads(json.dumps(describe(strategy, "strategy"))), "strategy") == strategy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": 1}, "`initial` must be an integer of 2 or more, got 1"),
        ({"batch": 0}, "`batch`"),
        ({"acquisition": "eih"}, "`acquisition` must be one of its, ei, ucb, ts, pi, got 'eih'"),
        ({"loss": "rank"}, "`loss` must be one of mae, mape, got 'rank'"),
        ({"bound": 0.9}, "`bound` is of loss='mape'"),
    ],
)
def test_settings_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Bananas(**settings)


def test_a_bound_is_of_the_objective_beside_a_measured_constraint() -> None:
    problem = toy_problem(constraints=at_most(30), cheap_metrics=lambda _: {}, trials=60)
    run = drive(small(loss="mape", bound=1.0), problem, 12)
    assert any(p.origin == "mutation" for p in run.proposals)


def test_a_bound_is_refused_for_several_objectives() -> None:
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    with pytest.raises(InvalidInputError, match="one objective"):
        Bananas(loss="mape", bound=1.0).setup(toy_problem(objectives=objectives))
