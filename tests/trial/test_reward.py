"""Rewards against the papers' equations and hand-computed values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.reward import (
    LinearPenalty,
    MnasNet,
    Power,
    hard,
    reward_from_json,
    reward_to_json,
    soft,
)


def own(metrics: Mapping[str, float]) -> float:
    """A user's reward."""
    return metrics["accuracy"] - 1e-6 * metrics["params"]


@pytest.mark.parametrize(
    ("reward", "latency", "expected"),
    [
        # MnasNet, equation 2 with alpha = beta = -0.07: accuracy 0.75, target 75 ms (METHODS.md, section 2)
        (soft("latency", 0.075), 0.090, 0.740489),
        (soft("latency", 0.075), 0.060, 0.761807),
        (soft("latency", 0.075), 0.075, 0.75),
        (soft("latency", 0.075), 0.150, 0.75 * 0.952638),  # doubling is worth about 5 %
        # equation 3 with alpha = 0, beta = -1
        (hard("latency", 0.075), 0.060, 0.75),
        (hard("latency", 0.075), 0.075, 0.75),
        (hard("latency", 0.075), 0.090, 0.75 / 1.2),
        (hard("latency", 0.075), 0.150, 0.375),
        # one exponent on each side, by hand: 0.75 * 0.8 ** -0.1 and 0.75 * 1.2 ** -0.5
        (MnasNet(metric="latency", target=0.075, alpha=-0.1, beta=-0.5), 0.060, 0.766924),
        (MnasNet(metric="latency", target=0.075, alpha=-0.1, beta=-0.5), 0.090, 0.684653),
        (LinearPenalty(metric="latency", target=0.075, weight=0.5), 0.060, 0.75),
        (LinearPenalty(metric="latency", target=0.075, weight=0.5), 0.090, 0.65),
        (Power(), 0.090, 0.75),
        (Power(exponent=3), 0.090, 0.421875),  # NAS 2017
    ],
)
def test_values(reward: object, latency: float, expected: float) -> None:
    assert reward({"accuracy": 0.75, "latency": latency}) == pytest.approx(expected, abs=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("metric", ["macs", "params", "peak_memory"])
def test_any_metric_can_be_the_cost(metric: str) -> None:
    reward = MnasNet(metric=metric, target=2e6, alpha=0, beta=-1, accuracy="mean_iou")
    assert reward({"mean_iou": 0.6, metric: 3e6}) == pytest.approx(0.4)


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_the_target_of_a_soft_constraint_only_sets_the_scale(
    first: float, second: float, cost: float, other: float, target: float
) -> None:
    """(m / T)^w = m^w T^-w: the ratio of two networks' rewards is the same for every target."""
    a, b = {"accuracy": first, "macs": cost}, {"accuracy": second, "macs": other}
    near, far = soft("macs", 1.0), soft("macs", target)
    assert far(a) / far(b) == pytest.approx(near(a) / near(b), rel=1e-9)


def test_what_is_not_known_is_nan_and_what_makes_no_sense_is_refused() -> None:
    reward = soft("latency", 1.0)
    assert math.isnan(reward({"accuracy": math.nan, "latency": 1.0}))
    assert math.isnan(reward({"accuracy": 0.5, "latency": math.nan}))
    assert reward({"accuracy": 0.5, "latency": 0.0}) == math.inf
    with pytest.raises(InvalidInputError, match=r"power of `latency`, which must not be negative, got -1\.0"):
        reward({"accuracy": 0.5, "latency": -1.0})
    with pytest.raises(UnknownNameError, match=r"Unknown metric of the reward 'latency'\. Known: accuracy, latency_ms"):
        reward({"accuracy": 0.5, "latency_ms": 3.0})


@pytest.mark.parametrize(
    "reward",
    [
        Power(metric="mean_iou", exponent=2),
        soft("macs", 1e6),
        hard("latency", 0.1),
        LinearPenalty(metric="a", target=2),
    ],
)
def test_a_reward_survives_json(reward: Power | MnasNet | LinearPenalty) -> None:
    assert reward_from_json(json.loads(json.dumps(reward_to_json(reward)))) == reward


def test_a_function_is_stored_by_its_path() -> None:
    path = f"{__name__}:own"
    assert reward_to_json(own) == path
    assert reward_from_json(path) is own
    assert reward_from_json(path, trust=False) is own  # its module is imported
    with pytest.raises(InvalidInputError, match="import 'this_module' first"):
        reward_from_json("this_module:reward", trust=False)


def test_a_reward_that_no_import_finds_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Define it as a function of a module"):
        reward_to_json(lambda metrics: metrics["accuracy"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("accuracy", "must be a callable of the metrics, 'module:function', or a dictionary"),
        (3, "must be a callable"),
        ("no_such_module_here:f", "cannot be imported"),
        ("math:no_such_function", "'math' has no callable 'no_such_function'"),
        ({"type": "mnasnett"}, "Did you mean 'mnasnet'"),
        ({"type": "mnasnet", "limit": 3}, "does not take"),
        ({"type": "mnasnet", "metric": "macs", "target": 0}, "`target` must be a positive number, got 0"),
        ({"type": "mnasnet", "metric": "macs", "target": 1, "beta": 0.07}, "`beta` must be a number of at most 0"),
        ({"type": "power", "exponent": -1}, "`exponent` must be a positive number"),
        ({"type": "linear_penalty", "metric": "macs", "target": 1, "weight": 0}, "`weight` must be a positive"),
    ],
)
def test_bad_input_is_named(data: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        reward_from_json(data)
