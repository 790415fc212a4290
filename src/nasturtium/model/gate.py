"""What a gate is, and what gates are made of: logits by decision, and a die with a state of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.model.initialize import path_generator

Shares = Tensor | Sequence[Tensor | float]
"""Weights of the branches of one decision, `(count,)`; a branch whose weight is the number 0 is not computed."""
SCALE = 1e-3
"""Standard deviation of the initial logits of DARTS and ProxylessNAS."""


@dataclass(frozen=True, slots=True, eq=False)
class Hard:
    """One branch alone, with weight 1: the weights of a gate that takes paths.

    Args:
        index: The branch that is computed.
        gates: Tensor `(count,)` of the values 1 and 0 whose gradient is wanted, or None. The gradient of gate j is the
            inner product of the output's gradient with branch j's output, which is computed for it in the backward
            pass.
        probed: The branches whose gates get a gradient; those of the others are 0.
    """

    index: int
    gates: Tensor | None = None
    probed: tuple[int, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether the gates' gradient is wanted here and now."""
        return self.gates is not None and self.gates.requires_grad and torch.is_grad_enabled()


class Gate(Protocol):
    """Weights of the branches of each decision. Implementations are `nn.Module`s, which train and save as usual."""

    def weights(self, decision: str, count: int) -> Shares | Hard:
        """Weights of `count` branches; asked for once for each mixed decision in each forward pass."""
        ...


class Logits(nn.Module):
    """One trainable vector for each decision, in the given order.

    Parameters are named after their decision ("layers.1.op" is "layers/1/op": names in a module have no dots).

    Args:
        counts: Number of options by decision.
        seed: Draws them from a normal distribution with standard deviation 1e-3, each by its decision's name; None
            makes them 0.

    Raises:
        InvalidInputError: there is no decision, or one without options.
    """

    def __init__(self, counts: Mapping[str, int], *, seed: int | None = None) -> None:
        super().__init__()
        self.counts = check_counts(counts)
        for name, count in counts.items():
            values = torch.zeros(count)
            if seed is not None:
                values.normal_(0.0, SCALE, generator=path_generator(seed, name))
            self._parameters[_key(name)] = nn.Parameter(values)  # by itself: a decision may be called "train"

    def __getitem__(self, decision: str) -> Tensor:
        found = self._parameters.get(_key(decision))
        if found is None:
            raise InvalidInputError(
                f"The gate has logits for the decisions {', '.join(self.counts)}, got {decision!r}: make it with the "
                "counts of `Supernet.mixed`."
            )
        return found

    def __iter__(self) -> Iterator[Tensor]:
        return self.parameters()

    def __len__(self) -> int:
        return len(self.counts)


class Die(nn.Module):
    """A random number generator whose state is saved and restored with the module that has it.

    Args:
        seed: Determines all that is drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return float(torch.rand((), dtype=torch.float64, generator=self.generator))

    def choose(self, weights: Sequence[float]) -> int:
        """An index, with probability proportional to its weight."""
        point = self.uniform() * sum(weights)
        for index, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return index
        return max(range(len(weights)), key=weights.__getitem__)  # the sum was rounded up

    def order(self, count: int) -> list[int]:
        """The numbers below `count` in random order."""
        return torch.randperm(count, generator=self.generator).tolist()

    def gumbel(self, count: int) -> Tensor:
        """Noise with a standard Gumbel distribution, `(count,)`, on the CPU."""
        return -torch.empty(count).exponential_(generator=self.generator).log()

    def get_extra_state(self) -> Tensor:
        """State of the generator."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore it."""
        self.generator.set_state(state.cpu())


class _OneHot(torch.autograd.Function):
    """1 at an index, else 0; gradients pass to the relaxation as they are."""

    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, relaxed: Tensor, index: int) -> Tensor:
        hard = torch.zeros_like(relaxed)
        hard[index] = 1
        return hard

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def one_hot(relaxed: Tensor, index: int) -> Tensor:
    """Exactly 1 at the index and 0 elsewhere, with the gradient of the relaxation (straight-through)."""
    hard: Tensor = _OneHot.apply(relaxed, index)  # type: ignore[no-untyped-call]
    return hard


def check_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """A copy of the numbers of options by decision.

    Raises:
        InvalidInputError: there is none, or one is below 1.
    """
    if not counts or min(counts.values()) < 1:
        raise InvalidInputError(
            f"A gate needs the number of options of each decision, as `Supernet.mixed` gives it, got {dict(counts)!r}: "
            "without decisions that can be mixed there is nothing for a gate to do."
        )
    return dict(counts)


def check_positive(name: str, value: float) -> float:
    """The value.

    Raises:
        InvalidInputError: it is not above 0.
    """
    if not value > 0:
        raise InvalidInputError(f"`{name}` must be above 0, got {value!r}.")
    return value


def _key(decision: str) -> str:
    return decision.replace(".", "/")
