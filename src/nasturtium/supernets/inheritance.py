"""Networks that start from the weights of other networks: the same paths, wider, deeper, with larger kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nasturtium.errors import InvalidInputError
from nasturtium.graph.graph import Graph
from nasturtium.model.build import Network, build
from nasturtium.model.initialize import path_generator
from nasturtium.supernets.correspondence import Correspondence


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Which weights of a module were found among given ones."""

    copied: tuple[str, ...]
    """Names of the module whose values are now the given ones."""
    missing: tuple[str, ...]
    """Names that are not given; they keep what they have."""
    other_shape: tuple[str, ...]
    """Names that are given in another shape; they keep what they have."""
    unused: tuple[str, ...]
    """Given names that the module does not have."""

    def __str__(self) -> str:
        return (
            f"{len(self.copied)} of {len(self.copied) + len(self.missing) + len(self.other_shape)} tensors copied, "
            f"{len(self.missing)} not given, {len(self.other_shape)} of another shape; {len(self.unused)} given ones "
            "unused"
        )


@torch.no_grad()
def load_matching(module: nn.Module, weights: Mapping[str, Tensor]) -> Matched:
    """Copy given weights to where a network or a supernet has the same path and shape.

    Args:
        module: Changed in place; weights and running statistics by the names of its `state_dict`.
        weights: By name.

    Returns:
        What was copied, and what was not.

    Raises:
        InvalidInputError: nothing fits at all.
    """
    own = module.state_dict()
    copied = tuple([name for name in own if name in weights and weights[name].shape == own[name].shape])
    if not copied:
        raise InvalidInputError(
            f"None of the {len(weights)} given weights has the name and shape of one of the network's: it has "
            f"{', '.join(list(own)[:3])} …, given are {', '.join(list(weights)[:3]) or 'none'} …."
        )
    for name in copied:
        own[name].copy_(weights[name])
    return Matched(
        copied=copied,
        missing=tuple([name for name in own if name not in weights]),
        other_shape=tuple([name for name in own if name in weights and name not in copied]),
        unused=tuple([name for name in weights if name not in own]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a child has from its parent. Names are those of the child's `state_dict`."""

    inherited: tuple[str, ...]
    """Copied as they are."""
    transformed: tuple[str, ...]
    """Made of the parent's (widened, grown, cropped), or set so that what is new changes nothing."""
    fresh: tuple[str, ...]
    """Drawn anew."""
    preserved: bool
    """Whether the child, before noise, computes in evaluation what the parent computes: it follows from the graphs."""
    reasons: tuple[str, ...]
    """Where it stops computing the same; empty if it does not."""

    @property
    def share(self) -> float:
        """Share of the tensors that come from the parent, in [0, 1]."""
        count = len(self.inherited) + len(self.transformed)
        return count / max(1, count + len(self.fresh))

    def __str__(self) -> str:
        kept = "computes the same" if self.preserved else f"computes something else ({'; '.join(self.reasons)})"
        return (
            f"{len(self.inherited)} tensors inherited, {len(self.transformed)} transformed, {len(self.fresh)} fresh; "
            f"the child {kept}"
        )


@torch.no_grad()
def inherit(
    parent: Graph,
    weights: Mapping[str, Tensor],
    child: Graph,
    *,
    seed: int,
    noise: float = 0.0,
    batches: Iterable[Tensor] = (),
) -> tuple[Network, Inheritance]:
    """Make a network that starts from the weights of another, where their paths are the same.

    Wider layers hold copies of channels, and layers that read them divide; the same copies on every branch of a sum.
    Kernels grow by zeros around them, or are cropped to their centre. Layers that the parent lacks become the identity
    where they can: convolutions of stride 1 (with their norms), an activation that changes nothing of what comes in,
    and residual blocks, whose last norm gets the weight 0. All else is copied where shapes admit, and drawn anew where
    not. Narrower layers keep the first channels; then, and where operations differ, the child computes something else.

    Args:
        parent: Graph of the trained network.
        weights: Its `state_dict`.
        child: Graph of the new network.
        seed: Of what is drawn anew, and of the noise.
        noise: Standard deviation of what is added to copied channels so that they become different, as a share of
            the standard deviation of the layer's weight; 0.01 is customary. At 0 copies of a channel stay copies, as
            they get the same gradients (apart from dropout).
        batches: Images, to give new norms the statistics of what comes in, which makes them change little in training
            too. Without, they have mean 0 and variance 1, which changes nothing in evaluation.

    Returns:
        The network, in training mode, and what came from where.

    Raises:
        InvalidInputError: weights of the parent are missing or of another shape, or `noise` is negative.
    """
    if not noise >= 0.0:
        raise InvalidInputError(f"`noise` must be 0 or more, got {noise!r}.")
    network = build(child, seed=seed)
    own = network.state_dict()
    found = Correspondence(parent, weights, child, {name: tuple(tensor.shape) for name, tensor in own.items()})
    for name, tensor in found.state.items():
        own[name].copy_(tensor)
    _perturb(own, found.copies, noise, seed)
    _observe(network, found.norms, batches)
    return network, Inheritance(
        inherited=tuple([name for name in own if name in found.state and name not in found.changed]),
        transformed=tuple([name for name in own if name in found.state and name in found.changed]),
        fresh=tuple([name for name in own if name not in found.state]),
        preserved=not found.reasons,
        reasons=tuple(found.reasons),
    )


def _perturb(state: Mapping[str, Tensor], copies: Mapping[str, tuple[int, ...]], noise: float, seed: int) -> None:
    """Add noise to the output channels that are further copies."""
    if not noise:
        return
    for name, rows in copies.items():
        weight = state[name]
        drawn = torch.randn((len(rows), *weight.shape[1:]), generator=path_generator(seed, f"{name} noise"))
        weight[list(rows)] += noise * float(weight.std()) * drawn.to(weight)


def _observe(network: Network, norms: tuple[str, ...], batches: Iterable[Tensor]) -> None:
    """Give new norms the statistics of their inputs, and weights that undo them."""
    joined = list(batches)
    if not norms or not joined:
        return

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)  # what it divides by in training
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)

    handles: list[RemovableHandle] = []
    for path in norms:
        norm = network.get_submodule(path)
        if norm.weight is not None:
            handles.append(norm.register_forward_pre_hook(look))
    training = network.training
    network.eval()
    try:
        network(torch.cat(joined))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
