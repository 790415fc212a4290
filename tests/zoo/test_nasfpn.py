"""NAS-FPN against its published networks, its size, the authors' form, and the symmetries of its merging cells."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from math import comb, factorial, prod

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.pyramid import Detector, Features, MergeAttention, backbone_features
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, UnknownNameError
from nasturtium.space.lowering import lower
from nasturtium.zoo import nasfpn
from nasturtium.zoo.mobilenetv2 import mobilenetv2
from nasturtium.zoo.resnet import resnet

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 33, 47), (3, 64, 64), (3, 224, 224), (3, 1, 1)]
STAGES = Features((nas.Conv(8, stride=8), nas.Conv(12, stride=2), nas.Conv(16, stride=2)), (0, 1, 2))


def small(**options):
    return nasfpn.space(**{"backbone": STAGES, "width": 4, "repeats": 2, **options})


def rows(reference):
    return [r for r in json.loads(reference.read_text())["values"] if r["space"] == "NAS-FPN"]


def test_reference_rows_to_the_unit(reference):
    found = rows(reference)
    assert len(found) == 6
    for row in found:
        graph = nas.trace(nas.zoo.published(row), row["input_size"])
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("channels", [8, 192])
@pytest.mark.parametrize("inside", [(512, 1024, 2048), (7, 9, 11), (40, 112)])
def test_necks_count_by_the_authors_rules(reference, repeats, channels, inside):
    (row,) = [r for r in rows(reference) if r["name"] == "NAS-FPN neck 7@256"]
    config = {**row["config"], "repeats": repeats, "channels": channels, "in_channels": inside}
    graph = nas.trace(nas.zoo.published({**row, "config": config}), (3, 640, 384))
    cell = 9 * channels**2
    assert graph.params == sum(inside) * channels + 3 * len(inside) * channels + 7 * repeats * (cell + 3 * channels)
    positions = {level: (640 >> level) * (384 >> level) for level in range(3, 8)}
    laterals = sum(width * positions[3 + i] for i, width in enumerate(inside)) * channels
    assert graph.macs == laterals + repeats * cell * sum(positions[spec[0]] for spec in nasfpn.PUBLISHED)


@pytest.mark.parametrize(("name", "depth"), [("RetinaNet R101 NAS-FPN 3x64", 101), ("some detector", 50)])
def test_detectors_of_other_backbones_and_classes(reference, name, depth):
    (row,) = [r for r in rows(reference) if "num_classes" in r["config"]]
    config = {**row["config"], "repeats": 3, "channels": 64, "num_classes": 21, "anchors": 3}
    graph = nas.trace(nas.zoo.published({**row, "name": name, "config": config}), (3, 128, 128))
    backbone = nas.trace(resnet(depth, classes=1000), (3, 64, 64)).params - 2_049_000
    conv = 9 * 64 * 64 + 64
    neck = 3584 * 64 + 3 * 192 + 21 * (conv + 128)
    heads = 2 * 4 * (conv + 5 * 128) + (9 * 64 + 1) * 3 * (21 + 4)
    assert graph.params == backbone + neck + heads
    assert graph.nodes[graph.outputs[0].node].shape == (63, 16, 16)


# Size


def test_size():
    size = prod(comb(5 + i, 2) * 5 * 2 for i in (0, 1)) * prod(comb(5 + i, 2) * 2 for i in range(2, 7)) * factorial(5)
    assert nasfpn.space().size == size == nas.zoo.family("nasfpn").size == 3_017_710_080_000_000
    assert nasfpn.space(repeats=nas.int_range(1, 7)).size == 7 * size


def test_small_space_is_enumerated():
    space = small(levels=(4, 5), intermediate=1, backbone=backbone_features(resnet(10), strides=(16, 32)))
    found = list(space.enumerate())
    assert len(found) == len(set(found)) == space.size == (1 * 2 * 2) * (3 * 2) * (6 * 2) * 2


def test_laws_of_the_space():
    nas.testing.check_space(small(repeats=nas.int_range(1, 3)), samples=5)


# The authors' form


def test_authors_form_round_trip():
    def plain(specs):
        return [[level, name, list(inputs), output] for level, name, inputs, output in specs]

    assert nasfpn.to_specs(nasfpn.from_specs(nasfpn.PUBLISHED)) == plain(nasfpn.PUBLISHED)
    assert nasfpn.to_specs(nasfpn.nas_fpn(STAGES)) == plain(nasfpn.PUBLISHED)
    space = small()
    rng = random.Random(0)
    for _ in range(20):
        found = space.sample(rng)
        assert nasfpn.architecture(nasfpn.to_specs(found), space) == found
    assert nasfpn.to_specs(nasfpn.architecture(nasfpn.PUBLISHED, space)) == plain(nasfpn.PUBLISHED)
    deep = small(repeats=nas.int_range(1, 7))
    (name,) = [d.name for d in deep.decisions if "repeats" in d.name]
    assert nasfpn.architecture(nasfpn.PUBLISHED, deep, **{name: 5}).block.neck.repeats == 5


def test_inputs_in_any_order():
    specs = [[4, "attention", [3, 1], False], *nasfpn.PUBLISHED[1:]]
    assert nasfpn.to_specs(nasfpn.from_specs(specs))[0][2] == [3, 1]
    assert nasfpn.to_specs(nasfpn.architecture(specs, small()))[0][2] == [1, 3]


@pytest.mark.parametrize(
    ("number", "spec", "error", "message"),
    [
        (0, (4, "max", (1, 3), False), UnknownNameError, "NAS-FPN operation 'max'"),
        (0, (4, "sum", (1, 3), True), InvalidArchitectureError, "are the outputs, and no other"),
        (6, (6, "sum", (1, 3), False), InvalidArchitectureError, "are the outputs, and no other"),
        (6, (7, "sum", (1, 3), True), InvalidArchitectureError, "each of the levels"),
        (0, (4, "sum", (1, 5), False), InvalidArchitectureError, "two different features of the 5"),
        (0, (2, "sum", (1, 3), False), InvalidArchitectureError, "which is no output"),
    ],
)
def test_malformed_forms_are_refused(number, spec, error, message):
    specs = list(nasfpn.PUBLISHED)
    specs[number] = spec
    with pytest.raises(error, match=message):
        nasfpn.from_specs(specs)


def test_what_is_no_nasfpn_is_refused():
    with pytest.raises(InvalidArchitectureError, match="closed NAS-FPN"):
        nasfpn.to_specs(nas.Conv(3))
    with pytest.raises(InvalidArchitectureError, match="closed NAS-FPN"):
        nasfpn.to_specs(small().block)
    with pytest.raises(InvalidInputError, match="NAS-FPN space"):
        nasfpn.architecture(nasfpn.PUBLISHED, nas.Space(nas.Conv(nas.one_of(1, 2))))
    with pytest.raises(InvalidInputError, match="channels, height, width"):
        nasfpn.space((64,))
    with pytest.raises(ShapeError, match="takes an image"):
        nas.trace(nasfpn.nas_fpn(STAGES), (64,), classes=3)


# Networks


def nodes_of(graph, path):
    return [n for n in graph.nodes if n.path.startswith(path)]


def test_published_architecture_is_wired_as_the_authors():
    graph = nas.trace(nasfpn.nas_fpn(STAGES, width=8, repeats=2), (3, 256, 256), classes=3)
    for repeat in range(2):
        at = f"neck.repeats.{repeat}.pyramid.merges"
        added = {i: n for i in range(7) for n in nodes_of(graph, f"{at}.{i}.dangling")}
        assert sorted(added) == [4, 5]  # P5 and P7 of the pyramid below, which no cell reads
        first = [n for n in nodes_of(graph, f"{at}.0.") if n.operation.kind in ("resize", "max_pool", "global_pool")]
        assert [n.operation.kind for n in first] == ["resize", "global_pool"]  # P6, the coarser one, gates P4
        assert graph.nodes[first[1].inputs[0]] is first[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_size(shape):
    found = small().sample(random.Random(shape[1]))
    graph = nas.trace(found, shape, classes=5)
    cost = nas.cost(found, shape, classes=5)
    assert (cost.params, cost.macs) == (graph.params, graph.macs)
    sizes = [tuple(-(-extent // 2**level) for extent in shape[1:]) for level in range(3, 8)]
    assert cost.outputs == (*[(45, *size) for size in sizes], *[(36, *size) for size in sizes])
    if shape[1] < 100:
        model = nas.build(graph, seed=0)
        outputs = model(torch.randn(2, *shape))
        sum(x.square().mean() for part in outputs.values() for x in part.values()).backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("backbone", [backbone_features(mobilenetv2(0.25)), nasfpn.resnet_features(18)])
def test_any_backbone(backbone):
    graph = nas.trace(nasfpn.nas_fpn(backbone, width=8, repeats=1), (3, 64, 64), classes=2)
    assert len(graph.outputs) == 10


def test_levels_of_another_pyramid():
    space = small(levels=(3, 4, 5), intermediate=1)
    graph = nas.trace(space.sample(random.Random(0)), (3, 64, 64), classes=2)
    assert [o.name for o in graph.outputs] == [f"{part}.P{i}" for part in ("classes", "boxes") for i in (3, 4, 5)]


def hash_of(specs, levels=nasfpn.LEVELS):
    block = nasfpn.nas_fpn(STAGES, nasfpn.from_specs(specs, levels), width=4, repeats=2)
    return nas.trace(block, (3, 256, 256), classes=2).canonical_hash


def test_equal_networks_have_one_hash():
    base = [list(spec) for spec in nasfpn.PUBLISHED]
    turned = [[level, name, inputs[::-1], output] for level, name, inputs, output in base]
    independent = [
        [4, "sum", [0, 1], True], [3, "sum", [0, 1], True], [5, "sum", [0, 2], True],
    ]  # fmt: skip
    other = [independent[1], independent[0], independent[2]]
    assert hash_of(base) == hash_of(turned)
    assert hash_of(independent, (3, 4, 5)) == hash_of(other, (3, 4, 5))


def test_different_networks_have_different_hashes():
    base = list(nasfpn.PUBLISHED)
    changed = [
        base,
        [(4, "sum", (1, 3), False), *base[1:]],
        [(5, "attention", (1, 3), False), *base[1:]],
        [(4, "attention", (1, 2), False), *base[1:]],
        [*base[:5], (6, "attention", (6, 9), True), (7, "attention", (9, 10), True)],
    ]
    tie = (4, "attention", (1, 5), False), (4, "attention", (5, 1), False)  # both at one level: the first one gates
    changed += [[base[0], each, *base[2:]] for each in tie]
    assert len({hash_of(specs) for specs in changed}) == len(changed)


def test_operations_may_be_the_users_own():
    class Mean(nas.Block):
        def forward(self, coarse, fine):
            return nas.ops.conv(coarse + fine, coarse.channels, 1)

    pyramid = nasfpn.from_specs(nasfpn.PUBLISHED)
    merges = tuple(replace(m, operation=nas.one_of(Mean(), MergeAttention())) for m in pyramid.merges)
    space = nas.Space(nasfpn.nas_fpn(STAGES, replace(pyramid, merges=merges), width=4, repeats=1))
    assert space.size == 2**7
    assert nas.trace(space.sample(random.Random(0)), (3, 64, 64), classes=2).params > 0


def test_a_small_space_is_lowered():
    space = small(levels=(3, 4), intermediate=0, backbone=Features(STAGES.layers[:2], (0, 1)))
    assert isinstance(space.block, Detector)
    graph = lower(space, (3, 32, 32), classes=2)
    assert len(graph.decisions) == 5
    assert len(graph.outputs) == 4
    with pytest.raises(nas.errors.TraceError, match="more than 400 variants"):
        lower(small(levels=(3, 4, 5), intermediate=0), (3, 32, 32), classes=2)
