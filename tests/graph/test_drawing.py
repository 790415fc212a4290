"""The drawing is well-formed, self-contained SVG; the table of layers adds up to the totals."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.graph import draw, trace
from nasturtium.graph.drawing import group_of
from nasturtium.zoo import nasbench101, nasbench201
from tests.graph.programs import random_graph

SVG = "{http://www.w3.org/2000/svg}"


def titles(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    return [title.text for group in root.iter(f"{SVG}g") for title in group.findall(f"{SVG}title")]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 12), st.integers(1, 2))
def test_any_graph_is_drawn_and_its_layers_add_up(seed, size, inputs):
    graph = random_graph(random.Random(seed), size, inputs)
    svg = draw(graph, title="<a & b>")
    ET.fromstring(svg)
    assert "script" not in svg
    assert "href" not in svg
    rows = graph.layers()
    for total in ("params", "macs", "activations"):
        assert sum(getattr(row, total) for row in rows) == getattr(graph, total)
    covered = sorted(i for row in rows for i in row.nodes)
    assert covered == list(range(len(graph.inputs), len(graph.nodes)))


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_one_box_for_each_block(name):
    architecture = nas.zoo.space(name).sample(random.Random(0), sampler="hierarchical")
    graph = trace(architecture, (3, 64, 64), classes=5)
    groups = {group_of(node.path) for node in graph.nodes}
    assert set(titles(graph._repr_svg_())) == groups


def test_cells_are_drawn_operation_by_operation():
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    graph = trace(nasbench201.network(text).cell, (8, 8, 8))
    assert titles(draw(graph)) == ["input", "edges.0", "edges.1", "edges.2", "node_2", "edges.4", "edges.5", "node_3"]
    network = nasbench101.network([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["conv3x3-bn-relu"], width=8)
    assert "vertex_1" in titles(draw(trace(network.stacks[0], (8, 8, 8))))


def test_a_row_holds_the_norm_and_activation_that_follow():
    graph = trace(nas.Conv(6, stride=2), (3, 8, 8))
    (row,) = graph.layers()
    assert (row.path, row.kind, row.shape) == ("conv.conv", "conv 3x3 /2", (6, 4, 4))
    assert row.params == 3 * 6 * 9 + 12


def test_titles_are_valid_xml_and_texts():
    graph = random_graph(random.Random(1), 4)
    root = ET.fromstring(draw(graph, title="a\x01 <b>"))
    assert root.find(f"{SVG}title").text == "a\ufffd <b>"
    with pytest.raises(InvalidInputError, match="got 3 of type int"):
        draw(graph, title=3)
