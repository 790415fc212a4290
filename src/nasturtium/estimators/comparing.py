"""A cheap estimator against full training, on networks of the user's own space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.estimators.protocol import Job
from nasturtium.space import Architecture
from nasturtium.supernets.ranking import FILE, Measure, compare, read_trust
from nasturtium.supernets.trust import Trust
from nasturtium.trial.types import FULL, Fidelity

__all__ = ["FILE", "Measures", "compare_rankings", "read_trust"]


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
    identity: str | None = None,
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
        identity: What the values depend on: those that `trust.json` has of this identity are not measured again. None
            asks the estimators, which may know in their folders.

    Raises:
        InvalidInputError: an estimator does not report the metric.
        TrialError: kind "memory": there was too little, perhaps only now; the same call tries that network again.
        StoreError: `trust.json` cannot be written.
    """

    def value(name: str, estimator: Measures) -> Measure:
        def measured(architecture: Architecture, number: int) -> float | None:
            folder = None if job.directory is None else job.directory / name / str(number)
            return _value(estimator, architecture, replace(job, directory=folder), metric)

        return measured

    return compare(
        value("cheap", cheap), value("full", full), architectures, seed=job.seed, names=names,
        directory=job.directory, identity=identity, metric=metric,
    ).trust  # fmt: skip


def _value(estimator: Measures, architecture: Architecture, job: Job, metric: str) -> float | None:
    """The metric of one network; None where the network cannot be measured."""
    try:
        metrics = estimator.estimate(architecture, FULL, job)
    except TrialError as error:
        if error.kind == "memory":
            raise
        return None
    if metric not in metrics:
        raise InvalidInputError(
            f"Rankings are compared by a metric that both estimators report, got {metric!r}; "
            f"{type(estimator).__name__} reports {', '.join(sorted(metrics))}."
        )
    return float(metrics[metric])
