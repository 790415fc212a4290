"""What a search tells its listeners: progress displays, trackers, early-stopping rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nasturtium.trial.types import Proposal, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins or goes on."""

    role: str
    trials: int
    """Budget."""
    finished: int
    """Trials that an earlier session finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A proposal was handed to an executor."""

    role: str
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReported:
    """A trial reported an epoch."""

    role: str
    number: int
    step: int
    report: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker process was killed from outside; its trial is tried again."""

    role: str
    number: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFinished:
    """A trial is logged, completed or failed."""

    role: str
    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """A run has no more to do, and why."""

    role: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFinished:
    """All runs of the study are done."""


Event = RunStarted | TrialStarted | EpochReported | WorkerLost | TrialFinished | RunFinished | SearchFinished
Listener = Callable[[Event], None]
"""Called in the searching process, in order. What it raises stops the search (cleanly: the study is kept)."""
