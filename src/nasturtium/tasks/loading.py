"""Where a task comes from: a name, a folder, arrays or a factory; and how a worker process opens it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasturtium.errors import DataError, UnknownNameError
from nasturtium.tasks import cache, cifar, digits, folder, idx
from nasturtium.tasks.arrays import from_arrays, from_factory
from nasturtium.tasks.splitting import make_task
from nasturtium.tasks.task import Augmentation, Split, SplitName, Task, TaskReference

DATA_VARIABLE = "NASTURTIUM_DATA"
"""Environment variable with the folder of data sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What `load` was given besides the name, and how another process repeats it."""

    data_root: Path | None
    validation: float | None
    test: float | None
    seed: int
    image_size: int | tuple[int, int] | None
    channels: int | None
    cache: Path | None
    loader: tuple[str, Mapping[str, Any]]

    def task(
        self,
        name: str,
        splits: Mapping[SplitName, Split],
        source: str,
        names: Sequence[str],
        augmentation: Augmentation,
    ) -> Task:
        """The task of splits that were read."""
        return make_task(
            name, splits, source=source, class_names=names, validation=self.validation, test=self.test, seed=self.seed,
            augmentation=augmentation, loader=self.loader,
        )  # fmt: skip

    def root(self, name: str) -> Path:
        """The data folder of a named task."""
        root = self.data_root or Path(os.environ.get(DATA_VARIABLE, "") or ".")
        if self.data_root is None and not os.environ.get(DATA_VARIABLE):
            raise DataError(
                f"The task {name!r} is read from local files: say where with `data_root` (--data-root), or in the "
                f"environment variable {DATA_VARIABLE}."
            )
        if not root.is_dir():
            raise DataError(f"`data_root` (--data-root) must be a folder, but '{root}' is none.")
        return root

    def refuse_resizing(self, name: str) -> None:
        """Raise where a named task was given what only folders take."""
        if self.image_size is not None or self.channels is not None:
            raise DataError(
                f"`image_size` and `channels` are for folders of images; the task {name!r} has its own: leave them out."
            )


def _digits(options: _Options) -> Task:
    options.refuse_resizing("digits")
    return options.task("digits", {"train": digits.read_digits()}, "scikit-learn", digits.CLASSES, digits.AUGMENTATION)


def _fashion_mnist(options: _Options) -> Task:
    options.refuse_resizing("fashion-mnist")
    root = options.root("fashion-mnist")
    splits = idx.read_fashion_mnist(root)
    return options.task("fashion-mnist", splits, str(root), idx.FASHION_CLASSES, idx.FASHION_AUGMENTATION)


def _cifar10(options: _Options) -> Task:
    options.refuse_resizing("cifar10")
    folder, files, reader = cifar.find_cifar10(options.root("cifar10"))
    key = cache.stamp([folder / name for names in files.values() for name in names], "cifar10")
    splits = cache.cached(options.cache, key, lambda: cifar.read_cifar10(folder, files, reader))
    return options.task("cifar10", splits, str(folder), cifar.class_names(folder), cifar.AUGMENTATION)


def _folder(path: Path, options: _Options) -> Task:
    listing = folder.list_folder(path)
    size, channels = folder.choose_form(listing, options.image_size, options.channels)
    key = cache.stamp(
        [file for files in listing.files.values() for file, _ in files], size, channels, listing.class_names
    )
    splits = cache.cached(options.cache, key, lambda: folder.read_folder(listing, size, channels))
    return options.task(path.resolve().name, splits, str(path), listing.class_names, folder.augmentation(size))


NAMED: dict[str, Callable[[_Options], Task]] = {"digits": _digits, "fashion-mnist": _fashion_mnist, "cifar10": _cifar10}
"""The tasks that go by a name; anything else is a folder or a factory."""


def load(
    name_or_path: str | Path,
    *,
    data_root: str | Path | None = None,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    cache: str | Path | None = None,
) -> Task:
    """Load a task by its name, from a folder of images, or from a factory.

    Args:
        name_or_path: "digits" (shipped with scikit-learn), "fashion-mnist" or "cifar10" (local files); the path of a
            folder with one sub-folder of images a class, or with train, validation (val, valid) and test folders of
            such; or "module:function" or "file.py:function", see `from_factory`.
        data_root: Where the files of named tasks lie, in any of their usual layouts; None for the environment variable
            NASTURTIUM_DATA.
        validation: Share in (0, 1) or number of train images to carve out for validation, stratified by class, where
            the data have none; None for a fifth, at most 10,000.
        test: The same for test, carved before validation.
        seed: Of the carving. Keep it over the runs that are to be compared.
        image_size: For folders: pixels, or (height, width), to resize to: the largest centred part of that aspect
            ratio is cut out and resized (bilinear, with antialiasing). None where all are of one size.
        channels: For folders: 1 for grey, 3 for colour; None for grey if all are.
        cache: A folder for decoded images; the next call, and worker processes, map them from there. None decodes in
            memory and writes nothing.

    Returns:
        The task, with its three splits.

    Raises:
        UnknownNameError: it is neither a known name nor a path.
        DataError: files are missing, damaged or do not fit; the message says which and what to do.

    Example:
        >>> import nasturtium as nas
        >>> task = nas.tasks.load("digits")
        >>> task.input_shape, task.classes, [len(task.split(s)) for s in ("train", "validation", "test")]
        ((1, 8, 8), 10, [1079, 359, 359])
    """
    text = str(name_or_path)
    arguments = {
        "name_or_path": text if text in NAMED else _absolute(name_or_path), "data_root": _absolute(data_root),
        "validation": validation, "test": test, "seed": seed, "image_size": image_size, "channels": channels,
        "cache": _absolute(cache),
    }  # fmt: skip
    options = _Options(
        data_root=None if data_root is None else Path(data_root), validation=validation, test=test, seed=seed,
        image_size=image_size, channels=channels, cache=None if cache is None else Path(cache),
        loader=("load", arguments),
    )  # fmt: skip
    if text in NAMED:
        return NAMED[text](options)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _folder(path, options)
    if isinstance(name_or_path, str) and ":" in text and not path.exists():
        return from_factory(text)
    if path.exists():
        raise DataError(f"A task must be a name or a folder, but '{path}' is a file. {folder.LAYOUT}.")
    if path.parent != Path() or isinstance(name_or_path, Path):
        raise DataError(
            f"There is no folder '{path}'. {folder.LAYOUT}; or one of the tasks {', '.join(sorted(NAMED))}."
        )
    raise UnknownNameError("task (and no folder of that name)", text, NAMED)


def open_task(reference: TaskReference | Mapping[str, Any]) -> Task:
    """Load the task that a reference describes, in this or another process.

    Args:
        reference: `task.reference`, or its `to_dict()`.

    Raises:
        DataError: the data are no longer the same, or cannot be read.
    """
    reference = reference if isinstance(reference, TaskReference) else TaskReference.from_dict(reference)
    openers: dict[str, Callable[..., Task]] = {"load": _reload, "arrays": _reopen_arrays, "factory": _recall_factory}
    if reference.kind not in openers:
        raise DataError(f"A task reference must be of kind {', '.join(sorted(openers))}, got {reference.kind!r}.")
    task = openers[reference.kind](**reference.arguments)
    if task.fingerprint != reference.fingerprint:
        raise DataError(
            f"The data of task {task.name!r} are not what they were: their fingerprint must be "
            f"{reference.fingerprint[:16]}…, got {task.fingerprint[:16]}…. Put the old data back, or begin a new study."
            + (" A factory must return the same data at each call." if reference.kind == "factory" else "")
        )
    return task


def _reload(**arguments: Any) -> Task:
    size = arguments.get("image_size")
    return load(**{**arguments, "image_size": tuple(size) if isinstance(size, list) else size})


def _reopen_arrays(*, augmentation: Mapping[str, Any] | None, **arguments: Any) -> Task:
    return from_arrays(**arguments, augmentation=None if augmentation is None else Augmentation(**augmentation))


def _recall_factory(*, where: str, arguments: Mapping[str, Any]) -> Task:
    return from_factory(where, **arguments)


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())
