"""ENAS: sizes of both spaces, the authors' arcs there and back, their networks, symmetries."""

from __future__ import annotations

import json
from random import Random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError
from nasturtium.testing import check_space
from nasturtium.zoo import enas, enas_macro

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224), (3, 33, 47)]
MICRO = {"width": 4, "layers": 3}


def cardinality(reference, name):
    return json.loads(reference.read_text())["cardinalities"][name]


def hash_of(block) -> str:
    return nas.trace(block, (3, 16, 16), classes=3).canonical_hash


def trains(block, shape, classes=5):
    model = nas.build(nas.trace(block, shape, classes=classes), seed=0)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert all(y.shape == (2, classes) for y in outputs)
    sum(y.sum() for y in outputs).backward()
    assert model.eval()(x).shape == (2, classes)
    return model, len(outputs)


# Micro


def test_size_of_the_micro_space(reference):
    assert enas.cell_size() == cardinality(reference, "enas_micro_exact_one_cell") == 5_062_500_000_000
    assert enas.space().size == enas.cell_size() ** 2
    assert enas.space(nodes=1).size == 100**2
    nodes = 7  # B of the paper counts the inputs
    paper = (5 * 4 * 3 * 2 * 5) ** 4
    assert nodes - 2 == enas.NODES
    assert paper == cardinality(reference, "enas_micro_paper_formula")
    assert float(enas.FAMILIES[0].quoted_size) == pytest.approx(paper, rel=0.01)


@pytest.mark.parametrize("options", [{}, {"final": True, "auxiliary": True}, {"nodes": 1}])
def test_laws_of_the_micro_space(options):
    check_space(enas.space(**MICRO, **options), samples=5)


def test_micro_arcs_there_and_back():
    space = enas.space()
    rng = Random(0)
    texts = [enas.PUBLISHED, *[enas.to_string(space.sample(rng)) for _ in range(10)]]
    for text in texts:
        architecture = enas.architecture(text, space)
        assert enas.to_string(architecture) == text
        assert enas.to_string(enas.network(text)) == text
        search = enas.network(text, width=20, layers=6, final=False)
        graphs = [nas.trace(block, (3, 32, 32), classes=10) for block in (architecture, search)]
        assert graphs[0].params == graphs[1].params
        assert graphs[0].canonical_hash == graphs[1].canonical_hash


def final_micro_params(width: int, layers: int, classes: int) -> int:
    """The authors' `_fixed_layer` for the published arcs, counted by hand: five and four states are free."""

    def point(before: int, after: int) -> int:
        return before * after + 2 * after

    def sep(kernel: int, c: int) -> int:
        return 2 * (kernel * kernel * c + point(c, c))

    normal = lambda c: 4 * sep(5, c) + 2 * sep(3, c)  # noqa: E731 (ops 0 and 1 of NORMAL: 2 and 4 times)
    reduction = lambda c: 3 * sep(3, c) + 3 * sep(5, c) + point(c, c)  # noqa: E731 (an identity with stride)
    total = 27 * 3 * width + 2 * 3 * width
    before = previous = 3 * width
    third = layers // 3
    for number in range(layers + 2):
        reduces = number in (third, 2 * third + 1)
        width = 2 * width if reduces else width
        for channels in (before, previous):
            total += point(channels, width) if channels != width else 0
        total += point(width, width)
        total += reduction(width) if reduces else normal(width)
        before, previous = previous, (4 if reduces else 5) * width
    return total + previous * classes


def test_the_published_micro_network_is_the_authors():
    counts = {op: enas.NORMAL.split()[1::2].count(op) for op in "01234"}
    assert counts == {"0": 2, "1": 4, "2": 2, "3": 0, "4": 2}
    assert {op: enas.REDUCTION.split()[1::2].count(op) for op in "01234"} == {"0": 3, "1": 3, "2": 1, "3": 2, "4": 1}
    for width, layers in ((36, 15), (20, 6), (8, 4)):
        graph = nas.trace(enas.network(enas.PUBLISHED, width=width, layers=layers), (3, 32, 32), classes=10)
        assert graph.params == final_micro_params(width, layers, 10)


def swap(text: str) -> str:
    """The arc with the branches of every node exchanged."""
    words = text.split()
    nodes = [words[i : i + 4] for i in range(0, len(words), 4)]
    return " ".join(" ".join(node[2:] + node[:2]) for node in nodes)


