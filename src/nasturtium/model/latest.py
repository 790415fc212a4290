"""A few values that are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """What was made last: a few values by key, of which that used longest ago is forgotten first.

    Args:
        size: How many, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._known: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is not there."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
            if len(self._known) > self.size:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found

    def __len__(self) -> int:
        return len(self._known)
