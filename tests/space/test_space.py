"""Spaces: published sizes, names, sharing, closing, and bad input."""

from __future__ import annotations

import subprocess
import sys
from math import comb
from random import Random

import pytest

from nasturtium.errors import (
    InfeasibleError,
    InvalidArchitectureError,
    InvalidInputError,
    InvalidSpaceError,
    SizeUnknownError,
    UnknownNameError,
)
from nasturtium.space import (
    Architecture,
    Block,
    Prefix,
    Space,
    block_from_dict,
    block_to_dict,
    diff,
    int_range,
    one_of,
    subset,
)
from tests.space.spaces import Leaf, Pair, Stack, once_for_all, oracle, repeat


def test_published_sizes():
    """METHODS.md 0.1: Once-for-All at one resolution, NAS-Bench-201, SPOS, ENAS micro, DARTS."""
    assert Space(once_for_all()).size == 21_758_655_492_572_485_851 == 7371**5
    assert Space(Stack([one_of(*range(5)) for _ in range(6)])).size == 15_625
    assert Space(Stack([one_of(*range(4)) for _ in range(20)])).size == 4**20
    darts = [subset([Leaf(one_of(*range(7))) for _ in range(nodes)], 2) for nodes in (2, 3, 4, 5)]
    assert Space(Stack(darts)).size == 1_037_664_180


def test_sizes_with_steps_that_multiply_under_sharing():
    kernel, depth = one_of(3, 5, 7), one_of(1, 2)
    shared = repeat(Leaf(8, kernel), one_of(1, 2, 3), shared=True)
    assert Space(shared).size == 9
    assert Space(Stack([repeat(Leaf(8, one_of(3, 5)), depth), repeat(Leaf(8, one_of(3, 5)), depth)])).size == 4 + 16
    sometimes = one_of(Leaf(1, kernel), Leaf(2))
    other = one_of(Leaf(1, kernel), Leaf(3), Leaf(4))
    # Both without the kernel: 1 * 2; otherwise three kernels: 3 * (6 - 2).
    assert Space(Stack([sometimes, other])).size == 2 + 3 * 4


def test_many_uncertain_shared_choices_are_counted_quickly():
    kernel = one_of(3, 5, 7)
    space = Space(Stack([one_of(Leaf(1, kernel), Leaf(i + 2)) for i in range(200)]))
    assert space.size == (2**200 - 1) * 3 + 1


def test_decisions_are_named_by_path_in_definition_order():
    space = Space(Stack([Leaf(8), repeat(Leaf(one_of(8, 16), kernel=one_of(3, 5)), one_of(1, 2))]))
    assert [d.name for d in space.decisions] == [
        "layers.1.blocks.length",
        "layers.1.blocks.0.width",
        "layers.1.blocks.0.kernel",
        "layers.1.blocks.1.width",
        "layers.1.blocks.1.kernel",
    ]
    assert space.decisions[0].labels == ("1", "2")
    assert space.decisions[1].options == (8, 16)
    assert [d.position for d in space.decisions] == [0, 1, 2, 3, 4]


def test_a_name_is_one_decision():
    space = Space(Stack([Leaf(one_of(8, 16, name="w")), Leaf(one_of(8, 16, name="w"))]))
    assert space.size == 2
    for a in space.enumerate():
        assert a.block.layers[0].width == a.block.layers[1].width
    blocks = [Pair(one_of(Leaf(1), Leaf(2), name="op"), 3) for _ in range(2)]
    assert Space(Stack(blocks)).size == 2


def test_a_name_with_other_options_is_refused():
    with pytest.raises(InvalidSpaceError, match=r"'w' stands for .* and for"):
        Space(Stack([Leaf(one_of(8, 16, name="w")), Leaf(one_of(8, 24, name="w"))]))
    with pytest.raises(InvalidSpaceError, match="same options"):
        Space(Stack([Leaf(int_range(1, 3, name="w")), Leaf(int_range(1, 5, 2, name="w"))]))


def test_a_name_that_is_another_ones_path_is_refused():
    with pytest.raises(InvalidSpaceError, match=r"layers\.1\.width"):
        Space(Stack([Leaf(one_of(1, 2, name="layers.1.width")), Leaf(one_of(1, 2))]))


