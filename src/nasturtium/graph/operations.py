"""The primitive operations: shape rule and cost rule of each, in one place.

An operation is a frozen value. Shapes leave out the batch: an image is `(channels, height, width)`, a vector
`(features,)`. Each has its layer in `nasturtium.model.layers`; a test fails for one that lacks either.

Cost conventions (METHODS of the literature differ; these are ours, everywhere): a MAC is one multiply-accumulate of
a convolution or linear weight; biases, normalisation, activations and pooling cost none. Parameters are trainable
numbers: running statistics are not counted. Activations are the elements of all convolution outputs
(Radosavovic et al. 2020, "Designing Network Design Spaces", arXiv 2003.13678, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from nasturtium.errors import ShapeError

Shape = tuple[int, ...]

ACTIVATIONS = (
    "relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "gelu", "elu", "leaky_relu", "prelu",
    "mish",
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """Base of all operations. Subclasses state their shape rule and, where not zero, their cost."""

    kind: ClassVar[str] = ""
    is_convolution: ClassVar[bool] = False
    """Whether its output counts in `activations`."""
    reuses_input: ClassVar[bool] = False
    """Whether a runtime writes the result over its (first) input where nobody else needs that."""
    is_commutative: ClassVar[bool] = False
    """Whether the order of its inputs does not matter."""
    has_state: ClassVar[bool] = False
    """Whether two of it on one input may differ: it holds weights, statistics or randomness."""

    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for the given input shapes.

        Raises:
            ShapeError: the operation does not admit these inputs.
        """
        return inputs[0]

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        """Trainable tensors by name, with their shapes."""
        return {}

    def params(self, *inputs: Shape) -> int:
        """Number of trainable parameters."""
        weights = self.weights(*inputs)
        return sum(map(prod, weights.values())) if weights else 0

    def macs(self, output: Shape, *inputs: Shape) -> int:
        """Multiply-accumulates for one sample."""
        return 0

    def activations(self, output: Shape) -> int:
        """Elements of its convolution outputs, for one sample."""
        return prod(output) if self.is_convolution else 0


@dataclass(frozen=True)
class Input(Operation):
    """A graph input of fixed shape."""

    kind: ClassVar[str] = "input"
    size: Shape = ()

    def shape(self, *inputs: Shape) -> Shape:
        return self.size


@dataclass(frozen=True)
class Conv(Operation):
    """2-d convolution. `padding` is (top, bottom, left, right), in pixels."""

    kind: ClassVar[str] = "conv"
    has_state: ClassVar[bool] = True
    is_convolution: ClassVar[bool] = True
    channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        channels, height, width = _image(self, inputs[0])
        if channels % self.groups or self.channels % self.groups:
            raise ShapeError(
                f"A convolution's input and output channels must be divisible by groups={self.groups}, "
                f"got {channels} in and {self.channels} out."
            )
        top, bottom, left, right = self.padding
        return (
            self.channels,
            _extent(self, height + top + bottom, self.kernel[0], self.stride[0], self.dilation[0]),
            _extent(self, width + left + right, self.kernel[1], self.stride[1], self.dilation[1]),
        )

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"weight": (self.channels, inputs[0][0] // self.groups, *self.kernel)}
        if self.bias:
            weights["bias"] = (self.channels,)
        return weights

    def params(self, *inputs: Shape) -> int:
        each = inputs[0][0] // self.groups * self.kernel[0] * self.kernel[1]
        return self.channels * (each + 1 if self.bias else each)

    def macs(self, output: Shape, *inputs: Shape) -> int:
        each = inputs[0][0] // self.groups * self.kernel[0] * self.kernel[1]
        return output[0] * output[1] * output[2] * each


@dataclass(frozen=True)
class Linear(Operation):
    """Fully connected layer on a vector."""

    kind: ClassVar[str] = "linear"
    has_state: ClassVar[bool] = True
    features: int
    bias: bool = True

    def shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != 1:
            raise ShapeError(f"A linear layer takes a vector (features,), got {inputs[0]}. Flatten or pool it first.")
        return (self.features,)

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"weight": (self.features, inputs[0][0])}
        if self.bias:
            weights["bias"] = (self.features,)
        return weights

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return self.features * inputs[0][0]


@dataclass(frozen=True)
class BatchNorm(Operation):
    """Batch normalisation over channels. `momentum` is PyTorch's (weight of the new batch)."""

    kind: ClassVar[str] = "batch_norm"
    has_state: ClassVar[bool] = True
    reuses_input: ClassVar[bool] = True
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        channels = inputs[0][0]
        return {"weight": (channels,), "bias": (channels,)} if self.affine else {}

    def params(self, *inputs: Shape) -> int:
        return 2 * inputs[0][0] if self.affine else 0


