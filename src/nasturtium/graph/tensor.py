"""Symbolic tensors: what a block's `forward` computes with, and the functions on them.

A symbolic tensor knows its shape (without the batch) and who is tracing. Ordinary Python works on the shape, because
it is made of concrete integers. The functions here add one operation each; `blocks` composes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol, Self

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape


class Context:
    """What the task tells a network: `classes`, and whatever else was given to `trace`.

    Raises:
        TraceError: on reading a value that was not given.
    """

    def __init__(self, **values: object) -> None:
        self._values = dict(values)
        self._key = tuple(sorted(self._values.items()))

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]  # type: ignore[return-value]
        except KeyError:
            known = ", ".join(self._values) or "nothing"
            raise TraceError(
                f"The network needs {name!r} from the task, but the context holds {known}: "
                f"give it as `trace(block, inputs, {name}=...)`."
            ) from None

    def get(self, name: str, default: object = None) -> object:
        """The value, or `default` where it was not given."""
        return self._values.get(name, default)

    def to_dict(self) -> dict[str, object]:
        """The values, as plain JSON."""
        return dict(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Context({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"


class Scope(Protocol):
    """A named part of the network; operations inside are named under it."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exception: object) -> None: ...


class Tracer(Protocol):
    """Who listens: it records operations, and decides what calling a block means."""

    context: Context

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], name: str) -> Tensor:
        """Add one operation and return its output."""
        ...

    def call(self, block: object, arguments: tuple[object, ...]) -> object:
        """Call a block inside a block."""
        ...

    def scope(self, name: str) -> Scope:
        """Open a named part of the network."""
        ...