@pytest.mark.parametrize("final", [False, True])
def test_micro_hash_forgets_the_order_of_branches_and_of_nodes(final):
    reduction = "1 0 0 4 0 3 1 1"
    first = f"0 0 1 1 1 2 0 4 {reduction}"
    same = [swap(first), f"1 2 0 4 0 0 1 1 {reduction}"]
    other = [f"0 0 1 0 1 2 0 4 {reduction}", f"1 0 0 1 1 2 0 4 {reduction}", f"0 0 1 1 2 2 0 4 {reduction}"]
    hashes = [hash_of(enas.network(text, **MICRO, final=final)) for text in (first, *same, *other)]
    assert len(set(hashes[:3])) == 1
    assert len(set(hashes)) == 1 + len(other)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_micro_input_shapes(shape, final):
    architecture = enas.space(shape, final=final).sample(Random(3))
    graph = nas.trace(architecture, shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


@pytest.mark.parametrize("final", [False, True])
def test_micro_networks_train(final):
    # in the reduction cell of this arc no node reads the input 0, which a final network reduces
    text = "0 0 1 4 0 2 2 1 1 4 1 3 1 1 2 0"
    block = enas.network(text, **MICRO, final=final, auxiliary=True, drop_path=0.4, dropout=0.2)
    model, outputs = trains(block, (3, 32, 32))
    assert outputs == 2
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_small_images_for_the_micro_auxiliary_head_are_refused():
    with pytest.raises(ShapeError, match="5x5 pixels in the last stage, got 4x4"):
        nas.trace(enas.network(enas.PUBLISHED, **MICRO, auxiliary=True), (3, 16, 16), classes=3)


def law(space, shape, samples=3):
    """A path of the supernet computes what the network taken out of it computes."""
    net = nas.supernet(space, shape, seed=0, classes=3).eval()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    rng = Random(4)
    for _ in range(samples):
        architecture = space.sample(rng)
        assert torch.allclose(net.set(architecture)(x), net.extract(architecture)(x), atol=1e-5)
    return net


@pytest.mark.parametrize("final", [False, True])
def test_micro_supernet(final):
    net = law(enas.space(width=2, layers=1, nodes=2, final=final), (3, 8, 8))
    weights = {name for name, _ in net.named_parameters() if ".first.depthwise" in name and "cells.2" in name}
    # node 2 has two branches of two inputs, node 3 two of three, each with two separable convolutions
    assert len(weights) == (2 * 2 + 2 * 3) * 2, "every (node, input, operation) has weights of its own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got 0 words"),
        ("0 0 1", "got 3 words"),
        ("0 0 1 x 0 0 1 0", "in numbers"),
        ("0 0 2 0 0 0 1 0", "reads states below 2"),
        ("0 5 1 0 0 0 1 0", "operations below 5"),
    ],
)
def test_bad_micro_arcs(text, message):
    with pytest.raises(InvalidArchitectureError, match=message):
        enas.network(text)


def test_what_does_not_fit_the_micro_space():
    with pytest.raises(InvalidArchitectureError, match="2 nodes a cell, but the space has 5"):
        enas.architecture("0 0 1 1 1 2 0 4 1 0 0 4 0 3 1 1", enas.space())
    for block in (nas.Conv(8), enas.space().block):
        with pytest.raises(InvalidArchitectureError, match="closed ENAS micro network"):
            enas.to_string(block)
    with pytest.raises(InvalidInputError, match="`layers` of at least 1"):
        enas.network(enas.PUBLISHED, layers=0)


# Macro


def test_size_of_the_macro_space(reference):
    assert enas_macro.space().size == enas_macro.size() == cardinality(reference, "enas_macro_12_layers")
    assert enas_macro.space().size == 6**12 * 2**66
    assert len(enas_macro.space().decisions) == 12 + 66
    small = enas_macro.space(layers=3)
    assert small.size == enas_macro.size(3) == len(set(small.enumerate())) == 1728


@pytest.mark.parametrize("options", [{}, {"layers": 2}])
def test_laws_of_the_macro_space(options):
    check_space(enas_macro.space(width=4, **options), samples=5)


