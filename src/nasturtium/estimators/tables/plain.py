"""The plain format of tables: one file, ".npz" or ".parquet", that other programs can write.

It holds

- "header": JSON text (in a parquet file, the schema's metadata "nasturtium"):
  `{"format": "nasturtium table", "version": 1, "name": …, "space": …, "columns": {…}}`, and if wanted "input_shape",
  "classes" and "listed". "space" is a name of the zoo, or `Space.to_dict()`. "columns" says of each column, by its name
  in the file, `{"metric": "accuracy", "role": "validation", "fidelity": {"epochs": 0.1}, "missing": false}`; all but
  the role may be left out: the metric is then the column's name, the fidelity full. Roles are those of `Column`.
- the architectures, one a row: "architecture", text (official strings of a zoo's space, or decisions as JSON), or
  "decisions", `(rows, decisions)` integers, indices in the order of the space's decisions, -1 where inactive.
- one array of numbers for each column that the header names.

Nothing in it is code, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError, InvalidInputError, MissingExtraError, StoreError
from nasturtium.estimators.tables.column import Column
from nasturtium.estimators.tables.files import Arrays
from nasturtium.estimators.tables.making import make_table
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.space import Space
from nasturtium.trial.types import FULL, Fidelity

FORMAT, VERSION = "nasturtium table", 1
HEADER, ARCHITECTURE, DECISIONS = "header", "architecture", "decisions"
METADATA = b"nasturtium"
INLINE_LIMIT = 200_000
"""Largest number of values that a table in memory may have to be written into a study's settings."""


class _Source(Protocol):
    """Arrays by name."""

    names: tuple[str, ...]

    def __getitem__(self, name: str) -> NDArray[Any]: ...


class _Given:
    """Arrays of a mapping."""

    def __init__(self, arrays: Mapping[str, Any], where: str) -> None:
        self.names = tuple(arrays)
        self._arrays = arrays
        self._where = where

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            raise DataError(f"{self._where} must have a column {name!r}; it has {', '.join(self.names) or 'none'}.")
        return np.asarray(self._arrays[name])


# -- reading ---------------------------------------------------------------------------------------------------------


def read(path: Path, *, trust: bool = False) -> Tabular:
    """A table of a file in the plain format.

    Args:
        path: Ending in ".npz" or ".parquet".
        trust: Whether the space's block classes may be imported from modules that are not nasturtium's.

    Raises:
        DataError: the file is missing or damaged, or something in it does not fit; the message says what.
        MissingExtraError: pyarrow is not installed.
    """
    path = path.expanduser()
    source = {"name": str(path.resolve())} | ({"trust": True} if trust else {})
    if path.suffix == ".parquet":
        header, columns = _read_parquet(path)
        return _assemble(header, columns, f"The file '{path}'", source, trust=trust)
    with Arrays(path, "A table is written by `table.save(path)`.") as arrays:
        return _assemble(str(arrays[HEADER]), arrays, f"The file '{path}'", source, trust=trust)


def _read_parquet(path: Path) -> tuple[str, _Given]:
    parquet = _parquet()
    if not path.is_file():
        raise DataError(f"There is no file '{path}'. A table is written by `table.save(path)`.")
    try:
        found = parquet.read_table(path)
        text = (found.schema.metadata or {}).get(METADATA, b"").decode()
        arrays = {name: np.array(found.column(name).to_pylist()) for name in found.column_names}
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise DataError(f"'{path}' must be a parquet file, but cannot be read: {error}.") from error
    if not text:
        raise DataError(f"The file '{path}' must have the metadata 'nasturtium', the header of a table.")
    return text, _Given(arrays, f"The file '{path}'")


def _assemble(text: str, arrays: _Source, where: str, source: Mapping[str, Any] | None, *, trust: bool) -> Tabular:
    """The table of a header and arrays."""
    header = _header(text, where)
    try:
        columns = [_column(name, told, arrays) for name, told in header["columns"].items()]
        space = header["space"] if isinstance(header["space"], str) else Space.from_dict(header["space"], trust=trust)
        made = make_table(
            str(header["name"]), space, _architectures(arrays, where), columns, listed=header.get("listed"),
            input_shape=header.get("input_shape", (3, 32, 32)), classes=header.get("classes", 10),
        )  # fmt: skip
    except DataError:
        raise
    except (InvalidInputError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} is no table that can be used. {error}") from error
    return replace(made, source=source)


