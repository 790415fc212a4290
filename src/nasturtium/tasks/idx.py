"""Fashion-MNIST, and whatever else comes as four IDX files."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError
from nasturtium.tasks.splitting import checked_labels
from nasturtium.tasks.task import Augmentation, Split, SplitName

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_AUGMENTATION = Augmentation(shift=2, flip=True)
FOLDERS = ("", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "raw")
FILES: dict[SplitName, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MAXIMUM_BYTES = 1 << 34


def read_idx(path: Path) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes, compressed (`.gz`) or not.

    Raises:
        DataError: unreadable, not IDX, or shorter or longer than its header says.

    Reference:
        LeCun, Cortes, Burges, "The MNIST database": the file format, magic number 0x0000 08 <axes>.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read the IDX file '{path}': {error}. Download or copy it again.") from error
    axes = raw[3] if len(raw) >= 4 else 0
    if raw[:3] != b"\x00\x00\x08" or not 1 <= axes <= 4 or len(raw) < 4 + 4 * axes:
        raise DataError(
            f"'{path}' must be an IDX file of unsigned bytes, which begins with 00 00 08, but it begins with "
            f"{raw[:4].hex(' ') or 'nothing'}. Download or copy it again."
        )
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    data = raw[4 + 4 * axes :]
    if len(data) != prod(shape):
        raise DataError(
            f"The IDX file '{path}' must hold {prod(shape):,} bytes for its shape {shape}, but holds {len(data):,}: it "
            "is cut short or damaged. Download or copy it again."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def find_idx(root: Path) -> dict[SplitName, tuple[Path, Path]]:
    """Paths of the four files under a data folder, in any of the usual layouts.

    Raises:
        DataError: not all four are in one place; the message lists the places.
    """
    for folder in FOLDERS:
        found = {part: tuple(_either(root / folder / stem) for stem in stems) for part, stems in FILES.items()}
        if all(path is not None for paths in found.values() for path in paths):
            return found  # type: ignore[return-value]
    looked = ", ".join(f"'{root / folder}'" for folder in FOLDERS)
    names = ", ".join(stem for stems in FILES.values() for stem in stems)
    raise DataError(
        f"Fashion-MNIST's four files ({names}; each with or without .gz) must lie together in one of {looked}, but do "
        "not. Get them from github.com/zalandoresearch/fashion-mnist, or point `data_root` (--data-root) to them."
    )


def read_fashion_mnist(root: Path) -> dict[SplitName, Split]:
    """Train and test of Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28 pixels.

    Raises:
        DataError: missing or damaged files.

    Reference:
        Xiao, Rasul, Vollgraf (2017), "Fashion-MNIST", arXiv 1708.07747.
    """
    splits: dict[SplitName, Split] = {}
    for part, (images, labels) in find_idx(root).items():
        pixels = read_idx(images)
        if pixels.ndim != 3:
            raise DataError(f"'{images}' must hold images (three axes), got shape {pixels.shape}.")
        splits[part] = Split(
            images=pixels[:, None],
            labels=checked_labels(read_idx(labels), where=f"labels in '{labels}'", classes=len(FASHION_CLASSES)),
        )
    return splits


def _either(stem: Path) -> Path | None:
    """The file itself or its compressed form; also the `.idx3-ubyte` spelling."""
    dotted = stem.with_name(stem.name.replace("-idx", ".idx"))
    for candidate in (stem, stem.with_name(stem.name + ".gz"), dotted, dotted.with_name(dotted.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None
