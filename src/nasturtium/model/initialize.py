"""Initial weights: drawn layer by layer from generators keyed by (seed, path).

Equal paths of equal shapes get equal weights whatever else the network holds: two architectures that differ in one
block start equal everywhere else. The global random state is neither read nor advanced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt

import torch
from torch import Tensor, nn


def path_seed(seed: int, path: str) -> int:
    """Seed of the weights at a path, in [0, 2^63): from SHA-256, so equal on every machine."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def path_generator(seed: int, path: str) -> torch.Generator:
    """Generator (CPU) of the weights at a path."""
    return torch.Generator().manual_seed(path_seed(seed, path))


@torch.no_grad()
def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw a layer's weights in place.

    Convolutions: normal with variance 2 / fan-out, where fan-out = out_channels / groups * kernel area (He et al.
    2015, arXiv 1502.01852, equation 14; divided by groups as in EfficientNet's code). Linear layers: uniform in
    +-1 / sqrt(in_features) (PyTorch's default). Biases are zero. Norms and PReLU start as PyTorch makes them
    (1 and 0; 0.25). Weights on the meta device are left alone.
    """
    if isinstance(module, nn.Conv2d):
        area = module.kernel_size[0] * module.kernel_size[1]
        fan_out = module.out_channels // module.groups * area
        _fill(module.weight, generator, normal=sqrt(2.0 / fan_out))
    elif isinstance(module, nn.Linear):
        _fill(module.weight, generator, uniform=1.0 / sqrt(module.in_features))
    else:
        return
    if module.bias is not None:
        module.bias.zero_()


def _fill(weight: Tensor, generator: torch.Generator, *, normal: float = 0.0, uniform: float = 0.0) -> None:
    if weight.is_meta:
        return
    drawn = weight if weight.device.type == "cpu" else torch.empty(weight.shape, device="cpu")
    if normal:
        drawn.normal_(0.0, normal, generator=generator)
    else:
        drawn.uniform_(-uniform, uniform, generator=generator)
    if drawn is not weight:
        weight.copy_(drawn)


@contextmanager
def isolated_random_state(seed: int) -> Iterator[None]:
    """Run somebody else's code from `seed`, and give the global CPU random state back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
