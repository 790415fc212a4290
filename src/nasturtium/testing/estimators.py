"""The laws of estimators."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nasturtium.space import Architecture
from nasturtium.study.codec import describe, restore
from nasturtium.testing.contract import ContractError
from nasturtium.trial import FULL

if TYPE_CHECKING:
    from nasturtium.estimators import Estimator
    from nasturtium.tasks import Task

MEASURED_TIMES = ("seconds", "latency")
"""Parts of names of metrics that are times, which may differ from one measurement to the next."""


def check_estimator(
    estimator: Estimator, architecture: Architecture, task: Task, *, metric: str = "accuracy", seed: int = 0
) -> dict[str, float]:
    """Check that an estimator keeps its contract on one architecture. Estimates once, or three times.

    Its metrics are finite numbers and hold `metric`; it does not ask the task for its test split; as JSON and back it
    has the same fingerprint; where it says that it is deterministic, it and its copy measure the same again.

    Args:
        estimator: To check; see `nasturtium.estimators.Estimator`.
        architecture: Fit for the task.
        task: The data.
        metric: One that it must report.
        seed: Of the estimates.

    Returns:
        What it measured.

    Raises:
        ContractError: A law does not hold.

    Example:
        >>> import nasturtium as nas
        >>> task = nas.tasks.load("digits")
        >>> network = nas.Architecture.of(nas.Sequential(nas.Conv(8), nas.Classifier()))
        >>> measured = nas.testing.check_estimator(nas.estimators.Trained(epochs=1), network, task)
        >>> 0 <= measured["accuracy"] <= 1
        True
    """
    from nasturtium.estimators import Job  # noqa: PLC0415  (reaches torch)

    reads: list[str] = []
    guarded = _guard(task, reads)

    def estimate(by: Estimator) -> dict[str, float]:
        with TemporaryDirectory() as folder:
            job = Job(task=guarded, seed=seed, directory=Path(folder), threads=1)
            try:
                return dict(by.estimate(architecture, FULL, job))
            finally:
                _require(not reads, "test_untouched", "It asks the task for its test split, which is not for a search.")

    first = estimate(estimator)
    _check_metrics(first, metric)
    stored = json.loads(json.dumps(describe(estimator, "estimator")))
    copy = restore(stored, "estimator", trust=True)
    _require(copy.fingerprint == estimator.fingerprint, "stored", "What is read back has another fingerprint.")
    seconds = estimator.expected_seconds(task, 1e6)
    _require(seconds >= 0, "expected_seconds", f"`expected_seconds` gives {seconds!r}; a time is 0 or more.")
    if estimator.deterministic:
        for other, what in ((estimate(estimator), "A second estimate"), (estimate(copy), "The one that is read back")):
            _require(
                _values(other) == _values(first),
                "deterministic",
                f"{what} differs, though the estimator is deterministic: {other!r} after {first!r}.",
            )
    return first


def _check_metrics(metrics: dict[str, float], metric: str) -> None:
    _require(metric in metrics, "metrics", f"The estimate lacks {metric!r}: it has {', '.join(sorted(metrics))}.")
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _require(isinstance(name, str) and number, "metrics", f"It holds {name!r}: {value!r}, which is not a number.")
        _require(
            math.isfinite(value),
            "metrics",
            f"It holds {name!r}: {value!r}, which is not finite; what cannot be measured is left out, and a network "
            "that fails raises `TrialError`.",
        )
    json.dumps(metrics)
    accuracy = metrics.get("accuracy", 0.0)
    _require(0 <= accuracy <= 1, "metrics", f"Accuracy is a fraction in [0, 1], got {accuracy!r}.")


def _require(held: object, law: str, message: str) -> None:
    if not held:
        raise ContractError(message, law)


def _guard(task: Any, reads: list[str]) -> Any:
    """The same task, whose `split("test")` raises and is noted."""
    kind = type(task)
    if not dataclasses.is_dataclass(task):
        return task  # not one of ours: it is used as it is

    def split(self: Any, name: Any) -> Any:
        if name == "test":
            reads.append(name)
            raise ContractError("It asks the task for its test split, which is not for a search.", "test_untouched")
        return kind.split(self, name)

    guarded = type(f"{kind.__name__}WithoutTest", (kind,), {"split": split})
    return guarded(**{f.name: getattr(task, f.name) for f in dataclasses.fields(task) if f.init})


def _values(metrics: dict[str, float]) -> dict[str, str]:
    return {k: repr(v) for k, v in metrics.items() if not any(part in k for part in MEASURED_TIMES)}
