"""The unit of ShuffleNetV2: half of the channels is transformed, then the halves are interleaved."""

from __future__ import annotations

from nasturtium.blocks.layers import conv_norm_act, depthwise
from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


class ShuffleUnit(Block):
    """Channel split, 1x1 and depthwise and 1x1 convolution on one half, concatenation, channel shuffle.

    Where the stride is more than 1 or the width changes, nothing is split: both branches see the whole input, and the
    other branch is a depthwise and a 1x1 convolution.
    Parts: "first", "depthwise", "last", and of the other branch "shortcut_depthwise", "shortcut".

    Args:
        width: Output channels, even; None keeps the input's.
        kernel: Of the depthwise convolutions, odd, in pixels.
        stride: Of the depthwise convolutions, in pixels.
        act: Activation.

    Reference:
        Ma et al. (2018), "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
        arXiv 1807.11164, figure 3 (c) and (d).
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    act: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.width, int) and (self.width < 2 or self.width % 2):
            raise InvalidInputError(f"`width` of a ShuffleUnit must be even, for two equal halves, got {self.width}.")

    def forward(self, x: Tensor) -> Tensor:
        """Transform one half, keep the other, and interleave them."""
        width = x.channels if self.width is None else self.width
        if width % 2:
            raise ShapeError(f"A ShuffleUnit needs an even number of channels, got {width}: set an even `width`.")
        half = width // 2
        if self.stride == 1 and width == x.channels:
            left, right = ops.channel_slice(x, 0, half, name="left"), ops.channel_slice(x, half, width, name="right")
        else:
            left = depthwise(x, self.kernel, stride=self.stride, act="identity", name="shortcut_depthwise")
            left = conv_norm_act(left, half, act=self.act, name="shortcut")
            right = x
        right = conv_norm_act(right, half, act=self.act, name="first")
        right = depthwise(right, self.kernel, stride=self.stride, act="identity")
        right = conv_norm_act(right, half, act=self.act, name="last")
        return ops.channel_shuffle(ops.concat(left, right), 2)
