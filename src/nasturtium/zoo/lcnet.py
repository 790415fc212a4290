"""PP-LCNet, a network for CPUs, with width multipliers.

Level: network. Task: image classification. Hand-designed.

Reference:
    Cui et al. (2021), "PP-LCNet: A Lightweight CPU Convolutional Neural Network", arXiv 2109.15099, table 1.
"""

from __future__ import annotations

from nasturtium.blocks import Sequential
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "dsa_r1_k3_s1_c32",
    "dsa_r2_k3_s2_c64",
    "dsa_r2_k3_s2_c128",
    "dsa_r1_k3_s2_c256 dsa_r1_k5_s1_c256",
    "dsa_r4_k5_s1_c256",
    "dsa_r2_k5_s2_c512_se0.25",
)


def lcnet(width: float = 1.0, *, classes: int | None = None) -> Sequential:
    """The network, with a multiplier of all widths but the hidden layer's."""
    style = Style(act="hardswish", width=width, se={"se_gate": "hardsigmoid"})
    return network(TABLE, style, stem=style.channels(16), features=1280, classes=classes)


FAMILIES = (
    Family(
        name="lcnet",
        title="PP-LCNet",
        paper='Cui et al. 2021, "PP-LCNet", arXiv 2109.15099',
        names={"timm": ((r"lcnet_(\d{3})", lambda m, c: lcnet(multiplier(m[1]), classes=c)),)},
        named=("lcnet_NNN",),
    ),
)
