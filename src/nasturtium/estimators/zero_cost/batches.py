"""Train images to score networks on."""

from __future__ import annotations

import numpy as np
import torch

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.zero_cost.networks import Batch
from nasturtium.tasks import Task
from nasturtium.training.feed import Feed
from nasturtium.training.randomness import derived_seed


def draw_batches(task: Task, *, images: int, count: int, seed: int, device: torch.device) -> list[Batch]:
    """Batches of train images, drawn without replacement, normalised and not augmented.

    Differs from the authors' code of the scores, whose images are augmented as in training.

    Args:
        task: Its train split is used.
        images: Of a batch.
        count: Batches; the first ones are the same whatever follows.
        seed: Determines the images.
        device: Where the batches shall be.

    Raises:
        InvalidInputError: the train split has fewer images.
    """
    split = task.split("train")
    if images * count > len(split):
        raise InvalidInputError(
            f"{count} batches of {images} images are more than the {len(split)} train images of {task.name!r}: lower "
            "`images` or `batches`."
        )
    rows = np.random.default_rng(derived_seed(seed, 0)).permutation(len(split))[: images * count]
    feed = Feed(split, task, device=device, rows=rows.astype(np.int64))
    return [Batch(x, labels) for x, labels in feed.in_order(images)]
