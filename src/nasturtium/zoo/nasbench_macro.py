"""NAS-Bench-Macro: one of three blocks at each of eight places of a small mobile network.

Level: network. Task: image classification. Stem, stages of 2, 3 and 3 blocks that double the width and halve the size
at their first, 1x1 convolution to 1280, classifier.

Reference:
    Su et al. (2021), "Prioritized Architecture Sampling with Monte-Carlo Tree Search", arXiv 2103.11922, section 5.1;
    network as in the authors' code (xiusu/NAS-Bench-Macro).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import Classifier, Conv, MBConv, Sequential, conv_norm_act
from nasturtium.errors import InvalidArchitectureError
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.listing import Family

STEM = 32
STAGES = (2, 3, 3)
FEATURES = 1280
ISOMORPHIC = 3_969
"""Different networks among the 6,561: an identity that neither strides nor widens stands anywhere in its stage."""


class Shortcut(Block):
    """The input, or its 1x1 convolution and norm where stride or width change ("identity", code 0).

    Args:
        width: Output channels.
        stride: In pixels.
    """

    width: int
    stride: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Hand on the input in this shape."""
        if self.stride == 1 and self.width == x.channels:
            return x
        return conv_norm_act(x, self.width, 1, stride=self.stride, act="identity")


def _places() -> list[tuple[int, int]]:
    """Width and stride of each place."""
    return [(STEM * 2 ** (i + 1), 1 if j else 2) for i, count in enumerate(STAGES) for j in range(count)]


def _options(width: int, stride: int) -> tuple[Block, ...]:
    """The blocks of codes 0, 1 and 2."""
    return (
        Shortcut(width, stride),
        MBConv(width, 3, stride, 3, act="relu"),
        MBConv(width, 5, stride, 6, act="relu"),
    )


def _network(blocks: Sequence[Any], classes: int | None = None) -> Sequential:
    return Sequential(Conv(STEM), *blocks, Conv(FEATURES, 1), Classifier(classes))


def space(input_shape: tuple[int, ...] = (3, 32, 32)) -> Space:
    """The space: identity, MB3 3x3 or MB6 5x5 at each of eight places ("block_0" to "block_7", always active).

    Args:
        input_shape: `(channels, height, width)`; the network halves it three times, whatever it is.

    Returns:
        3^8 = 6,561 architectures, 3,969 different ones.
    """
    del input_shape
    return Space(_network([one_of(*_options(*place), name=f"block_{i}") for i, place in enumerate(_places())]))


def network(text: str, *, classes: int | None = None) -> Sequential:
    """The closed network of an official string, for example "01200120".

    Args:
        text: Eight digits: 0 identity, 1 MB3 with 3x3, 2 MB6 with 5x5.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidArchitectureError: the string is not of this form.
    """
    return _network([_options(*place)[code] for place, code in zip(_places(), _codes(text), strict=True)], classes)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of the space that an official string names.

    Raises:
        InvalidArchitectureError: the string is not of this form.
    """
    return space.architecture({f"block_{i}": code for i, code in enumerate(_codes(text))}, indices=True)


def _codes(text: str) -> list[int]:
    if len(text) != len(_places()) or not set(text) <= set("012"):
        raise InvalidArchitectureError(f"A network of NAS-Bench-Macro is written as eight digits 0 to 2, got {text!r}.")
    return [int(digit) for digit in text]


def to_string(architecture: Architecture | Block) -> str:
    """The official string of an architecture or network.

    Raises:
        InvalidArchitectureError: it is not a closed network of the space.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    layers = getattr(block, "layers", ())[1:-2]
    try:
        codes = [_options(*place).index(layer) for place, layer in zip(_places(), layers, strict=True)]
    except ValueError:
        raise InvalidArchitectureError(f"Expected a closed network of NAS-Bench-Macro, got {architecture!r}.") from None
    return "".join(map(str, codes))


def unique_string(text: str) -> str:
    """The authors' key of equal networks: 3,969 different ones. In each stage the identities come last.

    Args:
        text: The official string. (A stage's first block is no plain identity; it stays.)

    Reference:
        `get_real_arch` in the authors' code.
    """
    codes, result = _codes(text), ""
    for count in STAGES:
        first, *rest = codes[:count]
        codes = codes[count:]
        result += str(first) + "".join(map(str, sorted(rest, key=lambda code: code == 0)))
    return result


FAMILIES = (
    Family(
        name="nasbench_macro",
        title="NAS-Bench-Macro",
        paper='Su et al. 2021, "Prioritized Architecture Sampling with Monte-Carlo Tree Search", arXiv 2103.11922',
        space=space,
        input_shape=(3, 32, 32),
        size=3**8,
        quoted_size="6,561",
    ),
)
