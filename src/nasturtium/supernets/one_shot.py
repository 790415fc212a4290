"""One-Shot: all operations at once while training, with whole paths dropped; sub-networks by zeroing the others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from random import Random
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.model import Supernet, supernet
from nasturtium.model.mix import Sum
from nasturtium.space import Space
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.ranking import Alone, check_ranking, check_sample, without_defaults
from nasturtium.supernets.sampling import distinct
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.shared_training import Circumstances, LossFunction, SharedTraining
from nasturtium.supernets.single_path import measure
from nasturtium.supernets.storage import require_known
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.training.randomness import derived_seed


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Train the sum of all operations with path dropout, then compare random sub-networks by zeroing the others.

    Cost a step: that of all branches that are kept. A `Searcher`.

    Args:
        epochs: Passes over the train images, at least 1.
        dropout: r, in [0, 1): at the end each of a decision's k branches is dropped with probability r^(1/k); see
            `nasturtium.model.mix.Sum`.
        ramp: Share of the training over which that probability rises linearly from 0, in [0, 1]; then it stays.
        samples: Different random architectures that are measured, at least 1; thousands in the paper.
        keep: How many of them, the best, the result has; 10 in the paper.
        recipe: How the weights are trained.
        parts: Of each batch, each with its own norms' statistics and pattern of dropped paths ("ghost" batches; 16 of a
            batch of 1,024 in the paper); see `Circumstances`.
        calibration: Train images from which norms' statistics are taken for each measured architecture.
        sample: Networks, drawn uniformly, that are trained alone, so that the ranking's trust is known; 0 for none.
        alone: How they are trained.

    Reference:
        Bender et al. (2018), "Understanding and simplifying one-shot architecture search", ICML, sections 3.1 to 3.4.
        Differs from the paper: what `Sum` says of its dropping; the weights that a step does not use are not decayed at
        all (there only the L2 term is left out); norms' statistics of a sub-network are measured anew, there they are
        those of the batch.
    """

    epochs: int = 30
    dropout: float = 0.1
    ramp: float = 1.0
    samples: int = 200
    keep: int = 10
    recipe: Recipe = field(default_factory=Recipe)
    parts: int = 1
    calibration: int = 2000
    sample: int = 10
    alone: Alone = field(default_factory=Alone)

    def __post_init__(self) -> None:
        for name in ("epochs", "samples", "keep", "parts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        check_sample(self.sample)
        if not 0 <= self.dropout < 1 or not 0 <= self.ramp <= 1:
            raise InvalidInputError(
                f"`dropout` must be in [0, 1) and `ramp` in [0, 1], got {self.dropout!r} and {self.ramp!r}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        values = {"type": "one_shot", **asdict(self), "recipe": self.recipe.to_dict(), "alone": self.alone.to_dict()}
        return without_defaults(values)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OneShot:
        """Inverse of `to_dict`; keys that are missing take their defaults.

        Raises:
            InvalidInputError: an unknown key, another type, or a value out of range.
        """
        values = dict(data)
        if values.pop("type", "one_shot") != "one_shot":
            raise InvalidInputError(f"Settings of One-Shot have the type 'one_shot', got {data['type']!r}.")
        require_known(values, [f.name for f in fields(cls)], "One-Shot")
        if "recipe" in values:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        if "alone" in values:
            values["alone"] = Alone.from_dict(values["alone"])
        return cls(**values)

    def ramp_at(self, progress: float) -> float:
        """How much of the dropping takes place, in [0, 1], when a share of the training is done."""
        return min(1.0, progress / self.ramp) if self.ramp > 0 else 1.0

    def check(self, space: Space, task: Task) -> None:
        """See `Searcher`: each decision must select among tensors of one shape, so that branches can be added.

        Raises:
            IncompatibleError: some decisions do not.
        """
        self._made(space, task, seed=0)

    def _made(self, space: Space, task: Task, seed: int) -> Supernet:
        context: dict[str, Any] = task.context
        made = supernet(space, task.input_shape, seed=seed, **context)
        left = sorted({d.name for d in space.decisions if d.count > 1} - set(made.mixed))
        if left:
            raise IncompatibleError(
                f"One-Shot adds up the branches of every decision, but {', '.join(left[:5])}"
                f"{' …' if len(left) > 5 else ''} cannot be added up: a decision that changes a width, a kernel or a "
                "shape has single paths only. Train single paths (`train_single_path`, `SharedWeights`), or write the "
                "options as blocks of one output shape."
            )
        return made

    def train(self, shared: Supernet, run: Run) -> SharedTraining:
        """Train a supernet in place, by the sum; it is left in evaluation mode, with single paths.

        Args:
            shared: All of whose decisions are `mixed`.
            run: Task, seed, device, folder, processes.

        Raises:
            InvalidInputError: `run.parts` is not the number that these settings have.
            TrialError: kind "diverged": the loss is not finite.
        """
        gate = Sum(shared.mixed, rate=self.dropout, seed=run.seed)
        circumstances = Circumstances(
            task=run.task, recipe=self.recipe, epochs=self.epochs, seed=run.seed, device=run.device,
            directory=run.directory, initial=run.initial, parts=self._parts(run), parallel=run.parallel,
            on_epoch=run.report,
        )  # fmt: skip
        training = SharedTraining(
            shared.mix(gate), circumstances, method="one shot", dropout=self.dropout, ramp=self.ramp
        )
        training.complete(_Sum(training=training, gate=gate, settings=self))
        shared.mix(None)
        return training

    def _parts(self, run: Run) -> int | None:
        if self.parts == 1:
            return run.parts
        if run.parts not in (None, self.parts):
            raise InvalidInputError(
                f"One-Shot is set to split each batch in {self.parts} parts, but the run says parts={run.parts!r}: "
                "give one of the two."
            )
        return self.parts

    def search(self, space: Space, run: Run) -> SearchResult:
        """See `Searcher`; "shared_accuracy" and "shared_loss" (validation) speak for each architecture found."""
        shared = self._made(space, run.task, run.seed)
        training = self.train(shared, run)
        begin = time.perf_counter()
        drawn = distinct(space, self.samples, Random(derived_seed(run.seed, 4)))
        batches = calibration_batches(run.task, images=self.calibration, seed=run.seed, device=training.device)
        found = []
        for architecture in drawn:
            result = measure(shared, architecture, run.task, batches=batches)
            found.append(
                Found(
                    architecture=architecture,
                    evidence={"shared_accuracy": result.accuracy, "shared_loss": result.loss},
                )
            )
        found.sort(key=lambda f: (-f.evidence["shared_accuracy"], f.evidence["shared_loss"]))
        seconds = training.seconds + time.perf_counter() - begin
        checked = check_ranking(
            shared, space, run, sample=self.sample, alone=self.alone, batches=batches, facts=self.to_dict(),
            epoch=self.epochs,
        )  # fmt: skip
        return SearchResult(
            found=checked.marked(found[: self.keep]), history=tuple(training.history), seconds=seconds,
            steps=self.epochs * training.steps, trust=checked.trust,
            notes=(f"{len(drawn)} random architectures were measured by shared weights.", checked.note),
            state={name: tensor.detach().clone() for name, tensor in shared.state_dict().items()},
        )  # fmt: skip


@dataclass(kw_only=True)
class _Sum:
    """Gradients of the sum with dropped paths; what is dropped is drawn as dropout is, anew in each part."""

    training: SharedTraining
    gate: Sum
    settings: OneShot

    def begin(self, epoch: int) -> None:
        """Nothing is kept from one epoch to the next."""

    def step(self, progress: float) -> None:
        self.gate.ramp = self.settings.ramp_at(progress)

    def gradients(self, x: Tensor, y: Tensor, loss: LossFunction, weight: float) -> Tensor:
        self.gate.die.generator.manual_seed(int(torch.randint(1 << 62, ())))  # by epoch, step and part
        found = loss(self.training.run(x), y)
        (weight * found).backward()  # type: ignore[no-untyped-call]
        return found.detach()

    def record(self) -> Mapping[str, float]:
        return {"ramp": self.gate.ramp}
