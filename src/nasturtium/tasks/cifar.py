"""CIFAR-10 from local files, in the three layouts that are in use."""

from __future__ import annotations

import codecs
import io
import itertools
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError
from nasturtium.tasks.decoding import decode_bytes
from nasturtium.tasks.splitting import checked_labels
from nasturtium.tasks.task import Augmentation, Split, SplitName

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
AUGMENTATION = Augmentation(shift=4, flip=True, padding="reflect")
FOLDERS = ("", "cifar10", "cifar-10", "CIFAR10")
SIDE = 32
PIXELS = 3 * SIDE * SIDE

PICKLE_FILES: dict[SplitName, tuple[str, ...]] = {
    "train": tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
    "test": ("cifar-10-batches-py/test_batch",),
}
BINARY_FILES: dict[SplitName, tuple[str, ...]] = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
JPEG_FILES: dict[SplitName, tuple[str, ...]] = {
    "train": ("cifar10_train_jpeg.npz",),
    "test": ("cifar10_test_jpeg.npz",),
}


def _latin1(text: str, codec: str = "latin1") -> bytes:
    """The one use of `_codecs.encode` in pickles of arrays."""
    if codecs.lookup(codec).name != "iso8859-1":
        raise pickle.UnpicklingError(f"the codec {codec!r} is not allowed")
    return text.encode("latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, numbers, text and their containers; anything else is refused, so a pickle cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"'{module}.{name}' is not allowed in a data file")
        return _ALLOWED[module, name]


Reader = Callable[[Path], tuple[NDArray[np.uint8], NDArray[np.int64]]]


def read_cifar10(folder: Path, files: dict[SplitName, tuple[str, ...]], reader: Reader) -> dict[SplitName, Split]:
    """Train (50,000) and test (10,000) of CIFAR-10, colour images of 32 x 32 pixels, as `find_cifar10` found them.

    Raises:
        DataError: damaged files.

    Reference:
        Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images".
    """
    splits: dict[SplitName, Split] = {}
    for part, names in files.items():
        pieces = [reader(folder / name) for name in names]
        labels = np.concatenate([labels for _, labels in pieces])
        splits[part] = Split(
            images=np.concatenate([images for images, _ in pieces]),
            labels=checked_labels(labels, where=f"{part} labels of CIFAR-10 in '{folder}'", classes=len(CLASSES)),
        )
    return splits


def find_cifar10(root: Path) -> tuple[Path, dict[SplitName, tuple[str, ...]], Reader]:
    """Folder, files and reader of the first complete layout under a data folder.

    Raises:
        DataError: none is complete; the message lists what was looked for.
    """
    layouts: tuple[tuple[dict[SplitName, tuple[str, ...]], Reader], ...] = (
        (PICKLE_FILES, read_pickle),
        (BINARY_FILES, read_binary),
        (JPEG_FILES, read_jpegs),
    )
    for name in FOLDERS:
        for files, reader in layouts:
            needed = [root / name / file for names in files.values() for file in names]
            if all(path.is_file() for path in needed):
                return root / name, files, reader
            missing = [path for path in needed if not path.is_file()]
            if len(missing) < len(needed):
                raise DataError(
                    f"CIFAR-10 in '{root / name}' is incomplete: {', '.join(repr(str(p)) for p in missing)} is "
                    "missing. Copy the missing files, or remove the others."
                )
    looked = ", ".join(f"'{root / name}'" for name in FOLDERS)
    raise DataError(
        "CIFAR-10 must lie as cifar-10-batches-py/ (data_batch_1 …, test_batch), cifar-10-batches-bin/ "
        f"(data_batch_1.bin …) or cifar10_train_jpeg.npz and cifar10_test_jpeg.npz in one of {looked}, but does not. "
        "Unpack cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html there, or point `data_root` "
        "(--data-root) to it."
    )


def read_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One batch of the Python layout, without running anything that the file may hold.

    Raises:
        DataError: damaged, or holding something else than arrays and lists.
    """
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="latin1").load()
        images = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, SIDE, SIDE)
        labels = np.asarray(batch["labels"], dtype=np.int64)
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise DataError(
            f"'{path}' must be a batch of CIFAR-10's Python version (a pickle of arrays), but cannot be read: "
            f"{type(error).__name__}: {error}. Download it again."
        ) from error
    return _same_length(path, images, labels)


def read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One batch of the binary layout: records of a label byte and 3,072 pixel bytes.

    Raises:
        DataError: damaged.
    """
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % (1 + PIXELS):
        raise DataError(
            f"'{path}' must hold records of {1 + PIXELS:,} bytes, got {raw.size:,} bytes: it is damaged. "
            "Download it again."
        )
    records = raw.reshape(-1, 1 + PIXELS)
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, SIDE, SIDE), records[:, 0].astype(np.int64)


def read_jpegs(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """An archive of JPEG files: `data` (all files, one after another), `offsets` (n + 1) and `labels`.

    Raises:
        DataError: damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            data, offsets, labels = archive["data"].tobytes(), archive["offsets"].tolist(), archive["labels"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"'{path}' must be a NumPy archive with `data`, `offsets` and `labels`, but cannot be read: {error}. "
            "Copy it again."
        ) from error
    images = np.empty((len(offsets) - 1, 3, SIDE, SIDE), dtype=np.uint8)
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        images[i] = decode_bytes(io.BytesIO(data[start:end]), f"image {i} of '{path}'", channels=3, size=(SIDE, SIDE))
    return _same_length(path, images, labels.astype(np.int64))


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the ten classes: those of `classes.json` where it lies beside the data, else the usual ones.

    Raises:
        DataError: the file does not hold ten names.
    """
    path = folder / "classes.json"
    if not path.is_file():
        return CLASSES
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"'{path}' must be a JSON list of {len(CLASSES)} class names, but is not JSON: {error}."
        ) from error
    if not isinstance(names, list) or len(names) != len(CLASSES) or not all(isinstance(n, str) for n in names):
        raise DataError(f"'{path}' must be a JSON list of {len(CLASSES)} class names, got {names!r}.")
    return tuple(names)


def _same_length(
    path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if len(images) != len(labels):
        raise DataError(f"'{path}' holds {len(images)} images but {len(labels)} labels. Download it again.")
    return images, labels
