"""When a decision is active: which values of which other decisions bring it about."""

from __future__ import annotations

from dataclasses import dataclass

from nasturtium.space.structure import Decision, Node, Structure


@dataclass(frozen=True, slots=True)
class Activation:
    """A way for a decision to become active.

    Attributes:
        decision: The decision that controls it.
        indices: The indices of that decision which activate it, increasing.
    """

    decision: Decision
    indices: tuple[int, ...]

    def __str__(self) -> str:
        labels = [self.decision.label(i) for i in self.indices]
        return f"{self.decision.name} = {' or '.join(labels)}"


def activations(structure: Structure) -> tuple[tuple[Activation, ...], ...]:
    """For each decision the nearest decisions that control it, any of which suffices; none where it is always active.

    A controlling decision may be conditional itself.
    """
    found: list[dict[int, set[int]]] = [{} for _ in structure.decisions]
    always = [False] * len(structure.decisions)
    stack: list[tuple[Node, int, tuple[int, ...]]] = [(structure.root, -1, ())]
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    while stack:
        node, position, indices = stack.pop()
        if (node.id, position, indices) in seen:
            continue
        seen.add((node.id, position, indices))
        if node.decision < 0:
            stack.extend([(child, position, indices) for child in node.everything])
            continue
        if position < 0:
            always[node.decision] = True
        elif position != node.decision:
            found[node.decision].setdefault(position, set()).update(indices)
        active = node.active
        if active is not None:
            table = [active(index) for index in range(node.count)]
            for child in node.children:
                under = tuple([index for index, children in enumerate(table) if child in children])
                whole = len(under) == node.count  # active with its parent, whatever that one's value
                stack.append((child, position, indices) if whole else (child, node.decision, under))
    return tuple(
        ()
        if always[number]
        else tuple([Activation(structure.decisions[p], tuple(sorted(values))) for p, values in sorted(ways.items())])
        for number, ways in enumerate(found)
    )
