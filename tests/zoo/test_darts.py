"""DARTS: the authors' counts, the size of the space, genotypes there and back, symmetries of the cells."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, UnknownNameError
from nasturtium.testing import check_space
from nasturtium.zoo import darts
from nasturtium.zoo.darts_genotypes import GENOTYPES, Genotype, from_nasnet_indices, normal_form

SMALL = {"width": 4, "layers": 3}


def rows(reference, *spaces):
    return [row for row in json.loads(reference.read_text())["values"] if row["space"] in spaces]


def params_in_training(block, shape) -> int:
    """Parameters with what serves training only."""
    graph = nas.trace(block, shape)
    return sum(node.operation.params(*graph.input_shapes(node)) for node in graph.nodes)


def test_published_networks_to_the_unit(reference):
    found = rows(reference, "DARTS/NASNet-style cell")
    assert len(found) >= 24
    for row in found:
        block, shape = nas.zoo.published(row), tuple(row["input_size"])
        graph = nas.trace(block, shape)
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]
        with_head = replace(block, auxiliary=True)
        assert params_in_training(with_head, shape) == row["params_with_aux_head"], row["name"]
        assert nas.trace(with_head, shape).params == row["params"], "an auxiliary head does not count"


def test_search_networks_to_the_unit(reference):
    found = rows(reference, "DARTS", "PC-DARTS")
    assert len(found) >= 2
    for row in found:
        graph = nas.trace(nas.zoo.published(row), tuple(row["input_size"]))
        assert (graph.params, graph.macs) == (row["params"], row["macs"]), row["name"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C=12, 5 cells, K=3", {"width": 12, "layers": 5, "partial": 3}),
        ("C = 36, 20 cells, 3 steps, 8 ops", {"width": 36, "layers": 20, "nodes": 3}),
    ],
)
def test_search_networks_follow_their_text(text, expected):
    row = {"space": "PC-DARTS", "config": text}
    assert nas.zoo.published(row) == darts.search_network(**expected, classes=10)


def test_search_networks_refuse_other_texts():
    for text in ("8 cells", "C=16", "C=16, 8 cells, 5 ops"):
        with pytest.raises(InvalidInputError, match="is written"):
            darts.published_search({"config": text})
    with pytest.raises(InvalidInputError, match="multiple of `partial`"):
        darts.search_network(width=10, partial=4)


def test_mixed_edges_cost_the_sum_of_their_operations():
    """Of a cell's parameters only the operations' depend on the number of channels that are computed on."""
    whole, partial = (nas.trace(darts.search_network(partial=k, classes=10), (3, 32, 32)) for k in (1, 4))
    assert {node.operation.groups for node in partial.nodes if node.operation.kind == "shuffle"} == {4}
    assert partial.params < whole.params
    assert nas.trace(darts.search_network(partial=2, classes=10), (3, 33, 47)).params > partial.params


def test_size(reference):
    cardinalities = json.loads(reference.read_text())["cardinalities"]
    assert darts.cell_size() == cardinalities["darts_one_cell"]
    assert darts.space().size == darts.cell_size() ** 2 == 1_037_664_180**2
    assert darts.space().size == pytest.approx(cardinalities["darts_two_cells"], rel=1e-12)
    assert darts.space(nodes=1).size == 49**2 == len(set(darts.space(nodes=1).enumerate()))


@pytest.mark.parametrize("options", [{}, {"nodes": 1}, {"affine": False, "auxiliary": True}])
def test_laws_of_the_space(options):
    check_space(darts.space(**SMALL, **options), samples=5)


def test_what_is_active():
    space = darts.space()
    architecture = space.sample(Random(0))
    assert len(space.decisions) == 2 * (4 + 14)
    assert len(architecture.decisions) == 2 * (4 + 8)


def test_genotypes_there_and_back():
    space = darts.space()
    rng = Random(1)
    for _ in range(20):
        architecture = space.sample(rng)
        genotype = darts.genotype(architecture)
        assert darts.architecture(genotype, space) == architecture
        assert darts.architecture(json.loads(json.dumps(genotype.to_dict())), space) == architecture
        assert darts.genotype(darts.network(genotype)) == genotype


@pytest.mark.parametrize("name", list(GENOTYPES))
def test_published_genotypes_are_those_of_the_rows(name, reference):
    named = [r for r in rows(reference, "DARTS/NASNet-style cell") if r["name"].split()[0] == name]
    assert named
    assert all(GENOTYPES[name].to_dict() == row["config"]["genotype"] for row in named)
    assert darts.genotype(darts.network(name)) == GENOTYPES[name]


def hash_of(genotype) -> str:
    return nas.trace(darts.network(genotype, width=4, layers=3), (3, 16, 16), classes=3).canonical_hash


def test_a_published_genotype_in_the_space_is_the_published_network(reference):
    space = darts.space(width=36, layers=20)
    small = darts.space(**SMALL)
    for row in rows(reference, "DARTS/NASNet-style cell"):
        name, config = row["name"].split()[0], row["config"]
        if (config["init_channels"], config["layers"]) == (36, 20) and len(config["genotype"]["normal"]) == 8:
            architecture = darts.architecture(name, space)
            assert darts.genotype(architecture) == normal_form(GENOTYPES[name])
            graph = nas.trace(architecture, (3, 32, 32), classes=10)
            assert (graph.params, graph.macs) == (row["params"], row["macs"])
            graph = nas.trace(darts.architecture(name, small), (3, 16, 16), classes=3)
            assert graph.canonical_hash == hash_of(GENOTYPES[name])


@pytest.mark.parametrize("name", ["NASNet", "AmoebaNet", "PNASNet", "ENASNet"])
def test_genotypes_outside_the_space_are_refused(name):
    with pytest.raises(InvalidArchitectureError, match="takes any genotype"):
        darts.architecture(name, darts.space())


def test_one_state_twice_is_outside_the_space():
    cell = (("skip_connect", 0), ("sep_conv_3x3", 0))
    with pytest.raises(InvalidArchitectureError, match="reads state 0 twice"):
        darts.architecture(
            Genotype(normal=cell, normal_concat=(2,), reduce=cell, reduce_concat=(2,)), darts.space(nodes=1)
        )


def test_hash_forgets_the_order_of_edges_and_of_nodes():
    first = GENOTYPES["DARTS_V2"]
    swapped = [gene for pair in zip(first.normal[::2], first.normal[1::2], strict=True) for gene in reversed(pair)]
    renumbered = GENOTYPES["PC_DARTS_image"]  # its nodes 2 and 3 read the cell's inputs only, so they may change places
    turn = {2: 3, 3: 2}
    nodes = [renumbered.normal[i : i + 2] for i in range(0, 8, 2)]
    moved = [(op, turn.get(i, i)) for node in (nodes[1], nodes[0], nodes[2], nodes[3]) for op, i in node]
    fields = ("normal_concat", "reduce", "reduce_concat")
    for genotype, normal in ((first, swapped), (renumbered, moved)):
        again = Genotype(normal=tuple(normal), **{field: getattr(genotype, field) for field in fields})
        assert again != genotype
        assert hash_of(again) == hash_of(genotype)


def test_hash_tells_what_differs():
    assert len({hash_of(genotype) for genotype in GENOTYPES.values()}) == len(GENOTYPES)


def test_a_node_that_nothing_reads_does_not_matter_for_the_hash():
    cell = (("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("max_pool_3x3", 1))
    other = (*cell[:2], ("dil_conv_5x5", 0), ("dil_conv_3x3", 1))
    reduce = GENOTYPES["DARTS_V2"].reduce
    a, b = (Genotype(normal=normal, normal_concat=(2,), reduce=reduce) for normal in (cell, other))
    assert hash_of(a) == hash_of(b)


def test_official_nasnet_indices(reference):
    cells = json.loads(reference.read_text())["cells"]
    nasnet = from_nasnet_indices(**cells["NASNet-A"])
    ours = GENOTYPES["NASNet"]
    assert (nasnet.normal[:4], nasnet.normal_concat) == (ours.normal[:4], (0, 2, 3, 4, 5, 6))
    assert normal_form(nasnet).normal == normal_form(ours).normal
    assert normal_form(nasnet).reduce == normal_form(ours).reduce
    assert (nasnet.reduce_concat, ours.reduce_concat) == ((3, 4, 5, 6), (4, 5, 6))
    assert from_nasnet_indices(**cells["AmoebaNet-A"]) != GENOTYPES["AmoebaNet"]
    nas.trace(darts.network(nasnet, width=4, layers=3), (3, 16, 16), classes=3)
    with pytest.raises(UnknownNameError, match="1x1"):
        from_nasnet_indices(**cells["AmoebaNet-B"])
    with pytest.raises(InvalidArchitectureError, match="hiddenstate_indices"):
        from_nasnet_indices({"operations": ["none"]}, {})


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 224, 224), (3, 33, 47)])
def test_input_shapes(shape):
    space = darts.space(shape)
    graph = nas.trace(space.sample(Random(2)), shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)
    assert space.block.stem == ("imagenet" if max(shape) > 64 else "cifar")


@pytest.mark.parametrize(("stem", "size"), [("cifar", 32), ("imagenet", 224)])
def test_networks_train_with_an_auxiliary_head(stem, size):
    block = darts.network("AmoebaNet", **SMALL, stem=stem, auxiliary=True, drop_path=0.2)
    model = nas.build(nas.trace(block, (3, size, size), classes=5), seed=0)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    logits, auxiliary = model(x)
    assert logits.shape == auxiliary.shape == (2, 5)
    (logits.sum() + auxiliary.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval()(x).shape == (2, 5)


def test_drop_path_stands_after_all_but_the_identity():
    kinds = {}
    for rate in (0.0, 0.2):
        graph = nas.trace(darts.network("DARTS_V2", **SMALL, drop_path=rate), (3, 16, 16), classes=3)
        kinds[rate] = sum(node.operation.kind == "drop_path" for node in graph.nodes)
    # a normal cell and two reduction cells (layers // 3 = 1, 2); a skip from an input of a reduction cell is none
    assert kinds == {0.0: 0, 0.2: 6 + 2 * 5}


def test_small_images_for_the_auxiliary_head_are_refused():
    with pytest.raises(ShapeError, match="8x8 pixels after the second reduction, got 7x7"):
        nas.trace(darts.network("DARTS_V2", **SMALL, auxiliary=True), (3, 28, 28), classes=3)


@pytest.mark.parametrize(
    ("genotype", "error", "message"),
    [
        ("DARTS_V3", UnknownNameError, "Did you mean 'DARTS_V"),
        ({"normal": []}, InvalidArchitectureError, "has the fields"),
        ([1], InvalidArchitectureError, "has the fields"),
        ({"normal": [["sep_conv_3x3", 0]]}, InvalidArchitectureError, "two a node"),
        ({"normal": [["sep_conv_3x3"], 1]}, InvalidArchitectureError, "two a node"),
        ({"normal": [["conv", 0], ["conv", 1]]}, UnknownNameError, "DARTS operation 'conv'"),
        ({"normal": [["sep_conv_3x3", 0], ["sep_conv_3x3", 2]]}, InvalidArchitectureError, "states 0 to 1, got 2"),
        ({"normal_concat": [9]}, InvalidArchitectureError, "from 0 to 5"),
        ({"reduce_concat": [1, 2]}, InvalidArchitectureError, "from 2 to 5"),
    ],
)
def test_bad_genotypes(genotype, error, message):
    if isinstance(genotype, dict) and genotype != {"normal": []}:
        genotype = {**GENOTYPES["DARTS_V1"].to_dict(), **genotype}
    with pytest.raises(error, match=message):
        darts.network(genotype)


@pytest.mark.parametrize("options", [{"stem": "mnist"}, {"layers": 0}, {"width": 1}])
def test_bad_networks(options):
    with pytest.raises(InvalidInputError):
        darts.network("DARTS_V1", **options)


def test_what_is_no_genotype():
    with pytest.raises(InvalidArchitectureError, match="closed DARTS network"):
        darts.genotype(nas.Conv(8))
    with pytest.raises(InvalidArchitectureError, match="two of the operations"):
        darts.genotype(darts.search_network(**SMALL))
    with pytest.raises(InvalidInputError, match="NetworkCIFAR"):
        darts.published({"config": {"network": "other"}})


@pytest.mark.parametrize("options", [{}, {"affine": False, "stem": "imagenet"}])
def test_supernet(options):
    """A path of the supernet computes what the network taken out of it computes."""
    space = darts.space(**SMALL, nodes=3, **options)
    net = nas.supernet(space, (3, 32, 32), seed=0, classes=3).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rng = Random(4)
    for _ in range(4):
        architecture = space.sample(rng)
        assert torch.allclose(net.set(architecture)(x), net.extract(architecture)(x), atol=1e-5)
    assert len(net.mixed) == 2 * (2 + 9), "all but the first node's inputs, of which there is one pair"
