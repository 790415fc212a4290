"""Progressive shrinking: train the largest network, then ever smaller ones with the same weights, taught by it.

A plan is a list of phases. Each opens options of some decisions (kernels, then depths, then widths) and keeps the
others at those of the largest network. It works on any space; `shrinking_phases` makes the plan of Once-for-All.

Reference:
    Cai et al. (2020), "Once-for-All: Train One Network and Specialize it for Efficient Deployment", arXiv 1908.09791,
    section 3.3, and the authors' code (`train_ofa_net.py`, `progressive_shrinking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from nasturtium.errors import IncompatibleError, InfeasibleError, InvalidInputError, TraceError
from nasturtium.graph.trace import trace
from nasturtium.model import Supernet
from nasturtium.space import Architecture, Space
from nasturtium.supernets.importance import SortedChannels, sort_channels
from nasturtium.supernets.phases import Phase, largest_options
from nasturtium.supernets.shared_training import Circumstances, LossFunction, Record, SharedTraining
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.training.evaluation import autocast, outputs_of
from nasturtium.training.randomness import derived_seed

TRIES = 100
"""Draws that a space's conditions may refuse in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkingResult:
    """What a progressive shrinking came to; the supernet holds the weights."""

    history: tuple[Record, ...]
    """One record an epoch: that of `SharedTraining`, and "phase" (from 1) and "paths"."""
    sorted: Mapping[str, tuple[SortedChannels, ...]]
    """Widths that were sorted, by the phase before which they were."""
    seconds: float
    """Time in training, summed over interruptions."""
    steps: int
    """Updates of the weights."""
    paths: int
    """Sub-networks trained, repetitions counted."""
    resumed: int
    """Epochs that were taken from checkpoints."""


def train_shrinking(
    supernet: Supernet,
    space: Space,
    task: Task,
    phases: Sequence[Phase],
    recipe: Recipe | None = None,
    *,
    seed: int,
    sizes: Sequence[int] = (),
    shared: Sequence[str] = ("resolution",),
    device: str | torch.device = "cpu",
    directory: Path | None = None,
    initial: Mapping[str, Tensor] | None = None,
    parts: int | None = None,
    parallel: bool = False,
    on_epoch: Callable[[Record], None] | None = None,
) -> ShrinkingResult:
    """Train a supernet in place, phase by phase.

    In each step some sub-networks are drawn, each decision uniform among the phase's options; their gradients are
    summed, and one update is made. The loss of one is the recipe's, plus `distill` times the cross entropy with the
    teacher's probabilities. The teacher is the largest network as the first phase left it, in training mode (its norms
    use the batch) and without gradient.

    What is random depends on the seed, the phase and the epoch alone: a training that is killed and called again with
    the same arguments and `directory` ends with bit-identical weights.

    Args:
        supernet: Of the space, for the task's inputs and classes; moved to the device.
        space: Where sub-networks are drawn from.
        task: Its validation and test splits are never read here.
        phases: The plan, of one phase or more.
        recipe: How; None for the default one. A phase scales its learning rate.
        seed: Determines everything random.
        sizes: Sides in pixels that the images of a batch are resized to (the shorter side; bilinear), one drawn for
            each batch, as elastic resolution of a space that does not decide it; none for as they are.
        shared: Decisions that all sub-networks of a step have in common, where the space has them: the resolution, as
            in the authors' code.
        device: "cpu", "cuda", "cuda:1" or "auto".
        directory: Of the checkpoints, a folder a phase; see `Circumstances`.
        initial: Weights to start from; see `Circumstances`.
        parts: Of each batch; see `Circumstances`.
        parallel: Whether several processes train together; see `Circumstances`.
        on_epoch: Called with each epoch's record.

    Returns:
        The history.

    Raises:
        InvalidInputError: an argument is out of range, or a checkpoint belongs to another training.
        IncompatibleError: the space is a list of architectures, or a network changes with the size of its images.
        TrialError: kind "diverged": the loss is not finite.

    Notes:
        Differs from the paper: the optimiser of each phase starts anew, as in the code; with several processes each
        takes a part of every batch (there each draws a resolution of its own unless they are synchronised). In a
        sandwich the largest network's loss has no teacher, and the others' have their labels too (BigNAS: the teacher
        alone).
    """
    plan = tuple(phases)
    if not plan:
        raise InvalidInputError("Progressive shrinking needs one phase or more, got none.")
    if space.is_table:
        raise IncompatibleError("Progressive shrinking opens decisions, but this space is a list of architectures.")
    recipe = recipe or Recipe()
    for phase in plan:
        phase.check(space)
    largest = settle_largest(space, {})
    _check_sizes(task, largest, sizes)
    history: list[Record] = []
    ordered: dict[str, tuple[SortedChannels, ...]] = {}
    steps = resumed = 0
    teacher: Supernet | None = None
    for number, phase in enumerate(plan):
        if phase.sort:
            ordered[phase.name] = sort_channels(
                supernet, plan[number - 1].options if number else largest_options(space)
            )
        if number == 1 and any(later.distill and later.teacher == "first" for later in plan[1:]):
            teacher = _copy(supernet)
        circumstances = Circumstances(
            task=task, recipe=_recipe(recipe, phase, task), epochs=phase.epochs, seed=derived_seed(seed, number),
            device=device, directory=None if directory is None else directory / f"phase_{number + 1}",
            initial=initial or {} if number == 0 else {}, parts=parts, parallel=parallel,
            on_epoch=_reporter(on_epoch, number + 1),
        )  # fmt: skip
        training = SharedTraining(
            supernet.mix(None), circumstances, method="progressive shrinking",
            phases=[p.to_dict() for p in plan[: number + 1]], sizes=list(sizes), shared=list(shared), plan_seed=seed,
            space_fingerprint=space.fingerprint,
        )  # fmt: skip
        if teacher is not None:
            teacher.to(training.device)
        method = _Shrinking(
            training=training, space=space, phase=phase, sizes=tuple(sizes), shared=tuple(shared),
            teacher=teacher if phase.teacher == "first" and number else None, seed=circumstances.seed,
        )  # fmt: skip
        training.complete(method)
        history += [{**record, "phase": float(number + 1)} for record in training.history]
        steps += phase.epochs * training.steps
        resumed += training.resumed
    return ShrinkingResult(
        history=tuple(history), sorted=ordered, seconds=sum(r["seconds"] for r in history), steps=steps,
        paths=round(sum(r["paths"] for r in history)), resumed=resumed,
    )  # fmt: skip


