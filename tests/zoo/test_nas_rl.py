"""The chain of NAS with reinforcement learning: size, anchors, padding, tokens."""

from __future__ import annotations

import random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.zoo import nas_rl


def plain(i, anchors=(), filters=24):
    assert len(anchors) == i
    return (filters, 3, 3, 1, 1, *anchors)


def graph_of(tokens, shape=(3, 8, 8)):
    return nas.trace(nas_rl.network(tokens), shape, classes=10)


def test_sizes():
    assert nas_rl.space().size == 64**6 * 2**15 == nas_rl.FAMILIES[0].size
    assert nas_rl.space(layers=15).size == 64**15 * 2**105
    assert nas_rl.space(strides=nas_rl.STRIDES).size == (64 * 9) ** 6 * 2**15
    small = nas_rl.space(layers=3, filters=(24,), heights=(3,), widths=(1, 3))
    assert small.size == 2**3 * 2**3 == len(list(small.enumerate()))


@pytest.mark.parametrize("strides", [(1,), nas_rl.STRIDES])
def test_laws(strides):
    nas.testing.check_space(nas_rl.space(strides=strides), samples=5)


def test_names_of_the_fields():
    names = {decision.name for decision in nas_rl.space(layers=2, strides=(1, 2)).decisions}
    assert names == {f"{name}_{i}" for name in nas_rl.TOKENS for i in range(2)} | {"skip_1_0"}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 64, 64)])
def test_any_image_size(shape):
    for seed in range(3):
        graph = nas.trace(nas_rl.space(shape, strides=(1, 2, 3)).sample(random.Random(seed)), shape, classes=7)
        assert graph.nodes[graph.outputs[0].node].shape == (7,)


def test_networks_run():
    for seed in range(3):
        drawn = nas_rl.space(strides=(1, 2, 3)).sample(random.Random(seed))
        model = nas.build(nas.trace(drawn, (3, 33, 47), classes=10), seed=0)
        assert model(torch.randn(2, 3, 33, 47)).shape == (2, 10)


def test_a_layer_without_inputs_takes_the_image_and_leftovers_are_concatenated():
    # both layers read the image; neither is taken: the classifier sees both
    graph = graph_of([plain(0), plain(1, (0,), 36)])
    assert graph.params == 3 * 9 * 24 + 48 + 3 * 9 * 36 + 72 + (24 + 36) * 10 + 10
    # the second takes the first: a chain
    graph = graph_of([plain(0), plain(1, (1,), 36)])
    assert graph.params == 3 * 9 * 24 + 48 + 24 * 9 * 36 + 72 + 36 * 10 + 10


def test_inputs_are_concatenated_in_order():
    graph = graph_of([plain(0), plain(1, (0,), 36), plain(2, (1, 1), 48)])
    third = 3 * 9 * 24 + 48 + 3 * 9 * 36 + 72 + (24 + 36) * 9 * 48 + 96
    assert graph.params == third + 48 * 10 + 10
    concat = next(node for node in graph.nodes if node.operation.kind == "concat")
    assert [graph.nodes[i].shape[0] for i in concat.inputs] == [24, 36]


def test_smaller_inputs_are_padded_with_zeros():
    graph = graph_of([(24, 3, 3, 2, 3), plain(1, (0,)), plain(2, (1, 1))], (3, 9, 9))
    padded = next(node for node in graph.nodes if node.operation.kind == "pad")
    assert graph.nodes[padded.inputs[0]].shape == (24, 5, 3)
    assert padded.shape == (24, 9, 9)


def test_filters_have_their_height_and_width():
    graph = graph_of([(24, 1, 7, 1, 1)])
    assert graph.params == 3 * 7 * 24 + 48 + 24 * 10 + 10
    assert graph_of([(24, 7, 1, 1, 1)]).canonical_hash != graph.canonical_hash


def test_the_order_of_independent_layers_does_not_matter():
    one, other = (24, 3, 3, 1, 1), (36, 5, 5, 1, 1)
    assert graph_of([one, (*other, 0)]).canonical_hash == graph_of([other, (*one, 0)]).canonical_hash
    assert graph_of([one, (*other, 1)]).canonical_hash != graph_of([one, (*other, 0)]).canonical_hash


def test_tokens_round_trip():
    for strides in ((1,), nas_rl.STRIDES):
        space = nas_rl.space(strides=strides)
        for seed in range(5):
            drawn = space.sample(random.Random(seed))
            tokens = nas_rl.to_tokens(drawn)
            assert nas_rl.architecture(tokens, space) == drawn
            assert nas_rl.network(tokens) == drawn.block


def test_spaces_with_one_number_of_filters_lower():
    assert lower(nas_rl.space(layers=4, filters=(24,), heights=(3,)), (3, 8, 8), classes=10).nodes


def test_bad_input():
    with pytest.raises(InvalidInputError, match="at least 1"):
        nas_rl.space(layers=0)
    with pytest.raises(InvalidInputError, match="at least one layer"):
        nas_rl.network([])
    with pytest.raises(InvalidInputError, match="1 anchors"):
        nas_rl.network([plain(0), plain(0)])
    with pytest.raises(InvalidInputError, match="0 or 1"):
        nas_rl.network([plain(0), plain(1, (2,))])
    with pytest.raises(InvalidArchitectureError, match="fixes"):
        nas_rl.architecture([(24, 3, 3, 2, 2)], nas_rl.space(layers=1))
    with pytest.raises(InvalidArchitectureError, match="closed chain"):
        nas_rl.to_tokens(nas.Conv(8))
