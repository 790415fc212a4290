"""The spaces by name, where text comes in: the command line and stored files."""

from __future__ import annotations

from collections.abc import Callable

from nasturtium.errors import UnknownNameError
from nasturtium.space import Space
from nasturtium.zoo.mobile import mobile

SPACES: dict[str, Callable[..., Space]] = {
    "mobile": mobile,
}
"""Each takes the task's input shape, `(channels, height, width)`, and has one of its own as default."""


def space(name: str, input_shape: tuple[int, ...] | None = None) -> Space:
    """A space by its name.

    Args:
        name: One of `SPACES`.
        input_shape: `(channels, height, width)` of the task's images; None takes the space's own.

    Raises:
        UnknownNameError: no space of that name; the message lists the names.
    """
    if name not in SPACES:
        raise UnknownNameError("space", name, SPACES)
    return SPACES[name]() if input_shape is None else SPACES[name](tuple(input_shape))
