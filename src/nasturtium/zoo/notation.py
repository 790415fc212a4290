"""Stages of mobile networks written as text, as in the authors' code of MnasNet and EfficientNet.

A stage is one or more rows such as "ir_r2_k3_s2_e6_c24_se0.25": kind, repeats, kernel, stride, expansion, channels,
squeeze-and-excitation. Kinds: "ir" inverted residual, "ds" depthwise separable, "dsa" the same with an activation and
without residual, "cn" plain convolution. Further "noskip", and "nre" for ReLU in this row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from nasturtium.blocks import Classifier, Conv, DepthwiseSeparable, MBConv, Repeat, Sequential, make_divisible
from nasturtium.space import Block

ROW = re.compile(r"^(ir|dsa|ds|cn)((?:_(?:r\d+|k\d+|s\d|e[\d.]+|c\d+|se[\d.]+|noskip|nre))+)$")

HARD_SQUEEZE: dict[str, Any] = {
    "se_of": "expanded",
    "se_divisor": 8,
    "se_act": "relu",
    "se_gate": "hardsigmoid",
}
"""Squeeze-and-excitation of MobileNetV3."""

Table = tuple[str, ...]
"""One stage an item; the rows of a stage are separated by spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a stage."""

    kind: str
    repeats: int
    kernel: int
    stride: int
    channels: int
    expand: float = 1.0
    se: float | None = None
    act: str | None = None
    residual: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the rows of a table leave to the network.

    Args:
        act: Activation where a row names none.
        width: Multiplier of all widths.
        depth: Multiplier of the repeats.
        divisor: Widths are rounded to multiples of this.
        fix_ends: Whether the first and the last stage keep their depth.
        se: Fields of the blocks that say how squeeze-and-excitation is made.
        norm: Fields `eps`, `momentum` of all norms.
        padding: See `blocks.layers.PADDINGS`.
        always_expand: See `MBConv`.
    """

    act: str = "relu"
    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8
    fix_ends: bool = False
    se: dict[str, Any] = field(default_factory=dict)
    norm: dict[str, Any] = field(default_factory=dict)
    padding: str = "same"
    always_expand: bool = False

    def channels(self, value: float) -> int:
        """A width, scaled and rounded."""
        return make_divisible(value * self.width, self.divisor)


def parse(text: str) -> Row:
    """One row from its text."""
    match = ROW.match(text)
    if match is None:
        raise ValueError(f"malformed row {text!r}")
    words = match[2].strip("_").split("_")
    values = dict(re.match(r"([a-z]+)(.*)", word).groups() for word in words)  # type: ignore[union-attr, misc]
    return Row(
        kind=match[1],
        repeats=int(values["r"]),
        kernel=int(values["k"]),
        stride=int(values["s"]),
        channels=int(values["c"]),
        expand=float(values.get("e", 1)),
        se=float(values["se"]) if "se" in values else None,
        act="relu" if "nre" in values else None,
        residual="noskip" not in values and match[1] != "dsa",
    )


def scaled_repeats(repeats: list[int], style: Style) -> list[int]:
    """Repeats of a stage's rows after depth scaling; the last rows grow first.

    Reference:
        Tan, Le (2019), "EfficientNet", arXiv 1905.11946; the authors' code rounds up.
    """
    total = sum(repeats)
    scaled = ceil(total * style.depth)
    result: list[int] = []
    for count in reversed(repeats):
        part = max(1, round(count / total * scaled))
        result.append(part)
        total -= count
        scaled -= part
    return result[::-1]


def stage(text: str, style: Style, *, fixed: bool = False) -> Repeat:
    """The blocks of one stage; only its first block has the stride.

    Args:
        text: Its rows, separated by spaces.
        style: See `Style`.
        fixed: Whether its depth is not scaled.
    """
    rows = [parse(row) for row in text.split()]
    repeats = [row.repeats for row in rows]
    counts = repeats if fixed else scaled_repeats(repeats, style)
    blocks: list[Block] = []
    for row, count in zip(rows, counts, strict=True):
        blocks += [_block(row, style, row.stride if not blocks and i == 0 else 1) for i in range(count)]
    return Repeat(tuple(blocks))


def _block(row: Row, style: Style, stride: int) -> Block:
    shared: dict[str, Any] = {"stride": stride, "kernel": row.kernel, "act": row.act or style.act, **style.norm}
    shared |= {"padding": style.padding, "width": style.channels(row.channels)}
    if row.kind == "cn":
        return Conv(**shared)
    shared |= {"residual": row.residual, **(style.se if row.se is not None else {})}
    if row.kind in ("ds", "dsa"):
        shared.pop("se_of", None)
        return DepthwiseSeparable(**shared, se=row.se, project_act=shared["act"] if row.kind == "dsa" else "identity")
    return MBConv(**shared, se=row.se, expand=row.expand, divisor=8, always_expand=style.always_expand)


def stages(table: Table, style: Style) -> list[Repeat]:
    """The stages of a table."""
    last = len(table) - 1
    return [stage(text, style, fixed=style.fix_ends and i in (0, last)) for i, text in enumerate(table)]


def network(
    table: Table,
    style: Style,
    *,
    stem: int,
    head: int | None = None,
    features: int | None = None,
    features_bias: bool = True,
    classes: int | None = None,
    dropout: float = 0.2,
) -> Sequential:
    """A network: stem of stride 2, stages, optional 1x1 head, classifier.

    Args:
        table: The stages.
        style: See `Style`.
        stem: Channels of the stem, as they are.
        head: Channels of the 1x1 convolution before the pooling, or None for none.
        features: Width of the hidden layer after the pooling (MobileNetV3), or None for none.
        features_bias: Whether that has a bias.
        classes: See `Classifier`.
        dropout: See `Classifier`.
    """
    end = [] if head is None else [Conv(head, 1, act=style.act, **style.norm)]
    return Sequential(
        Conv(stem, stride=2, act=style.act, padding=style.padding, **style.norm),
        *stages(table, style),
        *end,
        Classifier(classes, dropout, features=features, act=style.act, features_bias=features_bias),
    )
