"""NASNet: two cells, one that keeps the size and one that halves it, stacked; with AmoebaNet, which is of this space.

Level: cell. Task: image classification. Each block of a cell makes five decisions: two hidden states, an operation on
each, and how they are joined. The cells are one pair of decisions for the whole network: every position has weights of
its own. `nasnet_lecture` is the space that the lecture's formula counts.

Reference:
    Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", arXiv 1707.07012, sections
    3 and 4, and the authors' code (`nasnet.py`, `nasnet_utils.py`); Real et al. 2019, "Regularized Evolution for Image
    Classifier Architecture Search", arXiv 1802.01548, and the authors' code (`model_specs.py`, `network_utils.py`).
    The lecture: MIT 6.S965 (2022), lecture 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nasturtium.blocks.nasnet_cell import COMBINERS, NASNetBlock, NASNetCell
from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import Shape
from nasturtium.space import Block, Space, one_of
from nasturtium.zoo.listing import CLASSES, Family, Row
from nasturtium.zoo.nasnet_network import NASNet
from nasturtium.zoo.nasnet_notation import CELLS, OPERATIONS, network, operation

MOBILE_LIMIT = 260
"""The largest images, in pixels, for which the authors' networks have the mobile stem."""

LECTURE_OPERATIONS = ("none", "avg_pool_3x3", "max_pool_3x3", "separable_3x3_2", "separable_5x5_2")
"""Five operations for the lecture's count, which names only their number; these are ENAS's (Pham et al. 2018)."""


# Spaces


def fits(input_shape: Sequence[int]) -> dict[str, Any]:
    """Stem for images of a shape: that of ImageNet where the shorter side has 96 pixels or more, else that of CIFAR.

    Raises:
        InvalidInputError: it is no shape `(channels, height, width)`.
    """
    if len(input_shape) != 3 or not all(isinstance(n, int) and n > 0 for n in input_shape):
        raise InvalidInputError(
            f"`input_shape` must be (channels, height, width) in positive integers, got {input_shape!r}."
        )
    return {"stem": "imagenet" if min(input_shape[1:]) >= 96 else "cifar"}


def open_cell(
    operations: Sequence[str],
    blocks: int = 5,
    *,
    combiners: Sequence[str] = ("add", "concat"),
    states: int | None = None,
    output: str = "unused",
) -> NASNetCell:
    """A cell whose blocks are left open.

    Args:
        operations: Names of the operations.
        blocks: Number of blocks, at least 1.
        combiners: How a block may join its halves; one leaves nothing to choose.
        states: How many states, from 0 on, any block may read; None: all that come before it.
        output: See `NASNetCell`.

    Raises:
        InvalidInputError: no block, no combiner or an unknown one.
        UnknownNameError: an operation that is not known.
    """
    if blocks < 1:
        raise InvalidInputError(f"`blocks` must be at least 1, got {blocks!r}.")
    if not combiners or not set(combiners) <= set(COMBINERS):
        raise InvalidInputError(f"`combiners` must be some of {', '.join(COMBINERS)}, got {tuple(combiners)!r}.")
    made = []
    for number in range(blocks):
        count = number + 2 if states is None else states
        made.append(
            NASNetBlock(
                one_of(*range(count)),
                one_of(*range(count)),
                one_of(*map(operation, operations)),
                one_of(*map(operation, operations)),
                one_of(*combiners) if len(combiners) > 1 else combiners[0],
            )
        )
    return NASNetCell(tuple(made), output)


def space(
    input_shape: Shape = (3, 32, 32),
    *,
    blocks: int = 5,
    width: int = 32,
    cells: int = 6,
    operations: Sequence[str] = OPERATIONS,
    combiners: Sequence[str] = ("add", "concat"),
    drop_path: float = 0.0,
    auxiliary: bool = False,
) -> Space:
    """The search space: a normal and a reduction cell, searched jointly, in the paper's proxy network.

    With B blocks, M operations and N combiners a cell has prod_{b=0..B-1} (b+2)^2 x M^(2B) x N^B values, and the
    space its square: ((6!)^2 x 13^10 x 2^5)^2 by default. All decisions are always active.

    Args:
        input_shape: Of the task's images; from 96 pixels on, the stem is that of ImageNet.
        blocks: Blocks of a cell.
        width: Channels F of the first cells; the paper's proxy has 32.
        cells: Normal cells in all, 3N; the paper's proxy has N = 2.
        operations: Names, see `operation`; those of the paper.
        combiners: See `blocks.nasnet_cell.COMBINERS`; later work keeps "add".
        drop_path: See `NASNet`.
        auxiliary: See `NASNet`.

    Raises:
        InvalidInputError: see `NASNet`, `fits` and `open_cell`.
    """
    normal, reduction = (open_cell(operations, blocks, combiners=combiners) for _ in range(2))
    options: dict[str, Any] = {"drop_path": drop_path, "auxiliary": auxiliary, **fits(input_shape)}
    return Space(NASNet(normal, reduction, width, cells, **options))


def lecture_space(
    input_shape: Shape = (3, 32, 32),
    *,
    blocks: int = 5,
    width: int = 32,
    cells: int = 6,
    operations: Sequence[str] = LECTURE_OPERATIONS,
) -> Space:
    """The space that the lecture counts: 4^B x M^(2B) x N^B, for B = M = 5 and N = 2 exactly 320,000,000,000.

    Each block reads only the cell's two inputs, which gives 2 x 2 pairs; there is one cell, which stands in every
    place and is strided where the size is halved. All decisions are always active.

    Args:
        input_shape: See `space`.
        blocks: B.
        width: See `space`.
        cells: See `space`; two of them are strided.
        operations: M names; the lecture gives only their number.

    Raises:
        InvalidInputError: see `NASNet`, `fits` and `open_cell`.
    """
    cell = open_cell(operations, blocks, states=2)
    return Space(NASNet(cell, width=width, cells=cells, **fits(input_shape)))


