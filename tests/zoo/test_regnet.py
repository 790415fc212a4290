"""RegNet and AnyNet: pycls' rows to the unit, exact sizes, adjustment, laws of the spaces, bad input."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from math import comb, prod

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, SizeUnknownError
from nasturtium.graph import CostModel
from nasturtium.space.lowering import lower
from nasturtium.zoo import anynet, regnet
from nasturtium.zoo.registry import family

ANYNETS = (anynet.anynet_a, anynet.anynet_b, anynet.anynet_c, anynet.anynet_d, anynet.anynet_e)
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224), (3, 33, 47)]


def test_pycls_rows_to_the_unit(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == "RegNet"]
    assert len(rows) >= 14
    for row in rows:
        block = nas.zoo.published(row)
        graph = nas.trace(block, row["input_size"])
        assert (graph.params, graph.macs) == (row["params"], row["timm_computed"]["macs"]), row["name"]
        biases = sum(node.shape[0] for node in graph.nodes if getattr(node.operation, "bias", False))
        assert graph.macs + biases == row["macs"]  # pycls' "flops" count biases
        assert graph.activations + 1000 == row["activations"]  # and its "acts" the classifier's outputs
        config = row["config"]
        assert block.stages == tuple(zip(config["widths"], config["depths"], config["groups"], strict=True))
        generated = regnet.generate(*(config[key] for key in ("d", "w0", "wa", "wm")))
        assert [width for width, _ in generated] == config["widths_q"]
        assert regnet.is_valid(*(config[key] for key in ("d", "w0", "wa", "wm")))


def test_sizes_are_the_formulas(reference):
    cardinalities = json.loads(reference.read_text())["cardinalities"]
    sizes = [make().size for make in ANYNETS]
    assert sizes[:3] == [cardinalities[f"anynetx_{letter}"] for letter in "abc"]
    assert sizes[0] == (16 * 128 * 3 * 6) ** 4
    assert sizes[3] == comb(131, 4) * 16**4 * 3 * 6
    assert sizes[4] == comb(131, 4) * comb(19, 4) * 3 * 6
    assert anynet.anynet_e(last_free=True).size == comb(131, 4) * comb(18, 3) * 16 * 3 * 6
    assert sizes == [family(f"anynet_{letter}").size for letter in "abcde"]
    # the paper divides by 4! where sequences do not decrease: too few, because it forgets equal values
    assert sizes[3] > cardinalities["anynetx_d"]
    assert sizes[4] > cardinalities["anynetx_e"]
    space = regnet.space()
    assert prod(d.count for d in space.decisions) == cardinalities["regnet"]


def test_ordered_spaces_hold_each_sequence_once():
    space = anynet.anynet_e(max_depth=3, max_width=24)
    found = set()
    for architecture in space.enumerate():
        stages = architecture.block.layers[1].blocks
        key = tuple((s.depth, s.width, s.bottleneck, s.group) for s in stages)
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(key))
        assert 1 <= key[0][0] <= key[-1][0] <= 3
        assert 8 <= key[0][1] <= key[-1][1] <= 24
        found.add(key)
    assert len(found) == space.size == comb(6, 4) * comb(6, 4) * 18


def valid_by_numpy() -> int:
    """The number of valid (d, w0, wa, wm), by an independent count over whole rows of networks."""
    j, wm = np.arange(64), np.array(regnet.RATIOS)[:, None]
    total = 0
    for w0 in range(8, 257, 8):
        for wa in range(4, 257, 4):
            steps = np.rint(np.log((w0 + wa * j) / w0)[None, :] / np.log(wm))
            widths = np.rint(w0 * wm**steps / 8) * 8
            stages = 1 + np.cumsum(widths[:, 1:] != widths[:, :-1], axis=1)
            total += int(((stages == 4) & (steps[:, 1:] == 3)).sum())
    return total


def test_number_of_valid_networks():
    assert valid_by_numpy() * 6 * 3 == regnet.VALID_NETWORKS
    space = regnet.space()
    with pytest.raises(SizeUnknownError, match="estimate_size"):
        _ = space.size
    interval = space.estimate_size(random.Random(0), 2000)
    assert interval.low <= regnet.VALID_NETWORKS <= interval.high


@pytest.mark.slow
def test_number_of_valid_networks_by_the_predicate():
    # w0 that is no multiple of 8 is never valid; a longer network has the blocks of a shorter one
    total = 0
    for w0 in range(8, 257, 8):
        for wa in range(4, 257, 4):
            for wm in regnet.RATIOS:
                steps = regnet._steps(64, w0, wa, wm)
                depths = range(steps.index(3) + 1, 65) if 3 in steps else ()
                if depths and regnet.is_valid(depths[0], w0, wa, wm):
                    total += sum(steps[d - 1] == 3 for d in depths)
    assert total * 18 == regnet.VALID_NETWORKS


def test_the_predicate_is_the_count_on_samples():
    rng = random.Random(0)
    for _ in range(2000):
        d, w0, wa = rng.randint(1, 64), rng.randrange(4, 257, 4), rng.randrange(4, 257, 4)
        wm = rng.choice(regnet.RATIOS)
        if w0 % 8:
            assert not regnet.is_valid(d, w0, wa, wm)
            continue
        stages = regnet.generate(d, w0, wa, wm)
        assert sum(depth for _, depth in stages) == d
        assert [w for w, _ in stages] == sorted({w for w, _ in stages})
        if regnet.is_valid(d, w0, wa, wm):
            assert len(stages) == 4


def test_adjustment_makes_every_network_buildable():
    for width in range(8, 1025, 8):
        for bottleneck in anynet.BOTTLENECKS:
            for group in anynet.GROUPS:
                adjusted, fitted = anynet.adjust(width, bottleneck, group)
                hidden = adjusted // bottleneck
                assert hidden * bottleneck == adjusted
                assert hidden % fitted == 0
                assert fitted <= group
    assert anynet.adjust(24, 1, 16) == (32, 16)  # RegNetX-400MF, first stage, by pycls
    assert anynet.adjust(392, 1, 16) == (384, 16)  # its last; 1.5 and 24.5 go to the even number
    assert anynet.adjust(56, 1, 16, 0.9) == (64, 16)


def test_different_encodings_of_one_network_have_one_hash():
    # a group wider than the hidden width is cut to it
    left, right = (anynet.anynet((1, 1, 1, 1), (8, 8, 16, 16), groups=(g, 8, 16, 16)) for g in (16, 32))
    hashes = [nas.trace(block, (3, 32, 32), classes=10).canonical_hash for block in (left, right)]
    assert hashes[0] == hashes[1]
    other = anynet.anynet((1, 1, 1, 1), (8, 8, 16, 16), groups=(4, 8, 16, 16))
    assert nas.trace(other, (3, 32, 32), classes=10).canonical_hash != hashes[0]


@pytest.mark.parametrize("make", ANYNETS)
def test_laws_of_the_anynets(make):
    nas.testing.check_space(make(max_width=64), samples=5)


@pytest.mark.parametrize("make", ANYNETS[3:])
def test_the_whole_ordered_spaces_are_drawn_and_varied(make):
    space, rng = make(), random.Random(0)
    architecture = space.sample(rng)
    assert space.decode(space.encode(architecture)) == architecture
    child = space.mutate(architecture, rng)
    assert space.distance(architecture, child) == 1
    assert child in space
    assert all(a in space for a in space.neighbours(architecture, only="depth*", near=True))


@pytest.mark.parametrize("se", [False, True])
def test_laws_of_the_regnets(se):
    nas.testing.check_space(regnet.space(se=se), samples=3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [*ANYNETS, regnet.space])
def test_input_sizes(make, shape):
    space = make(shape)
    cost = CostModel(shape, classes=7)
    for seed in range(3):
        architecture = space.sample(random.Random(seed))
        assert cost(architecture).macs > 0
    smallest = nas.trace(architecture, shape, classes=7).nodes[-4].shape
    assert min(smallest[1:]) >= 4 or len(smallest) == 1


@pytest.mark.parametrize("se", [False, True])
def test_small_networks_run(se):
    for make in (anynet.anynet_a, anynet.anynet_e):
        space = make((1, 28, 28), se=se, max_depth=2, max_width=32)
        graph = nas.trace(space.sample(random.Random(1)), (1, 28, 28), classes=5)
        logits = nas.build(graph, seed=0)(torch.randn(2, 1, 28, 28))
        assert logits.shape == (2, 5)
        logits.sum().backward()
    block = regnet.regnet(6, 16, 12.0, 2.0, 8, 2, se=0.25 if se else None, input_shape=(3, 32, 32))
    assert nas.build(nas.trace(block, (3, 32, 32), classes=5), seed=0)(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_a_closed_anynet_is_the_regnet_of_its_stages():
    block = regnet.regnet(13, 24, 36.44, 2.49, 8, classes=1000)
    widths, depths, groups = zip(*block.stages, strict=True)
    same = anynet.anynet(depths, widths, groups=groups, classes=1000)
    left, right = nas.trace(block, (3, 224, 224)), nas.trace(same, (3, 224, 224))
    assert left.params == right.params == 2_684_792
    assert left.canonical_hash == right.canonical_hash


def test_a_small_anynet_lowers_to_a_supernet():
    shape = (3, 32, 32)
    space = anynet.anynet_c(shape, max_depth=1, max_width=8)
    assert space.size == 18
    assert lower(space, shape, classes=10)


def test_bad_input():
    for numbers in ((0, 24, 36.0, 2.5), (13, 20, 36.0, 2.5), (13, 24, -1.0, 2.5), (13, 24, 36.0, 1.0)):
        with pytest.raises(InvalidInputError, match="multiple of 8"):
            regnet.regnet(*numbers, 8)
    with pytest.raises(InvalidInputError, match="group width"):
        regnet.regnet(13, 24, 36.44, 2.49, 0)
    with pytest.raises(InvalidInputError, match="4 stages"):
        anynet.anynet((1, 1, 1), (8, 8, 8, 8))
    with pytest.raises(InvalidInputError, match="input_shape"):
        anynet.anynet_a((32, 32))
    with pytest.raises(InvalidInputError, match="malformed"):
        nas.zoo.published({"space": "RegNet", "config": {"d": 13}})
