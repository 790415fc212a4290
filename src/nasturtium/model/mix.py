"""Gates: how a supernet mixes what a decision selects among.

Where decisions select among tensors of one shape (a candidate operation on an edge, a prefix of a stage), a gate gives
each branch a weight and the supernet adds up the branches. Without a gate it takes the one path that was set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Gate(Protocol):
    """Weights of the branches of each decision."""

    def weights(self, decision: str, count: int) -> Tensor | Sequence[float]:
        """Weights of `count` branches, `(count,)`; a branch whose weight is the number 0 is not computed."""
        ...


class Sum:
    """Every branch with weight 1.

    Reference:
        Bender et al. (2018), "Understanding and simplifying one-shot architecture search", ICML, section 3.
        Differs from the paper: no path dropout.
    """

    def weights(self, decision: str, count: int) -> Sequence[float]:
        """Ones."""
        del decision
        return [1.0] * count


class Softmax(nn.Module):
    """Softmax of trainable logits, one for each option of each decision; they start at 0.

    Args:
        counts: Number of options by decision, as `Supernet.mixed` gives them.
        temperature: The logits are divided by this; above 0.

    Reference:
        Liu, Simonyan, Yang (2019), "DARTS", arXiv 1806.09055, equation 2.
    """

    def __init__(self, counts: Mapping[str, int], *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self._positions = {name: i for i, name in enumerate(counts)}
        self.logits = nn.ParameterList([nn.Parameter(torch.zeros(n)) for n in counts.values()])

    def logits_of(self, decision: str) -> Tensor:
        """The trainable logits of a decision, `(options,)`."""
        found: Tensor = self.logits[self._positions[decision]]
        return found

    def weights(self, decision: str, count: int) -> Tensor:
        """Probabilities, `(count,)`."""
        del count
        return torch.softmax(self.logits_of(decision) / self.temperature, 0)
