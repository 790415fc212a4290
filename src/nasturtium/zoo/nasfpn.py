"""NAS-FPN: merging cells between the levels of a feature pyramid, for object detection.

Level: cell. Task: object detection. A pyramid P3 to P7 is made of the one below it by seven merging cells; the same
pyramid is stacked some times between a backbone and RetinaNet's head. Levels do not change in the stack, so its every
prefix is a network too.

Reference:
    Ghiasi, Lin, Le 2019, "NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection",
    arXiv 1904.07392, section 3.2; merging, resampling, norms and heads as in the authors' code (`nasfpn`, `heads`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from typing import Any

from nasturtium.blocks.heads import Laterals, retinanet_head
from nasturtium.blocks.pyramid import (
    BlankFeatures,
    Detector,
    Features,
    Merge,
    MergeAttention,
    MergeSum,
    MergingPyramid,
    PyramidStack,
    backbone_features,
)
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.graph.operations import Shape
from nasturtium.space import Architecture, Block, Space, one_of, subset
from nasturtium.zoo.listing import DETECTION, Family, Row
from nasturtium.zoo.resnet import resnet

LEVELS = (3, 4, 5, 6, 7)
"""Of the pyramid; level l has stride 2^l."""

INTERMEDIATE = 2
"""Merging cells before those of the outputs."""

OPERATIONS: dict[str, Block] = {"sum": MergeSum(), "attention": MergeAttention()}
"""The binary operations by their names in the authors' code; "attention" is the paper's global pooling."""

Specs = Sequence[Sequence[Any]]
"""The authors' form: `[level, operation, [first input, second input], is output]` for each merging cell. Inputs are
numbers of features: the pyramid below (finest first), then the cells."""

PUBLISHED: Specs = (
    (4, "attention", (1, 3), False),
    (4, "sum", (1, 5), False),
    (3, "sum", (0, 6), True),
    (4, "sum", (6, 7), True),
    (5, "attention", (7, 8), True),
    (7, "attention", (6, 9), True),
    (6, "attention", (9, 10), True),
)
"""The architecture that the paper found, as in the authors' code (`NASFPN_BLOCK_SPECS`)."""


def space(
    input_shape: Shape | None = None,
    *,
    backbone: Block | None = None,
    head: Block | None = None,
    width: int = 256,
    repeats: Any = 3,
    levels: Sequence[int] = LEVELS,
    intermediate: int = INTERMEDIATE,
    deep_supervision: bool = False,
) -> Space:
    """The search space: merging cells of a pyramid; the defaults are those of the paper's proxy task.

    A cell chooses two different features among the 5 + i before it (unordered), an operation, and its level; the last
    five are outputs, whose levels are an order of P3 to P7:
    `prod_{i=0,1} C(5+i, 2) * 5 * 2 * prod_{i=2..6} C(5+i, 2) * 2 * 5!` = 3,017,710,080,000,000. All decisions are
    always active; an open number of repeats multiplies the size by its options. The paper gives no figure.

    Args:
        input_shape: Of the task's images, `(channels, height, width)`: any size from 1 pixel on, because levels are
            resampled to their own size, that of the image divided by the stride, rounded up. Below 128 pixels the
            coarsest levels have one position each.
        backbone: From an image to the features of the first levels, finest first; None: ResNet-10.
        head: From {"P3": …} to outputs; None: RetinaNet's, of the pyramid's width.
        width: Channels of the pyramid.
        repeats: Pyramids in the stack, or a choice (`int_range(1, 7)`).
        levels: Of the pyramid, increasing.
        intermediate: Merging cells before those of the outputs.
        deep_supervision: Whether the other pyramids have heads of their own in training.

    Raises:
        InvalidInputError: the shape is not that of images.
    """
    if input_shape is not None and len(input_shape) != 3:
        raise InvalidInputError(f"`input_shape` must be (channels, height, width), got {input_shape!r}.")
    levels = tuple(levels)
    merges = []
    for i in range(intermediate + len(levels)):
        at = f"merges.{i}"
        inputs = subset(range(len(levels) + i), 2, name=f"{at}.inputs")
        operation = one_of(*OPERATIONS.values(), name=f"{at}.operation")
        merges.append(Merge(inputs, operation, one_of(*levels, name=f"{at}.level") if i < intermediate else None))
    pyramid = MergingPyramid(tuple(merges), one_of(*permutations(levels), name="outputs"), levels)
    return Space(
        nas_fpn(
            resnet_features(10) if backbone is None else backbone,
            pyramid,
            head,
            width=width,
            repeats=repeats,
            deep_supervision=deep_supervision,
        )
    )


def nas_fpn(
    backbone: Block,
    pyramid: MergingPyramid | None = None,
    head: Block | None = None,
    *,
    width: int = 256,
    repeats: Any = 7,
    deep_supervision: bool = False,
) -> Detector:
    """A detector: any backbone, a stack of pyramids, a head.

    Args:
        backbone: From an image to the features of the pyramid's first levels, finest first, as a dict or tuple: for
            example `resnet_features(50)`, or `blocks.pyramid.backbone_features(network)`.
        pyramid: The merging cells, open or closed; None: those that the paper found.
        head: From {"P3": …} to outputs; None: RetinaNet's, of width `width`, for the task's classes.
        width: Channels of the pyramid.
        repeats: Pyramids in the stack, at least 1, or a choice.
        deep_supervision: Whether the other pyramids have heads of their own in training.
    """
    pyramid = from_specs(PUBLISHED) if pyramid is None else pyramid
    return Detector(
        backbone,
        PyramidStack(pyramid, Laterals(width, pyramid.levels), repeats, deep_supervision),
        retinanet_head(width=width) if head is None else head,
    )


