"""What a family of networks or a search space says of itself: one value in its own module, listed in the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import Shape
from nasturtium.space import Block, Space
from nasturtium.zoo.checks import check_whole

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
    """A width multiplier of its digits: "075" and "0_75" are 0.75, "100" and "1_0" are 1.

    Raises:
        InvalidInputError: it is zero.
    """
    value = float(digits.replace("_", ".")) if "_" in digits else int(digits) / 100
    if not value > 0:
        raise InvalidInputError(
            f"The width multiplier in a network's name must be above 0, as in '075', got {digits!r}."
        )
    return value


DATA_CLASSES = ((r"cifar[-_ ]?100(?!\d)", 100), (r"imagenet[-_ ]?16[-_ ]120(?!\d)", 120))
"""Classes by the names of data sets that a row may mention."""


def classes_of(row: Row, default: int) -> int:
    """The number of classes of a row's network.

    Args:
        row: Its config's "classes" or "num_classes" count; else CIFAR-100 or ImageNet16-120 where its name, its
            "dataset" or a text of its config says so.
        default: Where it says neither.

    Raises:
        InvalidInputError: the number is no positive integer.
    """
    config = row["config"] if isinstance(row["config"], Mapping) else {}
    for key in ("classes", "num_classes"):
        if config.get(key) is not None:
            check_whole(f"{key!r} of the row {row.get('name')!r}", config[key])
            return int(config[key])
    texts = [text for text in (row.get("name"), row.get("dataset"), *config.values()) if isinstance(text, str)]
    for pattern, count in DATA_CLASSES:
        if any(re.search(pattern, text, re.IGNORECASE) for text in texts):
            return count
    return default
