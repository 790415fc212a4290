"""The gate of a differentiable search: operations by one rule, edges normalised over each node's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.model.gate import Hard, Shares
from nasturtium.model.mix import Gumbel, Sigmoid, Softmax
from nasturtium.supernets.relaxation import Relaxation

Rule = Literal["softmax", "sigmoid", "gumbel"]
RULES: tuple[Rule, ...] = ("softmax", "sigmoid", "gumbel")
DEVIATION = 1e-3
"""Standard deviation of the first logits of edges, in the authors' code."""


class MixtureGate(nn.Module):
    """Weights of the branches of a relaxed space, with trainable logits: all the parameters of an architecture.

    - "softmax": DARTS. - "sigmoid": FairDARTS, where operations do not compete. - "gumbel": GDAS, one operation drawn
    for each decision and forward pass.

    Args:
        relaxation: Says which decisions are edges and which are shortcuts.
        counts: Decisions with their number of options, as `Supernet.mixed` gives them.
        rule: For operations.
        edges: Whether the edges of a group are normalised by a softmax of their own (PC-DARTS); else an edge's
            decision is like any other.
        seed: Of the first logits, and of what is drawn.

    Attributes:
        operations: The gate of all other decisions, of `nasturtium.model`.
        coefficient: Weight of the shortcuts, in [0, 1]; at 0 their last option, none, has weight 1.

    Reference:
        Liu, Simonyan, Yang (2019), arXiv 1806.09055, equation 2; Chu et al. (2020), "Fair DARTS", arXiv 1911.12126;
        Dong, Yang (2019), "Searching for a Robust Neural Architecture in Four GPU Hours", arXiv 1910.04465;
        Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, equation 2.
    """

    def __init__(
        self, relaxation: Relaxation, counts: Mapping[str, int], *, rule: Rule = "softmax", edges: bool, seed: int
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise InvalidInputError(f"A gate's rule is one of {', '.join(map(repr, RULES))}, got {rule!r}.")
        self.coefficient = 0.0
        self._edges: dict[str, tuple[int, int]] = {}
        sizes: list[int] = []
        for group in relaxation.groups if edges else ():
            names = [item.edge for item in group.items if item.edge is not None]
            self._edges |= {name: (len(sizes), place) for place, name in enumerate(names)}
            sizes.append(len(names))
        self._shortcuts = frozenset(relaxation.shortcuts)
        own = {n: count for n, count in counts.items() if n not in self._edges and n not in self._shortcuts}
        self.operations: Softmax | Sigmoid | Gumbel = _operations(rule, own, seed)
        self._own = tuple(own)
        generator = torch.Generator().manual_seed(seed)
        self.edge_logits = nn.ParameterList(
            [nn.Parameter(DEVIATION * torch.randn(size, generator=generator)) for size in sizes]
        )

    def weights(self, decision: str, count: int) -> Shares | Hard:
        """Weights of the branches."""
        if decision in self._shortcuts:
            if self.coefficient == 0.0:  # one weight at least is not 0
                return [0.0] * (count - 1) + [1.0]
            return [self.coefficient] + [0.0] * (count - 1)
        if decision in self._edges:
            return [self._kept(decision), 0.0]
        return self.operations.weights(decision, count)

    def probabilities(self) -> dict[str, Tensor]:
        """What the logits say of each decision but shortcuts, `(options,)`, differentiable; of an edge (kept, not).

        With "sigmoid" each is on its own, so that they do not sum to 1.
        """
        kept = {name: self._kept(name) for name in self._edges}
        edges = {name: torch.stack([share, 1 - share]) for name, share in kept.items()}
        return {name: self.operations.probabilities(name) for name in self._own} | edges

    def _kept(self, edge: str) -> Tensor:
        group, place = self._edges[edge]
        return torch.softmax(self.edge_logits[group], 0)[place]

    @torch.no_grad()
    def entropy(self) -> float:
        """Mean over the decisions between operations of the entropy over log(options): 1 undecided, 0 decided."""
        found = []
        for logits in self.operations.logits:
            p = torch.softmax(logits.double(), 0)
            found.append(torch.special.entr(p).sum() / max(1e-12, float(torch.tensor(len(p)).double().log())))
        return float(torch.stack(found).mean())


def _operations(rule: Rule, counts: Mapping[str, int], seed: int) -> Softmax | Sigmoid | Gumbel:
    if rule == "softmax":
        return Softmax(counts, seed=seed)
    if rule == "sigmoid":
        return Sigmoid(counts, seed=seed)
    return Gumbel(counts, hard=True, seed=seed)
