"""Fused operations with gradients of their own.

All take and return images as `(batch, channels, height, width)`, fastest with channels last in memory. Gradients can
be taken once: a second derivative through them raises an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nasturtium.errors import InvalidInputError

LAST = torch.channels_last


def channels_last(x: Tensor) -> Tensor:
    """An image with its channels last in memory; the tensor itself where they are, or where it is no image."""
    return x.contiguous(memory_format=LAST) if x.ndim == 4 else x


def _once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that cannot be differentiated, and says so.

    (PyTorch's own `once_differentiable` says nothing where the second `torch.autograd.grad` names its inputs.)
    """

    @wraps(backward)
    def checked(ctx: Any, g: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise InvalidInputError(
                "A mixture's fused operations have first derivatives only, but `create_graph=True` asks for more: use "
                "`supernet.mix(gate, optimize=False)` there."
            )
        return backward(ctx, g)

    return checked


def _is_wanted(ctx: Any, i: int) -> bool:
    """Whether the gradient of an input is asked for in this very backward pass.

    `needs_input_grad` says whether it was trainable; `torch.autograd.grad` may ask for fewer, such as those of the
    architecture alone.
    """
    if not ctx.needs_input_grad[i]:
        return False
    node = ctx.next_functions[i][0]
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf that `torch.autograd.grad` was asked for
        return True


def _pixels(x: Tensor) -> Tensor:
    """`(batch * height * width, channels)`, a view where channels are last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    y = torch.mm(_pixels(x), weight.flatten(1).t())
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


class PointwiseNorm(torch.autograd.Function):
    """A 1x1 convolution without bias, batch normalisation by the batch's statistics, a scale, optionally ReLU.

    Of the activations only the convolution's input is kept for the gradient (and the output, with ReLU, which the
    next layer keeps anyway): the convolution is computed again, so that its output costs no memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        statistics: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Tensor:
        x = channels_last(x)
        z = _pointwise(x, weight)
        factor = None if scale is None else scale.detach().expand(z.shape[1]).contiguous()
        y, mean, inverse = torch.native_batch_norm(z, factor, shift, *statistics, True, momentum, eps)
        if relu:
            y = y.relu_()
        ctx.save_for_backward(x, weight, scale, mean, inverse, y if relu else None)
        ctx.eps, ctx.statistics = eps, statistics
        return y

    @staticmethod
    @_once
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, scale, mean, inverse, y = ctx.saved_tensors
        g = channels_last(g)
        if y is not None:
            g = torch.ops.aten.threshold_backward(g, y, 0)
        z = _pointwise(x, weight)
        factor = None if scale is None else scale.expand(z.shape[1]).contiguous()
        wanted = [_is_wanted(ctx, i) for i in range(4)]
        gz, g_scale, g_shift = torch.ops.aten.native_batch_norm_backward(
            g, z, factor, None, None, mean, inverse, True, ctx.eps, [True, wanted[2], wanted[3]]
        )
        del g, z
        rows = _pixels(channels_last(gz))
        g_x = g_weight = None
        if wanted[0]:
            g_x = torch.mm(rows, weight.flatten(1)).view(*x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        if wanted[1]:
            g_weight = torch.mm(rows.t(), _pixels(x)).view_as(weight)
        if wanted[2]:
            g_scale = g_scale.sum() if scale.ndim == 0 else g_scale
        return g_x, g_weight, g_scale if wanted[2] else None, g_shift if wanted[3] else None, None, None, None, None


class AddScaled(torch.autograd.Function):
    """Add a value times a weight to a sum, in place; of the sum nothing is kept."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        ctx.mark_dirty(total)
        ctx.save_for_backward(x, scale)
        if x.device.type == "cpu":
            return total.add_(x, alpha=scale.item())
        return total.addcmul_(x, scale)

    @staticmethod
    @_once
    def backward(ctx: Any, g: Tensor) -> Any:
        x, scale = ctx.saved_tensors
        return g, *_scaled_backward(ctx, g, x, scale, 1)


class Scaled(torch.autograd.Function):
    """A value times a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    @_once
    def backward(ctx: Any, g: Tensor) -> Any:
        x, scale = ctx.saved_tensors
        return _scaled_backward(ctx, g, x, scale, 0)


def _scaled_backward(ctx: Any, g: Tensor, x: Tensor, scale: Tensor, first: int) -> tuple[Tensor | None, Tensor | None]:
    g_x = g * scale if _is_wanted(ctx, first) else None
    g_scale = None
    if _is_wanted(ctx, first + 1):
        g_scale = torch.dot(_flat(g), _flat(x)).view_as(scale)
    return g_x, g_scale


def _flat(x: Tensor) -> Tensor:
    """All numbers in a row, in the order of channels last for images."""
    return _pixels(x).reshape(-1) if x.ndim == 4 else x.reshape(-1)


class Depthwise5(torch.autograd.Function):
    """A depthwise convolution of stride 1 with a kernel of five columns and two columns of zeros on either side.

    The CPU library has a fast kernel for the weight's gradient up to three columns only, so that the first three and
    the last three are computed apart. Both read one copy of the input, in which two columns of zeros follow each row:
    read from two pixels earlier on, its rows begin with them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rows: int) -> Tensor:
        x = channels_last(x)
        ctx.save_for_backward(x, weight)
        ctx.rows = rows
        return functional.conv2d(x, weight, None, 1, (rows, 2), 1, x.shape[1])

    @staticmethod
    @_once
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        g = channels_last(g)
        g_x = g_weight = None
        if _is_wanted(ctx, 0):
            g_x = _convolution_backward(g, x, weight, (ctx.rows, 2), 0)
        if _is_wanted(ctx, 1):
            n, c, h, w = x.shape
            wide = x.new_zeros(n * h * (w + 2) + 2, c)
            wide[2:].view(n, h, w + 2, c)[:, :, :w] = x.permute(0, 2, 3, 1)
            columns = weight[:, :, :, :3].contiguous()
            both = []
            for start in (0, 2):
                part = wide[start : start + n * h * (w + 2)].view(n, h, w + 2, c).permute(0, 3, 1, 2)
                both.append(_convolution_backward(g, part, columns, (ctx.rows, 0), 1))
            g_weight = torch.cat([both[0], both[1][:, :, :, 1:]], 3)
        return g_x, g_weight, None


def _convolution_backward(g: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], which: int) -> Tensor:
    mask = [i == which for i in range(3)]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        g, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), x.shape[1], mask
    )
    return found[which]


def pointwise_norm(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    *,
    statistics: tuple[Tensor, Tensor],
    momentum: float,
    eps: float,
    relu: bool,
) -> Tensor:
    """Convolve by pixel, normalise, scale, shift, and apply ReLU; see `PointwiseNorm`.

    Args:
        x: `(batch, channels, height, width)`.
        weight: `(out, channels, 1, 1)`.
        scale: One number, or `(out,)`; None: 1.
        shift: `(out,)`, with a scale of that shape only; None: 0.
        statistics: Running mean and variance, `(out,)` each, changed in place.
        momentum: Of the running statistics.
        eps: Added to the variance.
        relu: Whether ReLU follows.
    """
    return _apply(PointwiseNorm, x, weight, scale, shift, statistics, momentum, eps, relu)


def add_scaled(total: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    """Add `x` times a number to `total`, in place."""
    return _apply(AddScaled, total, x, scale)


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """`x` times a number."""
    return _apply(Scaled, x, scale)


def depthwise5(x: Tensor, weight: Tensor, rows: int) -> Tensor:
    """A depthwise convolution by `(channels, 1, any, 5)` with `rows` rows and two columns of zeros around."""
    return _apply(Depthwise5, x, weight, rows)


def _apply(function: type[torch.autograd.Function], *given: Any) -> Tensor:
    y: Tensor = function.apply(*given)  # type: ignore[no-untyped-call]
    return y


def split(x: Tensor, *, step: tuple[int, int]) -> Tensor:
    """Every `step`-th pixel as images of their own; `(batch, C, H, W)` to `(batch * a * b, C, H / a, W / b)`."""
    (a, b), (n, c, h, w) = step, x.shape
    parts = x.permute(0, 2, 3, 1).reshape(n, h // a, a, w // b, b, c).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(n * a * b, h // a, w // b, c).permute(0, 3, 1, 2)


def join(x: Tensor, *, step: tuple[int, int]) -> Tensor:
    """The inverse of `split`."""
    (a, b), (n, c, h, w) = step, x.shape
    parts = x.permute(0, 2, 3, 1).reshape(n // (a * b), a, b, h, w, c).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(n // (a * b), h * a, w * b, c).permute(0, 3, 1, 2)


def sample(x: Tensor, *, step: tuple[int, int]) -> Tensor:
    """Every `step`-th pixel, from the first on."""
    return channels_last(x[:, :, :: step[0], :: step[1]])
