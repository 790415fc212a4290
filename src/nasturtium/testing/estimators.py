"""The laws of estimators."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nasturtium.space import Architecture
from nasturtium.study.codec import describe, restore
from nasturtium.testing.strategies import require
from nasturtium.trial import FULL

MEASURED_TIMES = ("seconds", "latency")
"""Parts of names of metrics that are times, which may differ from one measurement to the next."""


def check_estimator(estimator: Any, task: Any, architecture: Architecture, *, metric: str = "accuracy") -> None:
    """Check that an estimator keeps its contract on one architecture. Estimates three times.

    Args:
        estimator: To check; see `nasturtium.estimators.Estimator`.
        task: The data.
        architecture: Fit for the task.
        metric: One that it must report.

    Raises:
        AssertionError: A law does not hold.
    """
    from nasturtium.estimators import Job  # noqa: PLC0415  (reaches torch)

    def estimate(by: Any, seed: int = 0) -> dict[str, float]:
        with TemporaryDirectory() as folder:
            return dict(by.estimate(architecture, FULL, Job(task=task, seed=seed, directory=Path(folder), threads=1)))

    first = estimate(estimator)
    require(metric in first, f"The estimate lacks {metric!r}: it has {', '.join(sorted(first))}.")
    for name, value in first.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(isinstance(name, str) and number, f"The estimate holds {name!r}: {value!r}, which is not a number.")
    json.dumps(first)
    accuracy = first.get("accuracy", 0.0)
    require(math.isnan(accuracy) or 0 <= accuracy <= 1, f"Accuracy is a fraction, got {accuracy!r}.")
    stored = json.loads(json.dumps(describe(estimator, "estimator")))
    copy = restore(stored, "estimator", trust=True)
    require(copy.fingerprint == estimator.fingerprint, "The estimator that is read back has another fingerprint.")
    require(estimator.expected_seconds(task, 1e6) >= 0, "`expected_seconds` is negative.")
    if estimator.deterministic:
        for other, what in ((estimate(estimator), "A second estimate"), (estimate(copy), "The one that is read back")):
            require(_values(other) == _values(first), f"{what} differs, though the estimator is deterministic.")


def _values(metrics: dict[str, float]) -> dict[str, str]:
    return {k: repr(v) for k, v in metrics.items() if not any(part in k for part in MEASURED_TIMES)}
