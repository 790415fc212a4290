"""Bayesian optimisation keeps the laws of strategies."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nasturtium.space import Architecture
from nasturtium.strategies import Auto, BayesianOptimization
from nasturtium.strategies.learned.bayesian import Acquisition
from nasturtium.testing import STRATEGY_LAWS, check_strategy
from nasturtium.testing.problems import at_most, drive, toy_problem, toy_space
from nasturtium.trial import Constraint

LIGHT = partial(BayesianOptimization, candidates=10, parents=2)
OFTEN = ("seeded", "pending", "constraints_kept", "several_objectives")
"""Laws that are checked each time; the slow test has all, and `test_auto.py` checks "finite" each time."""
STEP_SECONDS = 0.05
"""What the issue allows a strategy that learns a model."""


def test_laws() -> None:
    check_strategy(LIGHT, skip=[law.__name__ for law in STRATEGY_LAWS if law.__name__ not in OFTEN])


@pytest.mark.slow
@pytest.mark.parametrize("law", [law.__name__ for law in STRATEGY_LAWS])
def test_every_law(law: str) -> None:
    skipped = [each.__name__ for each in STRATEGY_LAWS if each.__name__ != law]
    check_strategy(BayesianOptimization, step_seconds=STEP_SECONDS, skip=skipped)


TRAJECTORIES = Path(__file__).parent / "trajectories" / "bayesian.json"


def trajectories() -> dict[str, list[str]]:
    """The first proposals of both, on a toy problem with inactive decisions and a limit."""
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    made = {"bayesian": BayesianOptimization(), "auto": Auto(switch=12), "ei": BayesianOptimization(acquisition="ei")}
    return {name: drive(strategy, problem, 18, concurrency=2).keys for name, strategy in made.items()}


def test_trajectory() -> None:
    """The first 18 proposals.

    Regenerate: python -c "import json; from tests.strategies.test_bayesian import *; TRAJECTORIES.write_text(
    json.dumps(trajectories(), indent=1) + chr(10))". Users' seeded searches then change too: say so in CHANGELOG.
    """
    assert trajectories() == json.loads(TRAJECTORIES.read_text(encoding="utf-8"))


def test_limits_hold_from_either_side() -> None:
    """A measured metric that is to lie in a range is sought there, and not below it."""
    limits = (
        Constraint(metric="cost", relation=">=", limit=12.0),
        Constraint(metric="cost", relation="<=", limit=20.0),
    )
    problem = toy_problem(toy_space(4, 4), seed=1, constraints=limits, cheap_metrics=lambda _: {})

    def outcome(architecture: Architecture) -> dict[str, float]:
        total = float(sum(architecture.decisions.values()))
        return {"accuracy": total / 24, "cost": total}

    run = drive(BayesianOptimization(), problem, 30, outcome=outcome)
    late = [t.metrics["cost"] for t in run.trials[10:]]
    assert sum(12 <= cost <= 20 for cost in late) >= 0.8 * len(late)
    best = max(t.metrics["accuracy"] for t in run.trials if 12 <= t.metrics["cost"] <= 20)
    assert best >= 18 / 24


@pytest.mark.parametrize("kind", ["ucb", "ei", "pi", "its"])
def test_a_candidate_is_worth_the_same_in_any_company(kind: Acquisition) -> None:
    """Scores of two batches can be compared: under a measured limit too."""
    limits = (Constraint(metric="cost", relation="<=", limit=9.0),)
    problem = toy_problem(toy_space(3, 3), seed=2, constraints=limits, cheap_metrics=lambda _: {})

    def outcome(architecture: Architecture) -> dict[str, float]:
        total = float(sum(architecture.decisions.values()))
        return {"accuracy": total / 12, "cost": total}

    strategy = BayesianOptimization(acquisition=kind)
    drive(strategy, problem, 12, outcome=outcome)
    model, pool, scores = strategy.weigh(12)
    assert np.allclose(model.scores(pool.architectures[20:30]), scores[20:30])
