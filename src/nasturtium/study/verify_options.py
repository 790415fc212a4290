"""How the finalists of a search are measured on their devices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from nasturtium.errors import InvalidInputError

FEWEST = 3
"""Processes that an interval needs at least (`hardware.measuring.Plan`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """How the finalists of a search are measured on their devices.

    Raises:
        InvalidInputError: a number is out of its range.
    """

    finalists: int = 8
    """Networks measured at most, for each latency or memory, in each round."""
    rounds: int = 2
    """How often: search, measure the finalists, correct the model. The trials are shared among the rounds."""
    precision: float = 0.02
    """Half width of the 95 % interval, relative to the median, at which a measurement stops."""
    processes: tuple[int, int] = (6, 18)
    """Fewest and most fresh processes of a measurement."""
    seconds: float | None = None
    """Wall time of measuring the finalists of a run, after which no more are begun; None for no limit.

    The search, random search beside it and hand-designed references have so much each.
    """

    def __post_init__(self) -> None:
        for name in ("finalists", "rounds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
        few, most = self.processes
        if not FEWEST <= few <= most:
            raise InvalidInputError(
                f"`processes` are the fewest and the most, {FEWEST} <= fewest <= most; got {self.processes!r}."
            )
        if not 0 < self.precision < 1:
            raise InvalidInputError(f"`precision` must be a share in (0, 1), got {self.precision!r}.")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InvalidInputError(f"`seconds` must be above 0, or None for no limit, got {self.seconds!r}.")
        object.__setattr__(self, "processes", tuple(self.processes))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "processes": list(self.processes)}

    def parts(self, trials: int) -> tuple[int, ...]:
        """After how many trials finalists are measured; the last is all."""
        return tuple(dict.fromkeys(ceil(trials * k / self.rounds) for k in range(1, self.rounds + 1)))


def read_verify(verify: Verify | Mapping[str, Any] | bool | None) -> Verify | None:
    """The argument of a search: how, True for the usual way, or False for not at all.

    Raises:
        InvalidInputError: it is none of these.
    """
    if verify is None or verify is False:
        return None
    if verify is True:
        return Verify()
    if isinstance(verify, Mapping):
        try:
            return Verify(**verify)
        except TypeError as error:
            raise InvalidInputError(f"`verify` does not take {dict(verify)!r}: {error}.") from error
    if not isinstance(verify, Verify):
        raise InvalidInputError(f"`verify` must be a `nas.study.Verify`, True or False, got {verify!r}.")
    return verify
