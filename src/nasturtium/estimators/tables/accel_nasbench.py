"""Accel-NASBench: 5,138 networks of an MnasNet-like space on ImageNet, with throughput and latency on accelerators.

Reference:
    Ahmad et al. 2024, "Accel-NASBench: Sustainable Benchmarking for Accelerator-Aware NAS", DAC, arXiv 2404.08005.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.blocks import Classifier, Conv, MBConv, Sequential, repeat
from nasturtium.errors import InvalidInputError
from nasturtium.estimators.tables.column import Column, merge_repeats
from nasturtium.estimators.tables.files import Arrays, choose
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.space import Space, one_of

FILE = "accel_nasbench/accel_nasbench.npz"
INPUT_SHAPE, CLASSES = (3, 224, 224), 1000
STAGES = ((16, 1, 3), (24, 2, 3), (40, 2, 3), (80, 2, 3), (112, 1, 3), (192, 2, 4), (320, 1, 3))
"""Width, stride and largest number of layers of the seven blocks. The widths and strides are EfficientNet-B0's."""

EXPANSIONS, KERNELS, SQUEEZES = (1, 4, 6), (3, 5), (None, 0.25)


def read(root: Path, part: str, *, source: Mapping[str, Any]) -> Tabular:
    """The table.

    "accuracy" is the top-1 accuracy on ImageNet's validation images after the paper's shortened training, one seed;
    "top5_accuracy" likewise. Simulated seconds are the file's training times. Cheap are "params", "macs",
    "throughput_<platform>" in images a second, and "latency_<platform>" in seconds (NaN where the file has none).

    The table is a sample, so `table.space` lists its rows. Its decisions are the file's; its blocks stand for the
    file's on EfficientNet-B0's widths, and their own costs are not the file's, whose networks are not defined there.
    Of 13 architectures the file has two trainings, of which the table has the mean.

    Args:
        root: Folder of data sets.
        part: Nothing.
        source: How it is opened again.
    """
    if part:
        raise InvalidInputError(f"The table 'accel_nasbench' has no parts, got {part!r}.")
    space = _space()
    with Arrays(root / FILE) as arrays:
        columns = [
            Column(metric="accuracy", values=arrays["val_top1"] / 100.0),
            Column(metric="top5_accuracy", values=arrays["val_top5"] / 100.0),
            Column(metric="train_seconds", values=arrays["train_time_s"], role="seconds"),
            Column(metric="params", values=arrays["mparams"] * 1e6, role="cheap"),
            Column(metric="macs", values=arrays["mmacs"] * 1e6, role="cheap"),
        ]
        measured = arrays["platform_perf"]
        for number, platform in enumerate(arrays["platforms"]):
            unit = 1000.0 if str(platform).startswith("latency") else 1.0
            columns.append(Column(metric=str(platform), values=measured[:, number] / unit, role="cheap", missing=True))
        rows = _rows(arrays, space)
    rows, merged = merge_repeats(rows, columns)
    return Tabular(
        name="accel_nasbench", space=Space.from_table(space, rows), rows=rows, columns=merged,
        input_shape=INPUT_SHAPE, classes=CLASSES, source=source,
    )  # fmt: skip


def _rows(arrays: Arrays, space: Space) -> NDArray[np.int8]:
    """Decision indices of all rows."""
    given = arrays["arch"].astype(np.int8)
    rows = np.empty((len(given), len(space.decisions)), dtype=np.int8)
    indices = {
        "expansion": lambda values: np.searchsorted(EXPANSIONS, values),
        "kernel": lambda values: np.searchsorted(KERNELS, values),
        "layers": lambda values: values - 1,
        "squeeze_excite": lambda values: values,
    }
    for number, field in enumerate(arrays["arch_fields"].tolist()):
        for block in range(len(STAGES)):
            position = space.decision(f"block_{block}.{field}").position
            rows[:, position] = choose("field of Accel-NASBench", field, indices)(given[:, block, number])
    return rows


def _space() -> Space:
    blocks = []
    for number, (width, stride, most) in enumerate(STAGES):
        layer = MBConv(
            width, expand=one_of(*EXPANSIONS, name=f"block_{number}.expansion"),
            kernel=one_of(*KERNELS, name=f"block_{number}.kernel"),
            se=one_of(*SQUEEZES, name=f"block_{number}.squeeze_excite"),
        )  # fmt: skip
        times = one_of(*range(1, most + 1), name=f"block_{number}.layers")
        blocks.append(repeat(layer, times=times, shared=True, stride=stride))
    return Space(Sequential(Conv(32, stride=2), *blocks, Conv(1280, 1), Classifier()))
