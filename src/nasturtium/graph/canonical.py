"""Which networks are the same: a hash of the normal form that names, order of statement and paths do not touch.

The law: networks of equal hash give equal outputs under transported weights, that is, there is a one-to-one map
between their weights under which they compute the same. Cost is another matter: it is of the graph as stated.

The hash is exact, not only an invariant: two normal forms have equal certificates if and only if they are isomorphic.
A form is cut where a single value separates what is before from what is after. Nearly all of its pieces are told
apart by Merkle hashes alone; a piece with look-alikes (two equal convolutions of one input) is labelled canonically
by colour refinement and individualisation.

Reference:
    McKay, Piperno 2014, "Practical graph isomorphism, II", J. Symbolic Computation 60, section 2 (refinement and
    individualisation). Differs from the paper: automorphisms are only looked for along the first path.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from nasturtium.graph.simplify import Form, Value, simplify

if TYPE_CHECKING:
    from nasturtium.graph.graph import Graph

Piece = tuple[tuple[tuple[str, bool, tuple[int, ...]], ...], tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Values as (label, ordered, inputs), outputs, and ties. Input -1 is the value at which the piece begins."""

Certificate = Piece
"""A piece with its values numbered canonically."""

Leaf = tuple[Certificate, list[int]]
Signature = tuple[object, ...]

BUDGET = 20_000
"""Refinements that one piece may take; beyond, its order of statement decides (see `canonical_hash`)."""


def canonical_hash(graph: Graph) -> str:
    """32 hexadecimal digits, equal for networks that are the same up to their weights.

    Names, paths, the order of independent operations, the order of a sum's terms, dead branches, identities and exact
    zeros do not matter. Two convolutions of one input are two weights, hence different from one used twice.

    Notes:
        A piece with so many look-alikes that its labelling takes more than `BUDGET` refinements is hashed in its order
        of statement: equal hashes still mean equal networks, but two statements of one network may then differ.
    """
    digest = blake2b(digest_size=16)
    for piece, _ in pieces(simplify(graph)):
        digest.update(_labelled(piece)[0])
    return digest.hexdigest()


def weight_order(graph: Graph) -> tuple[str, ...]:
    """Paths of the operations that hold weights, statistics or randomness, in canonical order.

    In two graphs of equal `canonical_hash`, operations at one position correspond: move the weights along, and the
    graphs compute the same. Where a concatenation's order differs, the input channels of the weights that read it
    follow its parts. Operations on which no output depends are left out.
    """
    paths: dict[str, None] = {}
    for piece, weights in pieces(simplify(graph)):
        ranks = _labelled(piece)[1]
        for _, path in sorted(zip(ranks, weights, strict=True)):
            if path:
                paths.setdefault(path)
    return tuple(paths)


def equivalent(first: Graph, second: Graph) -> bool:
    """Whether two graphs are the same up to their weights: a search for the isomorphism itself, without hashes.

    The normal forms are compared piece by piece; time is exponential only in the look-alikes of one piece.
    """
    left, right = pieces(simplify(first)), pieces(simplify(second))
    return len(left) == len(right) and all(_isomorphic(p, q) for (p, _), (q, _) in zip(left, right, strict=True))


def pieces(form: Form) -> list[tuple[Piece, tuple[str, ...]]]:
    """Cut a form after every value that alone separates what is before it from what is after it.

    A form with tied weights stays whole, since a tie may reach over a cut.

    Returns:
        Each piece with its values' weight paths.
    """
    if form.ties:
        whole = (tuple([value[:3] for value in form.values]), form.outputs, form.ties)
        return [(whole, tuple([value.weights for value in form.values]))]
    values = form.values
    uses = [0] * len(values)
    for number in [*form.outputs, *[i for value in values for i in value.inputs]]:
        uses[number] += 1
    constant = _constants(values)
    found = []
    start: int = -1
    members: list[int] = []
    waiting: set[int] = set()
    for number in _in_places(values, constant):
        members.append(number)
        for i in values[number].inputs:
            uses[i] -= 1
            if not uses[i]:
                waiting.discard(i)
        waiting.add(number)
        if len(waiting) == 1 and not constant[number] and form.outputs != (number,):
            found.append(_piece(values, members, start, (number,)))
            start, members = number, []
    if members or form.outputs != (start,):
        found.append(_piece(values, members, start, form.outputs))
    return found


def is_zero(value: Value) -> bool:
    """Whether a value is zero everywhere; such a value has no place of its own and is restated where it is read."""
    return not value.inputs and value.label.startswith("zero")


