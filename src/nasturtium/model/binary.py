"""The binary gates of ProxylessNAS: one path in memory, gradients for the probabilities of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.model.gate import Die, Hard, Logits, one_hot


class Binary(nn.Module):
    """One branch of each decision, drawn by the softmax of trainable logits, which get gradients all the same.

    The forward pass computes the drawn branch only. The gradient of logit i is `sum_j dL/dg_j p_j (delta_ij - p_i)`,
    where the gradient of gate j is the inner product of the gradient of the mixture's output with the output of branch
    j: the backward pass computes the other branches for it, one at a time and without gradients ("full_v2" in the
    authors' code), so memory does not grow with their number. See `nasturtium.model.probe` for the modes and random
    states in which it does.

    Where the logits need no gradient (`requires_grad_(False)`, `torch.no_grad`), a step is one of the plain path: that
    is the weight step. In evaluation mode the likeliest branch is taken.

    Args:
        counts: Number of options by decision.
        paths: "all" branches get a gradient; or "two": two branches are drawn without replacement by the
            probabilities, one of them is active, by the probabilities of the two, and only these two get a gradient, as
            logits of a choice between two. Call `rescale` after the optimiser's step then.
        seed: Of the drawing, and of the initial logits as of `Softmax`.

    Attributes:
        logits: `Logits`, by decision.
        drawn: The index of the branch last taken of each decision.

    Raises:
        InvalidInputError: `paths` is unknown.

    Reference:
        Cai, Zhu, Han (2019), "ProxylessNAS", arXiv 1812.00332, section 3.2, equations 2 to 4. Differs from the code: a
        block whose active branch is zero is updated too.
    """

    def __init__(self, counts: Mapping[str, int], *, paths: Literal["all", "two"] = "all", seed: int) -> None:
        super().__init__()
        if paths not in ("all", "two"):
            raise InvalidInputError(f"`paths` must be 'all' or 'two', got {paths!r}.")
        self.paths = paths
        self.logits = Logits(counts, seed=seed)
        self.die = Die(seed)
        self.drawn: dict[str, int] = {}
        self._pairs: dict[str, tuple[list[int], Tensor]] = {}

    def logits_of(self, decision: str) -> Tensor:
        """The trainable logits of a decision, `(count,)`."""
        return self.logits[decision]

    def weights(self, decision: str, count: int) -> Hard:
        """A drawn branch."""
        logits = self.logits[decision]
        chances = torch.softmax(logits.detach().double(), 0).tolist()
        if not self.training:
            self.drawn[decision] = index = max(range(count), key=chances.__getitem__)
            return Hard(index)
        if self.paths == "two" and count > 2:
            return self._two(decision, logits, chances)
        index = self.drawn[decision] = self.die.choose(chances)
        if not logits.requires_grad:
            return Hard(index)
        return Hard(index, one_hot(torch.softmax(logits, 0), index), tuple(range(count)))

    def _two(self, decision: str, logits: Tensor, chances: list[float]) -> Hard:
        first = self.die.choose(chances)
        second = self.die.choose([0.0 if i == first else chance for i, chance in enumerate(chances)])
        pair = sorted((first, second))
        active = self.die.choose([chances[i] for i in pair])
        index = self.drawn[decision] = pair[active]
        if not logits.requires_grad:
            return Hard(index)
        self._pairs[decision] = (pair, torch.logsumexp(logits.detach()[pair], 0))
        relaxed = torch.zeros_like(logits).index_put(
            (torch.tensor(pair, device=logits.device),), torch.softmax(logits[pair], 0)
        )
        return Hard(index, one_hot(relaxed, index), tuple(pair))

    @torch.no_grad()
    def rescale(self) -> None:
        """After a step with two paths: give each pair of logits back the sum of exponentials that it had.

        So the probabilities of the branches that were not drawn stay. Pairs are forgotten then; without any, nothing
        happens.
        """
        for decision, (pair, before) in self._pairs.items():
            logits = self.logits[decision]
            logits[pair] -= torch.logsumexp(logits[pair], 0) - before
        self._pairs.clear()

    def probabilities(self, decision: str) -> Tensor:
        """`softmax(logits)`, `(count,)`."""
        return torch.softmax(self.logits[decision], 0)
