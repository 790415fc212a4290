"""AnyNet A to E: the design spaces that lead to RegNet, four stages of residual bottlenecks with grouped convolutions.

Level: network. Task: image classification. Open are depth, width, bottleneck ratio and group width of each stage; from
A to E the spaces share or order more of them. They are made to be sampled and trained one by one; a block reads its
width, ratio and group together, which is too many combinations for a supernet.

Reference:
    Radosavovic et al. (2020), "Designing Network Design Spaces", arXiv 2003.13678, section 3.2; adjustment of widths
    and groups as in the authors' code (pycls, `adjust_block_compatibility`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nasturtium.blocks import Classifier, Conv, Repeat, Sequential, conv_norm_act, make_divisible, repeat
from nasturtium.blocks.layers import squeeze_excite
from nasturtium.blocks.residual import shortcut
from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, Space, int_range, one_of, subset
from nasturtium.zoo.listing import Family
from nasturtium.zoo.resolution import halvings, strides

STAGES = 4
STEM = 32
"""Channels of the stem."""

DEPTH = 16
"""Most blocks in a stage."""

WIDTH_STEP = 8
WIDTH = 1024
"""Greatest width of a stage; all are multiples of `WIDTH_STEP`."""

BOTTLENECKS = (1, 2, 4)
"""Width of a block by its hidden width."""

GROUPS = (1, 2, 4, 8, 16, 32)
"""Channels of a group."""

SE = 0.25
"""Hidden width of squeeze-and-excitation in the Y networks, by the block's input width."""


