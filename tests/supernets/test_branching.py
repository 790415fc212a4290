"""Branches stand for numbers: the same networks, and the way back."""

from __future__ import annotations

from random import Random

import pytest

import nasturtium as nas
from nasturtium.errors import IncompatibleError
from nasturtium.supernets.branching import branch
from nasturtium.zoo import fbnet, nasbench201, proxylessnas


def test_the_space_of_the_paper_has_six_or_seven_candidates() -> None:
    """Section 4.1: three kernels by two expansions, and Zero where a block may be left out."""
    space = proxylessnas.proxylessnas((3, 32, 32), 0.25)
    branched = branch(space)
    counts = [decision.count for decision in branched.space.decisions]
    assert sorted(counts) == [6] * 6 + [7] * 15
    assert branched.space.size == space.size


def test_decoded_architectures_are_the_same_networks() -> None:
    space = proxylessnas.proxylessnas((3, 32, 32), 0.25)
    branched = branch(space)
    for seed in range(10):
        drawn = branched.space.sample(Random(seed))
        decoded = branched.decode(drawn)
        assert decoded in space
        assert decoded.block == drawn.block


@pytest.mark.parametrize(
    "block",
    [
        nas.Conv(8, kernel=nas.int_range(3, 7, 2)),
        nas.Sequential(nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5)), nas.one_of(1, 2, 3)), nas.Classifier()),
        nas.Sequential(nas.one_of(nas.Conv(8), nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2)))),
        nas.one_of(nas.Conv(8), nas.Sequential(nas.Conv(8, kernel=nas.one_of(3, 5)), nas.Conv(8))),
        nas.Sequential(nas.one_of(nas.Conv(8), nas.Conv(8, kernel=nas.one_of(3, 5))), nas.Classifier()),
    ],
    ids=["range", "repeat", "option", "deep", "equal"],
)
def test_both_spaces_have_the_same_networks(block: nas.Block) -> None:
    space = nas.Space(block)
    branched = branch(space)
    drawn = list(branched.space.enumerate())
    assert {a.block for a in drawn} == {a.block for a in space.enumerate()}
    assert len({a.block for a in drawn}) == len(drawn)  # each network once, though the original may have it twice
    for a in drawn:
        decoded = branched.decode(a)
        assert decoded in space
        assert decoded.block == a.block


def test_spaces_of_branches_stay_as_they_are() -> None:
    for family in (fbnet.FAMILIES[0], nasbench201.FAMILIES[0]):
        space = family.space()
        assert branch(space).space is space
        drawn = space.sample(Random(0))
        assert branch(space).decode(drawn) == drawn


def test_a_number_that_several_blocks_share_is_no_branch() -> None:
    kernel = nas.one_of(3, 5, name="kernel")
    space = nas.Space(nas.Sequential(nas.Conv(4, kernel=kernel), nas.Conv(8, kernel=kernel)))
    with pytest.raises(IncompatibleError, match="'kernel' stands for several blocks"):
        branch(space)


def test_too_many_forms_and_conditions_are_refused() -> None:
    wide = nas.Space(nas.Conv(nas.int_range(1, 40), kernel=nas.one_of(3, 5)))
    with pytest.raises(IncompatibleError, match="80 forms"):
        branch(wide)
    narrow = nas.Space(nas.Conv(4, kernel=nas.one_of(3, 5, name="k"))).where(lambda k: k < 5, reads=["k"])
    with pytest.raises(IncompatibleError, match="conditions"):
        branch(narrow)