def test_a_closed_block_is_a_space_of_one():
    space = Space(Leaf(8))
    assert space.size == 1
    assert space.sample(Random(0)).block == Leaf(8)
    assert space.sample(Random(0)).key == "0"
    assert space.encode(space.at(0)) == []
    with pytest.raises(InfeasibleError, match="No active decision"):
        space.mutate(space.at(0), Random(0))
    assert space.neighbours(space.at(0)) == []


def test_a_space_of_no_block_is_refused():
    with pytest.raises(InvalidSpaceError, match="got 'mobile'"):
        Space("mobile")


def test_a_choice_may_be_the_whole_network():
    space = Space(one_of(Leaf(one_of(1, 2)), Pair(1, 2)))
    assert {a.block for a in space.enumerate()} == {Leaf(1), Leaf(2), Pair(1, 2)}
    assert space.decisions[0].labels == ("Leaf", "Pair")


def test_unchanged_parts_close_to_the_same_objects():
    space = Space(once_for_all())
    rng = Random(0)
    a = space.sample(rng)
    for _ in range(50):
        b = space.mutate(a, rng)
        changed = [x is not y for x, y in zip(a.block.layers, b.block.layers, strict=True)]
        assert changed.count(True) == 1
        a = b


def test_equal_architectures_of_two_draws_are_equal_and_hash_alike():
    space = Space(Stack([one_of(1, 2)]))
    assert len({space.sample(Random(i)) for i in range(50)}) == 2
    assert Architecture.of(space.at(0).block) == Architecture.of(space.at(0).block)
    assert Architecture.of(space.at(0).block).key.startswith("block-")


def test_mutation_can_be_restricted():
    depth = one_of(1, 2, 3)
    space = Space(Stack([repeat(Leaf(one_of(8, 16), kernel=one_of(3, 5, 7)), depth), int_range(1, 9)]))
    rng = Random(0)
    a = space.sample(rng)
    for only in ("*.kernel", ["*.kernel"], lambda d: d.name.endswith("kernel")):
        for _ in range(20):
            assert all(n.endswith(".kernel") for n in diff(a, space.mutate(a, rng, only=only)))
    child = space.mutate(a, rng, only=depth)
    assert child.choices["layers.0.blocks.length"] != a.choices["layers.0.blocks.length"]
    name = "layers.1"
    moved = space.mutate(a, rng, only=name, near=True)
    assert abs(moved.choices[name] - a.choices[name]) == 1
    with pytest.raises(InvalidInputError, match="admits no decision"):
        space.mutate(a, rng, only="*.colour")
    with pytest.raises(InfeasibleError, match="has another value"):
        Space(Stack([one_of(1), one_of(1, 2)])).mutate(
            Space(Stack([one_of(1), one_of(1, 2)])).at(0), rng, only="layers.0"
        )


def test_activated_decisions_are_drawn_and_deactivated_ones_dropped():
    space = Space(repeat(Leaf(8, one_of(3, 5, 7)), one_of(1, 3)))
    a = space.architecture({"blocks.length": 1, "blocks.0.kernel": 5})
    seen = set()
    for seed in range(200):
        b = space.mutate(a, Random(seed), only="blocks.length")
        assert b.choices["blocks.0.kernel"] == 5
        seen.add((b.choices["blocks.1.kernel"], b.choices["blocks.2.kernel"]))
        assert space.mutate(b, Random(seed), only="blocks.length") == a
    assert len(seen) == 9


def test_crossover_by_stage_takes_stages_whole():
    space = Space(once_for_all())
    rng = Random(0)
    a, b = space.sample(rng), space.sample(rng)
    mixed = 0
    for _ in range(30):
        child = space.cross(a, b, rng, "stage").block.layers
        sides = [c is x or c is y for c, x, y in zip(child, a.block.layers, b.block.layers, strict=True)]
        assert all(sides)
        mixed += child not in (a.block.layers, b.block.layers)
    assert mixed
    with pytest.raises(UnknownNameError, match="one_point"):
        space.cross(a, b, rng, "two_point")


