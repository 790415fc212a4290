"""Residual blocks of ResNet and its descendants: ResNeXt, Wide ResNet, ResNet-D, SE-ResNet."""

from __future__ import annotations

from typing import Any

from nasturtium.blocks.layers import conv_norm_act, make_divisible, squeeze_excite
from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block

SHORTCUTS = ("conv", "pool", "pad")
"""How the input reaches the sum where its shape changes: "conv" 1x1 convolution with the stride; "pool" mean over 2x2,
then 1x1 convolution (ResNet-D); "pad" sub-sampling and zero channels, without weights (option A)."""


class BasicBlock(Block):
    """Two 3x3 convolutions and a shortcut. Parts: "first", "second", "se", "shortcut", "drop_path", "add", "act".

    Args:
        width: Output channels; None keeps the input's.
        stride: Of the first convolution.
        kernel: Of both convolutions.
        act: Activation.
        shortcut: One of `SHORTCUTS`.
        se: Hidden width of squeeze-and-excitation as a ratio of the width, or None; rounded to a multiple of 8.
        drop_path: Rate of stochastic depth on the branch, in [0, 1).
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch.

    Reference:
        He et al. (2016), "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 3.3 and figure 5.
    """

    width: int | None = None
    stride: int = 1
    kernel: int = 3
    act: str = "relu"
    shortcut: str = "conv"
    se: float | None = None
    drop_path: float = 0.0
    eps: float = 1e-5
    momentum: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch of two convolutions to the shortcut."""
        norm: dict[str, Any] = {"eps": self.eps, "momentum": self.momentum}
        width = x.channels if self.width is None else self.width
        y = conv_norm_act(x, width, self.kernel, stride=self.stride, act=self.act, name="first", **norm)
        y = conv_norm_act(y, width, self.kernel, act="identity", name="second", **norm)
        if self.se is not None:
            y = squeeze_excite(y, make_divisible(width * self.se, 8, limit=0))
        y = ops.drop_path(y, self.drop_path)
        y = ops.add(y, shortcut(x, width, self.stride, self.shortcut, **norm))
        return ops.activation(y, self.act)


class Bottleneck(Block):
    """1x1 reduction, 3x3 convolution with the stride, 1x1 expansion, and a shortcut.

    Parts: "reduce", "conv", "expand", "se", "shortcut", "drop_path", "add", "act".

    Args:
        width: Output channels; None keeps the input's.
        stride: Of the 3x3 convolution (as in torchvision, not in the paper, where the first has it).
        ratio: Hidden width as a ratio of the output's.
        mid: Hidden width, overriding `ratio`.
        kernel: Of the middle convolution.
        groups: Of the middle convolution (ResNeXt).
        divisor: The hidden width is rounded to a multiple of this.
        act: Activation.
        shortcut: One of `SHORTCUTS`.
        se: Hidden width of squeeze-and-excitation as a ratio of the width, or None; rounded to a multiple of 8.
        drop_path: Rate of stochastic depth on the branch, in [0, 1).
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch.

    Reference:
        He et al. (2016), arXiv 1512.03385, figure 5; groups: Xie et al. (2017), "ResNeXt", arXiv 1611.05431, figure 3.
    """

    width: int | None = None
    stride: int = 1
    ratio: float = 0.25
    mid: int | None = None
    kernel: int = 3
    groups: int = 1
    divisor: int = 1
    act: str = "relu"
    shortcut: str = "conv"
    se: float | None = None
    drop_path: float = 0.0
    eps: float = 1e-5
    momentum: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch of three convolutions to the shortcut."""
        norm: dict[str, Any] = {"eps": self.eps, "momentum": self.momentum}
        width = x.channels if self.width is None else self.width
        hidden = make_divisible(width * self.ratio, self.divisor) if self.mid is None else self.mid
        y = conv_norm_act(x, hidden, act=self.act, name="reduce", **norm)
        y = conv_norm_act(
            y, hidden, self.kernel, stride=self.stride, groups=self.groups, act=self.act, name="conv", **norm
        )
        y = conv_norm_act(y, width, act="identity", name="expand", **norm)
        if self.se is not None:
            y = squeeze_excite(y, make_divisible(width * self.se, 8, limit=0))
        y = ops.drop_path(y, self.drop_path)
        y = ops.add(y, shortcut(x, width, self.stride, self.shortcut, **norm))
        return ops.activation(y, self.act)


def shortcut(
    x: Tensor, width: int, stride: int, kind: str = "conv", *, eps: float = 1e-5, momentum: float = 0.1
) -> Tensor:
    """The input in the branch's shape, by one of `SHORTCUTS`; unchanged where it has that shape."""
    if kind not in SHORTCUTS:
        raise InvalidInputError(f"`shortcut` must be one of {', '.join(SHORTCUTS)}, got {kind!r}.")
    if stride == 1 and width == x.channels:
        return x
    with x.scope("shortcut"):
        if kind == "conv":
            return conv_norm_act(x, width, stride=stride, act="identity", eps=eps, momentum=momentum)
        if kind == "pool":
            if stride > 1:
                x = ops.avg_pool(x, stride, stride=stride, padding=0, ceil_mode=True)
            return conv_norm_act(x, width, act="identity", eps=eps, momentum=momentum)
        if width < x.channels:
            raise InvalidInputError(f'A shortcut of kind "pad" cannot go from {x.channels} to {width} channels.')
        if stride > 1:
            x = ops.avg_pool(x, 1, stride=stride, padding=0)
        more = width - x.channels
        return ops.concat(x, ops.zero(x, channels=more)) if more else x
