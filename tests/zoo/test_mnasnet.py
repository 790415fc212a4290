"""MnasNet's factorised space."""

from __future__ import annotations

import json
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.space.lowering import lower
from nasturtium.zoo import mnasnet


def test_size():
    options = 3 * 2 * 2 * 3 * 3  # operation, kernel, squeeze-and-excitation, skip, filters
    assert mnasnet.space().size == (options * 3) ** 5 * (options * 2) ** 2 == mnasnet.FAMILIES[0].size
    assert mnasnet.space(expansions=(3, 6)).size == 432**5 * 288**2


def test_quoted_size(reference):
    assert json.loads(reference.read_text())["cardinalities"]["mnasnet_S432_B5"] == 432**5
    assert "432^5" in mnasnet.FAMILIES[0].quoted_size


def test_laws():
    nas.testing.check_space(mnasnet.space(), samples=5)


def test_lowering_of_a_block():
    block = mnasnet.space().block.layers[2]
    assert lower(block, (16, 16, 16), classes=10).nodes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 224, 224)])
def test_any_image_size(shape):
    graph = nas.trace(mnasnet.space(shape).sample(random.Random(1)), shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


def test_networks_run():
    for seed in range(3):
        graph = nas.trace(mnasnet.space().sample(random.Random(seed)), (3, 33, 47), classes=10)
        assert nas.build(graph, seed=0)(torch.randn(2, 3, 33, 47)).shape == (2, 10)


def test_layers_of_a_block_are_alike():
    for seed in range(5):
        network = mnasnet.space().sample(random.Random(seed)).block
        for stage in network.layers[1:-2]:
            first, *rest = stage.blocks
            assert all(
                (layer.operation, layer.skip, layer.stride) == (first.operation, first.skip, 1) for layer in rest
            )


def costs(operation, skip, stride=1):
    graph = nas.trace(mnasnet.Layer(operation, skip, stride), (8, 9, 9))
    return graph.params, [node.operation.kind for node in graph.nodes]


def test_operations_and_skips():
    conv, kinds = costs(mnasnet.RegularConv(8, 5), mnasnet.NoSkip())
    assert conv == 8 * 8 * 25 + 16
    assert "add" not in kinds
    separable, kinds = costs(mnasnet.SeparableConv(8, 3), mnasnet.IdentitySkip())
    assert separable == 8 * 9 + 16 + 64 + 16
    assert kinds[-1] == "add"
    inverted, kinds = costs(mnasnet.InvertedBottleneck(8, 3, 0.25), mnasnet.PooledSkip(), 2)
    assert inverted == 8 * 48 + 96 + 48 * 9 + 96 + (2 * 48 + 2 + 2 * 48 + 48) + 48 * 8 + 16
    assert kinds[-2:] == ["avg_pool", "add"]
    assert costs(mnasnet.RegularConv(8), mnasnet.IdentitySkip(), 2)[1][-1] != "add"
    assert costs(mnasnet.RegularConv(16), mnasnet.PooledSkip())[1][-1] != "add"


def test_the_skip_and_the_kernel_tell_networks_apart():
    hashes = {
        nas.trace(mnasnet.Layer(mnasnet.SeparableConv(8, kernel), skip), (8, 9, 9)).canonical_hash
        for kernel in (3, 5)
        for skip in (mnasnet.PooledSkip(), mnasnet.IdentitySkip(), mnasnet.NoSkip())
    }
    assert len(hashes) == 6