def test_architectures_by_value_and_what_can_be_wrong():
    space = Space(Stack([one_of(Leaf(one_of(8, 16)), Pair(1, 2)), one_of(3, 5)]))
    a = space.architecture({"layers.0": "Leaf", "layers.0.0.width": 16, "layers.1": 5})
    assert a.block == Stack((Leaf(16), 5))
    assert str(a) == "011 (layers.0=Leaf, layers.0.0.width=16, layers.1=5)"
    with pytest.raises(InvalidArchitectureError, match=r"'layers\.1'.*4 is not among"):
        space.architecture({"layers.0": "Pair", "layers.1": 4})
    with pytest.raises(InvalidArchitectureError, match=r"'layers\.1' is active, but no value"):
        space.architecture({"layers.0": "Pair"})
    with pytest.raises(InvalidArchitectureError, match="deactivate"):
        space.architecture({"layers.0": "Pair", "layers.0.0.width": 8, "layers.1": 3})
    with pytest.raises(UnknownNameError, match=r"Did you mean 'layers\.1'"):
        space.architecture({"layer.1": 3})
    with pytest.raises(InvalidArchitectureError, match=r"in \[0, 2\), got 2"):
        space.architecture({"layers.1": 2}, indices=True)


def test_an_architecture_of_another_space_is_refused():
    space, other = Space(Stack([one_of(1, 2)])), Space(Pair(one_of(1, 2), 3))
    a = other.at(0)
    assert a not in space
    assert "a" not in space
    for call in (space.encode, lambda x: space.mutate(x, Random(0)), space.adopt, space.neighbours):
        with pytest.raises(InvalidArchitectureError, match="space"):
            call(a)
    with pytest.raises(InvalidArchitectureError, match="got 'a'"):
        space.encode("a")
    # The same decisions, but another block.
    assert Space(Stack([one_of(7, 8)])).at(0) not in space
    assert Space(Stack([one_of(1, 2)])).at(0) in space


def test_bad_encodings_are_refused():
    space = Space(Stack([one_of(1, 2), one_of(3, 4)]))
    with pytest.raises(InvalidArchitectureError, match="4 numbers, got 3"):
        space.decode([1, 0, 0])
    with pytest.raises(InvalidArchitectureError, match=r"no value for 'layers\.1'"):
        space.decode([1, 0, 0, 0])
    assert space.decode([0.2, 0.7, 0.9, 0.3]).block == Stack((2, 3))


def test_indices_out_of_range_and_unknown_samplers_are_refused():
    space = Space(Stack([one_of(1, 2)]))
    for index in (-1, 2, 0.5, True):
        with pytest.raises(InvalidInputError, match=r"\[0, 2\)"):
            space.at(index)
    with pytest.raises(UnknownNameError, match="hierarchical"):
        space.sample(Random(0), "gaussian")


def test_where_counts_large_spaces_exactly():
    space = Space(once_for_all())
    depths = [f"layers.{i}.blocks.length" for i in range(1, 6)]
    deep = space.where(lambda *d: sum(d) >= 19, reads=depths)
    ways = {2: 9**2, 3: 9**3, 4: 9**4}
    assert deep.size == ways[4] ** 5 + 5 * ways[3] * ways[4] ** 4
    even = deep.where(lambda k: k == 3, reads=["layers.2.blocks.1.kernel"])
    assert even.size * 3 == deep.size
    same = even.where(lambda a, b: a == b, reads=["layers.1.blocks.3.expand", "layers.1.blocks.2.expand"])
    rng = Random(0)
    for sampler in ("uniform", "hierarchical"):
        for _ in range(20):
            a = same.sample(rng, sampler)
            assert sum(a.choices[d] for d in depths) >= 19
            assert a.choices["layers.2.blocks.1.kernel"] == 3
            assert a.choices.get("layers.1.blocks.3.expand") == a.choices.get("layers.1.blocks.2.expand")
    assert 0 < same.size < even.size
    with pytest.raises(SizeUnknownError, match="without the conditions"):
        same.at(3)
    assert deep.fingerprint != space.fingerprint


