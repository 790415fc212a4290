"""MobileNet (the first), with width multipliers.

Level: network. Task: image classification. Hand-designed.

Reference:
    Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    arXiv 1704.04861, table 1.
"""

from __future__ import annotations

from nasturtium.blocks import Sequential
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "dsa_r1_k3_s1_c64",
    "dsa_r2_k3_s2_c128",
    "dsa_r2_k3_s2_c256",
    "dsa_r6_k3_s2_c512",
    "dsa_r2_k3_s2_c1024",
)


def mobilenetv1(width: float = 1.0, *, classes: int | None = None) -> Sequential:
    """The network, with a multiplier of all widths."""
    style = Style(act="relu6", width=width)
    return network(TABLE, style, stem=style.channels(32), classes=classes)


FAMILIES = (
    Family(
        name="mobilenetv1",
        title="MobileNet",
        paper='Howard et al. 2017, "MobileNets", arXiv 1704.04861',
        names={"timm": ((r"mobilenetv1_(\d{3})", lambda m, c: mobilenetv1(multiplier(m[1]), classes=c)),)},
        named=("mobilenetv1_NNN",),
    ),
)
