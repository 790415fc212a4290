"""HardCoRe-NAS A to F, found under hard latency constraints in a MobileNetV3-like space.

Level: network. Task: image classification.

Reference:
    Nayman et al. (2021), "HardCoRe-NAS: Hard Constrained diffeRentiable Neural Architecture Search", arXiv 2102.11646;
    tables as in the authors' code.
"""

from __future__ import annotations

from nasturtium.blocks import Sequential
from nasturtium.errors import UnknownNameError
from nasturtium.zoo.listing import Family
from nasturtium.zoo.notation import HARD_SQUEEZE, Style, Table, network

TABLES: dict[str, Table] = {
    "a": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre ir_r1_k5_s1_e3_c24_nre_se0.25",
        "ir_r1_k5_s2_e3_c40_nre ir_r1_k5_s1_e6_c40_nre_se0.25",
        "ir_r1_k5_s2_e6_c80_se0.25 ir_r1_k5_s1_e6_c80_se0.25",
        "ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k5_s1_e6_c112_se0.25",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
    "b": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre ir_r1_k5_s1_e3_c24_nre_se0.25 ir_r1_k3_s1_e3_c24_nre",
        "ir_r1_k5_s2_e3_c40_nre ir_r1_k5_s1_e3_c40_nre ir_r1_k5_s1_e3_c40_nre",
        "ir_r1_k5_s2_e3_c80 ir_r1_k5_s1_e3_c80 ir_r1_k3_s1_e3_c80 ir_r1_k3_s1_e3_c80",
        "ir_r1_k5_s1_e3_c112 ir_r1_k3_s1_e3_c112 ir_r1_k3_s1_e3_c112 ir_r1_k3_s1_e3_c112",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k3_s1_e3_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
    "c": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre ir_r1_k5_s1_e3_c24_nre_se0.25",
        "ir_r1_k5_s2_e3_c40_nre ir_r1_k5_s1_e3_c40_nre ir_r1_k5_s1_e3_c40_nre ir_r1_k5_s1_e3_c40_nre",
        "ir_r1_k5_s2_e4_c80 ir_r1_k5_s1_e6_c80_se0.25 ir_r1_k3_s1_e3_c80 ir_r1_k3_s1_e3_c80",
        "ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k3_s1_e3_c112 ir_r1_k3_s1_e3_c112 ir_r1_k3_s1_e3_c112",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k3_s1_e3_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
    "d": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre_se0.25 ir_r1_k5_s1_e3_c24_nre_se0.25",
        "ir_r1_k5_s2_e3_c40_nre_se0.25 ir_r1_k5_s1_e4_c40_nre_se0.25 ir_r1_k3_s1_e3_c40_nre_se0.25",
        "ir_r1_k5_s2_e4_c80_se0.25 ir_r1_k3_s1_e3_c80_se0.25 ir_r1_k3_s1_e3_c80_se0.25 ir_r1_k3_s1_e3_c80_se0.25",
        "ir_r1_k3_s1_e4_c112_se0.25 ir_r1_k5_s1_e4_c112_se0.25 ir_r1_k3_s1_e3_c112_se0.25 ir_r1_k5_s1_e3_c112_se0.25",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k3_s1_e6_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
    "e": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre_se0.25 ir_r1_k5_s1_e3_c24_nre_se0.25",
        "ir_r1_k5_s2_e6_c40_nre_se0.25 ir_r1_k5_s1_e4_c40_nre_se0.25 "
        "ir_r1_k5_s1_e4_c40_nre_se0.25 ir_r1_k3_s1_e3_c40_nre_se0.25",
        "ir_r1_k5_s2_e4_c80_se0.25 ir_r1_k3_s1_e6_c80_se0.25",
        "ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k5_s1_e3_c112_se0.25",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k3_s1_e6_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
    "f": (
        "ds_r1_k3_s1_e1_c16_nre",
        "ir_r1_k5_s2_e3_c24_nre_se0.25 ir_r1_k5_s1_e3_c24_nre_se0.25",
        "ir_r1_k5_s2_e6_c40_nre_se0.25 ir_r1_k5_s1_e6_c40_nre_se0.25",
        "ir_r1_k5_s2_e6_c80_se0.25 ir_r1_k5_s1_e6_c80_se0.25 ir_r1_k3_s1_e3_c80_se0.25 ir_r1_k3_s1_e3_c80_se0.25",
        "ir_r1_k3_s1_e6_c112_se0.25 ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k5_s1_e6_c112_se0.25 ir_r1_k3_s1_e3_c112_se0.25",
        "ir_r1_k5_s2_e6_c192_se0.25 ir_r1_k5_s1_e6_c192_se0.25 ir_r1_k3_s1_e6_c192_se0.25 ir_r1_k3_s1_e6_c192_se0.25",
        "cn_r1_k1_s1_c960",
    ),
}


def hardcorenas(variant: str = "a", *, classes: int | None = None) -> Sequential:
    """A published network.

    Args:
        variant: "a" to "f", by growing latency.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no variant of that name.
    """
    if variant not in TABLES:
        raise UnknownNameError("HardCoRe-NAS variant", variant, TABLES)
    style = Style(act="hardswish", se=HARD_SQUEEZE)
    return network(TABLES[variant], style, stem=32, features=1280, classes=classes)


FAMILIES = (
    Family(
        name="hardcorenas",
        title="HardCoRe-NAS A to F",
        paper='Nayman et al. 2021, "HardCoRe-NAS", arXiv 2102.11646',
        names={"timm": ((r"hardcorenas_([a-f])", lambda m, c: hardcorenas(m[1], classes=c)),)},
        named=("hardcorenas_a … f",),
    ),
)
