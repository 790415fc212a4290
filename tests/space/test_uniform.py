"""Samplers draw from the distributions that they name (chi-square, fixed seeds)."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from scipy.stats import chisquare

from nasturtium.space import Prefix, Space, int_range, one_of, subset
from tests.space.spaces import Leaf, Pair, Stack, repeat


def tree():
    return Space(repeat(Leaf(8, one_of(3, 5, 7)), one_of(1, 2, 3)))


def uncertain():
    kernel = one_of(3, 5, 7)
    return Space(Stack([one_of(Leaf(1, kernel), Leaf(2)), one_of(Leaf(1, kernel), Leaf(3), Leaf(4))]))


def linked():
    depth = one_of(0, 1, 2)
    stage = [repeat(Leaf(8, one_of(3, 5)), depth) for _ in range(2)]
    return Space(Stack([one_of(Stack(stage), Leaf(9)), one_of(Pair(depth, 1), Leaf(9))]))


def nested():
    inner = one_of(1, 2)
    outer = one_of(Leaf(inner), Leaf(5), Pair(inner, one_of(3, 4)))
    return Space(Stack([one_of(outer, 0), one_of(Leaf(inner, outer), 0, 1)]))


def itself():
    depth = one_of(0, 1, 2)
    return Space(Stack([Prefix((one_of(7, 8), depth), depth), subset([Leaf(one_of(1, 2)), 3, 4], 2)]))


def conditioned():
    space = tree().where(lambda n, k: n != 2 or k == 3, reads=["blocks.length", "blocks.1.kernel"])
    return space.where(lambda a, b: b is None or a != b, reads=["blocks.0.kernel", "blocks.2.kernel"])


def free():
    return Space(Stack([int_range(1, 4), int_range(1, 4), one_of(1, 2)])).where(
        lambda a, b: a < b, reads=["layers.0", "layers.1"]
    )


def rejected():
    return uncertain().where(lambda a: a.block.layers[0] != Leaf(1, 5))


SPACES = [tree, uncertain, linked, nested, itself, conditioned, free, rejected]


@pytest.mark.parametrize("make", SPACES)
def test_uniform_sampling_is_uniform_over_architectures(make):
    space = make()
    rng = Random(1)
    draws = 60 * space.size
    seen = Counter(space.sample(rng).key for _ in range(draws))
    assert len(seen) == space.size == len(list(space.enumerate()))
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_hierarchical_sampling_is_uniform_over_each_active_decision():
    space = tree()
    rng = Random(1)
    seen = Counter()
    for _ in range(6000):
        a = space.sample(rng, "hierarchical")
        seen["length", a.choices["blocks.length"]] += 1
        if "blocks.2.kernel" in a.choices:
            seen["kernel", a.choices["blocks.2.kernel"]] += 1
    for name in ("length", "kernel"):
        assert chisquare([n for (what, _), n in seen.items() if what == name]).pvalue > 1e-3
    assert chisquare([seen["length", n] for n in (1, 2, 3)], [6000 * n / 39 for n in (3, 9, 27)]).pvalue < 1e-3


def test_mutation_is_uniform_over_active_decisions():
    space = tree()
    a = space.architecture({"blocks.length": 2, "blocks.0.kernel": 3, "blocks.1.kernel": 5})
    rng = Random(1)
    seen = Counter()
    for _ in range(6000):
        b = space.mutate(a, rng)
        seen[next(n for n, i in a.decisions.items() if b.decisions.get(n, i) != i or n not in b.decisions)] += 1
    changed_length = seen.pop("blocks.length") + 0
    assert abs(changed_length - 2000) < 200
    assert set(seen) <= {"blocks.0.kernel", "blocks.1.kernel"}


def test_big_spaces_are_drawn_exactly():
    space = Space(repeat(Leaf(one_of(*range(1000)), one_of(*range(1000))), one_of(1, 39, 40)))
    assert space.size > 10**200
    rng = Random(0)
    assert {space.sample(rng).choices["blocks.length"] for _ in range(20)} == {40}
    last = space.at(space.size - 1)
    assert set(last.decisions.values()) == {999, 2}
