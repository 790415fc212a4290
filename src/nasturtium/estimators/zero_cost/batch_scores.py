"""Scores from how a network tells the images of a batch apart: jacob_cov and NASWOT."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from nasturtium.estimators.zero_cost.networks import Batch, laid_out, logits_of, scored_copy

SMALL = 1e-5
"""`k` of jacob_cov."""
RELUS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU)
"""Activations with a code: one side of zero or the other. (In the authors' code, all whose name holds "ReLU".)"""


def jacob_cov(model: nn.Module, batch: Batch) -> float:
    """`- sum_i log(v_i + k) + 1 / (v_i + k)`, with the eigenvalues `v` of the correlation of the images' Jacobians.

    An image's Jacobian is the gradient of the sum of its logits with respect to its pixels; the batch's
    `(images, pixels)` matrix is correlated between images; `k` is 1e-5.

    Args:
        model: The network; left as it is.
        batch: Two images or more; the labels do not count.

    Returns:
        A negative number, larger where the images differ more; NaN where a Jacobian is constant.

    Reference:
        Mellor, Turner, Storkey, Crowley (2020), "Neural architecture search without training", arXiv 2006.04647v1,
        equation 3; as in the code of Abdelfattah et al. (2021). Differs: see `networks.scored_copy`; eigenvalues by a
        symmetric solver. Batch norms take the batch's statistics, so the sum of all images' logits is what is derived,
        as there.
    """
    net = scored_copy(model)
    images = laid_out(batch.images.detach().clone()).requires_grad_()
    jacobian: Tensor | None = torch.autograd.grad(logits_of(net, images).sum(), images, allow_unused=True)[0]
    if jacobian is None:
        return math.nan
    rows = jacobian.flatten(1).double().cpu().numpy()
    if not np.isfinite(rows).all() or (np.ptp(rows, axis=1) == 0).any():
        return math.nan
    values = np.linalg.eigvalsh(np.corrcoef(rows)) + SMALL
    return float(-np.sum(np.log(values) + 1.0 / values)) if (values > 0).all() else math.nan


def naswot(model: nn.Module, batch: Batch) -> float:
    """`log |det K|`, with `K_ij` the number of ReLUs that are on the same side of zero for the images `i` and `j`.

    The code of an image says for every element of every ReLU's input whether it is positive; `K` is
    `sum x x^T + (1 - x) (1 - x)^T`, the number of units less the Hamming distance of two codes. ReLUs that the output
    does not depend on are left out.

    Args:
        model: The network; left as it is.
        batch: Two images or more; the labels do not count. The paper takes 128.

    Returns:
        The logarithm; minus infinity where two images have one code, NaN without ReLUs.

    Reference:
        Mellor, Turner, Storkey, Crowley (2021), "Neural architecture search without training", arXiv 2006.04647v3,
        equation 2. Differs: see `networks.scored_copy`. Only modules of the kinds in `RELUS` are seen.
    """
    net = scored_copy(model)
    found: list[tuple[Tensor, Tensor]] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(((inputs[0].detach() > 0).flatten(1), output))

    for module in net.modules():
        if isinstance(module, RELUS):
            module.register_forward_hook(note)
    images = laid_out(batch.images.detach().clone()).requires_grad_()
    logits = logits_of(net, images)
    found = [(code, output) for code, output in found if output.requires_grad]  # the others are constant
    if not found:
        return math.nan
    reached = torch.autograd.grad(logits.sum(), [output for _, output in found], allow_unused=True)
    kernel = torch.zeros((len(images), len(images)), dtype=torch.float64, device=images.device)
    for (code, _), gradient in zip(found, reached, strict=True):
        if gradient is not None:
            on = code.float()  # sums of ones are exact in float32 up to 2^24 units
            kernel += (on @ on.T + (1 - on) @ (1 - on).T).double()
    return float(torch.linalg.slogdet(kernel.cpu()).logabsdet) if float(kernel.max()) else math.nan