@dataclass(frozen=True)
class GroupNorm(Operation):
    """Group normalisation; `groups=1` normalises over all channels (layer normalisation of an image)."""

    kind: ClassVar[str] = "group_norm"
    has_state: ClassVar[bool] = True
    reuses_input: ClassVar[bool] = True
    groups: int = 1
    eps: float = 1e-5

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0][0] % self.groups:
            raise ShapeError(f"Group normalisation needs channels divisible by {self.groups}, got {inputs[0][0]}.")
        return inputs[0]

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        return {"weight": (inputs[0][0],), "bias": (inputs[0][0],)}


@dataclass(frozen=True)
class Activation(Operation):
    """Element-wise non-linearity; `function` is one of `ACTIVATIONS`."""

    kind: ClassVar[str] = "activation"
    reuses_input: ClassVar[bool] = True
    function: str = "relu"

    def weights(self, *inputs: Shape) -> dict[str, Shape]:
        return {"weight": (inputs[0][0],)} if self.function == "prelu" else {}


@dataclass(frozen=True)
class MaxPool(Operation):
    """Max pooling; padding symmetric (vertical, horizontal), in pixels."""

    kind: ClassVar[str] = "max_pool"
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        return _pooled(self, inputs[0], self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)


@dataclass(frozen=True)
class AvgPool(Operation):
    """Average pooling; padding symmetric (vertical, horizontal), in pixels."""

    kind: ClassVar[str] = "avg_pool"
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        return _pooled(self, inputs[0], self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)


@dataclass(frozen=True)
class GlobalPool(Operation):
    """Pooling over all positions: `(channels, height, width)` to `(channels, 1, 1)`. `function`: "avg" or "max"."""

    kind: ClassVar[str] = "global_pool"
    function: str = "avg"

    def shape(self, *inputs: Shape) -> Shape:
        return (_image(self, inputs[0])[0], 1, 1)


@dataclass(frozen=True)
class AdaptiveAvgPool(Operation):
    """Average pooling to a given `(height, width)`."""

    kind: ClassVar[str] = "adaptive_avg_pool"
    size: tuple[int, int] = (1, 1)

    def shape(self, *inputs: Shape) -> Shape:
        return (_image(self, inputs[0])[0], *self.size)


@dataclass(frozen=True)
class Flatten(Operation):
    """Any shape to a vector, channels first."""

    kind: ClassVar[str] = "flatten"
    reuses_input: ClassVar[bool] = True

    def shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Add(Operation):
    """Sum of two or more tensors of one shape."""

    kind: ClassVar[str] = "add"
    reuses_input: ClassVar[bool] = True
    is_commutative: ClassVar[bool] = True

    def shape(self, *inputs: Shape) -> Shape:
        first = inputs[0]
        for other in inputs:
            if other != first:
                raise ShapeError(f"A sum needs equal shapes, got {' and '.join(map(str, inputs))}.")
        return first


@dataclass(frozen=True)
class Multiply(Operation):
    """Product of two tensors; a `(channels, 1, 1)` side is broadcast over positions (squeeze-and-excitation)."""

    kind: ClassVar[str] = "multiply"
    reuses_input: ClassVar[bool] = True
    is_commutative: ClassVar[bool] = True

    def shape(self, *inputs: Shape) -> Shape:
        left, right = inputs
        if left == right or right == (left[0], 1, 1):
            return left
        if left == (right[0], 1, 1):
            return right
        raise ShapeError(f"A product needs equal shapes or one of (channels, 1, 1), got {left} and {right}.")


@dataclass(frozen=True)
class Concat(Operation):
    """Concatenation along channels."""

    kind: ClassVar[str] = "concat"

    def shape(self, *inputs: Shape) -> Shape:
        rest = inputs[0][1:]
        channels = 0
        for each in inputs:
            if each[1:] != rest:
                raise ShapeError(
                    f"A concatenation needs equal heights and widths, got {' and '.join(map(str, inputs))}."
                )
            channels += each[0]
        return (channels, *rest)


@dataclass(frozen=True)
class Slice(Operation):
    """Channels `start` (inclusive) to `stop` (exclusive)."""

    kind: ClassVar[str] = "slice"
    start: int = 0
    stop: int = 0

    def shape(self, *inputs: Shape) -> Shape:
        if not 0 <= self.start < self.stop <= inputs[0][0]:
            raise ShapeError(f"Channels {self.start}:{self.stop} do not lie in an input of {inputs[0][0]} channels.")
        return (self.stop - self.start, *inputs[0][1:])


@dataclass(frozen=True)
class Shuffle(Operation):
    """Channel shuffle (Zhang et al. 2018, ShuffleNet): `(groups, channels / groups)` transposed."""

    kind: ClassVar[str] = "shuffle"
    groups: int = 2

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0][0] % self.groups:
            raise ShapeError(f"A channel shuffle needs channels divisible by {self.groups}, got {inputs[0][0]}.")
        return inputs[0]


