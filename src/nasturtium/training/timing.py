"""How long a training will take, by timing a few steps of it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from nasturtium.tasks import Task
from nasturtium.training.fitting import fit
from nasturtium.training.recipe import Recipe

STEPS = 4
"""Steps that are timed, after as many to warm up."""


def seconds_per_epoch(
    model: nn.Module,
    task: Task,
    recipe: Recipe | None = None,
    *,
    device: str | torch.device = "cpu",
    share: float = 1.0,
) -> float:
    """Forecast of the seconds that one epoch takes; costs a few steps. The model is left as it is.

    Args:
        model: The network.
        task: The data.
        recipe: How it will be trained; None for the default one.
        device: Where.
        share: Of the train images.
    """
    recipe = recipe or Recipe()
    images = max(1, round(share * len(task.split("train"))))
    batch = recipe.batch_for(images)
    steps = max(1, images // batch)
    sample = min(1.0, STEPS * batch / len(task.split("train")))
    model = copy.deepcopy(model)
    result = fit(model, task, recipe, epochs=2, seed=0, device=device, share=sample)
    timed = max(1, result.images // result.epochs // batch)
    return result.history[-1]["seconds"] * steps / timed
