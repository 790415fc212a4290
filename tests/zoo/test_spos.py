"""SPOS: the published networks, the supernet's weights, the sizes, the authors' codes."""

from __future__ import annotations

import json
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.zoo import spos

SPACES = (spos.spos, spos.spos_channels, spos.spos_block_channel)


def test_reference_rows(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == "SPOS ShuffleNetV2"]
    assert len(rows) == 7
    for row in rows:
        graph = nas.trace(nas.zoo.published(row), row["input_size"])
        assert graph.params == row["params"], row["name"]
        assert row["macs"] in (None, graph.macs), row["name"]


def test_sizes(reference):
    known = json.loads(reference.read_text())["cardinalities"]
    assert spos.spos().size == 4**20 == known["spos_blocks"]
    assert spos.spos_channels().size == 10**20 == known["spos_channels"]
    assert spos.spos_channels(scales=spos.CODE_SCALES).size == 8**20
    assert spos.spos_block_channel().size == 40**20
    assert [family.size for family in spos.FAMILIES] == [4**20, 10**20, 40**20]


@pytest.mark.parametrize("make", SPACES)
def test_laws_and_lowering(make):
    space = make()
    nas.testing.check_space(space, samples=5)
    assert lower(space, (3, 32, 32), classes=10).nodes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 33, 47), (3, 224, 224)])
def test_any_image_size(shape):
    graph = nas.trace(spos.spos_block_channel(shape).sample(random.Random(0)), shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


def test_codes_round_trip():
    rng = random.Random(0)
    space = spos.spos_block_channel()
    for _ in range(5):
        drawn = space.sample(rng)
        blocks, scales = spos.to_codes(drawn)
        assert spos.architecture(space, blocks, scales) == drawn
        assert spos.network(blocks, scales) == drawn.block
    assert spos.to_codes(spos.architecture(spos.spos(), spos.BLOCKS))[0] == spos.BLOCKS


def test_the_published_network_runs():
    model = nas.build(nas.trace(spos.network(spos.BLOCKS), (3, 32, 32), classes=10), seed=0)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_other_blocks_and_scales_are_other_networks():
    def digest(blocks, scales=None):
        return nas.trace(spos.network(blocks, scales), (3, 32, 32), classes=10).canonical_hash

    other = (*spos.BLOCKS[:-1], 0)
    assert len({digest(spos.BLOCKS), digest(other), digest(other, [1.0] * 19 + [0.4])}) == 3


def test_stride_one_units_keep_even_channels_aside():
    unit = spos.ShuffleUnit(8)
    model = nas.build(nas.trace(unit, (8, 5, 5)), seed=0)
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(model.eval()(x)[:, :4], x[:, ::2])


def test_bad_codes():
    with pytest.raises(InvalidInputError, match="20 blocks"):
        spos.network([0] * 19)
    with pytest.raises(InvalidInputError, match="0 to 3"):
        spos.network([4] * 20)
    with pytest.raises(InvalidInputError, match="20 positive scales"):
        spos.network([0] * 20, [0.0] * 20)
    with pytest.raises(InvalidArchitectureError, match="closed network of SPOS"):
        spos.to_codes(nas.Conv(8))


def test_a_text_is_the_supernet_only_where_it_says_so():
    row = {"space": "SPOS ShuffleNetV2", "name": "x"}
    whole = nas.zoo.published({**row, "config": "20 choice blocks x 4"})
    assert whole == nas.zoo.published({**row, "config": "Supernet"}) == spos.supernet(classes=1000)
    with pytest.raises(InvalidInputError, match="'choice blocks', got 'spos_block'"):
        nas.zoo.published({**row, "config": "spos_block"})
