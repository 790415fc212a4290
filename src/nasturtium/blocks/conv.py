"""Plain bricks: sequences, repetition, convolution, pooling, linear layers and the classifier's head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nasturtium.blocks.layers import conv_norm_act
from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


class Sequential(Block):
    """Blocks one after the other: `Sequential(first, second, …)`. The output of each is the input of the next.

    A block may return several tensors (nested tuples or dicts); the next is called with what came back.

    Args:
        layers: The blocks; a layer may be a choice between blocks.
    """

    layers: tuple[Any, ...]

    def __init__(self, *blocks: object, layers: Iterable[object] | None = None) -> None:
        if blocks and layers is not None:
            raise InvalidInputError("Sequential takes its layers as positional arguments or as `layers=`, not as both.")
        object.__setattr__(self, "layers", blocks if layers is None else tuple(layers))

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def forward(self, *xs: Any) -> Any:
        """Run the layers in order."""
        value: Any = xs[0] if len(xs) == 1 else xs
        for layer in self.layers:
            value = layer(*value) if isinstance(value, tuple) else layer(value)
        return value


class Identity(Block):
    """Return the input: no operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


class Conv(Block):
    """Convolution, batch normalisation, activation.

    Args:
        width: Output channels; None keeps the input's.
        kernel: Odd, in pixels.
        stride: In pixels.
        act: Activation, or "identity".
        groups: Groups of channels.
        dilation: Distance between taps.
        norm: Whether batch normalisation follows; without it the convolution has a bias.
        eps: Of the norm.
        momentum: Of the norm, weight of the new batch.
        padding: "same", "tf_same" or "valid" (see `blocks.layers.PADDINGS`).
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    act: str = "relu"
    groups: int = 1
    dilation: int = 1
    norm: bool = True
    eps: float = 1e-5
    momentum: float = 0.1
    padding: str = "same"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        return conv_norm_act(
            x,
            x.channels if self.width is None else self.width,
            self.kernel,
            stride=self.stride,
            act=self.act,
            groups=self.groups,
            dilation=self.dilation,
            norm=self.norm,
            eps=self.eps,
            momentum=self.momentum,
            padding=self.padding,
            name="conv",
        )


class MaxPool(Block):
    """Maximum over windows.

    Args:
        kernel: In pixels.
        stride: In pixels.
        padding: In pixels each side; None keeps the size at stride 1 for odd kernels.
        ceil_mode: Whether an incomplete last window counts.
    """

    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    ceil_mode: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Take the maximum over windows."""
        return ops.max_pool(x, self.kernel, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode)


class AvgPool(Block):
    """Mean over windows.

    Args:
        kernel: In pixels.
        stride: In pixels.
        padding: In pixels each side; None keeps the size at stride 1 for odd kernels.
        ceil_mode: Whether an incomplete last window counts.
    """

    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    ceil_mode: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Take the mean over windows."""
        return ops.avg_pool(x, self.kernel, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode)


class Linear(Block):
    """Linear layer and activation on a vector; an image is flattened first.

    Args:
        features: Output features.
        act: Activation, or "identity".
        bias: Whether to add a bias.
        dropout: Rate of dropout after the activation, in [0, 1).
    """

    features: int
    act: str = "relu"
    bias: bool = True
    dropout: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Flatten, multiply, activate."""
        x = ops.linear(ops.flatten(x), self.features, bias=self.bias)
        return ops.dropout(ops.activation(x, self.act), self.dropout)


class Classifier(Block):
    """Head of a classifier: mean over all positions, optional hidden features, dropout, linear layer to the classes.

    Args:
        classes: Number of classes; None takes it from the task (`x.context.classes`).
        dropout: Rate before the last layer, in [0, 1).
        features: Width of a hidden linear layer after the pooling (MobileNetV3), or None for none.
        act: Activation after it.
        features_bias: Whether it has a bias.
        pool: "avg" or "max".
    """

    classes: int | None = None
    dropout: float = 0.0
    features: int | None = None
    act: str = "hardswish"
    features_bias: bool = True
    pool: str = "avg"

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        if len(x.shape) == 3:
            x = ops.flatten(ops.global_pool(x, self.pool))
        if self.features is not None:
            x = ops.linear(x, self.features, bias=self.features_bias, name="features")
            x = ops.activation(x, self.act)
        x = ops.dropout(x, self.dropout)
        return ops.linear(x, x.context.classes if self.classes is None else self.classes)
