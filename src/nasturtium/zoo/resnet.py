"""ResNet and its descendants: ResNeXt, Wide ResNet, ResNet-C/D/S/T, SE-ResNet, and the networks for CIFAR.

Level: network. Task: image classification. Hand-designed; the baselines to compare searches with.

Reference:
    He et al. (2016), "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1 and section 4.2;
    stems and shortcuts: He et al. (2019), "Bag of Tricks", arXiv 1812.01187, section 4.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nasturtium.blocks import BasicBlock, Bottleneck, Classifier, Conv, MaxPool, Repeat, Sequential
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, Names, Row
from nasturtium.zoo.resolution import halvings, strides
from nasturtium.zoo.scaling import scaled_depth, scaled_width

DEPTHS: dict[int, tuple[type[Any], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    14: (Bottleneck, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    26: (Bottleneck, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
    269: (Bottleneck, (3, 30, 48, 8)),
}
"""Block and number of blocks in each stage, by the depth in the name."""

STEMS: dict[str, tuple[tuple[int, ...], str]] = {
    "": ((), "conv"),
    "c": ((32, 32, 64), "conv"),
    "d": ((32, 32, 64), "pool"),
    "s": ((64, 64, 128), "conv"),
    "t": ((24, 32, 64), "pool"),
}
"""Widths of a stem of 3x3 convolutions (none: one 7x7 convolution), and the shortcut, by the letter in the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What distinguishes the descendants.

    Args:
        letter: One of `STEMS`.
        groups: Groups of the middle convolution (ResNeXt).
        base_width: Width of a group in the first stage is `base_width` of 64 (Wide ResNet, ResNeXt).
        se: Ratio of squeeze-and-excitation, or None.
    """

    letter: str = ""
    groups: int = 1
    base_width: int = 64
    se: float | None = None


def resnet(
    depth: int = 50,
    variant: Variant | None = None,
    *,
    width: float = 1.0,
    depth_multiplier: float = 1.0,
    classes: int | None = None,
) -> Sequential:
    """A published network for images of about 224 pixels, or one scaled from it.

    Args:
        depth: One of `DEPTHS`.
        variant: A descendant; None is ResNet itself.
        width: Multiplier of all widths, which are rounded to multiples of 8; with groups, of a group's width.
        depth_multiplier: Multiplier of the blocks in a stage, rounded up.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: the depth is not published.
        InvalidInputError: groups or another base width with a depth that has no bottleneck, or a multiplier that is
            not positive.
    """
    variant = variant or Variant()
    if depth not in DEPTHS:
        raise UnknownNameError("ResNet depth", str(depth), map(str, DEPTHS))
    kind, counts = DEPTHS[depth]
    widths, shortcut = STEMS[variant.letter]
    if kind is BasicBlock and (variant.groups, variant.base_width) != (1, 64):
        raise InvalidInputError(f"ResNet-{depth} has no bottleneck, so it has no groups or base width.")
    stem: list[Block] = [Conv(scaled_width(w, width), stride=1 if i else 2) for i, w in enumerate(widths)]
    stem = stem or [Conv(scaled_width(64, width), 7, stride=2)]
    shared: dict[str, Any] = {"shortcut": shortcut, "se": variant.se}
    stages = []
    for i, (planes, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True)):
        fields = dict(shared)
        if kind is Bottleneck:
            group = scaled_width(planes * variant.base_width // 64, width, 8 if variant.groups == 1 else 1)
            fields |= {"mid": group * variant.groups, "groups": variant.groups}
        channels = scaled_width(planes * 4 if kind is Bottleneck else planes, width)
        stages.append(_stage(kind, channels, scaled_depth(count, depth_multiplier), 2 if i else 1, fields))
    return Sequential(*stem, MaxPool(3, 2), *stages, Classifier(classes))


def _stage(kind: type[Any], width: int, count: int, stride: int, fields: dict[str, Any]) -> Repeat:
    return Repeat(tuple(kind(width, stride=1 if i else stride, **fields) for i in range(count)))


def resnet_cifar(
    depth: int = 56, width: float = 1.0, *, shortcut: str = "conv", classes: int | None = None
) -> Sequential:
    """ResNet for 32x32 images: three stages of basic blocks with 16, 32 and 64 channels.

    Args:
        depth: 6 n + 2 (20, 32, 44, 56, 110 …).
        width: Multiplier of the widths.
        shortcut: "conv" (option B), or "pad" (option A, the paper's).
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: the depth is not 6 n + 2.
    """
    if depth < 8 or depth % 6 != 2:
        raise InvalidInputError(f"`depth` of a CIFAR ResNet must be 6 n + 2, for example 20 or 56, got {depth!r}.")
    widths = [max(1, round(channels * width)) for channels in (16, 32, 64)]
    stages = [
        _stage(BasicBlock, w, (depth - 2) // 6, 2 if i else 1, {"shortcut": shortcut}) for i, w in enumerate(widths)
    ]
    return Sequential(Conv(widths[0]), *stages, Classifier(classes))


def resnet_small(
    input_shape: tuple[int, ...] = (1, 8, 8), width: float = 1.0, *, blocks: int = 2, classes: int | None = None
) -> Sequential:
    """ResNet scaled to small images: a hand-designed network to compare a search with.

    Three stages of basic blocks with 16, 32 and 64 channels; about 4x4 positions remain in the last stage.

    Args:
        input_shape: `(channels, height, width)`.
        width: Multiplier of the widths.
        blocks: Blocks in a stage.
        classes: Number of classes; None takes it from the task.
    """
    if not width > 0:
        raise InvalidInputError(f"`width` must be a positive multiplier, got {width!r}.")
    widths = [max(2, round(channels * width)) for channels in (16, 32, 64)]
    stem, *steps = strides(halvings(input_shape), 3)
    stages = [_stage(BasicBlock, w, blocks, s, {}) for w, s in zip(widths, steps, strict=True)]
    return Sequential(Conv(widths[0], stride=stem), *stages, Classifier(classes))


SE_RATIO = 1 / 16
"""Of SE-ResNet."""


def _named(match: re.Match[str], classes: int) -> Block:
    found = match.groupdict()
    variant = Variant(
        letter=found.get("letter") or "",
        groups=int(found.get("groups") or 1),
        base_width=int(found.get("base") or 64 * int(found.get("wide") or 1)),
        se=SE_RATIO if found.get("se") else None,
    )
    return resnet(int(match["depth"]), variant, classes=classes)


def _pycls(row: Row) -> Block:
    match = re.fullmatch(r"R-(\d+)", str(row["config"]))
    if match is None:
        raise UnknownNameError("pycls network", str(row["config"]), ("R-56", "R-110"))
    return resnet_cifar(int(match[1]), shortcut="conv", classes=10)


_NAMES: Names = tuple(
    (pattern, _named)
    for pattern in (
        r"(?:tv_|ssl_|swsl_)?(?P<se>se)?resnet(?P<depth>\d+)(?P<letter>[cdst]?)",
        r"(?:tv_|ssl_|swsl_)?(?P<se>se)?resnext(?P<depth>\d+)(?P<letter>[cdst]?)_(?P<groups>\d+)x(?P<base>\d+)d",
        r"wide_resnet(?P<depth>\d+)_(?P<wide>\d)",
    )
)

FAMILIES = (
    Family(
        name="resnet",
        title="ResNet, ResNeXt, Wide ResNet, SE-ResNet",
        paper='He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385',
        names={"timm": _NAMES, "torchvision": _NAMES},
        named=("resnetNN, resnextNN_GxWd, wide_resnetNN_2, seresnetNN",),
        rows={"pycls": _pycls},
    ),
)
