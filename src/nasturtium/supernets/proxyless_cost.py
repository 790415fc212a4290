"""What a search pays for cost: ProxylessNAS' two losses, and the reward of its REINFORCE variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, log
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import Operation, Shape
from nasturtium.supernets.expected import Additive, OperationCost

Table = Mapping[tuple[Operation, tuple[Shape, ...]], float]
"""Cost of each operation on inputs of certain shapes, for example in seconds."""
LEAST = 1.001
"""An expected cost counts as at least so many units: the loss has no gradient at one unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipliedLog:
    """`alpha * loss * (log(cost / unit) / log(reference / unit)) ** beta`: "mul#log" of the authors' code.

    The ratio of logarithms depends on the unit: the code has milliseconds or single MACs. Both costs must be above one
    unit, or the ratio would turn around (with seconds below 1, more time would be rewarded).

    Args:
        alpha: Above 0; 0.2 in the code's script.
        beta: Above 0; 0.3 in the script, 0.6 in the paper.
        unit: That the costs are counted in, above 0. None for 1e-3 where they are in seconds (a function or a table),
            and 1 where they are counted ("macs", "params", "activations").
    """

    alpha: float = 0.2
    beta: float = 0.3
    unit: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            _positive(name, getattr(self, name))
        if self.unit is not None:
            _positive("unit", self.unit)

    def __call__(self, loss: Tensor, cost: Tensor, reference: float, unit: float) -> Tensor:
        """The loss that is minimised.

        Args:
            loss: `()`, of the task.
            cost: `()`, expected.
            reference: That is aimed at, in the cost's unit.
            unit: What `unit` is where it is None.
        """
        unit = unit if self.unit is None else self.unit
        ratio = (cost / unit).clamp_min(LEAST).log() / log(reference / unit)
        return self.alpha * loss * ratio**self.beta

    def check(self, reference: float, unit: float) -> None:
        """Refuse a reference of one unit or less.

        Raises:
            InvalidInputError: it is.
        """
        unit = unit if self.unit is None else self.unit
        if not reference > unit:
            raise InvalidInputError(
                f"The loss 'mul#log' compares logarithms of costs in units of {unit:g}, so `reference` must be above "
                f"that, got {reference!r}: give a smaller `unit`, or take `AddedLinear`."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "mul#log", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedLinear:
    """`loss + weight * (cost - reference) / reference`: "add#linear" of the authors' code.

    With `weight` l2 times the reference it is the paper's `CE + l1 ||w||^2 + l2 E[cost]` (equation 9) up to a constant;
    `||w||^2` is the weight decay.

    Args:
        weight: Above 0; 0.1 in the code's script.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        _positive("weight", self.weight)

    def __call__(self, loss: Tensor, cost: Tensor, reference: float, unit: float) -> Tensor:
        """The loss that is minimised; see `MultipliedLog`."""
        del unit
        return loss + self.weight * (cost - reference) / reference

    def check(self, reference: float, unit: float) -> None:
        """Any reference will do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "add#linear", **asdict(self)}


Penalty = MultipliedLog | AddedLinear


def penalty_from(data: Mapping[str, Any]) -> Penalty:
    """Inverse of a penalty's `to_dict`.

    Raises:
        InvalidInputError: an unknown type.
    """
    values = {key: value for key, value in data.items() if key != "type"}
    if data.get("type") == "mul#log":
        return MultipliedLog(**values)
    if data.get("type") == "add#linear":
        return AddedLinear(**values)
    raise InvalidInputError(f"A penalty's type is 'mul#log' or 'add#linear', got {data.get('type')!r}.")


def reward(accuracy: float, cost: float | None, reference: float | None, exponent: float) -> float:
    """`accuracy * (reference / cost) ** exponent`, or the accuracy where no cost counts."""
    if cost is None or reference is None:
        return accuracy
    return accuracy * float((reference / cost) ** exponent)


def operation_cost(cost: Additive | OperationCost | Table) -> Additive | OperationCost:
    """A table as a function of an operation and its inputs' shapes; others as they are.

    Raises:
        InvalidInputError: when it is called: the table has no such entry.
    """
    if isinstance(cost, str) or callable(cost):
        return cost

    def looked_up(operation: Operation, inputs: tuple[Shape, ...]) -> float:
        if (operation, inputs) not in cost:
            raise InvalidInputError(
                f"The cost table has no entry for {operation!r} on inputs of shape {inputs}: measure it, or give a "
                "function that knows all operations."
            )
        return cost[operation, inputs]

    return looked_up


def reinforce_loss(log_probabilities: Tensor, rewards: list[float], baseline: float) -> Tensor:
    """`-(1/m) sum_k (R_k - b) log p_k`, whose gradient REINFORCE descends.

    Args:
        log_probabilities: `(m,)`, of the networks that were drawn.
        rewards: Of each.
        baseline: b.
    """
    advantages = torch.tensor(rewards, dtype=log_probabilities.dtype, device=log_probabilities.device) - baseline
    return -(advantages * log_probabilities).mean()


def _positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or not isfinite(value):
        raise InvalidInputError(f"`{name}` must be a number above 0, got {value!r}.")
