"""TinyNAS on real images, to an int8 file that fits a microcontroller: the images of a run that takes minutes.

12,000 train, 3,000 validation and all test images of Fashion-MNIST, found through `NASTURTIUM_DATA`, or beside the
project in `../shared/data`. Needs the extra `tinyml`. Run in the project's folder; three trials of random search show
that it runs end to end, and no more: leave `--strategy` and `--trials` out for a search.

    nasturtium design tiny --sram 96KiB --flash 320KiB --margin 8KiB --data examples.microcontroller:task --width 0.2 \
        --width 0.3 --resolution 32 --samples 50 --trials 3 --epochs 2 --strategy random -o runs/tiny
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import nasturtium as nas
from nasturtium.tasks import Task

SIZES = {"train": 12_000, "validation": 3_000, "test": 10_000}


def task() -> Task:
    """Fashion-MNIST with its first images."""
    whole = nas.tasks.load("fashion-mnist")
    parts = {name: whole.split(name).take(np.arange(count)) for name, count in SIZES.items()}
    return replace(whole, splits=parts, loader=None)