# Rows of reference values


def from_row(row: Row) -> Block:
    """The network of a row of reference values, whose config holds only the cells.

    Depth N and width F come from the row's name ("4@1056", "(6,32)", "N=4 F=50", "num_cells 12") and `penultimate`,
    which is 4F times the number of concatenated states. Where the name gives no N, "large" and "mobile" are the
    authors' configurations. The stem's width is in the name ("stem32", "stem3F"); else images of up to 64 pixels
    have that of CIFAR and ten classes, larger ones 32 channels, and from 261 pixels on 96. "TPU" stands for the
    defaults of the authors' TPU code, 32 channels and 1001 classes. NASNet-A's cells on images from 261 pixels on (or
    named "large") are the authors' large network, which alone skips the input of its reductions.

    Raises:
        InvalidInputError: the row gives no depth or width.
    """
    config, name = row["config"], str(row.get("name", ""))
    if isinstance(config, str):
        if config != "pretrainedmodels nasnetamobile":
            raise InvalidInputError(
                f"A row of {row['space']!r} holds cells, or is 'pretrainedmodels nasnetamobile', got {config!r}."
            )
        return network(
            CELLS["NASNet-A"], number=12, width=44, stem="imagenet", padding="pad_then_crop", classes=CLASSES
        )
    size = min((row.get("input_size") or (3, 224, 224))[1:])
    depth = _depth(name, "reduce" in config)
    states = sum(not flag for flag in config["normal"]["used_hiddenstates"])
    width = _width(name, row.get("penultimate"), states)
    fields: dict[str, Any] = {"padding": "tf_same", "classes": CLASSES}
    if "cifar" in name.lower() or re.search(r"stem\s*3F", name) or size <= 64:
        fields |= {"stem": "cifar", "classes": 10, "eps": 1e-5}
    elif "TPU" in name:
        fields |= {"stem": "imagenet", "stem_width": 32, "classes": CLASSES + 1}
    else:
        large = size > MOBILE_LIMIT or "large" in name.lower()
        fields |= {"stem": "imagenet", "stem_width": 32 if size <= MOBILE_LIMIT else 96}
        fields["skip_reduction_input"] = large and _is_nasnet_a(config)
    given = re.search(r"stem\s*(\d+)(?![\dF])", name)
    if given:
        fields["stem_width"] = int(given[1])
    return network(config, number=depth, width=width, **fields)


def _is_nasnet_a(config: Mapping[str, Any]) -> bool:
    """Whether a row's cells are those of NASNet-A."""
    known = CELLS["NASNet-A"]
    return config.keys() >= known.keys() and all(
        list(config[key].get(part, ())) == list(values) for key in known for part, values in known[key].items()
    )


def _depth(name: str, has_reduction: bool) -> int:
    """Normal cells in all, by a row's name."""
    cells = re.search(r"num_cells\s*=?\s*(\d+)", name)
    if cells:
        return int(cells[1])
    stage = re.search(r"N\s*=\s*(\d+)|(\d+)\s*@|\(\s*(\d+)\s*,", name)
    if stage:
        return 3 * int(next(filter(None, stage.groups())))
    for word, depth in (("large", 18 if has_reduction else 12), ("mobile", 12 if has_reduction else 9)):
        if word in name.lower():
            return depth
    raise InvalidInputError(
        f"A row's name must give its depth as 'N=4', '(4@1056)', '(6,32)', 'num_cells 12', 'large' or 'mobile', "
        f"got {name!r}."
    )


def _width(name: str, penultimate: int | None, states: int) -> int:
    """Channels F, by a row's name and the width before its classifier."""
    given = re.search(r"F\s*=\s*(\d+)|\(\s*\d+\s*,\s*(\d+)\s*\)", name)
    if given:
        return int(given[1] or given[2])
    last = re.search(r"@\s*(\d+)", name)
    total = penultimate if penultimate is not None else int(last[1]) if last else 0
    if total <= 0 or total % (4 * states):
        raise InvalidInputError(
            f"A row needs its width: 'F=44' or '(6,32)' in its name, or a `penultimate` that is a multiple of "
            f"{4 * states}, got {name!r} and {penultimate!r}."
        )
    return total // (4 * states)


def _large(_match: re.Match[str], classes: int) -> Block:
    return network(
        CELLS["NASNet-A"],
        number=18,
        width=168,
        stem="imagenet",
        stem_width=96,
        skip_reduction_input=True,
        padding="tf_same",
        dropout=0.5,
        classes=classes,
    )


FAMILIES: tuple[Family, ...] = (
    Family(
        name="nasnet",
        title="NASNet cells, normal and reduction",
        level="cell",
        paper='Zoph et al. 2018, "Learning Transferable Architectures", arXiv 1707.07012',
        space=space,
        input_shape=(3, 32, 32),
        size=((2 * 3 * 4 * 5 * 6) ** 2 * 13**10 * 2**5) ** 2,
        names={"timm": ((r"nasnetalarge", _large),)},
        named=("nasnetalarge",),
        rows={"NASNet cell space": from_row},
    ),
    Family(
        name="nasnet_lecture",
        title="NASNet cell as the lecture counts it",
        level="cell",
        paper="MIT 6.S965 2022, lecture 7, after Zoph et al. 2018, arXiv 1707.07012",
        space=lecture_space,
        input_shape=(3, 32, 32),
        size=4**5 * 5**10 * 2**5,
        quoted_size="3.2 x 10^11",
    ),
)