def settle_largest(space: Space, fixed: Mapping[str, int]) -> Architecture:
    """The largest network of a space, with some decisions given.

    Args:
        space: The space.
        fixed: Indices by name.

    Raises:
        InvalidInputError: conditions refuse it.
    """
    indices = {d.name: largest_options(space)[d.name][0] for d in space.decisions} | dict(fixed)
    found = space.settle(indices)
    if found is None:
        raise InvalidInputError("The space's conditions refuse its largest network, which is to teach the others.")
    return found


def _recipe(recipe: Recipe, phase: Phase, task: Task) -> Recipe:
    batch = recipe.batch_for(len(task.split("train")))
    return replace(recipe, learning_rate=phase.rate * recipe.peak_learning_rate(batch), warmup=phase.warmup)


def _reporter(on_epoch: Callable[[Record], None] | None, number: int) -> Callable[[Record], None] | None:
    return None if on_epoch is None else lambda record: on_epoch({**record, "phase": float(number)})


def _copy(supernet: Supernet) -> Supernet:
    """The weights as they are, in training mode, without gradients."""
    copy = Supernet(supernet.graph, seed=0, kernel_transform=supernet.kernel_transform)
    copy.load_state_dict(supernet.state_dict())
    return copy.requires_grad_(False).train()


def _check_sizes(task: Task, largest: Architecture, sizes: Sequence[int]) -> None:
    """Raise where the network of one size is not that of another."""
    if not sizes:
        return
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise InvalidInputError(f"`sizes` must be positive integers, in pixels, got {list(sizes)!r}.")
    channels, height, width = task.input_shape
    context = task.context
    expected = [(n.path, n.operation) for n in trace(largest, task.input_shape, **context).nodes[1:]]
    for size in sizes:
        shape = (channels, *_sides(height, width, size))
        try:
            found = [(n.path, n.operation) for n in trace(largest, shape, **context).nodes[1:]]
        except TraceError as error:
            raise IncompatibleError(f"Images of {size} pixels do not fit this space: {error}") from error
        if found != expected:
            names = [path for (path, a), (_, b) in zip(expected, found, strict=False) if a != b]
            raise IncompatibleError(
                f"The network changes with the size of its images ({', '.join(names[:3])} at {size} pixels), so one "
                "supernet cannot train several: leave out `sizes`, or let the space decide its resolution."
            )


