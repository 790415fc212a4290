"""Reading arrays of a table's file, with errors that name what is wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError, UnknownNameError


class Arrays:
    """The arrays of an `.npz` file, each read when it is asked for.

    Args:
        path: Of the file.
        source: Where a user gets it, for the message.

    Raises:
        DataError: the file is missing or no `.npz` file.
    """

    def __init__(self, path: Path, source: str = "") -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"There is no file '{path}'.{' ' if source else ''}{source}")
        try:
            self._file = np.load(path, allow_pickle=False)
            self.names: tuple[str, ...] = tuple(self._file.files)
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"'{path}' must be an .npz file of arrays, but cannot be read: {error}.") from error

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.names:
            listed = ", ".join(self.names)
            raise DataError(f"The file '{self.path}' must have an array {name!r}; it has {listed or 'none'}.")
        try:
            return np.asarray(self._file[name])
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"The array {name!r} of '{self.path}' cannot be read: {error}.") from error

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def choose(what: str, name: str, known: dict[str, Any]) -> Any:
    """One of several by its name.

    Raises:
        UnknownNameError: no such.
    """
    if name not in known:
        raise UnknownNameError(what, name, known)
    return known[name]
