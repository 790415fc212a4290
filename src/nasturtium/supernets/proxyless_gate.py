"""Binary gates that drop improbable branches for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf

import torch
from torch import Tensor, nn

from nasturtium.model.binary import Binary
from nasturtium.model.gate import Hard


class PrunedBinary(nn.Module):
    """`Binary`, of which branches can be pruned: they are drawn no more, and no longer computed for a gradient.

    A pruned branch's logit is minus infinity, so its probability is exactly 0 and stays so.

    Args:
        binary: The gate.
    """

    def __init__(self, binary: Binary) -> None:
        super().__init__()
        self.binary = binary
        self.probed: dict[str, tuple[int, ...]] = {}
        """Branches whose gates got a gradient at the last drawing."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of options by decision."""
        return self.binary.logits.counts

    def weights(self, decision: str, count: int) -> Hard:
        """A drawn branch; the only one where all others are pruned."""
        alive = self.alive(decision)
        if len(alive) == 1:
            self.binary.drawn[decision] = alive[0]
            self.probed.pop(decision, None)
            return Hard(alive[0])
        hard = self.binary.weights(decision, count)
        kept = tuple([i for i in hard.probed if i in alive])
        self.probed[decision] = kept
        return Hard(hard.index, hard.gates, kept)

    def alive(self, decision: str) -> list[int]:
        """Branches that are not pruned."""
        logits = self.binary.logits[decision].tolist()
        return [i for i, value in enumerate(logits) if value > -inf]

    @torch.no_grad()
    def prune(self, threshold: float) -> int:
        """Prune the branches whose probability is below a threshold; the most probable one of a decision stays.

        Args:
            threshold: In [0, 1).

        Returns:
            How many branches were pruned now.
        """
        pruned = 0
        for name in self.counts:
            logits = self.binary.logits[name]
            chances = torch.softmax(logits, 0)
            low = (chances < threshold) & (logits > -inf)
            low[int(chances.argmax())] = False
            pruned += int(low.sum())
            logits[low] = -inf
        return pruned

    def probabilities(self, decision: str) -> Tensor:
        """`softmax(logits)`, `(count,)`."""
        return self.binary.probabilities(decision)

    def last_probabilities(self, decision: str) -> Tensor:
        """The probabilities that the last architecture step is about: those of the two branches, where there were two.

        `(count,)`, zeros elsewhere; as the authors' code takes them for the expected cost.
        """
        logits = self.binary.logits[decision]
        probed = self.probed.get(decision, ())
        if self.binary.paths != "two" or len(probed) != 2:
            return torch.softmax(logits, 0)
        pair = torch.tensor(probed, device=logits.device)
        return torch.zeros_like(logits).index_put((pair,), torch.softmax(logits[pair], 0))

    def likeliest(self) -> dict[str, int]:
        """The most probable branch of each decision; of equals the first."""
        return {name: int(self.binary.logits[name].argmax()) for name in self.counts}

    def entropy(self) -> float:
        """Mean over decisions of the entropy of their probabilities, in nats."""
        with torch.no_grad():
            chances = [self.probabilities(name).double() for name in self.counts]
            entropies = [-torch.special.xlogy(p, p).sum() for p in chances]
            return float(torch.stack(entropies).mean())

    @contextmanager
    def learning(self, *, on: bool) -> Iterator[None]:
        """Whether the logits want gradients within."""
        self.binary.logits.requires_grad_(on)
        try:
            yield
        finally:
            self.binary.logits.requires_grad_(False)
