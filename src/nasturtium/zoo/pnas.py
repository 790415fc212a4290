"""PNAS: the space that progressive search grows block by block, and PNASNet-5.

Level: cell. Task: image classification. One cell stands in every place, and is strided where the size is halved; there
is no reduction cell. A block makes four decisions: two hidden states and an operation on each; the two are added.

PNASNet-5 is in the space: its cell, and its mechanics. What differs from the published networks are width and depth,
the stem for large images, the padding (`padding="tf_same"`) and the dropout.

Reference:
    Liu et al. 2018, "Progressive Neural Architecture Search", arXiv 1712.00559, section 3; the authors' code
    (`pnasnet.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasturtium.graph.operations import Shape
from nasturtium.space import Block, Space
from nasturtium.zoo.listing import Family
from nasturtium.zoo.nasnet import fits, open_cell
from nasturtium.zoo.nasnet_network import NASNet
from nasturtium.zoo.nasnet_notation import CELLS, network

OPERATIONS = (
    "separable_3x3_2",
    "separable_5x5_2",
    "separable_7x7_2",
    "1x7_7x1",
    "none",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dilated_3x3_rate_2",
)
"""The eight operations of the paper (section 3.1), by the authors' names; "none" is the identity."""


def space(
    input_shape: Shape = (3, 32, 32),
    *,
    blocks: int = 5,
    width: int = 24,
    cells: int = 6,
    operations: Sequence[str] = OPERATIONS,
    output: str = "blocks",
    drop_path: float = 0.0,
    auxiliary: bool = False,
) -> Space:
    """The search space: prod_{b=1..B} (b+1)^2 x M^2 cells, for B = 5 and M = 8 exactly 556,627,761,561,600.

    The paper counts about 2e12 unique ones. All decisions are always active.

    Args:
        input_shape: Of the task's images; from 96 pixels on, the stem is that of ImageNet.
        blocks: Blocks of a cell, B; the search begins with 1.
        width: Channels F of the first cells; the paper's proxy has 24.
        cells: Cells in all, two of which are strided; the paper's proxy has N = 2 in each of three stages.
        operations: Names, see `nasnet_notation.operation`; those of the paper.
        output: "blocks" concatenates the states of all blocks, as PNASNet-5 does, in which one of them is read as
            well; "unused" those states that no block reads, as in NASNet's space.
        drop_path: See `NASNet`.
        auxiliary: See `NASNet`.

    Raises:
        InvalidInputError: see `nasnet.NASNet`, `nasnet.fits` and `nasnet.open_cell`.
    """
    cell = open_cell(operations, blocks, combiners=("add",), output=output)
    return Space(NASNet(cell, width=width, cells=cells, drop_path=drop_path, auxiliary=auxiliary, **fits(input_shape)))


def _large(_match: re.Match[str], classes: int) -> Block:
    return network(
        CELLS["PNASNet-5"],
        number=12,
        width=216,
        stem="imagenet",
        stem_width=96,
        padding="tf_same",
        dropout=0.5,
        classes=classes,
    )


FAMILIES: tuple[Family, ...] = (
    Family(
        name="pnas",
        title="PNAS cells, and PNASNet-5",
        level="cell",
        paper='Liu et al. 2018, "Progressive Neural Architecture Search", arXiv 1712.00559',
        space=space,
        input_shape=(3, 32, 32),
        size=(2 * 3 * 4 * 5 * 6) ** 2 * 8**10,
        quoted_size="about 2 x 10^12 unique cells",
        names={"timm": ((r"pnasnet5large", _large),)},
        named=("pnasnet5large",),
    ),
)
