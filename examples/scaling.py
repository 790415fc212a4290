"""Depth, width, resolution, or all three: how a small network on Fashion-MNIST is best made larger. Measured.

Protocol (at most 30 minutes on one thread):
  1. Network: `network`, inverted residuals, at 14x14 (Fashion-MNIST halved), so that the resolutions reached are at
     most 28x28, the images' own.
  2. Images: the first 2,000 train images and the first 2,000 validation images (`task`). Test stays unseen.
  3. Grid of alpha, beta, gamma with alpha * beta^2 * gamma^2 near 2, one training a point, against the noise of three
     trainings of the small network.
  4. Scaled by 2 and 4 in each way; each network is trained three times with seeds that the grid did not see.

    nasturtium design scale examples.scaling:network --data examples.scaling:task --factor 2 4 --input 1x14x14 \
        --divisor 4 --step 0.1 --epochs 8 --repeats 3 -o runs/scaling

Run in the project's folder; the data is found through `NASTURTIUM_DATA`, or beside the project in `../shared/data`.

Reference: Tan, Le (2019), "EfficientNet", arXiv 1905.11946, section 3.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import nasturtium as nas
from nasturtium.tasks import Task

IMAGES = 2000


def network() -> nas.Block:
    """What is scaled."""
    return nas.Sequential(
        nas.Conv(8),
        nas.repeat(nas.MBConv(8, expand=3), 1),
        nas.repeat(nas.MBConv(16, expand=3), 2, stride=2),
        nas.repeat(nas.MBConv(24, expand=3), 2, stride=2),
        nas.Classifier(),
    )


def task() -> Task:
    """Fashion-MNIST with its first train and validation images."""
    whole = nas.tasks.load("fashion-mnist")
    parts = {name: whole.split(name).take(np.arange(IMAGES)) for name in ("train", "validation")}
    return replace(whole, splits={**whole.splits, **parts}, loader=None)
