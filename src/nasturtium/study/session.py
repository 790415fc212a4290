"""Search: from a space, a task and a wish to a study; and go on with one after any stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from math import ceil, fsum
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from nasturtium.errors import InvalidInputError, NasturtiumError, StoreError
from nasturtium.space import Architecture, Block, Space
from nasturtium.strategies import Random
from nasturtium.study import events
from nasturtium.study.arguments import (
    Named,
    Options,
    Setup,
    read_setup,
    read_space,
    read_task,
    stored_objectives,
)
from nasturtium.study.checking import check_ranking
from nasturtium.study.codec import restore
from nasturtium.study.database import Location, locate
from nasturtium.study.device_costs import measurer
from nasturtium.study.evidence import DEVICES, Evidences
from nasturtium.study.executors import Executor, InProcess, Observer
from nasturtium.study.identity import check_same, versions
from nasturtium.study.memory_proof import Files
from nasturtium.study.method import Learned, learn, meeting
from nasturtium.study.on_device import OnDevices, read_stored
from nasturtium.study.pool import Pool, PoolSettings
from nasturtium.study.problem import cheap_on_devices, problem_of
from nasturtium.study.recording import as_begun, record_of
from nasturtium.study.references import Listed
from nasturtium.study.results import Study, StudyInterrupted
from nasturtium.study.runner import Runner, Schedule
from nasturtium.study.scores import FOLDER
from nasturtium.study.store import Store, StudyRecord
from nasturtium.study.verification import Verifier
from nasturtium.study.verify_options import Verify, read_verify
from nasturtium.study.worker import MARK
from nasturtium.trial import Constraint, Problem
from nasturtium.trial.types import Strategy

ROUNDING = 1e-9
"""What a sum of shares may be above a whole number, such as nine times 1/9, without a further trial."""


def search(
    space: Space | Block,
    task: Any,
    *,
    maximize: Named | Sequence[Named] = (),
    minimize: Named | Sequence[Named] = (),
    constraints: str | Constraint | Sequence[str | Constraint] = (),
    strategy: Strategy | str | None = None,
    method: Any = None,
    estimator: Any = None,
    latency: Mapping[Any, Any] | None = None,
    verify: Verify | bool = True,
    trials: int = 50,
    seed: int = 0,
    workers: int = 1,
    concurrency: int = 4,
    schedule: Schedule = "deterministic",
    study: str | Path | None = None,
    files: str | Path | None = None,
    baseline: Literal["random"] | None = None,
    references: Sequence[tuple[str, Block | Architecture]] = (),
    threads: int = 1,
    device: str | None = None,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    seconds: float | None = None,
    retries: int = 2,
    failures: int = 5,
    listeners: Sequence[events.Listener] = (),
) -> Study:
    """Search a space for networks that are good at a task; everything is logged in a study.

    Run it again with the same arguments and the same `study` after any stop (Ctrl-C, a kill, a power cut) and it goes
    on as if nothing had happened: the trials, their order and their metrics are those of an uninterrupted run. That
    holds for any number of workers.

    Args:
        space: A space, or an open block.
        task: A task, or the name of one (`nas.tasks.load`).
        maximize: Metrics to make large, for example "accuracy".
        minimize: Metrics to make small, for example "macs".
        constraints: For example `nas.params <= 60_000` or "peak_memory <= 64KiB". Where a microcontroller is named,
            its own memory is a limit too.
        strategy: Default `nas.strategies.Auto()`, "auto". Also a name of `nas.strategies.STRATEGIES`, with its settings
            in brackets: "evolution(population=20, sample=5)", "hyperband(strategy=evolution, minimum=0.1)"; or
            "module:function(…)" for one of your own.
        method: In place of a strategy, a method that learns architecture and weights together, such as
            `nas.supernets.DARTS(epochs=20)`, or its name with settings, "darts(epochs=20)"; see
            `nas.study.METHODS`. What it finds is then trained by the estimator, at most `trials` of them, best first;
            its own cost stands in `Study.learned`. It goes on where it was stopped. It does not know the constraints
            (DARTS and ProxylessNAS take a cost in their loss): what breaks one that is known before training is left
            out, and `Study.notes` says so. `seconds` does not stop it. The networks that it, or an estimator of scores
            without training, trains alone to say how far its ranking can be trusted are trained in this process,
            before the trials: neither `seconds` nor the limits of a trial count for them.
        estimator: Default `nas.estimators.Trained(epochs=10)`.
        latency: For each device whose latency is asked for (`nas.latency("cpu") <= 2e-3`), where it comes from: a model
            (`nas.hardware.LatencyTable`, a predictor), the file of one (`nasturtium profile cpu SPACE --out FILE`), or
            "measure", which measures every trial. `{"cpu": "mobile-cpu.jsonl", "cpu-int8": "measure"}`.
        verify: How the finalists are then measured on their devices (`Verify`): the model is corrected with them and
            the search goes on, in rounds. Only what a measurement shows to meet its limit is on the front then. For
            the memory of a microcontroller the int8 file is written and its arena allocated, where the extra `tinyml`
            is installed; elsewhere nothing is proved. False searches by the model alone, and shows nothing.
        trials: Budget. A larger one on a later run extends the study: what is there is kept, and a strategy that
            derives its settings from the budget goes on with the new one.
        seed: Of the strategy and, with the trial's number, of each training.
        workers: Processes. 1 means in this process, unless a limit is set.
        concurrency: How many trials may be under way without knowing of each other; the result depends on it, and not
            on `workers`, which uses at most so many.
        schedule: "deterministic", or "asynchronous" (completion order; reproducible from its log only).
        study: Path of a SQLite file, or a database URL; None keeps the study in a temporary directory that goes with
            the returned object.
        files: Directory of checkpoints and weights; default `<study>.files`.
        baseline: "random" also runs random search afterwards, with the same estimator and settings and seeds of its
            own, to compare with. It gets as many full trials as the search really spent: a trial at a lower fidelity
            counts as its share (`nas.trial.Fidelity.share`), a method's seconds count in mean trials, and the sum is
            rounded up.
        references: (name, closed block) of hand-designed networks, trained by the same estimator to compare with.
        threads: PyTorch threads of each trial.
        device: Where to train; None for the estimator's own choice.
        time_limit: Seconds of a trial and attempt; a longer one fails. Needs a process of its own.
        memory_limit: Bytes of resident memory of a trial's process with its libraries; needs a process of its own.
        seconds: Wall time, over all sessions, after which nothing new is proposed.
        retries: How often a trial whose worker was killed from outside is tried again.
        failures: The search stops when its first so many trials all failed; 0 never.
        listeners: Called with each event (`nas.study.events`).

    Returns:
        The study; it can be opened again by `Study.open`.

    Raises:
        InvalidInputError: an argument that cannot be used; nothing is written then.
        IncompatibleError: the method does not go with the space or the task, or a device cannot run an operation of the
            space; nothing is written then.
        InfeasibleError: nothing meets the constraints; names the nearest miss. Nothing is written then.
        StudyMismatchError: the study exists with another space, data or settings.
        StoreError: the study cannot be read or written, or another process works on it.
        TrialError: the first trials, or all, failed.
        StudyInterrupted: Ctrl-C or SIGTERM; all that was finished is kept.

    Example:
        >>> import nasturtium as nas
        >>> study = nas.search(space, "digits", maximize="accuracy", minimize="macs", trials=40)  # doctest: +SKIP
    """
    setup = read_setup(
        space, task, maximize=maximize, minimize=minimize, constraints=constraints, strategy=strategy,
        method=method, estimator=estimator, latency=latency, verify=verify, trials=trials, seed=seed,
        workers=workers, concurrency=concurrency,
        schedule=schedule, baseline=baseline, references=references, threads=threads, device=device,
        time_limit=time_limit, memory_limit=memory_limit, seconds=seconds, retries=retries, failures=failures,
        listeners=listeners,
    )  # fmt: skip
    return _start(setup, study, files)


def resume(
    study: str | Path,
    *,
    files: str | Path | None = None,
    space: Space | Block | None = None,
    task: Any = None,
    verify: Verify | bool | None = None,
    trials: int | None = None,
    workers: int | None = None,
    seconds: float | None = None,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    baseline: Literal["random"] | None = None,
    listeners: Sequence[events.Listener] = (),
    trust: bool = False,
) -> Study:
    """Go on with a stored study, or extend it; everything else is as it was begun.

    Args:
        study: Path or URL.
        files: Directory of checkpoints and weights, where it is not `<study>.files`.
        space: Only for a space that JSON cannot hold (a condition that is a lambda); it must be the same.
        task: Only for a task that lives in a process; it must be the same.
        verify: How finalists are measured, with as many rounds as it had; None as it had.
        trials: A larger budget.
        workers: As for `search`; None for what it had.
        seconds: As for `search`; None for what it had.
        time_limit: As for `search`; None for what it had.
        memory_limit: As for `search`; None for what it had.
        baseline: "random" adds random search to compare with.
        listeners: As for `search`.
        trust: Whether modules that are not nasturtium's may be imported for its blocks, strategy or estimator.

    Raises:
        StoreError: there is no such study, or it cannot be made again; and what `search` raises.
    """
    location = locate(study, files)
    store = Store.open(location)
    try:
        record = store.record()
        on_devices = OnDevices() if record is None else _stored_devices(store, trust=trust)
    finally:
        store.close()
    if record is None:
        raise StoreError(f"{location.text!r} is a study file in which no study was begun yet; begin it by `search`.")
    compared, free = record.settings["compared"], record.settings["options"]
    given = {
        "trials": trials,
        "workers": workers,
        "seconds": seconds,
        "time_limit": time_limit,
        "memory_limit": memory_limit,
    }
    named = {f.name for f in fields(Options)}
    values = {name: value for name, value in {**compared, **free}.items() if name in named}
    values |= {name: value for name, value in given.items() if value is not None}
    setup = Setup(
        space=read_space(space) if space is not None else _stored_space(record, location, trust=trust),
        task=read_task(task) if task is not None else _stored_task(record, location),
        strategy=restore(compared["strategy"], "strategy", trust=trust),
        estimator=restore(compared["estimator"], "estimator", trust=trust),
        objectives=stored_objectives(compared["objectives"]),
        constraints=tuple(Constraint(**c) for c in compared["constraints"]),
        options=Options(**values),
        baseline=baseline or free["baseline"],
        references=tuple(
            (item["name"], Architecture.from_dict(item["architecture"], trust=trust)) for item in free["references"]
        ),
        listeners=tuple(listeners),
        method=restore(compared["method"], "method", trust=trust) if "method" in compared else None,
        on_devices=on_devices,
        verify=read_verify(free.get("verify") if verify is None else verify) if on_devices.verifiable else None,
    )
    return _start(setup, study, files)


def _stored_space(record: StudyRecord, location: Location, *, trust: bool) -> Space:
    try:
        return Space.from_dict(record.space, trust=trust)
    except NasturtiumError as error:
        raise StoreError(
            f"The space of {location.text!r} cannot be made again from the study: {error} Or give it: "
            "`nas.resume(study, space=…)`."
        ) from error


def _stored_task(record: StudyRecord, location: Location) -> Any:
    from nasturtium import tasks  # noqa: PLC0415

    if record.task["reference"] is None:
        raise StoreError(
            f"The task {record.task['name']!r} of {location.text!r} lived in the process that began the study; give it "
            "again: `nas.resume(study, task=…)`."
        )
    return tasks.open(tasks.TaskReference.from_dict(record.task["reference"]))


def _stored_devices(store: Store, *, trust: bool) -> OnDevices:
    found = Evidences(store.events()).devices
    return OnDevices() if found is None else read_stored(found, trust=trust)


def _start(setup: Setup, study: str | Path | None, files: str | Path | None) -> Study:
    """Check all that can be checked before anything is written, then run."""
    if MARK in os.environ:
        raise InvalidInputError(
            "A search was started inside a worker process of another search: the script that starts it is imported by "
            "its workers. Put the call under `if __name__ == '__main__':`."
        )
    temporary = tempfile.TemporaryDirectory(prefix="nasturtium-") if study is None else None
    location = locate(Path(temporary.name) / "study.db" if temporary is not None else study, files)  # type: ignore[arg-type]
    setup = as_begun(setup, location) if _exists(location) else setup
    record = record_of(setup)
    if _needs_processes(setup.options):
        _shareable(setup, record)
    cheap = cheap_on_devices(setup)
    problem = problem_of(setup, location.files / FOLDER, on_devices=cheap)
    if not _exists(location):
        if setup.on_devices.names:
            task = setup.task
            setup.on_devices.check(
                setup.space, tuple(task.input_shape), task.context, measuring=setup.verify is not None
            )  # fmt: skip
        if setup.method is not None:
            setup.method.check(setup.space, setup.task)
        first = setup.strategy if setup.method is None else Random()
        first.setup(problem)
        first.ask(0)  # nothing is written for a search that has no solution
    store = Store.open(location, create=True)
    try:
        stored = store.record()
        if stored is None:
            store.create(record)
            stored = store.record()
        assert stored is not None
        check_same(stored, record, location.text)
        store.acquire()
        _check_budget(store, setup.options.trials, location)
        store.update_settings(record.settings)
        if setup.on_devices.names and Evidences(store.events()).devices is None:
            store.add_event(DEVICES, setup.on_devices.stored())
        verifier = None
        if cheap is not None and setup.verify is not None:
            verifier = Verifier(
                store=store, cheap=cheap, base=setup.on_devices, objectives=setup.objectives,
                constraints=setup.constraints, verify=setup.verify, files=Files(trials=location.files / "trials"),
            )  # fmt: skip
        _run(setup, store, record, problem, location, verifier)
    finally:
        store.close()
    return Study(location, temporary=temporary)


def _run(
    setup: Setup, store: Store, record: StudyRecord, problem: Problem, location: Location, verifier: Verifier | None
) -> None:
    """All runs of the study, one after the other, on the same workers."""

    def emit(event: events.Event) -> None:
        for listener in setup.listeners:
            listener(event)

    def problem_for(role: str) -> Problem:
        """Hand-designed networks may have what no model of a latency knows."""
        if role != "reference" or not setup.on_devices.names:
            return problem
        return problem_of(setup, location.files / FOLDER, features=False, strict=False)

    runners: dict[str, Runner] = {}
    observer = Observer(
        reported=lambda work, values: runners[work.role].reported(work, values),
        lost=lambda work, attempt, reason: runners[work.role].lost(work, attempt, reason),
    )
    if verifier is not None:
        verifier.emit = emit
    executor = _executor(setup, record, observer)
    store.add_event("started", {"pid": os.getpid(), "versions": versions(), "options": record.settings["options"]})
    try:
        with _interruptible():
            check_ranking(setup, store, location, emit)
            found = None if setup.method is None else learn(setup, store, location, emit)
            for role, strategy, budget, seed in _runs(setup, store, problem, found):
                whole = store.ensure_run(role, budget)
                parts = _parts(setup, role, whole.budget, verifier)
                for until in parts:
                    if verifier is not None and until < parts[-1] and verifier.stepped(role, until):
                        continue  # what was stopped later goes on there: measuring again would be another search
                    known = None if verifier is None else verifier.settle()
                    run = store.ensure_run(role, budget)
                    runners[role] = Runner(
                        store=store, record=run, strategy=strategy, executor=executor, until=until,
                        problem=replace(problem_for(role), seed=seed, trials=run.budget),
                        files=location.files / "trials" / role.replace(":", "-"),
                        schedule=setup.options.schedule, concurrency=setup.options.concurrency,
                        failures=setup.options.failures, seconds=setup.options.seconds, emit=emit,
                        renewed=(lambda trial: trial) if known is None else partial(known.renewed, role),
                    )  # fmt: skip
                    runners[role].run()
                    if verifier is not None:
                        verifier.step(role, until)
            emit(events.SearchFinished())
            store.add_event("finished")
    except KeyboardInterrupt as stop:
        executor.close()
        store.add_event("interrupted")
        raise StudyInterrupted(location) from stop
    finally:
        executor.close()


def _runs(setup: Setup, store: Store, problem: Problem, found: Learned | None) -> Iterator[tuple[str, Any, int, int]]:
    """(role, strategy, budget, seed), in order. Random search gets as many full trials as the search really spent."""
    if found is None:
        yield "search", setup.strategy, setup.options.trials, setup.options.seed
    else:
        kept = meeting(found, problem)[: setup.options.trials]
        yield "search", Listed([(found.name, architecture) for architecture in kept]), len(kept), setup.options.seed
    if setup.baseline == "random":
        done = next(run for run in store.runs() if run.role == "search")
        trials = [logged.trial for logged in store.trials(done.id)]
        spent = fsum(trial.fidelity.share for trial in trials)
        taken = fsum(trial.seconds for trial in trials)
        if found is not None and taken > 0:
            spent += found.seconds * len(trials) / taken
        yield "baseline:random", Random(), ceil(spent - ROUNDING), setup.options.seed + 1_000_003
    if setup.references:
        yield "reference", Listed(setup.references), len(setup.references), setup.options.seed


def _parts(setup: Setup, role: str, budget: int, verifier: Verifier | None) -> tuple[int, ...]:
    """After how many trials a run pauses, so that finalists are measured and the models corrected."""
    if verifier is None or role != "search" or setup.method is not None or not verifier.corrects:
        return (budget,)
    return verifier.verify.parts(budget)


def _executor(setup: Setup, record: StudyRecord, observer: Observer) -> Executor:
    options = setup.options
    besides = setup.on_devices.to_measure(tuple(setup.task.input_shape), setup.task.context)
    if not _needs_processes(options):
        return InProcess(
            setup.estimator, setup.task, observer, threads=options.threads, device=options.device,
            besides=None if besides is None else measurer(besides),
        )  # fmt: skip
    settings = PoolSettings(
        workers=min(options.workers, options.concurrency), estimator=record.settings["compared"]["estimator"],
        task=record.task["reference"], threads=options.threads, device=options.device,
        time_limit=options.time_limit, memory_limit=options.memory_limit, retries=options.retries,
        script=_script(record), besides=besides,
    )  # fmt: skip
    return Pool(settings, observer)


def _script(record: StudyRecord) -> str | None:
    """The user's script, where the space, the task or the estimator is defined in it: workers import it."""
    if "__main__:" not in json.dumps([record.space, record.task, record.settings["compared"]["estimator"]]):
        return None
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        raise InvalidInputError(
            "The space, the task or the estimator is defined interactively, so worker processes cannot import it: put "
            "it in a module, or use `workers=1` without limits."
        )
    return str(Path(path).resolve())


def _needs_processes(options: Options) -> bool:
    return options.workers > 1 or options.time_limit is not None or options.memory_limit is not None


def _shareable(setup: Setup, record: StudyRecord) -> None:
    if record.task["reference"] is None:
        raise InvalidInputError(
            f"The task {setup.task.name!r} lives in this process only, so worker processes cannot have it (which "
            "`workers` > 1, `time_limit` and `memory_limit` need). Data reach workers by name, path or import: use "
            "`nas.tasks.load` with a name or a folder, or `nas.tasks.from_factory('module:function')`, or arrays saved "
            "to a file; or use `workers=1` without limits."
        )


def _check_budget(store: Store, trials: int, location: Location) -> None:
    for run in store.runs():
        if run.role == "search" and trials < run.budget:
            raise StoreError(
                f"The study {location.text!r} has a budget of {run.budget} trials, given {trials}. A budget can only "
                "be raised, which extends the study; to look at what there is, use `Study.open` or `nasturtium front`."
            )


def _exists(location: Location) -> bool:
    """Whether a study may already be there (then its own log says what is feasible)."""
    return location.path is None or (location.path.is_file() and location.path.stat().st_size > 0)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does (in the main thread, where signals can be handled)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
