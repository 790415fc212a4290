"""Auto-DeepLab against its published networks, its sizes, the authors' form, and the symmetries of its cells."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import product
from math import prod

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, UnknownNameError
from nasturtium.space.lowering import lower
from nasturtium.zoo import autodeeplab

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 33, 47), (3, 64, 64), (3, 224, 224), (3, 1, 1)]


def small(**options):
    return autodeeplab.space(**{"filters": 2, "layers": 4, "blocks": 2, **options})


def rows(reference):
    return [r for r in json.loads(reference.read_text())["values"] if r["space"] == "Auto-DeepLab"]


def test_reference_rows_to_the_unit(reference):
    found = rows(reference)
    assert len(found) == 6
    for row in found:
        graph = nas.trace(nas.zoo.published(row), row["input_size"] or (3, 65, 65))
        assert graph.params == row["params"], row["name"]
        assert row["macs"] in (None, graph.macs), row["name"]


def test_rows_of_the_same_form(reference):
    row = rows(reference)[0]
    deeper = {**row["config"], "backbone_levels": [*row["config"]["backbone_levels"], 1, 2], "filter_multiplier_F": 6}
    deeper |= {"decoder": "21-way 1x1 with bias", "stem": [8, 8, 16]}
    graph = nas.trace(nas.zoo.published({**row, "config": deeper}), (3, 64, 64))
    assert graph.nodes[graph.outputs[0].node].shape == (21, 64, 64)
    assert (
        graph.params == nas.trace(autodeeplab.network(deeper, filters=6, stem=(8, 8, 16), classes=21), (3, 9, 9)).params
    )
    with pytest.raises(InvalidInputError, match="hnasnet F=20"):
        nas.zoo.published({**row, "config": "hnasnet"})


def count_of_one_cell(names, inputs, width, channels, before, stride):
    """Parameters of a cell by the authors' rules, without the library."""
    norm, total = 2 * width, channels * width + 2 * width
    total += (before * width + 2 * width) if before != width else 0
    for name, source in zip(names, inputs, strict=True):
        kernel = 5 if "5x5" in name else 3
        if name.startswith("separable"):
            total += 2 * (kernel**2 * width + width**2 + norm)
        elif name.startswith("atrous"):
            total += kernel**2 * width**2 + norm
        elif name == "none" and stride == 2 and source < 2:
            total += width**2 + norm
    return total


@pytest.mark.parametrize("seed", range(12))
def test_backbones_count_by_the_authors_rules(seed):
    rng = random.Random(seed)
    space = autodeeplab.space(filters=rng.choice([3, 4, 16, 32]), layers=rng.choice([1, 5, 12]))
    found = space.sample(rng)
    config = autodeeplab.to_config(found)
    filters, levels = found.block.trellis.filters, config["backbone_levels"]
    blocks = len(config["cell_operations"]) // 2
    total = 3 * 9 * 64 + 64 * 9 * 64 + 64 * 9 * 128 + 2 * (64 + 64 + 128)
    widths, level = [64, 128], 0
    for new in levels:
        width = filters * 2**new
        total += count_of_one_cell(
            config["cell_operations"], config["hiddenstate_indices"], width, widths[-1], widths[-2], 1 + (new > level)
        )
        widths.append(blocks * width)
        level = new
    for shape in ((3, 64, 64), (3, 7, 7)):
        assert nas.trace(replace(found.block, head=None), shape).params == total


# Sizes


def test_sizes(reference):
    counts = json.loads(reference.read_text())["cardinalities"]
    cells, paths = counts["autodeeplab_cell"], counts["autodeeplab_paths_11_transitions"]
    assert cells == prod(i**2 * 64 for i in (2, 3, 4, 5, 6))
    assert autodeeplab.space().size == cells * paths == nas.zoo.family("autodeeplab").size
    assert autodeeplab.space(layers=1).size == cells
    assert autodeeplab.space(free_start=True).size == cells * counts["autodeeplab_paths_12_free_layers"]
    assert small().size == (2 * 3) ** 2 * 8**4 * 13


def test_small_space_is_enumerated():
    space = small(blocks=1, layers=2)
    found = list(space.enumerate())
    assert len(found) == len(set(found)) == space.size == 2 * 2 * 64 * 2
    assert {a.block.trellis.path for a in found} == {(4, 4), (4, 8)}


def test_laws_of_the_space():
    nas.testing.check_space(autodeeplab.space(filters=2), samples=5)
    nas.testing.check_space(small(blocks=1, layers=2, free_start=True), samples=5)


def test_names_of_decisions():
    names = [d.name for d in autodeeplab.space().decisions]
    assert len(names) == 21
    assert {"path", "cell.blocks.0.first_input", "cell.blocks.4.second"} <= set(names)


# The authors' form


def test_authors_form_round_trip():
    assert autodeeplab.to_config(autodeeplab.network()) == autodeeplab.PUBLISHED
    space = autodeeplab.space()
    rng = random.Random(0)
    for _ in range(20):
        found = space.sample(rng)
        assert autodeeplab.architecture(autodeeplab.to_config(found), space) == found
    published = autodeeplab.architecture(autodeeplab.PUBLISHED, autodeeplab.space(filters=20))
    assert published.block == autodeeplab.network()
    free = autodeeplab.space(free_start=True)
    found = autodeeplab.architecture({**autodeeplab.PUBLISHED, "backbone_levels": [1] * 12}, free)
    assert autodeeplab.to_config(found)["backbone_levels"] == [1] * 12


