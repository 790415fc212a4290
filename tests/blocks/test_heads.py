"""Heads of dense prediction, trellises and pyramids: shapes, costs in closed form, tied weights, numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import nasturtium as nas
from nasturtium.blocks.conv import Conv
from nasturtium.blocks.heads import ASPP, DeepLabDecoder, DeepLabHead, Laterals, PixelClassifier, retinanet_head
from nasturtium.blocks.pyramid import (
    BlankFeatures,
    Detector,
    Features,
    Merge,
    MergeAttention,
    MergeSum,
    MergingPyramid,
    PyramidStack,
    backbone_features,
)
from nasturtium.blocks.trellis import Pool, Separable, Trellis
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError
from nasturtium.zoo.mobilenetv2 import mobilenetv2
from nasturtium.zoo.resnet import resnet


def shapes(block, inputs, **context):
    graph = nas.trace(block, inputs, **context)
    return {o.name: graph.nodes[o.node].shape for o in graph.outputs}


class Packed(nas.Block):
    """A block that takes a dict, on inputs given one by one."""

    inner: nas.Block
    first: int = 3

    def forward(self, *xs):
        return self.inner({f"P{self.first + i}": x for i, x in enumerate(xs)})


# Segmentation


@pytest.mark.parametrize("shape", [(40, 1, 1), (40, 9, 14), (7, 33, 65)])
@pytest.mark.parametrize("rates", [(), (6, 12, 18)])
@pytest.mark.parametrize("pooled", [False, True])
def test_aspp_costs(shape, rates, pooled):
    graph = nas.trace(ASPP(16, rates, pooled), shape)
    channels, positions = shape[0], shape[1] * shape[2]
    branches = 1 + len(rates) + pooled
    weights = channels * 16 * (1 + 9 * len(rates)) + branches * 16 * 16
    assert graph.params == weights + channels * 16 * pooled + (branches + 1) * 32
    assert graph.macs == weights * positions + channels * 16 * pooled
    assert graph.nodes[-1].shape == (16, *shape[1:])


def test_decoder_works_at_the_fine_size():
    graph = nas.trace(DeepLabDecoder(16, 5), ((32, 3, 4), (20, 11, 13)))
    assert graph.nodes[-1].shape == (16, 11, 13)
    assert graph.params == 20 * 5 + 10 + 9 * 16 * (37 + 16) + 64


@pytest.mark.parametrize("size", [(40, 40), (33, 47), (1, 1)])
def test_head_gives_logits_of_the_images_size(size):
    class Head(nas.Block):
        inner: nas.Block

        def forward(self, x, fine):
            return self.inner(x, fine, size)

    block = Head(DeepLabHead(ASPP(8), DeepLabDecoder(8, 4)))
    assert shapes(block, ((16, 2, 2), (12, 10, 10)), classes=19) == {"output": (19, *size)}


def test_classifier_takes_classes_from_the_task_or_its_field():
    assert shapes(PixelClassifier(), (8, 5, 5), classes=3) == {"output": (3, 5, 5)}
    graph = nas.trace(PixelClassifier(7), (8, 5, 5))
    assert (graph.params, graph.macs) == (63, 8 * 7 * 25)


# Trellis


class Widen(nas.Block):
    """A cell of one convolution, which records nothing but its arguments' effect."""

    def forward(self, x, before, width, stride, drop_path):
        return nas.ops.drop_path(nas.ops.conv(x, width, 3, stride=stride), drop_path)


def outline(path, shape=(8, 9, 15), **fields):
    graph = nas.trace(Trellis(Widen(), path, 8, **fields), (shape, shape))
    return [n.shape for n in graph.nodes if n.path.endswith(".conv")], graph


def test_layers_follow_the_path_at_any_size():
    found, graph = outline((4, 8, 16, 8, 4))
    assert found == [(8, 9, 15), (16, 5, 8), (32, 3, 4), (16, 5, 8), (8, 9, 15)]
    assert graph.nodes[graph.outputs[1].node].path.startswith("layers.0")


def test_fine_features_are_the_last_before_the_path_leaves():
    _, graph = outline((4, 4, 8, 4))
    assert graph.nodes[graph.outputs[1].node].path.startswith("layers.1")
    _, graph = outline((8, 8))
    assert graph.outputs[1].node == 0  # the input


def test_drop_path_grows_with_the_layer():
    _, graph = outline((4, 8), drop_path=0.4)
    rates = [n.operation.rate for n in graph.nodes if n.operation.kind == "drop_path"]
    assert rates == [0.2, 0.4]


@pytest.mark.parametrize("path", [(4, 16), (16,), (2, 4), (4, 6), (4, 0)])
def test_trellis_refuses_leaps(path):
    with pytest.raises(InvalidArchitectureError, match="half the one before"):
        Trellis(Widen(), path, 8)


