"""Where a task comes from: a name, a folder, arrays or a factory; and how a worker process opens it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasturtium.errors import DataError, UnknownNameError
from nasturtium.tasks.digits import AUGMENTATION as DIGITS_AUGMENTATION
from nasturtium.tasks.digits import CLASS_NAMES as DIGITS_CLASSES
from nasturtium.tasks.digits import read_digits
from nasturtium.tasks.idx import FASHION_AUGMENTATION, FASHION_CLASSES, read_fashion_mnist
from nasturtium.tasks.splitting import make_task
from nasturtium.tasks.task import Split, SplitName, Task, TaskReference


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What `load` was given besides the name."""

    data_root: Path | None
    validation: float | None
    test: float | None
    seed: int
    image_size: int | tuple[int, int] | None
    channels: int | None
    cache: Path | None
    layout: str | None = None


def _digits(options: _Options) -> Task:
    _refuse_resizing("digits", options)
    return make_task(
        "digits", {"train": read_digits()}, source="scikit-learn", class_names=DIGITS_CLASSES,
        validation=options.validation, test=options.test, seed=options.seed, augmentation=DIGITS_AUGMENTATION,
    )  # fmt: skip


def _fashion_mnist(options: _Options) -> Task:
    _refuse_resizing("fashion-mnist", options)
    root = _root("fashion-mnist", options)
    splits: dict[SplitName, Split] = read_fashion_mnist(root)
    return make_task(
        "fashion-mnist", splits, source=str(root), class_names=FASHION_CLASSES, validation=options.validation,
        test=options.test, seed=options.seed, augmentation=FASHION_AUGMENTATION,
    )  # fmt: skip


NAMED: dict[str, Callable[[_Options], Task]] = {"digits": _digits, "fashion-mnist": _fashion_mnist}
"""The tasks that go by a name; anything else is a folder."""


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
    """Load a task by its name or from a folder of images."""
    options = _Options(
        data_root=None if data_root is None else Path(data_root), validation=validation, test=test, seed=seed,
        image_size=image_size, channels=channels, cache=None if cache is None else Path(cache),
    )  # fmt: skip
    if str(name_or_path) not in NAMED:
        raise UnknownNameError("task", str(name_or_path), NAMED)
    task = NAMED[str(name_or_path)](options)
    arguments = {
        "name_or_path": str(name_or_path), "data_root": _absolute(data_root), "validation": validation, "test": test,
        "seed": seed, "image_size": image_size, "channels": channels, "cache": _absolute(cache),
    }  # fmt: skip
    object.__setattr__(task, "loader", ("name", arguments))
    return task


def open_task(reference: TaskReference | Mapping[str, Any]) -> Task:
    """Load the task that a reference describes; it must still be the same data."""
    reference = reference if isinstance(reference, TaskReference) else TaskReference.from_dict(reference)
    task = load(**reference.arguments)
    if task.fingerprint != reference.fingerprint:
        raise DataError(
            f"The data of task {task.name!r} changed since this study began: their fingerprint must be "
            f"{reference.fingerprint[:16]}…, got {task.fingerprint[:16]}…. Put the old data back, or begin a new study."
        )
    return task


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _root(name: str, options: _Options) -> Path:
    if options.data_root is None:
        raise DataError(f"The task {name!r} is read from local files: say where with `data_root` (--data-root).")
    if not options.data_root.is_dir():
        raise DataError(f"`data_root` (--data-root) must be a folder, but '{options.data_root}' is none.")
    return options.data_root


def _refuse_resizing(name: str, options: _Options) -> None:
    if options.image_size is not None or options.channels is not None:
        raise DataError(
            f"`image_size` and `channels` are for folders of images; the task {name!r} has its own: leave them out."
        )
