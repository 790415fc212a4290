"""Small networks in plain PyTorch for the tests of training."""

from __future__ import annotations

import torch
from torch import nn


def small(seed: int = 0, *, dropout: float = 0.0, depthwise: bool = True, channels: int = 1) -> nn.Sequential:
    """A few convolutions; about 99 % on digits after 15 epochs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, bias=False, groups=12 if depthwise else 1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Dropout(dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
        )  # fmt: skip
