"""The gradient of the architecture in DARTS: of the validation loss, at the weights or one training step ahead.

The problem is to minimise L_val(w*(a), a) over the architecture a, where w*(a) minimises L_train(w, a). DARTS puts
for w*(a) the weights w themselves (first order), or w' = w - xi (m buffer + dL_train/dw + d w), one step of SGD with
momentum m and weight decay d (second order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.supernets.parallel import Team

RADIUS = 0.01
"""Length of the step in weights of the central difference, in the authors' code (`r`)."""

Loss = Callable[[], Tensor | Iterable[Tensor]]
"""Computes a loss, a scalar, with the current values of weights and architecture; or, one after the other, scalars that
add up to it."""


def first_order(loss: Loss, architecture: Sequence[Tensor], *, team: Team | None = None) -> tuple[Tensor, list[Tensor]]:
    """The gradient of a loss with respect to the architecture, the weights taken as constant.

    Args:
        loss: On architecture images.
        architecture: Trainable tensors.
        team: Processes whose losses add up; None for this one alone.

    Returns:
        The loss, and a gradient for each tensor (zeros where the loss does not depend on it).
    """
    return _gradients(loss(), architecture, team)


def second_order(
    train_loss: Loss,
    valid_loss: Loss,
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    *,
    rate: float,
    momentum: float = 0.0,
    buffers: Sequence[Tensor | None] | None = None,
    weight_decay: float = 0.0,
    radius: float = RADIUS,
    team: Team | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The gradient of the validation loss after one training step, with respect to the architecture.

    With v = dL_val(w', a)/dw' it is dL_val(w', a)/da - xi d2L_train(w, a)/(da dw) v, where the product with the second
    derivatives is a central difference: (dL_train(w + e v)/da - dL_train(w - e v)/da) / (2 e), e = `radius` / |v|.

    Cost: of five forward and four backward passes, on weights and memory once more than a plain step's. The weights
    are changed in between, and are as before, to the bit, afterwards.

    Args:
        train_loss: L_train on a batch for the weights. Called three times; it must be the same function each time
            (batch norms by the batch's statistics are; drop-out is not, without a fixed seed).
        valid_loss: L_val on a batch for the architecture. Called once.
        weights: w, trainable leaves (parameters, or tensors with `requires_grad` that nothing computed): what each
            pass does not need the gradients of is frozen meanwhile, which PyTorch refuses of other tensors.
        architecture: a, trainable leaves too.
        rate: xi, the learning rate of the step ahead; 0 gives the first order.
        momentum: m.
        buffers: The momentum of each weight, as `momentum_buffer` of SGD has it; None, or None for a weight: zero.
        weight_decay: d, as SGD adds it to the gradient.
        radius: See above.
        team: As of `first_order`. All processes have the same weights and architecture.

    Returns:
        The validation loss one step ahead, and a gradient for each tensor of the architecture.

    Raises:
        InvalidInputError: there are not as many buffers as weights.

    Reference:
        Liu, Simonyan, Yang (2019), "DARTS", arXiv 1806.09055, equations 7 and 8; `architect.py` of the authors' code.
    """
    if buffers is not None and len(buffers) != len(weights):
        raise InvalidInputError(f"`buffers` must be one for each of the {len(weights)} weights, got {len(buffers)}.")
    if rate == 0:
        return first_order(valid_loss, architecture, team=team)
    held = buffers or [None] * len(weights)
    with _restored(weights) as before:
        with _frozen(architecture):
            _, step = _gradients(train_loss(), weights, team)
        with torch.no_grad():
            for weight, gradient, buffer in zip(weights, step, held, strict=True):
                ahead = gradient.add(weight, alpha=weight_decay)
                weight.sub_(ahead if buffer is None else ahead.add_(buffer, alpha=momentum), alpha=rate)
        value, both = _gradients(valid_loss(), [*architecture, *weights], team)
        direct, v = both[: len(architecture)], both[len(architecture) :]
        length = float(torch.sqrt(sum((torch.sum(x.double() ** 2) for x in v), torch.zeros((), dtype=torch.float64))))
        if length == 0.0:
            return value, direct
        scale = radius / length
        plus = _displaced(train_loss, weights, before, v, scale, architecture, team)
        minus = _displaced(train_loss, weights, before, v, -scale, architecture, team)
    factor = rate / (2 * scale)
    gradients = [d.sub(p.sub(m), alpha=factor) for d, p, m in zip(direct, plus, minus, strict=True)]
    return value, gradients


def _displaced(
    loss: Loss,
    weights: Sequence[Tensor],
    before: Sequence[Tensor],
    v: Sequence[Tensor],
    scale: float,
    architecture: Sequence[Tensor],
    team: Team | None,
) -> list[Tensor]:
    with torch.no_grad():
        for weight, start, direction in zip(weights, before, v, strict=True):
            torch.add(start, direction, alpha=scale, out=weight)
    with _frozen(weights):
        return _gradients(loss(), architecture, team)[1]


@contextmanager
def _frozen(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Nothing is kept for the gradients of tensors, which must be leaves: PyTorch cannot freeze others."""
    trainable = [tensor for tensor in tensors if tensor.requires_grad]
    for tensor in trainable:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in trainable:
            tensor.requires_grad_()


@contextmanager
def _restored(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Copies of the weights, which are put back at the end."""
    before = [weight.detach().clone() for weight in weights]
    try:
        yield before
    finally:
        with torch.no_grad():
            for weight, start in zip(weights, before, strict=True):
                weight.copy_(start)


def _gradients(
    losses: Tensor | Iterable[Tensor], tensors: Sequence[Tensor], team: Team | None
) -> tuple[Tensor, list[Tensor]]:
    value, found = (team or Team()).gradients(losses, tensors)
    return value, [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
