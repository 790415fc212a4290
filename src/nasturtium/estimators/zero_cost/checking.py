"""How well a proxy ranks networks of a space, before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.estimators.protocol import Described, Estimator, Job
from nasturtium.estimators.zero_cost.estimator import ZeroCost
from nasturtium.space import Architecture, Space
from nasturtium.supernets.trust import Trust, measure_trust
from nasturtium.tasks import Task
from nasturtium.trial.types import FULL

DRAWS = 50
"""Draws for each network wanted, before a space counts as too small for so many different ones."""
BASELINES = ("params", "macs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How a proxy ranked a sample of networks beside a reference."""

    trust: Trust
    """Kendall's tau-b with its 95 % interval."""
    undefined: int
    """Networks of the sample for which the proxy is not defined; they are left out of tau."""
    baseline: float = math.nan
    """The better tau of counting parameters and of counting MACs, on the same networks; NaN where neither ranks."""

    @property
    def tau(self) -> float:
        """Kendall's tau-b, in [-1, 1]; NaN where either list has one value only."""
        return self.trust.tau

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        left = f" It is not defined for {self.undefined} more." if self.undefined else ""
        beside = f" Counting parameters or MACs does as well or better here ({self.baseline:+.2f})."
        return self.trust.sentence + left + (beside if self.tau < self.baseline else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the sentence; NaN is null."""
        baseline = None if math.isnan(self.baseline) else self.baseline
        return {**self.trust.to_dict(), "undefined": self.undefined, "baseline": baseline, "sentence": self.sentence}


def check(
    space: Space,
    task: Task,
    proxies: str | Sequence[str] | ZeroCost,
    *,
    reference: Estimator,
    metric: str = "accuracy",
    n: int = 30,
    seed: int = 0,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> dict[str, Checked]:
    """Score random networks of a space, measure them by a reference too, and say how far the rankings agree.

    Costs `n` estimates of the reference, which is nearly all of the time: a short training, or a table.

    Args:
        space: The space to be searched.
        task: The data.
        proxies: Names, or an estimator with its settings. "params" and "macs" are always added: a proxy that does no
            better has told nothing new.
        reference: What is believed: an estimator such as `Trained(epochs=5)`, or a table.
        metric: Of the reference; larger is better.
        n: Different networks, drawn uniformly. With 30, an interval is about 0.5 wide.
        seed: Determines the networks, the scores and the trainings.
        report: Called after each network with "done" and "of".

    Returns:
        What was found, by proxy.

    Raises:
        InvalidInputError: fewer than 5 networks, or the reference does not measure the metric.

    Reference:
        As `nasturtium.supernets.trust.measure_trust`: Kendall (1945), tau-b, with a bootstrap over networks.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 5:
        raise InvalidInputError(f"A rank correlation needs 5 networks or more, got n={n!r}.")
    scorer = _with_baselines(proxies, seed)
    job = Job(task=task, seed=seed)
    truth: list[float] = []
    scores: list[dict[str, float]] = []
    networks = distinct(space, n, Random(f"check {seed}"), reference)
    for done, architecture in enumerate(networks, start=1):
        try:
            measured = reference.estimate(architecture, FULL, job)
        except TrialError:
            continue
        if metric not in measured:
            raise InvalidInputError(f"The reference measures {', '.join(sorted(measured))}, and not {metric!r}.")
        truth.append(float(measured[metric]))
        scores.append(_each(scorer, architecture, job))
        if report is not None:
            report({"done": float(done), "of": float(len(networks))})
    found = {
        name: agreement(name, [s.get(name, math.nan) for s in scores], truth, seed=seed) for name in scorer.names
    }  # fmt: skip
    baseline = max((found[name].tau for name in BASELINES if not math.isnan(found[name].tau)), default=math.nan)
    return {name: replace(checked, baseline=baseline) for name, checked in found.items()}


def _with_baselines(proxies: str | Sequence[str] | ZeroCost, seed: int) -> ZeroCost:
    given = proxies if isinstance(proxies, ZeroCost) else ZeroCost(proxies)
    values = {key: value for key, value in given.to_dict().items() if key not in ("version", "type")}
    names = (*given.names, *(name for name in BASELINES if name not in given.names))
    return ZeroCost(**{**values, "proxies": names, "seed": seed if given.seed is None else given.seed})


def _each(scorer: ZeroCost, architecture: Architecture, job: Job) -> dict[str, float]:
    """The scores that are defined, one by one."""
    values: dict[str, Any] = {key: value for key, value in scorer.to_dict().items() if key not in ("version", "type")}
    found: dict[str, float] = {}
    for name in scorer.names:
        try:
            found |= ZeroCost(**{**values, "proxies": name}).estimate(architecture, FULL, job)
        except TrialError:
            continue
    return found


def distinct(space: Space, n: int, rng: Random, estimator: Estimator) -> list[Architecture]:
    """Different random architectures, as many as are found: by decisions, or as a table tells them apart."""
    key = estimator.key if isinstance(estimator, Described) else lambda architecture: architecture.key
    found: dict[str, Architecture] = {}
    for _ in range(DRAWS * n):
        if len(found) == n:
            break
        architecture = space.sample(rng)
        found.setdefault(key(architecture), architecture)
    return list(found.values())


def agreement(name: str, scores: Sequence[float], truth: Sequence[float], *, seed: int = 0) -> Checked:
    """How a proxy agrees with a reference.

    Args:
        name: Of the proxy.
        scores: One a network; NaN where not defined.
        truth: Of the reference, one a network.
        seed: Of the bootstrap.
    """
    found = measure_trust(scores, truth, seed=seed, names=(f"the scores {name!r}", "the reference"))
    return Checked(trust=found, undefined=int(np.isnan(np.asarray(scores, dtype=float)).sum()))
