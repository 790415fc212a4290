"""Tables by name, where text comes in; and how the adapters of published tables find their files."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from nasturtium.errors import DataError, InvalidInputError, UnknownNameError
from nasturtium.estimators.tables.tabular import Tabular

DATA_VARIABLE = "NASTURTIUM_DATA"
"""Environment variable with the folder of data sets."""

SUFFIXES = (".npz", ".parquet")

TABLES: dict[str, str] = {
    "accel_nasbench": "nasturtium.estimators.tables.accel_nasbench:read",
    "latency_fbnet": "nasturtium.estimators.tables.latency_fbnet:read",
    "nasbench101": "nasturtium.estimators.tables.nasbench101:read",
    "nasbench201": "nasturtium.estimators.tables.nasbench201:read",
}
"""Readers of published tables; each takes the folder of data sets, the part after "/" of the name, and options."""


def table(name: str | Path, data_root: str | Path | None = None, **options: Any) -> Tabular:
    """Open a table.

    Args:
        name: "nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16", "nasbench101",
            "accel_nasbench", "latency_fbnet"; or the path of a file in the plain format, ".npz" or ".parquet".
        data_root: Folder of the published tables' files; None for the environment variable NASTURTIUM_DATA.
        **options: Of the table: `observed="one_seed"` for the noisy variant of NAS-Bench-201, `space="whole"` for all
            encodings of NAS-Bench-101, `trust=True` for a file whose space has blocks of modules that are to be
            imported.

    Raises:
        UnknownNameError: no table of that name.
        DataError: its file is missing or damaged.
        InvalidInputError: it does not take these options.

    Example:
        >>> import nasturtium as nas
        >>> table = nas.estimators.table("nasbench201/cifar10", data_root="data")  # doctest: +SKIP
        >>> study = nas.search(table.space, table.task, estimator=table, maximize="accuracy")  # doctest: +SKIP
    """
    text = str(name)
    if text.endswith(SUFFIXES):
        from nasturtium.estimators.tables.plain import read  # noqa: PLC0415

        if set(options) - {"trust"}:
            raise InvalidInputError(f"A file in the plain format takes the option `trust` only, got {options!r}.")
        return read(Path(name), **options)
    base, _, part = text.partition("/")
    if base not in TABLES:
        raise UnknownNameError(f"table (and no file ending in {' or '.join(SUFFIXES)})", text, TABLES)
    root = _root(text, data_root)
    module, _, function = TABLES[base].partition(":")
    reader = getattr(importlib.import_module(module), function)
    source = {"name": text, "data_root": str(root.resolve()), **options}
    try:
        made: Tabular = reader(root, part, source=source, **options)
    except TypeError as error:
        raise InvalidInputError(f"The table {text!r} does not take the options {options!r}: {error}.") from error
    return made


def _root(name: str, data_root: str | Path | None) -> Path:
    given = data_root or os.environ.get(DATA_VARIABLE)
    if not given:
        raise DataError(
            f"The table {name!r} is read from local files: say where with `data_root`, or in the environment variable "
            f"{DATA_VARIABLE}."
        )
    root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"`data_root` must be a folder, but '{root}' is none.")
    return root
