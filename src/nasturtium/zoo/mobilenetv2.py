"""MobileNetV2 and its width and depth multipliers.

Level: network. Task: image classification. Hand-designed; the backbone from which MnasNet's and ProxylessNAS's spaces
are made.

Reference:
    Sandler et al. (2018), "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, table 2.
"""

from __future__ import annotations

import re

from nasturtium.blocks import Sequential, make_divisible
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "ds_r1_k3_s1_c16",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k3_s2_e6_c32",
    "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96",
    "ir_r3_k3_s2_e6_c160",
    "ir_r1_k3_s1_e6_c320",
)


def mobilenetv2(
    width: float = 1.0, depth: float = 1.0, *, fix_ends: bool = False, classes: int | None = None
) -> Sequential:
    """The network.

    Args:
        width: Multiplier of the widths; the head does not shrink below 1280 channels.
        depth: Multiplier of the blocks in a stage, rounded up.
        fix_ends: Whether stem, head and the depths of the first and last stage are not scaled (timm's "d" variants).
        classes: Number of classes; None takes it from the task.
    """
    style = Style(act="relu6", width=width, depth=depth, fix_ends=fix_ends)
    return network(
        TABLE,
        style,
        stem=32 if fix_ends else style.channels(32),
        head=1280 if fix_ends else max(1280, make_divisible(1280 * width)),
        classes=classes,
    )


def _named(match: re.Match[str], classes: int) -> Block:
    width = multiplier(match[1])
    if not match[2]:
        return mobilenetv2(width, classes=classes)
    return mobilenetv2(width, round(2 * width - 1, 2), fix_ends=True, classes=classes)


FAMILIES = (
    Family(
        name="mobilenetv2",
        title="MobileNetV2",
        paper='Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381',
        names={
            "timm": ((r"mobilenetv2_(\d{3})(d?)", _named),),
            "torchvision": ((r"mobilenet_v2", lambda _, c: mobilenetv2(classes=c)),),
        },
        named=("mobilenetv2_NNN",),
    ),
)
