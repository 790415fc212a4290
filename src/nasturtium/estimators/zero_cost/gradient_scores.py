"""Scores from the loss's gradients at the start: grad_norm, plain, snip, grasp, fisher, ZiCo; and the weights' norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.zero_cost.networks import (
    Batch,
    gradients,
    loss_of,
    scored_copy,
    weighted_layers,
    weights_of,
)

Pairs = Sequence[tuple[Tensor, Tensor]]
"""The weight of each layer with the loss's gradient."""


def first_order(model: nn.Module, batch: Batch) -> Pairs:
    """What grad_norm, plain and snip are made of, so that one backward pass can serve all three."""
    return one_pass(model, batch, channels=False)[0]


def one_pass(model: nn.Module, batch: Batch, *, channels: bool, weights: bool = True) -> tuple[Pairs, float]:
    """Weights with their gradients, and `fisher`, from one backward pass.

    Args:
        model: The network; left as it is.
        batch: Labelled images.
        channels: Whether `fisher` is asked for; NaN otherwise.
        weights: Whether the weights' gradients are; none otherwise.
    """
    net = scored_copy(model)
    wanted = weights_of(net) if weights else []
    outputs: list[Tensor] = []
    sizes: list[int] = []

    def note(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)
        sizes.append(module.weight[0].numel())  # type: ignore[index]

    for layer in weighted_layers(net) if channels else []:
        layer.register_forward_hook(note)
    found = gradients(loss_of(net, batch), [*wanted, *outputs])
    pairs = [(w.detach().double(), g.double()) for w, g in zip(wanted, found, strict=False)]
    saliencies = [
        size * _saliency(output.detach(), gradient)
        for output, size, gradient in zip(outputs, sizes, found[len(wanted) :], strict=True)
    ]
    return pairs, sum(saliencies) if channels else math.nan


def _saliency(output: Tensor, gradient: Tensor) -> float:
    """`sum_k 1/2 mean_i (sum_x a_ikx dL/da_ikx)^2` of one layer."""
    by_channel = (output * gradient).double()
    if by_channel.ndim > 2:
        by_channel = by_channel.flatten(2).sum(2)
    return 0.5 * float(by_channel.square().mean(0).sum())


def l2_norm(model: nn.Module, batch: Batch | None = None) -> float:  # noqa: ARG001  (all scores take a batch)
    """Sum over layers of `||W||_2`; the batch is not looked at.

    Reference:
        A baseline of White et al. (2022), "NAS-Bench-Suite-Zero", arXiv 2210.03230. Nothing known differs.
    """
    return sum(float(w.detach().double().norm()) for w in weights_of(model))


def grad_norm(model: nn.Module, batch: Batch) -> float:
    """Sum over layers of `||dL/dW||_2`.

    Args:
        model: The network; left as it is.
        batch: Labelled images.

    Reference:
        Abdelfattah, Mehrotra, Dudziak, Lane (2021), "Zero-cost proxies for lightweight NAS", arXiv 2101.08134,
        section 3.2. Differs from the paper: see `networks.scored_copy`; as in the authors' code, the norms of layers
        are added, without biases and norms' weights.
    """
    return norm_of(first_order(model, batch))


def plain(model: nn.Module, batch: Batch) -> float:
    """Sum over weights of `w dL/dw`, with its sign.

    Reference:
        A baseline of Abdelfattah et al. (2021), arXiv 2101.08134, after Mozer, Smolensky (1989). Differs: see
        `networks.scored_copy`. Its correlation with accuracy is weak and often negative.
    """
    return plain_of(first_order(model, batch))


def snip(model: nn.Module, batch: Batch) -> float:
    """Sum over weights of `|w dL/dw|`: the loss's sensitivity to a mask `c` of ones on the weights, `|dL/dc|`.

    Reference:
        Lee, Ajanthan, Torr (2019), "SNIP: single-shot network pruning", arXiv 1810.02340, equation 4 (not
        normalised); as a score of networks, Abdelfattah et al. (2021), arXiv 2101.08134, equation 1. Differs: see
        `networks.scored_copy`.
    """
    return snip_of(first_order(model, batch))


