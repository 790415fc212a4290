"""What a report shows, as plain values: collected once from a study, drawn by the other modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["search", "random", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One trained network."""

    label: str
    role: Role
    number: int
    metrics: Mapping[str, float]
    choices: Mapping[str, str] = field(default_factory=dict)
    """Chosen options as text, by decision name."""
    feasible: bool = True
    front: bool = False
    drawing: str = ""
    """SVG of the network, for members of the front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A metric as an axis: its name, title, and whether more is better."""

    metric: str
    title: str
    maximize: bool
    percent: bool = False
    limits: tuple[tuple[str, float], ...] = ()
    """Constraint lines: ("<=", value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A network that was measured on a device."""

    number: int
    quality: float | None
    metric: str
    """Such as "latency(cpu)"."""
    measured: str
    """With its interval, as people read it."""
    predicted: str
    verdicts: tuple[tuple[str, str], ...]
    """(limit, "met", "missed", "not shown" or "not proved")."""
    conditions: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report shows."""

    title: str
    headline: str
    """One or two sentences for a person in a hurry."""
    verdict: str
    """The comparison with random search, stated plainly."""
    quality: Axis
    costs: tuple[Axis, ...]
    points: tuple[Point, ...]
    hypervolume: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Hypervolume after each trial, by role; empty for a single objective."""
    tiles: tuple[tuple[str, str], ...] = ()
    """(caption, value) of the head line."""
    facts: tuple[tuple[str, str], ...] = ()
    finalists: tuple[Finalist, ...] = ()
    """What was measured on devices, the best quality first."""
    on_devices: str = ""
    """What is known of latencies, in words."""
    front_rests_on: str = ""
    """What stands behind the limits on devices that the front keeps to, in words; empty without such limits."""
    failures: tuple[tuple[int, str, str], ...] = ()
    """(number, kind, first line of the error)."""

    def of(self, role: Role) -> tuple[Point, ...]:
        """Points of one role, in order of their trials."""
        return tuple(p for p in self.points if p.role == role)

    @property
    def front(self) -> tuple[Point, ...]:
        """Members of the front, the best quality first."""
        sign = -1 if self.quality.maximize else 1
        members = [p for p in self.points if p.front]
        return tuple(sorted(members, key=lambda p: sign * p.metrics[self.quality.metric]))
