"""Spaces that are tables: what is listed is all there is, and it varies by the nearest rows."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import InfeasibleError, InvalidArchitectureError, InvalidInputError
from nasturtium.space import Space, diff
from nasturtium.testing import check_space


def above_ten(width: int) -> bool:
    return width > 10


@pytest.fixture(scope="module")
def whole() -> Space:
    return Space(nas.Conv(nas.int_range(1, 100, name="width"), kernel=nas.one_of(3, 5, 7, name="kernel")))


def listed(whole: Space, *pairs: tuple[int, int]) -> Space:
    return Space.from_table(whole, [whole.architecture({"width": w, "kernel": k}) for w, k in pairs])


def pairs(architectures) -> list[tuple[int, int]]:
    return [(a.choices["width"], a.choices["kernel"]) for a in architectures]


def test_rows_are_the_space_in_their_order(whole):
    rows = [(9, 3), (2, 7), (50, 5)]
    space = listed(whole, *rows)
    assert space.is_table
    assert not whole.is_table
    assert space.size == 3
    assert pairs(space.enumerate()) == pairs(space.at(i) for i in range(3)) == rows
    assert whole.architecture({"width": 9, "kernel": 3}) in space
    assert whole.architecture({"width": 9, "kernel": 5}) not in space
    with pytest.raises(InvalidArchitectureError, match="not one of the 3 rows"):
        space.architecture({"width": 9, "kernel": 5})
    with pytest.raises(InvalidInputError, match=r"\[0, 3\)"):
        space.at(3)


def test_drawing_is_uniform_over_rows(whole):
    space = listed(whole, (1, 3), (1, 5), (1, 7), (2, 3))
    rng = Random(0)
    counts = Counter(pairs(space.sample(rng) for _ in range(4000)))
    assert set(counts) == {(1, 3), (1, 5), (1, 7), (2, 3)}
    assert max(abs(n - 1000) for n in counts.values()) < 110  # 4 standard deviations of a binomial (27)
    drawn = Counter(pairs(space.sample(rng, "hierarchical") for _ in range(4000)))
    assert abs(drawn[2, 3] - 2000) < 130  # the first decision is 1 or 2 with equal chance


def test_a_mutation_is_one_of_the_nearest_rows(whole):
    space = listed(whole, (1, 3), (1, 5), (8, 3), (9, 7))
    first, _, _, last = space.enumerate()
    rng = Random(1)
    # (1, 5) and (8, 3) differ from (1, 3) in one decision, (9, 7) in two
    assert set(pairs(space.mutate(first, rng) for _ in range(60))) == {(1, 5), (8, 3)}
    assert pairs(space.neighbours(first)) == [(1, 5), (8, 3)]
    # all others differ from (9, 7) in two
    assert pairs(space.neighbours(last)) == [(1, 3), (1, 5), (8, 3)]
    assert pairs(space.neighbours(first, only="width")) == [(8, 3)]
    assert set(pairs(space.mutate(first, rng, only="kernel") for _ in range(20))) == {(1, 5)}
    with pytest.raises(InfeasibleError, match="differs only in what 'kernel' admits"):
        space.mutate(last, rng, only="kernel")
    assert space.neighbours(last, only="kernel") == []


def test_shells_are_added_until_there_are_enough_rows(whole):
    """Twenty rows, ln 20 = 3.0: at least three are near; those of the last shell are all taken."""
    far = [(w, 7) for w in range(20, 35)]
    space = listed(whole, (1, 3), (1, 5), (2, 5), (3, 5), (4, 5), *far)
    first, second, *_ = space.enumerate()
    # (1, 3): one row is one change away, fewer than three; at two changes there are all others
    assert len(space.neighbours(first)) == 19
    # (1, 5): (1, 3), (2, 5), (3, 5), (4, 5) are one change away
    assert pairs(space.neighbours(second)) == [(1, 3), (2, 5), (3, 5), (4, 5)]


def test_a_table_of_the_whole_space_varies_as_the_space_does(whole):
    """Of the ten rows of a space of ten, an architecture has 5 single changes, ln 10 = 2.3."""
    full = Space(nas.Conv(nas.one_of(4, 8, 12, 16, 20, name="width"), kernel=nas.one_of(3, 5, name="kernel")))
    table = Space.from_table(full, list(full.enumerate()))
    for a in full.enumerate():
        assert {b.key for b in table.neighbours(a)} == {b.key for b in full.neighbours(a)}
    two = Space(nas.Conv(8, kernel=nas.one_of(3, 5)))  # one single change: fewer than any logarithm asks for
    table = Space.from_table(two, list(two.enumerate()))
    assert [len(table.neighbours(a)) for a in two.enumerate()] == [1, 1]


def test_a_child_is_the_row_nearest_to_the_crossed_decisions(whole):
    space = listed(whole, (1, 3), (8, 7), (8, 3))
    a, b, _ = space.enumerate()
    children = Counter(pairs(space.cross(a, b, Random(i)) for i in range(300)))
    # of the crossings (1,3), (8,7), (8,3), (1,7) the last is no row: (1, 3) and (8, 7) are one change away
    assert set(children) == {(1, 3), (8, 7), (8, 3)}
    assert all(50 < n < 160 for n in children.values())


def test_what_is_composed_is_brought_to_the_nearest_row(whole):
    space = listed(whole, (1, 3), (8, 7), (8, 3))
    at = {"width": 7, "kernel": 1}  # indices: width 8, kernel 5
    assert space.settle(at) is None
    assert pairs([space.nearest(at)]) == [(8, 7)]  # one change away, as (8, 3) is, and before it
    assert pairs([space.nearest({"width": 7, "kernel": 0})]) == [(8, 3)]
    assert pairs([whole.nearest(at)]) == [(8, 5)]
    assert whole.where(lambda k: k > 5, reads=["kernel"]).nearest(at) is None


def test_conditions_go_on_top(whole):
    space = listed(whole, (1, 3), (12, 5), (13, 7)).where(above_ten, reads=["width"])
    assert pairs(space.enumerate()) == [(12, 5), (13, 7)]
    assert space.size == 2
    assert whole.architecture({"width": 1, "kernel": 3}) not in space
    check_space(space)
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())), trust=True)
    assert again.fingerprint == space.fingerprint
    assert list(again.enumerate()) == list(space.enumerate())
    none = space.where(lambda a: False)
    assert none.size == 0
    with pytest.raises(InfeasibleError, match="none of 3 rows"):
        none.sample(Random(0))


def test_one_row_and_tables_of_tables(whole):
    one = listed(whole, (4, 5))
    with pytest.raises(InfeasibleError, match="no other row"):
        one.mutate(one.at(0), Random(0))
    check_space(one)
    space = listed(whole, (1, 3), (2, 3), (3, 3))
    part = Space.from_table(space, [space.at(2), space.at(0)])
    assert pairs(part.enumerate()) == [(3, 3), (1, 3)]
    with pytest.raises(InvalidArchitectureError, match=r"Row 0 of the table.*is not in"):
        Space.from_table(part, [space.at(1)])


def test_fingerprints_depend_on_the_rows(whole):
    a, b = listed(whole, (1, 3), (2, 3)), listed(whole, (1, 3), (2, 5))
    assert len({a.fingerprint, b.fingerprint, whole.fingerprint}) == 3
    assert listed(whole, (1, 3), (2, 3)).fingerprint == a.fingerprint


def test_bad_tables_are_named(whole):
    with pytest.raises(InvalidInputError, match=r"rows 0 and 2 .* same architecture"):
        listed(whole, (1, 3), (2, 3), (1, 3))
    with pytest.raises(InvalidInputError, match="at least one row"):
        Space.from_table(whole, [])
    with pytest.raises(InvalidArchitectureError, match=r"Row 1 of the table: The index of 'kernel' .* got 3"):
        Space.from_table(whole, np.array([[0, 0], [0, 3]])[:, _order(whole)])
    with pytest.raises(InvalidInputError, match="needs as many indices, got 3"):
        Space.from_table(whole, np.zeros((2, 3), dtype=int))
    with pytest.raises(InvalidInputError, match="integers"):
        Space.from_table(whole, np.zeros((2, 2)))
    stored = listed(whole, (1, 3)).to_dict()
    stored["rows"]["indices"] = "rubbish"
    with pytest.raises(InvalidArchitectureError, match="stored rows"):
        Space.from_dict(stored)
    big = listed(whole, (1, 3))
    assert not big._conditions.holds((200, 1))  # an index beyond what the rows' type can hold


def _order(whole: Space) -> list[int]:
    """Columns (width, kernel) in the order of the space's decisions."""
    return [("width", "kernel").index(d.name) for d in whole.decisions]


