"""Encodings: path counts and neighbourhoods against hand-worked cells."""

from __future__ import annotations

import random

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.graph import trace
from nasturtium.surrogates.encodings import Encoder, weisfeiler_lehman
from nasturtium.surrogates.parts import OperationGraph, Parts, operation_graph
from nasturtium.zoo import nasbench201

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"


def cell(text: str) -> nas.Architecture:
    return nasbench201.architecture(text, nasbench201.space())


def short(label: str) -> str:
    for text, name in (("kernel=(3, 3)", "3x3"), ("kernel=(1, 1)", "1x1")):
        if "Conv" in label and text in label:
            return name
    return "pool" if "AvgPool" in label else label


def test_paths_of_a_cell_are_those_worked_out_by_hand() -> None:
    space = nasbench201.space()
    ((_, graph),) = Parts(space).graphs(cell(CELL))
    paths = sorted(tuple(map(short, path)) for path in graph.paths(100))
    # 0-3x3-1-pool-3; 0-3x3-1-skip-2-3x3-3; 0-1x1-2-3x3-3; 0-none-3 is no path
    assert paths == [("1x1", "3x3"), ("3x3", "3x3"), ("3x3", "pool")]


def test_the_chain_of_a_block_is_one_node_and_a_sum_is_none() -> None:
    block = nasbench201.network(CELL).cell
    graph = operation_graph(trace(block, (16, 8, 8)))
    assert [short(label) for label in graph.labels] == ["input 0", "3x3", "1x1", "pool", "3x3", "output"]
    assert graph.sources == ((), (0,), (0,), (1,), (1, 2), (3, 4)) or graph.sources == (
        (),
        (0,),
        (0,),
        (1,),
        (2, 1),
        (3, 4),
    )


def test_a_cell_of_zeros_has_no_paths() -> None:
    none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    encoder = Encoder(nasbench201.space(), "paths")
    assert encoder.counts(cell(none)) == {}
    assert encoder.encode([cell(none), cell(CELL)]).sum(axis=1).tolist() == [0.0, 3.0]


def test_weisfeiler_lehman_counts_are_those_worked_out_by_hand() -> None:
    graph = OperationGraph(("input 0", "a", "a", "b", "output"), ((), (0,), (0,), (1, 2), (3,)))
    assert weisfeiler_lehman(graph, 0) == {"0 input 0": 1, "0 a": 2, "0 b": 1, "0 output": 1}
    first = weisfeiler_lehman(graph, 1)
    assert first["1 a <- [input 0]"] == 2
    assert first["1 b <- [a | a]"] == 1
    assert first["1 output <- [b]"] == 1
    assert sum(first.values()) == 2 * 5


def test_isomorphic_cells_have_equal_graphs_and_different_decisions() -> None:
    # 0-3x3-1-3x3-3 and 0-3x3-2-3x3-3 compute the same
    one = cell("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|")
    other = cell("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    for kind in ("paths", "wl"):
        encoder = Encoder(nasbench201.space(), kind)
        assert encoder.counts(one) == encoder.counts(other)
    decisions = Encoder(nasbench201.space(), "decisions").encode([one, other])
    assert not np.array_equal(decisions[0], decisions[1])


def test_columns_are_those_of_the_known_and_do_not_depend_on_what_was_asked_before() -> None:
    space, rng = nasbench201.space(), random.Random(0)
    drawn = [space.sample(rng) for _ in range(12)]
    used = Encoder(space, "wl")
    used.encode([space.sample(rng) for _ in range(30)])
    fresh = Encoder(space, "wl")
    for like in (drawn[:5], drawn):
        assert np.array_equal(used.encode(drawn, like=like), fresh.encode(drawn, like=like))
    full = fresh.encode(drawn)
    assert np.allclose(np.linalg.norm(full, axis=1), fresh.norms(drawn))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nasbench201", "paths"), ("nasbench101", "paths"), ("mobile", "decisions"), ("fbnet", "decisions")],
)
def test_auto_takes_the_graph_where_the_space_is_one_of_cells(name: str, kind: str) -> None:
    assert Encoder(nas.zoo.space(name), "auto").kind == kind


def test_what_cannot_be_traced_alone_is_said_before_a_search() -> None:
    with pytest.raises(InvalidInputError, match="ake the encoding 'decisions'"):
        Encoder(nas.zoo.space("regnet"), "wl")
    with pytest.raises(UnknownNameError, match="Did you mean 'paths'"):
        Encoder(nasbench201.space(), "path")


def test_too_many_paths_are_refused_in_words() -> None:
    chain = OperationGraph(("input 0", *"abcdefgh", "output"), ((), *[(i, i) for i in range(8)], (8, 8)))
    with pytest.raises(InvalidInputError, match="more than 100 paths"):
        list(chain.paths(100))
