"""A task without data: what a network must know of a task, where all that will be known of it stands in a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasturtium.errors import DataError
from nasturtium.tasks.task import Split, SplitName, Task

FACTORY = f"{__name__}:without_data"
"""Where a worker process finds the maker of such a task."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DatalessTask(Task):
    """The shape and the classes of a task, without images.

    Args:
        shape: Of one input, `(channels, height, width)`, or `(features,)`.
    """

    shape: tuple[int, ...]

    def split(self, name: SplitName) -> Split:
        """Refuse: there are no images.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"The task {self.name!r} is that of a table and holds no images, so its {name!r} split cannot be read. "
            f"Use the table as the estimator; to train networks, load the data themselves: `nas.tasks.load(…)`."
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.shape

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Refuse: there are no images."""
        self.split("train")
        raise AssertionError("unreachable")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of name, shape and classes."""
        return hashlib.sha256(repr((self.name, self.shape, self.class_names, self.metric)).encode()).hexdigest()

    def describe(self) -> str:
        """A short paragraph for people."""
        shape = "x".join(map(str, self.shape))
        return f"{self.name}: {self.classes} classes, inputs {shape}; no images, for what stands in a table."


def without_data(name: str, input_shape: Sequence[int], classes: int) -> DatalessTask:
    """A task without data.

    Args:
        name: For people.
        input_shape: Of one input, `(channels, height, width)`, or `(features,)`.
        classes: Number of classes.
    """
    shape = tuple(int(n) for n in input_shape)
    arguments: dict[str, Any] = {"name": name, "input_shape": list(shape), "classes": classes}
    return DatalessTask(
        name=name, splits={}, class_names=tuple(str(i) for i in range(classes)), source="a table", shape=shape,
        loader=("factory", {"where": FACTORY, "arguments": arguments}),
    )  # fmt: skip