def _constants(values: Sequence[Value]) -> list[bool]:
    """Whether each value depends on no input: zeros, and what operations with weights make of them."""
    constant: list[bool] = []
    for value in values:
        constant.append(is_zero(value) or (bool(value.inputs) and all(constant[i] for i in value.inputs)))
    return constant


def _in_places(values: Sequence[Value], constant: list[bool]) -> list[int]:
    """Values but the zeros, in an order of execution in which constants come just before they are first read.

    Constants that depend on one another come together, so that the places of cuts do not depend on the statement.
    """
    if not any(constant):
        return list(range(len(values)))
    group: dict[int, list[int]] = {}
    for number, value in enumerate(values):
        if constant[number] and not is_zero(value):
            merged = [number]
            for other in {id(group[i]): group[i] for i in value.inputs if i in group}.values():
                merged.extend(other)
            merged.sort()
            for i in merged:
                group[i] = merged
    order: list[int] = []
    placed: set[int] = set()
    for number in [*[n for n in range(len(values)) if not constant[n]], *group]:
        for i in [*values[number].inputs, number]:
            if i in group and i not in placed:
                placed.update(group[i])
                order.extend(group[i])
        if not constant[number]:
            order.append(number)
    return order


def _piece(
    values: Sequence[Value], members: list[int], start: int, outputs: tuple[int, ...]
) -> tuple[Piece, tuple[str, ...]]:
    local = {start: -1}
    rows: list[tuple[str, bool, tuple[int, ...]]] = []
    weights: list[str] = []

    def restate(zero: int) -> None:
        if zero not in local:
            local[zero] = len(rows)
            rows.append((values[zero].label, True, ()))
            weights.append("")

    for number in members:
        label, ordered, inputs, path = values[number]
        for i in inputs:
            restate(i)
        given = [local[i] for i in inputs]
        local[number] = len(rows)
        rows.append((label, ordered, tuple(given if ordered else sorted(given))))
        weights.append(path)
    for i in outputs:
        restate(i)
    return (tuple(rows), tuple([local[i] for i in outputs]), ()), tuple(weights)


@lru_cache(maxsize=1 << 14)
def _labelled(piece: Piece) -> tuple[bytes, tuple[int, ...]]:
    """A digest, equal for isomorphic pieces and for no others (up to collisions of 128 bits), and the canonical ranks.

    Returns:
        The digest, and for each value its rank; values at one rank of isomorphic pieces correspond.
    """
    values, outputs, ties = piece
    colours = _merkle(values)
    order = {colour: rank for rank, colour in enumerate(sorted(set(colours)))}
    ranks = [order[colour] for colour in colours]
    if len(order) == len(colours):  # each value is told by what it computes: no look-alikes
        roots = b"".join([colours[i] if i >= 0 else b"<" for i in outputs])
        groups = sorted(b"".join(sorted([colours[i] for i in group])) for group in ties)
        return _digest(b"plain", roots, *groups), tuple(ranks)
    try:
        certificate, ranks = Labelling(piece).canonical(ranks)
    except _BudgetError:
        return _digest(b"as stated", repr(piece).encode()), tuple(range(len(values)))
    return _digest(b"labelled", repr(certificate).encode()), tuple(ranks)


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


def _merkle(values: Sequence[tuple[str, bool, tuple[int, ...]]]) -> list[bytes]:
    """A colour for each value by what it computes from the piece's beginning."""
    colours: list[bytes] = []
    for label, ordered, inputs in values:
        given = [colours[i] if i >= 0 else b"<" * 16 for i in inputs]
        if not ordered:
            given.sort()
        colours.append(blake2b(label.encode() + b"\0" + b"".join(given), digest_size=16).digest())
    return colours


