"""Where trials run: in this process, or (see `pool`) in worker processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nasturtium.space import Architecture
from nasturtium.study.work import Outcome, Work, classify, measure


@dataclass(slots=True)
class Observer:
    """What an executor says while trials run."""

    reported: Callable[[Work, Mapping[str, float]], None]
    lost: Callable[[Work, int, str], None]
    """(work, attempt, reason): a worker was killed from outside, and the work is tried again."""


class Executor(Protocol):
    """Runs work, in the order given, as many at once as it has room for."""

    def submit(self, work: Work) -> None:
        """Take a piece of work; returns at once."""
        ...

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes since the last call; waits at most `timeout` seconds for one (in this process: till one is done)."""
        ...

    def close(self) -> None:
        """Abandon what runs. Nothing stays behind."""
        ...


@dataclass(slots=True)
class InProcess:
    """One trial at a time, here. No limits of time or memory: only a process of its own can be stopped."""

    estimator: Any
    task: Any
    observer: Observer
    threads: int = 1
    device: str | None = None
    besides: Callable[[Architecture], Mapping[str, float]] | None = None
    """Measures what devices are asked for in every trial."""
    _queue: deque[Work] = field(default_factory=deque)

    def submit(self, work: Work) -> None:
        """Queue it."""
        self._queue.append(work)

    def wait(self, timeout: float) -> list[Outcome]:
        """Run the next one to its end."""
        if not self._queue:
            return []
        work = self._queue.popleft()
        started = time.perf_counter()

        def report(values: Mapping[str, float]) -> None:
            try:
                self.observer.reported(work, values)
            except Exception as error:  # the search's own, such as a full disk: not the trial's failure
                raise _Stop from error

        try:
            metrics = measure(
                self.estimator, work, self.task, threads=self.threads, device=self.device, report=report,
                besides=self.besides,
            )  # fmt: skip
        except _Stop as stop:
            raise stop.__cause__ or stop from None
        except (Exception, SystemExit) as error:  # noqa: BLE001  a trial's failure is a failed trial
            kind, text = classify(error)
            return [Outcome(work=work, error=text, kind=kind, seconds=time.perf_counter() - started)]
        return [Outcome(work=work, metrics=metrics, seconds=time.perf_counter() - started)]

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()


class _Stop(Exception):  # noqa: N818  (a signal, not an error)
    """Raised by the search's own code inside a report; not the trial's failure."""
