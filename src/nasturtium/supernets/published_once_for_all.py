"""The published latency table and accuracy predictor of Once-for-All's MobileNetV3 space of width 1.2.

Readers only: the files are the user's. They let a search run on the authors' own numbers, without training anything.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791; the authors' code (`tutorial/`, MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasturtium.blocks import make_divisible
from nasturtium.errors import DataError, IncompatibleError
from nasturtium.hardware.published import Key
from nasturtium.hardware.published import read_once_for_all as read_latencies
from nasturtium.space import Space
from nasturtium.supernets.accuracy_predictor import AccuracyPredictor
from nasturtium.supernets.genes import CostTables, Genes, Matrix
from nasturtium.zoo.once_for_all import DEPTHS, EXPANSIONS, KERNELS, MOBILENETV3, mobilenetv3_space

__all__ = ["PublishedFeatures", "latency_tables", "read_latencies", "read_predictor", "space"]

WIDTH = 1.2
"""Multiplier of the published table's and predictor's networks."""
RESOLUTIONS = (160, 176, 192, 208, 224)
"""Those that both know, in pixels; the search of the authors' tutorial chooses among them."""


def space(resolutions: Sequence[int] = RESOLUTIONS) -> Space:
    """The space that table and predictor speak of: MobileNetV3 at width 1.2, several resolutions."""
    return mobilenetv3_space(width=WIDTH, resolutions=resolutions)


def latency_tables(genes: Genes, rows: dict[Key, float]) -> CostTables:
    """Latency in seconds of every architecture of the space, the sum of its rows.

    Args:
        genes: Of `space`.
        rows: Of `read_latencies`.

    Raises:
        IncompatibleError: another space, or a resolution that the table does not have.
    """
    known = {size for size, *_ in rows}
    sizes = _sizes(genes)
    if not set(sizes) <= known:
        raise IncompatibleError(f"The table has the resolutions {sorted(known)}, the space has {sorted(sizes)}.")
    where = genes.names.index
    tables: list[tuple[tuple[int, ...], NDArray[np.float64]]] = [((0,), np.array([_fixed(rows, s) for s in sizes]))]
    for stage in range(len(MOBILENETV3.widths)):
        length = where(f"layers.1.layers.{stage + 2}.blocks.length")
        for block in range(max(DEPTHS)):
            name = f"layers.1.layers.{stage + 2}.blocks.{block}"
            values = np.array(
                [
                    _block(rows, size, stage, block, kernel, expand) if block < depth else 0.0
                    for size, depth, kernel, expand in product(sizes, DEPTHS, KERNELS, EXPANSIONS)
                ]
            ).reshape(len(sizes), len(DEPTHS), len(KERNELS), len(EXPANSIONS))
            tables.append(((0, length, where(f"{name}.kernel"), where(f"{name}.expand")), values))
    return CostTables(tables)


def _sizes(genes: Genes) -> list[int]:
    """Resolutions of the space."""
    decisions = genes.space.decisions
    like = space((160, 224)).decisions
    if [d.name for d in decisions] != [d.name for d in like] or any(
        own.options != other.options for own, other in zip(decisions[1:], like[1:], strict=True)
    ):
        raise IncompatibleError(
            "The published files are of the MobileNetV3 space at width 1.2 with its resolution open: make it with "
            "`nasturtium.supernets.published_once_for_all.space()`."
        )
    return [int(str(size)) for size in decisions[0].options]


def _width(channels: int) -> int:
    return make_divisible(channels * WIDTH)


def _square(side: int, channels: int) -> str:
    return f"{side}x{side}x{channels}"


def _half(side: int, stride: int) -> int:
    """Side of the output of an odd, "same" convolution."""
    return (side - 1) // stride + 1


def _sides(size: int, stage: int) -> tuple[int, int]:
    """Side in pixels of a stage's input and output."""
    side = _half(size, 2)
    for stride in MOBILENETV3.strides[:stage]:
        side = _half(side, stride)
    return side, _half(side, MOBILENETV3.strides[stage])


def _fixed(rows: dict[Key, float], size: int) -> float:
    """Everything that is not searched."""
    stem, first, final = _width(MOBILENETV3.stem), _width(MOBILENETV3.first), _width(MOBILENETV3.final_expand or 0)
    last, features = _width(MOBILENETV3.widths[-1]), _width(MOBILENETV3.features)
    half, end = _half(size, 2), _sides(size, len(MOBILENETV3.widths) - 1)[1]
    none = (0,) * 6
    parts: list[Key] = [
        (size, "Conv", _square(size, 3), _square(half, stem), *none),
        (size, "expanded_conv", _square(half, stem), _square(half, first), stem, 3, 1, 1, 0, 0),
        (size, "Conv_1", _square(end, last), _square(end, final), *none),
        (size, "AvgPool2D", _square(end, final), _square(1, final), *none),
        (size, "Conv_2", _square(1, final), _square(1, features), *none),
        (size, "Logits", _square(1, features), "1000", *none),
    ]
    return sum(rows[part] for part in parts)


def _block(rows: dict[Key, float], size: int, stage: int, block: int, kernel: int, expand: int) -> float:
    """One searched block."""
    widths = [_width(w) for w in (MOBILENETV3.first, *MOBILENETV3.widths)]
    before, width = widths[stage], widths[stage + 1]
    into, out = _sides(size, stage)
    stride, skip = MOBILENETV3.strides[stage], 0
    if block:
        before, into, stride, skip = width, out, 1, 1
    hidden = make_divisible(round(before * expand))
    gated, swish = int(MOBILENETV3.squeeze[stage]), int(MOBILENETV3.acts[stage] == "hardswish")
    return rows[
        (size, "expanded_conv", _square(into, before), _square(out, width), hidden, kernel, stride, skip, gated, swish)
    ]


class PublishedFeatures:
    """What the published predictor reads: kernels, expansions and resolution, one-hot; 0 beyond a stage's depth.

    20 places of 3 kernels, 20 of 3 expansions, 8 slots of resolutions, 16 pixels each from 112 on.
    """

    def __init__(self, genes: Genes) -> None:
        self.genes = genes
        self.slots = (np.array(_sizes(genes)) - 112) // 16
        self._kernels = [i for i, name in enumerate(genes.names) if name.endswith(".kernel")]
        self._expansions = [i for i, name in enumerate(genes.names) if name.endswith(".expand")]

    def __call__(self, matrix: Matrix) -> NDArray[np.float32]:
        """`(architectures, 128)`."""
        active = self.genes.active(matrix)
        found = np.zeros((len(matrix), 128), dtype=np.float32)
        for start, positions in ((0, self._kernels), (60, self._expansions)):
            for place, position in enumerate(positions):
                rows = np.flatnonzero(active[:, position])
                found[rows, start + 3 * place + matrix[rows, position]] = 1.0
        found[np.arange(len(matrix)), 120 + self.slots[matrix[:, 0]]] = 1.0
        return found


def read_predictor(genes: Genes, path: str | Path) -> AccuracyPredictor:
    """The predictor of `ofa_accuracy_predictor.npz`: top-1 on ImageNet images held out of the train split, a fraction.

    Args:
        genes: Of `space`.
        path: The file.

    Raises:
        DataError: it cannot be read, or has no such layers.
        IncompatibleError: another space.
    """
    features = PublishedFeatures(genes)
    try:
        with np.load(path) as held:
            layers = [(held[f"layer{i}_weight"], held[f"layer{i}_bias"]) for i in range(4)]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"The predictor '{path}' cannot be read ({error!r}): it must have four layers.") from error
    return AccuracyPredictor(features, layers)