class Labelling:
    """Canonical labelling of one piece."""

    def __init__(self, piece: Piece) -> None:
        self.values, self.outputs, self.ties = piece
        self.consumers: list[list[tuple[int, int]]] = [[] for _ in self.values]
        for number, (_, ordered, inputs) in enumerate(self.values):
            for position, i in enumerate(inputs):
                if i >= 0:
                    self.consumers[i].append((number, position if ordered else -1))
        self.mates: dict[int, tuple[int, ...]] = {i: group for group in self.ties for i in group}
        self.spent = 0

    def canonical(self, colours: list[int]) -> tuple[Certificate, list[int]]:
        """The least certificate over all labellings that refinement leaves open, and its ranks.

        Args:
            colours: A rank for each value that isomorphic pieces share.

        Raises:
            _BudgetError: it took too many refinements.
        """
        for i in self.outputs:
            colours = _ranked([(c, number == i) for number, c in enumerate(colours)])
        return self._search(self.refine(colours))[0]

    def refine(self, colours: list[int]) -> list[int]:
        """Split colours until values of one colour have inputs, consumers and tied values of the same colours."""
        count = len(set(colours))
        while True:
            self.spent += 1
            if self.spent > BUDGET:
                raise _BudgetError
            signatures = []
            for number, (_, ordered, inputs) in enumerate(self.values):
                given = [colours[i] if i >= 0 else -1 for i in inputs]
                if not ordered:
                    given.sort()
                used = sorted([(colours[c], position) for c, position in self.consumers[number]])
                tied = sorted([colours[i] for i in self.mates.get(number, ())])
                signatures.append((colours[number], tuple(given), tuple(used), tuple(tied)))
            colours = _ranked(signatures)
            found = max(colours) + 1
            if found == count:
                return colours
            count = found

    def _search(self, colours: list[int]) -> tuple[Leaf, Leaf]:
        """The least leaf below these colours, and the one along the first path."""
        cell = _first_cell(colours)
        if not cell:
            leaf = self._leaf(colours)
            return leaf, leaf
        best, first = self._search(self.refine(_apart(colours, cell[0])))
        for candidate in cell[1:]:
            refined = self.refine(_apart(colours, candidate))
            if self._first_path(refined)[0] == first[0]:
                continue  # an automorphism takes the first candidate to this one
            best = min(best, self._search(refined)[0])
        return best, first

    def _first_path(self, colours: list[int]) -> Leaf:
        while cell := _first_cell(colours):
            colours = self.refine(_apart(colours, cell[0]))
        return self._leaf(colours)

    def _leaf(self, colours: list[int]) -> Leaf:
        """The piece with its values renumbered by colour, and the colours."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        rows = []
        for number in order:
            label, ordered, inputs = self.values[number]
            given = [colours[i] if i >= 0 else -1 for i in inputs]
            rows.append((label, ordered, tuple(given if ordered else sorted(given))))
        outputs = tuple([colours[i] if i >= 0 else -1 for i in self.outputs])
        ties = tuple(sorted(tuple(sorted([colours[i] for i in group])) for group in self.ties))
        return (tuple(rows), outputs, ties), colours


def _isomorphic(left: Piece, right: Piece) -> bool:
    """Whether a one-to-one map between the values keeps labels, inputs, outputs and ties; by backtracking."""
    if left == right:
        return True
    if len(left[0]) != len(right[0]) or len(left[1]) != len(right[1]):
        return False
    places: dict[object, list[int]] = {}
    for number, row in enumerate(right[0]):
        places.setdefault(row, []).append(number)
    image: list[int] = []
    choices: list[list[int]] = []
    while True:
        if len(image) == len(left[0]):
            if _carries(left, right, image):
                return True
        else:
            label, ordered, inputs = left[0][len(image)]
            given = [image[i] if i >= 0 else -1 for i in inputs]
            row = (label, ordered, tuple(given if ordered else sorted(given)))
            choices.append([n for n in places.get(row, ()) if n not in image])
            image.append(-1)
        while choices and not choices[-1]:
            choices.pop()
            image.pop()
        if not choices:
            return False
        del image[len(choices) - 1 :]
        image.append(choices[-1].pop())


def _carries(left: Piece, right: Piece, image: list[int]) -> bool:
    """Whether a map takes outputs to outputs, in order, and ties to ties."""
    if tuple([image[i] if i >= 0 else -1 for i in left[1]]) != right[1]:
        return False
    return {frozenset(image[i] for i in group) for group in left[2]} == {frozenset(group) for group in right[2]}


class _BudgetError(Exception):
    """Labelling took too many refinements."""


def _ranked(signatures: Sequence[Signature]) -> list[int]:
    """Signatures as ranks from 0."""
    ranks = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}
    return [ranks[signature] for signature in signatures]


def _first_cell(colours: list[int]) -> list[int]:
    """Values of the first colour that several have."""
    members: dict[int, list[int]] = {}
    for number, colour in enumerate(colours):
        members.setdefault(colour, []).append(number)
    return next((members[c] for c in sorted(members) if len(members[c]) > 1), [])


def _apart(colours: list[int], chosen: int) -> list[int]:
    """Colours with one value set apart, before the others of its colour."""
    return [2 * c + (number != chosen) for number, c in enumerate(colours)]
