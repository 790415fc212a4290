"""The finalists of a search, measured on their devices; the model of the latency corrected with what was measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import fsum
from statistics import median

from nasturtium.errors import InvalidInputError
from nasturtium.graph import Graph
from nasturtium.hardware.latency import LatencyModel, Measured
from nasturtium.hardware.measurement import Measurement
from nasturtium.hardware.micro_file import memory_of
from nasturtium.space import Architecture
from nasturtium.study import events
from nasturtium.study.device_costs import CheapOnDevices
from nasturtium.study.evidence import CORRECTED, MEASURED, STEPPED, UNPROVED, Evidences, Key, is_memory, with_metrics
from nasturtium.study.fronts import best_first, layers, on
from nasturtium.study.memory_proof import Files
from nasturtium.study.on_device import OnDevices, asked_of, input_of
from nasturtium.study.store import Store
from nasturtium.study.verify_options import Verify
from nasturtium.trial import Constraint, Objective, Trial, excess, of_device

REFERENCE = "reference"
ROLE = "verify"
"""In events of a search: measuring finalists."""
Z = 1.96
"""Half widths of a 95 % interval in standard deviations."""
BATCH = 4
"""Networks that share their processes; also what is measured again after a kill."""


@dataclass(slots=True, kw_only=True)
class Verifier:
    """Measures finalists and corrects models; all that it learns is in the study's log, so it goes on from there."""

    store: Store
    cheap: CheapOnDevices
    base: OnDevices
    """As the search was given them, not corrected."""
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    verify: Verify
    files: Files
    """Proves the memory of finalists."""
    emit: Callable[[events.Event], None] = lambda _: None
    _before: int = 0
    """Events of the log whose measurements do not count in the time that measuring may take."""
    _raw: dict[tuple[str, str], float | None] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The latencies and memories that the search's wishes name: what finalists are measured for."""
        wanted = {o.metric for o in self.objectives} | {c.metric for c in self.constraints}
        return tuple(name for name in self.base.verifiable if name in wanted)

    @property
    def corrects(self) -> bool:
        """Whether a search can go on with a corrected model."""
        if any(map(is_memory, self.names)) and not self.files.obstacle:
            return True
        return any(self.base.model_of(name) is not None for name in self.names)

    def settle(self) -> Evidences:
        """Let the cheap metrics be those of the models as last corrected by the search; what was known by then."""
        log = self.store.events()
        last = max((i for i, (_, kind, _) in enumerate(log) if kind == STEPPED), default=-1)
        known = Evidences(log[: last + 1])
        self.cheap.renew(self._corrected(known))
        return known

    def stepped(self, role: str, until: int) -> bool:
        """Whether the finalists of a run's first `until` trials were measured: that part is done, also after a kill."""
        steps = Evidences(self.store.events()).steps
        return any(step["role"] == role and step.get("until", step["trials"]) >= until for step in steps)

    def step(self, role: str, until: int) -> None:
        """Measure the finalists of a run as it is now, correct the models, log both; nothing where it was done.

        Args:
            role: Of the run.
            until: Trials after which it paused. The log holds it, or how many there are where the run ended before.
        """
        trials = self._trials()
        count = len(trials.get(role, ()))
        found = Evidences(self.store.events())
        if not count or not self.names or any((s["role"], s["trials"]) == (role, count) for s in found.steps):
            return
        for name in self.names:
            log = [d for _, kind, d in self.store.events() if kind == MEASURED]
            done = sum((d["role"], d["metric"], d["trials"]) == (role, name, count) for d in log)
            self._measure_finalists(role, name, count, done)
        after = Evidences(self.store.events())
        if any(after.stale(name) for name in self.names):  # one of several may have been logged before a kill
            self._log_corrections(after)
        finished = sum(len(self.store.trials(run.id)) for run in self.store.runs() if run.role == role)
        self.store.add_event(STEPPED, {"role": role, "trials": count, "until": min(until, finished)})
        self.emit(events.RunFinished(role=ROLE, status="finished", reason=self._said(role)))

    def more(self, role: str) -> None:
        """Measure finalists of a run that were not measured yet, at any time: a search that goes on does not know."""
        count, self._before = len(self._trials().get(role, ())), len(self.store.events())
        for name in self.names if count else ():
            self._measure_finalists(role, name, None, 0)
        if count:
            self._log_corrections(Evidences(self.store.events()))

    def measure(self, role: str, numbers: Iterable[int], names: Sequence[str] = ()) -> None:
        """Measure given trials again, whatever is known of them.

        Args:
            role: Of the run.
            numbers: Of trials that completed.
            names: Latencies; all that the search names, by default.
        """
        known = {t.number: t for t in self._trials().get(role, ())}
        chosen, asked = list(numbers), list(names or self.names)
        memories = [name for name in asked if is_memory(name)]
        if memories and (obstacle := self.files.obstacle):
            for name in memories:
                self.store.add_event(UNPROVED, {"metric": name, "reason": obstacle})
            memories = []
        try:
            for name in [name for name in asked if not is_memory(name)] + memories[:1]:  # one file says all memories
                for start in range(0, len(chosen), BATCH):
                    self._measure(role, name, [known[n] for n in chosen[start : start + BATCH]], None)
        finally:  # what was measured counts, whatever stopped the rest
            self._log_corrections(Evidences(self.store.events()))

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _measure_finalists(self, role: str, name: str, count: int | None, done: int) -> None:
        left = self.verify.finalists - done
        announced = False
        if is_memory(name) and (obstacle := self.files.obstacle):
            self.store.add_event(UNPROVED, {"metric": name, "reason": obstacle})
            return
        while left > 0 and self._in_time(role):
            found = Evidences(self.store.events())
            models = self._corrected(found)
            chosen = self._chosen(role, name, found, models, min(1 if is_memory(name) else BATCH, left))
            if not chosen:
                return
            if not announced:
                self.emit(events.RunStarted(role=ROLE, trials=self.verify.finalists, finished=done))
                announced = True
            self._measure(role, name, chosen, count, models, before=self.verify.finalists - left)
            left -= len(chosen)

    def _in_time(self, role: str) -> bool:
        if self.verify.seconds is None:
            return True
        log = self.store.events()[self._before :]
        return fsum(d["took"] for _, kind, d in log if kind == MEASURED and d["role"] == role) < self.verify.seconds

    def _chosen(self, role: str, name: str, found: Evidences, models: OnDevices, most: int) -> list[Trial]:
        """What to measure next: what would stand on a front, first by prediction, then within the model's error."""
        trials = [self._believed(role, t, found, models) for t in self._trials().get(role, ())]
        new = [t for t in trials if name not in found.of(role, t.number)]
        if role == REFERENCE:
            return new[:most]
        numbers = {t.number for t in new}
        first: list[Trial] = []
        behind: list[Trial] = []
        for near in (False, True):
            for asked in (None, of_device(name)):
                wishes, limits = on(asked, self.objectives), on(asked, self.constraints)
                pool = [t for t in trials if self._may_meet(role, t, limits, found, models, near=near)]
                for depth, layer in enumerate(layers(pool, wishes)):
                    (behind if depth else first).extend(best_first([t for t in layer if t.number in numbers], wishes))
        if not first:
            return []  # what stands on the fronts is measured, so what lies behind need not be
        if any(c.metric == name for c in self.constraints):
            first += behind  # they stand there if the first ones miss, and the model learns from them
        return list({t.number: t for t in first}.values())[:most]

    def _believed(self, role: str, trial: Trial, found: Evidences, models: OnDevices) -> Trial:
        """A trial with the latest that is known of its latencies."""
        new = found.renewed(role, trial)
        known = found.of(role, trial.number)
        said = {name: self._predicted(name, new, models) for name in self.names if name not in known}
        return with_metrics(new, {name: value for name, value in said.items() if value is not None})

    def _may_meet(
        self, role: str, trial: Trial, limits: Iterable[Constraint], found: Evidences, models: OnDevices, *, near: bool
    ) -> bool:
        """Whether a trial meets limits: by what was measured, else by prediction, or by the best of its interval."""
        known, limits = found.of(role, trial.number), tuple(limits)
        slack = {} if near else found.slack(role, limits)
        for constraint in limits:
            evidence = known.get(constraint.metric)
            if evidence is not None:
                if evidence.verdict(constraint) != "met":
                    return False
                continue
            value = trial.metrics.get(constraint.metric, math.nan) * (1 + slack.get(constraint.metric, 0.0))
            if excess(value, constraint) and not (
                near and constraint.metric in self.names and self._reaches(trial, constraint, models)
            ):
                return False
        return True

    def _reaches(self, trial: Trial, constraint: Constraint, models: OnDevices) -> bool:
        """Whether the model's interval reaches the limit."""
        model = models.model_of(constraint.metric)
        if model is None:
            return False
        try:
            said = model.predict(self._input(model, trial.architecture))  # type: ignore[arg-type]
        except InvalidInputError:
            return False
        return not excess(said.low if constraint.relation == "<=" else said.high, constraint)

    def _predicted(self, name: str, trial: Trial, models: OnDevices) -> float | None:
        if is_memory(name):
            raw = self._memory(name, trial.architecture)
            return None if raw is None else raw + models.shifts.get(name, 0.0)
        model = models.model_of(name)
        if model is None:
            return trial.metrics.get(name)
        try:
            return model.predict(self._input(model, trial.architecture)).seconds  # type: ignore[arg-type]
        except InvalidInputError:
            return None  # a hand-designed network with what the space has not

    def _memory(self, name: str, architecture: Architecture) -> float | None:
        """What the graph alone says of a memory, remembered; None of a network that the runtime cannot run."""
        key = (name, architecture.key)
        if key not in self._raw:
            try:
                self._raw[key] = self.base.value(name, architecture, self.cheap.graph(architecture))
            except InvalidInputError:
                self._raw[key] = None
        return self._raw[key]

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _measure(
        self,
        role: str,
        name: str,
        trials: Sequence[Trial],
        count: int | None,
        models: OnDevices | None = None,
        before: int = 0,
    ) -> None:
        models = models or self._corrected(Evidences(self.store.events()))
        if is_memory(name):
            for trial in trials:
                self._write(role, name, trial, count, models, before)
            return
        from nasturtium.hardware import measuring  # noqa: PLC0415  (loads torch)

        device, model = self.base.device_of(name), models.model_of(name)
        plan = measuring.Plan(
            precision=self.verify.precision, processes=self.verify.processes,
            reference=self.base.references.get(device.name),
        )  # fmt: skip
        said = [self._predicted(name, trial, models) for trial in trials]
        started = time.monotonic()
        made = measuring.measure_all([self.cheap.graph(t.architecture) for t in trials], device, plan=plan)
        took = (time.monotonic() - started) / len(trials)
        for i, (trial, predicted, measurement) in enumerate(zip(trials, said, made, strict=True)):
            self.store.add_event(
                MEASURED,
                {
                    "role": role, "number": trial.number, "metric": name, "trials": count, "predicted": predicted,
                    "source": "its trial's measurement" if model is None else model.source, "took": took,
                    "measurement": measurement.to_dict(),
                },
            )  # fmt: skip
            report = {name: measurement.seconds, "low": measurement.low, "high": measurement.high}
            self.emit(events.EpochReported(role=ROLE, number=trial.number, step=before + i + 1, report=report))

    def _write(self, role: str, name: str, trial: Trial, count: int | None, models: OnDevices, before: int) -> None:
        """Write a network's file, allocate it, and log all memories that are asked for."""
        known = Evidences(self.store.events()).of(role, trial.number)
        started = time.monotonic()
        found, reason, trained = self.files.measure(self.cheap.graph(trial.architecture), role, trial.number)
        took, report = time.monotonic() - started, {}
        for each in [n for n in self.names if is_memory(n) and (n == name or n not in known or name in known)]:
            device = self.base.device_of(each)
            measured = None if found is None else memory_of(found, asked_of(each).kind, device, trained=trained)
            self.store.add_event(
                MEASURED,
                {
                    "role": role, "number": trial.number, "metric": each, "trials": count,
                    "predicted": self._predicted(each, trial, models), "source": models.source(each),
                    "took": took if each == name else 0.0, "reason": reason,
                    "measurement": None if measured is None else measured.to_dict(),
                },
            )  # fmt: skip
            if measured is not None:
                report[each] = measured.value
        self.emit(events.EpochReported(role=ROLE, number=trial.number, step=before + 1, report=report))

    # -- correcting --------------------------------------------------------------------------------------------------

    def _corrected(self, found: Evidences) -> OnDevices:
        """The devices with models that know what was measured."""
        models: dict[str, LatencyModel | None] = {}
        shifts: dict[str, float] = {}
        files: dict[str, int] = {}
        networks = self._networks() if found.log else {}
        for name in self.names:
            if is_memory(name):
                raw = [(m.value, self._memory(name, networks[key])) for n, key, m in found.log if n == name]
                off = [bytes_ - said for bytes_, said in raw if said is not None]
                if off:
                    shifts[name], files[name] = float(median(off)), len(off)
                continue
            model = self.base.model_of(name)
            if model is None:
                continue
            rows = [
                Measured(self._input(model, networks[key]), m.seconds, m.half_width / Z, m.conditions.started)
                for measured, key, m in found.log
                if measured == name and isinstance(m, Measurement) and found.predictable(name, key)
            ]
            models[self.base.device_of(name).name] = model.corrected(rows) if rows else model
        return self.base.with_models(models, shifts, files)

    def _log_corrections(self, found: Evidences) -> None:
        devices = self._corrected(found)
        for name in self.names:
            model = devices.model_of(name)
            if (model is None and not is_memory(name)) or not any(measured == name for measured, _, _ in found.log):
                continue
            said = {
                role: {str(t.number): v for t in trials if (v := self._predicted(name, t, devices)) is not None}
                for role, trials in self._trials().items()
            }
            detail = {
                "metric": name,
                "error": None if model is None or model.error is None else model.error.text,
                "near": None if (near := getattr(model, "error_near", None)) is None else near.text,
                "source": devices.source(name) if model is None else model.source,
            }
            self.store.add_event(CORRECTED, detail | {"networks": len(found.log), "predictions": said})

    def _trials(self) -> dict[str, list[Trial]]:
        """Completed trials at full fidelity, by run."""
        return {
            run.role: [
                logged.trial
                for logged in self.store.trials(run.id)
                if logged.trial.state == "completed" and logged.trial.fidelity.is_full
            ]
            for run in self.store.runs()
        }

    def _networks(self) -> dict[Key, Architecture]:
        return {(role, t.number): t.architecture for role, trials in self._trials().items() for t in trials}

    def _input(self, model: LatencyModel, architecture: Architecture) -> Graph | Architecture:
        return input_of(model, architecture, self.cheap.graph(architecture))

    def _said(self, role: str) -> str:
        found = Evidences(self.store.events())
        return " ".join(found.sentence(name, role, self.constraints) for name in self.names)
