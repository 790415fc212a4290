"""FBNet-C, a mobile network found by gradient descent for a phone's latency.

Level: network. Task: image classification.

Reference:
    Wu et al. (2019), "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search",
    arXiv 1812.03443, figure 4.
"""

from __future__ import annotations

from nasturtium.blocks import Sequential
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "ir_r1_k3_s1_e1_c16",
    "ir_r1_k3_s2_e6_c24 ir_r2_k3_s1_e1_c24",
    "ir_r1_k5_s2_e6_c32 ir_r1_k5_s1_e3_c32 ir_r1_k5_s1_e6_c32 ir_r1_k3_s1_e6_c32",
    "ir_r1_k5_s2_e6_c64 ir_r1_k5_s1_e3_c64 ir_r2_k5_s1_e6_c64",
    "ir_r3_k5_s1_e6_c112 ir_r1_k5_s1_e3_c112",
    "ir_r4_k5_s2_e6_c184",
    "ir_r1_k3_s1_e6_c352",
)


def fbnet_c(width: float = 1.0, *, classes: int | None = None) -> Sequential:
    """The network, with a multiplier of the widths."""
    style = Style(width=width, always_expand=True)
    return network(TABLE, style, stem=style.channels(16), head=1984, classes=classes)


FAMILIES = (
    Family(
        name="fbnet",
        title="FBNet-C",
        paper='Wu et al. 2019, "FBNet", arXiv 1812.03443',
        names={"timm": ((r"fbnetc_(\d{3})", lambda m, c: fbnet_c(multiplier(m[1]), classes=c)),)},
        named=("fbnetc_100",),
    ),
)
