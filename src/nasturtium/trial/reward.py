"""One number for a trial: what a controller learns to make large.

A reward is any callable of a trial's metrics; those here are values of plain numbers, so that a study can store them.
A metric is in its base unit (a latency in seconds), and so is its target.

Example:
    >>> from nasturtium.trial import reward
    >>> soft = reward.soft("latency", target=0.075)
    >>> round(soft({"accuracy": 0.75, "latency": 0.090}), 6)
    0.740489

A metric is given by its name or as itself: `reward.hard(nas.latency("cpu"), target=2e-3)`.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.metrics import Metric

Reward = Callable[[Mapping[str, float]], float]
"""Takes a completed trial's metrics; NaN and infinity count as a failed trial."""

SOFT_EXPONENT = -0.07
"""MnasNet's: doubling the latency is worth about 5 % of relative accuracy, 2 ** -0.07 = 0.953."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """A metric to a power: `value ** exponent`.

    Args:
        metric: To make large.
        exponent: Positive; 1 is the metric itself, 3 that of NAS 2017, which spreads the good networks apart.

    Reference:
        Zoph, Le (2017), "Neural architecture search with reinforcement learning", arXiv 1611.01578, section 4.1.
    """

    metric: str | Metric = "accuracy"
    exponent: float = 1.0

    def __post_init__(self) -> None:
        _plain(self, "metric")
        _positive("exponent", self.exponent)

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """The reward of a trial."""
        value = _value(metrics, self.metric)
        return value if self.exponent == 1 else _power(self.metric, value, self.exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class MnasNet:
    """`accuracy * (metric / target) ** w`, with w = alpha where the metric is at most the target, else beta.

    Args:
        metric: What a network costs: "latency", "macs", "params" …
        target: T, in the metric's base unit.
        alpha: Exponent up to the target, at most 0; -0.07 is the paper's soft, 0 its hard constraint.
        beta: Exponent beyond the target, at most 0; -0.07 is the paper's soft, -1 its hard constraint.
        accuracy: The metric to make large.

    Reference:
        Tan et al. (2019), "MnasNet: platform-aware neural architecture search for mobile", arXiv 1807.11626,
        section 3, equations 2 and 3, and figure 3.
    """

    metric: str | Metric
    target: float
    alpha: float = SOFT_EXPONENT
    beta: float = SOFT_EXPONENT
    accuracy: str | Metric = "accuracy"

    def __post_init__(self) -> None:
        _plain(self, "metric", "accuracy")
        _positive("target", self.target)
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not _is_number(value) or value > 0:
                raise InvalidInputError(f"`{name}` must be a number of at most 0, got {value!r}.")

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """The reward of a trial."""
        share = _value(metrics, self.metric) / self.target
        exponent = self.alpha if share <= 1 else self.beta
        return _value(metrics, self.accuracy) * _power(self.metric, share, exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPenalty:
    """`accuracy - weight * max(0, metric / target - 1)`: nothing is lost or won below the target.

    Args:
        metric: What a network costs.
        target: In the metric's base unit.
        weight: What an excess of the whole target costs, in the unit of `accuracy`.
        accuracy: The metric to make large.
    """

    metric: str | Metric
    target: float
    weight: float = 1.0
    accuracy: str | Metric = "accuracy"

    def __post_init__(self) -> None:
        _plain(self, "metric", "accuracy")
        _positive("target", self.target)
        _positive("weight", self.weight)

    def __call__(self, metrics: Mapping[str, float]) -> float:
        """The reward of a trial."""
        excess = max(0.0, _value(metrics, self.metric) / self.target - 1)
        return _value(metrics, self.accuracy) - self.weight * excess


def soft(
    metric: str | Metric, target: float, *, exponent: float = SOFT_EXPONENT, accuracy: str | Metric = "accuracy"
) -> MnasNet:
    """MnasNet's soft constraint: the same exponent on both sides of the target, which then only sets the scale."""
    return MnasNet(metric=metric, target=target, alpha=exponent, beta=exponent, accuracy=accuracy)


def hard(metric: str | Metric, target: float, *, accuracy: str | Metric = "accuracy") -> MnasNet:
    """MnasNet's hard constraint: the accuracy alone up to the target, divided by the excess beyond it."""
    return MnasNet(metric=metric, target=target, alpha=0.0, beta=-1.0, accuracy=accuracy)


