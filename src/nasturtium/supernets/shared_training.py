"""The loop that trains shared weights: epochs, steps, checkpoints, precision, data parallelism.

A method says what one step does; see `Method`. Single-path training and One-Shot are two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.model import Supernet
from nasturtium.supernets.parallel import Parted, Team
from nasturtium.supernets.storage import decisions_of, digest_of, fingerprint_of, start_from
from nasturtium.supernets.updates import CHECK_EVERY, classification_loss, layout_of, optimizer_of, require_finite
from nasturtium.tasks import Task
from nasturtium.training import Recipe, checkpoint, resolve_device
from nasturtium.training.averaging import Average
from nasturtium.training.evaluation import autocast
from nasturtium.training.feed import Feed
from nasturtium.training.optimization import resolve_precision, schedule
from nasturtium.training.randomness import derived_seed, local_randomness

Record = Mapping[str, float]
"""Of one epoch: "epoch" (from 1), "loss", "learning_rate", "seconds", and the method's own."""


class Method(Protocol):
    """What the steps of a training do."""

    def begin(self, epoch: int) -> None:
        """Start an epoch, from 0: all that is random depends on the seed and this number alone."""
        ...

    def step(self, progress: float) -> None:
        """Start a step, when a share of the training, in [0, 1), is done."""
        ...

    def gradients(self, x: Tensor, y: Tensor, loss: LossFunction, weight: float) -> Tensor:
        """Add this part's gradients, times its weight, to those that are there; return its loss, without gradient."""
        ...

    def record(self) -> Mapping[str, float]:
        """What the epoch's record holds besides."""
        ...


