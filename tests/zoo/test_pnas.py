"""PNAS: the space's size, PNASNet-5 in it, and the laws of spaces."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError
from nasturtium.graph import operations as ops
from nasturtium.space.lowering import lower
from nasturtium.zoo import pnas
from nasturtium.zoo.nasnet_notation import CELLS, architecture, network, official_form

(FAMILY,) = pnas.FAMILIES


def test_size_is_the_formula():
    cells = 1
    for b in range(1, 6):
        cells *= (b + 1) ** 2 * 8**2
    assert pnas.space().size == FAMILY.size == cells == 556_627_761_561_600
    assert pnas.space(blocks=1).size == 256  # the paper's first step


def test_one_block_cells_are_136_up_to_symmetry():
    # section 4.1: 256 cells of one block, 136 unique ones
    space = pnas.space(blocks=1, width=2, cells=3)
    unique = {
        frozenset(
            [
                (c["normal.blocks.0.first_hidden_state"], repr(c["normal.blocks.0.first_operation"])),
                (c["normal.blocks.0.second_hidden_state"], repr(c["normal.blocks.0.second_operation"])),
            ]
        )
        for c in (a.choices for a in space.enumerate())
    }
    assert len(unique) == 136


def test_hashes_see_that_symmetry():
    space = pnas.space(blocks=1, width=4, cells=3, operations=("separable_3x3_2", "none", "max_pool_3x3"))
    found: dict[frozenset, set[str]] = {}
    for a in space.enumerate():
        form = official_form(a)["normal"]
        halves = frozenset(zip(form["hiddenstate_indices"], form["operations"], strict=True))
        found.setdefault(halves, set()).add(nas.trace(a, (3, 8, 8), classes=2).canonical_hash)
    assert all(len(hashes) == 1 for hashes in found.values())
    assert len({next(iter(hashes)) for hashes in found.values()}) == len(found) == 6 * 7 // 2


def test_pnasnet_5_is_in_the_space():
    space = pnas.space(width=54, cells=9)
    chosen = architecture(CELLS["PNASNet-5"], space)
    assert official_form(chosen)["normal"] == {k: list(v) for k, v in CELLS["PNASNet-5"]["normal"].items()}
    block = replace(chosen.block, stem="imagenet", stem_width=32, padding="tf_same", classes=1000)
    graph = nas.trace(block, (3, 224, 224))
    # tensorflow/models slim, README: 5.1M parameters, 588M multiply-adds; to the unit in METHODS.md
    assert (graph.params, graph.macs) == (5_064_487, 587_293_200)
    published = nas.trace(
        network(CELLS["PNASNet-5"], number=9, width=54, stem="imagenet", padding="tf_same", classes=1000),
        (3, 224, 224),
    )
    assert graph.canonical_hash == published.canonical_hash


def test_the_output_is_an_option():
    chosen = pnas.space(output="unused", cells=3, width=4)
    with pytest.raises(InvalidArchitectureError, match="used_hiddenstates"):
        architecture(CELLS["PNASNet-5"], chosen)
    assert chosen.size == pnas.space().size


def test_there_is_one_cell_and_it_is_strided():
    space = pnas.space(cells=6, width=4)
    assert len(space.decisions) == 20
    graph = nas.trace(space.sample(random.Random(0)), (3, 32, 32), classes=10)
    outputs = [n for n in graph.nodes if n.path.endswith("cell_output.concat")]
    assert [n.shape[1] for n in outputs] == [32, 32, 16, 16, 8, 8]
    assert [n.shape[0] for n in outputs] == [20, 20, 40, 40, 80, 80]
    assert all(n.path.split(".")[1] == "normal" for n in outputs)


def test_laws_of_spaces():
    nas.testing.check_space(pnas.space(cells=3, width=4), samples=5)


def test_networks_run_and_the_space_is_lowered():
    space = pnas.space(cells=3, width=4, drop_path=0.1, auxiliary=True)
    graph = nas.trace(space.sample(random.Random(0)), (3, 32, 32), classes=10)
    assert any(isinstance(n.operation, ops.DropPath) for n in graph.nodes)
    logits, auxiliary = nas.build(graph, seed=0)(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert len(lower(pnas.space(cells=3, width=4), (3, 32, 32), classes=10).decisions) == 20


def test_the_timm_name(reference):
    row = next(r for r in json.loads(reference.read_text())["values"] if r["name"] == "pnasnet5large")
    graph = nas.trace(nas.zoo.by_name("pnasnet5large"), tuple(row["input_size"]))
    assert (graph.params, graph.macs) == (row["params"], row["macs"])
