"""Tasks from what the user already has: arrays, `.npy` files, or a function that returns a dataset."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError
from nasturtium.tasks.splitting import checked_images, checked_labels, make_task
from nasturtium.tasks.task import SPLITS, Augmentation, Split, SplitName, Task

Pair = tuple[Any, Any]
"""Images and labels: arrays, or paths of `.npy` files."""


class Dataset(Protocol):
    """What `torch.utils.data.Dataset` with a length looks like: items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def from_arrays(
    train: Pair,
    validation: Pair | float | None = None,
    test: Pair | float | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    layout: str | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Task:
    """A task of images in memory, or in `.npy` files.

    Arrays stay in this process: a search of them cannot use worker processes. Given as paths of `.npy` files they are
    memory-mapped, and every worker maps the same file.

    Args:
        train: (images, labels). Images `(n, height, width)`, `(n, channels, height, width)`, `(n, height, width,
            channels)`, uint8 in [0, 255] or floats, or vectors `(n, features)`. Labels `(n,)`, whole numbers from 0.
        validation: The same; or a share in (0, 1) or number of train images to carve out of train, stratified by
            class; None for a fifth, at most 10,000.
        test: The same, carved before validation.
        name: For people.
        class_names: One a class; None for "0", "1" …
        layout: "NCHW" or "NHWC" where the shape leaves that open.
        augmentation: What leaves the classes alone; None for nothing.
        seed: Of the carving.

    Returns:
        The task.

    Raises:
        DataError: what is given does not fit.

    Example:
        >>> import numpy as np
        >>> import nasturtium as nas
        >>> rng = np.random.default_rng(0)
        >>> images, labels = rng.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8), np.arange(60) % 3
        >>> task = nas.tasks.from_arrays((images, labels), class_names=["a", "b", "c"])
        >>> task.input_shape, task.classes, len(task.split("validation"))
        ((3, 12, 12), 3, 12)
    """
    given: dict[SplitName, Split] = {}
    shares: dict[SplitName, float | None] = {}
    paths: dict[SplitName, list[str] | float | None] = {}
    for part, value in zip(SPLITS, (train, validation, test), strict=True):
        if value is None or isinstance(value, (int, float)):
            if part == "train":
                raise DataError(f"`train` must be a pair (images, labels), got {value!r}.")
            shares[part] = value
            paths[part] = value
        else:
            given[part], files = _split_of(value, part, layout)
            paths[part] = files
    shareable = all(files is not None or shares.get(part, 0) is None for part, files in paths.items())
    arguments: dict[str, Any] = {
        **{str(part): value for part, value in paths.items()},
        "name": name, "class_names": None if class_names is None else list(class_names), "layout": layout,
        "augmentation": None if augmentation is None else {k: getattr(augmentation, k) for k in augmentation.__slots__},
        "seed": seed,
    }  # fmt: skip
    return make_task(
        name, given, source=".npy files" if shareable else "arrays in memory", class_names=class_names,
        validation=shares.get("validation"), test=shares.get("test"), seed=seed, augmentation=augmentation,
        loader=("arrays", arguments) if shareable else None,
    )  # fmt: skip


def _split_of(pair: object, part: str, layout: str | None) -> tuple[Split, list[str] | None]:
    """The split of a pair, and its paths where both are."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(f"`{part}` must be a pair (images, labels), got {type(pair).__name__} {_short(pair)}.")
    arrays = [_array(item, part) for item in pair]
    images = checked_images(arrays[0], where=f"{part} images", layout=layout)
    labels = checked_labels(arrays[1], where=f"{part} labels")
    if len(images) != len(labels):
        raise DataError(
            f"Each {part} image needs one label, got {len(images)} images (shape {np.shape(arrays[0])}) and "
            f"{len(labels)} labels."
        )
    are_paths = all(isinstance(item, (str, Path)) for item in pair)
    return Split(images=images, labels=labels), [str(Path(p).resolve()) for p in pair] if are_paths else None


def _array(item: object, part: str) -> NDArray[Any]:
    if not isinstance(item, (str, Path)):
        return np.asarray(item)
    try:
        return np.load(item, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"`{part}`: '{item}' must be a .npy file of numbers, but cannot be read: {error}.") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def from_factory(where: str, **arguments: Any) -> Task:
    """A task that a function of the user's makes; every worker process calls it anew.

    Args:
        where: "package.module:function", or "path/to/file.py:function".
        **arguments: For the function; plain JSON.

    Returns:
        The `Task` that it returned; or one made of the dataset(s) that it returned: a `Dataset` (with `__len__` and
        `__getitem__` giving (image, label)), a pair (images, labels) of arrays, or a dict of these by "train",
        "validation" and "test". What is missing is carved out of train. A dataset is read once, so a random transform
        in it is frozen: leave augmentation to the recipe.

    Raises:
        DataError: the function cannot be imported, failed, or returned something else.
    """
    try:
        arguments = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(f"The arguments of a factory must be plain JSON, got {arguments!r} ({error}).") from error
    function = _function(where)
    try:
        made = function(**arguments)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"The factory {where!r} failed with {type(error).__name__}: {error}.") from error
    loader = ("factory", {"where": _absolute(where), "arguments": arguments})
    if isinstance(made, Task):
        return replace(made, loader=loader)
    parts = dict(made) if isinstance(made, Mapping) else {"train": made}
    if "train" not in parts or set(parts) - set(SPLITS):
        raise DataError(
            f"The factory {where!r} must return a dict with 'train' and others of {SPLITS}, got {list(parts)}."
        )
    pairs = {part: _pair(value, where, part) for part, value in parts.items()}
    names = getattr(parts["train"], "classes", None)
    task = from_arrays(
        pairs["train"], pairs.get("validation"), pairs.get("test"), name=where.rpartition(":")[2],
        class_names=[str(n) for n in names] if isinstance(names, (list, tuple)) else None,
    )  # fmt: skip
    return replace(task, loader=loader, source=where)


def _absolute(where: str) -> str:
    module, _, name = where.rpartition(":")
    return f"{Path(module).resolve()}:{name}" if module.endswith(".py") else where


def _function(where: str) -> Any:
    module_name, _, name = where.rpartition(":")
    if not module_name or not name:
        raise DataError(f"A factory must be named 'module:function' or 'file.py:function', got {where!r}.")
    try:
        module = (
            _module_of_file(Path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
        )
    except Exception as error:
        raise DataError(
            f"The factory {where!r} cannot be imported: {type(error).__name__}: {error}. Its module must be on "
            "Python's path (PYTHONPATH), or be given as a file: 'path/to/file.py:function'."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))) or "none"
        raise DataError(f"The module of the factory {where!r} has no function {name!r}. It has: {known}.")
    return function


def _module_of_file(path: Path) -> Any:
    """Import a file under a name of its own."""
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path.resolve()}'")
    name = f"_nasturtium_factory_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is not Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _pair(value: object, where: str, part: str) -> Pair:
    """Images and labels of a pair of arrays, or of a dataset, which is read to its end."""
    if isinstance(value, tuple) and len(value) == 2 and all(hasattr(item, "shape") for item in value):
        return value
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or isinstance(value, (tuple, list, str)):
        raise DataError(
            f"The factory {where!r} must return a Task, a pair (images, labels) of arrays, or a dataset with __len__ "
            f"and __getitem__ for {part}, got {type(value).__name__} {_short(value)}."
        )
    images: list[NDArray[Any]] = []
    labels: list[Any] = []
    for index in range(len(value)):
        item = value[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"Item {index} of the {part} dataset of {where!r} must be (image, label), got {_short(item)}."
            )
        image = np.asarray(item[0])
        if image.ndim == 3 and image.shape[2] in (1, 3) and image.shape[0] not in (1, 3):
            image = image.transpose(2, 0, 1)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"The images of the {part} dataset of {where!r} must be of one shape, got {images[0].shape} first and "
                f"{image.shape} at item {index}. Resize them in the dataset."
            )
        images.append(image)
        labels.append(item[1])
    if not images:
        raise DataError(f"The {part} dataset of {where!r} is empty.")
    stacked = np.stack(images)
    return (stacked[:, None] if stacked.ndim == 3 else stacked), np.asarray(labels)
