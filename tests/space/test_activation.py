"""When decisions are active is what the space says: told from the structure, checked on drawn architectures."""

from __future__ import annotations

from random import Random

import pytest

import nasturtium as nas
from nasturtium.errors import UnknownNameError


def test_depth_activates_blocks() -> None:
    space = nas.Space(nas.repeat(nas.Conv(8, kernel=nas.one_of(3, 5)), times=nas.one_of(1, 2, 3)))
    assert space.activation("blocks.length") == ()
    assert space.activation("blocks.0.kernel") == ()
    assert [str(way) for way in space.activation("blocks.1.kernel")] == ["blocks.length = 2 or 3"]
    assert [str(way) for way in space.activation("blocks.2.kernel")] == ["blocks.length = 3"]


def test_a_choice_below_two_others_has_two_ways() -> None:
    shared = nas.one_of(3, 5, name="kernel")
    first = nas.one_of(nas.Identity(), nas.Conv(8, shared), name="first")
    second = nas.one_of(nas.Conv(8, shared), nas.Identity(), name="second")
    space = nas.Space(nas.Sequential(first, second))
    ways = space.activation("kernel")
    assert [(way.decision.name, way.indices) for way in ways] == [("first", (1,)), ("second", (0,))]
    assert [way.decision.name for way in space.activation(shared)] == ["first", "second"]


def test_unknown_decisions_are_refused() -> None:
    with pytest.raises(UnknownNameError):
        nas.Space(nas.Conv(nas.one_of(8, 16))).activation("widht")


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_active_decisions_are_those_that_are_said_to_be(name: str) -> None:
    space = nas.zoo.space(name)
    ways = {decision.name: space.activation(decision.name) for decision in space.decisions}
    rng = Random(0)
    for _ in range(20):
        chosen = space.sample(rng).decisions
        for decision, conditions in ways.items():
            met = any(chosen.get(way.decision.name, -1) in way.indices for way in conditions)
            assert (decision in chosen) == (met or not conditions)
