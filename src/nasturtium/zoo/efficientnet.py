"""EfficientNet B0 to B8 and L2, EfficientNet-Lite, TinyNet: one network and its compound scaling.

Level: network. Task: image classification. B0 was found in MnasNet's space; the others scale it.

Reference:
    Tan, Le (2019), "EfficientNet: Rethinking Model Scaling for CNNs", arXiv 1905.11946, table 1 and section 3.3;
    coefficients from the authors' code. TinyNet: Han et al. (2020), "Model Rubik's Cube", arXiv 2010.14819.
"""

from __future__ import annotations

import re
from typing import Any

from nasturtium.blocks import Sequential
from nasturtium.design import ENDS, scale
from nasturtium.errors import UnknownNameError
from nasturtium.space import Block
from nasturtium.zoo.listing import Family
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "ds_r1_k3_s1_e1_c16_se0.25",
    "ir_r2_k3_s2_e6_c24_se0.25",
    "ir_r2_k5_s2_e6_c40_se0.25",
    "ir_r3_k3_s2_e6_c80_se0.25",
    "ir_r3_k5_s1_e6_c112_se0.25",
    "ir_r4_k5_s2_e6_c192_se0.25",
    "ir_r1_k3_s1_e6_c320_se0.25",
)
SCALES: dict[str, tuple[float, float, int, float]] = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "b8": (2.2, 3.6, 672, 0.5),
    "l2": (4.3, 5.3, 800, 0.5),
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 300, 0.3),
    "lite4": (1.4, 1.8, 380, 0.3),
}
"""Width and depth multiplier, resolution in pixels, dropout."""
TINY_SCALES = {"a": (1.0, 1.2), "b": (0.75, 1.1), "c": (0.54, 0.85), "d": (0.54, 0.695), "e": (0.51, 0.6)}
"""Width and depth multiplier of TinyNet."""
SQUEEZE: dict[str, Any] = {"se_of": "input", "se_act": "silu", "se_gate": "sigmoid"}
NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}


def efficientnet(variant: str = "b0", *, padding: str = "same", classes: int | None = None) -> Sequential:
    """A published network.

    Args:
        variant: "b0" … "b8", "l2", "lite0" … "lite4".
        padding: "same", or "tf_same" for weights trained in TensorFlow.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no variant of that name.
    """
    if variant not in SCALES:
        raise UnknownNameError("EfficientNet variant", variant, SCALES)
    width, depth, _, dropout = SCALES[variant]
    return scaled(width, depth, lite=variant.startswith("lite"), padding=padding, dropout=dropout, classes=classes)


def scaled(
    width: float = 1.0,
    depth: float = 1.0,
    *,
    lite: bool = False,
    padding: str = "same",
    dropout: float = 0.2,
    classes: int | None = None,
) -> Sequential:
    """B0 with any multipliers, by `nas.design.scale`.

    Args:
        width: Multiplier of the widths, which are rounded to multiples of 8.
        depth: Multiplier of the blocks in a stage, rounded up.
        lite: Whether without squeeze-and-excitation, with ReLU6, and with stem, head and the depth of first and last
            stage unscaled.
        padding: "same" or "tf_same".
        dropout: Before the classifier.
        classes: Number of classes; None takes it from the task.
    """
    style = Style(act="relu6" if lite else "silu", se=SQUEEZE, norm=NORM, padding=padding)
    table = tuple(text.replace("_se0.25", "") for text in TABLE) if lite else TABLE
    base = network(table, style, stem=32, head=1280, classes=classes, dropout=dropout)
    return scale(base, depth, width, keep=ENDS if lite else ()).network


def tinynet(variant: str = "a", *, classes: int | None = None) -> Sequential:
    """TinyNet A to E: EfficientNet-B0 scaled down; depths are rounded, stem and head are not scaled.

    Raises:
        UnknownNameError: no variant of that name.
    """
    if variant not in TINY_SCALES:
        raise UnknownNameError("TinyNet variant", variant, TINY_SCALES)
    width, depth = TINY_SCALES[variant]
    base = network(TABLE, Style(act="silu", se=SQUEEZE, norm=NORM), stem=32, head=1280, classes=classes)
    return scale(base, depth, width, round_depth="round", keep=("stem", "head")).network


def _named(match: re.Match[str], classes: int) -> Block:
    padding = "tf_same" if match[1] else "same"
    return efficientnet(match[2], padding=padding, classes=classes)


FAMILIES = (
    Family(
        name="efficientnet",
        title="EfficientNet, EfficientNet-Lite, TinyNet",
        paper='Tan, Le 2019, "EfficientNet", arXiv 1905.11946',
        names={
            "timm": (
                (r"(tf_)?efficientnet_(b\d|l2|lite\d)(?:(?<=b[23])a|_ap|_ns)?", _named),
                (r"tinynet_([a-e])", lambda m, c: tinynet(m[1], classes=c)),
            ),
            "torchvision": ((r"efficientnet_(b[0-7])", lambda m, c: efficientnet(m[1], classes=c)),),
        },
        named=("efficientnet_b0 … b8, l2, lite0 … lite4", "tinynet_a … e"),
    ),
)
