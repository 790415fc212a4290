"""Watching for the collapse of DARTS: genotypes that fill with identities, and a validation loss that sharpens.

The curvature of the validation loss along the architecture foretells how much accuracy a mixture loses when it is made
discrete; it rises before the genotype fills with skip connections.

Reference:
    Zela et al. (2020), "Understanding and Robustifying Differentiable Architecture Search", arXiv 1909.09656, sections
    4 and 5.1 (RobustDARTS: early stopping by the dominant eigenvalue).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import OpenGraph

WINDOW = 5
"""Measurements in the moving average of the eigenvalue, in the authors' code."""
BACK = 4
"""How many measurements earlier the average stands that the current one is compared with."""


def dominant_eigenvalue(
    loss: Callable[[], Tensor],
    architecture: Sequence[Tensor],
    *,
    iterations: int = 20,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    """The eigenvalue of largest magnitude of a loss's Hessian with respect to the architecture.

    By power iteration with exact Hessian-vector products. Cost: a forward pass, a backward pass, and a pass through
    the backward pass for each iteration; memory: of a forward pass whose gradient is kept differentiable.

    Args:
        loss: Computes the loss, a scalar, with the current architecture.
        architecture: Trainable tensors.
        iterations: At most, at least 1.
        tolerance: Stops where the estimate changes by a smaller share.
        seed: Of the first direction.

    Returns:
        The Rayleigh quotient of the last direction, negative where the curvature of largest magnitude is; 0.0 where
        the loss is linear in the architecture.
    """
    if iterations < 1:
        raise InvalidInputError(f"`iterations` must be at least 1, got {iterations!r}.")
    found = torch.autograd.grad(loss(), list(architecture), create_graph=True, allow_unused=True)
    pairs = [(p, g) for p, g in zip(architecture, found, strict=True) if g is not None and g.requires_grad]
    if not pairs:
        return 0.0
    tensors, gradients = [p for p, _ in pairs], [g for _, g in pairs]
    generator = torch.Generator().manual_seed(seed)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in tensors]
    value = 0.0
    for _ in range(iterations):
        length = _norm(direction)
        if length == 0.0:
            return 0.0
        direction = [d / length for d in direction]
        product = torch.autograd.grad(gradients, tensors, direction, retain_graph=True, allow_unused=True)
        step = [torch.zeros_like(p) if h is None else h for p, h in zip(tensors, product, strict=True)]
        before, value = value, float(sum((torch.sum(a * b) for a, b in zip(direction, step, strict=True)), 0.0))
        direction = step
        if abs(value - before) <= tolerance * abs(value):
            break
    return value


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt())


def identity_options(graph: OpenGraph) -> dict[str, frozenset[int]]:
    """Which options of each decision pass a tensor on unchanged; decisions without such an option are left out.

    An option does where what it selects, in some place, is what every other option computes on.

    Args:
        graph: Of a supernet whose decisions select among branches.
    """
    found: dict[int, set[int]] = {}
    for fork in _forks(graph):
        leaves = [frozenset(n for n in child.leaves() if isinstance(n, int)) for child in fork.children]
        start = min([min(own) for own in leaves if own], default=0)
        before = [_ancestors(graph, own, start) for own in leaves]
        for i, own in enumerate(leaves):
            others = [b for other, b in zip(leaves, before, strict=True) if other and other != own]
            if own and others and all(own <= b for b in others):
                found.setdefault(fork.variable, set()).add(i)
    return {graph.decisions[p].name: frozenset(options) for p, options in sorted(found.items())}


def weightless_options(graph: OpenGraph) -> dict[str, frozenset[int]]:
    """Which options of each decision have no weights of their own: identities, poolings, zeros.

    An option does where nothing that it alone computes, in any place, has weights. Decisions without such an option
    are left out.

    Args:
        graph: Of a supernet whose decisions select among branches.
    """
    weights = {n.number for n in graph.nodes if any(form.operation.weights(*form.inputs) for form in n.variants)}
    seen: dict[int, set[int]] = {}
    weighted: dict[int, set[int]] = {}
    for fork in _forks(graph):
        leaves = [frozenset(n for n in child.leaves() if isinstance(n, int)) for child in fork.children]
        needed = [own | _ancestors(graph, own, 0) for own in leaves]
        for i, own in enumerate(needed):
            others = [n for other, n in zip(leaves, needed, strict=True) if other and other != leaves[i]]
            if leaves[i] and others:
                seen.setdefault(fork.variable, set()).add(i)
                if (own - frozenset.intersection(*others)) & weights:
                    weighted.setdefault(fork.variable, set()).add(i)
    found = {position: frozenset(options - weighted.get(position, set())) for position, options in sorted(seen.items())}
    return {graph.decisions[position].name: options for position, options in found.items() if options}


def _forks(graph: OpenGraph) -> list[Diagram]:
    """Every place where a decision selects what is read."""
    found: dict[int, Diagram] = {}
    stack = [value for node in graph.nodes for value in node.inputs] + [value for _, value in graph.outputs]
    while stack:
        diagram = stack.pop()
        if diagram.children and diagram.number not in found:
            found[diagram.number] = diagram
            stack.extend(diagram.children)
    return list(found.values())


