"""Single Path One-Shot (SPOS): which of four blocks stands at each of 20 places, and how wide it is inside.

Level: network. Task: image classification. The network is ShuffleNetV2's plan: stem, four stages of 4, 4, 8 and 4
blocks, 1x1 convolution, classifier. A block is a shuffle unit with a 3x3, 5x5 or 7x7 depthwise convolution, or one with
three depthwise 3x3 convolutions ("xception"); its hidden width is half its output's times a scale.

Reference:
    Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv 1904.00420,
    section 3.4, tables 1 and 4, and the authors' code (megvii-model/SinglePathOneShot).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import Repeat, Sequential
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.listing import CLASSES, Family, Row

STAGES = ((64, 4), (160, 4), (320, 8), (640, 4))
"""Output channels and blocks of each stage; the first block of each halves the size (paper, table 1)."""
STEM = 16
FEATURES = 1024
KINDS = ("k3", "k5", "k7", "xception")
"""The four blocks in the order of the authors' codes."""
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""The paper's ten scales of the hidden width (section 3.4)."""
CODE_SCALES = SCALES[:8]
"""The eight of the authors' code, 0.2 to 1.6."""
BLOCKS = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
"""The blocks that the authors found and published; their channel search starts from such a network."""


class _Unit(Block):
    """What the blocks share: half of the channels pass by, or a branch of their own at stride 2."""

    width: int
    stride: int = 1
    scale: float = 1.0
    affine: bool = True

    @property
    def hidden(self) -> int:
        """Hidden channels."""
        return max(1, int(self.width // 2 * self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Split, transform one half, concatenate."""
        if self.stride == 1:
            aside, y = _halves(x)
        else:
            with x.scope("aside"):
                aside = self._project(self._filter(x, self._side, self.stride, "depthwise"), x.channels, "project")
            y = x
        with x.scope("main"):
            y = self._main(y, self.width - aside.channels)
        return ops.concat(aside, y)

    @property
    def _side(self) -> int:
        """Kernel of the branch aside, at stride 2."""
        return 3

    def _main(self, x: Tensor, channels: int) -> Tensor:
        raise NotImplementedError

    def _filter(self, x: Tensor, kernel: int, stride: int, name: str) -> Tensor:
        """Depthwise convolution without an activation."""
        with x.scope(name):
            x = ops.conv(x, x.channels, kernel, stride=stride, groups=x.channels)
            return ops.batch_norm(x, affine=self.affine)

    def _project(self, x: Tensor, channels: int, name: str) -> Tensor:
        """1x1 convolution."""
        with x.scope(name):
            x = ops.batch_norm(ops.conv(x, channels, 1), affine=self.affine)
            return ops.activation(x, "relu")


class ShuffleUnit(_Unit):
    """Unit of ShuffleNetV2 with a depthwise convolution of any kernel.

    At stride 1 the even channels pass by and the odd ones are transformed; at stride 2 all go through both branches.

    Args:
        width: Output channels, even.
        stride: 1 or 2, in pixels.
        scale: Hidden width as a ratio of half the output's; rounded down.
        affine: Whether norms have weights; without in the supernet.
        kernel: Of the depthwise convolutions in both branches, odd, in pixels.
    """

    kernel: int = 3

    @property
    def _side(self) -> int:
        return self.kernel

    def _main(self, x: Tensor, channels: int) -> Tensor:
        y = self._project(x, self.hidden, "expand")
        y = self._filter(y, self.kernel, self.stride, "depthwise")
        return self._project(y, channels, "project")


class XceptionUnit(_Unit):
    """Unit of ShuffleNetV2 with three depthwise separable 3x3 convolutions.

    Args:
        width: Output channels, even.
        stride: 1 or 2, in pixels.
        scale: Hidden width as a ratio of half the output's; rounded down.
        affine: Whether norms have weights; without in the supernet.
    """

    def _main(self, x: Tensor, channels: int) -> Tensor:
        for i, (width, stride) in enumerate(((self.hidden, self.stride), (self.hidden, 1), (channels, 1))):
            x = self._project(self._filter(x, 3, stride, f"depthwise_{i}"), width, f"project_{i}")
        return x


class PlainConv(Block):
    """Convolution, norm with or without weights, ReLU: the network's first and last.

    Args:
        width: Output channels.
        kernel: Odd, in pixels.
        stride: In pixels.
        affine: Whether the norm has weights.
    """

    width: int
    kernel: int = 1
    stride: int = 1
    affine: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        x = ops.conv(x, self.width, self.kernel, stride=self.stride)
        return ops.activation(ops.batch_norm(x, affine=self.affine), "relu")


class AllChoices(Block):
    """The sum of several blocks of one input: what a supernet holds at one place, for counting its weights.

    Args:
        blocks: The choices.
    """

    blocks: tuple[Any, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Run every choice."""
        return ops.add(*[block(x) for block in self.blocks])


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd channels."""
    half = x.channels // 2
    x = ops.channel_shuffle(x, half)
    return ops.channel_slice(x, 0, half, name="even"), ops.channel_slice(x, half, 2 * half, name="odd")


def _unit(kind: int, width: int, stride: int, scale: Any, *, affine: bool = True) -> Block:
    if isinstance(kind, bool) or kind not in range(len(KINDS)):
        raise InvalidInputError(f"A block of SPOS is 0 to 3 ({', '.join(KINDS)}), got {kind!r}.")
    if KINDS[kind] == "xception":
        return XceptionUnit(width, stride, scale, affine)
    return ShuffleUnit(width, stride, scale, affine, kernel=(3, 5, 7)[kind])


class Head(Block):
    """Mean over positions, dropout, linear layer without bias.

    Args:
        classes: Number of classes; None takes it from the task.
        dropout: Rate, in [0, 1).
    """

    classes: int | None = None
    dropout: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        x = ops.dropout(ops.flatten(ops.global_pool(x)), self.dropout)
        return ops.linear(x, x.context.classes if self.classes is None else self.classes, bias=False)


def _stacked(places: Sequence[Any], classes: int | None = None, *, affine: bool = True) -> Sequential:
    """The network around the blocks at the 20 places."""
    rest = iter(places)
    stages = [Repeat(tuple([next(rest) for _ in range(count)])) for _, count in STAGES]
    first, last = PlainConv(STEM, 3, 2, affine), PlainConv(FEATURES, affine=affine)
    return Sequential(first, *stages, last, Head(classes))


def _places() -> list[tuple[int, int]]:
    """Width and stride of each of the 20 places."""
    return [(width, 1 if i else 2) for width, count in STAGES for i in range(count)]


def spos(input_shape: tuple[int, ...] = (3, 224, 224)) -> Space:
    """The space of blocks: each of 20 places takes one of four, all decisions always active ("block_0" …).

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.

    Returns:
        4^20 = 1,099,511,627,776 architectures.
    """
    del input_shape
    return Space(
        _stacked(
            [
                one_of(*[_unit(kind, width, stride, 1.0) for kind in range(len(KINDS))], name=f"block_{i}")
                for i, (width, stride) in enumerate(_places())
            ]
        )
    )


def spos_channels(
    input_shape: tuple[int, ...] = (3, 224, 224),
    *,
    blocks: Sequence[int] = BLOCKS,
    scales: Sequence[float] = SCALES,
) -> Space:
    """The space of channels: the blocks are given, each hidden width is open ("scale_0" …, always active).

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        blocks: Codes of the 20 blocks.
        scales: Of half the output's width; `CODE_SCALES` are the eight of the authors' code.

    Returns:
        `len(scales)^20` architectures: 10^20 with the paper's ten.

    Raises:
        InvalidInputError: not 20 codes of 0 to 3.
    """
    del input_shape
    units = [
        _unit(kind, width, stride, one_of(*scales, name=f"scale_{i}"))
        for i, (kind, (width, stride)) in enumerate(zip(_codes(blocks), _places(), strict=True))
    ]
    return Space(_stacked(units))


def spos_block_channel(input_shape: tuple[int, ...] = (3, 224, 224), *, scales: Sequence[float] = SCALES) -> Space:
    """The space of blocks and channels: at each place one of four blocks and one scale, which the four share.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        scales: Of half the output's width.

    Returns:
        `(4 * len(scales))^20` architectures: 40^20 = 109,951,162,777,600,000,000,000,000,000,000 with ten.
    """
    del input_shape
    places = []
    for i, (width, stride) in enumerate(_places()):
        scale = one_of(*scales, name=f"scale_{i}")
        options = [_unit(kind, width, stride, scale) for kind in range(len(KINDS))]
        places.append(one_of(*options, name=f"block_{i}"))
    return Space(_stacked(places))


def network(
    blocks: Sequence[int], scales: Sequence[float] | None = None, *, affine: bool = True, classes: int | None = None
) -> Sequential:
    """The closed network of the authors' codes.

    Args:
        blocks: 20 codes: 0 is a 3x3, 1 a 5x5, 2 a 7x7 shuffle unit, 3 the xception unit.
        scales: 20 scales of the hidden widths; None for 1 everywhere.
        affine: Whether norms have weights.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: not 20 codes of 0 to 3, or not 20 positive scales.
    """
    factors = [1.0] * len(_places()) if scales is None else list(scales)
    if len(factors) != len(_places()) or any(not factor > 0 for factor in factors):
        raise InvalidInputError(f"SPOS has {len(_places())} positive scales of hidden widths, got {scales!r}.")
    units = [
        _unit(kind, width, stride, scale, affine=affine)
        for kind, scale, (width, stride) in zip(_codes(blocks), factors, _places(), strict=True)
    ]
    return _stacked(units, classes, affine=affine)


def supernet(*, classes: int | None = None) -> Sequential:
    """The weights of the authors' supernet: all four blocks at each place, norms without weights.

    The four outputs are summed, so that the network can be counted; the supernet runs one at a time.
    """
    every = [
        AllChoices(tuple(_unit(kind, width, stride, 1.0, affine=False) for kind in range(len(KINDS))))
        for width, stride in _places()
    ]
    return _stacked(every, classes, affine=False)


def _codes(blocks: Sequence[int]) -> Sequence[int]:
    if len(blocks) != len(_places()):
        raise InvalidInputError(f"SPOS has {len(_places())} blocks, each a code of 0 to 3, got {blocks!r}.")
    return blocks


def to_codes(architecture: Architecture | Block) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The authors' codes of an architecture or network: its blocks, and its scales of hidden widths.

    Raises:
        InvalidArchitectureError: it is not a closed network of this space.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    layers = getattr(block, "layers", ())
    units = [unit for layer in layers if isinstance(layer, Repeat) for unit in layer.blocks]
    if len(units) != len(_places()) or not all(isinstance(u, _Unit) and not u.is_open for u in units):
        raise InvalidArchitectureError(f"Expected a closed network of SPOS, got {architecture!r}.")
    kinds = [3 if isinstance(unit, XceptionUnit) else (3, 5, 7).index(unit.kernel) for unit in units]
    return tuple(kinds), tuple(float(unit.scale) for unit in units)


def architecture(
    space: Space, blocks: Sequence[int] | None = None, scales: Sequence[float] | None = None
) -> Architecture:
    """The architecture of a space of this module that the authors' codes name.

    Args:
        space: `spos`, `spos_channels` or `spos_block_channel`.
        blocks: 20 codes, where the space leaves the blocks open.
        scales: 20 scales, where it leaves them open.
    """
    decisions: dict[Any, object] = {}
    indexed = {f"block_{i}": code for i, code in enumerate(blocks or ())}
    for name, code in indexed.items():
        decisions[name] = space.decision(name).choice.value_at(code)
    decisions.update({f"scale_{i}": scale for i, scale in enumerate(scales or ())})
    return space.architecture(decisions)


def from_row(row: Row) -> Block:
    """The network of a row of reference values: codes and scales, or (a text that says so) the supernet.

    Raises:
        InvalidInputError: it is another text, or the codes are malformed; see `network`.
    """
    config = row["config"]
    if isinstance(config, str):
        if not re.search(r"supernet|choice blocks", config, re.IGNORECASE):
            raise InvalidInputError(
                f"A row of {row['space']!r} holds 'blocks' and 'mid_channel_scales', or a text that says 'supernet' or "
                f"'choice blocks', got {config!r}."
            )
        return supernet(classes=CLASSES)
    return network(config["blocks"], config.get("mid_channel_scales"), classes=CLASSES)


_PAPER = 'Guo et al. 2020, "Single Path One-Shot NAS with Uniform Sampling", arXiv 1904.00420'

FAMILIES = (
    Family(
        name="spos",
        title="Single Path One-Shot, blocks",
        paper=_PAPER,
        space=spos,
        size=1_099_511_627_776,
        quoted_size="4^20",
        rows={"SPOS ShuffleNetV2": from_row},
    ),
    Family(
        name="spos_channels",
        title="Single Path One-Shot, channels",
        paper=_PAPER,
        space=spos_channels,
        size=10**20,
        quoted_size="10^20",
    ),
    Family(
        name="spos_block_channel",
        title="Single Path One-Shot, blocks and channels",
        paper=_PAPER,
        space=spos_block_channel,
        size=40**20,
    ),
)
