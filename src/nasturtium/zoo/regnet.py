"""RegNet X and Y: networks whose widths follow a quantised line, and their design space; AnyNet beside it.

Level: network. Task: image classification. Six numbers make a network: depth, initial width, slope, quantisation of
the widths, group width and bottleneck ratio.

Reference:
    Radosavovic et al. (2020), "Designing Network Design Spaces", arXiv 2003.13678, section 3.3, equations 2 to 4;
    `generate` as in the authors' code (pycls, `generate_regnet`).
"""

from __future__ import annotations

import re
from itertools import groupby
from math import log
from typing import Any, ClassVar

from nasturtium.blocks import Classifier, conv_norm_act
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, Space, int_range, one_of
from nasturtium.zoo.anynet import (
    ANYNETS,
    BOTTLENECKS,
    GROUPS,
    PAPER,
    SE,
    STAGES,
    STEM,
    WIDTH_STEP,
    adjust,
    bottleneck_block,
)
from nasturtium.zoo.listing import CLASSES, Family, Row
from nasturtium.zoo.resolution import halvings, strides

TORCHVISION_LIMIT = 0.9
"""See `limit` of `RegNet`."""

X: dict[str, tuple[int, int, float, float, int]] = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (22, 24, 24.48, 2.54, 16),
    "006": (16, 48, 36.97, 2.24, 24),
    "008": (16, 56, 35.73, 2.28, 16),
    "016": (18, 80, 34.01, 2.25, 24),
    "032": (25, 88, 26.31, 2.25, 48),
    "040": (23, 96, 38.65, 2.43, 40),
    "064": (17, 184, 60.83, 2.07, 56),
    "080": (23, 80, 49.56, 2.88, 120),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (22, 216, 55.59, 2.1, 128),
    "320": (23, 320, 69.86, 2.0, 168),
}
"""d, w0, wa, wm, g of the published X networks, by hundreds of millions of MACs (pycls; timm's names)."""

Y: dict[str, tuple[int, int, float, float, int]] = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (16, 48, 27.89, 2.09, 8),
    "006": (15, 48, 32.54, 2.32, 16),
    "008": (14, 56, 38.84, 2.4, 16),
    "016": (27, 48, 20.71, 2.65, 24),
    "032": (21, 80, 42.63, 2.66, 24),
    "040": (22, 96, 31.41, 2.24, 64),
    "064": (25, 112, 33.22, 2.27, 72),
    "080": (17, 192, 76.82, 2.19, 56),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (18, 200, 106.23, 2.48, 112),
    "320": (20, 232, 115.89, 2.53, 232),
    "640": (20, 352, 147.48, 2.4, 328),
    "1280": (27, 456, 160.83, 2.52, 264),
    "2560": (27, 640, 230.83, 2.53, 373),
}
"""The same of the Y networks; those above 320 are from SEER (Goyal et al. 2022, arXiv 2202.08360), as in timm."""


def generate(d: int, w0: int, wa: float, wm: float) -> tuple[tuple[int, int], ...]:
    """Width and depth of each stage.

    Block j has the width u = w0 + wa j on the line, quantised to w0 wm^s with s = round(log(u / w0) / log wm), then to
    a multiple of 8; equal widths are a stage.

    Args:
        d: Number of blocks, at least 1.
        w0: Initial width, a positive multiple of 8.
        wa: Slope, at least 0, in channels by block.
        wm: Ratio of the widths of consecutive stages, more than 1.

    Raises:
        InvalidInputError: a number is outside its range.
    """
    if d < 1 or w0 < 1 or w0 % WIDTH_STEP or wa < 0 or wm <= 1:
        raise InvalidInputError(
            "RegNet needs d >= 1, w0 a positive multiple of 8, wa >= 0 and wm > 1, "
            f"got d={d!r}, w0={w0!r}, wa={wa!r}, wm={wm!r}."
        )
    widths = [_width(w0, wm, step) for step in _steps(d, w0, wa, wm)]
    return tuple((width, len(list(blocks))) for width, blocks in groupby(widths))