def test_path_from_the_input():
    assert outline((4, 8, 8), from_input=True)[0] == [(16, 5, 8), (16, 5, 8)]
    with pytest.raises(InvalidArchitectureError):
        Trellis(Widen(), (8, 8), 8, from_input=True)


def test_separable_counts():
    graph = nas.trace(Separable(5, 2), (12, 8, 8))
    assert graph.params == 2 * (25 * 12 + 144 + 24)


def test_pool_refuses_other_functions():
    with pytest.raises(InvalidInputError, match="'avg' or 'max', got 'median'"):
        Pool("median")


# Detection


def test_laterals_begin_a_pyramid():
    block = Packed(Laterals(16))
    assert shapes(block, ((4, 9, 5), (8, 5, 3), (16, 3, 2))) == {
        "P3": (16, 9, 5), "P4": (16, 5, 3), "P5": (16, 3, 2), "P6": (16, 2, 1), "P7": (16, 1, 1),
    }  # fmt: skip
    assert nas.trace(block, ((4, 9, 5), (8, 5, 3), (16, 3, 2))).params == 28 * 16 + 3 * 48
    with pytest.raises(ShapeError, match="got 6"):
        nas.trace(block, ((4, 1, 1),) * 6)


def test_retinanet_head_ties_convolutions_not_norms():
    graph = nas.trace(Packed(retinanet_head(3, anchors=2, convs=2, width=8)), ((8, 6, 6), (8, 3, 3)))
    tower = 2 * (8 * 8 * 9 + 8) + 2 * 2 * 16
    assert graph.params == 2 * tower + (6 + 8) * (8 * 9 + 1)
    assert graph.macs == (36 + 9) * 9 * 8 * (4 * 8 + 6 + 8)
    assert [(o.name, graph.nodes[o.node].shape) for o in graph.outputs] == [
        ("classes.P3", (6, 6, 6)), ("classes.P4", (6, 3, 3)), ("boxes.P3", (8, 6, 6)), ("boxes.P4", (8, 3, 3)),
    ]  # fmt: skip
    model = nas.build(graph, seed=0)
    assert sum(p.numel() for p in model.parameters()) == graph.params
    with pytest.raises(InvalidInputError, match="at least 1 anchor"):
        retinanet_head(anchors=0)


def test_head_takes_classes_from_the_task():
    found = shapes(Packed(retinanet_head(convs=0)), ((4, 2, 2),), classes=5)
    assert found == {"classes.P3": (45, 2, 2), "boxes.P3": (36, 2, 2)}


def test_blank_features_cost_nothing():
    graph = nas.trace(BlankFeatures((5, 6)), (3, 33, 47))
    assert (graph.params, graph.macs, graph.activations) == (0, 0, 0)
    assert [graph.nodes[o.node].shape for o in graph.outputs] == [(5, 5, 6), (6, 3, 3)]


def test_backbones_of_classifiers():
    assert shapes(backbone_features(resnet(50)), (3, 96, 64)) == {
        "C3": (512, 12, 8), "C4": (1024, 6, 4), "C5": (2048, 3, 2),
    }  # fmt: skip
    assert nas.trace(backbone_features(resnet(50)), (3, 64, 64)).params == 23_508_032
    mobile = shapes(backbone_features(mobilenetv2(), strides=(4, 8, 16, 32)), (3, 64, 64))
    assert [(name, s[1]) for name, s in mobile.items()] == [("C2", 16), ("C3", 8), ("C4", 4), ("C5", 2)]
    with pytest.raises(InvalidInputError, match="stride 64"):
        backbone_features(resnet(18), strides=(64,))
    with pytest.raises(InvalidInputError, match="open network"):
        backbone_features(nas.Sequential(nas.Conv(nas.one_of(8, 16))))
    with pytest.raises(InvalidInputError, match="increasing"):
        Features((nas.Conv(8),), (1,))


def test_features_may_be_open():
    layers = (nas.Conv(nas.one_of(8, 16), stride=2), nas.Conv(16, stride=2))
    space = nas.Space(Features(layers, (0, 1), first_level=1))
    assert [shapes(a, (3, 8, 8)) for a in space.enumerate()] == [
        {"C1": (8, 4, 4), "C2": (16, 2, 2)}, {"C1": (16, 4, 4), "C2": (16, 2, 2)},
    ]  # fmt: skip


