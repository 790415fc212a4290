"""Published architectures by the rows of the reference file: a network's name, or its configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nasturtium.errors import InvalidInputError, NasturtiumError, UnknownNameError
from nasturtium.space import Block
from nasturtium.zoo.listing import CLASSES, Row
from nasturtium.zoo.registry import FAMILIES

LIBRARIES = ("timm", "torchvision")


def by_name(name: str, library: str = "timm", *, classes: int = CLASSES) -> Block:
    """The network that a library calls by a name.

    Args:
        name: For example "mobilenetv2_075" (timm) or "mnasnet0_75" (torchvision); what follows a dot (the weights) is
            ignored.
        library: "timm" or "torchvision".
        classes: Number of classes.

    Raises:
        UnknownNameError: no family of that name; the message lists them.
    """
    if library not in LIBRARIES:
        raise UnknownNameError("library", library, LIBRARIES)
    for family in FAMILIES:
        for pattern, make in family.names.get(library, ()):
            match = re.fullmatch(pattern, name.split(".")[0])
            if match is not None:
                return make(match, classes)
    raise UnknownNameError(f"{library} network", name, sorted(text for family in FAMILIES for text in family.named))


def _reference_model(row: Row) -> Block:
    return by_name(row["config"]["model"], row["config"]["library"])


ROWS: dict[str, Callable[[Row], Block]] = {
    "reference-model": _reference_model,
    **{name: make for family in FAMILIES for name, make in family.rows.items()},
}
"""What makes the network of a row, by its "space"."""


def published(row: Row) -> Block:
    """The closed network of a row of the reference file, as it stands there.

    Args:
        row: With "space" and "config"; for `space="reference-model"`, the config holds "library" ("timm" or
            "torchvision") and "model", the library's name.

    Returns:
        A closed block that knows its number of classes: `trace(block, row["input_size"])` has the row's parameters
        and MACs.

    Raises:
        UnknownNameError: no family of that name; the message lists those that exist.
        InvalidInputError: it is no mapping, lacks "space" or "config", or its configuration is malformed.

    Example:
        >>> import nasturtium as nas
        >>> row = {"space": "reference-model", "config": {"library": "timm", "model": "mobilenetv2_100"}}
        >>> nas.trace(nas.zoo.published(row), (3, 224, 224)).params
        3504872
    """
    given: object = row
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"A row is a mapping with the keys 'space' and 'config', got {row!r}.")
    missing = [key for key in ("space", "config") if key not in row]
    if missing:
        raise InvalidInputError(f"A reference row needs {' and '.join(missing)}, got the keys {list(row)}.")
    if not isinstance(row["space"], str) or row["space"] not in ROWS:
        raise UnknownNameError("space of published networks", str(row["space"]), ROWS)
    try:
        return ROWS[row["space"]](row)
    except NasturtiumError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        raise InvalidInputError(f"The row {row.get('name')!r} of {row['space']!r} is malformed: {error!r}.") from error
