"""Files of JSON lines that are continued after any stop: what a kill cut short is removed before anything is added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nasturtium.errors import StoreError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a last line without an end is cut off the file, so that the next record has its own.

    Args:
        path: Need not exist.

    Raises:
        StoreError: the file cannot be read, or a whole line is no JSON object.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    found = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise StoreError(f"Line {number} of {str(path)!r} is no JSON: {error}.") from error
        if not isinstance(record, dict):
            raise StoreError(f"Line {number} of {str(path)!r} is no measurement: {line[:80]!r}.")
        found.append(record)
    return found


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add a record to a file that `read_lines` has read, or that is new; its folder is made.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
