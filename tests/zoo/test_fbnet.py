"""FBNet: the space's size, the authors' networks, names there and back, input sizes, bad input."""

from __future__ import annotations

import random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, UnknownNameError
from nasturtium.space.lowering import lower
from nasturtium.zoo import fbnet

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224), (3, 33, 47)]


def test_size_is_the_formula():
    space = fbnet.space()
    assert len(space.decisions) == 22
    assert space.size == 9**16 * 8**6 == nas.zoo.registry.family("fbnet").size
    assert space.size < 9**22  # the paper's figure has "skip" everywhere
    assert all(fbnet.space(shape).size == space.size for shape in SHAPES)
    assert fbnet.space(depth=0.25).size == 8**6 * 9


def test_laws_of_the_space():
    nas.testing.check_space(fbnet.space((3, 32, 32), depth=0.5), samples=5)


def test_published_networks():
    # FBNet-A: 4.3M parameters and 249M MACs in table 3 of the paper; FBNet-C as timm counts it
    costs = {name: nas.trace(fbnet.fbnet(name, classes=1000), (3, 224, 224)) for name in fbnet.FOUND}
    assert round(costs["a"].params / 1e6, 1) == 4.3
    assert costs["a"].macs // 10**6 == 249
    assert (costs["c"].params, costs["c"].macs) == (5_572_200, 384_960_160)
    table = nas.trace(fbnet.fbnet_c(classes=1000), (3, 224, 224))
    assert (table.params, table.macs) == (5_572_200, 384_960_160)


def test_names_there_and_back():
    space = fbnet.space((3, 32, 32))
    for name, (_, text) in fbnet.FOUND.items():
        architecture = fbnet.architecture(name, space)
        assert architecture in space
        assert fbnet.to_names(architecture) == tuple(text.split())
        assert fbnet.to_names(fbnet.fbnet(text)) == tuple(text.split())
    rng = random.Random(0)
    for _ in range(20):
        architecture = space.sample(rng)
        names = fbnet.to_names(architecture)
        assert fbnet.architecture(names, space) == architecture
        closed = fbnet.fbnet(names, input_shape=(3, 32, 32))
        assert closed == architecture.block


@pytest.mark.parametrize("shape", SHAPES)
def test_input_sizes(shape):
    space = fbnet.space(shape, width=0.5, depth=0.5)
    graph = nas.trace(space.sample(random.Random(3)), shape, classes=7)
    logits = nas.build(graph, seed=0)(torch.randn(2, *shape))
    assert logits.shape == (2, 7)


def test_small_images_are_halved_less_often():
    sizes = {
        shape: min(node.shape[1] for node in nas.trace(fbnet.fbnet("c", input_shape=shape), shape, classes=2).nodes
                   if node.path.endswith("depthwise.conv"))
        for shape in SHAPES
    }  # fmt: skip
    assert sizes == {(1, 28, 28): 4, (3, 32, 32): 4, (3, 64, 64): 4, (3, 224, 224): 7, (3, 33, 47): 5}


def test_groups_shuffle_and_skip():
    graph = nas.trace(fbnet.FBNetBlock(16, groups=2, expand=1), (16, 4, 4))
    assert [n.operation.kind for n in graph.nodes].count("shuffle") == 1
    # 1x1 convolutions in two groups, depthwise 3x3, three norms
    assert graph.params == 2 * 16 * 16 // 2 + 16 * 9 + 3 * 32
    names = fbnet.FOUND["a"][1].split()
    changed = ["k3_e1", *names[1:]]
    hashes = {nas.trace(fbnet.fbnet(n), (3, 224, 224), classes=10).canonical_hash for n in (names, changed)}
    assert len(hashes) == 2


def test_it_lowers_to_a_supernet():
    shape = (3, 32, 32)
    assert lower(fbnet.space(shape, width=0.5, depth=0.25), shape, classes=10)


@pytest.mark.parametrize("variant", ["b", "d", "g"])
def test_fbnetv3_scales(variant):
    plain = nas.trace(fbnet.fbnetv3(variant, classes=10), (3, 64, 64))
    small = nas.trace(fbnet.fbnetv3(variant, 0.5, classes=10), (3, 64, 64))
    deep = nas.trace(fbnet.fbnetv3(variant, 1.0, 2.0, classes=10), (3, 64, 64))
    assert small.params < plain.params < deep.params


def test_bad_input():
    with pytest.raises(UnknownNameError, match="k3_e1"):
        fbnet.fbnet(["k7_e1"] * 22)
    with pytest.raises(InvalidArchitectureError, match="22 layers"):
        fbnet.fbnet("k3_e1 k3_e1")
    with pytest.raises(InvalidArchitectureError, match="cannot be"):
        fbnet.fbnet(["k3_e1", "skip"] + ["k3_e1"] * 20)
    with pytest.raises(InvalidArchitectureError, match="22 layers"):
        fbnet.architecture("k3_e1", fbnet.space())
    with pytest.raises(UnknownNameError, match="g"):
        fbnet.fbnetv3("z")
    with pytest.raises(InvalidArchitectureError, match="closed FBNet"):
        fbnet.to_names(nas.Conv(3))
    with pytest.raises(InvalidArchitectureError, match="no candidate"):
        fbnet.to_names(nas.Sequential(nas.Conv(3), nas.blocks.Repeat((nas.Conv(3),)), nas.Conv(3), nas.Classifier()))
