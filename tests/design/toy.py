"""What the command's tests name by `module:name`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import nasturtium as nas
from nasturtium.errors import TrialError
from nasturtium.tasks import Task


def task() -> Task:
    """Some digits."""
    digits = nas.tasks.load("digits")
    parts = {name: digits.split(name).take(np.arange(80)) for name in ("train", "validation", "test")}
    return replace(digits, splits=parts, loader=None)


def network() -> nas.Block:
    """A small network to scale."""
    return nas.Sequential(
        nas.Conv(4, stride=2),
        nas.repeat(nas.MBConv(4, expand=2), 1),
        nas.repeat(nas.MBConv(8, expand=2), 2, stride=2),
        nas.Classifier(),
    )


def wide() -> nas.Space:
    """Two convolutions, the first one wide."""
    return nas.Space(nas.Sequential(nas.Conv(nas.int_range(8, 40)), nas.Conv(nas.int_range(2, 10)), nas.Classifier()))


def narrow() -> nas.Space:
    """Two convolutions, the first one narrow."""
    return nas.Space(nas.Sequential(nas.Conv(nas.int_range(2, 20)), nas.Conv(nas.int_range(2, 30)), nas.Classifier()))


ASKED: list[int] = []


def error(architecture: nas.Architecture, number: int) -> float:
    """Smaller where the first convolution is wide; every tenth network fails."""
    ASKED.append(number)
    if number % 10 == 9:
        raise TrialError("diverged", kind="diverged")
    return 0.5 - architecture.block.layers[0].width / 100
