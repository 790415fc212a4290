"""Which method goes with which space: asked of the methods themselves, before anything trains."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasturtium.errors import InfeasibleError, InvalidInputError, TraceError, UnknownNameError
from nasturtium.space import Space
from nasturtium.strategies.naming import Named
from nasturtium.study.method import METHODS, read_method

OTHERS: dict[str, str] = {
    "auto-deeplab": "nasturtium.supernets.auto_deeplab:AutoDeepLab",
    "shared-weights": "nasturtium.supernets.single_path:SinglePaths",
}
"""What shares weights and is no method of `nas.search(method=…)`: the estimator `SharedWeights` (SPOS), on which any
strategy searches, and Auto-DeepLab."""
COMPARED: tuple[str, ...] = (*METHODS, *sorted(OTHERS))
"""All that can be asked about, by name."""


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
    methods: Sequence[str] = COMPARED,
    *,
    report: Callable[[Verdict], None] = lambda _: None,
) -> Compatibility:
    """Ask each method about each space; makes supernets where a method needs to see one, trains nothing.

    Args:
        spaces: For each name a space and the task; one without data will do (`nas.tasks.dataless.without_data`).
        methods: Names of `COMPARED`; those of `METHODS`, or "module:function", may have settings in brackets.
        report: Called with each verdict: a large space takes a minute.

    Raises:
        UnknownNameError: no method of that name.
    """
    asked = {name: _asked(name) for name in methods}
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


def _asked(name: str) -> Any:
    """What checks spaces and tasks, by its name."""
    if name in OTHERS:
        module, _, kind = OTHERS[name].partition(":")
        return getattr(importlib.import_module(module), kind)()
    if ":" not in name and Named.parse(name).name not in METHODS:
        raise UnknownNameError("method", name, COMPARED)
    return read_method(name)
