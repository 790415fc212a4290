"""Which method goes with which space: asked of the methods themselves, before anything trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasturtium.errors import InfeasibleError, InvalidInputError, TraceError
from nasturtium.space import Space
from nasturtium.study.method import METHODS, read_method


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a method goes with a space."""

    space: str
    method: str
    possible: bool
    reason: str
    """Empty where it is possible; else why not, and what to change."""
    seconds: float
    """That finding out took."""


@dataclass(frozen=True, slots=True)
class Compatibility:
    """The matrix of spaces and methods."""

    verdicts: tuple[Verdict, ...]

    def of(self, space: str, method: str) -> Verdict:
        """One of them.

        Raises:
            KeyError: the pair was not asked about.
        """
        for verdict in self.verdicts:
            if (verdict.space, verdict.method) == (space, method):
                return verdict
        raise KeyError((space, method))

    @property
    def spaces(self) -> tuple[str, ...]:
        """Rows."""
        return tuple(dict.fromkeys(v.space for v in self.verdicts))

    @property
    def methods(self) -> tuple[str, ...]:
        """Columns."""
        return tuple(dict.fromkeys(v.method for v in self.verdicts))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"version": 1, "verdicts": [asdict(v) for v in self.verdicts]}


def compatibility(
    spaces: Mapping[str, tuple[Space, Any]],
    methods: Sequence[str] = tuple(METHODS),
    *,
    report: Callable[[Verdict], None] = lambda _: None,
) -> Compatibility:
    """Ask each method about each space; makes supernets where a method needs to see one, trains nothing.

    Args:
        spaces: For each name a space and the task; one without data will do (`nas.tasks.dataless.without_data`).
        methods: Names of `METHODS`, or "module:function", with settings in brackets.
        report: Called with each verdict: a large space takes a minute.

    Raises:
        UnknownNameError: no method of that name.
    """
    asked = {name: read_method(name) for name in methods}
    found = []
    for name, (space, task) in spaces.items():
        for method, searcher in asked.items():
            begin = time.perf_counter()
            try:
                searcher.check(space, task)
                reason = ""
            except (InvalidInputError, TraceError, InfeasibleError) as error:
                reason = str(error)
            seconds = time.perf_counter() - begin
            found.append(Verdict(space=name, method=method, possible=not reason, reason=reason, seconds=seconds))
            report(found[-1])
    return Compatibility(tuple(found))