def test_free_conditions_multiply_in_large_spaces():
    space = Space(Stack([one_of(*range(10)) for _ in range(30)]))
    rising = space
    for i in range(0, 30, 2):
        rising = rising.where(lambda a, b: a < b, reads=[f"layers.{i}", f"layers.{i + 1}"])
    assert rising.size == comb(10, 2) ** 15
    rng = Random(0)
    a, b = rising.sample(rng), rising.sample(rng, "hierarchical")
    assert a in rising
    assert b in rising
    assert rising.mutate(a, rng) in rising
    assert rising.cross(a, b, rng) in rising


def test_an_empty_space_says_so():
    space = Space(Stack([one_of(1, 2), one_of(3, 4)])).where(lambda x: x > 5, reads=["layers.0"])
    assert space.size == 0
    assert list(space.enumerate()) == []
    for sampler in ("uniform", "hierarchical"):
        with pytest.raises(InfeasibleError, match="empty"):
            space.sample(Random(0), sampler)


def test_a_condition_on_the_whole_architecture_is_estimated():
    space = Space(once_for_all()).where(lambda a: a.choices["layers.1.blocks.length"] == 4)
    with pytest.raises(SizeUnknownError, match="estimate_size"):
        _ = space.size
    assert "unknown" in repr(space)
    interval = space.estimate_size(Random(0), 2000)
    true = 7371**4 * 9**4
    assert interval.low <= true <= interval.high
    assert interval.high < 1.1 * interval.low
    assert space.sample(Random(0)).choices["layers.1.blocks.length"] == 4
    exact = Space(Stack([one_of(1, 2)])).estimate_size(Random(0))
    assert (exact.low, exact.estimate, exact.high) == (2, 2, 2)


def test_conditions_on_unknown_or_copied_decisions_are_refused():
    kernel = one_of(3, 5)
    space = Space(repeat(Leaf(8, kernel), 2))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.0\.kernel'"):
        space.where(bool, reads=["blocks.0.kernal"])
    with pytest.raises(InvalidInputError, match=r"copies are 'blocks\.0\.kernel', 'blocks\.1\.kernel'"):
        space.where(bool, reads=[kernel])
    with pytest.raises(InvalidInputError, match=r"reads=\[\.\.\.\]"):
        space.where(bool, reads="blocks.0.kernel")
    with pytest.raises(InvalidInputError, match="at least one"):
        space.where(bool, reads=[])
    with pytest.raises(InvalidInputError, match="function"):
        space.where(3, reads=["blocks.0.kernel"])


def test_decisions_that_break_a_condition_are_refused():
    space = Space(Stack([one_of(1, 2), one_of(1, 2)])).where(_differ, reads=["layers.0", "layers.1"])
    with pytest.raises(InvalidArchitectureError, match=r"_differ\(layers\.0, layers\.1\)"):
        space.architecture({"layers.0": 1, "layers.1": 1})
    with pytest.raises(InfeasibleError, match="single decision"):
        space.mutate(space.at(0), Random(0))
    again = Space.from_dict(space.to_dict(), trust=True)
    assert again.size == 2
    assert again.fingerprint == space.fingerprint
    with pytest.raises(InvalidArchitectureError, match="trust=True"):
        Space.from_dict(space.to_dict())
    with pytest.raises(InvalidInputError, match="lambda"):
        space.where(lambda x: True, reads=["layers.0"]).to_dict()


def _differ(x, y):
    return x != y


def test_the_quoted_size_stands_beside():
    space = Space(Stack([one_of(1, 2)]), quoted_size=10**18)
    assert (space.size, space.quoted_size) == (2, 10**18)
    assert Space.from_dict(space.to_dict(), trust=True).quoted_size == 10**18


