"""One measurement: what is asked of an executor, how it is done, and how its failures are named."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nasturtium.errors import TrialError
from nasturtium.space import Architecture
from nasturtium.trial.types import Fidelity

ErrorKind = Literal["crashed", "memory", "time", "diverged", "missing", "worker", "disk"]
ReportFunction = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A trial as an executor sees it."""

    role: str
    number: int
    architecture: Architecture
    fidelity: Fidelity
    seed: int
    directory: Path
    """Checkpoints, weights and the validation record; what an earlier attempt left is used to go on."""
    parents: tuple[tuple[Architecture, Path], ...] = ()
    """The completed trials that it descends from, with their directories."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for a worker."""
        return {
            "role": self.role,
            "number": self.number,
            "architecture": self.architecture.to_dict(),
            "fidelity": asdict(self.fidelity),
            "seed": self.seed,
            "directory": str(self.directory.resolve()),
            "parents": [(parent.to_dict(), str(place.resolve())) for parent, place in self.parents],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a piece of work: metrics, or an error with its kind."""

    work: Work
    metrics: Mapping[str, float] | None = None
    error: str | None = None
    kind: ErrorKind | None = None
    seconds: float = 0.0
    attempts: int = 1


def measure(
    estimator: Any,
    work: Work,
    task: Any,
    *,
    threads: int,
    device: str | None,
    report: ReportFunction,
    besides: Callable[[Architecture], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Estimate in this process. The directory is made; the number of threads is PyTorch's during the estimate.

    `besides` measures what devices are asked for in every trial.
    """
    from nasturtium.estimators import Job, Parent  # noqa: PLC0415  (PyTorch, which reading a study does not need)

    work.directory.mkdir(parents=True, exist_ok=True)
    job = Job(
        task=task, seed=work.seed, directory=work.directory, threads=threads, device=device, report=report,
        parents=tuple([Parent(architecture=parent, directory=place) for parent, place in work.parents]),
    )  # fmt: skip
    metrics = dict(estimator.estimate(work.architecture, work.fidelity, job))
    if besides is not None:
        metrics |= besides(work.architecture)
    return {str(name): float(value) for name, value in metrics.items()}


def classify(error: BaseException) -> tuple[ErrorKind, str]:
    """Kind and text of what a trial raised."""
    text = "".join(traceback.format_exception(error)).rstrip()
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return "disk", text
        message = str(cause)
        if "No space left on device" in message or "Disk quota exceeded" in message:
            return "disk", text
        if isinstance(cause, TrialError):
            return cause.kind, text  # type: ignore[return-value]
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return "memory", text
        if isinstance(cause, RuntimeError) and ("can't allocate memory" in message or "not enough memory" in message):
            return "memory", text
    return "crashed", text


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
