"""A user's own modules, as they would stand in a file of the user's."""

from __future__ import annotations

import torch
from torch import nn


class Blur(nn.Module):
    """Two convolutions, one of them frozen, and a linear gate."""

    def __init__(self, in_channels, channels=8, kernel=(3, 3), name="x"):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding="same")
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
        self.up.requires_grad_(False)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x):
        y = self.up(torch.relu(self.conv(x)))
        return y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]


class Two(nn.Module):
    """Two inputs."""

    def forward(self, x, y):
        return x + y


class DataDependent(nn.Module):
    """Fails on the meta device."""

    def forward(self, x):
        return x if x.sum().item() > -1e9 else -x


class Pair(nn.Module):
    """Returns two tensors."""

    def forward(self, x):
        return x, x


class NotAModule:
    """No `nn.Module`."""
