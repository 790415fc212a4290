"""What was measured of a study's networks on their devices, read from its log; and what that shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from nasturtium.hardware.measurement import Measurement
from nasturtium.hardware.micro_file import ALONE, MemoryMeasurement
from nasturtium.trial import Constraint, Trial, excess, format_constraint, format_seconds, metric

MEASURED = "measured"
"""Kind of the event that holds one measurement of one network."""
CORRECTED = "corrected"
"""Kind of the event that holds what the corrected model says of all networks."""
STEPPED = "finalists measured"
"""Kind of the event that ends a round of measuring."""
UNPROVED = "not proved"
"""Kind of the event that says why no memory can be proved on this machine."""
DEVICES = "devices"
"""Kind of the event that holds the devices and their models, as the search was given them."""

Verdict = Literal["met", "missed", "not shown", "not measured", "not proved"]
"""Of a limit: the whole interval meets it; misses it; the limit lies inside; there is no measurement.

"not proved" is said of a memory: there is no int8 file of the network that was allocated.
"""

Key = tuple[str, int]
"""Role and number of a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One metric of one network on its device: measured, with what was predicted beside."""

    metric: str
    """Such as "latency(cpu)"."""
    measurement: Measurement | MemoryMeasurement | None
    """The last one; None where it was not measured."""
    predicted: float | None
    """What the model said before this network was measured, or what its trial measured."""
    source: str = ""
    """Where `predicted` comes from, in words."""
    attempts: int = 1
    """Measurements so far; all are in the log."""
    reason: str = ""
    """Why a memory is not proved: the network has no file."""

    def verdict(self, constraint: Constraint) -> Verdict:
        """Whether the network is shown to meet a limit: only where the whole 95 % interval does."""
        if self.measurement is None:
            return without(self.metric)
        low, high = self.measurement.low, self.measurement.high
        best, worst = (low, high) if constraint.relation == "<=" else (high, low)
        if not excess(worst, constraint):
            return "met"
        return "missed" if excess(best, constraint) else "not shown"

    @property
    def text(self) -> str:
        """For people: "2.31 ms (2.28 ms to 2.35 ms), predicted 2.2 ms"."""
        show = metric(self.metric).format
        before = "" if self.predicted is None else f"predicted {show(self.predicted)}"
        if self.measurement is None:
            said = ": ".join(text for text in (without(self.metric), self.reason) if text)
            return f"{before or 'unknown'}, {said}"
        return f"{self.measured_text}{', ' if before else ''}{before}"

    @property
    def measured_text(self) -> str:
        """What was measured, for people, with its interval: "2.31 ms (2.28 ms to 2.35 ms)", or "16,384 B" exactly."""
        m, show = self.measurement, metric(self.metric).format
        if m is None:
            return without(self.metric)
        if isinstance(m, MemoryMeasurement):
            return f"{m.bytes:,} B"
        return f"{show(m.seconds)} ({show(m.low)} to {show(m.high)})"


class Evidences:
    """All measurements of a study, and what corrected models say.

    Args:
        events: Of the study: (time, kind, detail), in order.
    """

    def __init__(self, events: Sequence[tuple[float, str, Mapping[str, Any]]]) -> None:
        self.devices: Mapping[str, Any] | None = None
        self._found: dict[str, dict[Key, Evidence]] = {}
        self._corrected: dict[str, dict[Key, float]] = {}
        self.corrections: dict[str, Mapping[str, Any]] = {}
        self.steps: list[Mapping[str, Any]] = []
        self.settled: dict[str, int] = {}
        """Measurements of a metric that its last correction knew."""
        self.log: list[tuple[str, Key, Measurement | MemoryMeasurement]] = []
        self.unproved: dict[str, str] = {}
        """Why a memory could not be proved when finalists were measured, by metric."""
        for _, kind, detail in events:
            if kind == MEASURED:
                self._measured(detail)
            elif kind == CORRECTED:
                self.corrections[detail["metric"]] = detail
                self._corrected[detail["metric"]] = {
                    (role, int(number)): value
                    for role, values in detail["predictions"].items()
                    for number, value in values.items()
                }
                self.settled[detail["metric"]] = self._logged(detail["metric"])
            elif kind == STEPPED:
                self.steps.append(detail)
            elif kind == UNPROVED:
                self.unproved[detail["metric"]] = detail["reason"]
            elif kind == DEVICES:
                self.devices = detail

    def _measured(self, detail: Mapping[str, Any]) -> None:
        name, key = detail["metric"], (detail["role"], int(detail["number"]))
        measurement = read_measurement(detail["measurement"])
        before = self._found.setdefault(name, {}).get(key)
        self._found[name][key] = Evidence(
            metric=name, measurement=measurement,
            predicted=detail["predicted"] if before is None else before.predicted,
            source=detail["source"] if before is None else before.source,
            attempts=1 if before is None else before.attempts + 1, reason=detail.get("reason", ""),
        )  # fmt: skip
        self.unproved.pop(name, None)
        if measurement is not None:
            self.log.append((name, key, measurement))

    def _logged(self, name: str) -> int:
        return sum(measured == name for measured, _, _ in self.log)

    def stale(self, name: str) -> bool:
        """Whether a metric was measured since its last correction, or was never corrected by what was measured."""
        return self._logged(name) > self.settled.get(name, 0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The latencies and memories that a study's finalists are measured for, measured or not yet."""
        names = (self.devices or {}).get("names", ())
        return tuple(name for name in names if name.startswith(("latency(", *MEMORIES)))

    @property
    def modelled(self) -> tuple[str, ...]:
        """Those of them that a model predicts; the others are measured, briefly, in every trial."""
        models = (self.devices or {}).get("models", {})
        return tuple(n for n in self.metrics if is_memory(n) or models.get(n[len("latency(") : -1]) is not None)

    def predicted(self, role: str, number: int) -> tuple[str, ...]:
        """What of a trial was not measured, or could not be, as it has no file: what is known of it is a model's."""
        known = self.of(role, number)
        return tuple(name for name in self.modelled if name not in known or known[name].measurement is None)

    def measured(self, name: str, role: str | None = None) -> bool:
        """Whether any network of the study, or of one of its runs, was measured for a metric."""
        return any(role in (None, key[0]) for key in self._found.get(name, ()))

    def source(self, name: str) -> str:
        """Where a prediction of a metric comes from, in words: for a memory, as its model was last corrected."""
        if is_memory(name) and name in self.corrections:
            return str(self.corrections[name]["source"])
        return str((self.devices or {}).get("sources", {}).get(name, ""))

    def of(self, role: str, number: int) -> dict[str, Evidence]:
        """What was measured of a trial, by metric."""
        key = (role, number)
        return {name: found[key] for name, found in self._found.items() if key in found}

    def renewed(self, role: str, trial: Trial) -> Trial:
        """A trial whose latencies are those that were measured, or else those of the corrected model."""
        key, changed = (role, trial.number), {}
        for name in trial.metrics:
            if (found := self._found.get(name, {}).get(key)) is not None and found.measurement is not None:
                changed[name] = found.measurement.value
            elif key in self._corrected.get(name, {}):
                changed[name] = self._corrected[name][key]
        for name, all_found in self._found.items():  # of a network that the model could not predict
            if name not in trial.metrics and key in all_found and trial.state == "completed":
                measurement = all_found[key].measurement
                if measurement is not None:
                    changed[name] = measurement.value
        return with_metrics(trial, changed)

    def predictable(self, name: str, key: Key) -> bool:
        """Whether a model could say something of a network that was measured, so that it can be corrected with it."""
        return self._found[name][key].predicted is not None

    def sentence(self, name: str, role: str, constraints: Sequence[Constraint]) -> str:
        """What is known of a latency in a run, for people: how many finalists met a limit, missed it, or neither."""
        found = [e for key, e in self._found.get(name, {}).items() if key[0] == role]
        source = self.source(name) or "a model"
        if not found and is_memory(name):
            why = self.unproved.get(name, "no finalist's int8 file was written and allocated")
            return f"`{name}` is {source}. No network is proved to fit: {why}."
        if not found:
            return f"`{name}` is from {source}; no finalist was measured, so none is shown to meet a limit on it."
        known = self.corrections.get(name, {})
        near, error = known.get("near"), known.get("error")
        tail = f" The model, corrected with them, on its held-out networks: {error}." if error else ""
        tail = f" The model, corrected with them: {near}." if near else tail  # they are where the search is
        counts = []
        for limit in [c for c in constraints if c.metric == name]:
            verdicts = [e.verdict(limit) for e in found]
            known_verdicts = ("met", "missed", "not shown", "not proved")
            said = ", ".join(f"{verdicts.count(v)} {v}" for v in known_verdicts if v in verdicts)
            counts.append(f"{format_constraint(limit)}: {said}")
        limits = f" ({'; '.join(counts)})" if counts else ""
        if is_memory(name):
            said = _of_files(name, found, limits, source)
            return f"{said} No more were written: {self.unproved[name]}." if name in self.unproved else said
        return f"{len(found)} finalists were measured for `{name}`{limits}; values of others are from {source}.{tail}"

    def unmeasured(self, name: str, role: str, front: Sequence[int]) -> str:
        """That networks on a front were not measured, though others of the run were, for people; or nothing.

        Args:
            name: Of a latency.
            role: Of the run.
            front: Numbers of its trials.
        """
        count = sum(name in self.predicted(role, number) for number in front)
        if not count or not self.measured(name, role):
            return ""
        return (
            f"`{name}` of {count} of the {len(front)} networks on the front is a prediction: their place there, and "
            "the hypervolume, rest on the model. `nasturtium verify` measures them."
        )

    def slack(self, role: str, constraints: Sequence[Constraint]) -> dict[str, float]:
        """The share by which a latency should be below its limit for the next finalists to show that they meet it.

        Where finalists of a run were measured and none is shown to meet a limit, those that are predicted right at the
        limit will hardly be: their intervals hold it. So it is the median half width of the intervals so far, negative
        for a limit from below. Empty where one met it, or none was measured.
        """
        found: dict[str, float] = {}
        for limit in constraints:
            own = [e for key, e in self._found.get(limit.metric, {}).items() if key[0] == role]
            widths = [e.measurement.half_width for e in own if isinstance(e.measurement, Measurement)]
            if widths and not any(e.verdict(limit) == "met" for e in own):
                width = median(widths)
                found[limit.metric] = width if limit.relation == "<=" else -width
        return found

    def shown(self, role: str, trial: Trial, constraints: Sequence[Constraint]) -> bool:
        """Whether a trial meets the limits on what was measured in the study: each with its whole interval.

        What was measured in one run is asked of all: otherwise a run of predictions would beat one of proofs.
        """
        found = self.of(role, trial.number)
        for constraint in constraints:
            if not self.measured(constraint.metric):
                continue
            evidence = found.get(constraint.metric)
            if evidence is None or evidence.verdict(constraint) != "met":
                return False
        return True