class Tensor:
    """A symbolic tensor. Subclasses (one for each tracer) provide `shape`."""

    __slots__ = ("index", "tracer")
    tracer: Tracer
    index: int

    @property
    def shape(self) -> Shape:
        """`(channels, height, width)` or `(features,)`, without the batch."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Channels of an image, or features of a vector."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """Height of an image, in pixels."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """Width of an image, in pixels."""
        return self.shape[2]

    @property
    def context(self) -> Context:
        """What the task tells the network."""
        return self.tracer.context

    def scope(self, name: str) -> Scope:
        """`with x.scope("expand"):` names the operations inside under "expand"."""
        return self.tracer.scope(name)

    def __add__(self, other: Tensor) -> Tensor:
        return add(self, other)

    def __mul__(self, other: Tensor) -> Tensor:
        return multiply(self, other)

    def __bool__(self) -> bool:
        raise TraceError("A symbolic tensor has no truth value: a graph depends on shapes and fields, not on data.")


class ConcreteTensor(Tensor):
    """A symbolic tensor with one known shape."""

    __slots__ = ("shape",)
    shape: Shape

    def __init__(self, tracer: Tracer, index: int, shape: Shape) -> None:
        self.tracer = tracer
        self.index = index
        self.shape = shape

    def __repr__(self) -> str:
        return f"Tensor{self.shape}"

    def __copy__(self) -> Self:
        return self


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)


_batch_norm = lru_cache(256)(ops.BatchNorm)  # equal operations are one object: a network has hundreds of them
_activation = lru_cache(256)(ops.Activation)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def conv(
    x: Tensor,
    channels: int,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | None = None,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = False,
    name: str = "conv",
) -> Tensor:
    """Convolve an image.

    Args:
        x: `(channels, height, width)`.
        channels: Output channels.
        kernel: Height and width, in pixels.
        stride: Vertical and horizontal.
        padding: None keeps the size at stride 1 (`dilation * (kernel - 1) // 2` each side); an int; (vertical,
            horizontal); or (top, bottom, left, right).
        dilation: Distance between taps.
        groups: Groups of channels; `x.channels` for a depthwise convolution.
        bias: Whether to add a bias.
        name: Name in the parameters' path.
    """
    kernel, dilation = _pair(kernel), _pair(dilation)
    if padding is None:
        sides = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
        around = (sides[0] // 2, sides[0] // 2, sides[1] // 2, sides[1] // 2)
    elif isinstance(padding, int):
        around = (padding, padding, padding, padding)
    elif len(padding) == 2:
        around = (padding[0], padding[0], padding[1], padding[1])
    else:
        around = (padding[0], padding[1], padding[2], padding[3])
    operation = ops.Conv(channels, kernel, _pair(stride), around, dilation, groups, bias)
    return x.tracer.apply(operation, (x,), name)


def linear(x: Tensor, features: int, *, bias: bool = True, name: str = "linear") -> Tensor:
    """Multiply a vector `(features,)` by a weight matrix."""
    return x.tracer.apply(ops.Linear(features, bias), (x,), name)


def batch_norm(
    x: Tensor, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, name: str = "norm"
) -> Tensor:
    """Normalise over the batch, channel by channel."""
    return x.tracer.apply(_batch_norm(eps, momentum, affine), (x,), name)


def group_norm(x: Tensor, *, groups: int = 1, eps: float = 1e-5, name: str = "norm") -> Tensor:
    """Normalise over groups of channels of one sample."""
    return x.tracer.apply(ops.GroupNorm(groups, eps), (x,), name)


def activation(x: Tensor, function: str = "relu", *, name: str = "act") -> Tensor:
    """Apply a non-linearity, one of `operations.ACTIVATIONS`; "identity" adds nothing."""
    if function == "identity":
        return x
    if function not in ops.ACTIVATIONS:
        raise InvalidInputError(f"Unknown activation {function!r}. Known: identity, {', '.join(ops.ACTIVATIONS)}.")
    return x.tracer.apply(_activation(function), (x,), name)


def max_pool(
    x: Tensor,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | None = None,
    ceil_mode: bool = False,
    name: str = "pool",
) -> Tensor:
    """Maximum over windows; padding None keeps the size at stride 1 for odd kernels."""
    kernel = _pair(kernel)
    around = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if padding is None else _pair(padding)
    return x.tracer.apply(ops.MaxPool(kernel, _pair(stride), around, ceil_mode), (x,), name)


def avg_pool(
    x: Tensor,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    name: str = "pool",
) -> Tensor:
    """Mean over windows; padding None keeps the size at stride 1 for odd kernels."""
    kernel = _pair(kernel)
    around = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if padding is None else _pair(padding)
    return x.tracer.apply(ops.AvgPool(kernel, _pair(stride), around, ceil_mode, count_include_pad), (x,), name)


def global_pool(x: Tensor, function: str = "avg", *, name: str = "pool") -> Tensor:
    """Mean ("avg") or maximum ("max") over all positions: `(channels, 1, 1)`."""
    return x.tracer.apply(ops.GlobalPool(function), (x,), name)


def adaptive_avg_pool(x: Tensor, size: int | tuple[int, int], *, name: str = "pool") -> Tensor:
    """Mean over windows chosen so that the output has `size` (height, width)."""
    return x.tracer.apply(ops.AdaptiveAvgPool(_pair(size)), (x,), name)


def flatten(x: Tensor, *, name: str = "flatten") -> Tensor:
    """Any shape to a vector."""
    return x if len(x.shape) == 1 else x.tracer.apply(ops.Flatten(), (x,), name)


def add(*xs: Tensor, name: str = "add") -> Tensor:
    """Sum of one or more tensors of one shape."""
    return xs[0] if len(xs) == 1 else xs[0].tracer.apply(ops.Add(), xs, name)


def multiply(x: Tensor, y: Tensor, *, name: str = "multiply") -> Tensor:
    """Product; a `(channels, 1, 1)` side is broadcast over positions."""
    return x.tracer.apply(ops.Multiply(), (x, y), name)


def concat(*xs: Tensor, name: str = "concat") -> Tensor:
    """Concatenation of one or more images along channels."""
    return xs[0] if len(xs) == 1 else xs[0].tracer.apply(ops.Concat(), xs, name)


def channel_slice(x: Tensor, start: int, stop: int, *, name: str = "slice") -> Tensor:
    """Channels `start` (inclusive) to `stop` (exclusive)."""
    return x if (start, stop) == (0, x.channels) else x.tracer.apply(ops.Slice(start, stop), (x,), name)


def channel_shuffle(x: Tensor, groups: int = 2, *, name: str = "shuffle") -> Tensor:
    """Interleave groups of channels."""
    return x.tracer.apply(ops.Shuffle(groups), (x,), name)


def pad(x: Tensor, padding: tuple[int, int, int, int], *, name: str = "pad") -> Tensor:
    """Zero padding by (top, bottom, left, right); negative numbers crop."""
    return x.tracer.apply(ops.Pad(padding), (x,), name)


def resize(
    x: Tensor, size: tuple[int, int], mode: str = "nearest", *, align_corners: bool = False, name: str = "resize"
) -> Tensor:
    """Resample to `(height, width)`; adds nothing where the size is already right."""
    if x.shape[1:] == tuple(size):
        return x
    return x.tracer.apply(ops.Resize(size, mode, align_corners), (x,), name)


def dropout(x: Tensor, rate: float, *, name: str = "dropout") -> Tensor:
    """Drop elements in training; a rate of 0 adds nothing."""
    return x.tracer.apply(ops.Dropout(rate), (x,), name) if rate else x


def drop_path(x: Tensor, rate: float, *, name: str = "drop_path") -> Tensor:
    """Drop the whole tensor of a sample in training; a rate of 0 adds nothing."""
    return x.tracer.apply(ops.DropPath(rate), (x,), name) if rate else x


def zero(x: Tensor, *, stride: int = 1, channels: int | None = None, name: str = "zero") -> Tensor:
    """Zeros of the input's shape, sub-sampled by `stride`."""
    return x.tracer.apply(ops.Zero(stride, channels), (x,), name)


def training_only(x: Tensor, *, name: str = "training_only") -> Tensor:
    """Mark an output that exists in training only: left out of cost and export."""
    return x.tracer.apply(ops.TrainingOnly(), (x,), name)
