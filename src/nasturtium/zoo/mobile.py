"""The `mobile` space, fit for little images, and the hand-designed networks to compare with.

Level: network. Task: image classification. Inverted residuals in three stages, or four for large images; kernel and
expansion of every block, width and depth of every stage are open. The number of strides follows the size of the image,
so that 4x4 to 7x7 positions remain.
"""

from __future__ import annotations

from typing import Any

from nasturtium.blocks import Classifier, Conv, MBConv, Sequential, make_divisible, repeat
from nasturtium.errors import InvalidInputError
from nasturtium.space import Space, one_of
from nasturtium.zoo.listing import Family
from nasturtium.zoo.resolution import halvings, strides

STAGE_WIDTHS = ((8, 12, 16), (16, 24, 32), (32, 48, 64), (64, 96, 128))
"""Widths to choose from, by stage, in channels."""


def mobile(input_shape: tuple[int, ...] = (1, 8, 8)) -> Space:
    """The space for images of the given shape.

    A stem convolution, then stages of inverted residuals, then the classifier. Open are the stem's width; of each
    stage its width (3 options) and depth (1 to 3 blocks); of each block the kernel (3, 5) and the expansion
    (2, 3, 4). Three stages up to 64 pixels, more for larger images.

    Args:
        input_shape: `(channels, height, width)`.

    Returns:
        81 x 258^3 = 1,391,054,472 architectures for three stages.
    """
    count = halvings(input_shape)
    number = min(max(3, count - 1), len(STAGE_WIDTHS))
    stem, *steps = strides(count, number)
    return Space(
        Sequential(
            Conv(one_of(8, 12, 16), stride=stem, act="relu6"),
            *(_stage(one_of(*STAGE_WIDTHS[i]), step) for i, step in enumerate(steps)),
            Classifier(),
        )
    )


def _stage(width: Any, stride: int) -> Any:
    block = MBConv(kernel=one_of(3, 5), expand=one_of(2, 3, 4))
    return repeat(block, times=one_of(1, 2, 3), width=width, stride=stride, residual=False)


def mobilenetv2_small(input_shape: tuple[int, ...] = (1, 8, 8), width: float = 1.0) -> Sequential:
    """MobileNetV2 scaled to small images: the hand-designed network to compare a search with.

    Four stages of MobileNetV2's (expansion 6, kernel 3), with strides as in `mobile`.

    Args:
        input_shape: `(channels, height, width)`.
        width: Multiplier of all widths; they are rounded to multiples of 4.

    Reference:
        Sandler et al. (2018), "MobileNetV2", arXiv 1801.04381, table 2, without its last stages.
    """
    count = halvings(input_shape)
    stem, *steps = strides(count, 3)
    rows = ((24, 2), (32, 3), (64, 3))
    scaled = [_scale(channels, width) for channels, _ in rows]
    return Sequential(
        Conv(_scale(16, width), stride=stem, act="relu6"),
        MBConv(_scale(16, width), expand=1),
        *(repeat(MBConv(w), depth, stride=s) for w, (_, depth), s in zip(scaled, rows, steps, strict=True)),
        Conv(_scale(128, width), 1, act="relu6"),
        Classifier(),
    )


def _scale(channels: int, width: float) -> int:
    if not width > 0:
        raise InvalidInputError(f"`width` must be a positive multiplier, got {width!r}.")
    return make_divisible(channels * width, 4)


FAMILIES = (
    Family(
        name="mobile",
        title="Inverted residuals for small images",
        paper='after Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381',
        space=mobile,
        input_shape=(1, 8, 8),
        size=1_391_054_472,
    ),
)
