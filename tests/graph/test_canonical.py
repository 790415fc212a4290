"""The canonical hash: equal hash means equal outputs under transported weights; statements do not matter."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasturtium.graph import equivalent, weight_order
from nasturtium.graph import operations as ops
from tests.graph.interpreter import run
from tests.graph.programs import Builder, conv, random_graph, restated


def close(left, right) -> bool:
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(left, right, strict=True)
    )


seeds = st.integers(0, 2**40)


@settings(max_examples=300, deadline=None)
@given(seeds, st.integers(1, 14), st.integers(1, 2))
def test_hash_does_not_depend_on_the_statement(seed, size, inputs):
    rng = random.Random(seed)
    graph = random_graph(rng, size, inputs)
    other = restated(graph, rng)
    assert graph.canonical_hash == other.canonical_hash
    assert equivalent(graph, other)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 14))
def test_restated_networks_compute_the_same_under_transported_weights(seed, size):
    rng = random.Random(seed)
    graph = random_graph(rng, size)
    other = restated(graph, rng)
    assert len(weight_order(graph)) == len(weight_order(other))
    assert close(run(graph, seed % 97), run(other, seed % 97))


def test_equal_hash_means_equal_outputs_over_many_small_graphs():
    rng = random.Random(1)
    groups: dict[str, list] = {}
    for _ in range(3000):
        graph = random_graph(rng, rng.randint(1, 4))
        groups.setdefault(graph.canonical_hash, []).append(graph)
    collisions = 0
    for graphs in groups.values():
        first = run(graphs[0])
        for other in graphs[1:4]:
            collisions += 1
            assert close(first, run(other))
            assert equivalent(graphs[0], other)
    assert collisions > 300
    assert len(groups) > 300


def test_equivalence_and_hash_agree_on_pairs():
    rng = random.Random(2)
    graphs = [random_graph(rng, rng.randint(1, 3)) for _ in range(60)]
    same = 0
    for i, left in enumerate(graphs):
        for right in graphs[:i]:
            assert equivalent(left, right) == (left.canonical_hash == right.canonical_hash)
            same += left.canonical_hash == right.canonical_hash
    assert same > 5


def test_multiplicity_is_kept():
    b = Builder()
    y = b(conv(), 0)
    once, twice, thrice = b.graph(y), b.graph(b(ops.Add(), y, y)), b.graph(b(ops.Add(), y, y, y))
    assert len({g.canonical_hash for g in (once, twice, thrice)}) == 3


def test_one_convolution_used_twice_is_not_two():
    b = Builder()
    x = b(conv(), 0)
    shared = b.graph(b(ops.Add(), x, x))
    b = Builder()
    separate = b.graph(b(ops.Add(), b(conv(), 0), b(conv(), 0)))
    b = Builder()
    tied = b.graph(b(ops.Add(), b(conv(), 0, path="w"), b(conv(), 0, path="w")))
    assert shared.canonical_hash != separate.canonical_hash
    assert not equivalent(shared, separate)
    assert tied.canonical_hash == shared.canonical_hash


def test_tied_weights_on_other_inputs_are_not_free_weights():
    def net(second: str):
        b = Builder()
        x = b(conv(), 0, path="w")
        return b.graph(b(conv(), b(ops.Activation("relu"), x), path=second))

    assert net("w").canonical_hash != net("v").canonical_hash
    assert not equivalent(net("w"), net("v"))


def test_which_of_the_twins_is_read_further_matters():
    """Three convolutions of one input: pairs (1,2),(1,3) against (1,2),(1,2): Merkle hashes alone agree."""

    def net(pairs):
        b = Builder()
        twins = [b(conv(), 0) for _ in range(3)]
        sums = [b(ops.Multiply(), twins[i], twins[j]) for i, j in pairs]
        return b.graph(b(ops.Concat(), *[b(ops.Activation("sigmoid"), s) for s in sums], *twins))

    assert net([(0, 1), (0, 2)]).canonical_hash != net([(0, 1), (0, 1)]).canonical_hash


def test_cycles_of_twins_that_refinement_cannot_tell_apart():
    """Six twins joined in one cycle of six or two of three: colour refinement alone sees no difference."""

    def net(pairs):
        b = Builder()
        twins = [b(conv(), 0) for _ in range(6)]
        return b.graph(b(ops.Add(), *[b(ops.Multiply(), twins[i], twins[j]) for i, j in pairs]))

    six = [(i, (i + 1) % 6) for i in range(6)]
    two_threes = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    assert net(six).canonical_hash != net(two_threes).canonical_hash
    assert not equivalent(net(six), net(two_threes))
    shuffled = [5, 2, 0, 4, 1, 3]
    assert net(six).canonical_hash == net([(shuffled[i], shuffled[j]) for i, j in six]).canonical_hash


def test_many_symmetric_twins_stay_fast():
    def net(order):
        b = Builder()
        x = 0
        for _ in range(4):
            branches = [b(ops.BatchNorm(), b(conv(), x)) for _ in range(8)]
            x = b(ops.Add(), *[branches[i] for i in order])
        return b.graph(x)

    assert net(range(8)).canonical_hash == net([3, 1, 7, 0, 5, 6, 2, 4]).canonical_hash


@pytest.mark.parametrize(
    "through", [None, ops.BatchNorm(), ops.Activation("relu"), ops.MaxPool(), conv(2, 3, groups=2)]
)
def test_concatenation_forgets_its_order_where_nobody_can_tell(through):
    def net(flip, last):
        b = Builder((2, 4, 4))
        parts = [b(conv(1, 1), 0), b(ops.MaxPool(), b(conv(1, 3), 0))]
        x = b(ops.Concat(), *(reversed(parts) if flip else parts))
        x = x if through is None else b(through, x)
        return b.graph(last(b, x))

    blind = {
        "dense": lambda b, x: b(conv(3, 3), x),
        "linear": lambda b, x: b(ops.Linear(3), b(ops.Flatten(), x)),
    }
    for last in blind.values():
        assert net(False, last).canonical_hash == net(True, last).canonical_hash
        assert close(run(net(False, last)), run(net(True, last)))
    telling = {
        "output": lambda b, x: x,
        "shuffle": lambda b, x: b(ops.Shuffle(2), x),
        "sum": lambda b, x: b(conv(3, 1), b(ops.Add(), x, 0)),
    }
    for last in telling.values():
        assert net(False, last).canonical_hash != net(True, last).canonical_hash


def test_concatenation_read_by_tied_weights_keeps_its_order():
    def net(flip, path):
        b = Builder()
        parts = [b(conv(3, 1), 0), b(conv(3, 3), 0)]
        x = b(ops.Concat(), *(reversed(parts) if flip else parts))
        y = b(ops.Concat(), *parts)
        y = b(ops.Activation("relu"), y)
        return b.graph(b(ops.Add(), b(conv(2, 1), x, path="w"), b(conv(2, 1), y, path=path)))

    assert net(False, "v").canonical_hash == net(True, "v").canonical_hash
    assert net(False, "w").canonical_hash != net(True, "w").canonical_hash


def test_zeros_are_pruned_only_where_exactly_zero():
    def net(*between):
        b = Builder()
        z = b(ops.Zero(), 0)
        for op in between:
            z = b(op, z)
        return b.graph(b(ops.Add(), b(conv(), 0), z))

    b = Builder()
    plain = b.graph(b(conv(), 0))
    assert net().canonical_hash == plain.canonical_hash
    assert net(ops.MaxPool(), ops.Activation("relu"), ops.Dropout(0.5)).canonical_hash == plain.canonical_hash
    for op in (ops.Activation("sigmoid"), ops.BatchNorm(), conv(3, 1, bias=True)):
        assert net(op).canonical_hash != plain.canonical_hash


def test_shared_partial_sums_do_not_depend_on_how_they_were_written():
    """s = a + b is read further; s + c and a + b + c are one, also where the whole is stated before the part."""

    def parts():
        b = Builder()
        return b, [b(conv(3, 1), 0), b(conv(3, 3), 0), b(ops.MaxPool(), 0)]

    b, (p, q, r) = parts()
    s = b(ops.Add(), p, q)
    nested = b.graph(b(ops.Multiply(), b(ops.Add(), s, r), b(ops.BatchNorm(), s)))
    b, (p, q, r) = parts()
    whole = b(ops.Add(), r, q, p)
    flat = b.graph(b(ops.Multiply(), whole, b(ops.BatchNorm(), b(ops.Add(), q, p))))
    assert nested.canonical_hash == flat.canonical_hash
    assert close(run(nested), run(flat))


def test_outputs_and_inputs_count_by_position():
    b = Builder(inputs=2)
    x, y = b(ops.MaxPool(), 0), b(ops.MaxPool(), 1)
    assert b.graph(x).canonical_hash != b.graph(y).canonical_hash
    assert b.graph(x, y).canonical_hash != b.graph(y, x).canonical_hash
    assert b.graph(0).canonical_hash != b.graph(0, 0).canonical_hash