def reference_pyramid(features, merges, outputs, levels, weights):
    """The authors' algorithm, step by step; `weights(i)` are a cell's convolution and norm."""
    feats, at, read = list(features), list(levels), [0] * len(features)
    first = len(merges) - len(levels)
    for i, (level, operation, (a, b)) in enumerate(merges):
        level = level if i < first else outputs[i - first]
        size = features[levels.index(level)].shape[2:]
        nodes = []
        for j in (a, b):
            read[j] += 1
            x = feats[j]
            if at[j] < level:
                step = 2 ** (level - at[j])
                x = F.max_pool2d(x, step, step, ceil_mode=True)
            elif at[j] > level:
                x = F.interpolate(x, size=size, mode="nearest")
            nodes.append(x)
        if operation == "sum":
            new = nodes[0] + nodes[1]
        else:
            coarse, fine = nodes if at[a] >= at[b] else nodes[::-1]
            new = coarse + fine * torch.sigmoid(coarse.amax((2, 3), keepdim=True))
        if i >= first:
            for j, feature in enumerate(feats):
                if read[j] == 0 and at[j] == level:
                    read[j] += 1
                    new = new + feature
        feats.append(weights(i)(F.relu(new)))
        at.append(level)
        read.append(0)
    return {f"P{at[j]}": feats[j] for j in range(len(feats) - len(levels), len(feats))}


MERGES = (
    (4, "attention", (0, 2)), (5, "sum", (0, 3)), (None, "attention", (0, 1)), (None, "sum", (3, 5)),
    (None, "attention", (2, 6)),
)  # fmt: skip


def pyramid(merges=MERGES, outputs=(3, 5, 4), levels=(3, 4, 5)):
    operations = {"sum": MergeSum(), "attention": MergeAttention()}
    return MergingPyramid(tuple(Merge(i, operations[o], level) for level, o, i in merges), outputs, levels)


def test_pyramid_equals_the_authors_algorithm():
    block = pyramid()
    inputs = ((6, 9, 13), (6, 5, 7), (6, 3, 4))
    model = nas.build(nas.trace(Packed(block), inputs), seed=3).eval()
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(2, *shape, generator=generator) for shape in inputs]
    state = model.state_dict()

    def weights(i):
        def run(x):
            at = f"inner.merges.{i}"
            return F.batch_norm(
                F.conv2d(x, state[f"{at}.conv.weight"], state[f"{at}.conv.bias"], padding=1),
                state[f"{at}.norm.running_mean"],
                state[f"{at}.norm.running_var"],
                state[f"{at}.norm.weight"],
                state[f"{at}.norm.bias"],
                eps=1e-4,
            )

        return run

    with torch.no_grad():
        expected = reference_pyramid(xs, MERGES, (3, 5, 4), [3, 4, 5], weights)
        found = model(*xs)
    assert list(found) == ["P3", "P4", "P5"]
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value)


@pytest.mark.parametrize(
    ("merges", "outputs", "message"),
    [
        (MERGES, (3, 5, 5), "each of the levels"),
        (MERGES[:2], (3, 5, 4), "at least as many"),
        (((None, "sum", (0, 1)), *MERGES[1:]), (3, 5, 4), "which is no output"),
        (((6, "sum", (0, 1)), *MERGES[1:]), (3, 5, 4), "which is no output"),
        (((4, "sum", (0, 3)), *MERGES[1:]), (3, 5, 4), "two different features of the 3"),
        (((4, "sum", (1, 1)), *MERGES[1:]), (3, 5, 4), "two different features"),
    ],
)
def test_pyramid_refuses(merges, outputs, message):
    with pytest.raises(InvalidArchitectureError, match=message):
        pyramid(merges, outputs)


def detector(repeats=3, every=False, head=True):
    stack = PyramidStack(pyramid(), Laterals(8, (3, 4, 5)), repeats, every)
    layers = (Conv(8, stride=8), Conv(12, stride=2), Conv(16, stride=2))
    return Detector(Features(layers, (0, 1, 2)), stack, retinanet_head(3, convs=1, width=8) if head else None)


def test_every_prefix_of_a_stack_has_its_weights():
    full = {n.path for n in nas.trace(detector(3), (3, 64, 64)).nodes}
    for repeats in (1, 2):
        assert {n.path for n in nas.trace(detector(repeats), (3, 64, 64)).nodes} < full
    with pytest.raises(InvalidInputError, match="at least 1"):
        PyramidStack(pyramid(), repeats=0)


def test_repeats_have_weights_of_their_own():
    counts = [nas.trace(detector(repeats, head=False), (3, 64, 64)).params for repeats in (1, 2, 3)]
    assert counts[2] - counts[1] == counts[1] - counts[0] == 5 * (9 * 64 + 8 + 16)


@pytest.mark.parametrize("head", [False, True])
def test_deep_supervision_is_for_training_only(head):
    plain, deep = (nas.trace(detector(3, every, head), (3, 64, 64)) for every in (False, True))
    assert (plain.params, plain.macs) == (deep.params, deep.macs)
    cost = nas.cost(detector(3, True, head), (3, 64, 64))
    assert (cost.params, cost.macs) == (plain.params, plain.macs)
    model = nas.build(deep, seed=0)
    x = torch.randn(2, 3, 64, 64)
    outputs = model(x)
    assert len(outputs["repeats"]) == 2
    assert list(outputs["repeats"][0]) == [key for key in outputs if key != "repeats"]
    model.eval()
    assert "repeats" not in model(x)
