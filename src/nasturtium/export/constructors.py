"""How each operation is written in a standalone PyTorch file: a layer's constructor, or an expression."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasturtium.errors import ExportError
from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape
from nasturtium.model import opaque


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a constructor. `kind`: arguments of one kind that are always equal become one name."""

    name: str
    value: object
    kind: str
    default: object = None
    """Value at which the argument is not written; None where it always is."""
    positional: bool = False


@dataclass(frozen=True, slots=True)
class Constructor:
    """`name(*arguments)`; `padded` are (left, right, top, bottom) pixels of zeros to add before."""

    name: str
    arguments: tuple[Argument, ...] = ()
    padded: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """Text of the result, given the texts of the operands; `helper` is a definition that it needs."""

    write: Callable[..., str]
    helper: str = ""


def _plain(pair: tuple[int, int]) -> int | tuple[int, int]:
    """One number where both are equal."""
    return pair[0] if pair[0] == pair[1] else pair


def _channels(name: str, value: int, *, default: object = None) -> Argument:
    return Argument(name, value, "channels", default, positional=default is None)


def _conv(operation: ops.Conv, x: Shape) -> Constructor:
    top, bottom, left, right = operation.padding
    symmetric = (top, left) == (bottom, right)
    kernel = _plain(operation.kernel)
    padding: object = _plain((top, left)) if symmetric else 0
    if isinstance(kernel, int) and operation.dilation == (1, 1) and padding == kernel // 2:
        padding = HALF_KERNEL
    return Constructor(
        "nn.Conv2d",
        (
            _channels("in_channels", x[0]),
            _channels("out_channels", operation.channels),
            Argument("kernel_size", kernel, "kernel_size", positional=True),
            Argument("stride", _plain(operation.stride), "stride", 1),
            Argument("padding", padding, "padding", 0),
            Argument("dilation", _plain(operation.dilation), "dilation", 1),
            _channels("groups", operation.groups, default=1),
            Argument("bias", operation.bias, "bias", True),
        ),
        None if symmetric else (left, right, top, bottom),
    )


HALF_KERNEL = "kernel_size // 2"
"""Padding that follows the kernel."""


def _linear(operation: ops.Linear, x: Shape) -> Constructor:
    return Constructor(
        "nn.Linear",
        (
            _channels("in_features", x[0]),
            _channels("out_features", operation.features),
            Argument("bias", operation.bias, "bias", True),
        ),
    )


def _batch_norm(operation: ops.BatchNorm, x: Shape) -> Constructor:
    return Constructor(
        "nn.BatchNorm1d" if len(x) == 1 else "nn.BatchNorm2d",
        (
            _channels("num_features", x[0]),
            Argument("eps", operation.eps, "eps", 1e-5),
            Argument("momentum", operation.momentum, "momentum", 0.1),
            Argument("affine", operation.affine, "affine", True),
        ),
    )


def _group_norm(operation: ops.GroupNorm, x: Shape) -> Constructor:
    return Constructor(
        "nn.GroupNorm",
        (
            Argument("num_groups", operation.groups, "num_groups", positional=True),
            _channels("num_channels", x[0]),
            Argument("eps", operation.eps, "eps", 1e-5),
        ),
    )


_ACTIVATIONS = {
    "relu": "nn.ReLU",
    "relu6": "nn.ReLU6",
    "hardswish": "nn.Hardswish",
    "hardsigmoid": "nn.Hardsigmoid",
    "silu": "nn.SiLU",
    "sigmoid": "nn.Sigmoid",
    "tanh": "nn.Tanh",
    "gelu": "nn.GELU",
    "elu": "nn.ELU",
    "leaky_relu": "nn.LeakyReLU",
    "mish": "nn.Mish",
}


def _activation(operation: ops.Activation, x: Shape) -> Constructor:
    if operation.function == "prelu":
        return Constructor("nn.PReLU", (_channels("num_parameters", x[0]),))
    return Constructor(_ACTIVATIONS[operation.function])


def _max_pool(operation: ops.MaxPool, _x: Shape) -> Constructor:
    return Constructor("nn.MaxPool2d", _window(operation))


def _avg_pool(operation: ops.AvgPool, _x: Shape) -> Constructor:
    counted = Argument("count_include_pad", operation.count_include_pad, "count_include_pad", True)
    return Constructor("nn.AvgPool2d", (*_window(operation), counted))


def _window(operation: ops.MaxPool | ops.AvgPool) -> tuple[Argument, ...]:
    return (
        Argument("kernel_size", _plain(operation.kernel), "kernel_size", positional=True),
        Argument("stride", _plain(operation.stride), "stride"),
        Argument("padding", _plain(operation.padding), "padding", 0),
        Argument("ceil_mode", operation.ceil_mode, "ceil_mode", False),
    )


def _global_pool(operation: ops.GlobalPool, _x: Shape) -> Constructor:
    name = "nn.AdaptiveAvgPool2d" if operation.function == "avg" else "nn.AdaptiveMaxPool2d"
    return Constructor(name, (Argument("output_size", 1, "output_size", positional=True),))


