"""What the loops that train shared weights have in common: layout, optimiser, loss, and the look at divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from nasturtium.errors import TrialError
from nasturtium.graph import operations as ops
from nasturtium.model import Supernet
from nasturtium.space.open_graph import OpenGraph
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.training.evaluation import check_logits, outputs_of
from nasturtium.training.optimization import make_optimizer

CHECK_EVERY = 16
"""Steps between two looks at whether the loss is still finite (a look waits for a GPU)."""


def layout_of(graph: OpenGraph, wanted: str, device: torch.device) -> torch.memory_format:
    """The layout of images: that of a recipe; of "auto" by the operations, as in `training.optimization`.

    Args:
        graph: The supernet's: its layers need not be made yet.
        wanted: "auto", "channels_last" or "contiguous".
        device: Where.
    """
    kinds = {node.kind for node in graph.nodes}
    if wanted != "auto" or len(graph.input_shapes[0]) != 3:
        last = wanted == "channels_last"
    elif device.type == "cuda":
        last = ops.Conv in kinds
    else:
        last = bool(kinds & {ops.MaxPool, ops.AvgPool}) or any(
            form.operation.groups == form.inputs[0][0] > 1 or max(form.operation.dilation) > 1
            for node in graph.nodes
            if node.kind is ops.Conv
            for form in node.variants
            if isinstance(form.operation, ops.Conv)
        )
    return torch.channels_last if last else torch.contiguous_format


def optimizer_of(supernet: Supernet, recipe: Recipe, batch: int) -> torch.optim.Optimizer:
    """The recipe's optimiser of all shared weights, with momentum buffers from the start.

    A weight's first gradient may come late. A buffer of zeros gives the same first update as none, and lets the fused
    kernel be used, which refuses that some weights have a buffer and others none.
    """
    optimizer = make_optimizer(supernet, recipe, batch)
    if isinstance(optimizer, torch.optim.SGD) and recipe.momentum > 0:
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def classification_loss(
    returned: object, y: Tensor, task: Task, *, smoothing: float, auxiliary_weight: float
) -> tuple[Tensor, Tensor]:
    """Logits, and their cross entropy with that of training-only outputs.

    Args:
        returned: By the supernet.
        y: `(batch,)`, classes.
        task: What the logits must fit.
        smoothing: Of the labels, for the logits.
        auxiliary_weight: Of the loss of each training-only output.

    Returns:
        `(batch, classes)` and `()`.

    Raises:
        InvalidInputError: the logits do not fit the task.
    """
    logits, auxiliary = outputs_of(returned)
    check_logits(logits, task)
    loss = functional.cross_entropy(logits, y, label_smoothing=smoothing)
    for extra in auxiliary:
        loss = loss + auxiliary_weight * functional.cross_entropy(extra, y)
    return logits, loss


def require_finite(totals: Mapping[str, Tensor | float], epoch: int, step: int) -> None:
    """Look at the losses among some values.

    Args:
        totals: By name; those with "loss" in their name count.
        epoch: From 0.
        step: Of the epoch, from 0.

    Raises:
        TrialError: kind "diverged": one is not finite.
    """
    for name, total in totals.items():
        if "loss" in name and not math.isfinite(float(total)):
            raise TrialError(
                f"The training of shared weights diverged: {name!r} is {float(total)} by step {step + 1} of epoch "
                f"{epoch + 1}. Lower the learning rate, or clip the gradient (`clip`).", kind="diverged",
            )  # fmt: skip
