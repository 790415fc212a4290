"""Alternation: weights learn on one half of the train images, the architecture on the other; what such searches share.

A method says what one step is and which objects hold its state; `alternate` feeds it, keeps the history, and writes
checkpoints from which the same call goes on with bit-identical results.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.supernets.parallel import Parted, Team
from nasturtium.supernets.storage import digest_of
from nasturtium.supernets.updates import CHECK_EVERY, require_finite
from nasturtium.tasks import Augmentation, Task
from nasturtium.training import checkpoint
from nasturtium.training.feed import Feed
from nasturtium.training.randomness import derived_seed, local_randomness

Batch = tuple[Tensor, Tensor]
"""Images `(batch, *input_shape)`, normalised and augmented, and labels `(batch,)`."""

Record = Mapping[str, float]
"""Of one epoch: "epoch" (from 1), "loss", "seconds", and what the method adds."""


class Stateful(Protocol):
    """What a checkpoint holds: a module, an optimiser, or whatever has these two methods and plain state."""

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Inverse of `state_dict`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where in the training a step stands."""

    epoch: int
    """From 0."""
    step: int
    """Of the epoch, from 0; `steps` after the last one."""
    epochs: int
    steps: int
    """Of an epoch."""
    seed: int
    """Differs for every step; for draws that do not come from PyTorch's generator."""

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return (self.epoch * self.steps + self.step) / (self.epochs * self.steps)


StepFunction = Callable[[Batch, Iterator[Batch], Moment], Mapping[str, Tensor | float]]
"""One step: (a batch for the weights, an endless iterator of batches for the architecture, where it stands) -> values
of the history, "loss" among them; they are averaged over the epoch's steps that give them."""

EpochFunction = Callable[[Iterator[Batch], Moment], Mapping[str, float]]
"""What follows an epoch's last step: (an iterator of batches for the architecture, …) -> values of the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternated:
    """What an alternation came to; the given objects hold the state."""

    history: tuple[Record, ...]
    steps: int
    """Calls of the step function, resumed ones included."""
    stopped: bool
    """Whether `stop` ended it before its last epoch."""
    resumed: int
    """Epochs that were taken from a checkpoint."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs, resumed ones included."""
        return sum(record["seconds"] for record in self.history)


