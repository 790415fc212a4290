"""Relaxation: a space in which every choice is between branches that can be mixed, and the way back.

Where a space chooses some of several items (`subset`, as a node of a DARTS cell chooses two of its inputs), a mixture
needs all of them side by side, each with the possibility of being nothing. `relax` makes that space from any other;
`Relaxation.decode` gives the architecture of the original space that the mixture stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph.operations import Add
from nasturtium.space import Architecture, Block, Choice, Space
from nasturtium.space.choice import Subset
from nasturtium.space.open_graph import OpenGraph
from nasturtium.supernets.rewriting import Rewriter

Probabilities = Mapping[str, Sequence[float] | Tensor]
"""Of each decision's options, by the decision's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One of the items that a subset chooses among, in the relaxed space."""

    operation: str | None
    """Decision between its operations, the last of which is none; None where it has no such choice."""
    edge: str | None
    """Decision between the item and none; None where the operation's none says as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All items of one subset."""

    subset: str
    """The decision of the original space."""
    k: int
    """How many it chooses."""
    items: tuple[Item, ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Relaxation:
    """A space whose choices can be mixed, for another one; see `relax`."""

    original: Space
    space: Space
    """The relaxed one; the original where nothing had to be relaxed."""
    groups: tuple[Group, ...]
    names: Mapping[str, str]
    """Names in the relaxed space of the original's decisions (subsets have none)."""
    parts: int = 1
    """Operations work on one of so many parts of the channels."""
    shortcuts: tuple[str, ...] = ()
    """Decisions of the relaxed space between a shortcut (option 0) and none, which stand for nothing."""

    def strengths(self, group: Group, probabilities: Probabilities) -> Tensor:
        """How strong each item of a group is, `(items,)`: its edge's probability times the best operation's."""
        found = []
        for item in group.items:
            strength = torch.ones(())
            if item.operation is not None:
                strength = self._values(item.operation, probabilities)[:-1].max()
            if item.edge is not None:
                strength = strength * self._values(item.edge, probabilities)[0]
            found.append(strength)
        return torch.stack(found)

    def decode(self, probabilities: Probabilities) -> Architecture:
        """The architecture of the original space that a mixture stands for.

        Of each subset the k strongest items, see `strengths`, and everywhere the most probable option that is not
        none; of equals the first.

        Args:
            probabilities: Of every decision of the relaxed space that has two options or more; they need no sum of 1.

        Raises:
            InvalidInputError: one is missing, or has not as many numbers as options.

        Reference:
            Liu, Simonyan, Yang (2019), "DARTS", arXiv 1806.09055, section 2.4 (`genotype` of `model_search.py`);
            Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, section 3.3 (strength by alpha times beta).
        """
        groups = {group.subset: group for group in self.groups}
        vector: list[float] = []
        for decision in self.original.decisions:
            if decision.name in groups:
                scores = self.strengths(groups[decision.name], probabilities).tolist()
            else:
                scores = self._values(self.names[decision.name], probabilities)[: decision.count].tolist()
            ranks = {score: float(rank) for rank, score in enumerate(sorted(set(scores)), start=1)}
            vector += [ranks[score] for score in scores]
        return self.original.decode(vector)

    def distribution(self, probabilities: Probabilities) -> dict[str, Tensor]:
        """What a mixture says of the original space: probabilities of each of its decisions, differentiable.

        An operation has its probability given that it is not none. A subset S has the probability proportional to the
        product of the strengths of its items, where an item is as strong as the sum of its operations but none times
        its edge: each node keeps exactly k items, as the derived network does. With it an expected cost counts the
        choice of edges, not the cost of all that the supernet computes.

        Returns:
            `(options,)` for each decision of the original space, of sum 1.
        """
        groups = {group.subset: group for group in self.groups}
        found: dict[str, Tensor] = {}
        for decision in self.original.decisions:
            if decision.name in groups:
                found[decision.name] = self._of_subset(decision.choice, groups[decision.name], probabilities)
            else:
                values = self._values(self.names[decision.name], probabilities)[: decision.count]
                found[decision.name] = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
        return found

    def _of_subset(self, choice: Choice, group: Group, probabilities: Probabilities) -> Tensor:
        assert isinstance(choice, Subset)
        masses = []
        for item in group.items:
            mass = torch.ones(())
            if item.operation is not None:
                mass = self._values(item.operation, probabilities)[:-1].sum()
            if item.edge is not None:
                mass = mass * self._values(item.edge, probabilities)[0]
            masses.append(mass)
        strengths = torch.stack(masses)
        products = torch.stack([strengths[list(choice.positions(i))].prod() for i in range(choice.count)])
        return products / products.sum().clamp_min(torch.finfo(products.dtype).tiny)

    def _values(self, name: str, probabilities: Probabilities) -> Tensor:
        count = self.space.decision(name).count
        if name not in probabilities and count == 1:
            return torch.ones(1)
        given = probabilities.get(name)
        values = torch.as_tensor([] if given is None else given)
        if values.shape != (count,):
            raise InvalidInputError(
                f"`probabilities` must give {name!r} {count} numbers, one for each option, got {given!r}."
            )
        return values if values.is_floating_point() else values.double()

    def require_mixed(self, mixed: Mapping[str, int], graph: OpenGraph) -> None:
        """Refuse a space that is no mixture as a whole.

        Args:
            mixed: Of the relaxed space's supernet, `Supernet.mixed`.
            graph: That supernet's.

        Raises:
            IncompatibleError: a decision cannot be mixed, or there is none, or a subset is not added up.
        """
        decisions = [d for d in self.space.decisions if d.count > 1]
        wrong = [d.name for d in decisions if d.name not in mixed]
        if wrong or not decisions:
            what = f"the decisions {_some(wrong)}, which change numbers or shapes, or nothing at all"
            raise IncompatibleError(
                f"A mixture decides everything between branches of one shape that are added up, but this space has "
                f"{what if wrong else 'no decision'}: fix them, write them as choices between whole blocks "
                "(`one_of(Conv(8, kernel=3), Conv(8, kernel=5))`), or use a method that trains single paths."
            )
        for group in self.groups:
            items = {item.edge or (item.operation if self.parts == 1 else None) for item in group.items}
            other = _not_added(graph, items)
            if other is not None:
                raise IncompatibleError(
                    f"The items of the subset {group.subset!r} go into {other}, but a mixture of all of them stands "
                    "for some of them only where they are added up. Add them up, or use a method that trains single "
                    "paths."
                )


def relax(space: Space, *, edges: bool = False, parts: int = 1, shortcuts: bool = False) -> Relaxation:
    """The space of the mixtures that a space's choices become.

    Every `subset` becomes all of its items. An item that holds one choice between blocks, its operation, gets "none"
    as a further option of that choice, the last one; another item becomes a choice between itself and none. What else
    is chosen stays as it is. Names, and the paths of weights, stay too, so that shared weights fit both spaces (`parts`
    and `shortcuts` change the paths).

    Args:
        space: Any.
        edges: Whether every item becomes a choice between itself and none even where its operation has a none: the
            place of the weights of PC-DARTS's edges.
        parts: K of PC-DARTS: every choice between blocks works on one part of K of the channels only; 1 on all.
        shortcuts: Whether every choice between blocks has a shortcut beside it, as in DARTS-.

    Returns:
        The relaxation; the same space where it has no subset (a NAS-Bench-201 cell, a chain of choices).

    Raises:
        IncompatibleError: the space has conditions or is a table, a walk, or a subset of what is no block.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.supernets.relaxation import relax
        >>> relaxed = relax(nas.zoo.darts.space())
        >>> [d.count for d in relaxed.space.decisions][:3], relaxed.space.decisions[0].name
        ([8, 8, 8], 'normal_op_0_2')
    """
    if space.conditions or space.is_table:
        raise IncompatibleError(
            "A mixture cannot keep to conditions (`where`) or to the rows of a table: search the space without them, "
            "with a penalty on the expected cost."
        )
    rewriter = Rewriter(edges, parts, shortcuts)
    block = rewriter.run(space.block)
    if not isinstance(block, (Block, Choice)) or not rewriter.changed:
        return Relaxation(original=space, space=space, groups=(), names={d.name: d.name for d in space.decisions})
    relaxed = Space(block)
    names, groups = {}, []
    for decision in space.decisions:
        if decision.choice in rewriter.groups:
            subset, items = rewriter.groups[decision.choice]
            made = tuple([
                Item(
                    operation=None if operation is None else relaxed.decision(operation).name,
                    edge=None if edge is None else relaxed.decision(edge).name,
                )
                for operation, edge in items
            ])  # fmt: skip
            groups.append(Group(subset=decision.name, k=subset.k, items=made))
        else:
            names[decision.name] = relaxed.decision(rewriter.choices[decision.choice]).name
    return Relaxation(
        original=space,
        space=relaxed,
        groups=tuple(groups),
        names=names,
        parts=parts,
        shortcuts=tuple([relaxed.decision(c).name for c in rewriter.shortcuts]),
    )


def _not_added(graph: OpenGraph, names: set[str | None]) -> str | None:
    """The kind of the first operation of several inputs that reads what some decisions select and does not add up."""
    positions = {i for i, decision in enumerate(graph.decisions) if decision.name in names}
    reached: set[int] = set()
    for node in graph.nodes:
        selects = any(value.support & positions for value in node.inputs)
        follows = any(n in reached for value in node.inputs for n in value.leaves())
        if selects or follows:
            if node.kind is Add:
                continue
            if len(node.inputs) > 1:
                return node.kind.kind
            reached.add(node.number)
    return None


def _some(names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(map(repr, names[:most]))
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
