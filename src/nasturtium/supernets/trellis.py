"""Paths through a trellis, relaxed: every node is a sum over its incoming edges, weighted by transition probabilities.

A trellis has levels (strides, from the finest on) and layers. From a node at one layer edges lead to the same level and
to its neighbours at the next. Edges that would leave the trellis do not exist: a mask keeps them out of the softmax, so
a node at the border has the probabilities of two edges (or one) that sum to 1.

Reference:
    Liu et al. (2019), "Auto-DeepLab", arXiv 1901.02985, section 4.1 (equation 5 and 6) and 4.3. Differs from common
    re-implementations: no factor 2/3 at border nodes, which makes their sums less than 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError

MOVES = (-1, 0, 1)
"""To a finer level, to the same, to a coarser one: the last axis of all tensors here."""

RelaxedCell = Callable[[int, int, int, Tensor, Tensor], Tensor]
"""Called as `cell(layer, source, target, x, before)`: the output of level `source` at the last layer, and what came
before it; gives the target level's features."""


def mask(levels: int) -> Tensor:
    """`(levels, 3)` bool, whether a level has an edge by each of `MOVES`."""
    return torch.tensor([[0 <= level + move < levels for move in MOVES] for level in range(levels)])


def transitions(logits: Tensor) -> Tensor:
    """Probabilities of the outgoing edges of each node: softmax over those that exist, 0 for the others.

    Args:
        logits: `(transitions, levels, 3)`; those of missing edges have no effect (and no gradient).

    Returns:
        `(transitions, levels, 3)`, sums to 1 over the last axis.
    """
    if logits.ndim != 3 or logits.shape[2] != len(MOVES):
        raise InvalidInputError(f"The logits must be (transitions, levels, 3), got {tuple(logits.shape)}.")
    there = mask(logits.shape[1]).to(logits.device)
    return torch.softmax(logits.masked_fill(~there, float("-inf")), -1)


def relax(probabilities: Tensor, x: Tensor, before: Tensor, cell: RelaxedCell, *, first: bool) -> dict[int, Tensor]:
    """Features of the last layer at each level that it has.

    `H_l[s] = sum over s' of p_l[s' -> s] cell(H_{l-1}[s'], H_{l-2}[s])`, where s' is s or a neighbour. Where level s is
    not there two layers before, the next finer level that is stands for it.

    Args:
        probabilities: `(transitions, levels, 3)`, of `transitions`.
        x: The input, at the finest level.
        before: What it was made of.
        cell: Computes one edge.
        first: Whether a first layer, at the finest level, comes before the first transition; else the first transition
            leads from the input to the first layer.
    """
    last, earlier = {0: x}, {0: before}
    if first:
        last, earlier = {0: cell(0, 0, 0, x, before)}, last
    levels = probabilities.shape[1]
    for number, step in enumerate(probabilities):
        layer = number + first
        now: dict[int, Tensor] = {}
        for target in range(levels):
            held = _nearest(earlier, target)
            sources = [s for s in (target - 1, target, target + 1) if s in last]
            terms = [step[s, target - s + 1] * cell(layer, s, target, last[s], held) for s in sources]
            if terms:
                now[target] = torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        last, earlier = now, last
    return last


def _nearest(features: Mapping[int, Tensor], level: int) -> Tensor:
    return features[max(s for s in features if s <= level)]


def most_probable(probabilities: Tensor, *, start: int = 0) -> tuple[tuple[int, ...], float]:
    """The path with the largest product of transition probabilities, by Viterbi's algorithm, and that product.

    Args:
        probabilities: `(transitions, levels, 3)`, of `transitions`.
        start: Level at which paths begin.

    Returns:
        The levels, one more than transitions, `start` first (of equal paths one that ends, and comes from, finer
        levels), and its probability, in (0, 1].

    Reference:
        Viterbi (1967), "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm",
        IEEE Trans. Information Theory 13(2).
    """
    steps = probabilities.detach().double().log().tolist()
    levels = probabilities.shape[1]
    if not 0 <= start < levels:
        raise InvalidInputError(f"Paths must begin at one of the levels 0 to {levels - 1}, got {start!r}.")
    best: dict[int, tuple[float, tuple[int, ...]]] = {start: (0.0, (start,))}
    for step in steps:
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for level, (score, path) in sorted(best.items()):
            for move, gain in zip(MOVES, step[level], strict=True):
                target = level + move
                if 0 <= target < levels and (target not in reached or score + gain > reached[target][0]):
                    reached[target] = (score + gain, (*path, target))
        best = reached
    level = max(sorted(best), key=lambda found: best[found][0])
    score, path = best[level]
    return path, float(torch.tensor(score, dtype=torch.float64).exp())
