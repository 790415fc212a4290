"""A search's arguments as the record of its study: what is compared when it goes on, and what may differ."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.space import Space
from nasturtium.study.arguments import Setup
from nasturtium.study.codec import describe, incidental_of
from nasturtium.study.database import Location
from nasturtium.study.identity import hardware, versions
from nasturtium.study.store import Store, StudyRecord


def record_of(setup: Setup) -> StudyRecord:
    """What a study of these arguments is of."""
    options = setup.options
    free = ("trials", "workers", "time_limit", "memory_limit", "seconds", "retries", "failures")
    compared = {name: value for name, value in asdict(options).items() if name not in free} | {
        "objectives": [f"{o.direction} {o.metric}" for o in setup.objectives],
        "constraints": [asdict(c) for c in setup.constraints],
        "strategy": describe(setup.strategy, "strategy"),
        "estimator": describe(setup.estimator, "estimator"),
    }
    if setup.method is not None:
        compared["method"] = describe(setup.method, "method")
    if setup.on_devices.names:
        compared["devices"] = setup.on_devices.compared()
        compared["rounds"] = None if setup.verify is None or setup.late else setup.verify.rounds
    free_part = {name: getattr(options, name) for name in free} | {
        "baseline": setup.baseline,
        "references": [{"name": name, "architecture": a.to_dict()} for name, a in setup.references],
    }
    if setup.on_devices.names:
        free_part["verify"] = None if setup.verify is None else setup.verify.to_dict()
    settings = {"version": 1, "compared": compared, "options": free_part}
    incidental = [*incidental_of(setup.method, "method"), *incidental_of(setup.estimator, "estimator")]
    if incidental:
        settings["incidental"] = incidental
    reference = setup.task.reference
    return StudyRecord(
        space=_stored_form(setup.space),
        space_fingerprint=setup.space.fingerprint,
        task={
            "name": setup.task.name,
            "reference": None if reference is None else reference.to_dict(),
            "input_shape": list(setup.task.input_shape),
            "context": dict(setup.task.context),
        },
        task_fingerprint=setup.task.fingerprint,
        settings=settings,
        versions=versions(),
        hardware=hardware(),
    )


def as_begun(setup: Setup, location: Location) -> Setup:
    """A search's arguments as those of the study that is there, in what an older one lacks of microcontrollers.

    When it was begun, their own memory was no limit, and no memory was measured. It keeps the limits that it has, and
    its trials: finalists are measured after the last one. All else is left to be compared.
    """
    if not setup.on_devices.memories:
        return setup
    store = Store.open(location)
    try:
        record = store.record()
    finally:
        store.close()
    stored = {} if record is None else record.settings["compared"]
    if setup.given is not None and stored.get("constraints") == [asdict(c) for c in setup.given[1]]:
        setup = replace(setup, on_devices=setup.given[0], constraints=setup.given[1])
    unmeasured = "devices" in stored and stored.get("rounds") is None and not setup.on_devices.latencies
    if unmeasured and setup.verify is not None and setup.on_devices.verifiable:
        return replace(setup, verify=replace(setup.verify, rounds=1), late=True)
    return setup


def _stored_form(space: Space) -> dict[str, Any]:
    try:
        return dict(space.to_dict())
    except InvalidInputError as error:  # a condition that is a lambda: the study runs, `resume` needs the space again
        return {"unstored": str(error)}
