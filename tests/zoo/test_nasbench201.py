"""NAS-Bench-201 against the authors' figures, and the canonical form on all of its cells."""

from __future__ import annotations

import json
import random
from itertools import product

import numpy as np
import pytest
import torch

from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.graph import CostModel, equivalent, trace
from nasturtium.space import Architecture
from nasturtium.zoo import nasbench201
from tests.graph.interpreter import run

NAMES = tuple(nasbench201.OPERATIONS)


def text_of(names) -> str:
    a, b, c, d, e, f = names
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


CELLS = [text_of(names) for names in product(NAMES, repeat=6)]


def test_reference_rows_to_the_unit(reference):
    rows = [r for r in json.loads(reference.read_text())["values"] if r["space"] == "NAS-Bench-201"]
    assert len(rows) >= 2
    for row in rows:
        graph = trace(nasbench201.published(row), tuple(row["input_size"]), classes=10)
        assert (graph.params, graph.macs) == (row["params"], row["macs"])


def test_the_authors_key_gives_6466():
    assert len(CELLS) == 15_625
    assert len({nasbench201.unique_string(text) for text in CELLS}) == nasbench201.UNIQUE_CELLS


def check_params(table, rows):
    sizes = [((3, 32, 32), 10), ((3, 32, 32), 100), ((3, 16, 16), 120)]
    models = [CostModel(size, classes=classes) for size, classes in sizes]
    for row in rows:
        network = nasbench201.network(str(table["arch_str"][row]))
        assert [model(network).params for model in models] == table["params"][row].tolist()


@pytest.fixture
def table(data_root):
    path = data_root / "nasbench201" / "nasbench201.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return dict(np.load(path, allow_pickle=False))


def test_params_of_sampled_cells(table):
    check_params(table, random.Random(0).sample(range(15_625), 300))


@pytest.mark.slow
def test_params_of_all_cells(table):
    check_params(table, range(15_625))


def test_space_is_the_benchmark():
    space = nasbench201.space()
    assert space.size == 15_625
    rng = random.Random(0)
    for _ in range(20):
        architecture = space.sample(rng)
        text = nasbench201.to_string(architecture)
        again = nasbench201.architecture(text, space)
        assert again == architecture
        assert nasbench201.to_string(nasbench201.network(text)) == text
        assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture
        assert trace(architecture, (3, 32, 32), classes=10).params == trace(again, (3, 32, 32), classes=10).params


def test_every_position_has_weights_of_its_own():
    graph = trace(nasbench201.network(text_of(["nor_conv_1x1"] * 6), width=4, cells=2), (3, 8, 8), classes=10)
    paths = [node.path for node in graph.nodes if node.operation.has_state]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    "text", ["", "|none~0|", "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", text_of(["none"] * 6)[:-8]]
)
def test_malformed_strings_are_refused(text):
    with pytest.raises(InvalidArchitectureError, match="is written"):
        nasbench201.parse(text)


def test_unknown_operations_are_named():
    with pytest.raises(UnknownNameError, match="nor_conv_3x3"):
        nasbench201.parse(text_of(["nor_conv_3x4"] + ["none"] * 5))


def cell_graph(text: str):
    return trace(nasbench201.network(text).cell, (2, 3, 3))


def check_law(texts) -> tuple[int, int, int]:
    """Equal hash means equal output under transported weights; returns cells, classes, and classes by output."""
    outputs: dict[str, torch.Tensor] = {}
    distinct: dict[bytes, str] = {}
    for text in texts:
        graph = cell_graph(text)
        (value,) = run(graph, batch=1)
        first = outputs.setdefault(graph.canonical_hash, value)
        assert torch.allclose(first, value, rtol=1e-10, atol=1e-10), text
        distinct.setdefault(np.round(value.numpy(), 7).tobytes(), graph.canonical_hash)
    return len(texts), len(outputs), len(distinct)


def test_equal_hash_means_equal_output_on_sampled_cells():
    cells, classes, _ = check_law(random.Random(0).sample(CELLS, 1500))
    assert classes < cells


def test_hash_agrees_with_isomorphism_on_sampled_cells():
    rng = random.Random(1)
    graphs = [cell_graph(text) for text in rng.sample(CELLS, 60)]
    for i, left in enumerate(graphs):
        for right in graphs[:i]:
            assert equivalent(left, right) == (left.canonical_hash == right.canonical_hash)


@pytest.mark.slow
def test_equal_hash_means_equal_output_on_all_cells():
    cells, classes, distinct = check_law(CELLS)
    print(f"{cells} cells, {classes} classes by canonical hash, {distinct} distinct outputs")
    assert 5000 < classes < 12_751


@pytest.mark.parametrize("size", [{"width": 0}, {"cells": 0}, {"cells": 1.5}])
def test_bad_sizes(size):
    for make in (lambda: nasbench201.network(CELLS[0], **size), lambda: nasbench201.space(**size)):
        with pytest.raises(InvalidInputError, match=next(iter(size))):
            make()


@pytest.mark.parametrize(
    ("name", "more", "classes"),
    [
        ("best CIFAR-10", {}, 10),
        ("best CIFAR-100", {}, 100),
        ("best", {"dataset": "ImageNet16-120"}, 120),
        ("best", {"dataset": "cifar100"}, 100),
        ("best", {"num_classes": 7}, 7),
    ],
)
def test_a_row_says_its_classes(name, more, classes):
    config = {"arch_str": CELLS[-1], "init_channels": 16, "cells_per_stage": 5, **more}
    assert nasbench201.published({"space": "NAS-Bench-201", "name": name, "config": config}).classes == classes
