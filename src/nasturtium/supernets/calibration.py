"""Running statistics of a network that inherits shared weights, measured anew."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasturtium.errors import InvalidInputError
from nasturtium.tasks import Task
from nasturtium.training.feed import Feed


def calibration_batches(
    task: Task, *, images: int = 2000, batch: int = 200, seed: int = 0, device: str | torch.device = "cpu"
) -> list[Tensor]:
    """Normalised train images, drawn without replacement and not augmented.

    Args:
        task: Its train split is used.
        images: How many, or all where there are fewer; 2,000 in Once-for-All's code.
        batch: Images of a batch; the last may be short.
        seed: Determines the images.
        device: Where the batches shall be.

    Returns:
        Batches `(batch, *input_shape)`, float32.
    """
    if images < 2 or batch < 2:
        raise InvalidInputError(f"Calibration needs 2 images or more, got images={images!r}, batch={batch!r}.")
    total = len(task.split("train"))
    rows = np.array(sorted(Random(seed).sample(range(total), min(images, total))), dtype=np.int64)
    feed = Feed(task.split("train"), task, device=torch.device(device), rows=rows)
    return [x for x, _ in feed.in_order(batch) if len(x) > 1]


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Replace running statistics by averages over the given batches; all else is in evaluation mode meanwhile.

    Mean and biased variance of each batch, averaged with the number of images as weight. The network is left in
    evaluation mode. A supernet is recalibrated by extracting the architecture first.

    Args:
        network: With batch normalisation by `torch.nn.BatchNorm…`; changed in place.
        batches: Inputs, `(batch, *shape)`.

    Returns:
        The network.

    Raises:
        InvalidInputError: no batches.

    Reference:
        Cai et al. (2020), "Once-for-All", arXiv 1908.09791, as in the authors' code (`set_running_statistics`);
        Guo et al. (2020), arXiv 1904.00420, section 3.3. Nothing known differs.
    """
    if not batches:
        raise InvalidInputError("Recalibration needs at least one batch, got none.")
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    means: dict[nn.Module, Tensor] = {m: torch.zeros_like(m.running_mean) for m in norms}  # type: ignore[arg-type]
    variances: dict[nn.Module, Tensor] = {m: torch.zeros_like(m.running_var) for m in norms}  # type: ignore[arg-type]
    images = dict.fromkeys(norms, 0)

    def observe(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x, axes, correction=0)
        means[module] += mean * len(x)
        variances[module] += variance * len(x)
        images[module] += len(x)  # type: ignore[index]

    network.eval()
    handles = [m.register_forward_pre_hook(observe) for m in norms]
    counts = {m: m.num_batches_tracked.clone() for m in norms if m.num_batches_tracked is not None}
    try:
        for norm in norms:
            norm.train()
        for batch in batches:
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
        network.eval()
    for norm, seen in images.items():
        if seen:
            norm.running_mean.copy_(means[norm] / seen)  # type: ignore[union-attr]
            norm.running_var.copy_(variances[norm] / seen)  # type: ignore[union-attr]
        if norm in counts:
            norm.num_batches_tracked.copy_(counts[norm])  # type: ignore[union-attr]
    return network
