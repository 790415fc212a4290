"""Training of shared weights one path at a time, and measuring networks that inherit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.model import Supernet
from nasturtium.space import Architecture, Space
from nasturtium.supernets.calibration import calibration_batches, recalibrate
from nasturtium.supernets.path_step import lowered, require_open
from nasturtium.supernets.paths import Draw, PathSampler, sampler_from
from nasturtium.supernets.shared_training import Circumstances, LossFunction, Record, SharedTraining
from nasturtium.supernets.storage import load, save
from nasturtium.tasks import Split, Task
from nasturtium.training import Evaluation, Recipe, evaluate
from nasturtium.training.randomness import derived_seed

__all__ = ["SinglePathResult", "load", "measure", "save", "train_single_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePathResult:
    """What a training of shared weights came to; the supernet holds them."""

    history: tuple[Record, ...]
    """One record an epoch: "epoch" (from 1), "loss" (mean over the paths), "learning_rate", "seconds", "paths"."""
    paths: int
    """Paths trained, repetitions counted."""
    seconds: float
    """Time in training, summed over interruptions."""
    steps: int
    """Updates of the weights."""
    resumed: int
    """Epochs that were taken from a checkpoint."""


@dataclass(frozen=True, slots=True)
class SinglePaths:
    """What single-path training, and so `estimators.SharedWeights` (SPOS), goes with."""

    def check(self, space: Space, task: Task) -> None:
        """Raise before anything trains where there is no supernet to train.

        Raises:
            IncompatibleError: nothing is open, or the space has no supernet on the task's inputs; says why.
        """
        require_open(space, "Single-path training")
        lowered(space, task, "Single-path training")


def train_single_path(
    supernet: Supernet,
    space: Space,
    task: Task,
    recipe: Recipe | None = None,
    *,
    epochs: int,
    seed: int,
    sampler: str | PathSampler = "hierarchical",
    paths: int = 1,
    always: Sequence[Architecture] = (),
    device: str | torch.device = "cpu",
    directory: Path | None = None,
    initial: Mapping[str, Tensor] | None = None,
    parts: int | None = None,
    parallel: bool = False,
    on_epoch: Callable[[Record], None] | None = None,
) -> SinglePathResult:
    """Train a supernet in place on the train split: in every step a few random paths, then one update.

    Weights that no path of a step uses get no gradient, no weight decay and no momentum in that step (where a path uses
    a slice of a weight, decay and momentum act on the whole weight). Gradients are averaged over the step's paths; with
    `Fair` they are summed. Cost a step: that of the drawn networks.

    Which paths and images a step has depends on the seed and the epoch alone, so a training that is killed and called
    again with the same arguments and `directory` ends with bit-identical weights.

    Args:
        supernet: Of the space, for the task's inputs and classes; moved to the device.
        space: Where paths are drawn from.
        task: Its validation and test splits are never read here.
        recipe: How; None for the default one. An `ema` replaces the weights at the end by their average, those of paths
            not taken included.
        epochs: Passes over the train images, at least 1.
        seed: Determines everything random.
        sampler: How paths are drawn: "hierarchical" (each active decision uniform; what SPOS and Once-for-All do),
            "uniform" (over architectures), "fair", "cost_balanced", or a rule of `nasturtium.supernets.paths`.
        paths: Draws in each step, at least 1 where `always` is empty.
        always: Architectures trained in every step besides: the sandwich rule gives the smallest and the largest.
        device: "cpu", "cuda", "cuda:1" or "auto".
        directory: Of the checkpoint; see `Circumstances`.
        initial: Weights to start from; see `Circumstances`.
        parts: Of each batch; see `Circumstances`.
        parallel: Whether several processes train together; see `Circumstances`.
        on_epoch: Called with each epoch's record.

    Returns:
        The history.

    Raises:
        InvalidInputError: an argument is out of range, or the checkpoint belongs to another training.
        TrialError: kind "diverged": the loss is not finite.
        StoreError: the checkpoint cannot be written or is damaged.

    Reference:
        Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv 1904.00420,
        section 3.2; Yu et al. (2020), "BigNAS", arXiv 2003.11142, section 3.1 (the sandwich rule).
        Differs from the papers: norms keep the weights that the space gives them; no distillation into the smaller
        paths of a sandwich.
    """
    if isinstance(paths, bool) or not isinstance(paths, int) or paths < 0 or (not paths and not always):
        raise InvalidInputError(f"Each step needs a path, got paths={paths!r} and {len(always)} in `always`.")
    rule = sampler_from(sampler)
    circumstances = Circumstances(
        task=task, recipe=recipe or Recipe(), epochs=epochs, seed=seed, device=device, directory=directory,
        initial=initial or {}, parts=parts, parallel=parallel, on_epoch=on_epoch,
    )  # fmt: skip
    training = SharedTraining(
        supernet.mix(None), circumstances, method="single path", sampler=rule.to_dict(), paths=paths,
        always=[dict(a.decisions) for a in always], space_fingerprint=space.fingerprint,
    )  # fmt: skip
    method = _SinglePath(
        training=training, draw=rule.bind(space, task.input_shape, task.context), summed=rule.summed, seed=seed,
        draws=paths, always=tuple(always),
    )  # fmt: skip
    training.complete(method)
    return SinglePathResult(
        history=tuple(training.history), paths=round(sum(r["paths"] for r in training.history)),
        seconds=training.seconds, steps=epochs * training.steps, resumed=training.resumed,
    )  # fmt: skip


@dataclass(kw_only=True)
class _SinglePath:
    """Which paths each step trains, and their gradients."""

    training: SharedTraining
    draw: Draw
    summed: bool
    seed: int
    draws: int
    always: tuple[Architecture, ...]
    rng: Random = field(default_factory=Random)
    step_paths: list[Architecture] = field(default_factory=list)
    drawn: int = 0

    def begin(self, epoch: int) -> None:
        self.rng = Random(derived_seed(self.seed, epoch, 3))
        self.drawn = 0

    def step(self, progress: float) -> None:
        self.step_paths = [*self.always, *[path for _ in range(self.draws) for path in self.draw(self.rng)]]
        self.drawn += len(self.step_paths)

    def gradients(self, x: Tensor, y: Tensor, loss: LossFunction, weight: float) -> Tensor:
        """Paths one after the other, so that one is in memory at a time."""
        count = len(self.step_paths)
        scale = weight if self.summed else weight / count
        total = torch.zeros((), device=x.device)
        for path in self.step_paths:
            self.training.supernet.set(path)
            found = loss(self.training.run(x), y)
            (scale * found).backward()  # type: ignore[no-untyped-call]
            total += found.detach() / count
        return total

    def record(self) -> Mapping[str, float]:
        return {"paths": float(self.drawn)}


def measure(
    supernet: Supernet,
    architecture: Architecture,
    task: Task,
    split: Split | str = "validation",
    *,
    batches: Sequence[Tensor] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Accuracy of an architecture with inherited weights, after recalibration of its norms.

    Args:
        supernet: Trained.
        architecture: Of its space.
        task: The task.
        split: A split's name, or images.
        batches: What to recalibrate with, as `calibration_batches` makes it (make it once for many architectures).
        seed: Of the calibration images, where `batches` is None.
    """
    network = supernet.extract(architecture)
    if batches is None:
        device = next(supernet.parameters()).device
        batches = calibration_batches(task, seed=seed, device=device)
    recalibrate(network, batches)
    return evaluate(network, task, split)  # type: ignore[arg-type]