def test_authors_form_of_other_cells():
    config = {
        "backbone_levels": [1, 2],
        "cell_operations": ["separable_7x7_1", "avg_pool_5x5", "max_pool_3x3", "zero"],
        "hiddenstate_indices": [0, 1, 2, 2],
        "used_hiddenstates": [1, 1, 1, 0],
    }
    network = autodeeplab.network(config, filters=4, classes=3)
    assert autodeeplab.to_config(network) == config
    graph = nas.trace(network, (3, 40, 40))
    assert graph.nodes[graph.outputs[0].node].shape == (3, 40, 40)
    with pytest.raises(InvalidArchitectureError, match="concatenate all"):
        autodeeplab.architecture(config, autodeeplab.space(layers=2, blocks=2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cell_operations": ["conv9"] * 10}, UnknownNameError, "Auto-DeepLab operation 'conv9'"),
        ({"cell_operations": ["atrous_4x4"] * 10}, UnknownNameError, "atrous_4x4"),
        ({"cell_operations": ["separable_3x3"] * 10}, UnknownNameError, "separable_3x3"),
        ({"cell_operations": ["none"] * 9}, InvalidArchitectureError, "two entries for each block"),
        ({"hiddenstate_indices": [2, 0, 1, 0, 3, 1, 4, 2, 3, 5]}, InvalidArchitectureError, "`first_input` of block 0"),
        ({"backbone_levels": [0, 2]}, InvalidArchitectureError, "half the one before"),
        ({"used_hiddenstates": [1, 1, 0]}, InvalidArchitectureError, "each of 7 states"),
    ],
)
def test_malformed_forms_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        autodeeplab.network({**autodeeplab.PUBLISHED, **change})


def test_what_is_no_autodeeplab_is_refused():
    with pytest.raises(InvalidArchitectureError, match="closed Auto-DeepLab"):
        autodeeplab.to_config(nas.Conv(3))
    with pytest.raises(InvalidArchitectureError, match="closed Auto-DeepLab"):
        autodeeplab.to_config(autodeeplab.space().block)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (64,)}, "channels, height, width"),
        ({"strides": (4, 16)}, "begin with 4 and double"),
        ({"strides": (8, 16)}, "begin with 4 and double"),
        ({"blocks": 0}, "at least 1"),
        ({"filters": 0}, "at least 1"),
        ({"layers": 0}, "length >= 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        autodeeplab.space(**options)


def test_vectors_are_refused():
    with pytest.raises(ShapeError, match="takes an image"):
        nas.trace(autodeeplab.network(filters=2), (64,), classes=3)


# Networks


@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_gives_logits_for_each_pixel(shape):
    found = small(drop_path=0.1).sample(random.Random(shape[1]))
    graph = nas.trace(found, shape, classes=5)
    cost = nas.cost(found, shape, classes=5)
    assert (cost.params, cost.macs, cost.outputs) == (graph.params, graph.macs, ((5, *shape[1:]),))
    if shape[1] < 100:
        model = nas.build(graph, seed=0)
        logits = model(torch.randn(2, *shape))
        assert logits.shape == (2, 5, *shape[1:])
        logits.square().mean().backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def swapped(block, number):
    blocks = list(block.trellis.cell.blocks)
    b = blocks[number]
    blocks[number] = autodeeplab.CellBlock(b.second_input, b.second, b.first_input, b.first)
    return replace(block, trellis=replace(block.trellis, cell=autodeeplab.AutoDeepLabCell(tuple(blocks))))


def hash_of(block):
    return nas.trace(block, (3, 64, 64), classes=5).canonical_hash


def test_equal_networks_have_one_hash():
    space, rng = small(), random.Random(1)
    for _ in range(10):
        found = space.sample(rng)
        assert hash_of(found.block) == hash_of(swapped(found.block, 0)) == hash_of(swapped(found.block, 1))
    config = autodeeplab.to_config(found)
    missing = {**config, "cell_operations": ["zero", *config["cell_operations"][1:]]}
    hashes = {
        hash_of(autodeeplab.network({**missing, "hiddenstate_indices": [i, *config["hiddenstate_indices"][1:]]}))
        for i in (0, 1)
    }
    assert len(hashes) == 1


def test_different_networks_have_different_hashes():
    base = autodeeplab.PUBLISHED
    names = list(autodeeplab.OPERATIONS)
    changed = [
        base,
        *({**base, "cell_operations": [n, *base["cell_operations"][1:]]} for n in names if n != "atrous_5x5"),
    ]
    changed += [
        {**base, "hiddenstate_indices": [0, *base["hiddenstate_indices"][1:]]},
        {**base, "backbone_levels": [*base["backbone_levels"][:-1], 2]},
    ]
    assert len({hash_of(autodeeplab.network(c, filters=4)) for c in changed}) == len(changed)


def test_operations_in_both_strides():
    for name, level in product(autodeeplab.OPERATIONS, (0, 1)):
        config = {"backbone_levels": [level], "cell_operations": [name, name], "hiddenstate_indices": [0, 1]}
        graph = nas.trace(autodeeplab.network(config, filters=4, head=False), (3, 36, 52))
        assert graph.nodes[graph.outputs[0].node].shape == (4 * 2**level, 9 - 4 * level, 13 - 6 * level)


def test_a_small_space_is_lowered():
    space = small(layers=2, blocks=1)
    graph = lower(space, (3, 32, 32), classes=5)
    assert len(graph.decisions) == 5
