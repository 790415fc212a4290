"""Measure the finalists of a stored study on their devices, now or once more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.space import Architecture
from nasturtium.study.database import locate
from nasturtium.study.device_costs import CheapOnDevices
from nasturtium.study.events import Event, Listener
from nasturtium.study.evidence import Evidences
from nasturtium.study.memory_proof import Files
from nasturtium.study.on_device import read_stored
from nasturtium.study.results import BASELINE, REFERENCE, SEARCH, Study
from nasturtium.study.store import Store
from nasturtium.study.verification import Verifier
from nasturtium.study.verify_options import Verify

RUNS = (SEARCH, BASELINE, REFERENCE)


def verify(
    study: str | Path,
    *,
    trials: Sequence[int] = (),
    role: str | None = None,
    how: Verify | None = None,
    files: str | Path | None = None,
    trust: bool = False,
    listeners: Sequence[Listener] = (),
) -> Study:
    """Measure networks of a study on the devices that it was searched for, and correct the models with them.

    For a microcontroller's memory each network's int8 file is written and allocated, with the weights that it has.

    Every measurement is kept in the study's log; the last one of a network counts. To measure the same network until it
    meets its limit would prove nothing: each verdict comes with the number of measurements behind it.

    Args:
        study: Path or URL.
        trials: Numbers of the trials to measure, again if they were before; none for the finalists that were not.
        role: Of their run: "search", "baseline:random" or "reference". None for trials of the search, or else for the
            finalists of all runs: a comparison of runs of which one is not measured has no winner.
        how: How many and how thoroughly; by default as the search did, or as a search does.
        files: Directory of weights, where it is not `<study>.files`.
        trust: Whether modules that are not nasturtium's may be imported for its blocks.
        listeners: Called with each event.

    Returns:
        The study, read again.

    Raises:
        InvalidInputError: the study asks for no latency or memory, has no such trial, or a device cannot be measured
            here.
        StoreError: there is no such study, or another process works on it.
        TrialError: a measurement failed, or an agent cannot be reached.
    """

    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    opened = Study.open(study, files=files, trust=trust)
    store = Store.open(
        locate(study, files), decode=lambda data: Architecture.from_dict(data, trust=trust)
    )  # fmt: skip
    try:
        known = Evidences(store.events()).devices
        if known is None or not opened.evidences.metrics:
            raise InvalidInputError(
                f"The study {opened.location.text!r} asks for no latency or memory on a device, so there is none to "
                "measure. A search does by `latency(DEVICE)`, `sram(DEVICE)` or `flash(DEVICE)` among its objectives "
                "or constraints."
            )
        on_devices = read_stored(known, trust=trust)
        stored = opened.settings["options"].get("verify")
        task = opened.task
        verifier = Verifier(
            store=store,
            cheap=CheapOnDevices(on_devices, tuple(task["input_shape"]), task["context"]),
            base=on_devices,
            objectives=opened.objectives,
            constraints=opened.constraints,
            verify=how or (Verify(**stored) if stored else Verify()),
            files=Files(trials=opened.location.files / "trials"),
            emit=emit,
        )
        _check(opened, trials, role or SEARCH)
        store.acquire()
        if trials:
            verifier.measure(role or SEARCH, trials)
        else:
            for each in (role,) if role else RUNS:
                verifier.more(each)
    finally:
        store.close()
    return Study.open(study, files=files, trust=trust)


def _check(opened: Study, trials: Sequence[int], role: str) -> None:
    """Refuse what cannot be measured."""
    wrong = sorted(set(trials) - {m.number for m in opened.members(role) if m.trial.state == "completed"})
    if wrong:
        raise InvalidInputError(f"The study has no completed trial {wrong[0]} of its run {role!r} to measure.")
    lower = [m for m in opened.members(role) if m.number in trials and not m.trial.fidelity.is_full]
    if lower:
        raise InvalidInputError(
            f"Trial {lower[0].number} of the run {role!r} was trained at a lower fidelity "
            f"({lower[0].trial.fidelity.text}), so it is not measured; give the number of a trial at full fidelity."
        )
    if not opened.members(role):
        raise StoreError(f"The study {opened.location.text!r} has no finished trial of its run {role!r} yet.")
