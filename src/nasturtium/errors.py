"""Every exception that the library raises on purpose.

```text
NasturtiumError
├── InvalidInputError        (ValueError)   an argument, option or expression that cannot be used
│   ├── UnknownNameError     (LookupError)  a name that no registry knows; lists the known and the closest
│   ├── InvalidSpaceError                   a search space that contradicts itself
│   ├── InvalidArchitectureError            decisions or a stored architecture that do not fit
│   ├── IncompatibleError                   a method that does not go with a space or a task
│   └── DataError                           data that cannot be read or does not fit the task
├── TraceError               (ValueError)   a block that cannot be lowered to a graph
│   └── ShapeError                          an operation that its inputs' shapes do not admit
├── SizeUnknownError                        an exact size that is not feasible to count
├── InfeasibleError                         no architecture meets the constraints
├── TrialError               (RuntimeError) one trial failed: its kind (crashed, memory, time, missing …) is recorded
├── StoreError               (RuntimeError) a study file that cannot be read or written
│   └── StudyMismatchError                  a study whose space, data or settings differ from the command's
├── ExportError              (RuntimeError) what leaves the house does not equal what was trained
└── MissingExtraError        (ImportError)  an optional dependency that is not installed
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasturtiumError(Exception):
    """Base of every error that the library raises on purpose; the command exits with 2 on it."""


class InvalidInputError(NasturtiumError, ValueError):
    """An argument, option or expression that cannot be used."""


class UnknownNameError(InvalidInputError, LookupError):
    """A name that no registry knows.

    Args:
        what: What was looked up, for example "space".
        name: What was asked for.
        known: The names that exist.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        close = difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"Unknown {what} {name!r}. Known: {', '.join(self.known) or 'none'}.{hint}")


class InvalidSpaceError(InvalidInputError):
    """A search space that contradicts itself."""


class InvalidArchitectureError(InvalidInputError):
    """Decisions or a stored architecture that do not fit."""


class IncompatibleError(InvalidInputError):
    """A method that does not go with a space or a task; says why, and what to change."""


class DataError(InvalidInputError):
    """Data that cannot be read, or that does not fit the task."""


class TraceError(NasturtiumError, ValueError):
    """A block that cannot be lowered to a graph."""


class ShapeError(TraceError):
    """An operation that its inputs' shapes do not admit."""


class SizeUnknownError(NasturtiumError):
    """An exact size that is not feasible to count; `Space.estimate_size` gives an interval."""


class InfeasibleError(NasturtiumError):
    """No architecture that meets the constraints was found; the message names the nearest miss."""


class TrialError(NasturtiumError, RuntimeError):
    """One trial failed.

    Args:
        message: What happened.
        kind: "crashed", "memory", "time", "diverged", "missing" (a table has no result), "worker" or "disk".
    """

    def __init__(self, message: str, kind: str = "crashed") -> None:
        super().__init__(message)
        self.kind = kind


class StoreError(NasturtiumError, RuntimeError):
    """A study file that cannot be read or written."""


class StudyMismatchError(StoreError):
    """A study whose space, data or settings differ from the command's; the message shows how."""


class ExportError(NasturtiumError, RuntimeError):
    """What leaves the house does not equal what was trained."""


class MissingExtraError(NasturtiumError, ImportError):
    """An optional dependency that is not installed; the message says the command to run."""
