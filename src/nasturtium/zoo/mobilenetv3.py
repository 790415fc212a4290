"""MobileNetV3, large and small, with width and depth multipliers.

Level: network. Task: image classification. Found by MnasNet's search and NetAdapt, then finished by hand.

Reference:
    Howard et al. (2019), "Searching for MobileNetV3", arXiv 1905.02244, tables 1 and 2.
"""

from __future__ import annotations

import re

from nasturtium.blocks import Sequential
from nasturtium.errors import InvalidInputError
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import HARD_SQUEEZE, Style, Table, network

LARGE: Table = (
    "ds_r1_k3_s1_e1_c16_nre",
    "ir_r1_k3_s2_e4_c24_nre ir_r1_k3_s1_e3_c24_nre",
    "ir_r3_k5_s2_e3_c40_se0.25_nre",
    "ir_r1_k3_s2_e6_c80 ir_r1_k3_s1_e2.5_c80 ir_r2_k3_s1_e2.3_c80",
    "ir_r2_k3_s1_e6_c112_se0.25",
    "ir_r3_k5_s2_e6_c160_se0.25",
    "cn_r1_k1_s1_c960",
)
SMALL: Table = (
    "ds_r1_k3_s2_e1_c16_se0.25_nre",
    "ir_r1_k3_s2_e4.5_c24_nre ir_r1_k3_s1_e3.67_c24_nre",
    "ir_r1_k5_s2_e4_c40_se0.25 ir_r2_k5_s1_e6_c40_se0.25",
    "ir_r2_k5_s1_e3_c48_se0.25",
    "ir_r3_k5_s2_e6_c96_se0.25",
    "cn_r1_k1_s1_c576",
)


def minimal(table: Table) -> Table:
    """The "minimalistic" variant: no squeeze-and-excitation, 3x3 kernels only."""
    return tuple(text.replace("_se0.25", "").replace("_k5", "_k3") for text in table)


def mobilenetv3(
    size: str = "large",
    width: float = 1.0,
    depth: float = 1.0,
    *,
    is_minimal: bool = False,
    padding: str = "same",
    classes: int | None = None,
) -> Sequential:
    """The network.

    Args:
        size: "large" or "small".
        width: Multiplier of the widths; below 0.75 the stem keeps its 16 channels.
        depth: Multiplier of the blocks in a stage, rounded up.
        is_minimal: Whether to leave out squeeze-and-excitation, 5x5 kernels and hard swish.
        padding: "same", or "tf_same" for weights trained in TensorFlow.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: the size is neither.
    """
    if size not in ("large", "small"):
        raise InvalidInputError(f'`size` of MobileNetV3 must be "large" or "small", got {size!r}.')
    table = LARGE if size == "large" else SMALL
    style = Style(
        act="relu" if is_minimal else "hardswish",
        width=width,
        depth=depth,
        se=HARD_SQUEEZE,
        padding=padding,
        norm={"eps": 1e-3, "momentum": 0.01},
    )
    return network(
        minimal(table) if is_minimal else table,
        style,
        stem=16 if width < 0.75 else style.channels(16),
        features=1280 if size == "large" else 1024,
        classes=classes,
    )


def mobilenetv3_rw(*, classes: int | None = None) -> Sequential:
    """A variant of the large network: unrounded squeeze-and-excitation, and no bias in the hidden layer."""
    squeeze = HARD_SQUEEZE | {"se_divisor": 1, "se_act": "hardswish"}
    style = Style(act="hardswish", se=squeeze, norm={"eps": 1e-3})
    table = (LARGE[0] + "_noskip", *LARGE[1:])
    return network(table, style, stem=16, features=1280, features_bias=False, classes=classes)


def _named(match: re.Match[str], classes: int) -> Block:
    return mobilenetv3(
        match[2],
        multiplier(match[4]),
        1.2 if match[5] else 1.0,
        is_minimal=bool(match[3]),
        padding="tf_same" if match[1] else "same",
        classes=classes,
    )


FAMILIES = (
    Family(
        name="mobilenetv3",
        title="MobileNetV3",
        paper='Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244',
        names={
            "timm": (
                (r"(tf_)?mobilenetv3_(large|small)_(minimal_)?(\d{3})(d?)(?:_miil)?", _named),
                (r"mobilenetv3_rw", lambda _, c: mobilenetv3_rw(classes=c)),
            ),
            "torchvision": ((r"mobilenet_v3_(large|small)", lambda m, c: mobilenetv3(m[1], classes=c)),),
        },
        named=("mobilenetv3_large_NNN, mobilenetv3_small_NNN",),
    ),
)
