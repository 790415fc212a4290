"""Decoded images kept as `.npy` files in a folder that the user gives, and memory-mapped from there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nasturtium.errors import DataError
from nasturtium.tasks.task import SPLITS, Split, SplitName

DONE = "complete"


def stamp(paths: list[Path], *settings: object) -> str:
    """A key that changes when a file's path, size or time of change does, or a setting."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in paths:
        facts = path.stat()
        digest.update(f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def cached(cache: Path | None, key: str, read: Callable[[], dict[SplitName, Split]]) -> dict[SplitName, Split]:
    """The splits from the cache, decoded and stored there first where they are missing.

    Args:
        cache: The folder, or None to decode in memory and store nothing.
        key: Of these data, see `stamp`.
        read: Decodes them.

    Raises:
        DataError: the cache cannot be written or read.
    """
    if cache is None:
        return read()
    folder = cache / key
    try:
        if not (folder / DONE).is_file():
            _store(folder, read())
        return {
            part: Split(images=np.load(folder / f"{part}_images.npy", mmap_mode="r", allow_pickle=False),
                        labels=np.load(folder / f"{part}_labels.npy", allow_pickle=False))
            for part in SPLITS if part in (folder / DONE).read_text(encoding="utf-8").split()
        }  # fmt: skip
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The cache of decoded images in '{folder}' cannot be used: {error}. Delete that folder, choose another "
            "`cache`, or leave it out to decode in memory."
        ) from error


def _store(folder: Path, splits: dict[SplitName, Split]) -> None:
    """Write beside, then rename: two processes may do it at once, and a killed one leaves nothing half-written."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for part, split in splits.items():
            np.save(temporary / f"{part}_images.npy", split.images, allow_pickle=False)
            np.save(temporary / f"{part}_labels.npy", split.labels, allow_pickle=False)
        (temporary / DONE).write_text(" ".join(splits), encoding="utf-8")
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / DONE).is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
