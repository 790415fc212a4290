"""What all scores need: a batch, a copy of the network that may be changed, its layers and their gradients."""

from __future__ import annotations

import copy
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nasturtium.errors import InvalidInputError
from nasturtium.model.initialize import path_generator
from nasturtium.model.layers import Conv2d, Linear

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


class Batch(NamedTuple):
    """Some images with their labels, on the network's device."""

    images: Tensor
    """`(batch, *input_shape)`, normalised."""
    labels: Tensor
    """`(batch,)` int64."""


def scored_copy(model: nn.Module) -> nn.Module:
    """A copy to be scored: batch norms take the batch's statistics, all else is as in evaluation.

    So dropout and stochastic depth are off and training-only outputs (auxiliary heads) are not computed. Differs from
    the authors' code of all scores, which leaves the whole network in training mode.
    """
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    for parameter in copied.parameters():
        parameter.requires_grad_()
        parameter.grad = None
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def weighted_layers(model: nn.Module) -> list[_ConvNd | nn.Linear]:
    """Convolutions and linear layers, whose weights the scores add up (biases and norms are left out)."""
    return [m for m in model.modules() if isinstance(m, (_ConvNd, nn.Linear))]


def weights_of(model: nn.Module) -> list[Tensor]:
    """The weight of each convolution and linear layer, tied ones once."""
    return list({id(layer.weight): layer.weight for layer in weighted_layers(model)}.values())


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """The network's one output.

    Raises:
        InvalidInputError: it has several.
    """
    output = model(images)
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"A score needs a network with one output in evaluation, got {type(output).__name__}: return the logits "
            "alone, and mark others with `ops.training_only`."
        )
    return output


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross entropy of a batch, in nats."""
    return functional.cross_entropy(logits_of(model, laid_out(batch.images)), batch.labels)


def laid_out(images: Tensor) -> Tensor:
    """Images channels last, as `scored_copy` lays the weights: on a CPU that takes about half the time."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def gradients(loss: Tensor, weights: list[Tensor], *, differentiable: bool = False) -> list[Tensor]:
    """Gradients of a loss, zeros for weights that it does not depend on; nothing is written into `.grad`."""
    found = torch.autograd.grad(loss, weights, create_graph=differentiable, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


@torch.no_grad()
def draw_as_pytorch(model: nn.Module, seed: int) -> nn.Module:
    """Draw convolutions and linear layers as PyTorch's own constructors do; in place.

    Weights and biases uniform within +-1 / sqrt(fan-in), from generators keyed by (seed, path). The published scores
    are of networks that start so; the library's own start differs (`nasturtium.model.initialize`). Layers inside
    users' modules keep what their constructor drew.

    Args:
        model: As `build` makes it; changed.
        seed: Determines the weights.
    """
    for path, module in model.named_modules():
        if isinstance(module, (Conv2d, Linear)):
            generator = path_generator(seed, f"pytorch/{path}")
            bound = 1.0 / sqrt(module.weight[0].numel())
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
    return model