def grasp(model: nn.Module, batch: Batch) -> float:
    """Minus the sum over weights of `w (H g)`, with `g = dL/dw` and `H` the Hessian of the loss.

    `H g` is the gradient of `g_stop . g`, where nothing flows through `g_stop`. Costs two backward passes.

    Reference:
        Wang, Zhang, Grosse (2020), "Picking winning tickets before training", arXiv 2002.07376, equation 8; as a
        score, Abdelfattah et al. (2021), arXiv 2101.08134, equation 1, where a large value is good. Differs: see
        `networks.scored_copy`; no temperature, and one batch gives both gradients.
    """
    net = scored_copy(model)
    weights = weights_of(net)
    first = gradients(loss_of(net, batch), weights, differentiable=True)
    along = torch.stack([(g.detach() * g).sum() for g in first]).sum()
    if not along.requires_grad:  # the loss is linear in every weight, or does not depend on any
        return 0.0
    curved = gradients(along, weights)
    return -plain_of([(w.detach().double(), h.double()) for w, h in zip(weights, curved, strict=True)])


def fisher(model: nn.Module, batch: Batch) -> float:
    """Sum over channels `k` of layers' outputs of `n_k 1/2 mean_i (sum_x a_ikx dL/da_ikx)^2`.

    `a` is `(batch i, channel k, position x)`, `n_k` the weights of a channel (input channels of its group times the
    kernel's area). A layer that is called twice counts the sum of both.

    Reference:
        Theis, Korshunova, Tejani, Huszar (2018), "Faster gaze prediction with dense networks and Fisher pruning",
        arXiv 1801.05787, equation 8; Turner et al. (2020), "BlockSwap", arXiv 1906.04113, equation 2. Differs from the
        papers: weighted by `n_k`, as in the code of Abdelfattah et al. (2021), whose published correlations and stored
        scores are of that. See `networks.scored_copy` too.
    """
    return one_pass(model, batch, channels=True, weights=False)[1]


def zico(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Sum over layers of `log sum_w mean_b |g_wb| / std_b g_wb`, over batches `b`; weights with `std = 0` are skipped.

    The standard deviation is of the signed gradients, with denominator `b`. Layers all of whose weights are skipped
    are left out; NaN where that is all of them.

    Args:
        model: The network; left as it is.
        batches: Two or more.

    Raises:
        InvalidInputError: fewer than two batches.

    Reference:
        Li, Yang, Bhardwaj, Marculescu (2023), "ZiCo: zero-shot NAS via inverse coefficient of variation on gradients",
        arXiv 2301.11300, equation 14. Differs: the paper's standard deviation is of `|g|`; that of signed gradients is
        the authors' code. Their code does not clear gradients between batches, so that its second is the sum of both;
        here each batch has its own, as in the paper. See `networks.scored_copy` too.
    """
    if len(batches) < 2:
        raise InvalidInputError(f"ZiCo compares the gradients of two batches or more, got {len(batches)}.")
    net = scored_copy(model)
    weights = weights_of(net)
    return zico_of([gradients(loss_of(net, batch), weights) for batch in batches])


def zico_of(by_batch: Sequence[Sequence[Tensor]]) -> float:
    """`zico` from the weights' gradients of each batch."""
    score, counted = 0.0, 0
    for layer in zip(*by_batch, strict=True):
        stacked = torch.stack(layer).double()
        moved = (
            stacked - stacked[0]
        )  # so that equal gradients have a spread of exactly 0; `std` takes three times as long
        spread = (moved.square().mean(0) - moved.mean(0).square()).clamp_min(0).sqrt()
        varies = spread > 0
        ratio = float((stacked.abs().mean(0)[varies] / spread[varies]).sum())
        if ratio > 0:
            score += math.log(ratio)
            counted += 1
    return score if counted else math.nan


def norm_of(pairs: Pairs) -> float:
    """`grad_norm` from weights and gradients."""
    return sum(float(g.detach().norm()) for _, g in pairs)


def plain_of(pairs: Pairs) -> float:
    """`plain` from weights and gradients."""
    return sum(float((w * g.detach()).sum()) for w, g in pairs)


def snip_of(pairs: Pairs) -> float:
    """`snip` from weights and gradients."""
    return sum(float((w * g.detach()).abs().sum()) for w, g in pairs)
