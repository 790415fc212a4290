"""Checks of the numbers that make a published network; each says what it expected, what it got and where."""

from __future__ import annotations

from typing import Any

from nasturtium.errors import InvalidInputError


def check_whole(name: str, value: Any, *, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no integer in a range.

    Args:
        name: What the message calls it.
        value: To check.
        least: The least that is allowed.
        most: The most that is allowed; None for no bound.

    Raises:
        InvalidInputError: it is no integer, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        allowed = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{name} must be an integer {allowed}, got {value!r}.")


def check_kernel(name: str, value: Any) -> None:
    """Refuse what is no odd positive integer.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise InvalidInputError(f"{name} must be an odd positive integer such as 3, got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no positive number.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise InvalidInputError(f"{name} must be a positive number, got {value!r}.")
