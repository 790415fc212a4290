"""A measured latency: a number with its interval, its conditions and its warnings, never a bare number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.device import Device
from nasturtium.trial import format_seconds

VERSION = 1

Verdict = Literal["met", "missed", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which conditions a number was measured."""

    device: Device
    machine: str = ""
    """The processor's name, as the operating system says it."""
    cores: tuple[int, ...] = ()
    """Cores to which the threads were pinned; empty where the system cannot pin."""
    load: float | None = None
    """Processes that wanted to run, averaged over the minute before; None where the system does not say."""
    started: str = ""
    """Date and time, ISO 8601 with the offset."""
    seconds: float = 0.0
    """How long measuring took."""
    versions: tuple[tuple[str, str], ...] = ()
    """Of Python and the runtime's packages, sorted by name."""
    clock: str = "wall"
    """"processor" (time of the process; on one thread it is what the wall clock says of a free machine) or "wall"."""
    wall: float | None = None
    """Median by the wall clock, in seconds."""
    reference: float | None = None
    """Seconds of the reference kernel that the result is stated for; None for those that were observed.

    Every process times the network and the reference in turns. The result is the ratio of the two, times this.
    """
    observed_reference: float | None = None
    """Seconds that the reference kernel took while measuring (median): above `reference` on a slower or busy day."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**dataclasses.asdict(self), "device": self.device.to_dict(), "versions": dict(self.versions)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conditions:
        """Read what `to_dict` gave.

        Raises:
            InvalidInputError: fields are missing or unknown.
        """
        given = dict(data)
        try:
            given["device"] = Device.from_dict(given["device"])
            given["cores"] = tuple(given.get("cores", ()))
            given["versions"] = tuple(sorted(given.get("versions", {}).items()))
            return cls(**given)
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"Conditions of a measurement cannot be read: {error!r} in {data!r}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The latency of one network on one device, with a confidence interval that covers fresh processes.

    Raises:
        InvalidInputError: the interval does not hold the number, or the confidence is no share.
    """

    seconds: float
    """Median of one inference (of the whole batch)."""
    low: float
    """Lower end of the confidence interval, in seconds."""
    high: float
    """Upper end of the confidence interval, in seconds."""
    confidence: float = 0.95
    """Of the interval: the share of intervals that hold the median over many fresh processes."""
    precision: float | None = None
    """The half width of the interval that was asked for, relative to `seconds`; None where none was."""
    processes: tuple[float, ...] = ()
    """The median of each process, in seconds, in order of time."""
    samples: tuple[int, ...] = ()
    """Timed inferences in each process."""
    conditions: Conditions
    warnings: tuple[str, ...] = field(default=())
    """What a reader must know: drift, disturbance, outliers, a precision that was not reached."""

    def __post_init__(self) -> None:
        numbers = (self.low, self.seconds, self.high)
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or not self.low <= self.seconds <= self.high:
            raise InvalidInputError(
                f"A measurement needs 0 <= low <= seconds <= high, got {self.low!r}, {self.seconds!r}, {self.high!r}."
            )
        if not 0.0 < self.confidence < 1.0:
            raise InvalidInputError(f"A confidence is a share in (0, 1), got {self.confidence!r}.")
        if self.precision is not None and not self.precision > 0.0:
            raise InvalidInputError(f"A precision is a relative half width above 0, got {self.precision!r}.")
        if len(self.samples) != len(self.processes):
            raise InvalidInputError(f"{len(self.processes)} processes need as many counts, got {len(self.samples)}.")

    @property
    def value(self) -> float:
        """The seconds, as of anything that is measured."""
        return self.seconds

    @property
    def device(self) -> Device:
        """Where it was measured."""
        return self.conditions.device

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to `seconds`."""
        return (self.high - self.low) / 2 / self.seconds if self.seconds else math.inf

    @property
    def is_precise(self) -> bool:
        """Whether the precision that was asked for was reached."""
        return self.precision is None or self.half_width <= self.precision

    def verdict(self, limit: float) -> Verdict:
        """Whether the network meets `seconds <= limit`: "met" only where the whole interval does.

        Args:
            limit: In seconds.

        Returns:
            "met" (the interval lies at or below the limit), "missed" (it lies above), or "undecided" (it holds it).
        """
        if self.high <= limit:
            return "met"
        return "missed" if self.low > limit else "undecided"

    @property
    def text(self) -> str:
        """For people: "2.31 ms (95 % interval 2.28 ms to 2.35 ms; 5 processes, 1,000 runs) on cpu: ONNX Runtime …"."""
        parts = [f"{self.confidence:.0%}".replace("%", " %") + " interval"]
        parts += [f"{format_seconds(self.low)} to {format_seconds(self.high)}"]
        counts = f"{len(self.processes)} processes, {sum(self.samples):,} runs" if self.processes else "no processes"
        return f"{format_seconds(self.seconds)} ({' '.join(parts)}; {counts}) on {self.device.name}: {self.device.text}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"version": VERSION, **dataclasses.asdict(self), "conditions": self.conditions.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Read what `to_dict` gave.

        Raises:
            InvalidInputError: another version, or fields that are missing or unknown.
        """
        given = dict(data)
        version = given.pop("version", None)
        if version != VERSION:
            raise InvalidInputError(f"A measurement of version {version!r} cannot be read; this one reads {VERSION}.")
        try:
            given["conditions"] = Conditions.from_dict(given["conditions"])
            for name in ("processes", "samples", "warnings"):
                given[name] = tuple(given.get(name, ()))
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A measurement cannot be read: {error!r} in {data!r}.") from error
