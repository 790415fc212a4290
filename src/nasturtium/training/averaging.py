"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of the weights and running statistics.

    The decay rises as `min(decay, (1 + steps) / (10 + steps))`, as in TensorFlow's `ExponentialMovingAverage`, so that
    the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.live = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
        self.mean = {n: t.detach().clone() for n, t in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights in."""
        self.steps += 1
        weight = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.mean.values()), list(self.live.values()), weight)

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> dict[str, Tensor]:
        """Put the average into the model; returns what was there."""
        before = {name: t.clone() for name, t in model.state_dict().items()}
        for name, tensor in self.live.items():
            tensor.copy_(self.mean[name])
        return before

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"steps": self.steps, "mean": self.mean}

    def load(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.steps = int(state["steps"])
        with torch.no_grad():
            for name, tensor in self.mean.items():
                tensor.copy_(state["mean"][name])
