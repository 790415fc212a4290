"""MnasNet A1, B1 and small, with width multipliers, and Single-Path NAS on the same backbone.

Level: network. Task: image classification.

Reference:
    Tan et al. (2019), "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv 1807.11626, figure 7 and
    the authors' code; Stamoulis et al. (2019), "Single-Path NAS", arXiv 1904.02877.
"""

from __future__ import annotations

from typing import Any

from nasturtium.blocks import Sequential
from nasturtium.errors import UnknownNameError
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLES: dict[str, Table] = {
    "a1": (
        "ds_r1_k3_s1_e1_c16_noskip",
        "ir_r2_k3_s2_e6_c24",
        "ir_r3_k5_s2_e3_c40_se0.25",
        "ir_r4_k3_s2_e6_c80",
        "ir_r2_k3_s1_e6_c112_se0.25",
        "ir_r3_k5_s2_e6_c160_se0.25",
        "ir_r1_k3_s1_e6_c320",
    ),
    "b1": (
        "ds_r1_k3_s1_c16_noskip",
        "ir_r3_k3_s2_e3_c24",
        "ir_r3_k5_s2_e3_c40",
        "ir_r3_k5_s2_e6_c80",
        "ir_r2_k3_s1_e6_c96",
        "ir_r4_k5_s2_e6_c192",
        "ir_r1_k3_s1_e6_c320_noskip",
    ),
    "small": (
        "ds_r1_k3_s1_c8",
        "ir_r1_k3_s2_e3_c16",
        "ir_r2_k3_s2_e6_c16",
        "ir_r4_k5_s2_e6_c32_se0.25",
        "ir_r3_k3_s1_e6_c32_se0.25",
        "ir_r3_k5_s2_e6_c88_se0.25",
        "ir_r1_k3_s1_e6_c144",
    ),
    "single_path": (
        "ds_r1_k3_s1_c16_noskip",
        "ir_r3_k3_s2_e3_c24",
        "ir_r1_k5_s2_e6_c40 ir_r3_k3_s1_e3_c40",
        "ir_r1_k5_s2_e6_c80 ir_r3_k3_s1_e3_c80",
        "ir_r1_k5_s1_e6_c96 ir_r3_k5_s1_e3_c96",
        "ir_r4_k5_s2_e6_c192",
        "ir_r1_k3_s1_e6_c320_noskip",
    ),
}
STEMS = {"small": 8}
SQUEEZE: dict[str, Any] = {"se_of": "input", "se_act": "relu", "se_gate": "sigmoid"}


def mnasnet(
    variant: str = "a1", width: float = 1.0, *, momentum: float = 0.1, classes: int | None = None
) -> Sequential:
    """The network.

    Args:
        variant: "a1" (with squeeze-and-excitation), "b1", "small" or "single_path".
        width: Multiplier of all widths but the head's.
        momentum: Of the norms; torchvision takes 0.0003.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no variant of that name.
    """
    if variant not in TABLES:
        raise UnknownNameError("MnasNet variant", variant, TABLES)
    style = Style(act="relu", width=width, se=SQUEEZE, norm={"momentum": momentum})
    stem = style.channels(STEMS.get(variant, 32))
    return network(TABLES[variant], style, stem=stem, head=1280, classes=classes)


FAMILIES = (
    Family(
        name="mnasnet",
        title="MnasNet A1, B1, small; Single-Path NAS",
        paper='Tan et al. 2019, "MnasNet", arXiv 1807.11626',
        names={
            "timm": (
                (r"mnasnet_(small|a1|b1)", lambda m, c: mnasnet(m[1], classes=c)),
                (r"mnasnet_(\d{3})", lambda m, c: mnasnet("b1", multiplier(m[1]), classes=c)),
                (r"semnasnet_(\d{3})", lambda m, c: mnasnet("a1", multiplier(m[1]), classes=c)),
                (r"spnasnet_(\d{3})", lambda m, c: mnasnet("single_path", multiplier(m[1]), classes=c)),
            ),
            "torchvision": (
                (r"mnasnet(\d_\d+)", lambda m, c: mnasnet("b1", multiplier(m[1]), momentum=0.0003, classes=c)),
            ),
        },
        named=("mnasnet_NNN, semnasnet_NNN, mnasnet_small, mnasnetN_N", "spnasnet_NNN"),
    ),
)
