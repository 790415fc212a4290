"""The design of spaces, wired to searches and trainings: samples of errors, networks that fit, scaled networks."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from nasturtium.blocks import Sequential
from nasturtium.design.edf import ErrorSample
from nasturtium.design.lines import append_line, read_lines
from nasturtium.design.scaling import Scaled
from nasturtium.design.tiny import Limits
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.estimators import Trained
from nasturtium.estimators.footprinted import Footprinted
from nasturtium.estimators.protocol import Estimator, Job
from nasturtium.graph import CostModel
from nasturtium.space import Architecture, Space
from nasturtium.strategies import Random as RandomSearch
from nasturtium.study.events import Listener
from nasturtium.study.results import Study
from nasturtium.study.session import search
from nasturtium.tasks import Task
from nasturtium.trial.types import FULL
from nasturtium.zoo.searched_resolution import Resolution

PROBED = 300
"""Networks drawn of each space to see what complexities it holds."""
CUT = 0.05
"""Share of these that is left out at either end of the common range."""
FRESH = 1_000_000
"""From the first seed of a score to the first seed of fresh trainings."""


# Error distributions


def common_range(
    spaces: Iterable[Space], input_shape: tuple[int, ...], *, metric: str = "macs", seed: int = 0, **context: object
) -> tuple[float, float]:
    """The range of complexity in which every space has many networks.

    From the greatest 5 % quantile to the least 95 % quantile of `PROBED` uniform draws of each.

    Args:
        spaces: To be compared.
        input_shape: Of the task.
        metric: A cheap cost, such as "macs", "params" or "activations".
        seed: Of the draws.
        **context: What the task tells the network.

    Raises:
        InvalidInputError: the spaces' ranges do not overlap.
    """
    model = CostModel(input_shape, **context)
    lows, highs = [], []
    for space in spaces:
        rng = Random(f"{seed}/range")
        found = sorted(float(getattr(model(space.sample(rng)), metric)) for _ in range(PROBED))
        lows.append(found[int(CUT * PROBED)])
        highs.append(found[int((1 - CUT) * PROBED) - 1])
    if not max(lows) < min(highs):
        raise InvalidInputError(
            f"These spaces have no complexity in common: of `{metric}`, one begins at {max(lows):.4g} and another ends "
            f"at {min(highs):.4g}. Give a range, or compare spaces of one size."
        )
    return max(lows), min(highs)


def measured_sample(
    space: Space,
    task: Task,
    *,
    name: str,
    n: int,
    estimator: Estimator | None = None,
    low: float | None = None,
    high: float | None = None,
    complexity: str = "macs",
    metric: str = "accuracy",
    sampler: str = "uniform",
    seed: int = 0,
    study: str | Path | None = None,
    workers: int = 1,
    threads: int = 1,
    listeners: Sequence[Listener] = (),
) -> ErrorSample:
    """Draw networks of a space and measure each: a random search, which a study logs and continues after any stop.

    Differs from a draw with replacement: no network is measured twice.

    Args:
        space: To sample.
        task: The data; a network's error is 1 - accuracy on validation.
        name: Of the space.
        n: Networks.
        estimator: What measures; None for `Trained(epochs=10)`.
        low: Least complexity.
        high: Greatest complexity.
        complexity: A cheap cost.
        metric: What the estimator measures: "accuracy", whose error is 1 - accuracy, or one that is better when small.
        sampler: "uniform" over architectures, or "hierarchical".
        seed: Of the draws and the trainings.
        study: Its file; None for a temporary one.
        workers: Processes.
        threads: PyTorch's, in each.
        listeners: Of the search.

    Raises:
        InfeasibleError: no network lies in the range of complexity.
        TrialError: every training failed.
        StudyMismatchError: the file holds a study of other settings.
    """
    limits = [f"{complexity} {sign} {x!r}" for sign, x in ((">=", low), ("<=", high)) if x is not None]
    better = metric == "accuracy"
    found = search(
        space, task, maximize=metric if better else (), minimize=() if better else metric, constraints=limits,
        strategy=RandomSearch(sampler=sampler),
        estimator=estimator or Trained(epochs=10), trials=n, seed=seed, study=study, workers=workers, threads=threads,
        failures=0, listeners=listeners,
    )  # fmt: skip
    return sample_of(found, name, complexity=complexity, metric=metric)


def sample_of(study: Study, name: str, *, complexity: str = "macs", metric: str = "accuracy") -> ErrorSample:
    """The errors of a study's trials; for a random search, a sample of its space.

    Errors are fractions where the metric is "accuracy", and plain numbers otherwise.
    """
    done = [t for t in study.trials if t.state == "completed" and t.fidelity.is_full]
    return ErrorSample(
        name=name,
        errors=tuple(1 - t.metrics[metric] if metric == "accuracy" else t.metrics[metric] for t in done),
        complexities=tuple(t.metrics[complexity] for t in done),
        failed=len(study.trials) - len(done),
        fraction=metric == "accuracy",
    )


# TinyNAS, second stage


def specialize(
    space: Space,
    task: Task,
    limits: Limits,
    *,
    engine: str = "tflm",
    estimator: Estimator | None = None,
    **search_arguments: Any,
) -> Study:
    """Search a space for the most accurate network that fits a microcontroller: TinyNAS' second stage.

    Limits are hard: nothing that does not fit is trained.

    Args:
        space: That the first stage picked.
        task: The data, real images.
        limits: Of the device.
        engine: How memory is used; see `design.footprint.ENGINES`. Under "tflm" the limit of SRAM holds for the whole
            arena that the `.tflite` file is expected to need, under the others for activations alone.
        estimator: What measures; None for `Trained(epochs=10)`.
        **search_arguments: Of `nas.search`: strategy, trials, seed, study, workers …

    Raises:
        InfeasibleError: no network of the space fits.
        InvalidInputError: there is no limit, or an argument cannot be used.
        IncompatibleError: the engine cannot run an operation of a network.

    Notes:
        Differs from the paper: networks are trained one by one, or by any estimator, where the paper trains a
        once-for-all supernet and searches it; memory is a static model, where the paper compiles each candidate.

    Reference:
        Lin et al. (2020), "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, section 3.1.
    """
    wishes = [
        f"{name} <= {limit - reserve}"
        for name, limit, reserve in (
            ("sram", limits.sram, limits.sram_reserve), ("flash", limits.flash, limits.flash_reserve),
        ) if limit is not None
    ]  # fmt: skip
    if not wishes:
        raise InvalidInputError("There is nothing to keep to: give a limit of SRAM or of flash.")
    measured = Footprinted(estimator or Trained(epochs=10), task.input_shape, task.context, engine)
    return search(
        space, task, **{"maximize": "accuracy", **search_arguments}, constraints=wishes, estimator=measured
    )  # fmt: skip


# Compound scaling


class ScaledAccuracy:
    """Accuracy of scaled networks: trained on the task's images resized to each one's resolution, and remembered.

    Args:
        task: The data.
        estimator: What measures.
        seed: Of the first training; the next has the next.
        repeats: Trainings of each network; the score is their mean.
        path: A file of JSON lines with what was measured, read and continued; None for none. A training that diverged
            is kept as such.

    Raises:
        StoreError: the file cannot be read.
    """

    def __init__(
        self, task: Task, estimator: Estimator, *, seed: int = 0, repeats: int = 1, path: Path | None = None
    ) -> None:
        if repeats < 1:
            raise InvalidInputError(f"`repeats` must be at least 1, got {repeats!r}.")
        self.task, self.estimator, self.seed, self.repeats, self.path = task, estimator, seed, repeats, path
        self._known: dict[str, float] = {}
        if path is not None:
            self._read(path)

    def __call__(self, scaled: Scaled[Any]) -> float:
        """Mean accuracy on validation.

        Raises:
            TrialError: every training diverged, or one failed in another way.
        """
        values = [x for x in self.values(scaled) if x == x]
        if not values:
            raise TrialError("Every training of this scaled network diverged.", kind="diverged")
        return statistics.fmean(values)

    def values(self, scaled: Scaled[Any], repeats: int | None = None, *, fresh: bool = False) -> list[float]:
        """Accuracy of each training; NaN for one that diverged.

        Args:
            scaled: The network and its input.
            repeats: Trainings; None for those of the score.
            fresh: Whether to train with other seeds than those of the score: what a network that was picked by its
                score is judged by.

        Raises:
            TrialError: a training failed and did not diverge (memory, time, a crash). It is not kept: run again.
            InvalidInputError: the estimator measures no accuracy.
        """
        architecture = self._resized(scaled)
        first = self.seed + (FRESH if fresh else 0)
        return [self._one(architecture, first + k) for k in range(repeats or self.repeats)]

    def noise(self, scaled: Scaled[Any], repeats: int) -> float:
        """Standard deviation of the score over repeated trainings of a network, from so many of them.

        Raises:
            InvalidInputError: fewer than two trainings.
        """
        values = [x for x in self.values(scaled, repeats) if x == x]
        if len(values) < 2:
            raise InvalidInputError(
                f"A standard deviation needs two trainings, got {len(values)} that did not diverge."
            )
        return statistics.stdev(values) / math.sqrt(self.repeats)

    def _resized(self, scaled: Scaled[Any]) -> Architecture:
        network = scaled.network.block if isinstance(scaled.network, Architecture) else scaled.network
        side = min((scaled.input_shape or self.task.input_shape)[1:])
        return Architecture.of(Sequential(Resolution(side), network))

    def _one(self, architecture: Architecture, seed: int) -> float:
        words = json.dumps([architecture.to_dict(), self.estimator.fingerprint, self.task.fingerprint, seed])
        key = hashlib.sha256(words.encode()).hexdigest()
        if key not in self._known:
            try:
                job = Job(task=self.task, seed=seed, threads=1)
                found = dict(self.estimator.estimate(architecture, FULL, job))
            except TrialError as error:
                if error.kind != "diverged":
                    raise
                found = {"accuracy": math.nan}
            if "accuracy" not in found:
                raise InvalidInputError(
                    f"The estimator must measure accuracy to score scaled networks, got {', '.join(sorted(found))}."
                )
            value = self._known[key] = float(found["accuracy"])
            if self.path is not None:
                append_line(self.path, {"key": key, "accuracy": None if math.isnan(value) else value})
        return self._known[key]

    def _read(self, path: Path) -> None:
        for number, record in enumerate(read_lines(path), 1):
            try:
                value = record["accuracy"]
                self._known[record["key"]] = math.nan if value is None else float(value)
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"Line {number} of {str(path)!r} is no measurement: {error!r}.") from error
