"""NAS-Bench-101 against every row of a published part of it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from nasturtium.errors import InvalidArchitectureError, InvalidInputError, SizeUnknownError, UnknownNameError
from nasturtium.graph import CostModel, trace
from nasturtium.zoo import nasbench101
from nasturtium.zoo.published import published

CHAIN = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def load(data_root, name):
    path = data_root / "nasbench101" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return dict(np.load(path, allow_pickle=False))


@pytest.fixture
def table(data_root):
    return load(data_root, "nasbench101_20k.npz")


def cell(table, row):
    return nasbench101.from_codes(table["adjacency"][row], table["ops"][row], int(table["n_vertices"][row]))


def check_params(table, rows):
    model = CostModel((3, 32, 32), classes=10)
    for row in rows:
        assert model(nasbench101.network(*cell(table, row))).params == table["params"][row]


def test_names_are_in_the_tables_order(table):
    assert tuple(table["op_names"].tolist()) == nasbench101.OPERATIONS


def test_hash_of_every_row(table):
    for row in range(len(table["module_hash"])):
        assert nasbench101.module_hash(*cell(table, row)) == table["module_hash"][row]


def test_params_of_sampled_rows(table):
    check_params(table, random.Random(0).sample(range(len(table["params"])), 500))


@pytest.mark.slow
def test_params_of_every_row(table):
    check_params(table, range(len(table["params"])))


def energy_cell(table, row):
    """Official nasbench vertex codes: 1 input, 5 output; the rest by name."""
    codes = table["node_codes"][row]
    kept = [v for v in range(7) if codes[v]]
    names = [str(table["node_names"][code]) for code in codes]
    matrix = [[int(table["adjacency"][row][u][v]) for v in kept] for u in kept]
    return matrix, [names[v] for v in kept[1:-1]]


def test_params_of_the_energy_table(data_root):
    table = load(data_root, "nasbench101_energy_4310.npz")
    model = CostModel((3, 32, 32), classes=10)
    for row in random.Random(0).sample(range(len(table["params"])), 300):
        matrix, names = energy_cell(table, row)
        names = [name if name.endswith("relu") or name.startswith("max") else f"{name}-bn-relu" for name in names]
        assert model(nasbench101.network(matrix, names)).params == table["params"][row]


def test_hash_does_not_depend_on_the_order_of_vertices():
    rng = random.Random(0)
    checked = 0
    while checked < 100:
        edges = [[int(u < v and rng.random() < 0.5) for v in range(6)] for u in range(6)]
        names = [rng.choice(nasbench101.OPERATIONS) for _ in range(4)]
        order = [0, *rng.sample(range(1, 5), 4), 5]
        if any(edges[order[u]][order[v]] for u in range(6) for v in range(u)) or not any(row[5] for row in edges):
            continue
        moved = [[edges[u][v] for v in order] for u in order]
        try:
            key = nasbench101.module_hash(edges, names)
        except InvalidArchitectureError:
            continue
        assert nasbench101.module_hash(moved, [names[v - 1] for v in order[1:-1]]) == key
        checked += 1


def test_vertices_without_a_path_are_pruned():
    matrix = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    kept, names = nasbench101.prune(matrix, ["conv3x3-bn-relu", "maxpool3x3"])
    assert (kept, names) == (((0, 1, 0), (0, 0, 1), (0, 0, 0)), ("conv3x3-bn-relu",))
    with pytest.raises(InvalidArchitectureError, match="No path"):
        nasbench101.prune([[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["maxpool3x3"])


def test_the_remainder_goes_to_the_first_vertices():
    matrix = [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5]
    assert nasbench101.vertex_widths(64, 128, matrix) == [64, 43, 43, 42, 128]


def test_output_of_the_whole_network():
    graph = trace(nasbench101.network(CHAIN, ["conv3x3-bn-relu"]), (3, 32, 32), classes=10)
    assert graph.nodes[graph.outputs[0].node].shape == (10,)
    with pytest.raises(UnknownNameError, match="conv3x3-bn-relu"):
        nasbench101.network(CHAIN, ["conv3x3"])


def test_space_holds_valid_cells_only():
    space = nasbench101.space(width=8, cells=1)
    rng = random.Random(0)
    with pytest.raises(SizeUnknownError):
        _ = space.size
    for _ in range(30):
        architecture = space.sample(rng, sampler="hierarchical")
        first = architecture.block.stacks[0]
        matrix, _ = nasbench101.prune(first.matrix, first.operations)
        assert sum(map(sum, matrix)) <= 9
        assert len({(stack.edges, stack.operations) for stack in architecture.block.stacks}) == 1
    interval = space.estimate_size(rng, 3000)
    assert interval.low <= nasbench101.VALID_ENCODINGS <= interval.high


@pytest.mark.slow
def test_number_of_valid_encodings():
    from itertools import product

    valid = sum(nasbench101.is_valid(*edges) for edges in product((0, 1), repeat=21))
    assert valid * 3**5 == nasbench101.VALID_ENCODINGS


@pytest.mark.parametrize(
    ("matrix", "operations", "message"),
    [
        ([[0, 1, 0], [0, 0, 1]], ["maxpool3x3"], "square"),
        ([[0, 1], [0, 0, 1]], [], "square"),
        ([[0]], [], "at least 2 rows"),
        (5, [], "list of rows"),
        ([0, 1], [], "list of rows"),
        ([[0, 2, 0], [0, 0, 1], [0, 0, 0]], ["maxpool3x3"], "got 2 in row 0, column 1"),
        ([[0, 1, 0], [0, 1, 1], [0, 0, 0]], ["maxpool3x3"], "upper triangular.*from 1 to 1"),
        ([[0, 1, 0], [1, 0, 1], [0, 0, 0]], ["maxpool3x3"], "upper triangular.*from 1 to 0"),
        (CHAIN, [], "3 vertices has 1 operations"),
    ],
)
def test_bad_matrices(matrix, operations, message):
    with pytest.raises(InvalidArchitectureError, match=message):
        nasbench101.network(matrix, operations)


@pytest.mark.parametrize("size", [{"width": 0}, {"stacks": 0}, {"cells": 0}])
def test_bad_sizes(size):
    for make in (lambda: nasbench101.network(CHAIN, ["maxpool3x3"], **size), lambda: nasbench101.space(**size)):
        with pytest.raises(InvalidInputError, match=next(iter(size))):
            make()


@pytest.mark.parametrize(
    "keys", [("matrix", "operations"), ("adjacency", "ops"), ("module_adjacency", "module_operations")]
)
@pytest.mark.parametrize("whole", [False, True])
def test_rows_in_the_authors_forms(keys, whole):
    names = ["conv3x3-bn-relu"]
    config = dict(zip(keys, (np.array(CHAIN), ["input", *names, "output"] if whole else names), strict=True))
    row = {"space": "NAS-Bench-101", "name": "a cell", "config": config}
    assert published(row) == replace(nasbench101.network(CHAIN, names), classes=10)
    assert published({**row, "config": {**config, "dataset": "cifar100"}}).classes == 100
    assert published({**row, "name": "ImageNet16-120"}).classes == 120
    assert published({**row, "name": "CIFAR-10 015"}).classes == 10


def test_rows_lack_a_matrix():
    row = {"space": "NAS-Bench-101", "name": "a cell", "config": {"operations": []}}
    with pytest.raises(InvalidInputError, match="'a cell' needs matrix, adjacency or module_adjacency"):
        published(row)
