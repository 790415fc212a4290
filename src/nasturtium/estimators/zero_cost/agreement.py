"""How far the rankings of networks by scores agree with one that is believed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.estimators import results
from nasturtium.estimators.protocol import Described, Estimator, Job
from nasturtium.space import Architecture, Space
from nasturtium.supernets.sampling import distinct, network_key
from nasturtium.supernets.trust import FEWEST, Trust, measure_trust
from nasturtium.training import checkpoint
from nasturtium.training.randomness import derived_seed
from nasturtium.trial.types import FULL

STREAM = 0x53434F52
"""Keeps the seeds of scores apart from all others of a seed."""
BASELINES = ("params", "macs")
FILE = "scores.json"
VERSION = 1
RESAMPLES = 2000


class Scorer(Protocol):
    """What scores networks: `ZeroCost` does."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scores."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that changes a score."""
        ...

    def scores(self, architecture: Architecture, job: Job) -> dict[str, float]:
        """Every score by its name; NaN where it is not defined."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How a proxy ranked a sample of networks beside a reference."""

    trust: Trust
    """Kendall's tau-b with its 95 % interval."""
    undefined: int
    """Networks of the sample for which the proxy is not defined; they are left out of tau."""
    baseline: float = math.nan
    """The better tau of counting parameters and of counting MACs, on the networks that this proxy is defined for; NaN
    where neither ranks."""
    spearman: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    """Spearman's rho with the ends of its 95 % interval; NaN where there is none."""

    @property
    def tau(self) -> float:
        """Kendall's tau-b, in [-1, 1]; NaN where either list has one value only."""
        return self.trust.tau

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        rho, low, high = self.spearman
        same = "" if math.isnan(low) else f" Spearman's rho is {rho:+.2f} ({low:+.2f} to {high:+.2f})."
        left = f" It is not defined for {self.undefined} more." if self.undefined else ""
        beside = f" Counting parameters or MACs does as well or better here ({self.baseline:+.2f})."
        return self.trust.sentence + same + left + (beside if self.tau < self.baseline else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the sentence; NaN is null."""
        rho, low, high = (None if math.isnan(value) else value for value in self.spearman)
        baseline = None if math.isnan(self.baseline) else self.baseline
        return {
            **self.trust.to_dict(), "spearman": rho, "spearman_low": low, "spearman_high": high,
            "undefined": self.undefined, "baseline": baseline, "sentence": self.sentence,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Checking:
    """What a check came to."""

    found: dict[str, Checked]
    """By score."""
    networks: int
    """That the reference could measure."""
    left_out: int
    """That it could not."""
    seconds: float
    """That the reference took for all of them, interruptions not counted."""


def check_scores(
    scorer: Scorer,
    space: Space,
    job: Job,
    *,
    reference: Estimator,
    metric: str = "accuracy",
    n: int,
    believed: str = "the reference",
) -> Checking:
    """Score random networks, measure them by a reference too, and say how far the rankings agree.

    Each network is scored with a seed of its own, derived from the job's, as each trial of a search has one; a scorer
    that has a seed for all of them ignores it.

    Args:
        scorer: Of several scores; where "params" and "macs" are among them, the others are compared with these.
        space: Of which the networks are.
        job: Task, seed (of networks and of the reference), threads. In its folder `scores.json` is written anew after
            each network, and a call that was stopped goes on. Its `report` hears "done" and "of".
        reference: What is believed. A network that it cannot measure is left out.
        metric: Of the reference; larger is better.
        n: Different networks, drawn uniformly; different to the reference where that is a table, else by their
            canonical hash.
        believed: What the reference is, for the sentences.

    Raises:
        InvalidInputError: the reference does not measure the metric.
        TrialError: kind "memory": there was too little, perhaps only now; the same call tries that network again.
        StoreError: `scores.json` cannot be written.
    """
    key = reference.key if isinstance(reference, Described) else network_key(job.task)
    networks = distinct(space, n, Random(f"check {job.seed}"), key=key)
    log = _Log.read(job, lambda: _identity(scorer, space, job, reference, metric))
    for number, architecture in enumerate(networks):
        if architecture.key not in log.rows:
            place = None if job.directory is None else job.directory / f"{log.identity[:16]}-{number}"
            own = replace(job, directory=place, report=_unheard)
            seed = derived_seed(job.seed, STREAM, number)
            log.add(architecture.key, _measured(scorer, architecture, own, reference, metric, seed))
        job.report({"done": number + 1.0, "of": float(len(networks))})
    drawn = [log.rows[a.key] for a in networks]
    rows = [row for row in drawn if row["truth"] is not None]
    truth = [float(row["truth"]) for row in rows]
    scores = {name: [_number(row["scores"][name]) for row in rows] for name in scorer.names}
    found = {
        name: replace(
            agreement(name, values, truth, seed=job.seed, believed=believed), baseline=_baseline(scores, values, truth)
        )
        for name, values in scores.items()
    }
    return Checking(
        found=found, networks=len(rows), left_out=len(drawn) - len(rows), seconds=sum(row["seconds"] for row in drawn)
    )


def _baseline(scores: Mapping[str, Sequence[float]], values: Sequence[float], truth: Sequence[float]) -> float:
    """The better tau of the baselines over the networks for which the values of a proxy are defined."""
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    believed = [truth[i] for i in known]
    taus = [
        measure_trust([scores[name][i] for i in known], believed, seed=0, resamples=100).tau
        for name in BASELINES
        if name in scores
    ]
    return max([tau for tau in taus if not math.isnan(tau)], default=math.nan)


def agreement(
    name: str, scores: Sequence[float], truth: Sequence[float], *, seed: int = 0, believed: str = "the reference"
) -> Checked:
    """How a proxy agrees with a reference.

    Args:
        name: Of the proxy.
        scores: One a network; NaN where not defined.
        truth: Of the reference, one a network.
        seed: Of the bootstrap.
        believed: What the reference is, for the sentence.
    """
    found = measure_trust(scores, truth, seed=seed, names=(f"the scores {name!r}", believed))
    pairs = np.array([scores, truth], dtype=np.float64)
    x, y = pairs[:, ~np.isnan(pairs).any(axis=0)]
    return Checked(
        trust=found,
        undefined=int(np.isnan(np.asarray(scores, dtype=float)).sum()),
        spearman=_spearman(x, y, seed),
    )


def vote(scores: Sequence[Sequence[float]], truth: Sequence[float]) -> float:
    """Share of pairs of networks that a majority of several scores orders as the truth does; in [0, 1].

    Every ordered pair (i, j) with different truth counts. If at least half of the scores rank i above j, i is voted the
    better one, else j; so a score that ties is a vote for j.

    It is a share of concordant pairs and no correlation: 0.5 is chance. Without ties it is `(1 + tau) / 2` of one
    score. The paper quotes its 0.82 beside Spearman's correlations, with which it must not be compared.

    Args:
        scores: `(scores, networks)`, larger is better; the paper votes by "synflow", "jacob_cov" and "snip".
        truth: `(networks,)`, larger is better.

    Raises:
        InvalidInputError: the lists differ in length, or no two networks have different truth.

    Reference:
        Abdelfattah, Mehrotra, Dudziak, Lane (2021), "Zero-cost proxies for lightweight NAS", arXiv 2101.08134, section
        4.2. Differs: networks with a NaN are left out; their code adds 1 to the number of pairs.
    """
    if not len(scores) or any(len(row) != len(truth) for row in scores):
        raise InvalidInputError(
            f"Every score must have a value for each of the {len(truth)} networks, got {[len(row) for row in scores]}."
        )
    values, believed = np.array(scores, dtype=np.float64), np.array(truth, dtype=np.float64)
    known = ~(np.isnan(values).any(axis=0) | np.isnan(believed))
    values, believed = values[:, known], believed[known]
    above = (values[:, :, None] > values[:, None, :]).sum(axis=0)  # (i, j): scores that rank i above j
    better = 2 * above >= len(values)
    apart = believed[:, None] - believed[None, :]
    counted = apart != 0
    if not counted.any():
        raise InvalidInputError("A vote is judged by pairs of networks that differ in truth, and there is none.")
    return float((better == (apart > 0))[counted].mean())


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """Rho with a percentile bootstrap over networks; resamples without two different values are left out."""
    rho = float(_correlations(x[None], y[None])[0]) if len(x) else math.nan
    if len(x) < FEWEST or math.isnan(rho):
        return rho, math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))
    found = _correlations(x[drawn], y[drawn])
    found = found[~np.isnan(found)]
    if len(found) < 0.95 * RESAMPLES:
        return rho, math.nan, math.nan
    low, high = np.quantile(found, [0.025, 0.975])
    return rho, float(low), float(high)


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rho of each row, `(rows, n)` each -> `(rows,)`; ties have their mean rank."""
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(x, axis=1), rankdata(y, axis=1)))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, np.nan), dtype=np.float64)


