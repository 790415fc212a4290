"""What a study holds, for reading: trials, the front, the best, the comparison with random search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nasturtium.errors import InvalidInputError, NasturtiumError, StoreError
from nasturtium.space import Architecture, Space
from nasturtium.study.arguments import stored_objectives
from nasturtium.study.checking import checked
from nasturtium.study.comparison import Comparison, Contender, compare, hypervolume_histories
from nasturtium.study.database import Location, locate
from nasturtium.study.evidence import Evidences
from nasturtium.study.fronts import on
from nasturtium.study.member import FrontMember, Member
from nasturtium.study.method import Learned, learned
from nasturtium.study.store import LoggedTrial, RunRecord, Store, StudyRecord
from nasturtium.trial import (
    Constraint,
    Objective,
    Trial,
    format_constraint,
    format_seconds,
    of_device,
    pareto_trials,
    violation,
)

if TYPE_CHECKING:
    from nasturtium.estimators import Tabular

__all__ = ["BASELINE", "REFERENCE", "SEARCH", "FrontMember", "Member", "Study", "StudyInterrupted"]

SEARCH, BASELINE, REFERENCE = "search", "baseline:random", "reference"


class StudyInterrupted(KeyboardInterrupt):
    """The search was stopped by Ctrl-C or SIGTERM. All that was finished is kept; the message says how to go on."""

    def __init__(self, location: Location) -> None:
        self.location = location
        super().__init__(
            f"Stopped. All finished trials are kept in {location.text!r}; run the same command again, or "
            f"`nasturtium resume {location.text}`, to go on as if nothing had happened."
        )

    @property
    def study(self) -> Study:
        """What is there so far."""
        return Study(self.location)


class Study:
    """A study for reading. Each property shows the state of the log when it was first read; see `refresh`.

    Example:
        >>> from nasturtium.study import Study
        >>> study = Study.open("runs/digits.db")  # doctest: +SKIP
        >>> study.best.metrics["accuracy"]  # doctest: +SKIP
        0.9778
    """

    def __init__(
        self, location: Location, *, temporary: TemporaryDirectory[str] | None = None, trust: bool = False
    ) -> None:
        self.location = location
        self._temporary = temporary  # removed with this object
        self._trust = trust
        self._cache: dict[str, Any] = {}

    @classmethod
    def open(cls, study: str | Path, *, files: str | Path | None = None, trust: bool = False) -> Self:
        """Open a study for reading; works while a search writes to it.

        Args:
            study: Path or URL.
            files: Directory of weights, where it is not `<study>.files`.
            trust: Whether blocks of modules that are not nasturtium's may be imported, which runs their code.

        Raises:
            StoreError: there is none, or it cannot be read.
        """
        opened = cls(locate(study, files), trust=trust)
        opened._record()
        return opened

    def refresh(self) -> None:
        """Forget what was read."""
        self._cache.clear()

    # -- what it is of -----------------------------------------------------------------------------------------------

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """In order of importance for `best`: the first counts."""
        return stored_objectives(self._record().settings["compared"]["objectives"])

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Hard limits."""
        return tuple(Constraint(**values) for values in self._record().settings["compared"]["constraints"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that it was run with, as plain JSON."""
        return self._record().settings

    @property
    def task(self) -> Mapping[str, Any]:
        """Name, reference, input shape and context of the task, as plain JSON."""
        return self._record().task

    @property
    def space(self) -> Mapping[str, Any]:
        """The space as plain JSON (`Space.from_dict`)."""
        return self._record().space

    # -- trials ------------------------------------------------------------------------------------------------------

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The search's finished trials, by number, at any fidelity."""
        return tuple(member.trial for member in self.members(SEARCH))

    @property
    def baseline(self) -> tuple[Trial, ...]:
        """Random search's finished trials; empty without a baseline."""
        return tuple(member.trial for member in self.members(BASELINE))

    @property
    def references(self) -> tuple[Trial, ...]:
        """Hand-designed networks; `origin` is each one's name."""
        return tuple(member.trial for member in self.members(REFERENCE))

    def members(self, role: str = SEARCH) -> tuple[Member, ...]:
        """Finished trials of a run, by number, with their files."""
        key = f"members {role}"
        if key not in self._cache:
            run = self._run(role)
            logged = [] if run is None else self._read(lambda store: store.trials(run.id))
            self._cache[key] = tuple(self._member(role, one) for one in logged)
        return self._cache[key]

    def curves(self, number: int, role: str = SEARCH) -> list[dict[str, float | None]]:
        """Reports of a trial, by epoch."""
        run = self._run(role)
        return [] if run is None else self._read(lambda store: store.curves(run.id, number))

    @property
    def failures(self) -> tuple[Trial, ...]:
        """The search's failed trials."""
        return tuple(trial for trial in self.trials if trial.state == "failed")

    @property
    def front(self) -> tuple[Member, ...]:
        """Pareto front of the search's feasible trials at full fidelity, the best of the first objective first."""
        kept = {t.number for t in pareto_trials(map(_trial_of, self.feasible()), self.objectives)}
        return tuple(sorted((m for m in self.members() if m.number in kept), key=self._preference))

    def front_on(self, device: str) -> tuple[Member, ...]:
        """The front of one device of several: by the objectives and limits that are not of other devices.

        Raises:
            InvalidInputError: the search asked nothing of that device.
        """
        known = {found.device: found for name in self._wishes() if (found := of_device(name)) is not None}
        if device not in known:
            raise InvalidInputError(
                f"The study asked nothing of the device {device!r}; it did of: {', '.join(sorted(known)) or 'none'}."
            )
        wishes, limits = on(known[device], self.objectives), on(known[device], self.constraints)
        members = self._feasible(SEARCH, limits)
        kept = {t.number for t in pareto_trials(map(_trial_of, members), wishes)}
        return tuple(sorted((m for m in members if m.number in kept), key=self._preference))

    @property
    def finalists(self) -> tuple[Member, ...]:
        """The search's trials that were measured on a device, the best of the first objective first."""
        return tuple(sorted((m for m in self.members() if m.evidence), key=self._preference))

    @property
    def evidences(self) -> Evidences:
        """All that was measured on devices."""
        if "evidences" not in self._cache:
            self._cache["evidences"] = Evidences(self._read(lambda store: store.events()))
        found: Evidences = self._cache["evidences"]
        return found

    def _wishes(self) -> list[str]:
        return [o.metric for o in self.objectives] + [c.metric for c in self.constraints]

    @property
    def best(self) -> Member:
        """The feasible trial that is best in the first objective; among equals in the next ones, then the earlier.

        Trials at a lower fidelity do not count: what they measured is not to be compared with what others did.

        Raises:
            StoreError: no trial is feasible yet.
        """
        found = self.best_of(SEARCH)
        if found is None:
            limits = ", ".join(map(format_constraint, self.constraints))
            lower = sum(not trial.fidelity.is_full for trial in self.trials)
            besides = f"; {lower} of them were measured at a lower fidelity, and do not count" if lower else ""
            said = [self.evidences.sentence(name, SEARCH, self.constraints) for name in self._verified()]
            besides += f". {' '.join(said).rstrip('.')}" if said else ""
            raise StoreError(
                f"None of the {len(self.trials)} trials of {self.location.text!r} completed and met the constraints "
                f"({limits or 'none'}){besides}, so there is no best one yet."
            )
        return found

    def best_of(self, role: str) -> Member | None:
        """Best feasible trial of a run; None without one."""
        return min(self.feasible(role), key=self._preference, default=None)

    def feasible(self, role: str = SEARCH) -> tuple[Member, ...]:
        """Completed trials of a run, at full fidelity, that meet the constraints.

        Where finalists of any run were measured on a device, those that were shown to meet the limits on it, and no
        others.
        """
        return self._feasible(role, self.constraints)

    def _feasible(self, role: str, limits: Sequence[Constraint]) -> tuple[Member, ...]:
        complete = (m for m in self.members(role) if m.trial.state == "completed" and m.trial.fidelity.is_full)
        shown = self.evidences.shown
        return tuple(m for m in complete if violation(m.metrics, limits) == 0 and shown(role, m.trial, limits))

    # -- evidence ----------------------------------------------------------------------------------------------------

    def comparison(self) -> Comparison | None:
        """What the search gained over random search at the same budget; None without a baseline.

        Where finalists were measured for a limit, both runs are held to it; if no network of one is shown to meet the
        limits, though some are predicted to, the comparison says so in place of a winner.
        """
        if "comparison" not in self._cache:
            if self._run(BASELINE) is None:
                return None
            ours, theirs = ((self._contender(role), self._trials(role)) for role in (SEARCH, BASELINE))
            guessed = [c for c in self.constraints if c.metric in self.evidences.modelled]
            self._cache["comparison"] = compare(
                self.objectives, self.constraints, ours, theirs, self._counts,
                unproved=[said for role in (SEARCH, BASELINE) if (said := self._unproved(role))],
                predicted=[format_constraint(c) for c in guessed if not self.evidences.measured(c.metric)],
            )  # fmt: skip
        return self._cache["comparison"]

    def hypervolume_history(self) -> dict[str, tuple[float, ...]]:
        """Hypervolume after each trial by run, as a share of the box that both span; empty for one objective.

        Of the trials that are `feasible`, so the last number is that of `front`. Where finalists were measured on a
        device for a limit, only those that are shown to meet it count; what was measured, and the corrected model's
        predictions elsewhere, stand at the trial's place, though they were known later. A run of which no network is
        shown to meet it, though some are predicted to, is left out: nobody knows its front.
        """
        known = [role for role in (SEARCH, BASELINE) if self._run(role) is not None and not self._unproved(role)]
        runs = {role: self._trials(role) for role in known}
        return hypervolume_histories(self.objectives, self.constraints, runs, self._counts)

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """One of "new", "running" (or stopped on the way), "finished", "exhausted", "stopped" (it failed)."""
        run = self._run(SEARCH)
        return "new" if run is None else run.status

    @property
    def learned(self) -> Learned | None:
        """What the study's method found and what it cost, where the search was one by a method and has got so far."""
        found: Learned | None = self._read(lambda store: learned(store, trust=self._trust))
        return found

    @property
    def ranking_check(self) -> Mapping[str, Any] | None:
        """How far the estimator's ranking agrees with training, as it found itself; None where it does not say so."""
        found: Mapping[str, Any] | None = self._read(checked)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how far to trust the result: of the method, and of scores or shared weights that ranked."""
        found = list((self.ranking_check or {}).get("notes", ()))
        method = self.learned
        if method is not None:
            found.append(f"{method.name} took {format_seconds(method.seconds)} before these trainings.")
            found += method.notes
            left = min(len(method.found), self._record().settings["options"]["trials"]) - len(self.trials)
            if self.status == "finished" and left > 0:
                found.append(f"{left} of what it found break a constraint and were not trained.")
        found += [self.evidences.sentence(name, SEARCH, self.constraints) for name in self._verified()]
        front = [m.number for m in self.front]
        found += [text for name in self._verified() if (text := self.evidences.unmeasured(name, SEARCH, front))]
        ranked = next((t.metrics for t in self.trials if "shared_tau" in t.metrics), None)
        if ranked is not None:
            from nasturtium.supernets import Trust  # noqa: PLC0415  (loads torch)

            said = Trust(
                tau=ranked["shared_tau"], low=ranked.get("shared_tau_low", math.nan),
                high=ranked.get("shared_tau_high", math.nan), n=int(ranked["shared_tau_networks"]), confidence=0.95,
                cheap="shared weights", full="training alone",
            )  # fmt: skip
            found.append(said.sentence)
        return tuple(found)

    def _verified(self) -> list[str]:
        """The latencies that the search's wishes name."""
        return [name for name in self.evidences.metrics if name in self._wishes()]

    @property
    def facts(self) -> dict[str, Any]:
        """Seed, versions, hardware, times and budget, as plain JSON."""
        record = self._record()
        compared = record.settings["compared"]
        runs = {run.role: {"budget": run.budget, "finished": len(self.members(run.role)), "status": run.status,
                           "reason": run.reason, "seconds": run.seconds} for run in self._runs()}  # fmt: skip
        return {
            "study": self.location.text,
            "created": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
            "task": record.task["name"],
            "seed": compared["seed"],
            "concurrency": compared["concurrency"],
            "schedule": compared["schedule"],
            "threads": compared["threads"],
            "device": compared["device"],
            "strategy": compared["strategy"],
            **({"method": compared["method"]} if "method" in compared else {}),
            "estimator": compared["estimator"],
            "versions": record.versions,
            "hardware": record.hardware,
            "runs": runs,
            "seconds": sum(run.seconds for run in self._runs()),
        }

    def to_table(self, role: str = "front") -> list[dict[str, Any]]:
        """Rows for people and machines: number, state, metrics of the trials of a run, or of the front.

        Where a latency is modelled, "predicted" names those of a row's latencies that were not measured.

        Args:
            role: "front", or a run ("search", "baseline:random", "reference").
        """
        members = self.front if role == "front" else self.members(role)
        return [
            {"number": m.number, "origin": m.trial.origin, "fidelity": m.trial.fidelity.text, "state": m.trial.state,
             "error_kind": m.trial.error_kind, "seconds": m.trial.seconds, **m.metrics,
             **{f"test_{name}": value for name, value in (m.test_metrics or {}).items()},
             **({"predicted": list(self.evidences.predicted(m.role, m.number))} if self.evidences.modelled else {})}
            for m in members
        ]  # fmt: skip

    def tabular(self, *, space: Space | None = None) -> Tabular:
        """All trials of all runs as a table, on which any strategy can be replayed: rows, fidelities, seconds.

        The table's space lists the architectures that were tried. Costs that the library computes are cheap, all else
        was measured; repeated trials of an architecture are averaged, and a failed one fails again in the table (kind
        "missing"). Hand-designed references that are not of the space are left out.

        Args:
            space: The space, where the study cannot hold it (a condition that is a lambda).

        Returns:
            The table, in memory; `save(path)` writes it, `nas.estimators.table(path)` reads it.

        Raises:
            StoreError: no trial completed at full fidelity, or the space is needed.
        """
        from nasturtium.study.tabulate import tabulate  # noqa: PLC0415

        try:
            used = Space.from_dict(self.space, trust=self._trust) if space is None else space
        except NasturtiumError as error:
            raise StoreError(
                f"The space of {self.location.text!r} cannot be made again from the study: {error} Or give it: "
                "`study.tabular(space=…)`."
            ) from error
        members = [member for run in self._runs() for member in self.members(run.role)]
        task = self.task
        return tabulate(self.location.text, used, members, task["input_shape"], int(task["context"]["classes"]))

    # -- taking home -------------------------------------------------------------------------------------------------

    def export(
        self,
        directory: str | Path,
        member: Member | None = None,
        *,
        task: Any = None,
        data_root: str | Path | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a trained network so that it can be used without nasturtium; default the best one.

        The network is measured on the test split the first time it is exported; the figures are stored with the study
        and not measured again, so that nobody chooses by them.

        Args:
            directory: Where.
            member: Which; the best one by default.
            task: The study's task, where it cannot be opened again from the study.
            data_root: Where the task's data are now, if they were moved.
            overwrite: Whether to replace an earlier export.

        Raises:
            StoreError: its weights are not there.
            ExportError: what was written does not give the outputs of what was trained.
        """
        from nasturtium.study.taking import export_member, stored_task  # noqa: PLC0415  (PyTorch)

        chosen = member or self.best
        task = task if task is not None else stored_task(dict(self.task), data_root)
        facts = self.facts
        kept = ("task", "seed", "created", "strategy", "estimator", "threads", "versions", "hardware", "study")
        tested = export_member(
            chosen, Path(directory), task, self.constraints, {name: facts[name] for name in kept}, overwrite=overwrite
        )  # fmt: skip
        if chosen.test_metrics is None:
            self._store_test_metrics(chosen, tested)
        return Path(directory)

    def _store_test_metrics(self, member: Member, metrics: Mapping[str, float]) -> None:
        run = self._run(member.role)
        assert run is not None
        self._read(lambda store: store.set_test_metrics(run.id, member.number, metrics))
        self.refresh()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _trials(self, role: str) -> tuple[Trial, ...]:
        return tuple(member.trial for member in self.members(role))

    def _counts(self, role: str, trial: Trial) -> bool:
        return self.evidences.shown(role, trial, self.constraints)

    def _unproved(self, role: str) -> str:
        """That no network of a run is shown to meet the limits, though some are predicted to, for people; or nothing.

        Only where the limits were measured in the study: without any measurement all runs rest on predictions.
        """
        asked = [c for c in self.constraints if self.evidences.measured(c.metric)]
        if not asked or self.feasible(role):
            return ""
        complete = [m for m in self.members(role) if m.trial.state == "completed" and m.trial.fidelity.is_full]
        likely = [m for m in complete if violation(m.metrics, self.constraints) == 0 and m.may_meet(asked)]
        if not likely:
            return ""
        who = {SEARCH: "the search", BASELINE: "random search"}.get(role, role)
        few = f"{len(likely)} networks of {who} are" if len(likely) > 1 else f"1 network of {who} is"
        return (
            f"{few} predicted to meet {', '.join(map(format_constraint, asked))}, and not measured; no network of that "
            "run is shown to meet the limits. `nasturtium verify` measures finalists of all runs."
        )

    def _contender(self, role: str) -> Contender | None:
        best = self.best_of(role)
        if best is None:
            return None
        path = best.directory / "correct.npy"
        correct = np.load(path, allow_pickle=False).astype(bool) if path.is_file() else None
        return Contender(trial=best.trial, correct=correct)

    def _preference(self, member: Member) -> tuple[float, ...]:
        signs = {"maximize": -1.0, "minimize": 1.0}
        values = [signs[o.direction] * member.metrics.get(o.metric, float("inf")) for o in self.objectives]
        return (*values, float(member.number))

    def _member(self, role: str, logged: LoggedTrial) -> Member:
        directory = self.location.files / "trials" / role.replace(":", "-") / str(logged.trial.number)
        return Member(
            trial=self.evidences.renewed(role, logged.trial), role=role, directory=directory,
            test_metrics=logged.test_metrics, study=self, evidence=self.evidences.of(role, logged.trial.number),
        )  # fmt: skip

    def _record(self) -> StudyRecord:
        if "record" not in self._cache:
            record = self._read(lambda store: store.record())
            if record is None:
                raise StoreError(f"{self.location.text!r} is a study file in which no study was begun yet.")
            self._cache["record"] = record
        return self._cache["record"]

    def _runs(self) -> tuple[RunRecord, ...]:
        if "runs" not in self._cache:
            self._cache["runs"] = self._read(lambda store: store.runs())
        return self._cache["runs"]

    def _run(self, role: str) -> RunRecord | None:
        return next((run for run in self._runs() if run.role == role), None)

    def _read(self, query: Any) -> Any:
        store = Store.open(self.location, decode=lambda data: Architecture.from_dict(data, trust=self._trust))
        try:
            return query(store)
        finally:
            store.close()

    def __repr__(self) -> str:
        return f"<Study {self.location.text!r}: {len(self.trials)} trials, {self.status}>"


def _trial_of(member: Member) -> Trial:
    return member.trial
