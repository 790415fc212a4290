"""Train one network: a plain loop that is deterministic, resumable at every epoch and quick for tiny networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.tasks import Task
from nasturtium.training import checkpoint
from nasturtium.training.evaluation import autocast, check_logits, evaluate, outputs_of, resolve_device
from nasturtium.training.feed import Feed, subset
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
        self.average = _Average(self.model, recipe.ema) if recipe.ema is not None else None
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
                f"Training diverged in epoch {number + 1}: a mean loss of {loss:.3g} is over {EXPLODED:g} times that of "
                f"guessing. Lower the learning rate, or set `clip`.", kind="diverged",
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
            loss.backward()
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


class _Average:
    """Exponential moving average of the weights and running statistics.

    The decay rises as `min(decay, (1 + steps) / (10 + steps))`, as in TensorFlow's `ExponentialMovingAverage`, so that
    the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.live = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
        self.mean = {n: t.detach().clone() for n, t in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights in."""
        self.steps += 1
        weight = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.mean.values()), list(self.live.values()), weight)  # noqa: SLF001  as torch.optim does

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> dict[str, Tensor]:
        """Put the average into the model; returns what was there."""
        before = {name: t.clone() for name, t in model.state_dict().items()}
        for name, tensor in self.live.items():
            tensor.copy_(self.mean[name])
        return before

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"steps": self.steps, "mean": self.mean}

    def load(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.steps = int(state["steps"])
        with torch.no_grad():
            for name, tensor in self.mean.items():
                tensor.copy_(state["mean"][name])


def derived_seed(*parts: int) -> int:
    """A seed of 63 bits that differs for every combination of parts."""
    return int(np.random.SeedSequence([p & 0xFFFFFFFFFFFFFFFF for p in parts]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def local_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators, which dropout layers draw from, and put them back afterwards."""
    devices = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=devices), deterministic:
        torch.manual_seed(seed)
        yield


def schedule(step: int, steps: int, warmup: float) -> float:
    """Learning rate at a step, relative to its peak: linear rise, then half a cosine towards zero.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: Share of the steps that rise, in [0, 1).
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def make_optimizer(model: nn.Module, recipe: Recipe, batch: int) -> torch.optim.Optimizer:
    """The recipe's optimiser; weights with one axis (biases, norms) do not decay.

    The fused implementations are used: for tiny networks they cost a third of the foreach ones (0.08 ms against
    0.22 ms a step for 60 tensors).
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InvalidInputError("The network has no weights to train.")
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    rate = recipe.peak_learning_rate(batch)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), fused=True)


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "float32" or "bfloat16" for a recipe's precision."""
    if precision != "auto":
        return precision
    return (
        "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    )


def wants_channels_last(model: nn.Module, wanted: str, device: torch.device) -> bool:
    """Whether to keep images as channels-last.

    On CPU, depthwise and dilated convolutions and pooling run 2 to 7 times as fast so; plain convolutions about the same
    or a little slower.
    """
    if wanted != "auto":
        return wanted == "channels_last"
    if device.type == "cuda":
        return any(isinstance(m, nn.Conv2d) for m in model.modules())
    return any(
        (isinstance(m, nn.Conv2d) and ((m.groups > 1 and m.groups == m.in_channels) or max(m.dilation) > 1))
        or isinstance(m, (nn.MaxPool2d, nn.AvgPool2d))
        for m in model.modules()
    )