def adjust(width: int, bottleneck: int, group: int, limit: float = 0.0) -> tuple[int, int]:
    """Width and group width that fit: the hidden width becomes a multiple of the group's.

    Args:
        width: Of the stage.
        bottleneck: Width by hidden width.
        group: Channels of a group; more than the hidden width is cut to that.
        limit: The hidden width is rounded up where rounding to nearest would go below `limit` of it; 0 (pycls) never
            does, torchvision has 0.9.

    Raises:
        InvalidInputError: one of them is below 1.
    """
    if width < 1 or bottleneck < 1 or group < 1:
        raise InvalidInputError(
            f"Width, bottleneck ratio and group width must be at least 1, got {width}, {bottleneck}, {group}."
        )
    hidden = max(1, width // bottleneck)
    group = min(group, hidden)
    rounded = round(hidden / group) * group  # to nearest, halves to even: at least one group, for hidden >= group
    return (make_divisible(hidden, group, limit=limit) if limit else rounded) * bottleneck, group


def bottleneck_block(x: Tensor, width: int, hidden: int, group: int, stride: int, se: float | None) -> Tensor:
    """The block X, or Y with squeeze-and-excitation: 1x1, 3x3 in groups, 1x1, and a shortcut.

    Parts: "reduce", "conv", "se", "expand", "shortcut", "add", "act".
    """
    y = conv_norm_act(x, hidden, name="reduce")
    y = conv_norm_act(y, hidden, 3, stride=stride, groups=hidden // group, name="conv")
    if se is not None:
        y = squeeze_excite(y, max(1, round(x.channels * se)))
    y = conv_norm_act(y, width, act="identity", name="expand")
    return ops.activation(ops.add(y, shortcut(x, width, stride)))


class XBlock(Block):
    """Residual bottleneck with a grouped convolution. Parts: see `bottleneck_block`.

    Args:
        width: Output channels; adjusted so that the groups fit (see `adjust`).
        bottleneck: Width by hidden width.
        group: Channels of a group.
        stride: Of the grouped convolution.
        se: Hidden width of squeeze-and-excitation by the block's input width, or None for none.
    """

    width: int
    bottleneck: int = 1
    group: int = 1
    stride: int = 1
    se: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Add the bottleneck to the shortcut."""
        width, group = adjust(self.width, self.bottleneck, self.group)
        return bottleneck_block(x, width, width // self.bottleneck, group, self.stride, self.se)


class OrderedStage(Block):
    """A stage of `XBlock` whose width, and perhaps depth, come from increasing numbers that all stages share.

    Args:
        widths: Increasing positions, one for each stage, from 0; the position of stage k less k is the number of the
            width, counted in steps of 8 channels. So widths do not decrease, and every such sequence is one subset.
        depths: The same for the numbers of blocks, counted from 1; or the number of this stage's blocks.
        place: Number of the stage, from 0.
        bottleneck: See `XBlock`.
        group: See `XBlock`.
        stride: Of the first block.
        se: See `XBlock`.
    """

    depth_fields: ClassVar[tuple[str, ...]] = ("depth",)
    widths: Any
    depths: Any
    place: int
    bottleneck: int = 1
    group: int = 1
    stride: int = 1
    se: float | None = None

    @property
    def width(self) -> int:
        """Channels, before the adjustment to the groups."""
        return WIDTH_STEP * (self.widths[self.place] - self.place + 1)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.depths if isinstance(self.depths, int) else self.depths[self.place] - self.place + 1

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks in order."""
        width, group = adjust(self.width, self.bottleneck, self.group)
        for i in range(self.depth):
            with x.scope(f"blocks.{i}"):
                x = bottleneck_block(x, width, width // self.bottleneck, group, 1 if i else self.stride, self.se)
        return x


def anynet(
    depths: Sequence[int],
    widths: Sequence[int],
    bottlenecks: Sequence[int] = (1, 1, 1, 1),
    groups: Sequence[int] = (1, 1, 1, 1),
    *,
    se: float | None = None,
    input_shape: tuple[int, ...] = (3, 224, 224),
    classes: int | None = None,
) -> Sequential:
    """A closed network; all arguments by stage.

    Args:
        depths: Blocks.
        widths: Channels, adjusted so that groups fit.
        bottlenecks: Width by hidden width.
        groups: Channels of a group.
        se: See `XBlock`.
        input_shape: Decides the strides: images below 112 pixels are halved less often.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: the arguments have not four items each.
    """
    given = (depths, widths, bottlenecks, groups)
    if {len(values) for values in given} != {STAGES}:
        raise InvalidInputError(
            f"AnyNet has {STAGES} stages: give that many depths, widths, bottlenecks and groups, got {given!r}."
        )
    stem, *steps = strides(halvings(input_shape), STAGES)
    stages = [
        repeat(XBlock(width, bottleneck, group, se=se), depth, stride=step)
        for depth, width, bottleneck, group, step in zip(*given, steps, strict=True)
    ]
    return Sequential(Conv(STEM, stride=stem), *stages, Classifier(classes))


def _free(input_shape: tuple[int, ...], *, shared: tuple[str, ...], se: bool, max_depth: int, max_width: int) -> Space:
    """The space with free depths and widths; `shared` names what all stages share."""
    stem, *steps = strides(halvings(input_shape), STAGES)
    bottleneck, group = one_of(*BOTTLENECKS, name="bottleneck"), one_of(*GROUPS, name="group")
    stages = []
    for i, step in enumerate(steps):
        block = XBlock(
            int_range(WIDTH_STEP, max_width, WIDTH_STEP, name=f"width_{i}"),
            bottleneck if "bottleneck" in shared else one_of(*BOTTLENECKS, name=f"bottleneck_{i}"),
            group if "group" in shared else one_of(*GROUPS, name=f"group_{i}"),
            se=SE if se else None,
        )
        stages.append(repeat(block, int_range(1, max_depth, name=f"depth_{i}"), shared=True, stride=step))
    return Space(Sequential(Conv(STEM, stride=stem), *stages, Classifier()))


def anynet_a(
    input_shape: tuple[int, ...] = (3, 224, 224), *, se: bool = False, max_depth: int = DEPTH, max_width: int = WIDTH
) -> Space:
    """AnyNetX_A: everything free.

    Each of four stages has its depth (1 to 16), width (8 to 1024 in steps of 8), bottleneck ratio (1, 2, 4) and group
    width (1, 2, 4, 8, 16, 32). Always active, all of them.

    Args:
        input_shape: `(channels, height, width)`; images below 112 pixels are halved less often.
        se: Whether the blocks have squeeze-and-excitation (Y) or not (X).
        max_depth: Most blocks in a stage.
        max_width: Greatest width, a multiple of 8.

    Returns:
        (16 x 128 x 3 x 6)^4 = 1,846,757,322,198,614,016 architectures.
    """
    return _free(input_shape, shared=(), se=se, max_depth=max_depth, max_width=max_width)


def anynet_b(
    input_shape: tuple[int, ...] = (3, 224, 224), *, se: bool = False, max_depth: int = DEPTH, max_width: int = WIDTH
) -> Space:
    """AnyNetX_B: as `anynet_a`, with one bottleneck ratio for all stages.

    Returns:
        (16 x 128 x 6)^4 x 3 = 68,398,419,340,689,408 architectures.
    """
    return _free(input_shape, shared=("bottleneck",), se=se, max_depth=max_depth, max_width=max_width)


def anynet_c(
    input_shape: tuple[int, ...] = (3, 224, 224), *, se: bool = False, max_depth: int = DEPTH, max_width: int = WIDTH
) -> Space:
    """AnyNetX_C: as `anynet_b`, with one group width for all stages too.

    Returns:
        (16 x 128)^4 x 3 x 6 = 316,659,348,799,488 architectures.
    """
    return _free(input_shape, shared=("bottleneck", "group"), se=se, max_depth=max_depth, max_width=max_width)


def anynet_d(
    input_shape: tuple[int, ...] = (3, 224, 224), *, se: bool = False, max_depth: int = DEPTH, max_width: int = WIDTH
) -> Space:
    """AnyNetX_D: as `anynet_c`, with widths that do not decrease.

    The four widths are one decision: 4 of 131 positions (see `OrderedStage`).

    Returns:
        C(131, 4) x 16^4 x 3 x 6 = 13,821,510,942,720 architectures; the paper divides C by 4! instead.
    """
    depths = [int_range(1, max_depth, name=f"depth_{i}") for i in range(STAGES)]
    return _ordered(input_shape, depths, se=se, max_width=max_width)


def anynet_e(
    input_shape: tuple[int, ...] = (3, 224, 224),
    *,
    last_free: bool = False,
    se: bool = False,
    max_depth: int = DEPTH,
    max_width: int = WIDTH,
) -> Space:
    """AnyNetX_E: as `anynet_d`, with depths that do not decrease either.

    The paper's condition, and its count, hold for all four stages, though it remarks that the best networks often
    break it in the last one.

    Args:
        input_shape: `(channels, height, width)`; images below 112 pixels are halved less often.
        last_free: Whether the depth of the last stage is free.
        se: Whether the blocks have squeeze-and-excitation (Y) or not (X).
        max_depth: Most blocks in a stage.
        max_width: Greatest width, a multiple of 8.

    Returns:
        C(131, 4) x C(19, 4) x 3 x 6 = 817,446,539,520 architectures, or C(131, 4) x C(18, 3) x 16 x 3 x 6 with
        `last_free`; the paper divides C by (4!)^2 instead.
    """
    bound = STAGES - last_free
    ordered = subset(range(max_depth + bound - 1), bound, name="depths")
    depths = [ordered] * bound + [int_range(1, max_depth, name="depth_3")] * last_free
    return _ordered(input_shape, depths, se=se, max_width=max_width)


def _ordered(input_shape: tuple[int, ...], depths: Sequence[Any], *, se: bool, max_width: int) -> Space:
    stem, *steps = strides(halvings(input_shape), STAGES)
    widths = subset(range(max_width // WIDTH_STEP + STAGES - 1), STAGES, name="widths")
    bottleneck, group = one_of(*BOTTLENECKS, name="bottleneck"), one_of(*GROUPS, name="group")
    stages = tuple(
        OrderedStage(widths, depths[i], i, bottleneck, group, step, SE if se else None) for i, step in enumerate(steps)
    )
    return Space(Sequential(Conv(STEM, stride=stem), Repeat(stages), Classifier()))


PAPER = 'Radosavovic et al. 2020, "Designing Network Design Spaces", arXiv 2003.13678'

ANYNETS = (
    Family(
        name="anynet_a",
        title="AnyNet A: all of four stages free",
        paper=PAPER,
        space=anynet_a,
        size=1_846_757_322_198_614_016,
        quoted_size="1.8e18",
    ),
    Family(
        name="anynet_b",
        title="AnyNet B: one bottleneck ratio",
        paper=PAPER,
        space=anynet_b,
        size=68_398_419_340_689_408,
        quoted_size="6.8e16",
    ),
    Family(
        name="anynet_c",
        title="AnyNet C: one bottleneck ratio and group width",
        paper=PAPER,
        space=anynet_c,
        size=316_659_348_799_488,
        quoted_size="3.2e14",
    ),
    Family(
        name="anynet_d",
        title="AnyNet D: widths do not decrease",
        paper=PAPER,
        space=anynet_d,
        size=13_821_510_942_720,
        quoted_size="1.3e13 (C / 4!)",
    ),
    Family(
        name="anynet_e",
        title="AnyNet E: widths and depths do not decrease",
        paper=PAPER,
        space=anynet_e,
        size=817_446_539_520,
        quoted_size="5.5e11 (C / (4!)^2)",
    ),
)
