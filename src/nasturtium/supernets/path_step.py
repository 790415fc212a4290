"""One step of the shared weights on the path that is set: what searchers with single paths have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasturtium.errors import IncompatibleError, InvalidInputError, TraceError
from nasturtium.model import Supernet
from nasturtium.model.elastic import Elastic
from nasturtium.space import Space
from nasturtium.space.lowering import lower
from nasturtium.space.open_graph import OpenGraph
from nasturtium.supernets.alternation import set_rate
from nasturtium.supernets.parallel import Parted, Team
from nasturtium.supernets.updates import classification_loss, optimizer_of
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.training.evaluation import autocast, outputs_of
from nasturtium.training.optimization import resolve_precision


class PathStep:
    """Trains the weights of whatever path, or mixture, the supernet is set to.

    Weights that the path does not use get no gradient, hence no weight decay and no momentum in that step.

    Args:
        supernet: On the device, trained in place.
        recipe: How; its `warmup` is left to the caller, who gives the rate of each step.
        batch: Images of a batch.
        task: What the logits must fit.
        device: Where the supernet is.
        parted: How batches are split; None for not at all.

    Raises:
        InvalidInputError: the recipe has an `ema`, which a search has no use for.
    """

    def __init__(
        self,
        supernet: Supernet,
        recipe: Recipe,
        batch: int,
        task: Task,
        device: torch.device,
        parted: Parted | None = None,
    ) -> None:
        check_recipe(recipe)
        self.parted = parted or Parted(Team(), 1, device)
        self.supernet, self.recipe, self.task, self.device = supernet, recipe, task, device
        self.precision = resolve_precision(recipe.precision, device)
        self.parameters = [p for p in supernet.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(supernet, recipe, batch)

    def __call__(self, x: Tensor, y: Tensor, rate: float, seed: int) -> tuple[Tensor, Tensor]:
        """Take one step, with all processes.

        Args:
            x: `(batch, *shape)`.
            y: `(batch,)`, classes.
            rate: Learning rate.
            seed: Of the step, where a batch has several parts.

        Returns:
            The loss, and the share of the images that were right, of the whole batch; without gradient.
        """
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        told = torch.zeros(2, device=x.device)
        for images, labels, share in self.parted.own((x, y), seed, 1):
            logits, loss = self.loss(images, labels, self.recipe.label_smoothing)
            (share * loss).backward()  # type: ignore[no-untyped-call]
            right = (logits.detach().argmax(1) == labels).float().mean()
            told += share * torch.stack([loss.detach(), right])
        self.parted.team.sum_gradients(self.parameters)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        told = self.parted.team.add_up(told)
        return told[0], told[1]

    def loss(self, x: Tensor, y: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Logits and loss of the supernet as it is set, training-only outputs included."""
        with autocast(self.precision, self.device):
            return classification_loss(
                self.supernet(x), y, self.task, smoothing=smoothing, auxiliary_weight=self.recipe.auxiliary_weight
            )

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of the images that the supernet, as it is set and in its mode, has right."""
        with autocast(self.precision, self.device):
            logits, _ = outputs_of(self.supernet(x))
        return float((logits.argmax(1) == y).float().mean())


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that a search cannot follow.

    Raises:
        InvalidInputError: it has an `ema`.
    """
    if recipe.ema is not None:
        raise InvalidInputError(f"A search of an architecture takes no average of the weights, got ema={recipe.ema!r}.")


@contextmanager
def batch_statistics(supernet: Supernet) -> Iterator[None]:
    """Norms with the statistics of the batch, everything else in evaluation mode; running statistics stay as they are.

    Dropout and dropped paths are off.
    """
    was_training = supernet.training
    supernet.eval()
    norms = [m for m in supernet.modules() if isinstance(m, _BatchNorm) or (isinstance(m, Elastic) and _running(m))]
    buffers = [b for m in norms for b in m.buffers(recurse=False)]
    saved = [b.clone() for b in buffers]
    for module in norms:
        module.training = True
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, saved, strict=True):
                buffer.copy_(value)
        supernet.train(was_training)


def _running(module: nn.Module) -> bool:
    return any(name == "running_mean" for name, _ in module.named_buffers(recurse=False))


def require_open(space: Space, method: str) -> None:
    """Refuse a space of one architecture.

    Raises:
        IncompatibleError: nothing is left open.
    """
    if all(decision.count < 2 for decision in space.decisions):
        raise IncompatibleError(
            f"{method} chooses among architectures, but nothing is left open in this space: put a choice, such as "
            "`one_of(3, 5)`, where you would have it decide."
        )


def lowered(space: Space, task: Task, method: str) -> OpenGraph:
    """The open graph of a space on a task.

    Raises:
        IncompatibleError: the space has no supernet there; says why.
    """
    try:
        return lower(space, task.input_shape, **task.context)
    except TraceError as error:
        raise IncompatibleError(
            f"{method} trains a supernet, and this space has none on images {task.input_shape}: {error}"
        ) from error