def test_macro_arcs_there_and_back():
    space = enas_macro.space()
    rng = Random(0)
    for _ in range(5):
        architecture = space.sample(rng)
        text = enas_macro.to_string(architecture)
        assert enas_macro.architecture(text, space) == architecture
        for final in (False, True):
            assert enas_macro.to_string(enas_macro.network(text, final=final)) == text
        search = enas_macro.network(text, width=36, final=False)
        graphs = [nas.trace(block, (3, 32, 32), classes=10) for block in (architecture, search)]
        assert graphs[0].params == graphs[1].params
        assert graphs[0].canonical_hash == graphs[1].canonical_hash
    published = " ".join(enas_macro.PUBLISHED.split())
    assert enas_macro.to_string(enas_macro.network(published)) == published
    assert len(enas_macro.parse(published)) == 24


def final_macro_params(text: str, width: int, classes: int) -> int:
    """The authors' `_fixed_layer` for whole channels, counted by hand; operations 0 to 3 are plain convolutions."""
    arc = enas_macro.parse(text)
    total, third = 27 * width + 2 * width, len(arc) // 3
    for number, (operation, bits) in enumerate(arc):
        total += width * width + 2 * width + (3, 3, 5, 5)[operation] ** 2 * width * width + 2 * width
        total += (sum(bits) + 1) * width * width + 2 * width if number else 0
        if number in (third - 1, 2 * third - 1):
            later = {i for _, after in arc[number + 1 :] for i, bit in enumerate(after[: number + 2]) if bit}
            total += len(later | {number + 1}) * (width * 2 * width + 4 * width)
            width *= 2
    return total + width * classes


def test_the_published_macro_network_is_the_authors():
    for width in (96, 36):
        graph = nas.trace(enas_macro.network(enas_macro.PUBLISHED, width=width), (3, 32, 32), classes=10)
        assert graph.params == final_macro_params(enas_macro.PUBLISHED, width, 10)


def test_macro_hash():
    first = "0 3 0 4 1 0 1 1 0 0"
    other = ["0 3 0 4 1 0 1 1 0 1", "0 3 0 4 0 0 1 1 0 0", "0 2 0 4 1 0 1 1 0 0"]
    hashes = [hash_of(enas_macro.network(text, width=4, final=False)) for text in (first, *other)]
    assert len(set(hashes)) == 4
    finals = [hash_of(enas_macro.network(text, width=4)) for text in (first, *other)]
    assert len(set(finals)) == 3, "the authors' final network has a plain convolution for the separable one"


@pytest.mark.parametrize("shape", SHAPES)
def test_macro_input_shapes(shape):
    space = enas_macro.space(shape)
    architecture = space.sample(Random(3))
    graph = nas.trace(architecture, shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


@pytest.mark.parametrize("final", [False, True])
def test_macro_networks_train(final):
    block = enas_macro.network("0 3 1 4 0 1 5 1 0 1 1 0 0 0 1 2 0 1 0 0 0", width=4, final=final, dropout=0.5)
    model, outputs = trains(block, (3, 16, 16))
    assert outputs == 1
    assert all(parameter.grad is not None for parameter in model.parameters()) or not final


def test_macro_supernet():
    net = law(enas_macro.space(width=4, layers=6), (3, 8, 8))
    assert len(net.mixed) == len(net.graph.decisions) == 6 + 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got 0 words"),
        ("0 1", "got 2 words"),
        ("0 a 1", "got 3 words"),
        ("6", "operation below 6"),
        ("0 0 2", "bits of 0 or 1"),
    ],
)
def test_bad_macro_arcs(text, message):
    with pytest.raises(InvalidArchitectureError, match=message):
        enas_macro.network(text)


def test_what_does_not_fit_the_macro_space():
    with pytest.raises(InvalidArchitectureError, match="make it with `layers=2`"):
        enas_macro.architecture("0 3 0", enas_macro.space())
    for block in (nas.Conv(8), enas_macro.space().block):
        with pytest.raises(InvalidArchitectureError, match="closed ENAS macro network"):
            enas_macro.to_string(block)
    with pytest.raises(InvalidInputError, match="layer k needs k skips"):
        enas_macro.ENASMacro((enas_macro.Layer(enas_macro.OPERATIONS["conv3"], enas_macro.SKIPS),))
    with pytest.raises(InvalidInputError, match="at least 2"):
        enas_macro.network("0", width=1)
