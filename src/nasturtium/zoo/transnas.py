"""TransNAS-Bench-101, macro space: where a residual network halves its images and doubles its width.

Level: network. Task: image classification (the backbones serve seven tasks). Stem of two 3x3 convolutions of stride 2,
four to six modules of two residual blocks, classifier. A module leaves its input's shape (1), doubles the width (2),
halves the size (3) or does both (4).

Reference:
    Duan et al. (2021), "TransNAS-Bench-101: Improving Transferability and Generalizability of Cross-Task Neural
    Architecture Search", arXiv 2105.11871, section 3.1; network as in the authors' code (`MacroNet`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import Classifier, Repeat, Sequential
from nasturtium.errors import InvalidArchitectureError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Prefix, Space, one_of
from nasturtium.zoo.listing import Family

WIDTH = 64
DEPTHS = (4, 5, 6)
KINDS = (1, 2, 3, 4)
HALVINGS = range(1, 5)
"""How many modules may halve the size."""
DOUBLINGS = range(1, 4)
"""How many modules may double the width."""


class MacroStem(Block):
    """Two 3x3 convolutions of stride 2 with norms, and a ReLU between.

    Args:
        width: Output channels.
    """

    width: int = WIDTH

    def forward(self, x: Tensor) -> Tensor:
        """Quarter the size."""
        with x.scope("first"):
            x = ops.batch_norm(ops.conv(x, self.width // 2, stride=2))
        with x.scope("second"):
            return ops.batch_norm(ops.conv(ops.activation(x, "relu"), self.width, stride=2))


class MacroModule(Block):
    """Two residual blocks of pre-activation convolutions; the first changes the shape.

    Args:
        kind: 1 leaves the shape, 2 doubles the width, 3 halves the size, 4 does both.
    """

    kind: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Run both blocks."""
        width, stride = x.channels * (2 if self.kind in (2, 4) else 1), 2 if self.kind > 2 else 1
        with x.scope("0"):
            x = _residual(x, width, stride)
        with x.scope("1"):
            return _residual(x, width, 1)


def _residual(x: Tensor, width: int, stride: int) -> Tensor:
    with x.scope("first"):
        y = ops.batch_norm(ops.conv(ops.activation(x, "relu"), width, stride=stride))
    with x.scope("second"):
        y = ops.batch_norm(ops.conv(ops.activation(y, "relu"), width))
    if stride != 1 or width != x.channels:
        with x.scope("shortcut"):
            x = ops.batch_norm(ops.conv(x, width, 1, stride=stride))
    return ops.add(x, y)


def _network(modules: Any, width: int = WIDTH, classes: int | None = None) -> Sequential:
    return Sequential(MacroStem(width), Repeat(modules), Classifier(classes))


def is_valid(*modules: int | None) -> bool:
    """Whether one to four modules halve the size and one to three double the width (None: no such module)."""
    kinds = [kind for kind in modules if kind is not None]
    return sum(kind > 2 for kind in kinds) in HALVINGS and sum(kind % 2 == 0 for kind in kinds) in DOUBLINGS


def space(input_shape: tuple[int, ...] = (3, 224, 224)) -> Space:
    """The space: "depth" (4, 5, 6 modules) and "module_0" to "module_5", those beyond the depth inactive.

    One to four modules halve the size, one to three double the width; so of n modules there are
    (C(n, 1) + … + C(n, 4)) (C(n, 1) + … + C(n, 3)) networks.

    Args:
        input_shape: `(channels, height, width)`; the network halves it two to six times, whatever it is.

    Returns:
        15 * 14 + 30 * 25 + 56 * 41 = 3,256 architectures.
    """
    del input_shape
    kinds = [one_of(*KINDS, name=f"module_{i}") for i in range(max(DEPTHS))]
    modules = Prefix([MacroModule(kind) for kind in kinds], one_of(*DEPTHS, name="depth"))
    return Space(_network(modules)).where(is_valid, reads=kinds)


def network(text: str, *, classes: int | None = None) -> Sequential:
    """The closed network of an official string, for example "64-1234-basic".

    Args:
        text: Width of the stem, four to six digits 1 to 4, and "basic" (the cell, two convolutions).
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidArchitectureError: the string is not of this form.
    """
    width, kinds = _parse(text)
    return _network(tuple([MacroModule(kind) for kind in kinds]), width, classes)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of the space that an official string names.

    Raises:
        InvalidArchitectureError: the string is not of this form, or has too many or no halvings or doublings.
    """
    width, kinds = _parse(text)
    if width != WIDTH:
        raise InvalidArchitectureError(f"The networks of this space begin with {WIDTH} channels, got {text!r}.")
    return space.architecture({"depth": len(kinds), **{f"module_{i}": kind for i, kind in enumerate(kinds)}})


def _parse(text: str) -> tuple[int, Sequence[int]]:
    match = re.fullmatch(r"([1-9]\d*)-([1-4]{4,6})-basic", text)
    if match is None:
        raise InvalidArchitectureError(
            f"A macro network of TransNAS-Bench-101 is written '64-1234-basic', got {text!r}."
        )
    return int(match[1]), [int(digit) for digit in match[2]]


def to_string(architecture: Architecture | Block) -> str:
    """The official string of an architecture or network.

    Raises:
        InvalidArchitectureError: it is not a closed network of the macro space.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    layers: tuple[Any, ...] = getattr(block, "layers", ())
    if block.is_open or len(layers) != 3 or not isinstance(layers[0], MacroStem) or not isinstance(layers[1], Repeat):
        raise InvalidArchitectureError(f"Expected a closed network of TransNAS-Bench-101, got {architecture!r}.")
    return f"{layers[0].width}-{''.join(str(module.kind) for module in layers[1].blocks)}-basic"


FAMILIES = (
    Family(
        name="transnas_macro",
        title="TransNAS-Bench-101, macro space",
        paper='Duan et al. 2021, "TransNAS-Bench-101", arXiv 2105.11871',
        space=space,
        size=3_256,
        quoted_size="3,256",
    ),
)