MEMORIES = ("sram(", "flash(")


def is_memory(name: str) -> bool:
    """Whether a metric is a memory of a microcontroller."""
    return name.startswith(MEMORIES)


def without(name: str) -> Verdict:
    """The verdict of a limit on a metric of which there is no measurement."""
    return "not proved" if is_memory(name) else "not measured"


def read_measurement(data: Mapping[str, Any] | None) -> Measurement | MemoryMeasurement | None:
    """What was measured, from plain JSON; None where it could not be."""
    if data is None:
        return None
    return MemoryMeasurement.from_dict(data) if "bytes" in data else Measurement.from_dict(data)


def _of_files(name: str, found: Sequence[Evidence], limits: str, source: str) -> str:
    """What the files of finalists show of a memory, for people."""
    without_file = [e for e in found if e.measurement is None]
    lost = f" {len(without_file)} more have none: {without_file[-1].reason}" if without_file else ""
    compared = f" Compared with the limit is {ALONE[name.partition('(')[0]]}." if limits else ""
    return (
        f"The int8 files of {len(found) - len(without_file)} finalists were written and allocated for "
        f"`{name}`{limits}; values of others are {source}.{compared}{lost}"
    )


def conditions_of(measurement: Measurement | MemoryMeasurement) -> dict[str, str]:
    """Under which conditions something was measured, for people."""
    if isinstance(measurement, MemoryMeasurement):
        return dict(measurement.facts)
    c = measurement.conditions
    facts = {
        "measured on": f"{measurement.device.name}, {measurement.device.text}",
        "machine": c.machine,
        "how": f"{sum(measurement.samples):,} runs in {len(measurement.processes)} fresh processes, {c.clock} time",
        "when": c.started,
        "load": "" if c.load is None else f"{c.load:.1f}",
        "versions": ", ".join(f"{name} {version}" for name, version in c.versions),
    }
    if c.wall is not None:
        facts["wall clock"] = f"{format_seconds(c.wall)} (median)"
    if c.reference is not None:
        facts["stated for"] = f"the speed at which the reference kernel takes {format_seconds(c.reference)}"
    return {name: text for name, text in facts.items() if text}


def with_metrics(trial: Trial, changed: Mapping[str, float]) -> Trial:
    """A trial with some metrics replaced."""
    return replace(trial, metrics={**trial.metrics, **changed}) if changed else trial
