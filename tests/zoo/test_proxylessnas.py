"""ProxylessNAS: the spaces' sizes, and the tree network for CIFAR-10."""

from __future__ import annotations

import json
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.zoo import proxylessnas
from nasturtium.zoo.proxylessnas import TREE_OPERATIONS, TreeBlock


def edges(word):
    return tuple(TREE_OPERATIONS[letter] for letter in word)


def hash_of(word, shape=(16, 6, 6)):
    return nas.trace(TreeBlock(edges(word), 8), shape).canonical_hash


def test_sizes(reference):
    known = json.loads(reference.read_text())["cardinalities"]
    space = proxylessnas.proxylessnas()
    assert space.size == 6**6 * 7**15 == known["proxyless_imagenet"]
    assert proxylessnas.proxylessnas(resolutions=(192, 224)).size == 2 * space.size
    assert proxylessnas.proxylessnas_cifar().size == 7**648 == proxylessnas.FAMILIES[1].size
    assert proxylessnas.proxylessnas_cifar(blocks=3).size == 7**36


@pytest.mark.parametrize(("name", "least"), [("ProxylessNAS", 4), ("ProxylessNAS-CIFAR", 1)])
def test_reference_rows(reference, name, least):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == name and r["kind"] == "computed"]
    assert len(rows) >= least
    for row in rows:
        graph = nas.trace(nas.zoo.published(row), row["input_size"])
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]


def test_the_published_network_is_a_member():
    space = proxylessnas.proxylessnas_cifar()
    member = proxylessnas.cifar_architecture(proxylessnas.PROXYLESS_CIFAR, space)
    assert member.block == proxylessnas.cifar_network()
    assert proxylessnas.cifar_string(member) == proxylessnas.PROXYLESS_CIFAR
    widths = [block.width for block in proxylessnas.cifar_network().layers[1].blocks]
    assert (widths[:7], widths[17:19], widths[-1]) == ([18, 18, 20, 22, 24, 24, 26], [44, 46], 100)


def test_laws_and_lowering():
    nas.testing.check_space(proxylessnas.proxylessnas(), samples=5)
    nas.testing.check_space(proxylessnas.proxylessnas_cifar(blocks=3), samples=5)
    assert lower(proxylessnas.proxylessnas_cifar(blocks=3), (3, 16, 16), classes=10).nodes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 64, 64)])
def test_the_tree_network_takes_any_image_size(shape):
    drawn = proxylessnas.proxylessnas_cifar(shape, blocks=6).sample(random.Random(0))
    model = nas.build(nas.trace(drawn, shape, classes=7), seed=0)
    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_round_trip_of_texts():
    space = proxylessnas.proxylessnas_cifar(blocks=3)
    for seed in range(5):
        drawn = space.sample(random.Random(seed))
        text = proxylessnas.cifar_string(drawn)
        assert proxylessnas.cifar_architecture(text, space) == drawn
        assert proxylessnas.cifar_string(proxylessnas.cifar_network(text)) == text


def test_a_tree_is_the_same_whatever_the_order_of_its_branches():
    # first half: edges 3 and 5; below the 3 are a and m, below the 5 are 7 and i
    assert hash_of("35am7i" + "333333") == hash_of("537iam" + "333333") == hash_of("35mai7" + "333333")
    assert hash_of("35am7i" + "333333") != hash_of("357iam" + "333333")
    assert hash_of("35am7i" + "333333") != hash_of("35am7i" + "333335")


def test_a_block_halves_the_size_and_pads_the_width():
    graph = nas.trace(TreeBlock(edges("i" * 12), 8, 2), (16, 9, 9))
    assert graph.nodes[graph.outputs[0].node].shape == (32, 5, 5)
    convs = 16 * 8 + 8 * 16 * 9 // 2 + 8 * 32
    norms = 2 * (16 + 8 + 2 * 8 + 8 + 32)
    assert graph.params == convs + norms


def test_bad_input():
    with pytest.raises(InvalidArchitectureError, match="multiple of three"):
        proxylessnas.cifar_network("3" * 12)
    with pytest.raises(InvalidArchitectureError, match="12 letters"):
        proxylessnas.cifar_network(" ".join(["x" * 12] * 3))
    with pytest.raises(InvalidArchitectureError, match="54 blocks"):
        proxylessnas.cifar_architecture(" ".join(["3" * 12] * 3), proxylessnas.proxylessnas_cifar())
    with pytest.raises(InvalidArchitectureError, match="tree network"):
        proxylessnas.cifar_string(nas.Conv(8))
    with pytest.raises(InvalidInputError, match="multiple of three"):
        proxylessnas.proxylessnas_cifar(blocks=4)
    with pytest.raises(InvalidInputError, match="12 operations"):
        TreeBlock(edges("333"), 8)


BLOCKS = [[3, 1, 8, 8, 1, ""], [3, 3, 8, 16, 2, ""], "zero", [5, 3, 16, 16, 1, "skip"]]


@pytest.mark.parametrize(
    ("name", "more", "classes"),
    [
        ("mcunet-a_imagenet", {}, 1000),
        ("mcunet-a_vww", {}, 2),
        ("mcunet-a_vww", {"classes": 3}, 3),
        ("mcunet-a_imagenet", {"num_classes": 7}, 7),
        ("mcunet-a CIFAR-100", {}, 100),
    ],
)
def test_a_row_says_its_classes(name, more, classes):
    for space in ("ProxylessNAS", "MCUNet/TinyNAS"):
        config = {"stem": 8, "blocks_k_e_cin_cout_stride_skip": BLOCKS, **more}
        block = nas.zoo.published({"space": space, "name": name, "config": config})
        assert nas.trace(block, (3, 32, 32)).nodes[-1].shape == (classes,)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "at least one block"),
        ([[3, 1, 8, 8, 1, "Skip"]], "'skip', or ''"),
        ([[4, 1, 8, 8, 1, ""]], "kernel .* odd"),
        ([[3, 1, 8, 8, 0, ""]], "stride"),
        ([[3, 0, 8, 8, 1, ""]], "expansion"),
        ([[3, 1, 8, 0, 1, ""]], "output width"),
        ([[3, 1, 8, 8, 1, 0]], "hidden width"),
        ([[3, 1, 8, 8]], "A block is"),
        (["none"], "A block is"),
        ([[3, 1, 9, 8, 1]], "predecessor"),
    ],
)
def test_bad_blocks(blocks, message):
    with pytest.raises(InvalidInputError, match=message):
        proxylessnas.from_blocks(8, blocks, None)


def test_only_the_published_tree_network_is_a_row():
    with pytest.raises(InvalidInputError, match=r"proxyless_cifar\.config"):
        nas.zoo.published({"space": "ProxylessNAS-CIFAR", "config": "other.config"})
    with pytest.raises(InvalidInputError, match=r"proxyless_cifar\.config"):
        nas.zoo.published({"space": "ProxylessNAS-CIFAR", "config": {}})
