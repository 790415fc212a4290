"""What makes two runs the same study: space, data and settings; and what may differ from one session to the next."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from nasturtium.errors import StudyMismatchError
from nasturtium.study.store import StudyRecord

Json = dict[str, Any]
PACKAGES = ("nasturtium", "torch", "numpy", "sqlalchemy")


def versions() -> Json:
    """Python and the packages that decide about results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> Json:
    """Processor, cores and memory of this machine."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": int(psutil.virtual_memory().total),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def check_same(stored: StudyRecord, given: StudyRecord, where: str) -> None:
    """Refuse to go on with a study of something else.

    Compared are the fingerprints of space and data, and the `compared` part of the settings, but for what the given
    ones name as `incidental`.

    Raises:
        StudyMismatchError: with every difference as "field: the study has …, given …".
    """
    found: list[tuple[str, object, object]] = []
    if stored.space_fingerprint != given.space_fingerprint:
        found.append(("space", _short(stored.space_fingerprint), _short(given.space_fingerprint)))
    if stored.task_fingerprint != given.task_fingerprint:
        found.append((
            "data",
            f"{stored.task.get('name')} ({_short(stored.task_fingerprint)})",
            f"{given.task.get('name')} ({_short(given.task_fingerprint)})",
        ))  # fmt: skip
    incidental = given.settings.get("incidental", ())
    found += [
        item
        for item in differences(stored.settings["compared"], given.settings["compared"])
        if item[0] not in incidental
    ]
    if found:
        lines = "; ".join(f"{name}: the study has {_text(old)}, given {_text(new)}" for name, old, new in found)
        error = StudyMismatchError(
            f"The study {where!r} was begun with other settings, and its trials cannot be mixed with these. {lines}. "
            "Use the study's own settings (`nasturtium resume` takes them from it), or give another `study`."
        )
        error.differences = tuple(found)  # type: ignore[attr-defined]
        raise error


def differences(old: object, new: object, path: str = "") -> list[tuple[str, object, object]]:
    """(field, stored, given) of every leaf that differs between two JSON values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        nested = [differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k)) for k in keys]
        return [item for items in nested for item in items]
    return [] if old == new else [(path, old, new)]


def _short(fingerprint: str) -> str:
    return fingerprint if len(fingerprint) <= 24 else f"{fingerprint[:12]}…"


def _text(value: object) -> str:
    return "none" if value is None or value == [] else str(value) if isinstance(value, str) else repr(value)
