"""Bayesian optimisation keeps the laws of strategies."""

from __future__ import annotations

from functools import partial

import pytest

from nasturtium.strategies import BayesianOptimization
from nasturtium.testing import STRATEGY_LAWS, check_strategy

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