def _adaptive(operation: ops.AdaptiveAvgPool, _x: Shape) -> Constructor:
    size = Argument("output_size", _plain(operation.size), "output_size", positional=True)
    return Constructor("nn.AdaptiveAvgPool2d", (size,))


def _resize(operation: ops.Resize, _x: Shape) -> Constructor:
    return Constructor(
        "nn.Upsample",
        (
            Argument("size", operation.size, "size", positional=True),
            Argument("mode", operation.mode, "mode", "nearest"),
            Argument("align_corners", operation.align_corners, "align_corners", False),
        ),
    )


def _rate(name: str) -> Callable[[Any, Shape], Constructor]:
    return lambda operation, _x: Constructor(name, (Argument("rate", operation.rate, "rate", positional=True),))


def _opaque(operation: ops.Opaque, *_xs: Shape) -> Constructor:
    values = opaque.keywords(operation.arguments)
    return Constructor(
        user_class(operation.target), tuple(Argument(name, value, name) for name, value in values.items())
    )


def user_class(target: str) -> str:
    """How the standalone file names a user's class: "nn.Conv2d", "torchvision.ops.MLP", "my_layers.MyLayer"."""
    module, _, name = target.partition(":")
    if module.split(".")[0] == "torch":
        return f"{module}.{name}".replace("torch.nn.", "nn.", 1)
    if is_installed(target):
        return f"{module}.{name}"
    return f"{opaque.source_file(target).stem}.{name}"


def is_installed(target: str) -> bool:
    """Whether the class belongs to an installed package, so that it is imported rather than copied."""
    return is_under_packages(opaque.source_file(target))


def is_under_packages(file: Path) -> bool:
    """Whether a file lies where packages are installed."""
    places = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib")}
    return any(place in file.resolve().parents for place in places)


def _pad(operation: ops.Pad, _x: Shape) -> Expression:
    top, bottom, left, right = operation.padding
    return Expression(lambda x: f"F.pad({x}, ({left}, {right}, {top}, {bottom}))")


def _zero(operation: ops.Zero, x: Shape) -> Expression:
    step = operation.stride
    part = f"[:, :, ::{step}, ::{step}]" if step > 1 else ""
    if operation.channels is None or operation.channels == x[0]:
        return Expression(lambda v: f"torch.zeros_like({v}{part})")
    shape = f"{operation.channels}, {-(-x[1] // step)}, {-(-x[2] // step)}"
    return Expression(lambda v: f"{v}.new_zeros({v}.shape[0], {shape})")


SHUFFLE = '''def channel_shuffle(x, groups):
    """Interleave groups of channels."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)
'''

DROP_PATH = '''class DropPath(nn.Module):
    """Stochastic depth: in training, drop a sample's whole tensor with probability `rate`."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * mask / (1 - self.rate)
'''

WRITTEN: dict[type[Operation], Callable[..., Constructor | Expression]] = {
    ops.Input: lambda _operation: Expression(lambda: ""),
    ops.Conv: _conv,
    ops.Linear: _linear,
    ops.BatchNorm: _batch_norm,
    ops.GroupNorm: _group_norm,
    ops.Activation: _activation,
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.GlobalPool: _global_pool,
    ops.AdaptiveAvgPool: _adaptive,
    ops.Flatten: lambda _operation, _x: Expression(lambda x: f"{x}.flatten(1)"),
    ops.Add: lambda _operation, *_xs: Expression(lambda *xs: " + ".join(xs)),
    ops.Multiply: lambda _operation, *_xs: Expression(lambda x, y: f"{x} * {y}"),
    ops.Concat: lambda _operation, *_xs: Expression(lambda *xs: f"torch.cat([{', '.join(xs)}], 1)"),
    ops.Slice: lambda operation, _x: Expression(lambda x: f"{x}[:, {operation.start}:{operation.stop}]"),
    ops.Shuffle: lambda operation, _x: Expression(lambda x: f"channel_shuffle({x}, {operation.groups})", SHUFFLE),
    ops.Pad: _pad,
    ops.Resize: _resize,
    ops.Dropout: lambda operation, _x: Constructor(
        "nn.Dropout", (Argument("p", operation.rate, "p", positional=True),)
    ),
    ops.DropPath: _rate("DropPath"),
    ops.Zero: _zero,
    ops.TrainingOnly: lambda _operation, _x: Expression(lambda x: str(x)),
    ops.Opaque: _opaque,
}
"""How to write each operation: `(operation, *input_shapes)`."""


def written(operation: Operation, *inputs: Shape) -> Constructor | Expression:
    """How to write one operation.

    Raises:
        ExportError: there is no way.
    """
    make = WRITTEN.get(type(operation))
    if make is None:
        raise ExportError(f"The operation {operation!r} has no text in `nasturtium.export.constructors.WRITTEN`.")
    return make(operation, *inputs)