KINDS: dict[str, type[Power | MnasNet | LinearPenalty]] = {
    "power": Power,
    "mnasnet": MnasNet,
    "linear_penalty": LinearPenalty,
}
"""Rewards that JSON can express, by their type's name."""


def reward_to_json(reward: Reward) -> Any:
    """A reward as plain JSON: a dictionary, or "module:function" for a function that can be imported.

    Raises:
        InvalidInputError: it is a lambda, or another callable that no import finds.
    """
    for name, kind in KINDS.items():
        if isinstance(reward, kind):
            return {"type": name, **dataclasses.asdict(reward)}
    path = f"{getattr(reward, '__module__', None)}:{getattr(reward, '__qualname__', None)}"
    if _lookup(path) is not reward:
        raise InvalidInputError(
            f"The reward {reward!r} cannot be stored with a study: no import finds it. Define it as a function of a "
            "module, and give the function or its path 'module:function'."
        )
    return path


def reward_from_json(data: Any, *, trust: bool = True) -> Reward:
    """Inverse of `reward_to_json`.

    Args:
        data: What it gave.
        trust: Whether a module that is not imported yet, and not nasturtium's, may be imported, which runs its code.

    Raises:
        InvalidInputError: it is not of this form, the function is not found, or its module is not trusted.
        UnknownNameError: there is no reward of that type.
    """
    if isinstance(data, Mapping):
        fields = dict(data)
        kind = str(fields.pop("type", None))
        if kind not in KINDS:
            raise UnknownNameError("reward", kind, KINDS)
        try:
            return KINDS[kind](**fields)
        except TypeError as error:
            raise InvalidInputError(f"The reward {kind!r} does not take {fields!r}: {error}.") from error
    module, _, name = data.partition(":") if isinstance(data, str) else ("", "", "")
    if not module or not name:
        raise InvalidInputError(
            f"A reward must be a callable of the metrics, 'module:function', or a dictionary with a type of "
            f"{', '.join(KINDS)}, got {data!r}."
        )
    if not trust and module not in sys.modules and module.split(".")[0] != "nasturtium":
        raise InvalidInputError(
            f"The stored reward {data!r} is not part of nasturtium: import {module!r} first if you trust where it "
            "comes from, since importing runs its code."
        )
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InvalidInputError(f"The reward {data!r} cannot be imported: {error}.") from error
    found = _lookup(data)
    if not callable(found):
        raise InvalidInputError(f"The reward {data!r} is not a function: {module!r} has no callable {name!r}.")
    result: Reward = found
    return result


def _lookup(path: str) -> object:
    """What "module:name" stands for among the imported modules; None where nothing does."""
    module, _, name = path.partition(":")
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def asked(reward: object) -> tuple[str, ...]:
    """The metrics that a reward of this module reads; none where it is the user's own."""
    found = [getattr(reward, name) for name in ("metric", "accuracy") if hasattr(reward, name)]
    return tuple(str(name) for name in found) if isinstance(reward, tuple(KINDS.values())) else ()


def _plain(reward: object, *fields: str) -> None:
    """Keep metrics by name, so that the reward is plain JSON."""
    for name in fields:
        value = getattr(reward, name)
        if isinstance(value, Metric):
            object.__setattr__(reward, name, value.name)
        elif not isinstance(value, str):
            raise InvalidInputError(f"`{name}` must be a metric or the name of one, got {value!r}.")


def _value(metrics: Mapping[str, float], name: str | Metric) -> float:
    known = str(name)  # `_plain` made it text
    if known not in metrics:
        raise UnknownNameError("metric of the reward", known, metrics)
    return float(metrics[known])


def _power(name: str | Metric, value: float, exponent: float) -> float:
    """A power that stays real: NaN of NaN, an error for a negative base, infinity for 0 to a negative power."""
    if value < 0:
        raise InvalidInputError(f"The reward takes a power of `{name}`, which must not be negative, got {value!r}.")
    if value == 0 and exponent < 0:
        return math.inf
    return float(value**exponent)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _positive(name: str, value: float) -> None:
    if not _is_number(value) or value <= 0:
        raise InvalidInputError(f"`{name}` must be a positive number, got {value!r}.")