def _steps(d: int, w0: int, wa: float, wm: float) -> list[int]:
    return [round(log((w0 + wa * j) / w0) / log(wm)) for j in range(d)]


def _width(w0: int, wm: float, step: int) -> int:
    return round(w0 * wm**step / WIDTH_STEP) * WIDTH_STEP


def is_valid(d: int, w0: int, wa: float, wm: float) -> bool:
    """Whether the numbers make a network of the design space: four stages, and no step of the quantisation left out.

    Reference:
        pycls, `check_regnet_constraints`.
    """
    if w0 % WIDTH_STEP:
        return False
    last = _steps(d, w0, wa, wm)[-1]
    return last + 1 == STAGES == len(generate(d, w0, wa, wm))


class RegNet(Block):
    """The network of six numbers: stem, stages of bottlenecks, classifier. See `generate` for the first four.

    Args:
        d: Number of blocks.
        w0: Initial width.
        wa: Slope of the widths.
        wm: Quantisation of the widths.
        g: Channels of a group; widths are adjusted so that groups fit (see `anynet.adjust`).
        b: Bottleneck ratio, width by hidden width.
        se: Hidden width of squeeze-and-excitation by a block's input width (Y), or None for none (X).
        limit: Rounding of the adjustment: 0 as in pycls and timm, 0.9 as in torchvision.
        strides: Of the stem and of each stage; further stages have 2.
        classes: Number of classes; None takes it from the task.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("stages",)
    depth_fields: ClassVar[tuple[str, ...]] = ("stages",)
    d: int
    w0: int
    wa: float
    wm: float
    g: int
    b: int = 1
    se: float | None = None
    limit: float = 0.0
    strides: tuple[int, ...] = ()
    classes: int | None = None

    @property
    def stages(self) -> tuple[tuple[int, int, int], ...]:
        """Width, depth and group width of each stage, after the adjustment."""
        rows = []
        for width, depth in generate(self.d, self.w0, self.wa, self.wm):
            width, group = adjust(width, self.b, self.g, self.limit)
            rows.append((width, depth, group))
        return tuple(rows)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        steps = dict(enumerate(self.strides))
        x = conv_norm_act(x, STEM, 3, stride=steps.get(0, 2), name="stem")
        for number, (width, depth, group) in enumerate(self.stages, start=1):
            for i in range(depth):
                stride = 1 if i else steps.get(number, 2)
                with x.scope(f"stages.{number - 1}.{i}"):
                    x = bottleneck_block(x, width, width // self.b, group, stride, self.se)
        with x.scope("head"):
            return Classifier(self.classes)(x)


def regnet(
    d: int,
    w0: int,
    wa: float,
    wm: float,
    g: int,
    b: int = 1,
    *,
    se: float | None = None,
    limit: float = 0.0,
    input_shape: tuple[int, ...] = (3, 224, 224),
    classes: int | None = None,
) -> RegNet:
    """A closed network; see `RegNet`.

    Args:
        d: Number of blocks.
        w0: Initial width.
        wa: Slope of the widths.
        wm: Quantisation of the widths.
        g: Channels of a group.
        b: Bottleneck ratio.
        se: 0.25 for RegNetY.
        limit: See `RegNet`.
        input_shape: Decides the strides: images below 112 pixels are halved less often.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a number is outside its range; see `generate` and `anynet.adjust`.

    Example:
        >>> import nasturtium as nas
        >>> nas.trace(nas.zoo.regnet.regnet(13, 24, 36.44, 2.49, 8), (3, 224, 224), classes=1000).params
        2684792
    """
    for width, _ in generate(d, w0, wa, wm):
        adjust(width, b, g, limit)  # what is outside its range is refused here, not at the first trace
    return RegNet(d, w0, wa, wm, g, b, se, limit, _strides(input_shape), classes)


def _strides(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    return strides(halvings(input_shape), STAGES)


DEPTHS = (1, 64)
WIDTHS = (4, 256, 4)
SLOPES = (4, 256, 4)
RATIOS = tuple(round(1.5 * 2 ** (i / 63), 3) for i in range(64))
"""64 values of wm from 1.5 to 3, equally spaced by their logarithm, to three digits."""

VALID_NETWORKS = 23_014_440
"""Size of the space: of 64^4 x 6 x 3 = 301,989,888 combinations those that are valid (1,278,580 x 6 x 3)."""


def space(input_shape: tuple[int, ...] = (3, 224, 224), *, se: bool = False) -> Space:
    """The design space of RegNetX, or of RegNetY.

    Open are d (1 to 64), w0 (4 to 256 in steps of 4), wa (the same), wm (64 values from 1.5 to 3, see `RATIOS`), the
    group width g (1, 2, 4, 8, 16, 32) and the bottleneck ratio b (1, 2, 4); always active. The paper gives ranges for
    the first four (d < 64; w0, wa < 256; wm from 1.5 to 3) and counts 64 values of each; the grids are ours. In the
    space are the combinations that make four stages (`is_valid`), which w0 that is no multiple of 8 never does.

    Sizes: 64^4 x 6 x 3 = 301,989,888 combinations (the paper's figure), of which
    23,014,440 (`VALID_NETWORKS`) are in the space.
    `Space.size` does not count that far and says so; `estimate_size` gives an interval.

    Args:
        input_shape: `(channels, height, width)`; images below 112 pixels are halved less often.
        se: Whether the blocks have squeeze-and-excitation (Y) or not (X).
    """
    d = int_range(*DEPTHS, name="d")
    w0 = int_range(*WIDTHS, name="w0")
    wa = int_range(*SLOPES, name="wa")
    wm = one_of(*RATIOS, name="wm")
    g, b = one_of(*GROUPS, name="g"), one_of(*BOTTLENECKS, name="b")
    block = RegNet(d, w0, wa, wm, g, b, SE if se else None, strides=_strides(input_shape))
    return Space(block).where(is_valid, reads=[d, w0, wa, wm])


def from_row(row: Row) -> Block:
    """The network of a row of the space "RegNet".

    Its "macs" are pycls' "flops", which count the biases of the classifier and of squeeze-and-excitation as well; its
    "activations" count the classifier's outputs, which `Graph.activations` leaves out.
    """
    config: Any = row["config"]
    numbers = {key: config[key] for key in ("d", "w0", "wa", "wm", "g", "b") if key != "b" or key in config}
    return regnet(**numbers, se=SE if config["se"] else None, classes=CLASSES)


def _named(kind: str, size: str, classes: int, limit: float = 0.0) -> Block:
    table = X if kind == "x" else Y
    if size not in table:
        raise UnknownNameError(f"RegNet{kind.upper()} of hundreds of MMACs", size, table)
    return regnet(*table[size], se=None if kind == "x" else SE, limit=limit, classes=classes)


def _timm(match: re.Match[str], classes: int) -> Block:
    return _named(match[1], match[2], classes, TORCHVISION_LIMIT if match[3] else 0.0)


def _torchvision(match: re.Match[str], classes: int) -> Block:
    hundreds = round(float(match[2].replace("_", ".")) * (10 if match[3] == "gf" else 0.01))
    return _named(match[1], f"{hundreds:03d}", classes, TORCHVISION_LIMIT)


FAMILIES = (
    Family(
        name="regnet",
        title="RegNet X and Y",
        paper=PAPER,
        space=space,
        size=VALID_NETWORKS,
        quoted_size="3.0e8 (64^4 x 6 x 3)",
        names={
            "timm": ((r"regnet([xy])_(\d{3,4})(_tv)?", _timm),),
            "torchvision": ((r"regnet_([xy])_(\d+(?:_\d)?)(mf|gf)", _torchvision),),
        },
        named=("regnetx_002 … 320, regnety_002 … 2560", "regnet_x_400mf … 32gf, regnet_y_400mf … 128gf"),
        rows={"RegNet": from_row},
    ),
    *ANYNETS,
)
