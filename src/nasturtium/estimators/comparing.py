"""A cheap estimator against full training, on networks of the user's own space."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.estimators import results
from nasturtium.estimators.protocol import Job
from nasturtium.space import Architecture
from nasturtium.supernets.trust import Trust, measure_trust
from nasturtium.trial.types import FULL, Fidelity

FILE = "trust.json"
VERSION = 1


class Measures(Protocol):
    """What measures a network: every `Estimator` does."""

    def estimate(self, architecture: Architecture, fidelity: Fidelity, job: Job) -> Mapping[str, float]:
        """See `Estimator`."""
        ...


def compare_rankings(
    cheap: Measures,
    full: Measures,
    architectures: Sequence[Architecture],
    job: Job,
    *,
    metric: str = "accuracy",
    names: tuple[str, str] = ("shared weights", "training alone"),
) -> Trust:
    """Measure networks by both estimators, and say how far the cheap one's ranking can be trusted.

    Cost: one estimate of each kind for each network. In `job.directory` it leaves `trust.json`, with the values, the
    interval and the sentence; a call that was stopped goes on where it was. A network that one of the two cannot
    measure is left out.

    Args:
        cheap: For example `SharedWeights`.
        full: What is believed, for example `Trained`.
        architectures: Drawn at random from the space, each once; 10 give a wide interval, 30 a useful one.
        job: Task, seed (of trainings and of the bootstrap), folder, threads.
        metric: That both report, of which more is better in both or less is.
        names: Of the two, for the sentence; plural.

    Raises:
        InvalidInputError: an estimator does not report the metric.
        StoreError: `trust.json` cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for number, architecture in enumerate(architectures):
        row: dict[str, Any] = {"architecture": architecture.key}
        for name, estimator in (("cheap", cheap), ("full", full)):
            folder = None if job.directory is None else job.directory / name / str(number)
            row[name] = _value(estimator, architecture, replace(job, directory=folder), metric)
        rows.append(row)
    values = [[float("nan") if row[name] is None else row[name] for row in rows] for name in ("cheap", "full")]
    found = measure_trust(values[0], values[1], seed=job.seed, names=names)
    if job.directory is not None:
        _write(job.directory / FILE, {"version": VERSION, "metric": metric, "trust": found.to_dict(), "networks": rows})
    return found


def read_trust(directory: Path) -> Trust:
    """What `compare_rankings` left in a folder.

    Raises:
        StoreError: there is nothing, or it cannot be read.
    """
    try:
        return Trust.from_dict(json.loads((directory / FILE).read_text(encoding="utf-8"))["trust"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"Cannot read the comparison of rankings in '{directory / FILE}': {error}.") from error


def _value(estimator: Measures, architecture: Architecture, job: Job, metric: str) -> float | None:
    """The metric of one network; None where the network cannot be measured."""
    try:
        metrics = estimator.estimate(architecture, FULL, job)
    except TrialError:
        return None
    if metric not in metrics:
        raise InvalidInputError(
            f"Rankings are compared by a metric that both estimators report, got {metric!r}; "
            f"{type(estimator).__name__} reports {', '.join(sorted(metrics))}."
        )
    return float(metrics[metric])


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        results.replace(path, json.dumps(content, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise StoreError(f"Cannot write the comparison of rankings to '{path}': {error}.") from error