def halves(labels: NDArray[np.int64], *, share: float = 0.5, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for the weights and rows for the architecture: disjoint, together all, with the same mix of classes.

    Args:
        labels: `(n,)` classes.
        share: Of the rows that go to the architecture, in (0, 1); the number of a class is off by less than one.
        seed: Determines which.

    Returns:
        (rows for the weights, rows for the architecture), each increasing.

    Raises:
        InvalidInputError: `share` is out of range, or one part would be empty.
    """
    if not 0.0 < share < 1.0:
        raise InvalidInputError(f"`share`, of the images that the architecture learns on, is in (0, 1), got {share!r}.")
    n = len(labels)
    order = np.random.Generator(np.random.PCG64(derived_seed(seed, 0x48414C56))).permutation(n)
    order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    taken = np.floor(np.arange(1, n + 1) * share + 0.5) > np.floor(np.arange(n) * share + 0.5)
    first, second = np.sort(order[~taken]), np.sort(order[taken])
    if not len(first) or not len(second):
        raise InvalidInputError(
            f"The {n} train images cannot be parted into two with a share of {share!r}: one part would be empty."
        )
    return first, second


def cosine(progress: float, peak: float, last: float = 0.0) -> float:
    """Learning rate that falls from `peak` (at progress 0) to `last` (at 1) by half a cosine.

    Reference:
        Loshchilov, Hutter (2017), "SGDR", arXiv 1608.03983, equation 5.
    """
    return last + 0.5 * (peak - last) * (1.0 + math.cos(math.pi * progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def alternate(
    step: StepFunction,
    parts: Mapping[str, Stateful],
    task: Task,
    *,
    epochs: int,
    batch: int,
    seed: int,
    facts: Mapping[str, object],
    device: torch.device,
    directory: Path | None = None,
    share: float = 0.5,
    augmentation: Augmentation | None = None,
    layout: torch.memory_format = torch.contiguous_format,
    after_epoch: EpochFunction | None = None,
    stop: Callable[[Sequence[Record]], bool] | None = None,
    report: Callable[[Record], None] | None = None,
    parted: Parted | None = None,
) -> Alternated:
    """Train weights and architecture in turns; a call that was killed goes on at its last epoch.

    The split of the train images depends on the seed, their order and augmentation on the seed and the epoch, and
    PyTorch's global generators are seeded for each epoch (and put back); so a call that goes on ends with the same
    bits. The checkpoint stays when all is done: `training.checkpoint.remove` it when what follows is done too.

    Args:
        step: Trains; see `StepFunction`.
        parts: All that changes, by name: modules (put into training mode before each epoch), optimisers, others. They
            must be on the device.
        task: Only its train split is read.
        epochs: Passes over the weights' part of the train images, at least 1.
        batch: Images of a batch; fewer where a part has fewer.
        seed: Determines everything random.
        facts: What makes this training what it is, as plain values (the method's settings); a checkpoint of other
            facts, data, seed, or initial state is refused.
        device: Where the batches shall be.
        directory: Of the checkpoint; None for none.
        share: Of the train images that the architecture learns on, in (0, 1).
        augmentation: Of both parts; None for the task's own.
        layout: Of the images.
        after_epoch: Called after the last step of each epoch, before the checkpoint.
        stop: Called with the history before each epoch but the first; True ends the training.
        report: Called with each new epoch's record.
        parted: How the steps split batches, and among which processes; None for not at all. Every process is given the
            whole batches. All begin with the state of the first, which writes the checkpoints; running statistics are
            averaged over them after each epoch, before `after_epoch`. What a step returns must be the same in all.

    Raises:
        InvalidInputError: an argument is out of range, parts of a batch are too small, or the checkpoint is of another
            training.
        TrialError: kind "diverged": a loss is not finite; "memory": the GPU's memory is too small.
        StoreError: the checkpoint cannot be written or is damaged.
    """
    for name, value in (("epochs", epochs), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
    split = task.split("train")
    augmentation = task.augmentation if augmentation is None else augmentation
    weights, architecture = (
        Feed(split, task, device=device, augmentation=augmentation, rows=rows)
        for rows in halves(np.asarray(split.labels), share=share, seed=seed)
    )
    parted = parted or Parted(Team(), 1, device)
    if parted.parts > 1:
        parted.check(min(batch, len(weights)))
    run = _Alternation(
        step, parts, weights, architecture, epochs, batch, seed, device, layout, after_epoch, parted.team
    )
    run.share_start()
    run.directory = directory
    if directory is not None or run.team.size > 1:
        run.identity = checkpoint.identity(
            task=task.fingerprint, epochs=epochs, batch=batch, seed=seed, share=share, facts=dict(facts),
            augmentation=repr(augmentation), layout=str(layout), device=device.type,
            start=digest_of({name: part.state_dict() for name, part in parts.items()}),
            **({"parts": parted.parts} if parted.parts > 1 else {}),
        )  # fmt: skip
    try:
        return run.complete(stop, report)
    except torch.OutOfMemoryError as error:
        raise TrialError(f"The GPU's memory is too small for this supernet: {error}", kind="memory") from error


@dataclass
class _Alternation:
    """One training in progress."""

    step: StepFunction
    parts: Mapping[str, Stateful]
    weights: Feed
    architecture: Feed
    epochs: int
    batch: int
    seed: int
    device: torch.device
    layout: torch.memory_format
    after_epoch: EpochFunction | None
    team: Team
    directory: Path | None = None
    identity: str = ""
    history: list[Record] = field(default_factory=list)

    def share_start(self) -> None:
        """Begin in all processes with the weights and statistics of the first."""
        for part in self.parts.values():
            if isinstance(part, nn.Module):
                self.team.share_start(part)

    def complete(
        self, stop: Callable[[Sequence[Record]], bool] | None, report: Callable[[Record], None] | None
    ) -> Alternated:
        """Train what is left."""
        resumed = self._restore()
        stopped = False
        steps = len(self.weights) // min(self.batch, len(self.weights))
        while len(self.history) < self.epochs:
            stopped = bool(self.history) and stop is not None and stop(tuple(self.history))
            if stopped:
                break
            self.history.append(self._epoch(len(self.history), steps))
            self._write()
            if report is not None:
                report(dict(self.history[-1]))
        return Alternated(
            history=tuple(self.history), steps=len(self.history) * steps, stopped=stopped, resumed=resumed
        )

    def _epoch(self, number: int, steps: int) -> Record:
        begin = time.perf_counter()
        for part in self.parts.values():
            if isinstance(part, nn.Module):
                part.train()
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=self.device))
        counts: dict[str, int] = defaultdict(int)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number, 0))
        second = self._endless(number)
        with local_randomness(derived_seed(self.seed, number, 1), self.device):
            batches = self.weights.shuffled(min(self.batch, len(self.weights)), generator, self.layout)
            for index, batch in enumerate(batches):
                for name, value in self.step(batch, second, self._moment(number, index, steps)).items():
                    totals[name] += value.detach() if isinstance(value, Tensor) else value
                    counts[name] += 1
                if (index + 1) % CHECK_EVERY == 0 or index + 1 == steps:
                    require_finite(totals, number, index)
            for part in self.parts.values():
                if isinstance(part, nn.Module):
                    self.team.average_statistics(part)
            added = self.after_epoch(second, self._moment(number, steps, steps)) if self.after_epoch else {}
        means = {name: float(total) / counts[name] for name, total in totals.items()}
        return {"epoch": float(number + 1), **means, **added, "seconds": time.perf_counter() - begin}

    def _moment(self, epoch: int, step: int, steps: int) -> Moment:
        seed = derived_seed(self.seed, epoch, 3, step)
        return Moment(epoch=epoch, step=step, epochs=self.epochs, steps=steps, seed=seed)

    def _endless(self, epoch: int) -> Iterator[Batch]:
        """Batches of the architecture's part, shuffled anew when they are used up."""
        for turn in itertools.count():
            generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch, 2, turn))
            yield from self.architecture.shuffled(min(self.batch, len(self.architecture)), generator, self.layout)

    def _write(self) -> None:
        directory = self.directory
        if directory is None:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        content = {"parts": state, "history": list(self.history)}
        self.team.of_first(lambda: checkpoint.write(directory, self.identity, content))

    def _restore(self) -> int:
        """Continue from the checkpoint, if there is one; the number of epochs that it holds."""
        directory = self.directory
        self.team.require_equal("what is searched", f"{self.identity} {directory is None}")
        if directory is None:
            return 0
        where = self.device if self.team.size == 1 else torch.device("cpu")
        found = self.team.of_first(lambda: checkpoint.read(directory, self.identity, where))
        if found is None:
            return 0
        for name, part in self.parts.items():
            part.load_state_dict(found["parts"][name])
        self.history = [dict(record) for record in found["history"]]
        return len(self.history)
