"""The plain chain space: convolutions with pooling between, then linear layers.

Level: network. Task: image classification. Open are the number of layers, and of each its neurons (channels or
features), kernel and activation, and the kind of pooling.

Reference:
    The chain-structured space of Elsken et al. (2019), "Neural Architecture Search: A Survey", JMLR 20(55), section 2.
"""

from __future__ import annotations

from typing import Any

from nasturtium.blocks import AvgPool, Conv, Linear, MaxPool, Repeat, Sequential, repeat
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, Space, one_of
from nasturtium.zoo.listing import Family
from nasturtium.zoo.resolution import halvings

ACTIVATIONS = ("relu", "tanh", "elu")


class Logits(Block):
    """The last linear layer.

    Args:
        classes: Number of classes; None takes it from the task.
    """

    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        return Linear(x.context.classes if self.classes is None else self.classes, "identity")(x)


def chain(input_shape: tuple[int, ...] = (1, 8, 8)) -> Space:
    """The space for images of the given shape.

    Two or three stages of one or two convolutions (8, 16 or 32 channels; kernel 1, 3 or 5; three activations), each
    followed by a maximum or mean over 2x2 (where two positions are left); then none to two linear layers (32, 64 or 128
    features; three activations); then the classes.

    Args:
        input_shape: `(channels, height, width)`; images of 28 pixels or more have three stages.
    """
    stages = min(3, max(2, halvings(input_shape)))
    layers: list[Any] = []
    smallest = min(input_shape[1:])
    for _ in range(stages):
        layers.append(repeat(Conv(one_of(8, 16, 32), one_of(1, 3, 5), act=one_of(*ACTIVATIONS)), one_of(1, 2)))
        if smallest >= 2:
            layers.append(one_of(MaxPool(2, 2, 0), AvgPool(2, 2, 0)))
            smallest //= 2
    hidden: Repeat = repeat(Linear(one_of(32, 64, 128), one_of(*ACTIVATIONS)), one_of(0, 1, 2))
    return Space(Sequential(*layers, hidden, Logits()))


FAMILIES = (
    Family(
        name="chain",
        title="Chain of convolution, pooling and linear layers",
        paper='Elsken et al. 2019, "Neural Architecture Search: A Survey", arXiv 1808.05377',
        space=chain,
        input_shape=(1, 8, 8),
        size=208_039_104,
    ),
)