def test_indices_both_ways(whole):
    a = whole.architecture({"width": 7, "kernel": 5})
    assert whole.of_indices(whole.indices(a)) == a
    with pytest.raises(InvalidArchitectureError, match="needs as many indices"):
        whole.of_indices((1,))
    with pytest.raises(InvalidArchitectureError, match="active, so it needs an index"):
        whole.of_indices((-1, 0))


def test_conditional_spaces_keep_the_laws():
    layer = nas.Conv(8, kernel=nas.one_of(3, 5))
    deep = Space(nas.Sequential(nas.repeat(layer, times=nas.one_of(1, 2, 3)), nas.Classifier()))
    rng = Random(3)
    rows = sorted({deep.sample(rng) for _ in range(14)}, key=lambda a: a.key)
    space = Space.from_table(deep, rows)
    check_space(space)
    assert 8 <= len(rows) <= 20  # ln 8 = 2.1, ln 20 = 3.0; each has at least 3 single changes
    enough = 3
    for a in rows:
        distances = sorted(len(diff(a, b)) for b in rows if b != a)
        assert {b.key for b in space.neighbours(a)} == {
            b.key for b in rows if b != a and len(diff(a, b)) <= distances[enough - 1]
        }
    with pytest.raises(InvalidArchitectureError, match="inactive, so its index is -1"):
        Space.from_table(deep, np.zeros((1, len(deep.decisions)), dtype=int))
