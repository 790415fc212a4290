"""One run: a strategy, a budget and an executor, driven by a schedule, and logged so that it can go on."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nasturtium.errors import InfeasibleError, InvalidInputError, StoreError, TrialError
from nasturtium.space import Architecture
from nasturtium.study import events
from nasturtium.study.executors import Executor
from nasturtium.study.store import LoggedTrial, RunRecord, Store
from nasturtium.study.work import Outcome, Work
from nasturtium.trial.types import Exhausted, Problem, Proposal, Strategy, Trial, Wait

Schedule = Literal["deterministic", "asynchronous"]
POLL_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Runner:
    """Drives one strategy to its budget.

    Deterministic schedule: proposal k is asked for when exactly the trials 0 … k - concurrency were told, in number
    order; if the strategy answers `Wait`, one more is told and it is asked again. So what it proposes depends on its
    seed and on `concurrency`, never on how many workers there are or which of them is faster.

    Asynchronous schedule: trials are told in the order of completion, and a proposal is asked for whenever fewer than
    `concurrency` are under way. The log holds, for each proposal, how many trials had been told before it, so a
    resumed strategy is told the same in the same order.

    A strategy's answer `Wait` must not change it: it is not logged.
    """

    store: Store
    record: RunRecord
    strategy: Strategy
    problem: Problem
    executor: Executor
    files: Path
    """Directory of this run's trials."""
    schedule: Schedule = "deterministic"
    concurrency: int = 4
    failures: int = 5
    """The search stops when its first so many trials all failed."""
    seconds: float | None = None
    """Wall time, over all sessions, after which nothing new is proposed."""
    emit: Callable[[events.Event], None] = lambda _: None
    until: int | None = None
    """Proposals after which it pauses, with nothing under way; None runs to the budget."""
    renewed: Callable[[Trial], Trial] = lambda trial: trial
    """What is told of a trial of the log: what was learnt of it since, such as a measured latency."""
    _proposals: list[Proposal] = field(default_factory=list)
    _finished: dict[int, LoggedTrial] = field(default_factory=dict)
    _order: list[int] = field(default_factory=list)
    _told: int = 0
    _waiting: bool = False
    _ended: tuple[str, str] | None = None
    _started: float = 0.0
    _lapped: float = 0.0
    _steps: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        """Run to the budget.

        Raises:
            InfeasibleError: nothing meets the constraints.
            TrialError: the first trials, or all of them, failed.
            StoreError: the log cannot be written; it is as it was after the last finished trial.
        """
        self._started = self._lapped = time.monotonic()
        self._replay()
        role = self.record.role
        self.emit(events.RunStarted(role=role, trials=self.record.budget, finished=len(self._finished)))
        for proposal in self._proposals:
            if proposal.number not in self._finished:
                self._submit(proposal)
        while True:
            self._check_failures()
            self._propose()
            if len(self._finished) == len(self._proposals):
                break
            for outcome in self.executor.wait(POLL_SECONDS):
                self._finish(outcome)
        if self._ended is not None or len(self._proposals) >= self.record.budget:
            self._conclude()

    def reported(self, work: Work, values: Mapping[str, float]) -> None:
        """Log an epoch of a trial."""
        step = int(values.get("epoch", self._steps.get(work.number, 0) + 1))
        self._steps[work.number] = step
        self.store.add_report(self.record.id, work.number, step, values)
        self.emit(events.EpochReported(role=work.role, number=work.number, step=step, report=dict(values)))

    def lost(self, work: Work, attempt: int, reason: str) -> None:
        """Log a worker that was killed from outside."""
        detail = {"role": work.role, "number": work.number, "attempt": attempt, "reason": reason}
        self.store.add_event("worker lost", detail)
        self.emit(events.WorkerLost(role=work.role, number=work.number, attempt=attempt, reason=reason))

    # -- the log -----------------------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """Bring the strategy to where the log ends, by the same calls in the same order."""
        trials = self.store.trials(self.record.id)
        self._finished = {logged.trial.number: replace(logged, trial=self.renewed(logged.trial)) for logged in trials}
        self._order = [logged.trial.number for logged in sorted(trials, key=lambda logged: logged.position)]
        self.strategy.setup(self.problem)
        for logged in self.store.proposals(self.record.id):
            while self._told < logged.told:
                if not self._tell_next():
                    raise StoreError(
                        f"The log of {self.store.location.text!r} is inconsistent: proposal {logged.proposal.number} "
                        f"was made after {logged.told} trials, but only {self._told} are there."
                    )
            self.strategy.recall(logged.proposal)
            self._proposals.append(logged.proposal)

    def _tell_next(self) -> bool:
        """Tell the next trial of the schedule's order; False if it is not finished."""
        if self.schedule == "deterministic":
            number = self._told
        elif self._told < len(self._order):
            number = self._order[self._told]
        else:
            return False
        if number not in self._finished:
            return False
        self.strategy.tell(self._finished[number].trial)
        self._told += 1
        return True

    # -- proposing ---------------------------------------------------------------------------------------------------

    def _propose(self) -> None:
        """Ask for as much as the schedule allows now."""
        most = self.record.budget if self.until is None else min(self.until, self.record.budget)
        while self._ended is None and len(self._proposals) < most and self._in_time():
            number = len(self._proposals)
            if self._waiting and not self._tell_next():
                return
            self._waiting = False
            if not self._tell_due(number):
                return
            answer = self._ask(number)
            if isinstance(answer, Proposal):
                shutil.rmtree(self._directory(number), ignore_errors=True)  # of a study that was deleted
                self.store.add_proposal(self.record.id, answer, self._told)
                self._proposals.append(answer)
                self._submit(answer)
            elif isinstance(answer, Exhausted):
                self._ended = ("exhausted", answer.reason)
            elif self._told == number:
                raise InvalidInputError(
                    f"The strategy {self.strategy!r} waits for a trial at proposal {number}, but all are told. It must "
                    "propose, or answer `Exhausted`, when nothing is pending."
                )
            else:
                self._waiting = True

    def _tell_due(self, number: int) -> bool:
        """Tell what proposal `number` is to see; False while that is not finished."""
        if self.schedule == "deterministic":
            while self._told < number - self.concurrency + 1:
                if not self._tell_next():
                    return False
            return True
        while self._tell_next():
            pass
        return number - len(self._finished) < self.concurrency

    def _ask(self, number: int) -> Proposal | Wait | Exhausted:
        try:
            answer = self.strategy.ask(number)
        except InfeasibleError as error:
            if number == 0:
                raise
            return Exhausted(str(error))
        if isinstance(answer, Proposal) and answer.number != number:
            raise InvalidInputError(
                f"The strategy {self.strategy!r} was asked for proposal {number} and gave number {answer.number}."
            )
        return answer

    def _in_time(self) -> bool:
        if self.seconds is None:
            return True
        spent = self.record.seconds + time.monotonic() - self._started
        if spent < self.seconds:
            return True
        self._ended = ("finished", f"the time budget of {self.seconds:g} s is spent")
        return False

    def _submit(self, proposal: Proposal) -> None:
        self.emit(events.TrialStarted(role=self.record.role, proposal=proposal))
        self.executor.submit(
            Work(
                role=self.record.role,
                number=proposal.number,
                architecture=proposal.architecture,
                fidelity=proposal.fidelity,
                seed=trial_seed(self.problem.seed, self.record.role, proposal.number),
                directory=self._directory(proposal.number),
                parents=tuple(
                    [
                        (logged.trial.architecture, self._directory(number))
                        for number in proposal.parents
                        if (logged := self._finished.get(number)) is not None and logged.trial.state == "completed"
                    ]
                ),
            )
        )

    def _directory(self, number: int) -> Path:
        return self.files / str(number)

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome) -> None:
        """Log an outcome."""
        if outcome.kind == "disk":
            last = (outcome.error or "").splitlines()[-1:]
            raise StoreError(
                f"Trial {outcome.work.number} could not write its files under {str(outcome.work.directory)!r}: the "
                f"disk is full ({''.join(last)}). All that was finished is kept; free some space and run the same "
                "command again."
            )
        proposal = self._proposals[outcome.work.number]
        trial = self._trial(proposal, outcome)
        logged = LoggedTrial(trial=trial, position=len(self._order), attempts=outcome.attempts)
        self.store.add_trial(self.record.id, logged, self._lap())
        self._finished[trial.number] = logged
        self._order.append(trial.number)
        self.emit(events.TrialFinished(role=self.record.role, trial=trial))

    def _trial(self, proposal: Proposal, outcome: Outcome) -> Trial:
        error, kind = outcome.error, outcome.kind
        measured = dict(outcome.metrics or {})
        if outcome.metrics is not None:
            error, kind = self._unusable(measured)
        metrics = {} if error is not None else self._known(proposal.architecture) | measured
        return Trial(
            number=proposal.number,
            architecture=proposal.architecture,
            fidelity=proposal.fidelity,
            parents=proposal.parents,
            origin=proposal.origin,
            state="completed" if error is None else "failed",
            metrics=metrics,
            error=error,
            error_kind=kind,
            seconds=outcome.seconds,
        )

    def _known(self, architecture: Architecture) -> dict[str, float]:
        """The cheap metrics that are known: a table may lack some."""
        cheap = self.problem.cheap_metrics(architecture)
        return {name: value for name, value in cheap.items() if not math.isnan(value)}

    def _unusable(self, measured: Mapping[str, float]) -> tuple[str, Literal["diverged"]] | tuple[None, None]:
        bad = {name: value for name, value in measured.items() if not math.isfinite(value)}
        if not bad:
            return None, None
        values = ", ".join(f"{name} = {value}" for name, value in sorted(bad.items()))
        return f"The estimate is not finite: {values}.", "diverged"

    def _lap(self) -> float:
        """Wall time since the last logged trial of this session."""
        now = time.monotonic()
        lap, self._lapped = now - self._lapped, now
        return lap

    def _check_failures(self) -> None:
        """Stop a search that fails from its start: the reason is then in the code or the data, not in a network."""
        if self.failures < 1 or len(self._finished) < self.failures:
            return
        first = [self._finished.get(number) for number in range(self.failures)]
        if all(logged is not None and logged.trial.state == "failed" for logged in first):
            self._fail(f"The first {self.failures} trials all failed, so the search stopped.")

    def _fail(self, text: str) -> None:
        trial = self._finished[min(self._finished)].trial
        summary = (trial.error or "").strip().splitlines()
        reason = f"{text} Trial {trial.number} ({trial.error_kind}): {summary[-1] if summary else 'no message'}"
        self.store.set_status(self.record.id, "stopped", reason)
        raise TrialError(
            f"{reason.rstrip('.')}. The whole traceback is kept with the trial: "
            f"`nasturtium show {self.store.location.text} {trial.number}`, or `study.trials[{trial.number}].error`.",
            kind=trial.error_kind or "crashed",
        )

    def _conclude(self) -> None:
        if self._finished and all(logged.trial.state == "failed" for logged in self._finished.values()):
            self._fail(f"All {len(self._finished)} trials failed.")
        status, reason = self._ended or ("finished", None)
        self.store.set_status(self.record.id, status, reason)
        self.emit(events.RunFinished(role=self.record.role, status=status, reason=reason))


def trial_seed(seed: int, role: str, number: int) -> int:
    """Seed of a trial's training: keyed, so that it does not depend on the order in which trials run."""
    digest = hashlib.sha256(f"{seed}/{role}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
