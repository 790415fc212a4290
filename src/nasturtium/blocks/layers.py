"""Small compositions of operations, for use inside `forward`: convolution with its norm, squeeze-and-excitation.

Every part has a name that does not depend on the values of fields, so that a part which is missing at some choices
does not shift the names of the others: weights are found again by their path.
"""

from __future__ import annotations

from math import ceil

from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor

PADDINGS = ("same", "tf_same", "valid")
"""How a convolution is padded: "same" symmetric, keeping the size at stride 1; "tf_same" as TensorFlow does, which at
stride 2 may add one pixel more at the bottom and right, and depends on the input's size; "valid" not at all."""


def make_divisible(value: float, divisor: int = 8, *, minimum: int | None = None, limit: float = 0.9) -> int:
    """Round a number of channels to a multiple of `divisor`, never below `limit` of it.

    Args:
        value: Number of channels, any positive number.
        divisor: 1 rounds to the nearest integer.
        minimum: Smallest result; None means `divisor`.
        limit: One more multiple is taken where rounding would go below `limit * value`; 0 never does.

    Reference:
        Sandler et al. (2018), "MobileNetV2", arXiv 1801.04381, as in the authors' code (`_make_divisible`).
    """
    if divisor == 1:
        return max(minimum or 1, round(value))
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < limit * value else rounded


def padding_of(x: Tensor, kernel: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int, int, int]:
    """Padding (top, bottom, left, right) by the named rule, one of `PADDINGS`."""
    if padding == "same":
        side = dilation * (kernel - 1) // 2
        return (side, side, side, side)
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding != "tf_same":
        raise InvalidInputError(f"`padding` must be one of {', '.join(PADDINGS)}, got {padding!r}.")
    vertical, horizontal = (
        max((ceil(extent / stride) - 1) * stride + dilation * (kernel - 1) + 1 - extent, 0) for extent in x.shape[1:]
    )
    return (vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2)


def conv_norm_act(
    x: Tensor,
    width: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    act: str = "relu",
    groups: int = 1,
    dilation: int = 1,
    norm: bool = True,
    bias: bool | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
    padding: str = "same",
    name: str = "conv",
) -> Tensor:
    """Convolve, normalise, activate: operations "conv", "norm" and "act" under the scope `name`.

    Args:
        x: `(channels, height, width)`.
        width: Output channels.
        kernel: Odd, in pixels.
        stride: In pixels.
        act: One of `operations.ACTIVATIONS`, or "identity".
        groups: Groups of channels.
        dilation: Distance between taps.
        norm: Whether batch normalisation follows.
        bias: Whether the convolution has a bias; None: where no norm follows.
        eps: Of the norm.
        momentum: Of the norm, weight of the new batch.
        padding: One of `PADDINGS`.
        name: Name of the scope.

    Returns:
        `(width, ceil(height / stride), ceil(width / stride))` with padding "same" and an odd kernel.
    """
    if width < 1:
        raise ShapeError(f"A convolution's width must be at least 1 channel, got {width!r} (at `{name}`).")
    with x.scope(name):
        x = ops.conv(
            x,
            width,
            kernel,
            stride=stride,
            padding=padding_of(x, kernel, stride, padding, dilation),
            dilation=dilation,
            groups=groups,
            bias=(not norm) if bias is None else bias,
        )
        if norm:
            x = ops.batch_norm(x, eps=eps, momentum=momentum)
        return ops.activation(x, act)


def depthwise(
    x: Tensor,
    kernel: int = 3,
    *,
    stride: int = 1,
    act: str = "relu",
    dilation: int = 1,
    eps: float = 1e-5,
    momentum: float = 0.1,
    padding: str = "same",
    name: str = "depthwise",
) -> Tensor:
    """Depthwise `conv_norm_act`: each channel is convolved on its own."""
    return conv_norm_act(
        x,
        x.channels,
        kernel,
        stride=stride,
        act=act,
        groups=x.channels,
        dilation=dilation,
        eps=eps,
        momentum=momentum,
        padding=padding,
        name=name,
    )


def squeeze_excite(x: Tensor, hidden: int, *, act: str = "relu", gate: str = "sigmoid", name: str = "se") -> Tensor:
    """Scale each channel by a gate that two 1x1 convolutions with bias compute from the pooled image.

    Args:
        x: `(channels, height, width)`.
        hidden: Channels between the two convolutions, at least 1.
        act: Between them.
        gate: "sigmoid" or "hardsigmoid".
        name: Name of the scope; inside are "pool", "reduce", "act", "expand", "gate" and "scale".

    Reference:
        Hu et al. (2018), "Squeeze-and-Excitation Networks", arXiv 1709.01507, section 3.
    """
    with x.scope(name):
        y = ops.global_pool(x)
        y = ops.conv(y, hidden, 1, bias=True, name="reduce")
        y = ops.activation(y, act)
        y = ops.conv(y, x.channels, 1, bias=True, name="expand")
        return ops.multiply(x, ops.activation(y, gate, name="gate"), name="scale")
