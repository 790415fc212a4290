"""The gate of a differentiable search: operations by one rule, edges normalised over each node's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError
from nasturtium.supernets.relaxation import Relaxation

Rule = Literal["softmax", "sigmoid", "gumbel"]
RULES: tuple[Rule, ...] = ("softmax", "sigmoid", "gumbel")
DEVIATION = 1e-3
"""Standard deviation of the first logits, in the authors' code."""


class MixtureGate(nn.Module):
    """Weights of the branches of a relaxed space, with trainable logits: all the parameters of an architecture.

    - "softmax": DARTS. - "sigmoid": FairDARTS, where operations do not compete. - "gumbel": GDAS, one operation drawn
    for each decision and forward pass, with the gradient of the softmax of the perturbed logits.

    Args:
        relaxation: Says which decisions are edges and which are shortcuts.
        counts: Decisions with their number of options, as `Supernet.mixed` gives them.
        rule: For operations.
        edges: Whether the edges of a group are normalised by a softmax of their own (PC-DARTS); else an edge's
            decision is like any other.
        seed: Of the first logits.

    Reference:
        Liu, Simonyan, Yang (2019), arXiv 1806.09055, equation 2; Chu et al. (2020), "Fair DARTS", arXiv 1911.12126,
        equation 3; Dong, Yang (2019), "Searching for a Robust Neural Architecture in Four GPU Hours", arXiv
        1910.04465, equations 3 to 5; Xu et al. (2020), arXiv 1907.05737, equation 2.
        Differs from GDAS: all operations are computed.
    """

    def __init__(
        self, relaxation: Relaxation, counts: Mapping[str, int], *, rule: Rule = "softmax", edges: bool, seed: int
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise InvalidInputError(f"A gate's rule is one of {', '.join(map(repr, RULES))}, got {rule!r}.")
        self.rule = rule
        self.temperature = 1.0
        """Of "gumbel"; above 0."""
        self.coefficient = 0.0
        """Weight of the shortcuts, in [0, 1]."""
        self._edges: dict[str, tuple[int, int]] = {}
        sizes: list[int] = []
        if edges:
            for group in relaxation.groups:
                names = [item.edge for item in group.items if item.edge in counts]
                if names:
                    self._edges |= {str(name): (len(sizes), i) for i, name in enumerate(names)}
                    sizes.append(len(names))
        own = [name for name in counts if name not in self._edges and name not in relaxation.shortcuts]
        self._shortcuts = [name for name in relaxation.shortcuts if name in counts]
        self._positions = {name: i for i, name in enumerate(own)}
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.ParameterList([_logits(counts[name], generator) for name in own])
        self.edge_logits = nn.ParameterList([_logits(size, generator) for size in sizes])

    def weights(self, decision: str, count: int) -> Tensor:
        """Weights of the branches, `(count,)`."""
        if decision in self._positions and self.rule == "gumbel":
            logits = self.logits[self._positions[decision]]
            return functional.gumbel_softmax(logits, tau=self.temperature, hard=True)
        if decision in self._positions or decision in self._edges:
            weights = self._probability(decision)
            return weights if decision in self._positions else torch.stack([weights[0], torch.zeros_like(weights[0])])
        like = next(self.parameters())
        return torch.tensor([self.coefficient] + [0.0] * (count - 1), dtype=like.dtype, device=like.device)

    def probabilities(self) -> dict[str, Tensor]:
        """What the logits say of each decision but shortcuts, `(options,)`, differentiable; of an edge (kept, not).

        With "sigmoid" each is on its own, so that they do not sum to 1.
        """
        return {name: self._probability(name) for name in (*self._positions, *self._edges)}

    def _probability(self, decision: str) -> Tensor:
        if decision in self._edges:
            group, place = self._edges[decision]
            kept = torch.softmax(self.edge_logits[group], 0)[place]
            return torch.stack([kept, 1 - kept])
        logits = self.logits[self._positions[decision]]
        return torch.sigmoid(logits) if self.rule == "sigmoid" else torch.softmax(logits, 0)

    @torch.no_grad()
    def entropy(self) -> float:
        """Mean over the decisions between operations of the entropy over log(options): 1 undecided, 0 decided."""
        found = []
        for logits in self.logits:
            p = torch.softmax(logits.double(), 0)
            found.append(-(p * p.clamp_min(1e-300).log()).sum() / torch.log(torch.tensor(float(len(p)))))
        return float(torch.stack(found).mean()) if found else 0.0


def _logits(count: int, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(DEVIATION * torch.randn(count, generator=generator))


def zero_one(gate: MixtureGate) -> Tensor:
    """The loss that drives sigmoid gates to 0 or 1: minus the mean squared distance from 1/2, in [-0.25, 0].

    Reference:
        Chu et al. (2020), arXiv 1911.12126, equation 5 (L0-1), as in the authors' code.
    """
    values = torch.sigmoid(torch.cat(list(gate.logits)))
    return -(values - 0.5).square().mean()
