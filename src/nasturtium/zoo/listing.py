"""What a family of networks or a search space says of itself: one value in its own module, listed in the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasturtium.graph.operations import Shape
from nasturtium.space import Block, Space

Maker = Callable[[re.Match[str], int], Block]
"""Makes a network of a matched name and a number of classes."""

Names = tuple[tuple[str, Maker], ...]
"""Names of one library: pattern of the whole name (without what follows a dot), and what makes the network."""

Row = Mapping[str, Any]
"""A row of a file of reference values."""

CLASSES = 1000
"""Of ImageNet, for which most networks are published."""

CLASSIFICATION = "image classification"
SEGMENTATION = "semantic segmentation"
DETECTION = "object detection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is known of a space or a family of networks.

    Attributes:
        name: Its name on the command line.
        title: What it is, in words.
        paper: Authors, year, title, arXiv id.
        level: "cell" or "network": what is chosen. A cell is repeated through a network that is given.
        task: What it was made for.
        space: Makes its space for images of a shape `(channels, height, width)`; None: it has no space.
        input_shape: The images that the space is made for, where none are given.
        size: Exact size of the space for `input_shape`; None where it has no space, or that is not counted.
        quoted_size: The paper's own figure, as printed, or None.
        names: Names that libraries give to its networks, by library ("timm", "torchvision").
        named: These names as people write them, for messages.
        rows: What makes the network of a row of reference values, by the row's "space".
    """

    name: str
    title: str
    paper: str
    level: str = "network"
    task: str = CLASSIFICATION
    space: Callable[..., Space] | None = None
    input_shape: Shape = (3, 224, 224)
    size: int | None = None
    quoted_size: str | None = None
    names: Mapping[str, Names] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    rows: Mapping[str, Callable[[Row], Block]] = field(default_factory=dict)


def multiplier(digits: str) -> float:
    """A width multiplier of its digits: "075" and "0_75" are 0.75, "100" and "1_0" are 1."""
    return float(digits.replace("_", ".")) if "_" in digits else int(digits) / 100
