"""Hand-designed baselines: the costs of timm and torchvision to the unit, multipliers, input sizes, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.shuffle import ShuffleUnit
from nasturtium.errors import InvalidInputError, ShapeError, UnknownNameError
from nasturtium.zoo import densenet, ghostnet, inception, resnet, shufflenet, squeezenet, vgg
from nasturtium.zoo.published import by_name
from tests.graph.interpreter import run

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "baselines.json").read_text())["rows"]
NAMES = ("vgg", "densenet", "squeezenet", "inception", "shufflenet", "ghostnet", "fbnet", "regnet")

SCALABLE = {
    "vgg": (vgg.vgg, (3, 32, 32)),
    "densenet": (densenet.densenet, (3, 32, 32)),
    "squeezenet": (squeezenet.squeezenet, (3, 33, 47)),
    "inception": (inception.inception_v3, (3, 75, 80)),
    "shufflenet": (shufflenet.shufflenetv2, (1, 28, 28)),
    "ghostnet": (ghostnet.ghostnet, (3, 33, 47)),
}


def cost(block, shape=(3, 224, 224), **context) -> tuple[int, int]:
    graph = nas.trace(block, shape, **context)
    return graph.params, graph.macs


def test_reference_rows_to_the_unit(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == "reference-model"]
    rows = [r for r in rows if r["config"]["model"].startswith(NAMES)]
    assert len(rows) >= 30
    for row in rows:
        assert cost(nas.zoo.published(row), row["input_size"]) == (row["params"], row["macs"]), row["name"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda r: f"{r['config']['library']}-{r['name']}-{r['input_size'][1]}")
def test_siblings_to_the_unit(row):
    assert cost(nas.zoo.published(row), row["input_size"]) == (row["params"], row["macs"])


def test_auxiliary_head_is_beside_the_cost():
    # torchvision 0.28.0: 27,161,264 parameters with the auxiliary head, which by the conventions do not count
    block = by_name("inception_v3", "torchvision")
    assert cost(block, (3, 299, 299)) == (23_834_568, 5_713_216_096)
    graph = nas.trace(block, (3, 299, 299))
    assert len(graph.outputs) == 2
    model = nas.build(graph, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 27_161_264
    small = nas.build(nas.trace(inception.inception_v3(0.05, 0.5, auxiliary=True, classes=4), (3, 80, 80)), seed=0)
    logits, auxiliary = small.train()(torch.randn(2, 3, 80, 80))
    assert logits.shape == auxiliary.shape == (2, 4)
    assert small.eval()(torch.randn(1, 3, 80, 80)).shape == (1, 4)


@pytest.mark.parametrize("name", SCALABLE)
def test_multipliers_of_width_and_depth(name):
    make, shape = SCALABLE[name]
    plain = cost(make(classes=10), shape)
    assert cost(make(), shape, classes=10) == plain
    small = cost(make(width=0.25, classes=10), shape)
    deep = cost(make(depth=2.0, classes=10), shape)
    assert small[0] < plain[0] < deep[0]
    assert small[1] < plain[1] < deep[1]
    for multipliers in ({"width": 0}, {"depth": -1.0}):
        with pytest.raises(InvalidInputError, match="multiplier"):
            make(**multipliers)


@pytest.mark.parametrize("name", SCALABLE)
def test_networks_run(name):
    make, shape = SCALABLE[name]
    model = nas.build(nas.trace(make(width=0.125, depth=0.5), shape, classes=10), seed=0)
    images = torch.randn(2, *shape)
    logits = model(images)
    assert logits.shape == (2, 10)
    logits.sum().backward()


def test_resnet_scales():
    plain = cost(resnet.resnet(50, classes=1000))
    assert plain == (25_557_032, 4_089_184_256)
    assert cost(resnet.resnet(50, width=0.5, classes=1000))[1] < plain[1] / 2
    assert cost(resnet.resnet(50, depth_multiplier=2.0, classes=1000))[1] > 1.8 * plain[1]
    grouped = resnet.Variant(groups=32, base_width=4)
    half = resnet.resnet(50, grouped, width=0.5, classes=1000)
    assert half.layers[2].blocks[0].mid == 64
    with pytest.raises(InvalidInputError, match="multiplier"):
        resnet.resnet(50, width=0)


def test_the_two_heads_of_vgg_agree_on_seven_by_seven_positions():
    heads = [vgg.VGGHead(8, convolutional, 0.0, 3) for convolutional in (True, False)]
    wide, narrow = (cost(head, (4, 7, 7)) for head in heads)
    assert wide == narrow
    wide, narrow = (cost(head, (4, 9, 8)) for head in heads)
    assert wide[0] == narrow[0]
    assert wide[1] > narrow[1]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: vgg.vgg(12), "16"),
        (lambda: densenet.densenet(120), "121"),
        (lambda: squeezenet.squeezenet("2_0"), "1_1"),
        (lambda: by_name("regnetx_003"), "002"),
    ],
)
def test_unknown_variants_name_the_known(make, text):
    with pytest.raises(UnknownNameError, match=text):
        make()


@pytest.mark.parametrize("make", [vgg.vgg, inception.inception_v3])
def test_images_that_are_too_small_are_refused(make):
    with pytest.raises(ShapeError, match="too small"):
        nas.trace(make(classes=10), (3, 16, 16))


def test_shuffle_unit_keeps_one_half():
    graph = nas.trace(ShuffleUnit(), (4, 3, 3))
    (value,) = run(graph, batch=1)
    assert tuple(value.shape[1:]) == (4, 3, 3)
    kinds = [node.operation.kind for node in graph.nodes]
    assert kinds.count("slice") == 2
    assert kinds[-1] == "shuffle"
    assert nas.trace(ShuffleUnit(8, stride=2), (4, 5, 6)).nodes[-1].shape == (8, 3, 3)
    with pytest.raises(InvalidInputError, match="even"):
        ShuffleUnit(7)
    with pytest.raises(ShapeError, match="even"):
        nas.trace(ShuffleUnit(), (5, 3, 3))
