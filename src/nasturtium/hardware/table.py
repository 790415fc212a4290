"""Latency as a sum over kernels that were each measured once."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from nasturtium.errors import InvalidInputError
from nasturtium.graph.graph import Graph
from nasturtium.hardware.additive import AdditiveFit, Sum, fit_additive
from nasturtium.hardware.correction import Correction, Finalist, fit_correction, left_out
from nasturtium.hardware.device import Device
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.latency import Measured, Prediction, check_measured
from nasturtium.hardware.report import ErrorReport, conformal_radius, error_report
from nasturtium.hardware.table_cost import TableCost

VERSION = 1
CONFIDENCE = 0.95
FEW = 2
"""Finalists below which none can be judged by the others."""


class Row(NamedTuple):
    """A whole network that was measured."""

    kernels: Sum
    seconds: float
    graph: str = ""
    """Canonical hash of its graph, which tells networks apart; empty where nobody said."""
    noise: float = 0.0
    """As of `Measured`."""
    batch: str = ""
    """As of `Measured`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        sums = {"sums": dict(self.kernels.seconds), "launches": self.kernels.launches}
        noise = {"noise": self.noise, "batch": self.batch} if self.noise or self.batch else {}
        return {**sums, "seconds": self.seconds, "graph": self.graph, **noise}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Inverse of `to_dict`."""
        sums = Sum(dict(data["sums"]), int(data["launches"]))
        noise = (float(data.get("noise", 0.0)), data.get("batch", ""))
        return cls(sums, float(data["seconds"]), data.get("graph", ""), *noise)


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """A table of kernels on one device, and how they add up to whole networks.

    It predicts only once its error on held-out networks is known, unless it is told to (`unchecked()`).
    """

    device: Device
    seconds: Mapping[Kernel, float]
    """Median time of each kernel alone."""
    fitted: tuple[Row, ...] = ()
    """Whole networks that the constant and the slopes are fitted on."""
    held_out: tuple[Row, ...] = ()
    """Whole networks that its error is measured with, but for those that it was fitted or corrected with: see `unseen`.
    """
    recent: tuple[Row, ...] = ()
    """Finalists of searches that correct it: see `corrected`."""
    source: str = "a table of kernels"
    is_trusted: bool = False
    """Whether it predicts without an error report."""
    coverage: str = ""
    """Which kernels of its space it has, in words."""
    confidence: float = field(default=CONFIDENCE)
    """Of its intervals."""
    reference: float | None = None
    """Seconds of the reference kernel that its times are stated for (`measuring.Plan`); None where nobody said."""
    machine: str = ""
    """The processor that it was measured on; empty where nobody said."""
    versions: tuple[tuple[str, str], ...] = ()
    """Of Python and the runtime's packages, sorted by name."""

    def __post_init__(self) -> None:
        wrong = [k for k, s in self.seconds.items() if not (math.isfinite(s) and s >= 0)]
        if wrong:
            raise InvalidInputError(
                f"A kernel takes a finite time of at least 0 s, got {self.seconds[wrong[0]]!r} for {wrong[0].text}."
            )

    @cached_property
    def profiled(self) -> AdditiveFit:
        """How the kernels add up, by the networks of the profile alone."""
        return fit_additive([row.kernels for row in self.fitted], [row.seconds for row in self.fitted])

    @cached_property
    def correction(self) -> Correction:
        """What the finalists change of that."""
        return fit_correction(self._finalists, self._known)

    @cached_property
    def fit(self) -> AdditiveFit:
        """How the kernels add up, corrected."""
        return self.profiled.scaled(self.correction.factor)

    @cached_property
    def unseen(self) -> tuple[Row, ...]:
        """The held-out networks that it was neither fitted nor corrected with."""
        seen = {row.graph for row in (*self.fitted, *self.recent) if row.graph}
        return tuple([row for row in self.held_out if row.graph not in seen])

    @cached_property
    def error(self) -> ErrorReport | None:
        """Errors on the unseen networks, by the present fit; None where there are none.

        They are of the whole space: after a correction see `error_near` too.
        """
        if not self.unseen:
            return None
        guesses = [self.fit(row.kernels) for row in self.unseen]
        return error_report(guesses, [row.seconds for row in self.unseen], training=len(self.fitted))

    @cached_property
    def error_near(self) -> ErrorReport | None:
        """Errors on the finalists, each corrected by the others; None for fewer than two."""
        seconds = [each.measured for each in self._finalists]
        if len(seconds) < FEW:
            return None
        found = left_out(self._finalists, self._known)
        return error_report(found, seconds, training=len(self.fitted), how="finalists, each left out in turn")

    @cached_property
    def radius(self) -> float:
        """Half width of the intervals, relative to the prediction; infinite for too few networks.

        Of the unseen networks and the finalists, by the present fit, these each left out: where a correction suits
        the finalists and no others, it is wide.
        """
        relative = [abs(row.seconds / self.fit(row.kernels) - 1) for row in self.unseen]
        if len(self._finalists) >= FEW:
            found = left_out(self._finalists, self._known)
            relative += [abs(each.measured / g - 1) for each, g in zip(self._finalists, found, strict=True)]
        return conformal_radius(relative, self.confidence)

    @cached_property
    def _known(self) -> float | None:
        """Root mean squared relative error before any correction; None where nothing was held out."""
        seen = {row.graph for row in self.fitted if row.graph}
        rows = [row for row in self.held_out if row.graph not in seen]
        if not rows:
            return None
        return error_report([self.profiled(row.kernels) for row in rows], [row.seconds for row in rows]).rmspe

    @cached_property
    def _finalists(self) -> list[Finalist]:
        """Predicted without a correction, and measured; a network that was measured again counts once."""
        found: dict[str, list[Row]] = {}
        for number, row in enumerate(self.recent):
            if self.profiled(row.kernels) > 0:
                found.setdefault(row.graph or str(number), []).append(row)
        return [
            Finalist(self.profiled(same[0].kernels), fmean([row.seconds for row in same]), last.noise, last.batch)
            for same in found.values()
            for last in same[-1:]
        ]

    def sums(self, graph: Graph) -> Sum:
        """What a network's kernels add up to.

        Raises:
            InvalidInputError: the table lacks some of them; the message names them.
        """
        return self.added(Counter(kernels(graph)))

    def added(self, counts: Mapping[Kernel, int]) -> Sum:
        """What kernels add up to, each as often as it runs.

        Raises:
            InvalidInputError: as of `sums`.
        """
        missing = [kernel for kernel in counts if kernel not in self.seconds]
        if missing:
            named = "; ".join([kernel.text for kernel in missing[:3]])
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InvalidInputError(
                f"The table of {self.device.name!r} ({self.source}) lacks {len(missing)} of the network's "
                f"{len(counts)} kernels: {named}{more}. Profile a space that has them "
                "(`nasturtium profile DEVICE SPACE`), with the same input and classes."
            )
        groups: dict[str, float] = {}
        for kernel, times in counts.items():
            groups[kernel.group] = groups.get(kernel.group, 0.0) + times * self.seconds[kernel]
        return Sum(groups, sum(counts.values()))

    def predict(self, graph: Graph) -> Prediction:
        """Latency of a network; see `LatencyModel.predict`."""
        self.check()
        value = max(self.fit(self.sums(graph)), 0.0)
        around = self.radius * value if value else math.inf
        return Prediction(
            seconds=value, low=max(value - around, 0.0), high=value + around, confidence=self.confidence,
            source=self.source,
        )  # fmt: skip

    def check(self) -> None:
        """Refuse to be used before the error is known.

        Raises:
            InvalidInputError: it is not, and the table was not told to go on.
        """
        if not self.held_out and not self.is_trusted:
            raise InvalidInputError(
                f"The table of {self.device.name!r} was never compared with whole networks, so nobody knows how far it "
                "is off. Finish `nasturtium profile`, which measures some, or take `table.unchecked()`."
            )

    def unchecked(self) -> LatencyTable:
        """The same table, which predicts without an error report."""
        return dataclasses.replace(self, is_trusted=True)

    def corrected(self, measurements: Sequence[Measured]) -> LatencyTable:
        """The table with a factor that some measured networks show it to be off by, finalists of a search say.

        A few among the many networks of the profile would hardly move the fit, but a search is where they are. So the
        fit of the profile stays, and all predictions are multiplied: see `correction.fit_correction`. The factor is
        right for networks like these, and no better than before for others.

        Networks that were held out and are shown to it now no longer count in `error` and the intervals: see `unseen`.

        Args:
            measurements: Graphs and their seconds.

        Raises:
            InvalidInputError: a time is not positive, or the table lacks a kernel.
        """
        rows = [
            Row(self.sums(one.network), one.seconds, one.network.canonical_hash, one.noise, one.batch)
            for one in check_measured(measurements)
        ]
        return dataclasses.replace(self, recent=(*self.recent, *rows))

    @property
    def cost(self) -> TableCost:
        """The expected latency of a supernet: give it as `cost` to DARTS, ProxylessNAS or `ExpectedCost`.

        Raises:
            InvalidInputError: as of `check`.
        """
        self.check()
        return TableCost(self.device.name, self.seconds, self.fit)

    @property
    def text(self) -> str:
        """A paragraph for people."""
        head = f"{len(self.seconds)} kernels on {self.device.name} ({self.device.text}); {self.source}"
        form = f"fit: {self.fit.form}, on {self.fit.networks} whole networks"
        if self.correction.networks:
            form += f"; times {self.correction.factor:.3f}, by {self.correction.networks} finalists"
        none = "all held-out networks corrected it" if self.held_out else "never compared with whole ones"
        error = none if self.error is None else self.error.text
        near = "" if self.error_near is None else f"\nnear them: {self.error_near.text}"
        return f"{head}\n{form}\nerror: {error}{near}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "type": "table",
            "version": VERSION,
            "device": self.device.to_dict(),
            "kernels": [{**k.to_dict(), "key": k.key, "seconds": s} for k, s in self.seconds.items()],
            "fitted": [row.to_dict() for row in self.fitted],
            "held_out": [row.to_dict() for row in self.held_out],
            **({"recent": [row.to_dict() for row in self.recent]} if self.recent else {}),
            "source": self.source,
            "is_trusted": self.is_trusted,
            "coverage": self.coverage,
            "confidence": self.confidence,
            "reference": self.reference,
            "machine": self.machine,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyTable:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: another type or version, or fields are missing.
        """
        if data.get("type") != "table" or data.get("version") != VERSION:
            raise InvalidInputError(
                f"A latency table of version {VERSION} was expected, got type {data.get('type')!r} of version "
                f"{data.get('version')!r}."
            )
        try:
            return cls(
                device=Device.from_dict(data["device"]),
                seconds={Kernel.from_dict(each): float(each["seconds"]) for each in data["kernels"]},
                fitted=tuple(map(Row.from_dict, data["fitted"])),
                held_out=tuple(map(Row.from_dict, data["held_out"])),
                recent=tuple(map(Row.from_dict, data.get("recent", ()))),
                source=data["source"],
                is_trusted=data["is_trusted"],
                coverage=data["coverage"],
                confidence=data["confidence"],
                reference=data.get("reference"),
                machine=data.get("machine", ""),
                versions=tuple(sorted(data.get("versions", {}).items())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(f"A latency table cannot be read: {error!r}.") from error