@dataclass(frozen=True)
class Pad(Operation):
    """Zero padding by (top, bottom, left, right); negative numbers crop."""

    kind: ClassVar[str] = "pad"
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def shape(self, *inputs: Shape) -> Shape:
        channels, height, width = _image(self, inputs[0])
        top, bottom, left, right = self.padding
        if height + top + bottom < 1 or width + left + right < 1:
            raise ShapeError(f"Padding {self.padding} leaves nothing of an input of {inputs[0]}.")
        return (channels, height + top + bottom, width + left + right)


@dataclass(frozen=True)
class Resize(Operation):
    """Resampling to a given `(height, width)`; `mode` is "nearest" or "bilinear"."""

    kind: ClassVar[str] = "resize"
    size: tuple[int, int] = (1, 1)
    mode: str = "nearest"
    align_corners: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        return (_image(self, inputs[0])[0], *self.size)


@dataclass(frozen=True)
class Dropout(Operation):
    """Dropout of elements with probability `rate`, in training only."""

    kind: ClassVar[str] = "dropout"
    has_state: ClassVar[bool] = True
    reuses_input: ClassVar[bool] = True
    rate: float = 0.0


@dataclass(frozen=True)
class DropPath(Operation):
    """Stochastic depth: the whole sample's tensor is zeroed with probability `rate`, in training only."""

    kind: ClassVar[str] = "drop_path"
    has_state: ClassVar[bool] = True
    reuses_input: ClassVar[bool] = True
    rate: float = 0.0


@dataclass(frozen=True)
class Zero(Operation):
    """Zeros of the input's shape, sub-sampled by `stride` (NAS-Bench-201's `none`)."""

    kind: ClassVar[str] = "zero"
    stride: int = 1
    channels: int | None = None

    def shape(self, *inputs: Shape) -> Shape:
        channels, height, width = _image(self, inputs[0])
        step = self.stride
        return (self.channels or channels, -(-height // step), -(-width // step))


@dataclass(frozen=True)
class TrainingOnly(Operation):
    """Marks an output that exists in training only (an auxiliary head): it is left out of cost and export."""

    kind: ClassVar[str] = "training_only"
    reuses_input: ClassVar[bool] = True


@dataclass(frozen=True)
class Opaque(Operation):
    """A user's PyTorch module (`nas.Module`): what it is, and what the meta device or the user said of it.

    `target` is "module:Class", `arguments` JSON text, `digest` that of its source; `outputs` its output shape.
    """

    kind: ClassVar[str] = "opaque"
    has_state: ClassVar[bool] = True
    target: str = ""
    arguments: str = "{}"
    digest: str = ""
    output: Shape = ()
    parameters: int = 0
    multiply_accumulates: int = 0
    convolution_outputs: int = 0

    def shape(self, *inputs: Shape) -> Shape:
        return self.output

    def params(self, *inputs: Shape) -> int:
        return self.parameters

    def macs(self, output: Shape, *inputs: Shape) -> int:
        return self.multiply_accumulates

    def activations(self, output: Shape) -> int:
        return self.convolution_outputs


OPERATIONS: tuple[type[Operation], ...] = (
    Input, Conv, Linear, BatchNorm, GroupNorm, Activation, MaxPool, AvgPool, GlobalPool, AdaptiveAvgPool, Flatten, Add,
    Multiply, Concat, Slice, Shuffle, Pad, Resize, Dropout, DropPath, Zero, TrainingOnly, Opaque,
)  # fmt: skip
"""Every primitive operation."""


def _image(operation: Operation, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ShapeError(f"Operation {operation.kind!r} takes an image (channels, height, width), got {shape}.")
    return shape


def _extent(operation: Operation, padded: int, kernel: int, stride: int, dilation: int) -> int:
    span = dilation * (kernel - 1) + 1
    if padded < span:
        raise ShapeError(
            f"Operation {operation.kind!r} spans {span} pixels, but its padded input has {padded}: "
            "the input is too small, or there are too many strides."
        )
    return (padded - span) // stride + 1


def _pooled(
    operation: Operation,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    ceil_mode: bool,
) -> Shape:
    channels, *size = _image(operation, shape)
    result = []
    for extent, k, s, p in zip(size, kernel, stride, padding, strict=True):
        if 2 * p > k:
            raise ShapeError(f"Pooling needs padding of at most half its window, got {p} for a window of {k} pixels.")
        out = _extent(operation, extent + 2 * p, k, s, 1)
        if ceil_mode and (extent + 2 * p - k) % s:
            out += (out * s) < extent + p  # a window must start inside the input or its left padding
        result.append(out)
    return (channels, *result)
