"""Worker processes of this machine: limits of time and memory, and what becomes of a trial whose worker dies."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import psutil

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.study.executors import Observer
from nasturtium.study.work import ErrorKind, Outcome, Work
from nasturtium.study.worker import MARK

START_SECONDS = 300.0
"""A worker that is not ready by then (PyTorch, the task) is given up."""
MEMORY_POLL_SECONDS = 0.02
OWN_FAULT = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a trial brings upon itself; any other comes from outside, and the trial is tried again."""
_COMMAND = "from nasturtium.study.worker import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What every worker is told, and the limits of a trial."""

    workers: int
    estimator: Mapping[str, Any]
    task: Mapping[str, Any]
    threads: int = 1
    device: str | None = None
    time_limit: float | None = None
    """Seconds of wall time a trial and attempt."""
    memory_limit: int | None = None
    """Bytes of resident memory of a worker with its children, libraries included (PyTorch alone is some 250 MB)."""
    script: str | None = None
    """The user's script, where what workers need is defined in it."""
    retries: int = 2
    """How often a trial whose worker was killed from outside is tried again."""
    besides: Mapping[str, Any] | None = None
    """What every trial measures on devices (`on_device.measurer`)."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    born: float
    listener: threading.Thread | None = None
    ready: bool = False
    work: Work | None = None
    attempt: int = 1
    started: float | None = None
    verdict: tuple[ErrorKind, str] | None = None
    """Why it was killed by the pool."""


@dataclass(slots=True)
class Pool:
    """Persistent worker processes. They die with the search, however it ends."""

    settings: PoolSettings
    observer: Observer
    _queue: deque[tuple[Work, int]] = field(default_factory=deque)
    _workers: list[_Worker] = field(default_factory=list)
    _messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = field(default_factory=queue.Queue)

    def submit(self, work: Work) -> None:
        """Queue it, and give it to a worker if one is free."""
        self._queue.append((work, 1))
        self._assign()

    def wait(self, timeout: float) -> list[Outcome]:
        """Outcomes since the last call; waits for one, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        outcomes: list[Outcome] = []
        step = MEMORY_POLL_SECONDS if self.settings.memory_limit else 0.1
        while not outcomes:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                worker, message = self._messages.get(timeout=min(step, remaining))
            except queue.Empty:
                pass
            else:
                outcomes += self._handle(worker, message)
            self._enforce()
            self._assign()
        return outcomes

    def close(self) -> None:
        """Kill every worker."""
        self._queue.clear()
        for worker in self._workers:
            _kill(worker)
        for worker in self._workers:
            worker.process.wait()
            _forget(worker)
        self._workers.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        idle = [worker for worker in self._workers if worker.work is None and worker.verdict is None]
        while self._queue and (idle or len(self._workers) < self.settings.workers):
            worker = idle.pop(0) if idle else self._start()
            worker.work, worker.attempt = self._queue.popleft()
            worker.started = None
            self._say(worker, worker.work.to_dict())

    def _start(self) -> _Worker:
        threads = str(self.settings.threads)
        environment = os.environ | {
            MARK: str(os.getpid()), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }  # fmt: skip
        log = tempfile.TemporaryFile(prefix="nasturtium-worker-")  # noqa: SIM115  (closed with the worker)
        process = subprocess.Popen(  # noqa: S603  (this interpreter, a constant)
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            start_new_session=True,
        )
        worker = _Worker(process=process, log=log, born=time.monotonic())
        self._workers.append(worker)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        settings = self.settings
        setup = {
            "path": sys.path, "main": settings.script, "estimator": dict(settings.estimator),
            "task": dict(settings.task), "threads": settings.threads, "device": settings.device,
            "besides": settings.besides,
        }  # fmt: skip
        self._say(worker, setup)
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                break  # cut off by a kill
            self._messages.put((worker, message))
        worker.process.wait()
        self._messages.put((worker, None))

    @staticmethod
    def _say(worker: _Worker, message: Mapping[str, Any]) -> None:
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(json.dumps(message).encode() + b"\n")
            worker.process.stdin.flush()
        except OSError:
            pass  # it died; `_listen` says so

    def _handle(self, worker: _Worker, message: dict[str, Any] | None) -> list[Outcome]:
        if worker not in self._workers:
            return []
        if message is None:
            return self._buried(worker)
        match message["type"]:
            case "ready":
                worker.ready = True
            case "unusable":
                raise InvalidInputError(
                    "A worker process could not make its estimator or open its task: "
                    f"{str(message['error']).rstrip('.')}. Workers load both by import and path; check that "
                    "these are reachable from another process, or use `workers=1`."
                )
            case "started":
                worker.started = time.monotonic()
            case "report" if worker.work is not None:
                self.observer.reported(worker.work, message["values"])
            case "done" if worker.work is not None:
                return [self._free(worker, metrics=message["metrics"], seconds=message["seconds"])]
            case "failed" if worker.work is not None:
                outcome = self._free(
                    worker, error=message["error"], kind=message["kind"], seconds=message["seconds"]
                )  # fmt: skip
                if message["kind"] == "memory":
                    worker.verdict = ("memory", "")  # a fresh process for the next trial
                    _kill(worker)
                return [outcome]
        return []

    def _free(self, worker: _Worker, **result: Any) -> Outcome:
        assert worker.work is not None
        outcome = Outcome(work=worker.work, attempts=worker.attempt, **result)
        worker.work = worker.started = None
        return outcome

    def _buried(self, worker: _Worker) -> list[Outcome]:
        """A worker has died: retry its work, or call it failed."""
        self._workers.remove(worker)
        code, tail = worker.process.returncode, _tail(worker)
        _forget(worker)
        work = worker.work
        if work is None:
            return []
        seconds = 0.0 if worker.started is None else time.monotonic() - worker.started
        known: dict[str, Any] = {"work": work, "seconds": seconds, "attempts": worker.attempt}
        if worker.verdict is not None:
            kind, text = worker.verdict
            return [Outcome(error=text, kind=kind, **known)]
        cause = _cause(code)
        if not worker.ready and (code >= 0 or signal.Signals(-code) in OWN_FAULT):
            raise StoreError(f"A worker process could not start: it {cause}.{tail}")
        if code >= 0 or signal.Signals(-code) in OWN_FAULT:
            return [Outcome(error=f"The trial ended its worker process: it {cause}.{tail}", kind="crashed", **known)]
        if worker.attempt <= self.settings.retries:
            self.observer.lost(work, worker.attempt, cause)
            self._queue.appendleft((work, worker.attempt + 1))
            return []
        text = (
            f"The worker process {cause} in each of {worker.attempt} attempts. If nobody did that on purpose, the "
            f"system ran out of memory: use fewer `workers`, or set `memory_limit`.{tail}"
        )
        return [Outcome(error=text, kind="worker", **known)]

    def _enforce(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.verdict is not None:
                continue
            if not worker.ready and now - worker.born > START_SECONDS:
                raise StoreError(f"A worker process was not ready after {START_SECONDS:.0f} s.{_tail(worker)}")
            if worker.work is None or worker.started is None:
                continue
            verdict = self._over_limit(worker, now - worker.started)
            if verdict is not None:
                worker.verdict = verdict
                _kill(worker)

    def _over_limit(self, worker: _Worker, seconds: float) -> tuple[ErrorKind, str] | None:
        limit = self.settings.time_limit
        if limit is not None and seconds > limit:
            return "time", f"The trial took longer than its time limit of {limit:g} s and was stopped."
        if self.settings.memory_limit is not None:
            used = _resident(worker.process.pid)
            if used > self.settings.memory_limit:
                return "memory", (
                    f"The trial's process used {used:,} bytes of memory, more than its limit of "
                    f"{self.settings.memory_limit:,} bytes, and was stopped."
                )
        return None


def _resident(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        total = int(process.memory_info().rss)
        return total + sum(int(child.memory_info().rss) for child in process.children(recursive=True))
    except psutil.Error:
        return 0


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)  # its own children too
    worker.process.kill()


def _forget(worker: _Worker) -> None:
    if worker.listener is not None:
        worker.listener.join()
    for stream in (worker.process.stdin, worker.process.stdout, worker.log):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was not delivered to a dead worker
                stream.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by signal {signal.Signals(-code).name}"


def _tail(worker: _Worker, lines: int = 15) -> str:
    """The end of what a worker wrote on stderr."""
    worker.log.seek(0, os.SEEK_END)
    worker.log.seek(max(0, worker.log.tell() - 8192))
    text = worker.log.read().decode(errors="replace").strip()
    return "\nIts last output:\n" + "\n".join(text.splitlines()[-lines:]) if text else ""
