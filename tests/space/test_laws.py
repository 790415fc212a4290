"""The laws of spaces, on random nested, shared and conditional ones."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasturtium.errors import InfeasibleError
from nasturtium.space import Architecture, Space, diff
from tests.space.spaces import oracle, small_blocks

laws = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)


@laws
@given(small_blocks)
def test_size_is_what_enumeration_yields_and_what_the_oracle_finds(block):
    space = Space(block)
    found = list(space.enumerate())
    expected = {frozenset(env.items()): closed for env, closed in oracle(block)}
    assert space.size == len(found) == len(set(found)) == len(expected)
    assert len({a.key for a in found}) == len(found)
    for a in found:
        env = frozenset((space.decision(n).choice, i) for n, i in a.decisions.items())
        assert a.block == expected[env]
        assert not a.block.is_open


@laws
@given(small_blocks, seeds)
def test_at_is_the_place_in_the_enumeration(block, seed):
    space = Space(block)
    found = list(space.enumerate())
    for index in {0, space.size - 1, Random(seed).randrange(space.size)}:
        assert space.at(index) == found[index]


@laws
@given(small_blocks, seeds)
def test_samples_are_inside(block, seed):
    space = Space(block)
    found = set(space.enumerate())
    rng = Random(seed)
    for sampler in ("uniform", "hierarchical"):
        drawn = space.sample(rng, sampler)
        assert drawn in found
        assert drawn in space


@laws
@given(small_blocks, seeds, st.booleans())
def test_mutants_are_inside_and_differ_in_one_decision(block, seed, near):
    space = Space(block)
    found = set(space.enumerate())
    rng = Random(seed)
    parent = space.sample(rng)
    try:
        child = space.mutate(parent, rng, near=near)
    except InfeasibleError:
        assert all(d.count == 1 for d in space.active(parent))
        return
    assert child in found
    assert child != parent
    assert space.distance(parent, child) == space.distance(child, parent) == 1
    assert [n for n, (x, y) in diff(parent, child).items() if n in parent.decisions and n in child.decisions]


@laws
@given(small_blocks, seeds, st.sampled_from(["uniform", "one_point", "stage"]))
def test_children_are_inside_and_take_after_their_parents(block, seed, how):
    space = Space(block)
    found = set(space.enumerate())
    rng = Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = space.cross(a, b, rng, how)
    assert child in found
    for name, index in child.decisions.items():
        parents = {p.decisions[name] for p in (a, b) if name in p.decisions}
        assert index in parents or not parents


@laws
@given(small_blocks, seeds)
def test_neighbours_are_all_that_differ_in_one_decision(block, seed):
    space = Space(block)
    a = space.sample(Random(seed))
    near = [b for b in space.enumerate() if space.distance(a, b) == 1 and _one_change(space, a, b)]
    found = space.neighbours(a, completions="all")
    assert len(found) == len(set(found))
    assert set(found) == set(near)
    first = space.neighbours(a)
    assert set(first) <= set(found)
    assert len(first) == sum(d.count - 1 for d in space.active(a))


def _one_change(space, a, b):
    return sum(b.decisions.get(n, i) != i for n, i in a.decisions.items()) == 1


@laws
@given(small_blocks, seeds)
def test_encoding_and_json_round_trips(block, seed):
    space = Space(block)
    a = space.sample(Random(seed))
    vector = space.encode(a)
    assert len(vector) == space.width
    assert set(vector) <= {0.0, 1.0}
    assert space.decode(vector) == a
    again = Architecture.from_dict(json.loads(json.dumps(a.to_dict())))
    assert again == a
    assert hash(again) == hash(a)
    assert (again.key, again.block, again.decisions, again.choices) == (a.key, a.block, a.decisions, a.choices)
    assert again in space
    assert space.adopt(again) == a
    assert space.architecture(a.decisions, indices=True) == a


@laws
@given(small_blocks)
def test_a_stored_space_is_the_same_space(block):
    space = Space(block)
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again.fingerprint == space.fingerprint
    assert again.size == space.size
    assert [d.name for d in again.decisions] == [d.name for d in space.decisions]
    assert {a.key for a in again.enumerate()} == {a.key for a in space.enumerate()}


def _steady(*values):
    return (sum(len(str(v)) + (v if isinstance(v, int) else 0) for v in values if v is not None) + len(values)) % 2 == 0


@laws
@given(small_blocks, st.data(), seeds)
def test_conditions_filter_exactly(block, data, seed):
    space = Space(block)
    if not space.decisions:
        return
    names = [d.name for d in space.decisions]
    conditioned = space
    reads = []
    for _ in range(data.draw(st.integers(1, 2))):
        reads.append(data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)))
        conditioned = conditioned.where(_steady, reads=reads[-1])
    expected = {a for a in space.enumerate() if all(_steady(*[_value(space, a, n) for n in r]) for r in reads)}
    found = list(conditioned.enumerate())
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert conditioned.size == len(expected)
    rng = Random(seed)
    if not expected:
        with pytest.raises(InfeasibleError):
            conditioned.sample(rng)
        return
    for _ in range(5):
        assert conditioned.sample(rng) in expected
    parent = conditioned.sample(rng, "hierarchical")
    assert parent in expected
    assert conditioned.cross(parent, conditioned.sample(rng), rng) in expected
    try:
        child = conditioned.mutate(parent, rng)
    except InfeasibleError:
        return
    assert child in expected
    assert space.distance(child, parent) == 1


def _value(space, a, name):
    return space.decision(name).choice.value_at(a.decisions[name]) if name in a.decisions else None
