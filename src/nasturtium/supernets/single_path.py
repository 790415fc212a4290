"""Training of shared weights one path at a time, and measuring networks that inherit them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.model import Supernet
from nasturtium.space import Architecture, Space
from nasturtium.space.space import Sampler
from nasturtium.supernets.calibration import calibration_batches, recalibrate
from nasturtium.tasks import Split, Task
from nasturtium.training import Evaluation, Recipe, evaluate, resolve_device
from nasturtium.training.evaluation import check_logits, outputs_of
from nasturtium.training.feed import Feed
from nasturtium.training.optimization import make_optimizer, schedule
from nasturtium.training.randomness import derived_seed, local_randomness

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePathResult:
    """What a training of shared weights came to; the supernet holds them."""

    history: tuple[Mapping[str, float], ...]
    """One record an epoch: "epoch" (from 1), "loss" (mean over the paths), "learning_rate", "seconds"."""
    paths: int
    """Paths trained, repetitions counted."""
    seconds: float


def train_single_path(
    supernet: Supernet,
    space: Space,
    task: Task,
    recipe: Recipe | None = None,
    *,
    epochs: int,
    seed: int,
    sampler: Sampler = "hierarchical",
    paths: int = 1,
    always: Sequence[Architecture] = (),
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> SinglePathResult:
    """Train a supernet in place on the train split: in every step a few random paths, gradients summed.

    Weights that no path of a step uses get no gradient and no weight decay in that step (where a path uses a slice of
    a weight, decay and momentum act on the whole weight). Cost a step: that of the drawn networks.

    Args:
        supernet: Of the space, for the task's inputs and classes; moved to the device.
        space: Where paths are drawn from.
        task: Its validation and test splits are never read here.
        recipe: How; None for the default one. Its `ema`, `precision` and `memory_format` must be the default ones.
        epochs: Passes over the train images, at least 1.
        seed: Determines everything random.
        sampler: "hierarchical" (each active decision uniform; what SPOS and Once-for-All do) or "uniform".
        paths: Random paths in each step, at least 1 where `always` is empty.
        always: Architectures trained in every step besides: the sandwich rule gives the smallest and the largest.
        device: "cpu", "cuda", "cuda:1" or "auto".
        on_epoch: Called with each epoch's record.

    Returns:
        The history.

    Raises:
        InvalidInputError: an argument is out of range.
        TrialError: kind "diverged": the loss is not finite.

    Reference:
        Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv 1904.00420,
        section 3.2; Yu et al. (2020), "BigNAS", arXiv 2003.11142, section 3.1 (the sandwich rule).
        Differs from the papers: norms keep their weights; no distillation into the smaller paths of a sandwich.
    """
    recipe = recipe or Recipe()
    if epochs < 1 or paths < 0 or (not paths and not always):
        raise InvalidInputError(
            f"`epochs` must be at least 1, and each step needs a path, got epochs={epochs!r}, paths={paths!r} and "
            f"{len(always)} in `always`."
        )
    if recipe.ema is not None or recipe.precision == "bfloat16" or recipe.memory_format == "channels_last":
        raise InvalidInputError("Single-path training has no `ema`, `bfloat16` or `channels_last` yet: leave them out.")
    target = resolve_device(device)
    supernet.mix(None).to(target)
    draw = _Draw(space, Random(seed), sampler, paths, tuple(always))
    feed = Feed(task.split("train"), task, device=target, augmentation=recipe.augmentation(task.augmentation))
    batch = recipe.batch_for(len(feed))
    optimizer = make_optimizer(supernet, recipe, batch)
    for group in optimizer.param_groups:
        group["fused"] = False  # the fused kernel refuses weights that have their first gradient later than others
    steps = len(feed) // batch
    history: list[Mapping[str, float]] = []
    for epoch in range(epochs):
        begin = time.perf_counter()
        generator = torch.Generator().manual_seed(derived_seed(seed, epoch, 0))
        supernet.train()
        total = torch.zeros((), device=target)
        with local_randomness(derived_seed(seed, epoch, 1), target):
            for index, (x, y) in enumerate(feed.shuffled(batch, generator, torch.contiguous_format)):
                rate = recipe.peak_learning_rate(batch) * schedule(epoch * steps + index, epochs * steps, recipe.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                total += _step(supernet, draw, x, y, task, recipe)
                if recipe.clip is not None:
                    torch.nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip)
                optimizer.step()
        loss = float(total) / steps
        if not math.isfinite(loss):
            raise TrialError(f"The supernet diverged in epoch {epoch + 1}: lower the learning rate.", kind="diverged")
        record = {
            "epoch": float(epoch + 1),
            "loss": loss,
            "learning_rate": float(optimizer.param_groups[0]["lr"]),
            "seconds": time.perf_counter() - begin,
        }
        history.append(record)
        if on_epoch is not None:
            on_epoch(record)
    supernet.eval()
    return SinglePathResult(history=tuple(history), paths=draw.drawn, seconds=sum(h["seconds"] for h in history))


def _step(supernet: Supernet, draw: _Draw, x: Tensor, y: Tensor, task: Task, recipe: Recipe) -> Tensor:
    """Gradients of one step, added up over its paths; the mean of their losses."""
    total = torch.zeros((), device=x.device)
    architectures = list(draw.step())
    for architecture in architectures:
        logits, auxiliary = outputs_of(supernet.set(architecture)(x))
        check_logits(logits, task)
        loss = functional.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
        for extra in auxiliary:
            loss = loss + recipe.auxiliary_weight * functional.cross_entropy(extra, y)
        (loss / len(architectures)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() / len(architectures)
    return total


@dataclass
class _Draw:
    """Which paths each step trains."""

    space: Space
    rng: Random
    sampler: Sampler
    paths: int
    always: tuple[Architecture, ...]
    drawn: int = 0

    def step(self) -> Iterator[Architecture]:
        self.drawn += self.paths + len(self.always)
        yield from self.always
        for _ in range(self.paths):
            yield self.space.sample(self.rng, self.sampler)


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


def save(supernet: Supernet, path: str | Path) -> None:
    """Write the shared weights as safetensors, at once or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    target = Path(path)
    text = json.dumps({"version": VERSION, "kind": "supernet", "decisions": _decisions(supernet)})
    partial = target.with_name(target.name + ".partial")
    try:
        state = {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}
        save_file(state, partial, metadata={"nasturtium": text})
        partial.replace(target)
    except OSError as error:
        raise StoreError(f"The supernet cannot be written to {str(target)!r}: {error}.") from error


def load(supernet: Supernet, path: str | Path) -> None:
    """Read shared weights into a supernet of the same space.

    Raises:
        StoreError: the file cannot be read, or is of another space.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("nasturtium", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:  # the reader raises its own types
        raise StoreError(f"The supernet cannot be read from {str(path)!r}: {error}.") from error
    own = supernet.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if header.get("version") != VERSION or header.get("decisions") != _decisions(supernet):
        raise StoreError(f"{str(path)!r} holds the weights of another space, or no supernet of version {VERSION}.")
    if {name: tuple(tensor.shape) for name, tensor in state.items()} != shapes:
        raise StoreError(f"The weights in {str(path)!r} have other shapes: the supernet's inputs or classes differ.")
    supernet.load_state_dict(state)


def _decisions(supernet: Supernet) -> dict[str, list[str]]:
    return {d.name: list(d.labels) for d in supernet.graph.decisions}