def _measured(
    scorer: Scorer, architecture: Architecture, job: Job, reference: Estimator, metric: str, seed: int
) -> dict[str, Any]:
    """A row of the log: scores, null where not defined, and the truth, null where the reference has none."""
    begin = time.perf_counter()
    try:
        measured = reference.estimate(architecture, FULL, job)
    except TrialError as error:
        if error.kind == "memory":
            raise
        return {"scores": {}, "truth": None, "seconds": time.perf_counter() - begin}
    if metric not in measured:
        raise InvalidInputError(f"The reference measures {', '.join(sorted(measured))}, and not {metric!r}.")
    seconds = measured.get("train_seconds", time.perf_counter() - begin)  # it knows of a training that was interrupted
    scores = scorer.scores(architecture, replace(job, seed=seed))
    return {
        "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
        "truth": float(measured[metric]),
        "seconds": seconds,
    }


@dataclass(slots=True)
class _Log:
    """What is known of each network of a sample, in memory and in a file."""

    path: Path | None
    identity: str
    rows: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, job: Job, identity: Callable[[], str]) -> _Log:
        if job.directory is None:
            return cls(None, "", {})
        path, who = job.directory / FILE, identity()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = None
        known = isinstance(stored, dict) and stored.get("version") == VERSION and stored.get("identity") == who
        return cls(path, who, dict(stored["networks"]) if known else {})

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.rows[key] = row
        if self.path is None:
            return
        said = {"version": VERSION, "identity": self.identity, "networks": self.rows}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            results.replace(self.path, json.dumps(said, indent=1, allow_nan=False).encode())
        except OSError as error:
            raise StoreError(f"Cannot write the check of scores to '{self.path}': {error}.") from error


def _identity(scorer: Scorer, space: Space, job: Job, reference: Estimator, metric: str) -> str:
    return checkpoint.identity(
        scores=scorer.fingerprint, space=space.fingerprint, task=job.task.fingerprint, seed=job.seed,
        reference=reference.fingerprint, metric=metric, torch=torch.__version__,
    )  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _unheard(record: Mapping[str, float]) -> None:
    """The trainings of a check report to nobody."""
