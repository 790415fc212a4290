"""The honest estimator: train the network and look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from nasturtium.design import scale
from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.estimators import results
from nasturtium.estimators.protocol import Job
from nasturtium.graph import Graph, trace
from nasturtium.model import build
from nasturtium.space import Architecture
from nasturtium.surrogates.stopping import CurveStopping, MedianStopping, stopping_from_dict
from nasturtium.tasks import Task
from nasturtium.training import Epoch, FitResult, Recipe, checkpoint, evaluate, fit, resolve_device, seconds_per_epoch
from nasturtium.trial.types import FULL, Fidelity

TRAINED_VERSION = 1
SMALLEST_SIDE = 4
SECONDS_PER_STEP = 4e-3
SECONDS_PER_IMAGE = 2e-5
SECONDS_PER_MAC = 2e-10
"""Of forward, backward and update, for small mobile networks on one core; see `benchmarks/training.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """Where and at what size one estimate trains."""

    epochs: int
    share: float
    size: tuple[int, int] | None
    input_shape: tuple[int, ...]
    seconds: float | None


@dataclass(frozen=True)
class Trained:
    """Train from scratch on train, measure on validation.

    Deterministic on one machine for one seed, thread count and device. Cost: `epochs` passes over the train images.
    A network that is measured again at a higher fidelity is trained from scratch: the learning rate falls to zero over
    the epochs of each fidelity, and a training that came to its end is no part of a longer one.

    Args:
        epochs: Passes over the train images at full fidelity.
        recipe: How to train.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" …
        patience: End when validation accuracy has not risen for so many epochs, or None. Measures validation each
            epoch; the learning rate's schedule is that of all epochs.
        report_validation: Measure and report validation accuracy each epoch, for learning curves.
        seconds: Limit of the time in training, or None. Training ends with the epoch in which it is reached, whatever
            the learning rate then is; results then depend on the machine's speed.
        stopping: A rule that ends trainings which will hardly be among the best: a `CurveStopping` or a
            `MedianStopping`. Measures validation each epoch; a training that was ended says so in its history.
    """

    epochs: int = 15
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "auto"
    patience: int | None = None
    report_validation: bool = False
    seconds: float | None = None
    stopping: CurveStopping | MedianStopping | None = None

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise InvalidInputError(f"`epochs` must be an integer of 1 or more, got {self.epochs!r}.")
        if self.patience is not None and (not isinstance(self.patience, int) or self.patience < 1):
            raise InvalidInputError(f"`patience` must be an integer of 1 or more, or None, got {self.patience!r}.")
        number = isinstance(self.seconds, (int, float)) and not isinstance(self.seconds, bool)
        if self.seconds is not None and not (number and 0 < self.seconds < float("inf")):
            raise InvalidInputError(f"`seconds` must be a positive number, or None, got {self.seconds!r}.")
        if self.stopping is not None and not isinstance(self.stopping, (CurveStopping, MedianStopping)):
            raise InvalidInputError(
                f"`stopping` must be a CurveStopping, a MedianStopping or None, got {self.stopping!r}."
            )

    @property
    def deterministic(self) -> bool:
        """True, apart from measured times, unless there is a limit of time."""
        return self.seconds is None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `nasturtium.estimators.from_dict` is the inverse."""
        late: dict[str, Any] = {}  # settings that came later are left out at their defaults: older studies go on
        if self.seconds is not None:
            late["seconds"] = self.seconds
        if self.stopping is not None:
            late["stopping"] = self.stopping.to_dict()
        return {
            "version": TRAINED_VERSION,
            "type": "trained",
            "epochs": self.epochs,
            "recipe": self.recipe.to_dict(),
            "device": self.device,
            "patience": self.patience,
            "report_validation": self.report_validation,
            **late,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trained:
        """Inverse of `to_dict`."""
        values = {key: value for key, value in data.items() if key not in ("version", "type")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown or data.get("version", TRAINED_VERSION) != TRAINED_VERSION:
            raise InvalidInputError(
                f"A stored `Trained` estimator must have version {TRAINED_VERSION} and no unknown keys, got version "
                f"{data.get('version')!r} and {sorted(unknown)!r} besides. Use the version of nasturtium that wrote it."
            )
        if values.get("stopping") is not None:
            values["stopping"] = stopping_from_dict(values["stopping"])
        return cls(**{**values, "recipe": Recipe.from_dict(values.get("recipe", {}))})

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Train and measure one architecture.

        Writes `weights.safetensors`, `correct.npy` (`(n,)` bool, in validation's order) and `history.json` into
        `job.directory`; while it trains, a checkpoint stands there, from which an interrupted estimate continues.

        Args:
            architecture: Closed.
            fidelity: Shares of the epochs, the train images, the resolution, the channels of every layer (as
                `design.scale` scales them, to whole numbers), and the limit of time.
            job: Task, seed, folder, threads.

        Returns:
            "accuracy" (fraction), "loss" (nats), "train_seconds", "train_loss", "epochs".

        Raises:
            TrialError: training diverged, or memory ran out.
            InvalidInputError: a fidelity that this estimator does not have, or a width that the network cannot take.
        """
        if job is None:
            raise InvalidInputError("`Trained.estimate` needs a job: `Job(task=…, seed=…)`.")
        return self.train_until(architecture, fidelity, job, described=self.to_dict())

    def train_until(
        self,
        architecture: Architecture,
        fidelity: Fidelity,
        job: Job,
        *,
        described: Mapping[str, Any],
        until: int | None = None,
        summary: Callable[[dict[str, float], FitResult], dict[str, float]] = lambda metrics, _: metrics,
        start: Callable[[Graph], nn.Module] | None = None,
    ) -> dict[str, float]:
        """As `estimate`, perhaps not to the end; for estimators that judge by the beginning of a training.

        Args:
            architecture: See there.
            fidelity: See there.
            job: See there.
            described: The settings of the estimator that asks, as plain JSON; a result in the folder is of these.
            until: Epochs after which to end; None for all. The learning rate's schedule is that of all.
            summary: Makes the metrics of those of the trained network and the training's history.
            start: Makes the network to be trained of its graph; None for one with weights drawn by the job's seed.
                What it depends on must be in `described`.
        """
        settings = self._settings(fidelity, job.task)
        device = resolve_device(self.device if job.device in (None, "auto") else job.device)
        identity = checkpoint.identity(
            estimator=described, architecture=architecture.to_dict(), fidelity=_stored(fidelity), seed=job.seed,
            task=job.task.fingerprint,
        )  # fmt: skip
        finished = None if job.directory is None else results.read_metrics(job.directory, identity)
        if finished is not None:
            return finished
        with torch_threads(job.threads):
            network = _narrowed(architecture, fidelity.width)
            graph = trace(network, settings.input_shape, **job.task.context)
            model = build(graph, seed=job.seed) if start is None else start(graph)
            result = self._fit(model, settings, job, device, until)
            evaluation = evaluate(model, job.task, "validation", size=settings.size)
        if not np.isfinite(evaluation.loss):
            raise TrialError("The trained network's outputs on validation are not finite.", kind="diverged")
        metrics = {
            "accuracy": evaluation.accuracy,
            "loss": evaluation.loss,
            "train_seconds": result.seconds,
            "train_loss": result.history[-1]["loss"],
            "epochs": float(result.epochs),
        }
        metrics = summary(metrics, result)
        if job.directory is not None:
            results.write(job.directory, identity, model, evaluation, result, metrics)
            checkpoint.remove(job.directory)
        return metrics

    def _settings(self, fidelity: Fidelity, task: Task) -> _Settings:
        """What a fidelity means for this task."""
        if fidelity.seconds < 1.0 and self.seconds is None:
            raise InvalidInputError(
                f"A share of the time needs a limit to be a share of, got {fidelity!r} for an estimator without one. "
                "Give it: `Trained(seconds=60)`."
            )
        size = None
        shape = task.input_shape
        if fidelity.resolution < 1.0 and len(shape) == 3:
            height, width = (max(min(SMALLEST_SIDE, n), round(n * fidelity.resolution)) for n in shape[1:])
            size = (height, width)
            shape = (shape[0], *size)
        return _Settings(
            epochs=self.epochs_at(fidelity), share=fidelity.data, size=size, input_shape=shape,
            seconds=None if self.seconds is None else self.seconds * fidelity.seconds,
        )  # fmt: skip

    def epochs_at(self, fidelity: Fidelity) -> int:
        """Epochs of a training at a fidelity: the share, rounded, at least one.

        Raises:
            InvalidInputError: a share below 1 is no fewer epochs than all.
        """
        found = max(1, round(self.epochs * fidelity.epochs))
        if fidelity.epochs < 1 and found >= self.epochs:
            raise InvalidInputError(
                f"A share of {fidelity.epochs:g} of {self.epochs} epochs is {found}, no cheaper than all of them: take "
                "more epochs, or a lower share (`rungs`, `minimum`), or reduce `data` instead."
            )
        return found

    def _fit(
        self, model: nn.Module, settings: _Settings, job: Job, device: torch.device, until: int | None
    ) -> FitResult:
        validate = self.report_validation or self.patience is not None or self.stopping is not None
        return fit(
            model, job.task, self.recipe, epochs=settings.epochs, seed=job.seed, device=device,
            directory=job.directory, keep_checkpoint=job.directory is not None, share=settings.share,
            size=settings.size, validate=validate, on_epoch=job.report,
            stop=lambda history: self._ends(history, settings, until),
        )  # fmt: skip

    def _ends(self, history: Sequence[Epoch], settings: _Settings, until: int | None) -> bool:
        """Whether a training ends before its last epoch."""
        if until is not None and len(history) >= until:
            return True
        if settings.seconds is not None and sum(e["seconds"] for e in history) >= settings.seconds:
            return True
        if self.patience is not None and self._out_of_patience(history):
            return True
        curve = [e.get("validation_accuracy", 0.0) for e in history]
        return self.stopping is not None and self.stopping.stops(curve, settings.epochs)

    def _out_of_patience(self, history: Sequence[Epoch]) -> bool:
        curve = [e["validation_accuracy"] for e in history]
        return len(curve) - 1 - int(np.argmax(curve)) >= (self.patience or len(curve))

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Forecast of one estimate from its cost alone, on one thread of a CPU; right within a factor of about 3.

        `measured_seconds` knows the machine and the network, and takes a second.

        Args:
            task: The data.
            macs: Of one sample.
        """
        images = len(task.split("train"))
        steps = images // self.recipe.batch_for(images)
        whole = self.epochs * (steps * SECONDS_PER_STEP + images * (SECONDS_PER_IMAGE + SECONDS_PER_MAC * macs))
        return whole if self.seconds is None else min(whole, self.seconds)

    def measured_seconds(self, architecture: Architecture, task: Task, *, threads: int | None = None) -> float:
        """Forecast of one estimate by timing a few steps of this architecture on this machine.

        Args:
            architecture: One that is typical of the space.
            task: The data.
            threads: PyTorch's threads, or None to leave them as they are.
        """
        device = resolve_device(self.device)
        with torch_threads(threads):
            model = build(trace(architecture, task.input_shape, **task.context), seed=0)
            whole = self.epochs * seconds_per_epoch(model, task, self.recipe, device=device)
        return whole if self.seconds is None else min(whole, self.seconds)


def _stored(fidelity: Fidelity) -> dict[str, float]:
    """As plain JSON, without the share of the time where it is 1: older results have none."""
    return {name: value for name, value in asdict(fidelity).items() if name != "seconds" or value < 1.0}


def _narrowed(architecture: Architecture, width: float) -> Architecture:
    """The network with a share of its channels."""
    if width == 1.0:
        return architecture
    try:
        return scale(architecture, width=width, divisor=1).network
    except InvalidInputError as error:
        raise InvalidInputError(f"This network cannot be measured at width={width!r}: {error}") from error


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Use so many threads inside, as many as before afterwards."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
