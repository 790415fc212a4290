"""A task: images with labels in three splits that never mix, and what a network must know of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError, UnknownNameError
from nasturtium.tasks.statistics import smallest_difference

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
REFERENCE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Changes of an image that leave its class alone; each image is changed anew in each epoch.

    Args:
        shift: Largest shift in pixels, in each direction; the same as a random crop of a padded image.
        flip: Whether to mirror left and right, with probability 1/2.
        cutout: Side in pixels of a square that is set to the mean colour; 0 for none.
        padding: What a shift brings in: "black", or the image "reflect"-ed at its border.
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0
    padding: Literal["black", "reflect"] = "black"

    def __post_init__(self) -> None:
        if self.shift < 0 or self.cutout < 0:
            raise DataError(f"`shift` and `cutout` are pixels, 0 or more, got {self.shift!r} and {self.cutout!r}.")
        if self.padding not in ("black", "reflect"):
            raise DataError(f"`padding` must be 'black' or 'reflect', got {self.padding!r}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Some images with their labels.

    Args:
        images: `(n, channels, height, width)` uint8 in [0, 255] or float32; `(n, features)` float32 for vectors.
            May be a memory map.
        labels: `(n,)` int64 in [0, classes).
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The given rows, in that order, copied to memory."""
        return Split(images=np.ascontiguousarray(self.images[rows]), labels=np.ascontiguousarray(self.labels[rows]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReference:
    """What another process needs to load the same task: a few words and paths, never the data.

    Args:
        kind: Which loader: "name", "folder", "arrays" or "factory".
        arguments: Its arguments; plain JSON.
        fingerprint: Of the data when the reference was made; `open` refuses data that differ.
    """

    kind: str
    arguments: Mapping[str, Any]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "version": REFERENCE_VERSION,
            "kind": self.kind,
            "arguments": dict(self.arguments),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskReference:
        """Inverse of `to_dict`.

        Raises:
            DataError: a key is missing, or the version is a later one.
        """
        if data.get("version") != REFERENCE_VERSION or not {"kind", "arguments", "fingerprint"} <= set(data):
            raise DataError(
                f"A task reference must have version {REFERENCE_VERSION} and the keys kind, arguments and fingerprint, "
                f"got {dict(data)!r}. Make it with `task.reference.to_dict()` of this version."
            )
        return cls(kind=data["kind"], arguments=dict(data["arguments"]), fingerprint=data["fingerprint"])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Task:
    """Images to classify, split once into train, validation and test.

    Networks learn on train; a search compares them on validation; test is for one measurement of what is exported,
    and nothing that searches reads it.

    Args:
        name: For people and tables.
        splits: The three splits by name.
        class_names: One for each label.
        source: Where the data came from, for people.
        augmentation: What leaves these images' classes alone; the "auto" of a recipe.
        loader: `(kind, arguments)` with which another process loads it again, or None where that is not possible.
    """

    name: str
    splits: Mapping[SplitName, Split]
    class_names: tuple[str, ...]
    source: str
    augmentation: Augmentation = field(default_factory=Augmentation)
    loader: tuple[str, Mapping[str, Any]] | None = None
    metric: str = "accuracy"

    def split(self, name: SplitName) -> Split:
        """One of the splits.

        Raises:
            UnknownNameError: it is none of "train", "validation", "test".
        """
        if name not in self.splits:
            raise UnknownNameError("split", name, SPLITS)
        return self.splits[name]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, `(channels, height, width)`, or `(features,)`."""
        return tuple(int(n) for n in self.splits["train"].images.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def context(self) -> dict[str, int]:
        """What a network's blocks may ask for: `{"classes": …}`."""
        return {"classes": self.classes}

    @property
    def scale(self) -> float:
        """Factor from stored values to those of `mean` and `std`: 1/255 for uint8, else 1."""
        return 1.0 / 255.0 if self.splits["train"].images.dtype == np.uint8 else 1.0

    @cached_property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of train, by channel, after `scale`."""
        return channel_moments(self.splits["train"].images, self.scale)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of train by channel; of images in [0, 1] where they are stored as uint8."""
        return self.moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of train by channel, never zero; in the unit of `mean`."""
        return self.moments[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels, labels, the split and the class names: it changes when any of them does."""
        digest = hashlib.sha256(repr((self.class_names, self.metric)).encode())
        for name in SPLITS:
            split = self.splits[name]
            digest.update(f"{name}{split.images.shape}{split.images.dtype}".encode())
            for start in range(0, len(split), 4096):
                digest.update(np.ascontiguousarray(split.images[start : start + 4096]).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()

    @property
    def reference(self) -> TaskReference | None:
        """How a worker process loads this task again; None when it lives in this process only."""
        if self.loader is None:
            return None
        kind, arguments = self.loader
        return TaskReference(kind=kind, arguments=arguments, fingerprint=self.fingerprint)

    @property
    def nbytes(self) -> int:
        """Bytes of all images and labels."""
        return sum(s.images.nbytes + s.labels.nbytes for s in self.splits.values())

    def describe(self) -> str:
        """A short paragraph for a person who is about to start a search."""
        shape = "x".join(map(str, self.input_shape))
        counts = np.bincount(self.splits["train"].labels, minlength=self.classes)
        sizes = ", ".join(f"{len(self.splits[name]):,} {name}" for name in SPLITS)
        validation = len(self.splits["validation"])
        return (
            f"{self.name}: {self.classes} classes, inputs {shape}, {sizes} ({self.source}). "
            f"Train has {counts.min():,} to {counts.max():,} of a class. "
            f"{validation:,} validation images can show differences in accuracy of "
            f"{smallest_difference(validation):.1%} or more (at 90%, 95% confidence)."
        )

    def __repr__(self) -> str:
        return f"<Task {self.name!r}: {self.classes} classes, input {self.input_shape}>"


def channel_moments(images: NDArray[Any], scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel, in blocks so that a memory map stays one.

    Args:
        images: `(n, channels, …)`.
        scale: Factor on the values.
    """
    axes = (0, *range(2, images.ndim))
    count = images.size // images.shape[1]
    total = np.zeros(images.shape[1], dtype=np.float64)
    squares = np.zeros(images.shape[1], dtype=np.float64)
    for start in range(0, len(images), 2048):
        block = images[start : start + 2048].astype(np.float64 if images.dtype != np.uint8 else np.float32)
        total += block.sum(axis=axes, dtype=np.float64)
        squares += np.square(block).sum(axis=axes, dtype=np.float64)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    std = np.where(std > 0, std, 1.0 / scale)
    return tuple(float(m * scale) for m in mean), tuple(float(s * scale) for s in std)
