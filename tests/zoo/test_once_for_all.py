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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "`width` at place 0 .* from 0 to 2"),
        ({"width": -1}, "`width` at place 0"),
        ({"width": [0, 1, 2, 2, 2, 3]}, "`width` at place 5"),
        ({"width": [0] * 5}, "one number or 6, got 5"),
        ({"depth": 3}, "`depth` at place 0"),
        ({"depth": [2, 2, 2, 2, -1]}, "`depth` at place 4"),
        ({"depth": [2] * 4}, "one number or 5"),
        ({"ratio": 0}, "`ratio` of block 0"),
        ({"ratio": [0.35] * 17}, "one number or 18"),
        ({"ratio": [0.35] * 17 + [-1]}, "`ratio` of block 17"),
    ],
)
def test_bad_resnets(options, message):
    with pytest.raises(InvalidInputError, match=message):
        ofa.resnet50d(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": [3]}, "got 1 and 2 for depth 2 in stage 0"),
        ({"ks": [3], "e": [3]}, "at least its depth"),
        ({"ks": [3, 4]}, "kernel of stage 0 .* odd"),
        ({"e": [3, 0]}, "expansion of stage 0"),
        ({"d": 0}, "depth 'd' of stage 0"),
        ({"stride": 0}, "stride of stage 0"),
        ({"width": 0}, "width of stage 0"),
    ],
)
def test_bad_specialised_networks(change, message):
    stages = [{"width": w, "stride": 2, "d": 2, "ks": [3, 3], "e": [3, 3]} for w in ofa.MOBILENETV3.widths]
    first = {"cout": 16, "k": 3, "s": 1, "e": 1, "mid": 16}
    config = {"stem": 16, "first_block": first, "stages": stages, "final_expand": 960, "feature_mix": 1280}
    assert ofa.specialised(config)
    with pytest.raises(InvalidInputError, match=message):
        ofa.specialised({**config, "stages": [{**stages[0], **change}, *stages[1:]]})


def test_bad_uniform_networks():
    for options in ({"kernel": 4}, {"expand": 0}, {"depth": 0}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            ofa.uniform(ofa.MOBILENETV3, 1.0, **{"kernel": 3, "expand": 3, "depth": 2, **options})
