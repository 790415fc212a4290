"""NASNet and AmoebaNet: the rows of the reference file, the spaces' sizes, the authors' form and the cell's laws."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.blocks.nasnet_cell import Convolution, NASNetBlock, NASNetCell, Pool, Separable, Setting, Skip
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, UnknownNameError
from nasturtium.graph import operations as ops
from nasturtium.model import supernet
from nasturtium.space import Block
from nasturtium.space.lowering import lower
from nasturtium.zoo import nasnet, pnas
from nasturtium.zoo.nasnet_network import NASNet
from nasturtium.zoo.nasnet_notation import (
    CELLS,
    architecture,
    from_official,
    name_of,
    network,
    official_form,
    operation,
    to_official,
)

FAMILY, LECTURE = nasnet.FAMILIES
SHAPES = ((1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 33, 47), (3, 224, 224))


@pytest.fixture(scope="module")
def rows(reference_values):
    return [r for r in reference_values["values"] if r["space"] == "NASNet cell space"]


@pytest.fixture(scope="module")
def reference_values(request):
    return json.loads(request.getfixturevalue("reference").read_text())


def plain(cells):
    return {name: {part: list(values) for part, values in cell.items()} for name, cell in cells.items()}


def hash_of(cells, shape=(3, 16, 16)) -> str:
    return nas.trace(network(cells, number=3, width=4), shape, classes=10).canonical_hash


# Published networks


def test_reference_rows_to_the_unit(rows):
    assert len(rows) == 24
    for row in rows:
        graph = nas.trace(nas.zoo.published(row), tuple(row["input_size"]))
        assert graph.params == row["params"], row["name"]
        assert row["macs"] in (None, graph.macs), row["name"]


def test_timm_names_to_the_unit(reference_values):
    named = [r for r in reference_values["values"] if r["name"] in ("nasnetalarge", "pnasnet5large")]
    assert len(named) == 2
    for row in named:
        graph = nas.trace(nas.zoo.published(row), tuple(row["input_size"]))
        assert (graph.params, graph.macs) == (row["params"], row["macs"])


def test_other_sizes_as_timm_counts_them():
    # timm 1.0.31, hooks on the meta device
    for name, shape, macs in (
        ("nasnetalarge", (3, 224, 224), 10_283_796_000),
        ("pnasnet5large", (3, 256, 256), 14_128_572_768),
        ("pnasnet5large", (3, 301, 347), 23_365_798_704),
    ):
        assert nas.trace(nas.zoo.by_name(name), shape).macs == macs


def test_cells_are_those_of_the_reference_file(reference_values):
    for name, cells in reference_values["cells"].items():
        for kind, cell in cells.items():
            assert plain({kind: CELLS[name][kind]})[kind] == {k: v for k, v in cell.items() if k != "index_note"}


@pytest.mark.parametrize(
    ("name", "penultimate", "size", "expected"),
    [
        ("NASNet-A mobile (4@1056)", 1056, 224, (44, 12, "imagenet", 32, 1000)),
        ("NASNet-A 5@1536", 1536, 299, (64, 15, "imagenet", 96, 1000)),
        ("NASNet-A CIFAR (7,20)", None, 32, (20, 21, "cifar", None, 10)),
        ("AmoebaNet-A ImageNet N=2 F=24 stem 64", 576, 160, (24, 6, "imagenet", 64, 1000)),
        ("AmoebaNet-D (TPU default: num_cells 15)", 768, 299, (32, 15, "imagenet", 32, 1001)),
    ],
)
def test_width_depth_and_stem_come_from_the_row(name, penultimate, size, expected):
    row = {"space": "NASNet cell space", "name": name, "input_size": [3, size, size], "config": CELLS["NASNet-A"]}
    made = nasnet.from_row({**row, "penultimate": penultimate})
    assert (made.width, made.cells, made.stem, made.stem_width, made.classes) == expected
    if penultimate is not None:
        linear = nas.trace(replace(made, cells=max(made.cells, 3)), (3, size, size)).nodes[-1]
        assert linear.operation.features == made.classes


def test_the_large_nasnet_skips_whatever_names_it(rows):
    large = next(row for row in rows if row["name"] == "NASNet-A large (6@4032)")
    made = nasnet.from_row(large)
    assert made.skip_reduction_input
    assert nasnet.from_row({**large, "name": "NASNet-A ImageNet N=6 F=168 331", "penultimate": None}) == made
    others = [nasnet.from_row(row) for row in rows if row["name"] != large["name"]]
    assert len(others) == 23
    assert not any(other.skip_reduction_input for other in others if other.reduction is not None)
    amoeba = {**large, "config": CELLS["AmoebaNet-A"], "name": "AmoebaNet-A large N=6 F=190", "penultimate": None}
    assert not nasnet.from_row(amoeba).skip_reduction_input


def test_malformed_rows_are_refused():
    row = {"space": "NASNet cell space", "input_size": [3, 32, 32], "config": CELLS["NASNet-A"]}
    with pytest.raises(InvalidInputError, match="depth"):
        nasnet.from_row({**row, "name": "NASNet-A", "penultimate": 768})
    with pytest.raises(InvalidInputError, match="multiple of 24"):
        nasnet.from_row({**row, "name": "NASNet-A N=2", "penultimate": 770})
    with pytest.raises(InvalidInputError, match="nasnetamobile"):
        nasnet.from_row({**row, "config": "something else"})


# Spaces


def test_sizes_are_the_formulas_and_the_files(reference_values):
    lecture = nasnet.lecture_space()
    assert lecture.size == LECTURE.size == 4**5 * 5**10 * 2**5 == 320_000_000_000
    assert lecture.size == reference_values["cardinalities"]["nasnet_lecture_formula_B5_M5_N2"]
    cell = 1
    for b in range(5):
        cell *= (b + 2) ** 2 * 13**2 * 2
    assert nasnet.space().size == FAMILY.size == cell**2
    assert nasnet.space(blocks=2, operations=("none", "1x1", "3x3")).size == ((2 * 3) ** 2 * 3**4 * 2**2) ** 2
    assert nasnet.space(combiners=("add",)).size == ((2 * 3 * 4 * 5 * 6) ** 2 * 13**10) ** 2
    assert nasnet.lecture_space(blocks=3, operations=("none", "1x1")).size == 4**3 * 2**6 * 2**3


def test_each_block_makes_the_five_decisions():
    names = [d.name for d in nasnet.space().decisions]
    parts = ("first_hidden_state", "second_hidden_state", "first_operation", "second_operation", "combiner")
    assert names == [f"{c}.blocks.{b}.{p}" for c in ("normal", "reduction") for b in range(5) for p in parts]
    assert len(nasnet.lecture_space().decisions) == 25


def test_small_spaces_are_enumerated():
    space = nasnet.lecture_space(blocks=1, operations=("none", "max_pool_3x3"), cells=3, width=4)
    assert len(list(space.enumerate())) == 4 * 4 * 2
    nas.testing.check_space(space, samples=5)


@pytest.mark.parametrize("make", [nasnet.space, nasnet.lecture_space], ids=["nasnet", "lecture"])
def test_laws_of_spaces(make):
    nas.testing.check_space(make(cells=3, width=4), samples=5)


@pytest.mark.parametrize("make", [nasnet.space, nasnet.lecture_space, pnas.space], ids=["nasnet", "lecture", "pnas"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_input_size(make, shape):
    space = make(shape, width=4, cells=3)
    for seed in range(3):
        graph = nas.trace(space.sample(random.Random(seed)), shape, classes=7)
        assert graph.nodes[-1].shape == (7,)
        # three stages, and with the stem of ImageNet three more halvings, the first without padding
        least = min(node.shape[1] for node in graph.nodes if len(node.shape) == 3 and node.shape[1] > 1)
        assert least == (-(-shape[1] // 4) if shape[1] < 96 else 7)


def test_networks_run_forward_and_backward():
    for make in (nasnet.space, nasnet.lecture_space):
        space = make(width=4, cells=3, drop_path=0.2) if make is nasnet.space else make(width=4, cells=3)
        for seed in range(3):
            model = nas.build(nas.trace(space.sample(random.Random(seed)), (3, 16, 16), classes=10), seed=0)
            logits = model(torch.randn(2, 3, 16, 16))
            logits.sum().backward()
            assert logits.shape == (2, 10)


@pytest.mark.parametrize("combiners", [("add",), ("add", "concat")], ids=str)
def test_a_supernet_computes_what_its_networks_compute(combiners):
    space = nasnet.space(
        blocks=2, width=4, cells=3, operations=("none", "max_pool_3x3", "separable_3x3_2"), combiners=combiners
    )
    net = supernet(space, (3, 16, 16), classes=10, seed=0).eval()
    x = torch.randn(2, 3, 16, 16)
    for seed in range(3):
        chosen = space.sample(random.Random(seed))
        net.set(chosen)
        extracted = net.extract(chosen).eval()
        with torch.no_grad():
            assert torch.equal(net(x), extracted(x))
        assert sum(p.numel() for p in extracted.parameters()) == nas.trace(chosen, (3, 16, 16), classes=10).params


def test_the_whole_lecture_space_is_lowered():
    graph = lower(nasnet.lecture_space(), (3, 32, 32), classes=10)
    assert len(graph.decisions) == 25


def test_bad_options_are_refused():
    with pytest.raises(InvalidInputError, match="input_shape"):
        nasnet.space((32, 32))
    with pytest.raises(InvalidInputError, match="`cells` must be at least 3"):
        nasnet.space(cells=2)
    with pytest.raises(InvalidInputError, match="`width` must be at least 4"):
        nasnet.space((3, 224, 224), width=2)
    with pytest.raises(InvalidInputError, match="`blocks` must be at least 1"):
        nasnet.space(blocks=0)
    with pytest.raises(InvalidInputError, match="`combiners` must be some of add, concat"):
        nasnet.space(combiners=("add", "multiply"))
    with pytest.raises(UnknownNameError, match="separable_3x3_2"):
        nasnet.space(operations=("separable_3x3",))
    with pytest.raises(InvalidInputError, match="`stem` must be one of"):
        NASNet(from_official(CELLS["PNASNet-5"]["normal"]), stem="large")
    with pytest.raises(InvalidInputError, match="`padding` must be one of"):
        NASNet(from_official(CELLS["PNASNet-5"]["normal"]), padding="valid")
    with pytest.raises(ShapeError, match="stem must change"):
        nas.trace(nasnet.space(width=1).sample(random.Random(0)), (3, 32, 32), classes=10)


# The authors' form


def test_the_authors_form_round_trips():
    for cells in CELLS.values():
        assert official_form(network(cells, number=3, width=8)) == plain(cells)
    space = nasnet.space(width=8, cells=3)
    for seed in range(10):
        chosen = space.sample(random.Random(seed))
        form = json.loads(json.dumps(official_form(chosen)))
        assert architecture(form, space) == chosen
        ours, theirs = (
            nas.trace(block, (3, 32, 32), classes=10) for block in (chosen, network(form, number=3, width=8))
        )
        assert (ours.canonical_hash, ours.params, ours.macs) == (theirs.canonical_hash, theirs.params, theirs.macs)


def test_published_cells_differ_from_the_space_in_what_they_concatenate():
    space = nasnet.space()
    for name in ("NASNet-A", "AmoebaNet-A", "AmoebaNet-C"):
        with pytest.raises(InvalidArchitectureError, match="used_hiddenstates"):
            architecture(CELLS[name], space)
        form = official_form(architecture(CELLS[name], space, exact=False))
        for kind, cell in plain(CELLS[name]).items():
            assert {k: v for k, v in form[kind].items() if k != "used_hiddenstates"} == {
                k: v for k, v in cell.items() if k != "used_hiddenstates"
            }
    with pytest.raises(InvalidInputError, match="not among the options"):
        architecture(CELLS["AmoebaNet-B"], space, exact=False)  # max_pool_2x2 is not of the paper's thirteen
    with pytest.raises(InvalidArchitectureError, match="reduce"):
        architecture(CELLS["PNASNet-5"], space)


def test_malformed_cells_are_refused():
    cell = plain(CELLS["NASNet-A"])["normal"]
    with pytest.raises(InvalidArchitectureError, match="needs used_hiddenstates"):
        from_official({k: v for k, v in cell.items() if k != "used_hiddenstates"})
    with pytest.raises(InvalidArchitectureError, match="2B operations"):
        from_official({**cell, "used_hiddenstates": [0, 1]})
    with pytest.raises(InvalidInputError, match="from 0 to 1, got 2"):
        from_official({**cell, "hiddenstate_indices": [2, *cell["hiddenstate_indices"][1:]]})
    with pytest.raises(UnknownNameError, match="conv9"):
        from_official({**cell, "operations": ["conv9", *cell["operations"][1:]]})
    with pytest.raises(InvalidArchitectureError, match="closed"):
        to_official(nasnet.open_cell(nasnet.OPERATIONS))
    with pytest.raises(InvalidArchitectureError, match="network of NASNet cells"):
        official_form(nas.Conv(8))
    with pytest.raises(InvalidArchitectureError, match="can name"):
        name_of(Convolution(3, bottleneck=8))
    with pytest.raises(InvalidInputError, match="`output` must be"):
        NASNetCell((NASNetBlock(0, 1, Skip(), Skip()),), "all")
    with pytest.raises(InvalidInputError, match="at least one block"):
        NASNetCell(())
    with pytest.raises(InvalidInputError, match="`combiner`"):
        NASNetBlock(0, 1, Skip(), Skip(), "multiply")


@pytest.mark.parametrize("name", [*nasnet.OPERATIONS, "dil_2_separable_5x5_2", "max_pool_2x2", "dilated_3x3_rate_4"])
def test_operations_have_names(name):
    assert name_of(operation(name)) == name


# Symmetries

BASE = {
    "operations": ["separable_3x3_2", "max_pool_3x3", "1x1", "none", "separable_5x5_2", "avg_pool_3x3"],
    "hiddenstate_indices": [0, 1, 1, 0, 2, 1],
    "used_hiddenstates": [1, 1, 1, 0, 0],
}


def cells_of(normal):
    return {"normal": normal, "reduce": CELLS["NASNet-A"]["reduce"]}


def test_the_halves_of_a_sum_have_no_order():
    swapped = {
        **BASE,
        "operations": ["max_pool_3x3", "separable_3x3_2", *BASE["operations"][2:]],
        "hiddenstate_indices": [1, 0, *BASE["hiddenstate_indices"][2:]],
    }
    assert hash_of(cells_of(swapped)) == hash_of(cells_of(BASE))
    other = {**BASE, "hiddenstate_indices": [1, 0, *BASE["hiddenstate_indices"][2:]]}
    assert hash_of(cells_of(other)) != hash_of(cells_of(BASE))


def test_blocks_have_no_order():
    moved = {
        "operations": ["1x1", "none", "separable_3x3_2", "max_pool_3x3", "separable_5x5_2", "avg_pool_3x3"],
        "hiddenstate_indices": [1, 0, 0, 1, 3, 1],
        "used_hiddenstates": [1, 1, 0, 1, 0],
    }
    assert hash_of(cells_of(moved)) == hash_of(cells_of(BASE))


def test_a_block_that_nothing_reads_does_not_matter():
    dead = {**BASE, "used_hiddenstates": [1, 1, 1, 1, 0]}
    changed = {**dead, "operations": [*BASE["operations"][:2], "3x3", "none", *BASE["operations"][4:]]}
    assert hash_of(cells_of(dead)) == hash_of(cells_of(changed)) != hash_of(cells_of(BASE))


def test_the_combiner_and_the_output_matter():
    joined = {**BASE, "combiners": ["concat", "add", "add"]}
    concatenated = {**BASE, "used_hiddenstates": [1, 1, 0, 0, 0]}
    assert len({hash_of(cells_of(cell)) for cell in (BASE, joined, concatenated)}) == 3


# Mechanics


class Alone(Block):
    """One operation at a setting."""

    operation: Block
    stride: int
    padding: str
    width: int = 3

    def forward(self, x):
        return self.operation(x, Setting(width=self.width, stride=self.stride, padding=self.padding))


@pytest.mark.parametrize("kernel", [2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [6, 7])
def test_pools_are_padded_as_tensorflow_does(kernel, stride, size):
    x = torch.randn(2, 3, size, size + 1)
    sides = []
    for extent in (size + 1, size):  # the last axis first, as `pad` has it
        total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
        sides += [total // 2, total - total // 2]
    ones = functional.pad(torch.ones_like(x), sides)
    expected = {
        "max": functional.max_pool2d(functional.pad(x, sides, value=-torch.inf), kernel, stride),
        "avg": functional.avg_pool2d(functional.pad(x, sides), kernel, stride)
        / functional.avg_pool2d(ones, kernel, stride),
    }
    for kind, value in expected.items():
        model = nas.build(nas.trace(Alone(Pool(kind, kernel), stride, "tf_same"), tuple(x.shape[1:])), seed=0)
        assert torch.allclose(model(x), value, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 9])
def test_pad_then_crop_computes_what_tf_same_does(size, stride):
    x = torch.randn(2, 3, size, size)
    graphs = [
        nas.trace(Alone(Separable(5), stride, padding), (3, size, size)) for padding in ("tf_same", "pad_then_crop")
    ]
    models = [nas.build(graph, seed=0).eval() for graph in graphs]
    models[1].load_state_dict(models[0].state_dict())
    assert torch.allclose(models[0](x), models[1](x), atol=1e-5)
    assert (graphs[1].macs > graphs[0].macs) == (stride == 1 or size % 2 == 0)


def test_bottlenecks_have_the_authors_widths():
    def widths(name, width):
        graph = nas.trace(Alone(operation(name), 1, "same", width), (width, 8, 8))
        return [node.operation.channels for node in graph.nodes if isinstance(node.operation, ops.Conv)]

    assert widths("3x3", 50) == [12, 12, 50]
    assert widths("1x7_7x1", 50) == [12, 12, 12, 50]
    assert widths("1x3_3x1", 50) == [18, 18, 18, 50]
    assert widths("dilated_3x3_rate_2", 3) == [3]  # no channel would be left inside
    assert widths("1x1", 50) == [50]


def test_concat_keeps_the_cells_width():
    cell = NASNetCell((NASNetBlock(0, 1, Skip(), Skip(), "concat"),), (2,))
    graph = nas.trace(NASNet(cell, width=8, cells=3), (3, 16, 16), classes=10)
    parts = [n for n in graph.nodes if n.path.startswith("cell_0.") and ".combine." in n.path]
    assert [n.shape[0] for n in parts] == [16, 16, 8, 8]  # both halves have the width already


def test_drop_path_grows_with_depth():
    block = network(CELLS["NASNet-A"], number=6, width=4, drop_path=0.4)
    graph = nas.trace(block, (3, 16, 16), classes=10)
    rates = {n.path.split(".")[0]: n.operation.rate for n in graph.nodes if isinstance(n.operation, ops.DropPath)}
    assert rates["cell_0"] == pytest.approx(0.4 / 8)
    assert rates["reduction_0"] == pytest.approx(0.4 * 3 / 8)
    assert rates["cell_5"] == pytest.approx(0.4)
    cell = [n for n in graph.nodes if n.path.startswith("cell_5.") and isinstance(n.operation, ops.DropPath)]
    assert len(cell) == 10 - 2  # all operations but the identities


def test_the_auxiliary_classifier_is_for_training_only():
    block = network(CELLS["NASNet-A"], number=6, width=4, classes=10)
    plain_graph = nas.trace(block, (3, 32, 32))
    graph = nas.trace(replace(block, auxiliary=True), (3, 32, 32))
    assert (graph.params, graph.macs) == (plain_graph.params, plain_graph.macs)
    model = nas.build(graph, seed=0)
    channels, side = 6 * 8, (16 - 5) // 3 + 1
    head = channels * 128 + 2 * 128 + 128 * 768 * side**2 + 2 * 768 + 768 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == graph.params + head
    logits, auxiliary = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ShapeError, match="5 x 5"):
        nas.trace(replace(block, auxiliary=True), (3, 8, 8))


def test_the_input_of_a_reduction_may_be_skipped():
    # with one cell a stage, the state before the reduction's predecessor has other channels
    block = network(CELLS["NASNet-A"], number=3, width=4)
    skipped = replace(block, skip_reduction_input=True)
    first, second = (nas.trace(b, (3, 16, 16), classes=10) for b in (block, skipped))
    assert first.canonical_hash != second.canonical_hash
    reading = {n.path: n.shape for n in second.nodes}
    assert reading["cell_0.normal.cell_output.concat"] == (24, 16, 16)
