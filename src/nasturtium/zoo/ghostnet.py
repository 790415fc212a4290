"""GhostNet, and GhostNetV2 with its attention over rows and columns.

Level: network. Task: image classification. Hand-designed; half of the features come from cheap depthwise convolutions.

Reference:
    Han et al. (2020), "GhostNet: More Features from Cheap Operations", arXiv 1911.11907, table 1;
    Tang et al. (2022), "GhostNetV2", arXiv 2211.12905, section 4; both as in timm.
"""

from __future__ import annotations

from nasturtium.blocks import (
    Classifier,
    Conv,
    Repeat,
    Sequential,
    conv_norm_act,
    depthwise,
    make_divisible,
    squeeze_excite,
)
from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.scaling import scaled_rows, scaled_width

Stage = tuple[tuple[int, int, int, bool], ...]

STAGES: tuple[tuple[int, Stage], ...] = (
    (1, ((3, 16, 16, False),)),
    (2, ((3, 48, 24, False), (3, 72, 24, False))),
    (2, ((5, 72, 40, True), (5, 120, 40, True))),
    (
        2,
        (
            (3, 240, 80, False),
            (3, 200, 80, False),
            (3, 184, 80, False),
            (3, 184, 80, False),
            (3, 480, 112, True),
            (3, 672, 112, True),
        ),
    ),
    (2, ((5, 672, 160, True), (5, 960, 160, False), (5, 960, 160, True), (5, 960, 160, False), (5, 960, 160, True))),
)
"""Stride of each stage, and of its blocks: kernel, hidden width, width, squeeze-and-excitation."""

HEAD = 960
"""Channels of the last convolution, before the multiplier."""

PLAIN_BLOCKS = 2
"""Blocks at the beginning that have no attention in GhostNetV2."""


def ghost(x: Tensor, width: int, *, act: str = "relu", name: str = "ghost") -> Tensor:
    """A ghost module: a 1x1 convolution to half of the channels, and a depthwise convolution of these for the rest."""
    half = (width + 1) // 2
    with x.scope(name):
        primary = conv_norm_act(x, half, act=act, name="primary")
        cheap = depthwise(primary, act=act, name="cheap")
        return ops.channel_slice(ops.concat(primary, cheap), 0, width)


def attention(x: Tensor, y: Tensor, *, name: str = "attention") -> Tensor:
    """Scale `y` by a gate from `x` at half its size: a 1x1 convolution, then depthwise 1x5 and 5x1 convolutions."""
    with x.scope(name):
        gate = ops.avg_pool(x, 2, stride=2, padding=0)
        gate = conv_norm_act(gate, y.channels, act="identity", name="mix")
        for kernel, part in (((1, 5), "row"), ((5, 1), "column")):
            with x.scope(part):
                gate = ops.batch_norm(ops.conv(gate, gate.channels, kernel, groups=gate.channels))
        gate = ops.activation(gate, "sigmoid", name="gate")
        return ops.multiply(y, ops.resize(gate, (y.height, y.width)), name="scale")


class GhostBottleneck(Block):
    """Two ghost modules, with a depthwise convolution between where the stride is more than 1, and a shortcut.

    Parts: "expand", "attention", "depthwise", "se", "project", "shortcut_depthwise", "shortcut", "add".

    Args:
        width: Output channels.
        mid: Hidden width.
        kernel: Of the depthwise convolutions, odd, in pixels.
        stride: Of the depthwise convolutions, in pixels.
        se: Whether squeeze-and-excitation, to a quarter of the hidden width, stands before the projection.
        attend: Whether the first module has attention (GhostNetV2).
    """

    width: int
    mid: int
    kernel: int = 3
    stride: int = 1
    se: bool = False
    attend: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter, squeeze, project, and add the input."""
        y = ghost(x, self.mid, name="expand")
        if self.attend:
            y = attention(x, y)
        if self.stride > 1:
            y = depthwise(y, self.kernel, stride=self.stride, act="identity")
        if self.se:
            y = squeeze_excite(y, make_divisible(self.mid * 0.25, 4), gate="hardsigmoid")
        y = ghost(y, self.width, act="identity", name="project")
        if self.stride > 1 or self.width != x.channels:
            x = depthwise(x, self.kernel, stride=self.stride, act="identity", name="shortcut_depthwise")
            x = conv_norm_act(x, self.width, act="identity", name="shortcut")
        return y + x


def ghostnet(width: float = 1.0, depth: float = 1.0, *, version: int = 1, classes: int | None = None) -> Sequential:
    """The network.

    Args:
        width: Multiplier of all widths, which are rounded to multiples of 4.
        depth: Multiplier of the blocks in a stage, rounded up.
        version: 1, or 2 with attention (for images of at least 17x17 pixels).
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a multiplier is not positive, or there is no such version.
    """
    if version not in (1, 2):
        raise InvalidInputError(f"`version` of GhostNet must be 1 or 2, got {version!r}.")
    blocks: list[Block] = []
    for stride, rows in STAGES:
        stage: list[Block] = []
        for kernel, mid, channels, se in scaled_rows(rows, depth):
            attend = version == 2 and len(blocks) + len(stage) >= PLAIN_BLOCKS
            hidden = scaled_width(mid, width, 4)
            step = 1 if stage else stride
            stage.append(GhostBottleneck(scaled_width(channels, width, 4), hidden, kernel, step, se, attend))
        blocks += stage
    return Sequential(
        Conv(scaled_width(16, width, 4), stride=2),
        Repeat(tuple(blocks)),
        Conv(scaled_width(HEAD, width, 4), 1),
        Classifier(classes, 0.2, features=1280, act="relu"),
    )


FAMILIES = (
    Family(
        name="ghostnet",
        title="GhostNet, GhostNetV2",
        paper='Han et al. 2020, "GhostNet", arXiv 1911.11907',
        names={
            "timm": (
                (
                    r"ghostnet(v2)?_(\d{3})",
                    lambda m, c: ghostnet(multiplier(m[2]), version=2 if m[1] else 1, classes=c),
                ),
            )
        },
        named=("ghostnet_050, 100, 130", "ghostnetv2_100, 130, 160"),
    ),
)
