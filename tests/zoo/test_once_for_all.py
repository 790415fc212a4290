"""Once-for-All: the sizes, the resolution as a choice, the authors' lists of kernels, expansions and depths."""

from __future__ import annotations

import json
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.zoo import once_for_all as ofa

LOW = (160, 224)


def test_sizes(reference):
    known = json.loads(reference.read_text())["cardinalities"]
    assert ofa.mobilenetv3_space().size == known["ofa_mbv3_per_resolution"] == 7371**5
    assert f"{ofa.mobilenetv3_space().size:.2e}" == "2.18e+19"
    assert ofa.proxyless_space().size == known["ofa_proxyless_per_resolution"] == 7371**5 * 9
    assert len(ofa.RESOLUTIONS) == known["ofa_mbv3_resolutions"] == 25
    assert f"{ofa.mobilenetv3_space(resolutions=ofa.RESOLUTIONS).size:.1e}" == "5.4e+20"
    assert ofa.resnet50d_space().size == 2 * 3 * 2 * 3**4 * (9 + 27 + 81) ** 3 * (81 + 243 + 729)
    assert [family.size for family in ofa.FAMILIES] == [
        make().size for make in (ofa.mobilenetv3_space, ofa.proxyless_space, ofa.resnet50d_space)
    ]


@pytest.mark.parametrize("make", [ofa.mobilenetv3_space, ofa.proxyless_space, ofa.resnet50d_space])
def test_the_resolution_is_a_choice_like_any_other(make):
    space = make(resolutions=LOW)
    assert space.size == 2 * make().size
    nas.testing.check_space(space, samples=3)
    drawn = space.sample(random.Random(0))
    small, large = (
        nas.trace(
            space.architecture({**drawn.decisions, "resolution": index}, indices=True), (3, 224, 224), classes=1000
        )
        for index in range(2)
    )
    assert small.params == large.params
    assert small.macs < large.macs
    assert not any(node.operation.kind == "resize" for node in large.nodes)


def test_the_resolution_costs_what_the_image_of_that_size_costs():
    config = {"ks": [5] * 20, "e": [4] * 20, "d": [3] * 5}
    space = ofa.mobilenetv3_space(resolutions=ofa.RESOLUTIONS)
    for size, macs in ((224, 250_746_944), (160, 129_548_864), (128, 84_099_584)):  # METHODS, section 3
        graph = nas.trace(ofa.architecture({**config, "r": [size]}, space), (3, 224, 224), classes=1000)
        assert (graph.params, graph.macs) == (4_551_792, macs)


def test_a_space_with_resolutions_lowers():
    assert lower(ofa.mobilenetv3_space(resolutions=LOW), (3, 224, 224), classes=10).nodes


def test_a_resized_network_runs():
    architecture = ofa.mobilenetv3_space(resolutions=(40, 48)).sample(random.Random(0))
    model = nas.build(nas.trace(architecture, (3, 33, 47), classes=10), seed=0)
    assert model(torch.randn(2, 3, 33, 47)).shape == (2, 10)


@pytest.mark.parametrize("make", [ofa.mobilenetv3_space, ofa.proxyless_space])
@pytest.mark.parametrize("resolutions", [None, LOW])
def test_the_authors_lists_round_trip(make, resolutions):
    space = make(resolutions=resolutions)
    for seed in range(5):
        drawn = space.sample(random.Random(seed))
        config = ofa.to_config(drawn)
        assert ofa.architecture(config, space) == drawn
        assert ofa.to_config(drawn.block) == config
        assert len(config["ks"]) == len(config["e"]) == (20 if make is ofa.mobilenetv3_space else 21)


def test_places_beyond_the_depth_are_not_read():
    space = ofa.mobilenetv3_space()
    rest = {"e": [3] * 20, "d": [2] * 5}
    masked = ofa.architecture({**rest, "ks": [3, 3, 0, 0] * 5}, space)
    assert ofa.architecture({**rest, "ks": [3, 3, 7, 5] * 5}, space) == masked
    graph = nas.trace(masked, (3, 224, 224), classes=1000)
    assert (graph.params, graph.macs) == (3_410_792, 121_278_672)  # METHODS, section 3: K3E3D2


def test_specialised_networks_are_members(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == "OFA-MobileNetV3"]
    checked = 0
    for row in rows:
        width = 1.2 if row["config"]["stages"][0]["width"] == 32 else 1.0
        config: dict[str, list[int]] = {"ks": [], "e": [], "d": []}
        for stage in row["config"]["stages"]:
            absent = [0] * (4 - len(stage["ks"]))
            config["ks"] += [*stage["ks"], *absent]
            config["e"] += [*stage["e"], *absent]
            config["d"].append(stage["d"])
        graph = nas.trace(ofa.architecture(config, ofa.mobilenetv3_space(width=width)), row["input_size"], classes=1000)
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]
        checked += 1
    assert checked >= 10


def test_bad_lists():
    space = ofa.mobilenetv3_space()
    with pytest.raises(InvalidInputError, match="'ks' must have 20"):
        ofa.architecture({"ks": [3] * 19, "e": [3] * 20, "d": [2] * 5}, space)
    with pytest.raises(InvalidInputError, match="mobile space"):
        ofa.architecture({"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}, ofa.resnet50d_space())
    with pytest.raises(nas.errors.NasturtiumError, match="9"):
        ofa.architecture({"ks": [9] * 20, "e": [3] * 20, "d": [2] * 5}, space)
    with pytest.raises(InvalidArchitectureError, match="mobile space"):
        ofa.to_config(nas.Conv(8))
    with pytest.raises(InvalidInputError, match="positive integers"):
        ofa.mobilenetv3_space(resolutions=(0,))