LossFunction = Callable[[object, Tensor], Tensor]
"""(what the supernet returned, labels) -> the loss that is trained, `()`."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Where and how shared weights are trained, whatever the method.

    Args:
        task: The data; only the train split is read.
        recipe: How. `memory_format` is that of the images.
        epochs: Passes over the train images.
        seed: Determines everything random.
        device: "cpu", "cuda", "cuda:1" or "auto".
        directory: Of the checkpoint, written after each epoch; the same call continues there. None for nowhere. With
            several processes all must see it.
        initial: Weights to start from, by the supernet's names; see `start_from`.
        parts: Into how many parts each batch is split. Each part has norm statistics, dropout and, in One-Shot, path
            dropout of its own, and gradients are averaged over the images of all parts ("ghost" batch normalisation).
            None for one a process.
        parallel: Whether the processes of `torch.distributed`'s default group train together. Each takes
            `parts / processes` of the parts of every batch. With the same `parts`, the weights are those of one process
            up to the rounding of sums; running statistics are averaged over the processes after each epoch, which one
            process does not do: recalibrate, as is always needed.
        on_epoch: Called with each new epoch's record.
    """

    task: Task
    recipe: Recipe = field(default_factory=Recipe)
    epochs: int
    seed: int
    device: str | torch.device = "cpu"
    directory: Path | None = None
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    parts: int | None = None
    parallel: bool = False
    on_epoch: Callable[[Record], None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise InvalidInputError(f"`epochs` must be an integer of 1 or more, got {self.epochs!r}.")


class SharedTraining:
    """One training in progress; restored from its checkpoint, if there is one, when it is made.

    Args:
        supernet: Trained in place; moved to the device.
        circumstances: See there.
        facts: What else makes this training what it is, as plain JSON; a checkpoint of other facts is refused.
    """

    def __init__(self, supernet: Supernet, circumstances: Circumstances, **facts: object) -> None:
        given = circumstances
        recipe, task = given.recipe, given.task
        self.supernet, self.given = supernet, given
        self.device = resolve_device(given.device)
        self.parted = Parted.of(Team.of_group(self.device) if given.parallel else Team(), given.parts, self.device)
        self.team, self.parts = self.parted.team, self.parted.parts
        self.precision = resolve_precision(recipe.precision, self.device)
        self.layout = layout_of(supernet.graph, recipe.memory_format, self.device)
        start_from(supernet, given.initial)
        supernet.to(self.device)
        self.team.share_start(supernet)
        self.feed = Feed(
            task.split("train"), task, device=self.device, augmentation=recipe.augmentation(task.augmentation)
        )
        self.batch = recipe.batch_for(len(self.feed))
        self.steps = len(self.feed) // self.batch
        self.parted.check(self.batch)
        self.parameters = [p for p in supernet.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(supernet, recipe, self.batch)
        self.average = Average(supernet, recipe.ema) if recipe.ema is not None else None
        self.history: list[dict[str, float]] = []
        self.identity = checkpoint.identity(
            recipe=recipe.to_dict(), task=task.fingerprint, epochs=given.epochs, seed=given.seed, parts=self.parts,
            device=self.device.type, space=decisions_of(supernet), **facts,
            graph=fingerprint_of(supernet), start=digest_of(supernet.state_dict()),
        )  # fmt: skip
        self._restore()
        self.resumed = len(self.history)

    def complete(self, method: Method) -> None:
        """Train what is left. The supernet is in evaluation mode afterwards.

        Raises:
            TrialError: kind "diverged": the loss is not finite; "memory": the GPU's memory is too small.
        """
        try:
            while len(self.history) < self.given.epochs:
                self._epoch(method, len(self.history))
        except torch.OutOfMemoryError as error:
            raise TrialError(f"The GPU's memory is too small for this supernet: {error}", kind="memory") from error
        if self.average is not None:
            self.average.write_to(self.supernet)
        self.supernet.eval()

    @property
    def seconds(self) -> float:
        """Time in training, summed over interruptions."""
        return sum(record["seconds"] for record in self.history)

    def _epoch(self, method: Method, number: int) -> None:
        begin = time.perf_counter()
        generator = torch.Generator().manual_seed(derived_seed(self.given.seed, number, 0))
        self.supernet.train()
        method.begin(number)
        total = torch.zeros((), device=self.device)
        with local_randomness(derived_seed(self.given.seed, number, 1), self.device):
            for index, (x, y) in enumerate(self.feed.shuffled(self.batch, generator, self.layout)):
                total += self._step(method, x, y, number, index)
                if (index + 1) % CHECK_EVERY == 0 and self.team.size == 1:  # a team looks together, after the epoch
                    require_finite({"loss": total}, number, index)
        self.team.average_statistics(self.supernet)
        if self.average is not None:
            means, buffers = self.average.mean, dict(self.supernet.named_buffers())
            self.team.average_tensors([mean for name, mean in means.items() if name in buffers])
        record = {
            "epoch": float(number + 1),
            "loss": float(self.team.add_up(total)) / self.steps,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": time.perf_counter() - begin,
            **method.record(),
        }
        require_finite({"loss": record["loss"]}, number, self.steps - 1)
        self.history.append(record)
        self._write()
        if self.given.on_epoch is not None:
            self.given.on_epoch(dict(record))

    def _step(self, method: Method, x: Tensor, y: Tensor, epoch: int, index: int) -> Tensor:
        """One update; the mean loss of this process's parts, times their share of the images."""
        recipe, seed = self.given.recipe, self.given.seed
        done, whole = epoch * self.steps + index, self.given.epochs * self.steps
        rate = recipe.peak_learning_rate(self.batch) * schedule(done, whole, recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        method.step(done / whole)
        total = torch.zeros((), device=self.device)
        for images, labels, share in self.parted.own((x, y), seed, epoch, 2, index):
            total += share * method.gradients(images, labels, self._loss, share)
        self.team.sum_gradients(self.parameters)
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return total

    def run(self, x: Tensor) -> object:
        """What the supernet returns, in the precision of the recipe."""
        with autocast(self.precision, self.device):
            return self.supernet(x)

    def _loss(self, returned: object, y: Tensor) -> Tensor:
        recipe = self.given.recipe
        with autocast(self.precision, self.device):
            return classification_loss(
                returned, y, self.given.task, smoothing=recipe.label_smoothing,
                auxiliary_weight=recipe.auxiliary_weight,
            )[1]  # fmt: skip

    def _write(self) -> None:
        directory = self.given.directory
        if directory is None:
            return
        state = {
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "history": [dict(record) for record in self.history],
        }
        self.team.of_first(lambda: checkpoint.write(directory, self.identity, state))

    def _restore(self) -> None:
        directory = self.given.directory
        self.team.require_equal("what is trained", f"{self.identity} {directory is None}")
        if directory is None:
            return
        where = self.device if self.team.size == 1 else torch.device("cpu")
        state: dict[str, Any] | None = self.team.of_first(lambda: checkpoint.read(directory, self.identity, where))
        if state is None:
            return
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self.history = [dict(record) for record in state["history"]]
