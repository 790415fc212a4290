"""Synaptic flow: what goes through a network of positive weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nasturtium.estimators.zero_cost.networks import NORMS, Batch, gradients, logits_of, weights_of


def synflow(model: nn.Module, batch: Batch) -> float:
    """Sum over weights of `|w dR/dw|`, where `R` is the sum of the outputs for an input of ones.

    All parameters are replaced by their absolute values, batch norms by the identity; in double precision. Of the batch
    only the images' shape and device count. Without biases each of `l` layers in a chain adds the same number, so a
    chain's score is `l R`. Values reach 1e30; `ZeroCost` reports the natural logarithm.

    Args:
        model: The network; left as it is.
        batch: Any images.

    Returns:
        A number of 0 or more; infinite where doubles overflow.

    Reference:
        Tanaka, Kunin, Yamins, Ganguli (2020), "Pruning neural networks without any data by iteratively conserving
        synaptic flow", arXiv 2006.05467, equation 3; as a score, Abdelfattah et al. (2021), arXiv 2101.08134. Differs
        from their code: dropout and auxiliary heads are off; group and layer norms are the identity too, since they
        would subtract the flow's mean; ReLU6 is taken as ReLU, since the flow would saturate it and stop.
    """
    net = copy.deepcopy(model).eval().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.requires_grad_().abs_()
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, NORMS):
                parent._modules[name] = nn.Identity()
            elif isinstance(child, nn.ReLU6):
                parent._modules[name] = nn.ReLU()
    ones = torch.ones((1, *batch.images.shape[1:]), dtype=torch.float64, device=batch.images.device)
    weights = weights_of(net)
    flow = gradients(logits_of(net, ones).sum(), weights)
    total = sum(float((w * g).detach().abs().sum()) for w, g in zip(weights, flow, strict=True))
    return math.inf if math.isnan(total) else total
