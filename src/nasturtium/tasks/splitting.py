"""Checks of arrays that come from outside, and the division of images into splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError
from nasturtium.tasks.task import SPLITS, Augmentation, Split, SplitName, Task

DEFAULT_SHARE = 0.2
DEFAULT_MOST = 10_000


def checked_labels(labels: object, *, where: str, classes: int | None = None) -> NDArray[np.int64]:
    """Labels as `(n,)` int64.

    Args:
        labels: Any array of integers.
        where: For messages, for example "train labels".
        classes: Number of classes, where it is known.

    Raises:
        DataError: not one-dimensional, not whole numbers, negative, or not below `classes`.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"The {where} must be a one-dimensional array of class numbers 0, 1, 2 …, got shape {array.shape}. "
            "Turn one-hot rows into numbers with `labels.argmax(axis=1)`."
        )
    if array.dtype.kind == "f" and array.size and np.array_equal(array, np.floor(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        example = array[:3].tolist()
        raise DataError(
            f"The {where} must be integers (class numbers 0, 1, 2 …), got {array.dtype} such as {example!r}. "
            "Number the classes first, for example with `numpy.unique(labels, return_inverse=True)`."
        )
    array = array.astype(np.int64)
    if array.size and array.min() < 0:
        row = int(np.argmin(array))
        raise DataError(f"The {where} must be 0 or larger, got {int(array[row])} at row {row}. Number classes from 0.")
    if classes is not None and array.size and array.max() >= classes:
        row = int(np.argmax(array))
        raise DataError(
            f"The {where} must be below the number of classes, {classes}, got {int(array[row])} at row {row}. "
            "Give the class names of all classes, or number the classes 0, 1, 2 … without gaps."
        )
    return array


def checked_images(images: object, *, where: str, layout: str | None = None) -> NDArray[Any]:
    """Images as `(n, channels, height, width)` uint8 or float32, or vectors as `(n, features)` float32.

    Grey images may lack the channel axis. Of four axes, the channels are those that `layout` says ("NCHW" or "NHWC"),
    or else the one axis of length 1, 3 or 4.

    Raises:
        DataError: another shape or dtype, an axis that could be either, NaN or infinity.
    """
    array = images if isinstance(images, np.ndarray) else np.asarray(images)
    if array.dtype == object or array.dtype.kind not in "uifb":
        raise DataError(
            f"The {where} must be one numeric array with images of one size, got dtype {array.dtype} "
            f"and shape {array.shape}. Resize the images to one size and stack them."
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4:
        array = _channels_first(array, where, layout)
    elif array.ndim != 2:
        raise DataError(
            f"The {where} must have shape (n, height, width), (n, channels, height, width), (n, height, width, "
            f"channels) or (n, features), got {array.shape}."
        )
    if 0 in array.shape:
        raise DataError(f"The {where} are empty: got shape {array.shape}, expected at least one image.")
    if array.dtype == np.uint8 and array.ndim == 4:
        return array
    if array.dtype.kind in "iu" and array.ndim == 4 and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    for start in range(0, len(array), 4096):
        finite = np.isfinite(array[start : start + 4096]).reshape(len(array[start : start + 4096]), -1).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise DataError(
                f"The {where} must be finite numbers, but row {row} holds NaN or infinity. Remove or repair such rows."
            )
    return array if array.dtype == np.float32 else array.astype(np.float32)


def _channels_first(array: NDArray[Any], where: str, layout: str | None) -> NDArray[Any]:
    if layout not in (None, "NCHW", "NHWC"):
        raise DataError(f"`layout` must be 'NCHW' or 'NHWC', got {layout!r}.")
    if layout is None:
        first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
        if first == last:
            raise DataError(
                f"The {where} have shape {array.shape}: which axis holds the channels cannot be told. "
                "Say it with layout='NCHW' or layout='NHWC'."
            )
        layout = "NCHW" if first else "NHWC"
    return array if layout == "NCHW" else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def count_of(wanted: float | None, available: int, classes: int, what: str) -> int:
    """How many images a share or a number asks for.

    Args:
        wanted: A share in (0, 1), a number of images (an int of 1 or more), or None for a fifth, at most 10,000.
        available: Images to carve from.
        classes: Number of classes; the default is at least one image of each.
        what: "validation" or "test", for messages.

    Raises:
        DataError: out of range.
    """
    if wanted is None:
        return max(classes, min(round(available * DEFAULT_SHARE), DEFAULT_MOST))
    count = wanted if isinstance(wanted, int) else round(available * wanted) if 0.0 < wanted < 1.0 else 0
    if isinstance(wanted, bool) or not 0 < count < available:
        raise DataError(
            f"`{what}` must be a share in (0, 1) or a number of images from 1 to {available - 1}, got {wanted!r}."
        )
    return int(count)


def carve(
    labels: NDArray[np.int64], count: int, seed: int, what: str, names: Sequence[str] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows into two parts with the same mix of classes.

    Each class gives its share by the largest-remainder rule, at least one image to either part.

    Args:
        labels: `(n,)`.
        count: Rows of the second part.
        seed: The same seed gives the same parts.
        what: Name of the second part, for messages.
        names: Class names, for messages.

    Returns:
        Rows of the first and of the second part, each sorted.

    Raises:
        DataError: a class has fewer than 2 images, or `count` cannot hold one image of each class.
    """
    rng = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(what) if what in SPLITS else 9]))
    )
    kinds, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2:
        label = int(kinds[np.argmin(sizes)])
        name = f"{names[label]!r}" if label < len(names) else str(label)
        raise DataError(
            f"To carve {what} out of the data each class needs at least one image for either part, but class {name} "
            f"has {int(sizes.min())} left. Add images of it, or give a {what} set of your own."
        )
    if count < len(kinds) or len(labels) - count < len(kinds):
        raise DataError(
            f"{what.capitalize()} and the rest must each hold one image of each of the {len(kinds)} classes, but "
            f"{count} of {len(labels)} images were asked for. Change the share, or add images."
        )
    quota = sizes * (count / len(labels))
    given = np.clip(np.floor(quota).astype(np.int64), 1, sizes - 1)
    order = np.argsort(-(quota - np.floor(quota)), kind="stable")
    while given.sum() != count:
        step = 1 if given.sum() < count else -1
        for k in order if step > 0 else order[::-1]:
            if given.sum() != count and 1 <= given[k] + step <= sizes[k] - 1:
                given[k] += step
    chosen = [
        rng.permutation(np.flatnonzero(labels == kind))[:number] for kind, number in zip(kinds, given, strict=True)
    ]
    second = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), second), second


def check_consistent(splits: Mapping[SplitName, Split], source: str) -> None:
    """Raise where the splits contradict each other.

    Raises:
        DataError: they do.
    """
    parts: tuple[SplitName, ...] = ("validation", "test")
    for part in parts:
        if part in splits and splits[part].images.shape[1:] != splits["train"].images.shape[1:]:
            raise DataError(
                f"{part.capitalize()} images must have the shape of the train images, "
                f"{splits['train'].images.shape[1:]}, got {splits[part].images.shape[1:]} in {source}."
            )
        if part in splits and splits[part].images.dtype != splits["train"].images.dtype:
            raise DataError(
                f"{part.capitalize()} images must be stored like the train images, as {splits['train'].images.dtype}, "
                f"got {splits[part].images.dtype} in {source}."
            )
    for split_name, split in splits.items():
        if len(split.images) != len(split.labels):
            raise DataError(
                f"Each image of {split_name} needs one label, got {len(split.images)} images and {len(split.labels)} "
                f"labels in {source}."
            )


def checked_names(splits: Mapping[SplitName, Split], class_names: Sequence[str] | None, source: str) -> tuple[str, ...]:
    """One name for each class, all of which have train images.

    Raises:
        DataError: a label without a class, a class without train images, or one class only.
    """
    highest = max(int(split.labels.max()) for split in splits.values())
    names = tuple(class_names) if class_names is not None else tuple(str(i) for i in range(highest + 1))
    for split_name, split in splits.items():
        checked_labels(split.labels, where=f"{split_name} labels of {source}", classes=len(names))
    present = np.unique(splits["train"].labels)
    if len(present) < 2:
        raise DataError(
            f"Classification needs at least two classes, but the train images of {source} have only "
            f"{names[int(present[0])]!r}. Add images of another class."
        )
    if len(present) < len(names):
        absent = sorted(set(range(len(names))) - set(present.tolist()))
        raise DataError(
            f"Each of the {len(names)} classes needs train images, but {source} has none of "
            f"{', '.join(repr(names[i]) for i in absent[:5])}{' …' if len(absent) > 5 else ''}. Add images, or number "
            "the classes without gaps."
        )
    return names


def make_task(
    name: str,
    given: Mapping[SplitName, Split],
    *,
    source: str,
    class_names: Sequence[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    loader: tuple[str, Mapping[str, Any]] | None = None,
) -> Task:
    """Put a task together: carve the splits that are missing out of train, and check that all fit.

    Args:
        name: Of the task.
        given: "train" and, where they exist, "validation" and "test".
        source: Where the data came from, for people.
        class_names: One a class; None for "0", "1" …
        validation: Share or number of images to carve for validation where it is not given; None for a fifth, at
            most 10,000.
        test: The same for test.
        seed: Of the carving.
        augmentation: What leaves the classes alone; None for nothing.
        loader: How another process loads the task, see `Task`.

    Raises:
        DataError: the splits contradict each other, or there are too few images of a class.
    """
    splits = dict(given)
    check_consistent(splits, source)
    names = checked_names(splits, class_names, source)
    wanted: dict[SplitName, float | None] = {"test": test, "validation": validation}
    everything = len(splits["train"])
    order: tuple[SplitName, ...] = ("test", "validation")
    for part in order:
        if part not in splits:
            rest, taken = carve(
                splits["train"].labels, count_of(wanted[part], everything, len(names), part), seed, part, names
            )
            splits[part] = splits["train"].take(taken)
            splits["train"] = splits["train"].take(rest)
    return Task(
        name=name, splits=splits, class_names=names, source=source, loader=loader,
        augmentation=augmentation or Augmentation(),
    )  # fmt: skip
