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
    form = simplify(graph)
    pieces = [form_piece(form)] if form.ties else list(_pieces(form))
    digest = blake2b(digest_size=16)
    for piece in pieces:
        digest.update(_certificate(piece))
    return digest.hexdigest()


def form_piece(form: Form) -> Piece:
    """A whole normal form as one piece."""
    return tuple([value[:3] for value in form.values]), form.outputs, form.ties


def _pieces(form: Form) -> list[Piece]:
    """Cut a form after every value that alone separates what is before it from what is after it."""
    values = form.values
    last = [-1] * len(values)
    constant = [not value.inputs and value.label.startswith("zero") for value in values]
    for number, value in enumerate(values):
        for i in value.inputs:
            last[i] = number
    for number in form.outputs:
        last[number] = len(values)
    pieces: list[Piece] = []
    start_value = -1
    members: list[int] = []
    open_values: set[int] = set()
    for number, value in enumerate(values):
        if constant[number] and last[number] < len(values):
            continue  # a zero is restated in each piece that reads it: it belongs to no place
        members.append(number)
        for i in value.inputs:
            if last[i] == number:
                open_values.discard(i)
        open_values.add(number)
        if len(open_values) == 1 and last[number] > number:
            pieces.append(_piece(values, members, start_value, (number,)))
            members, start_value = [], number
    if members or not pieces:
        pieces.append(_piece(values, members, start_value, form.outputs))
    elif form.outputs != (start_value,):
        pieces.append(_piece(values, [], start_value, form.outputs))
    return pieces


def _piece(values: Sequence[Value], members: list[int], start: int, outputs: tuple[int, ...]) -> Piece:
    local = {start: -1}
    rows: list[tuple[str, bool, tuple[int, ...]]] = []
    for number in members:
        label, ordered, inputs, _ = values[number]
        for i in inputs:
            if i not in local:  # a zero
                local[i] = len(rows)
                rows.append((values[i].label, True, ()))
        given = [local[i] for i in inputs]
        local[number] = len(rows)
        rows.append((label, ordered, tuple(given if ordered else sorted(given))))
    return tuple(rows), tuple([local[i] for i in outputs]), ()


@lru_cache(maxsize=1 << 14)
def _certificate(piece: Piece) -> bytes:
    """Equal for isomorphic pieces, different for others (up to collisions of a 128-bit hash)."""
    values, outputs, ties = piece
    colours = _merkle(values)
    if len(set(colours)) == len(colours):  # each value is told by what it computes: no look-alikes
        roots = b"".join([colours[i] if i >= 0 else b"<" for i in outputs])
        groups = sorted(b"".join(sorted([colours[i] for i in group])) for group in ties)
        return _digest(b"plain", roots, b"|".join(groups))
    ranks = {colour: rank for rank, colour in enumerate(sorted(set(colours)))}
    labelling = Labelling(piece)
    found = labelling.canonical([ranks[colour] for colour in colours])
    return _digest(b"labelled" if found else b"as stated", repr(found or piece).encode())


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

    def canonical(self, colours: list[int]) -> object:
        """The certificate, or None where the budget does not reach.

        Args:
            colours: A rank for each value that isomorphic pieces share.
        """
        for position, i in enumerate(self.outputs):
            if i >= 0:
                colours = _ranked([(c, n == i, position) for n, c in enumerate(colours)])
        try:
            return self._search(self.refine(colours))[0]
        except _BudgetError:
            return None

    def refine(self, colours: list[int]) -> list[int]:
        """Split colours until values of one colour have inputs, consumers and tied values of the same colours."""
        count = len(set(colours))
        while True:
            self.spent += 1
            if self.spent > BUDGET:
                raise _BudgetError
            signatures: list[object] = []
            for number, (_, ordered, inputs) in enumerate(self.values):
                given = [colours[i] if i >= 0 else -1 for i in inputs]
                if not ordered:
                    given.sort()
                used = sorted([(colours[c], position) for c, position in self.consumers[number]])
                tied = sorted([colours[i] for i in self.mates.get(number, ())])
                signatures.append((colours[number], given, used, tied))
            colours = _ranked(signatures)
            found = len(set(colours))
            if found == count:
                return colours
            count = found

    def _search(self, colours: list[int]) -> tuple[object, object]:
        """The least certificate below these colours, and the one along the first path."""
        cell = _first_cell(colours)
        if not cell:
            leaf = self._leaf(colours)
            return leaf, leaf
        best, first = self._search(self.refine(_apart(colours, cell[0])))
        for candidate in cell[1:]:
            refined = self.refine(_apart(colours, candidate))
            if self._first_path(refined) == first:
                continue  # an automorphism takes the first candidate to this one
            found, _ = self._search(refined)
            best = min(best, found)  # type: ignore[type-var]
        return best, first

    def _first_path(self, colours: list[int]) -> object:
        while cell := _first_cell(colours):
            colours = self.refine(_apart(colours, cell[0]))
        return self._leaf(colours)

    def _leaf(self, colours: list[int]) -> object:
        """The piece with its values renumbered by colour."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        rows = []
        for number in order:
            label, ordered, inputs = self.values[number]
            given = [colours[i] if i >= 0 else -1 for i in inputs]
            rows.append((label, ordered, tuple(given if ordered else sorted(given))))
        outputs = tuple([colours[i] if i >= 0 else -1 for i in self.outputs])
        ties = tuple(sorted(tuple(sorted([colours[i] for i in group])) for group in self.ties))
        return tuple(rows), outputs, ties


class _BudgetError(Exception):
    """Labelling took too many refinements."""


def _ranked(signatures: Sequence[object]) -> list[int]:
    """Signatures as ranks from 0."""
    keys = sorted(signatures)  # type: ignore[type-var]
    ranks: dict[str, int] = {}
    for key in keys:
        ranks.setdefault(repr(key), len(ranks))
    return [ranks[repr(signature)] for signature in signatures]


def _first_cell(colours: list[int]) -> list[int]:
    """Values of the first colour that several have."""
    members: dict[int, list[int]] = {}
    for number, colour in enumerate(colours):
        members.setdefault(colour, []).append(number)
    return next((members[c] for c in sorted(members) if len(members[c]) > 1), [])


def _apart(colours: list[int], chosen: int) -> list[int]:
    """Colours with one value set apart, before the others of its colour."""
    return [2 * c + (number != chosen) for number, c in enumerate(colours)]
