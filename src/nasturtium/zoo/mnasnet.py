"""MnasNet: its factorised space; A1, B1 and small with width multipliers; Single-Path NAS on the same backbone.

Level: network. Task: image classification. The network is cut into blocks, each with decisions of its own that all
its layers share: operation, kernel, squeeze-and-excitation, skip, filters, number of layers.

Reference:
    Tan et al. (2019), "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv 1807.11626, section 4.1,
    figure 7 and the authors' code; Stamoulis et al. (2019), "Single-Path NAS", arXiv 1904.02877.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import (
    Classifier,
    Conv,
    Repeat,
    Sequential,
    conv_norm_act,
    depthwise,
    make_divisible,
    repeat,
    squeeze_excite,
)
from nasturtium.errors import UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, Space, one_of
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


BLOCKS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""MobileNetV2's filters, layers and stride of each block, to which the options refer."""
SQUEEZES = (0.0, 0.25)
FILTERS = (3, 4, 5)
"""Quarters of MobileNetV2's filters: 0.75, 1, 1.25."""


class _Operation(Block):
    """What the three operations share."""

    width: int
    kernel: int = 3
    se: float = 0.0

    def _squeeze(self, y: Tensor, channels: int) -> Tensor:
        return squeeze_excite(y, make_divisible(channels * self.se, 1)) if self.se else y


class RegularConv(_Operation):
    """Convolution, norm, ReLU, squeeze-and-excitation.

    Args:
        width: Output channels.
        kernel: Odd, in pixels.
        se: Hidden width of squeeze-and-excitation as a ratio of the input's; 0 for none.
    """

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """Convolve with a stride."""
        return self._squeeze(conv_norm_act(x, self.width, self.kernel, stride=stride), x.channels)


class SeparableConv(_Operation):
    """Depthwise convolution, squeeze-and-excitation, 1x1 convolution without activation.

    Args:
        width: Output channels.
        kernel: Odd, in pixels.
        se: Hidden width of squeeze-and-excitation as a ratio of the input's; 0 for none.
    """

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """Convolve with a stride."""
        y = self._squeeze(depthwise(x, self.kernel, stride=stride), x.channels)
        return conv_norm_act(y, self.width, act="identity", name="project")


class InvertedBottleneck(_Operation):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 convolution without activation.

    Args:
        width: Output channels.
        kernel: Odd, in pixels.
        se: Hidden width of squeeze-and-excitation as a ratio of the input's; 0 for none.
        expand: Hidden channels by input channel.
    """

    expand: int = 6

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """Convolve with a stride."""
        y = conv_norm_act(x, x.channels * self.expand, name="expand")
        y = self._squeeze(depthwise(y, self.kernel, stride=stride), x.channels)
        return conv_norm_act(y, self.width, act="identity", name="project")


class PooledSkip(Block):
    """Add the input's 3x3 average pooling, of the layer's stride, where the width does not change."""

    def forward(self, y: Tensor, x: Tensor, stride: int) -> Tensor:
        """Add to the operation's output `y` what the input `x` gives."""
        return ops.add(y, ops.avg_pool(x, 3, stride=stride)) if y.channels == x.channels else y


class IdentitySkip(Block):
    """Add the input where neither stride nor width change it."""

    def forward(self, y: Tensor, x: Tensor, stride: int) -> Tensor:
        """Add to the operation's output `y` the input `x`."""
        return ops.add(y, x) if stride == 1 and y.channels == x.channels else y


class NoSkip(Block):
    """Add nothing."""

    def forward(self, y: Tensor, _x: Tensor, _stride: int) -> Tensor:
        """Return the operation's output `y`."""
        return y


class Layer(Block):
    """An operation and its skip. The paper does not say what a skip does where the width changes: here, nothing.

    Args:
        operation: One of the operations, called with the input and the stride.
        skip: `PooledSkip`, `IdentitySkip` or `NoSkip`.
        stride: In pixels.
    """

    operation: Any
    skip: Any
    stride: int = 1

    def forward(self, x: Tensor) -> Any:
        """Run the operation and add the skip."""
        return self.skip(self.operation(x, self.stride), x, self.stride)


def space(input_shape: tuple[int, ...] = (3, 224, 224), *, expansions: Sequence[int] = (6,)) -> Space:
    """The factorised space on MobileNetV2's seven blocks.

    Each block decides once for all its layers: operation (convolution, depthwise separable convolution, inverted
    bottleneck), kernel (3, 5), squeeze-and-excitation (0, 0.25), skip (pool, identity, none), filters (0.75, 1, 1.25
    of MobileNetV2's) and number of layers (-1, 0, +1 of MobileNetV2's, at least one). All decisions are always active.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        expansions: Of the inverted bottleneck, each an operation of its own. The paper's list names none; the networks
            that it found have 3 and 6.

    Returns:
        A block of two or more layers has S = 3 * 2 * 2 * 3 * 3 * 3 = 324 configurations, the first and the last, of
        one layer, have two thirds of that: 324^5 * 216^2 = 166,583,718,925,369,344 architectures. With `expansions=(3,
        6)` S is the paper's 432 (its example of five blocks has 432^5 = 1.5e13; it does not say how 432 comes about).
    """
    del input_shape
    blocks = [_block(*row, expansions) for row in BLOCKS]
    return Space(Sequential(Conv(32, stride=2), *blocks, Conv(1280, 1), Classifier(dropout=0.2)))


def _block(filters: int, layers: int, stride: int, expansions: Sequence[int]) -> Repeat:
    width = one_of(*[filters * quarters // 4 for quarters in FILTERS])
    kernel, se = one_of(3, 5), one_of(*SQUEEZES)
    operation = one_of(
        RegularConv(width, kernel, se),
        SeparableConv(width, kernel, se),
        *[InvertedBottleneck(width, kernel, se, expand) for expand in expansions],
    )
    counts = [count for count in (layers - 1, layers, layers + 1) if count > 0]
    return repeat(
        Layer(operation, one_of(PooledSkip(), IdentitySkip(), NoSkip())), one_of(*counts), shared=True, stride=stride
    )


FAMILIES = (
    Family(
        name="mnasnet",
        title="MnasNet's factorised space; A1, B1, small; Single-Path NAS",
        paper='Tan et al. 2019, "MnasNet", arXiv 1807.11626',
        space=space,
        size=324**5 * 216**2,
        quoted_size="432^5 = 1.5e13 for five blocks",
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
