"""Bricks of mobile networks: inverted residuals and depthwise separable convolutions."""

from __future__ import annotations

from typing import Any

from nasturtium.blocks.layers import conv_norm_act, depthwise, make_divisible, squeeze_excite
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


class MBConv(Block):
    """Inverted residual: 1x1 expansion, depthwise convolution, optional squeeze-and-excitation, 1x1 projection.

    The expansion is left out where the hidden width equals the input's, unless `always_expand`. The residual is added
    where stride is 1 and the width does not change. Parts: "expand", "depthwise", "se", "project", "drop_path", "add".

    Args:
        width: Output channels; None keeps the input's.
        kernel: Of the depthwise convolution, odd, in pixels.
        stride: Of the depthwise convolution, in pixels.
        expand: Hidden channels by input channel; need not be an integer.
        se: Hidden width of squeeze-and-excitation as a ratio of `se_of`, or None for none.
        act: Activation after expansion and depthwise convolution.
        mid: Hidden width, overriding `expand`.
        divisor: The hidden width is rounded to a multiple of this.
        se_of: "expanded": the ratio is of the hidden width (MobileNetV3); "input": of the input's (MnasNet).
        se_divisor: The width of squeeze-and-excitation is rounded to a multiple of this.
        se_act: Activation inside it.
        se_gate: "sigmoid" or "hardsigmoid".
        residual: Whether to add the input where shapes admit.
        always_expand: Whether to keep the expansion where it does not widen (FBNet).
        drop_path: Rate of stochastic depth on the branch, in [0, 1).
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch.
        padding: "same" or "tf_same".

    Reference:
        Sandler et al. (2018), "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, section 3.3;
        squeeze-and-excitation inside as in Tan et al. (2019), "MnasNet", arXiv 1807.11626, figure 7.
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    expand: float = 6
    se: float | None = None
    act: str = "relu6"
    mid: int | None = None
    divisor: int = 1
    se_of: str = "expanded"
    se_divisor: int = 1
    se_act: str = "relu"
    se_gate: str = "sigmoid"
    residual: bool = True
    always_expand: bool = False
    drop_path: float = 0.0
    eps: float = 1e-5
    momentum: float = 0.1
    padding: str = "same"

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter, squeeze, project, and add the input."""
        norm: dict[str, Any] = {"eps": self.eps, "momentum": self.momentum}
        width = x.channels if self.width is None else self.width
        hidden = make_divisible(x.channels * self.expand, self.divisor) if self.mid is None else self.mid
        y = x
        if hidden != x.channels or self.always_expand:
            y = conv_norm_act(y, hidden, act=self.act, name="expand", **norm)
        y = depthwise(y, self.kernel, stride=self.stride, act=self.act, padding=self.padding, **norm)
        if self.se is not None:
            of = x.channels if self.se_of == "input" else hidden
            y = squeeze_excite(y, make_divisible(of * self.se, self.se_divisor), act=self.se_act, gate=self.se_gate)
        y = conv_norm_act(y, width, act="identity", name="project", **norm)
        if self.residual and self.stride == 1 and y.shape == x.shape:
            return ops.add(x, ops.drop_path(y, self.drop_path))
        return y


class DepthwiseSeparable(Block):
    """Depthwise convolution, optional squeeze-and-excitation, 1x1 convolution.

    Parts: "depthwise", "se", "project", "drop_path", "add".

    Args:
        width: Output channels; None keeps the input's.
        kernel: Of the depthwise convolution, odd, in pixels.
        stride: Of the depthwise convolution, in pixels.
        se: Hidden width of squeeze-and-excitation as a ratio of the input's, or None for none.
        act: Activation after the depthwise convolution.
        project_act: Activation after the 1x1 convolution; "identity" as in MobileNetV2's first block.
        se_divisor: The width of squeeze-and-excitation is rounded to a multiple of this.
        se_act: Activation inside it.
        se_gate: "sigmoid" or "hardsigmoid".
        residual: Whether to add the input where shapes admit.
        drop_path: Rate of stochastic depth on the branch, in [0, 1).
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch.
        padding: "same" or "tf_same".

    Reference:
        Howard et al. (2017), "MobileNets", arXiv 1704.04861, section 3.1.
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    se: float | None = None
    act: str = "relu"
    project_act: str = "identity"
    se_divisor: int = 1
    se_act: str = "relu"
    se_gate: str = "sigmoid"
    residual: bool = True
    drop_path: float = 0.0
    eps: float = 1e-5
    momentum: float = 0.1
    padding: str = "same"

    def forward(self, x: Tensor) -> Tensor:
        """Filter, squeeze, project, and add the input."""
        norm: dict[str, Any] = {"eps": self.eps, "momentum": self.momentum}
        y = depthwise(x, self.kernel, stride=self.stride, act=self.act, padding=self.padding, **norm)
        if self.se is not None:
            hidden = make_divisible(x.channels * self.se, self.se_divisor)
            y = squeeze_excite(y, hidden, act=self.se_act, gate=self.se_gate)
        width = x.channels if self.width is None else self.width
        y = conv_norm_act(y, width, act=self.project_act, name="project", **norm)
        if self.residual and self.stride == 1 and y.shape == x.shape:
            return ops.add(x, ops.drop_path(y, self.drop_path))
        return y
