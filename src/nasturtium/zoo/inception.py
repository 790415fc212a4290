"""Inception-v3.

Level: network. Task: image classification. Hand-designed; a baseline to compare searches with.

Reference:
    Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567, table 1 and
    figures 5 to 7; widths as in the authors' released network (TensorFlow-Slim, torchvision, timm).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nasturtium.blocks import Classifier
from nasturtium.design.multipliers import check_multipliers
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block
from nasturtium.zoo.listing import Family
from nasturtium.zoo.scaling import scaled_rows, scaled_width

EPS = 1e-3
"""Of the norms."""

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel]
"""Width and kernel of one convolution."""

FIRST = (32, 64, 64)
"""Width of the pooled branch of each module at 35x35 positions."""

SECOND = (128, 160, 160, 192)
"""Width inside the 7x7 branches of each module at 17x17 positions."""

THIRD = 2
"""Modules at 8x8 positions."""

AUXILIARY = 5
"""Positions in each direction that the auxiliary head's convolution sees."""

AUXILIARY_INPUT = 17
"""Positions that it is made for; fewer are pooled adaptively."""


def conv(
    x: Tensor, width: int, kernel: Kernel = 1, *, stride: int = 1, valid: bool = False, name: str = "conv"
) -> Tensor:
    """Convolution, batch normalisation, ReLU.

    Args:
        x: `(channels, height, width)`.
        width: Output channels.
        kernel: Height and width, in pixels.
        stride: In pixels.
        valid: Whether without padding; otherwise the size is kept at stride 1.
        name: Name of the scope.
    """
    with x.scope(name):
        x = ops.conv(x, width, kernel, stride=stride, padding=0 if valid else None)
        return ops.activation(ops.batch_norm(x, eps=EPS))


class InceptionV3(Block):
    """The network, for images of at least 75x75 pixels; published for 299x299.

    Args:
        width: Multiplier of all widths.
        depth: Multiplier of the modules at each size, rounded up.
        auxiliary: Whether a second classifier, for training only, stands on the 17x17 positions: the output is then
            the pair of both logits. It counts in no cost and is not exported.
        dropout: Rate before the classifier, in [0, 1).
        classes: Number of classes; None takes it from the task.
    """

    depth_fields: ClassVar[tuple[str, ...]] = ("depth",)
    width: float = 1.0
    depth: float = 1.0
    auxiliary: bool = False
    dropout: float = 0.5
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the classes' logits, `(classes,)`, and those of the auxiliary head."""
        x = self._stem(x)
        for i, pooled in enumerate(scaled_rows(FIRST, self.depth)):
            with x.scope(f"first.{i}"):
                x = self._module(x, [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]], pooled)
        with x.scope("first_reduction"):
            x = self._reduction(x, [[(384, 3)], [(64, 1), (96, 3), (96, 3)]])
        for i, c in enumerate(scaled_rows(SECOND, self.depth)):
            with x.scope(f"second.{i}"):
                twice: list[Step] = [(c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))]
                x = self._module(x, [[(192, 1)], [(c, 1), (c, (1, 7)), (192, (7, 1))], twice], 192)
        auxiliary = self._auxiliary(x) if self.auxiliary else None
        with x.scope("second_reduction"):
            x = self._reduction(x, [[(192, 1), (320, 3)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]])
        for i in range(len(scaled_rows(range(THIRD), self.depth))):
            with x.scope(f"third.{i}"):
                x = self._wide_module(x)
        with x.scope("head"):
            logits = Classifier(self.classes, self.dropout)(x)
        return logits if auxiliary is None else (logits, auxiliary)

    def _scaled(self, channels: int) -> int:
        return scaled_width(channels, self.width)

    def _stem(self, x: Tensor) -> Tensor:
        with x.scope("stem"):
            x = conv(x, self._scaled(32), 3, stride=2, valid=True)
            x = conv(x, self._scaled(32), 3, valid=True)
            x = conv(x, self._scaled(64), 3)
            x = ops.max_pool(x, 3, stride=2, padding=0)
            x = conv(x, self._scaled(80))
            x = conv(x, self._scaled(192), 3, valid=True)
            return ops.max_pool(x, 3, stride=2, padding=0)

    def _branch(self, x: Tensor, steps: Sequence[Step], name: str, *, reduce: bool = False) -> Tensor:
        """Convolutions in a row; with `reduce` the last one has stride 2 and no padding."""
        with x.scope(name):
            for i, (channels, kernel) in enumerate(steps):
                last = reduce and i == len(steps) - 1
                x = conv(x, self._scaled(channels), kernel, stride=2 if last else 1, valid=last)
            return x

    def _pooled(self, x: Tensor, channels: int) -> Tensor:
        with x.scope("pooled"):
            return conv(ops.avg_pool(x, 3, count_include_pad=True), self._scaled(channels))

    def _module(self, x: Tensor, branches: Sequence[Sequence[Step]], pooled: int) -> Tensor:
        outputs = [self._branch(x, steps, f"branch_{i}") for i, steps in enumerate(branches)]
        return ops.concat(*outputs, self._pooled(x, pooled))

    def _reduction(self, x: Tensor, branches: Sequence[Sequence[Step]]) -> Tensor:
        outputs = [self._branch(x, steps, f"branch_{i}", reduce=True) for i, steps in enumerate(branches)]
        return ops.concat(*outputs, ops.max_pool(x, 3, stride=2, padding=0))

    def _wide_module(self, x: Tensor) -> Tensor:
        """The module at 8x8 positions, whose branches end in 1x3 and 3x1 convolutions side by side."""
        outputs = [self._branch(x, [(320, 1)], "branch_0")]
        for i, steps in enumerate(([(384, 1)], [(448, 1), (384, 3)]), start=1):
            y = self._branch(x, steps, f"branch_{i}")
            with x.scope(f"branch_{i}_ends"):
                outputs += [conv(y, self._scaled(384), kernel) for kernel in ((1, 3), (3, 1))]
        return ops.concat(*outputs, self._pooled(x, 192))

    def _auxiliary(self, x: Tensor) -> Tensor:
        with x.scope("auxiliary"):
            if min(x.shape[1:]) < AUXILIARY_INPUT:
                y = ops.adaptive_avg_pool(x, (AUXILIARY, AUXILIARY))
            else:
                y = ops.avg_pool(x, 5, stride=3, padding=0)
            y = conv(y, self._scaled(128))
            y = conv(y, self._scaled(768), AUXILIARY, valid=True)
            y = ops.flatten(ops.global_pool(y))
            y = ops.linear(y, x.context.classes if self.classes is None else self.classes)
            return ops.training_only(y)


def inception_v3(
    width: float = 1.0, depth: float = 1.0, *, auxiliary: bool = False, classes: int | None = None
) -> InceptionV3:
    """The network; see `InceptionV3`.

    Raises:
        InvalidInputError: a multiplier is not positive.
    """
    check_multipliers(width=width, depth=depth)
    return InceptionV3(width, depth, auxiliary, classes=classes)


FAMILIES = (
    Family(
        name="inception",
        title="Inception-v3",
        paper='Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567',
        input_shape=(3, 299, 299),
        names={
            "timm": ((r"(?:tf_|adv_|gluon_)?inception_v3", lambda _, c: inception_v3(classes=c)),),
            "torchvision": ((r"inception_v3", lambda _, c: inception_v3(auxiliary=True, classes=c)),),
        },
        named=("inception_v3",),
    ),
)
