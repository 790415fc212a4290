"""The zoo's spaces: their sizes, and that their architectures fit their images."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.zoo.resolution import halvings, strides


def test_sizes_are_the_published_ones(reference: Path) -> None:
    sizes = json.loads(reference.read_text())["cardinalities"]
    assert nas.zoo.space("ofa_mobilenetv3").size == sizes["ofa_mbv3_per_resolution"]
    assert nas.zoo.space("ofa_proxyless").size == sizes["ofa_proxyless_per_resolution"]
    assert nas.zoo.space("proxylessnas").size == sizes["proxyless_imagenet"]
    assert nas.zoo.space("nasbench201").size == sizes["nasbench201"]


def test_sizes_in_closed_form() -> None:
    assert nas.zoo.space("mobile").size == 3**4 * (6 + 6**2 + 6**3) ** 3
    assert nas.zoo.space("chain").size == (2 * (27 + 27**2)) ** 2 * (1 + 9 + 9**2)
    assert nas.zoo.space("proxylessnas").size == 6**6 * 7**15
    assert nas.zoo.space("ofa_mobilenetv3").size == (9**2 + 9**3 + 9**4) ** 5


def test_resnet50d_space_holds_the_published_networks() -> None:
    """Hidden widths by ratio agree with the authors' two roundings, so the space's ends are the published networks."""
    space = nas.zoo.space("ofa_resnet50d")
    # reference_values.json: ofa_resnet50 max, min
    for last, params, macs in ((True, 48_105_992, 7_491_643_904), (False, 6_539_280, 962_192_128)):
        values = {d.name: d.choice.count - 1 if last else 0 for d in space.decisions}
        if not last:
            values = {n: v for n, v in values.items() if not any(f"blocks.{i}." in n for i in inactive(n))}
        graph = nas.trace(space.architecture(values, indices=True), (3, 224, 224), classes=1000)
        assert (graph.params, graph.macs) == (params, macs)


def inactive(name: str) -> range:
    """Numbers of the blocks that the shallowest stage of a decision does not have."""
    return range(4, 6) if name.startswith("layers.4.") else range(2, 6)


def test_every_space_has_a_family_and_says_its_paper() -> None:
    assert set(nas.zoo.SPACES) <= {f.name for f in nas.zoo.FAMILIES}
    for f in nas.zoo.FAMILIES:
        assert f.level in ("cell", "network")
        assert all((f.task, f.paper, f.title))
        assert nas.zoo.family(f.name) is f


@given(st.integers(1, 4), st.integers(4, 300), st.integers(4, 300), st.sampled_from(["mobile", "chain"]))
@settings(max_examples=30, deadline=None)
def test_small_spaces_fit_any_image(channels: int, height: int, width: int, name: str) -> None:
    space = nas.zoo.space(name, (channels, height, width))
    graph = nas.trace(space.sample(Random(height)), (channels, height, width), classes=3)
    assert graph.nodes[-1].shape == (3,)


@pytest.mark.parametrize(("size", "count"), [(1, 0), (4, 0), (8, 1), (16, 2), (28, 3), (32, 3), (64, 4), (224, 5)])
def test_mobile_leaves_four_to_seven_positions(size: int, count: int) -> None:
    assert halvings((3, size, size)) == count
    total = 1
    for stride in strides(count, 4 if count == 5 else 3):
        total *= stride
    assert total == 2**count


def test_much_of_the_mobile_space_fits_a_microcontroller() -> None:
    space = nas.zoo.space("mobile", (1, 8, 8))
    rng = Random(0)
    costs = [nas.cost(space.sample(rng), (1, 8, 8), classes=10) for _ in range(100)]
    assert sum(c.params <= 60_000 and c.peak_memory <= 64 * 1024 for c in costs) >= 25


@pytest.mark.parametrize("make", [nas.zoo.mobilenetv2_small, nas.zoo.resnet_small])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224)])
def test_baselines_grow_with_their_width(make, shape: tuple[int, int, int]) -> None:
    macs = [nas.trace(make(shape, width), shape, classes=10).macs for width in (0.25, 0.5, 1.0, 2.0)]
    assert macs == sorted(set(macs))


@pytest.mark.parametrize("make", [nas.zoo.mobilenetv2_small, nas.zoo.resnet_small])
def test_baselines_refuse_nonsense(make) -> None:
    with pytest.raises(InvalidInputError, match="positive multiplier"):
        make((1, 8, 8), 0)
    with pytest.raises(InvalidInputError, match="input_shape"):
        make((8, 8), 1.0)


def test_unknown_space_lists_the_known_and_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mobile'"):
        nas.zoo.space("mobil")
    with pytest.raises(UnknownNameError, match="resnet"):
        nas.zoo.family("resnets")
