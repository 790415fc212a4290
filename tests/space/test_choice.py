"""Choices: values and indices, neighbours, encodings, copies, and bad input."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError, InvalidSpaceError
from nasturtium.space import Prefix, Space, fresh_copy, int_range, one_of, subset, walk
from tests.space.spaces import Leaf, Pair, Stack, repeat

choices = st.one_of(
    st.lists(st.integers(), min_size=1, max_size=6, unique=True).map(lambda o: one_of(*o)),
    st.tuples(st.integers(-5, 5), st.integers(0, 9), st.integers(1, 4)).map(
        lambda t: int_range(t[0], t[0] + t[1], t[2])
    ),
    st.integers(1, 6).flatmap(lambda n: st.integers(1, n).map(lambda k: subset(range(n), k))),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 2)).map(
        lambda t: walk(range(t[0]), t[1], start=0 if t[2] else None, step=t[3])
    ),
)


@settings(deadline=None)  # the first draw of a large choice counts it
@given(choices)
def test_indices_values_and_encodings_round_trip(choice):
    values = [choice.value_at(i) for i in range(choice.count)]
    assert len(set(values)) == choice.count
    for index, value in enumerate(values):
        assert choice.index_of(value) == index
        vector = choice.encode(index)
        assert len(vector) == choice.width
        assert choice.decode(vector) == index
        near = choice.neighbours(index)
        assert index not in near
        assert all(index in choice.neighbours(other) for other in near)


def test_subsets_are_the_combinations_in_lexicographic_order():
    choice = subset("abcde", 3)
    assert [choice.value_at(i) for i in range(choice.count)] == list(combinations("abcde", 3))


def test_walks_are_the_paths_in_lexicographic_order():
    choice = walk((4, 8, 16), 3)
    position = {4: 0, 8: 1, 16: 2}
    paths = [
        p for p in product((4, 8, 16), repeat=3) if all(abs(position[a] - position[b]) <= 1 for a, b in pairwise(p))
    ]
    assert [choice.value_at(i) for i in range(choice.count)] == paths


def test_auto_deeplab_has_28657_paths_after_a_first_layer_at_stride_4():
    assert walk((4, 8, 16, 32), 12, start=4).count == 28_657
    assert walk((4, 8, 16, 32), 13, start=4).count == 75_025


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: one_of(), "at least one option"),
        (lambda: one_of(3, 5, 3), "3 twice"),
        (lambda: int_range(4, 2), "low <= high"),
        (lambda: int_range(1, 2, 0), "step >= 1"),
        (lambda: int_range(1.5, 2), "integer, got 1.5"),
        (lambda: subset([1, 2], 3), "k=3"),
        (lambda: subset([1, 2], 0), "k=0"),
        (lambda: subset([1, 2], True), "integer, got True"),
        (lambda: walk((4, 8), 0), "length >= 1"),
        (lambda: walk((4, 8), 2, start=5), "start=5"),
        (lambda: walk((4, one_of(1, 2)), 2), "plain values"),
        (lambda: Prefix((1, 2), -1), "got -1"),
        (lambda: Prefix((1, 2), one_of(1, 3)), "got 3"),
        (lambda: Prefix((1, 2), one_of("a", "b")), "got 'a'"),
        (lambda: one_of(1, 2, name=""), "not empty"),
    ],
)
def test_bad_choices_say_what_is_wrong(make, words):
    with pytest.raises(InvalidSpaceError, match=words):
        make()


def test_a_value_that_is_no_option_is_refused():
    for choice in (one_of(3, 5), int_range(3, 9, 2), subset((3, 5), 1), walk((3, 5), 2, step=0)):
        with pytest.raises(InvalidInputError, match="4"):
            choice.index_of(4)


def test_true_is_not_one():
    assert one_of(1, True).count == 2
    with pytest.raises(InvalidInputError):
        one_of(0, 1).index_of(True)


def test_a_choice_is_equal_to_itself_only():
    assert one_of(1, 2) != one_of(1, 2)
    assert Leaf(one_of(1, 2)) != Leaf(one_of(1, 2))


def test_fresh_copies_decide_anew_and_keep_what_is_shared_inside():
    width = one_of(8, 16)
    pair = Pair(Leaf(width), Leaf(width))
    assert Space(Stack((pair, pair))).size == 2
    assert Space(Stack((pair, fresh_copy(pair)))).size == 4
    closed = Leaf(8)
    assert fresh_copy(closed) is closed


def test_named_choices_in_copies_are_called_after_the_copy():
    block = Leaf(8, kernel=one_of(3, 5, name="k"))
    names = [d.name for d in Space(Stack((repeat(block, one_of(1, 2)),))).decisions]
    assert names == ["layers.0.blocks.length", "layers.0.blocks.0.k", "layers.0.blocks.1.k"]
    nested = repeat(Stack((repeat(block, 2), Leaf(one_of(1, 2, name="w")))), 2)
    names = [d.name for d in Space(nested).decisions]
    assert names == [
        "blocks.0.layers.0.blocks.0.k",
        "blocks.0.layers.0.blocks.1.k",
        "blocks.0.w",
        "blocks.1.layers.0.blocks.0.k",
        "blocks.1.layers.0.blocks.1.k",
        "blocks.1.w",
    ]
