"""A folder of images: one sub-folder a class, or train, validation and test folders of such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasturtium.errors import DataError
from nasturtium.tasks.decoding import decode, header
from nasturtium.tasks.task import Augmentation, Split, SplitName

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jfif"}
)
SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
MAXIMUM_BYTES = 8 << 30
LAYOUT = (
    "Expected one sub-folder of images a class ('cats/1.png', 'dogs/2.png'), or the folders train, validation (or val, "
    "valid) and test with such sub-folders"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a folder, before any is decoded."""

    root: Path
    class_names: tuple[str, ...]
    files: dict[SplitName, tuple[tuple[Path, int], ...]]
    """By split: (file, label), in the order of their names."""


def list_folder(root: Path) -> Listing:
    """Find the classes and images of a folder. Hidden files, and files that are no images, are passed over.

    Raises:
        DataError: it is no folder, has no images, one class only, or splits with different classes.
    """
    if not root.is_dir():
        raise DataError(f"A task's folder must exist, but '{root}' is no folder. {LAYOUT}.")
    folders = _folders(root)
    parts = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_FOLDERS}
    if "train" in parts.values():
        return _list_splits(root, folders, parts)
    names = tuple(folder.name for folder in folders)
    files = _list_classes(root, names)
    return Listing(root=root, class_names=names, files={"train": files})


def _list_splits(root: Path, folders: Sequence[Path], parts: dict[Path, SplitName]) -> Listing:
    others = [folder.name for folder in folders if folder not in parts]
    if others or len(set(parts.values())) < len(parts):
        raise DataError(
            f"'{root}' has train folders, so its sub-folders must be one each of train, validation (or val, valid) and "
            f"test, got {', '.join(repr(f.name) for f in folders)}. Move the others elsewhere."
        )
    train = next(folder for folder, part in parts.items() if part == "train")
    names = tuple(folder.name for folder in _folders(train))
    for folder in parts:
        extra = sorted({f.name for f in _folders(folder)} - set(names))
        if extra:
            raise DataError(f"'{folder}' has classes that '{train}' lacks: {', '.join(map(repr, extra[:5]))}.")
    return Listing(
        root=root,
        class_names=names,
        files={part: _list_classes(folder, names, may_lack=part != "train") for folder, part in parts.items()},
    )


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"Cannot read the folder '{root}': {error}.") from error


def _list_classes(root: Path, names: tuple[str, ...], *, may_lack: bool = False) -> tuple[tuple[Path, int], ...]:
    """All images of the class folders, checked to be at least two non-empty classes."""
    found: list[tuple[Path, int]] = []
    lacking: list[str] = []
    for label, name in enumerate(names):
        images = _images(root / name) if (root / name).is_dir() else []
        found += [(path, label) for path in images]
        if not images and not may_lack:
            lacking.append(name)
    if not found:
        loose = len([p for p in root.iterdir() if p.suffix.lower() in SUFFIXES])
        got = f"{loose} images directly in it" if loose else "none in any sub-folder"
        raise DataError(f"'{root}' must hold images, got {got}. {LAYOUT}; images end in {', '.join(sorted(SUFFIXES))}.")
    if lacking:
        raise DataError(f"Each class needs images, but {', '.join(repr(str(root / n)) for n in lacking[:5])} has none.")
    if len(names) < 2:
        raise DataError(
            f"Classification needs at least two classes, but '{root}' has only one sub-folder with images, "
            f"{names[0]!r}. {LAYOUT}."
        )
    return tuple(found)


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def choose_form(
    listing: Listing, image_size: int | tuple[int, int] | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """(height, width) and channels that all images shall have.

    Without `image_size` the images must be of one size, which is taken; without `channels`, 1 if all are grey, else 3.

    Raises:
        DataError: sizes differ, an image is unreadable, an argument is out of range, or it is too much for memory.
    """
    if channels not in (None, 1, 3):
        raise DataError(f"`channels` must be 1 (grey), 3 (colour) or None, got {channels!r}.")
    wanted = (image_size, image_size) if isinstance(image_size, int) else image_size
    if wanted is not None and (len(wanted) != 2 or not all(isinstance(n, int) and n > 0 for n in wanted)):
        raise DataError(f"`image_size` must be pixels, such as 32 or (height, width), got {image_size!r}.")
    sizes: dict[tuple[int, int], Path] = {}
    grey = True
    count = 0
    for files in listing.files.values():
        for path, _ in files:
            size, is_grey = header(path)
            sizes.setdefault(size, path)
            grey &= is_grey
            count += 1
    if wanted is None and len(sizes) > 1:
        (first, a), (second, b) = list(sizes.items())[:2]
        raise DataError(
            f"The images in '{listing.root}' are of {len(sizes)} different sizes, for example {first[1]}x{first[0]} "
            f"({a.name!r}) and {second[1]}x{second[0]} ({b.name!r}). Say to which size they shall be resized with "
            "`image_size` (--image-size)."
        )
    size = wanted or next(iter(sizes))
    depth = channels or (1 if grey else 3)
    if count * depth * size[0] * size[1] > MAXIMUM_BYTES:
        raise DataError(
            f"{count:,} images of {size[1]}x{size[0]} take {count * depth * size[0] * size[1] / 2**30:.0f} GiB in "
            f"memory, more than {MAXIMUM_BYTES >> 30} GiB. Give a smaller `image_size` (--image-size)."
        )
    return size, depth


def read_folder(listing: Listing, size: tuple[int, int], channels: int) -> dict[SplitName, Split]:
    """Decode all images.

    Raises:
        DataError: an image is unreadable; the message names it.
    """
    splits: dict[SplitName, Split] = {}
    for part, files in listing.files.items():
        images = np.empty((len(files), channels, *size), dtype=np.uint8)
        for i, (path, _) in enumerate(files):
            images[i] = decode(path, channels=channels, size=size)
        splits[part] = Split(images=images, labels=np.array([label for _, label in files], dtype=np.int64))
    return splits


def augmentation(size: tuple[int, int]) -> Augmentation:
    """Small shifts only: whether a mirrored image keeps its class is not known of a stranger's images."""
    return Augmentation(shift=max(1, min(size) // 16), padding="reflect") if min(size) > 2 else Augmentation()
