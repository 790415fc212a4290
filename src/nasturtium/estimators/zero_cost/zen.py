"""Zen-score: how much a network of Gaussian weights tells apart inputs that lie close together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.zero_cost.networks import laid_out, scored_copy, weighted_layers

IMAGES, REPEATS, STEP = 16, 32, 1e-2
"""Of the authors' code: images of a batch, draws, and the share of the second image."""


def zen(features: nn.Module, shape: tuple[int, ...], *, seed: int, repeats: int = REPEATS) -> float:
    """Mean over draws of `log mean_i ||f(x_i) - f(x_i + 0.01 e_i)||_1 + sum_norms log sqrt(mean_c var_c)`.

    In each draw all weights of convolutions and linear layers, 16 images `x` and 16 directions `e` come from N(0, 1);
    norms' weights are 1 and biases 0. `var_c` is the variance of channel `c` at the input of a batch norm, which gives
    back the scale that the norm took away. Norms of a constant (what zeros were convolved to) are left out.

    Args:
        features: The network up to its last feature map, see `features.feature_graph`; left as it is.
        shape: Of one input.
        seed: Determines the draws.
        repeats: Draws.

    Returns:
        The score; minus infinity where the features do not depend on the input.

    Reference:
        Lin et al. (2021), "Zen-NAS", arXiv 2102.01063, algorithm 1. Differs: the L1 norm is the authors' code's, the
        paper has the Frobenius norm. `var_c` is the batch's own, as in the paper; the code reads the running variance,
        which begins at 1 and moves by a tenth of the way with each batch.
    """
    if repeats < 1:
        raise InvalidInputError(f"`repeats` must be 1 or more, got {repeats!r}.")
    net = scored_copy(features)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(repeats):
        _draw(net, generator)
        images, directions = (laid_out(torch.randn((IMAGES, *shape), generator=generator).to(device)) for _ in range(2))
        scores.append(_score(net, images, images + STEP * directions))
    return sum(scores) / len(scores)


@torch.no_grad()
def _score(net: nn.Module, images: Tensor, moved: Tensor) -> float:
    scales: list[float] = []
    with _variances(net, scales):
        output = net(images)
    apart = (output - net(moved)).abs().flatten(1).sum(1, dtype=torch.float64).mean()
    return _log(float(apart)) + sum(_log(scale) / 2 for scale in scales if scale > 0)


@contextmanager
def _variances(net: nn.Module, into: list[float]) -> Iterator[None]:
    """Note the mean over channels of the variance at the input of each batch norm.

    The norms work it out themselves: with momentum 1 their running variance is that of the batch, with denominator
    `n - 1`. One that keeps none has it worked out here.
    """

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]
        running = module.running_var
        if isinstance(running, Tensor):
            into.append(float(running.double().mean()) * (values - 1) / values)
        else:
            axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
            into.append(float(inputs[0].double().var(axes, correction=0).mean()))

    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    handles = [norm.register_forward_hook(note) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _draw(net: nn.Module, generator: torch.Generator) -> None:
    for layer in weighted_layers(net):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        if layer.bias is not None:
            layer.bias.zero_()
    for module in net.modules():
        if isinstance(module, (_BatchNorm, nn.GroupNorm)) and module.weight is not None:
            module.weight.fill_(1.0)
            module.bias.zero_()


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