def resnet_features(depth: int = 50) -> Features:
    """The stages of a ResNet at strides 8, 16 and 32, as a backbone.

    Args:
        depth: See `zoo.resnet.DEPTHS`.
    """
    return backbone_features(resnet(depth))


def from_specs(specs: Specs, levels: Sequence[int] = LEVELS) -> MergingPyramid:
    """The closed pyramid of the authors' form.

    Args:
        specs: See `Specs`.
        levels: Of the pyramid, increasing.

    Raises:
        InvalidArchitectureError: the last cells are not an output of each level, or an input does not exist.
        UnknownNameError: an unknown operation.
    """
    first = len(specs) - len(levels)
    merges = []
    for number, (level, operation, inputs, is_output) in enumerate(specs):
        if operation not in OPERATIONS:
            raise UnknownNameError("NAS-FPN operation", str(operation), OPERATIONS)
        if bool(is_output) != (number >= first):
            raise InvalidArchitectureError(
                f"The last {len(levels)} of the merging cells are the outputs, and no other; got is_output="
                f"{is_output!r} for cell {number} of {len(specs)}."
            )
        merges.append(Merge(tuple(inputs), OPERATIONS[operation], None if is_output else level))
    return MergingPyramid(tuple(merges), tuple(spec[0] for spec in specs[max(first, 0) :]), tuple(levels))


def to_specs(architecture: Architecture | Block) -> list[list[Any]]:
    """The authors' form of an architecture, a detector or a pyramid; see `Specs`.

    Raises:
        InvalidArchitectureError: it is not a closed NAS-FPN.
    """
    pyramid = _pyramid(architecture)
    known = {operation: name for name, operation in OPERATIONS.items()}
    if pyramid is None or pyramid.is_open or any(merge.operation not in known for merge in pyramid.merges):
        raise InvalidArchitectureError(f"Expected a closed NAS-FPN, got {architecture!r}.")
    first = len(pyramid.merges) - len(pyramid.levels)
    levels = [*[merge.level for merge in pyramid.merges[:first]], *pyramid.outputs]
    return [
        [level, known[merge.operation], list(merge.inputs), number >= first]
        for number, (level, merge) in enumerate(zip(levels, pyramid.merges, strict=True))
    ]


def _pyramid(architecture: object) -> MergingPyramid | None:
    block = architecture if isinstance(architecture, Block) else getattr(architecture, "block", None)
    block = getattr(block, "neck", block)
    block = getattr(block, "pyramid", block)
    return block if isinstance(block, MergingPyramid) else None


def architecture(specs: Specs, space: Space, **decisions: Any) -> Architecture:
    """The architecture of a NAS-FPN space that the authors' form names.

    Inputs are taken in increasing order: where both have one level and the operation is "attention", the space holds
    only the network in which the first one gates.

    Args:
        specs: See `Specs`.
        space: Made by `space`.
        **decisions: Values of its other decisions, if any.

    Raises:
        InvalidArchitectureError: it is not in the space.
    """
    found = _pyramid(space)
    if found is None:
        raise InvalidInputError(f"Expected a NAS-FPN space, got {space!r}.")
    pyramid = from_specs(specs, found.levels)
    values: dict[Any, Any] = {"outputs": pyramid.outputs}
    for i, merge in enumerate(pyramid.merges):
        values |= {f"merges.{i}.inputs": tuple(sorted(merge.inputs)), f"merges.{i}.operation": merge.operation}
        if merge.level is not None:
            values[f"merges.{i}.level"] = merge.level
    return space.architecture(values | decisions)


def published(row: Row) -> Detector:
    """The network of a row of the space "NAS-FPN".

    Its config holds "block_specs", "repeats" and "channels". With "num_classes" and "anchors" it is the whole detector
    on the ResNet of "backbone" ("resnet101") or of the row's name ("R101"), by default ResNet-50. With "in_channels"
    it is the neck alone; it still takes images, so that a size says all: `BlankFeatures` stands for its backbone,
    without parameters and MACs.
    """
    config = row["config"]
    pyramid = from_specs(config["block_specs"])
    width, repeats = config["channels"], config["repeats"]
    if "in_channels" in config:
        stack = PyramidStack(pyramid, Laterals(width), repeats)
        return Detector(BlankFeatures(tuple(config["in_channels"])), stack, None)
    head = retinanet_head(config["num_classes"], anchors=config["anchors"], width=width)
    named = re.search(r"\bR(?:esNet-?)?(\d+)\b", str(config.get("backbone", row.get("name", ""))), re.IGNORECASE)
    depth = int(named[1]) if named else 50
    return nas_fpn(resnet_features(depth), pyramid, head, width=width, repeats=repeats)


FAMILIES: tuple[Family, ...] = (
    Family(
        name="nasfpn",
        title="NAS-FPN: merging cells of feature pyramids",
        level="cell",
        task=DETECTION,
        paper='Ghiasi, Lin, Le 2019, "NAS-FPN", arXiv 1904.07392',
        space=space,
        input_shape=(3, 512, 512),
        size=3_017_710_080_000_000,
        rows={"NAS-FPN": published},
    ),
)
