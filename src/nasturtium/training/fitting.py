"""Train one network: a plain loop that is deterministic, resumable at every epoch and quick for tiny networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.tasks import Task
from nasturtium.training import checkpoint
from nasturtium.training.averaging import Average
from nasturtium.training.evaluation import autocast, check_logits, evaluate, outputs_of, resolve_device
from nasturtium.training.feed import Feed, subset
from nasturtium.training.optimization import make_optimizer, resolve_precision, schedule, wants_channels_last
from nasturtium.training.randomness import derived_seed, local_randomness
from nasturtium.training.recipe import Recipe

CHECK_EVERY = 16
"""Steps between two looks at whether the loss is still finite (a look waits for a GPU)."""
EXPLODED = 10.0
"""A mean train loss of so many times that of guessing, log(classes), counts as diverged."""

Epoch = Mapping[str, float]
"""Record of one epoch: "epoch" (from 1), "loss", "learning_rate", "seconds", and "validation_accuracy" and
"validation_loss" where asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a training came to; the model itself holds the weights.

    Args:
        history: One record an epoch.
        seconds: Time in training itself, summed over interruptions.
        images: Images trained on, repetitions counted.
        stopped: Whether `stop` ended it early.
        resumed: Epochs that were taken from a checkpoint.
        precision: "float32" or "bfloat16".
        channels_last: The memory layout in use.
    """

    history: tuple[Epoch, ...]
    seconds: float
    images: int
    stopped: bool
    resumed: int
    precision: str
    channels_last: bool

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.history)


def fit(
    model: nn.Module,
    task: Task,
    recipe: Recipe | None = None,
    *,
    epochs: int,
    seed: int,
    device: str | torch.device = "cpu",
    directory: Path | None = None,
    keep_checkpoint: bool = False,
    share: float = 1.0,
    size: tuple[int, int] | None = None,
    validate: bool = False,
    on_epoch: Callable[[Epoch], None] | None = None,
    stop: Callable[[Sequence[Epoch]], bool] | None = None,
) -> FitResult:
    """Train a network in place on the train split.

    The order of the images, their augmentation and dropout depend on the seed and the epoch's number alone, so a
    training that is killed and called again with the same arguments ends with bit-identical weights. The result also
    depends on the machine and on PyTorch's number of threads. The global random state is as before afterwards.

    Args:
        model: Takes normalised images, returns logits; moved to the device. The caller initialises it.
        task: The task; its test split is never read here.
        recipe: How; None for the default one.
        epochs: Passes over the train images, at least 1.
        seed: Determines everything random in training.
        device: "cpu", "cuda", "cuda:1" or "auto".
        directory: Where the checkpoint is written after each epoch, and continued from; None for no checkpoints.
        keep_checkpoint: Whether the checkpoint stays after a complete training.
        share: Share of the train images, in (0, 1], with the same mix of classes.
        size: (height, width) that images are resized to, or None for as they are.
        validate: Whether to measure validation accuracy after each epoch (for curves; costs time).
        on_epoch: Called with each new epoch's record.
        stop: Called with the history after each epoch; True ends the training.

    Returns:
        The history and what was used.

    Raises:
        TrialError: kind "diverged": the loss is not finite, or exploded; "memory": the GPU's memory is too small.
        InvalidInputError: an argument is out of range, or the checkpoint belongs to another training.
        StoreError: the checkpoint cannot be written or is damaged.

    Reference:
        Loshchilov, Hutter (2017), "SGDR", arXiv 1608.03983, equation 5 (one cosine, no restarts), with linear warm-up.
    """
    if not isinstance(epochs, int) or epochs < 1:
        raise InvalidInputError(f"`epochs` must be an integer of 1 or more, got {epochs!r}.")
    if not 0.0 < share <= 1.0:
        raise InvalidInputError(f"`share` of the train images must be in (0, 1], got {share!r}.")
    run = _Run(model, task, recipe or Recipe(), epochs, seed, resolve_device(device), directory, share, size, validate)
    try:
        return run.complete(on_epoch, stop, keep_checkpoint=keep_checkpoint)
    except torch.OutOfMemoryError as error:
        raise TrialError(f"The GPU's memory is too small for this network: {error}", kind="memory") from error


@dataclass
class _Run:
    """One training in progress. State is restored from the checkpoint, if there is one, at construction."""

    model: nn.Module
    task: Task
    recipe: Recipe
    epochs: int
    seed: int
    device: torch.device
    directory: Path | None
    share: float
    size: tuple[int, int] | None
    validate: bool
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe, split = self.recipe, self.task.split("train")
        self.precision = resolve_precision(recipe.precision, self.device)
        self.channels_last = wants_channels_last(self.model, recipe.memory_format, self.device)
        self.layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model.to(self.device)
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.feed = Feed(
            split, self.task, device=self.device, augmentation=recipe.augmentation(self.task.augmentation),
            size=self.size, rows=subset(split.labels, self.share),
        )  # fmt: skip
        self.batch = recipe.batch_for(len(self.feed))
        self.steps = len(self.feed) // self.batch
        self.optimizer = make_optimizer(self.model, recipe, self.batch)
        self.average = Average(self.model, recipe.ema) if recipe.ema is not None else None
        self.identity = checkpoint.identity(
            recipe=recipe.to_dict(), task=self.task.fingerprint, epochs=self.epochs, seed=self.seed, share=self.share,
            size=self.size, validate=self.validate, device=self.device.type,
            weights={name: (tuple(t.shape), str(t.dtype)) for name, t in self.model.state_dict().items()},
        ) if self.directory is not None else ""  # fmt: skip
        self.resumed = self._restore()

    def complete(
        self,
        on_epoch: Callable[[Epoch], None] | None,
        stop: Callable[[Sequence[Epoch]], bool] | None,
        *,
        keep_checkpoint: bool,
    ) -> FitResult:
        """Train what is left."""
        stopped = False
        while True:
            stopped = bool(self.history) and stop is not None and stop(tuple(self.history))
            if stopped or len(self.history) >= self.epochs:
                break
            self._epoch(len(self.history))
            if self.directory is not None:
                checkpoint.write(self.directory, self.identity, self._state())
            if on_epoch is not None:
                on_epoch(dict(self.history[-1]))
        if self.average is not None:
            self.average.write_to(self.model)
        self.model.eval()
        if self.directory is not None and not keep_checkpoint:
            checkpoint.remove(self.directory)
        return FitResult(
            history=tuple(self.history), seconds=sum(e["seconds"] for e in self.history),
            images=len(self.history) * self.steps * self.batch, stopped=stopped, resumed=self.resumed,
            precision=self.precision, channels_last=self.channels_last,
        )  # fmt: skip

    def _epoch(self, number: int) -> None:
        """Train one epoch and append its record."""
        begin = time.perf_counter()
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number, 0))
        self.model.train()
        with local_randomness(derived_seed(self.seed, number, 1), self.device):
            total = self._steps(number, self.feed.shuffled(self.batch, generator, self.layout))
        loss = total / self.steps
        if loss > EXPLODED * math.log(self.task.classes):
            raise TrialError(
                f"Training diverged in epoch {number + 1}: a mean loss of {loss:.3g} is over {EXPLODED:g} times that "
                "of guessing. Lower the learning rate, or set `clip`.", kind="diverged",
            )  # fmt: skip
        record = {
            "epoch": float(number + 1),
            "loss": loss,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": time.perf_counter() - begin,
        }
        if self.validate:
            record |= self._validation()
        self.history.append(record)

    def _steps(self, number: int, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
        """All steps of one epoch; returns the sum of their losses."""
        model, optimizer, recipe = self.model, self.optimizer, self.recipe
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        peak = recipe.peak_learning_rate(self.batch)
        total = torch.zeros((), device=self.device)
        for index, (x, y) in enumerate(batches):
            rate = peak * schedule(number * self.steps + index, self.epochs * self.steps, recipe.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(self.precision, self.device):
                logits, auxiliary = outputs_of(model(x))
                if index == 0:
                    check_logits(logits, self.task)
                loss = functional.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
                for extra in auxiliary:
                    loss = loss + recipe.auxiliary_weight * functional.cross_entropy(extra, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            if self.average is not None:
                self.average.update()
            total += loss.detach()
            if (index + 1) % CHECK_EVERY == 0 or index + 1 == self.steps:
                self._require_finite(float(total), number, index)
        return float(total)

    def _require_finite(self, total: float, number: int, index: int) -> None:
        if not math.isfinite(total):
            raise TrialError(
                f"Training diverged: the loss is {total} by step {index + 1} of epoch {number + 1}. Lower the learning "
                "rate, or set `clip`.", kind="diverged",
            )  # fmt: skip

    def _validation(self) -> dict[str, float]:
        """Validation of the weights as they are, or of their average."""
        backup = self.average.write_to(self.model) if self.average is not None else None
        result = evaluate(self.model, self.task, "validation", device=self.device, size=self.size)
        if backup is not None:
            with torch.no_grad():
                for name, tensor in self.model.state_dict().items():
                    tensor.copy_(backup[name])
        return {"validation_accuracy": result.accuracy, "validation_loss": result.loss}

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "history": [dict(e) for e in self.history],
        }

    def _restore(self) -> int:
        """Continue from the checkpoint, if there is one; the number of epochs that it holds."""
        state = None if self.directory is None else checkpoint.read(self.directory, self.identity, self.device)
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self.history = [dict(e) for e in state["history"]]
        return len(self.history)