def _ancestors(graph: OpenGraph, numbers: frozenset[int], start: int) -> frozenset[int]:
    """What some nodes compute on, without themselves, back to the node `start`."""
    found: set[int] = set()
    stack = list(numbers)
    while stack:
        for value in graph.nodes[stack.pop()].inputs:
            for number in value.leaves():
                if isinstance(number, int) and number >= start and number not in found:
                    found.add(number)
                    stack.append(number)
    return frozenset(found)


def identities(architecture: Architecture, options: Mapping[str, frozenset[int]]) -> dict[str, tuple[int, int]]:
    """How many operations of an architecture are among some options, by the part of the network that they stand in.

    Args:
        architecture: Of the space that the options are of.
        options: Of each decision, as `identity_options` or `weightless_options` gives them.

    Returns:
        (operations among them, active decisions that could be for one) by the decisions' names up to the first "_" or
        ".": "normal" and "reduce" in a DARTS space.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, index in architecture.decisions.items():
        if name in options:
            part = name.replace(".", "_").partition("_")[0]
            passed, all_of = found.get(part, (0, 0))
            found[part] = (passed + (index in options[name]), all_of + 1)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseWatch:
    """What to watch for; the defaults are those of RobustDARTS' code.

    Args:
        every: Epochs between two measurements of the eigenvalue; 0 measures none.
        window: Measurements in the moving average.
        back: How many measurements earlier the average stands that the current one is compared with.
        ratio: The collapse begins where the current average is more than so many times the earlier one.
        first: Earliest epoch (from 1) that a search goes back to.
        batches: Batches that the loss is averaged over, at least 1.
        iterations: Of the power iteration, at most.
        stop: Whether a collapse ends the search, with the genotype of before; else it is only told.
        identities: A genotype with at least this share of identities in a part of the network is told of.
        weightless: The same for operations without weights: identities, poolings, zeros.

    Reference:
        Zela et al. (2020), arXiv 1909.09656, section 5.1, and the authors' code (`EVLocalAvg`).
        Differs from the code: one batch or few, and power iteration, instead of the whole Hessian.
    """

    every: int = 2
    window: int = WINDOW
    back: int = BACK
    ratio: float = 1.3
    first: int = 10
    batches: int = 1
    iterations: int = 20
    stop: bool = False
    identities: float = 0.5
    weightless: float = 0.75

    def __post_init__(self) -> None:
        least = {"every": 0, "window": 1, "back": 1, "first": 0, "batches": 1, "iterations": 1}
        for name, low in least.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                raise InvalidInputError(f"`{name}` must be an integer of {low} or more, got {getattr(self, name)!r}.")
        if not self.ratio > 0 or not 0 < self.identities <= 1 or not 0 < self.weightless <= 1:
            raise InvalidInputError(
                "`ratio` must be above 0, `identities` and `weightless` in (0, 1], got "
                f"{self.ratio!r}, {self.identities!r} and {self.weightless!r}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """That the curvature has risen too much."""

    epoch: int
    """To go back to, from 1: the middle of the earlier window."""
    ratio: float
    """Of the current average and the earlier one."""
    decisions: Mapping[str, int]
    """Of the architecture at that epoch."""
    seen: int
    """Epoch of the measurement that showed it, from 1."""


class Curvature:
    """The measurements of one search; may be part of a checkpoint.

    Args:
        watch: The settings.
    """

    def __init__(self, watch: CollapseWatch) -> None:
        self.watch = watch
        self.epochs: list[int] = []
        self.values: list[float] = []
        self.decisions: list[dict[str, int]] = []

    def is_due(self, epoch: int) -> bool:
        """Whether to measure after an epoch (from 1)."""
        return self.watch.every > 0 and epoch % self.watch.every == 0

    def add(self, epoch: int, eigenvalue: float, architecture: Architecture) -> None:
        """Take in a measurement.

        Args:
            epoch: From 1, increasing.
            eigenvalue: The dominant one; its magnitude counts.
            architecture: What the search would give now.
        """
        self.epochs.append(epoch)
        self.values.append(abs(eigenvalue))
        self.decisions.append(dict(architecture.decisions))

    def averages(self) -> list[float]:
        """Moving averages; the first is of the first `window` measurements."""
        n = self.watch.window
        return [sum(self.values[i : i + n]) / n for i in range(len(self.values) - n + 1)]

    def collapse(self) -> Collapse | None:
        """The first time that an average rose over the ratio, compared with `back` measurements earlier.

        It stays when the curvature has flattened since.
        """
        averages = self.averages()
        for earlier, later in zip(averages, enumerate(averages[self.watch.back :]), strict=False):
            number, current = later
            middle = number + (self.watch.window - 1) // 2
            if self.epochs[middle] < self.watch.first or earlier == 0.0 or current / earlier <= self.watch.ratio:
                continue
            return Collapse(
                epoch=self.epochs[middle], ratio=current / earlier, decisions=self.decisions[middle],
                seen=self.epochs[number + self.watch.back + self.watch.window - 1],
            )  # fmt: skip
        return None

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "epochs": list(self.epochs),
            "values": list(self.values),
            "decisions": [dict(d) for d in self.decisions],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.epochs, self.values = list(state["epochs"]), list(state["values"])
        self.decisions = [dict(d) for d in state["decisions"]]