def _sides(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width at a shorter side."""
    shorter = min(height, width)
    return round(height * size / shorter), round(width * size / shorter)


@dataclass(kw_only=True)
class _Shrinking:
    """Which sub-networks each step trains, and their gradients."""

    training: SharedTraining
    space: Space
    phase: Phase
    sizes: tuple[int, ...]
    shared: tuple[str, ...]
    teacher: Supernet | None
    seed: int
    rng: Random = field(default_factory=Random)
    paths: list[Architecture] = field(default_factory=list)
    taught_by: Architecture | None = None
    size: int | None = None
    drawn: int = 0

    def begin(self, epoch: int) -> None:
        self.rng = Random(derived_seed(self.seed, epoch, 3))
        self.drawn = 0

    def step(self, progress: float) -> None:
        decisions = {d.name: self._allowed(d.name, d.count) for d in self.space.decisions}
        common = {name: self.rng.choice(decisions[name]) for name in self.shared if name in decisions}
        self.size = self.rng.choice(self.sizes) if self.sizes else None
        self.taught_by = settle_largest(self.space, common)
        self.paths = []
        if self.phase.sandwich:
            ends = self.phase.smallest(self.space)
            self.paths = [self.taught_by, _settled(self.space, ends | common)]
        self.paths += [self._draw(decisions, common) for _ in range(self.phase.paths)]
        self.drawn += len(self.paths)

    def _allowed(self, name: str, count: int) -> Sequence[int]:
        return self.phase.options.get(name, range(count))

    def _draw(self, decisions: Mapping[str, Sequence[int]], common: Mapping[str, int]) -> Architecture:
        for _ in range(TRIES):
            drawn = {name: self.rng.choice(allowed) for name, allowed in decisions.items()}
            found = self.space.settle({**drawn, **common})
            if found is not None:
                return found
        raise InfeasibleError(f"The space's conditions refused {TRIES} sub-networks of phase {self.phase.name!r}.")

    def gradients(self, x: Tensor, y: Tensor, loss: LossFunction, weight: float) -> Tensor:
        """Sub-networks one after the other, so that one is in memory at a time."""
        if self.size is not None:
            sides = _sides(x.shape[2], x.shape[3], self.size)
            if sides != tuple(x.shape[2:]):
                x = functional.interpolate(x, size=sides, mode="bilinear", antialias=True, align_corners=False)
        training, ratio = self.training, self.phase.distill
        assert self.taught_by is not None
        target: Tensor | None = None
        if ratio and self.teacher is not None:
            with torch.no_grad(), autocast(training.precision, training.device):
                target = outputs_of(self.teacher.set(self.taught_by)(x))[0].float().softmax(dim=1)
        total = torch.zeros((), device=x.device)
        for number, path in enumerate(self.paths):
            training.supernet.set(path)
            returned = training.run(x)
            found = loss(returned, y)
            first = number == 0 and self.phase.sandwich
            if target is not None and not first:
                found = found + ratio * soft_cross_entropy(outputs_of(returned)[0], target)
            (weight * found).backward()  # type: ignore[no-untyped-call]
            total += found.detach() / len(self.paths)
            if first and ratio and self.phase.teacher == "step":
                target = outputs_of(returned)[0].detach().float().softmax(dim=1)
        return total

    def record(self) -> Mapping[str, float]:
        return {"paths": float(self.drawn)}


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of the cross entropy with given probabilities.

    Args:
        logits: `(batch, classes)`.
        target: `(batch, classes)`, rows that sum to 1.
    """
    return -(target * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


def _settled(space: Space, indices: Mapping[str, int]) -> Architecture:
    found = space.settle(indices)
    if found is None:
        raise InvalidInputError("The space's conditions refuse its smallest network, which a sandwich trains.")
    return found