def _header(text: str, where: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise DataError(f"The header of {where} must be JSON text, but is not: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("version") != VERSION:
        raise DataError(
            f'The header of {where} must have "format": "{FORMAT}" and "version": {VERSION}, got {text[:200]!r}.'
        )
    lacking = [key for key in ("name", "space", "columns") if key not in header]
    if lacking or not isinstance(header["columns"], dict):
        raise DataError(
            f'The header of {where} must have "name", "space" and "columns" (an object); it lacks '
            f"{', '.join(lacking) or 'an object of columns'}."
        )
    return header


def _column(name: str, told: Mapping[str, Any], arrays: _Source) -> Column:
    unknown = set(told) - {"metric", "role", "fidelity", "missing"}
    if unknown or "role" not in told:
        raise DataError(
            f"The column {name!r} must have a role, and may have metric, fidelity and missing, got {dict(told)!r}."
        )
    return Column(
        metric=str(told.get("metric", name)), values=arrays[name], role=told["role"],
        fidelity=Fidelity(**told.get("fidelity", {})), missing=bool(told.get("missing", False)),
    )  # fmt: skip


def _architectures(arrays: _Source, where: str) -> Any:
    both = [name for name in (ARCHITECTURE, DECISIONS) if name in arrays.names]
    if len(both) != 1:
        raise DataError(
            f"{where} must have either {ARCHITECTURE!r} (text) or {DECISIONS!r} (integers), got "
            f"{' and '.join(both) or 'neither'}."
        )
    found = arrays[both[0]]
    if both[0] == ARCHITECTURE:
        if found.dtype.kind != "U" or found.ndim != 1:
            raise DataError(f"{ARCHITECTURE!r} of {where} must be one text a row, got {found.dtype} of {found.shape}.")
        return found.tolist()
    if found.dtype.kind not in "iu":
        raise DataError(f"{DECISIONS!r} of {where} must be `(rows, decisions)` integers, got {found.dtype}.")
    return found


# -- writing ---------------------------------------------------------------------------------------------------------


def write(table: Tabular, path: Path) -> Path:
    """Write a table; see `Tabular.save`."""
    if path.suffix not in (".npz", ".parquet"):
        raise InvalidInputError(f"A table is written to a file that ends in .npz or .parquet, got '{path}'.")
    header, arrays = _parts(table)
    content = io.BytesIO()
    if path.suffix == ".npz":
        everything: dict[str, Any] = {HEADER: np.array(json.dumps(header)), **arrays}
        np.savez_compressed(content, **everything)
    else:
        _write_parquet(content, header, arrays)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.getvalue())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"Cannot write the table {table.name!r} to '{path}': {error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _parts(table: Tabular) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays of a table."""
    if table.equal is not None:
        raise InvalidInputError(
            f"The table {table.name!r} finds equal architectures by code, which no file holds: make one of its rows by "
            "`nas.estimators.make_table`."
        )
    arrays: dict[str, NDArray[Any]] = {DECISIONS: table.rows}
    columns: dict[str, dict[str, Any]] = {}
    for number, column in enumerate(table.columns):
        name = column.metric if column.metric not in (*arrays, HEADER, ARCHITECTURE) else f"{column.metric}:{number}"
        arrays[name] = column.values
        shares = {key: value for key, value in asdict(column.fidelity).items() if value != getattr(FULL, key)}
        columns[name] = {"metric": column.metric, "role": column.role, "fidelity": shares, "missing": column.missing}
    header = {
        "format": FORMAT, "version": VERSION, "name": table.name, "space": table.space.to_dict(), "listed": False,
        "input_shape": list(table.input_shape), "classes": table.classes, "columns": columns,
    }  # fmt: skip
    return header, arrays


def _write_parquet(content: io.BytesIO, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    parquet = _parquet()
    import pyarrow as pa  # noqa: PLC0415

    columns = {name: values.tolist() if values.ndim > 1 else values for name, values in arrays.items()}
    made = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(header).encode()})
    parquet.write_table(made, content)


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "A .parquet file needs pyarrow: `pip install 'nasturtium[parquet]'`; or use .npz, which needs nothing."
        ) from error
    return parquet


# -- inside a study's settings ---------------------------------------------------------------------------------------


def inline(table: Tabular) -> dict[str, Any]:
    """A small table as plain JSON.

    Raises:
        InvalidInputError: it has more than `INLINE_LIMIT` values.
    """
    header, arrays = _parts(table)
    size = sum(values.size for values in arrays.values())
    if size > INLINE_LIMIT:
        raise InvalidInputError(
            f"The table {table.name!r} lives in memory and has {size:,} values, too many to be stored with a study: "
            "save it and search the file's: `table = nas.estimators.table(table.save('table.npz'))`."
        )
    lists = {name: [None if v != v else v for v in values.tolist()] for name, values in arrays.items()}
    return {HEADER: header, "arrays": lists}


def from_inline(data: Mapping[str, Any]) -> Tabular:
    """Inverse of `inline`."""
    kept = {
        name: np.array(values) if name == DECISIONS else np.array(values, dtype=np.float64)
        for name, values in data["arrays"].items()
    }
    return _assemble(json.dumps(data[HEADER]), _Given(kept, "The stored table"), "The stored table", None, trust=False)
