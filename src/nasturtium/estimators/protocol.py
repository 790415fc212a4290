"""What an estimator is: something that says how good an architecture is. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nasturtium.space import Architecture
from nasturtium.tasks import Task
from nasturtium.trial import Metric
from nasturtium.trial.types import Fidelity


def ignore(record: Mapping[str, float]) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A finished trial from which another one descends."""

    architecture: Architecture
    directory: Path
    """What it left: weights, history."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """The circumstances of one estimate.

    Args:
        task: The data.
        seed: Of this trial; with the architecture it determines the result.
        directory: Where checkpoints and results are written; None for nowhere.
        threads: PyTorch's threads, or None to leave them as they are.
        device: Overrides the estimator's own; None or "auto" leaves it.
        report: Called with a record of progress now and then.
        parents: The completed trials that this one descends from, the nearest first, as the strategy says; for
            estimators that let a network start from another's weights.
    """

    task: Task
    seed: int
    directory: Path | None = None
    threads: int | None = None
    device: str | None = None
    report: Callable[[Mapping[str, float]], None] = ignore
    parents: tuple[Parent, ...] = ()


@runtime_checkable
class Estimator(Protocol):
    """How good is an architecture.

    A value: two with equal `fingerprint` measure the same. It never reads the task's test split.
    """

    @property
    def deterministic(self) -> bool:
        """Whether the same architecture, fidelity and job give the same metrics (measured times left out)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that changes the result."""
        ...

    def estimate(self, architecture: Architecture, fidelity: Fidelity, job: Job) -> Mapping[str, float]:
        """Measure; metrics by name, in base units.

        Raises:
            TrialError: this architecture failed; its `kind` says how.
        """
        ...

    def expected_seconds(self, task: Task, macs: float) -> float:
        """A rough forecast of one estimate at full fidelity."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for worker processes and the study's file."""
        ...


@runtime_checkable
class Naming(Protocol):
    """What an estimator may have besides: names for metrics of its own."""

    @property
    def known_metrics(self) -> Mapping[str, Metric]:
        """What it measures or knows besides the library's own metrics; objectives and constraints may name these."""
        ...


@runtime_checkable
class Enclosing(Protocol):
    """What an estimator may have besides: it measures as another does, and adds something."""

    @property
    def of(self) -> Estimator:
        """The other one."""
        ...


@runtime_checkable
class Described(Protocol):
    """What an estimator may have besides: it knows identity and costs of its architectures itself, as a table does.

    A search uses these in place of the canonical hash and the cost model.
    """

    @property
    def known_metrics(self) -> Mapping[str, Metric]:
        """What it measures or knows besides the library's own metrics; objectives and constraints may name these."""
        ...

    def key(self, architecture: Architecture) -> str:
        """Equal for architectures that are one to this estimator: it is then asked for one of them only."""
        ...

    def cheap_metrics(self, architecture: Architecture) -> Mapping[str, float]:
        """What is known of an architecture before it is measured."""
        ...