def test_reading_runs_no_code_that_is_not_trusted():
    stored = block_to_dict(Leaf(8))
    assert stored == {"type": "tests.space.spaces:Leaf", "fields": {"width": 8, "kernel": 3, "expand": 6}}
    assert block_from_dict(stored) == Leaf(8)
    for data, words in [
        ({"type": "antigravity:Fly", "fields": {}}, "trust=True"),
        ({"type": "nasturtium.space:Fly", "fields": {}}, "no block 'Fly'"),
        ({"type": "nasturtium.nowhere:Fly", "fields": {}}, "cannot be imported"),
        ({"type": "Fly", "fields": {}}, "module:Class"),
        ({"type": "tests.space.spaces:Leaf", "fields": {"colour": 1}}, "do not fit"),
        ({"fields": {}}, "stored block"),
    ]:
        with pytest.raises(InvalidArchitectureError, match=words):
            block_from_dict(data)
    with pytest.raises(InvalidArchitectureError, match="version 7"):
        Architecture.from_dict({"version": 7})
    with pytest.raises(InvalidArchitectureError, match="lacks"):
        Architecture.from_dict({"version": 1})
    with pytest.raises(InvalidInputError, match="open"):
        block_to_dict(Leaf(one_of(1, 2)))
    with pytest.raises(InvalidInputError, match=r"Leaf\.width: cannot store"):
        block_to_dict(Leaf(object()))
    with pytest.raises(InvalidArchitectureError, match="open choices"):
        Architecture.of(Leaf(one_of(1, 2)))


def test_values_that_a_block_refuses_name_the_block():
    class Even(Block):
        width: int

        def __post_init__(self):
            if isinstance(self.width, int) and self.width % 2:
                raise ValueError("odd")

    with pytest.raises(InvalidArchitectureError, match="Even refuses width=3: odd"):
        _ = Space(Even(one_of(3, 4))).at(0).block


SCRIPT = """
from tests.space.spaces import once_for_all
from nasturtium.space import Space
from tests.space.test_space import _differ
space = Space(once_for_all())
print(space.fingerprint, space.where(_differ, reads=["layers.1.blocks.length", "layers.2.blocks.length"]).fingerprint)
"""


def test_fingerprints_are_the_same_in_every_process():
    space = Space(once_for_all())
    told = subprocess.run(  # the hash seed of the other process differs
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    ).stdout.split()
    reads = ["layers.1.blocks.length", "layers.2.blocks.length"]
    assert told == [space.fingerprint, space.where(_differ, reads=reads).fingerprint]
    assert Space(Stack([one_of(1, 2)])).fingerprint != Space(Stack([one_of(1, 3)])).fingerprint
    c = one_of(1, 2)
    assert Space(Stack([c, c])).fingerprint != Space(Stack([one_of(1, 2), one_of(1, 2)])).fingerprint


@pytest.mark.parametrize("limit", [2, 3])
def test_fingerprints_see_what_a_condition_closes_over(limit):
    space = Space(Stack([int_range(1, 5)]))
    here, other = (space.where(lambda x, n=n: x <= n, reads=["layers.0"]) for n in (limit, limit + 1))
    assert here.fingerprint != other.fingerprint


def test_prefixes_of_closed_items_and_of_fixed_length():
    space = Space(Pair(Prefix((1, 2, 3), one_of(0, 2)), Prefix((one_of(4, 5), one_of(6, 7)), 1)))
    assert {a.block for a in space.enumerate()} == {Pair(n, (k,)) for n in ((), (1, 2)) for k in (4, 5)}
    assert Space(Prefix((1, 2), one_of(1, 2)) and Pair(Prefix((1, 2), 1), 3)).at(0).block == Pair((1,), 3)


def test_architectures_pickle_by_their_block():
    import pickle

    space = Space(once_for_all())
    a = space.sample(Random(0))
    b = pickle.loads(pickle.dumps(a))
    assert (b, b.key, b.decisions, b.choices) == (a, a.key, a.decisions, a.choices)
    assert b in space


def test_the_oracle_agrees_on_the_spaces_of_this_file():
    block = repeat(Leaf(8, one_of(3, 5)), one_of(1, 2))
    assert sum(1 for _ in oracle(block)) == Space(block).size == 6


def test_a_field_does_not_hide_what_every_block_has() -> None:
    with pytest.raises(InvalidSpaceError, match="values, which every block has"):

        class Hiding(Block):
            values: int
