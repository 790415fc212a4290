"""Published networks have the published costs: from the shared reference file, and from the copy in this repository."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import block_from_dict, block_to_dict
from nasturtium.zoo.published import ROWS, by_name

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "published.json").read_text())
IMAGENET = (3, 224, 224)
CLASSES = 1000


def expected_macs(row: dict) -> int | None:
    """MACs in the library's convention. pycls counts biases too; its rows state the MACs of timm's build beside."""
    return row["timm_computed"]["macs"] if "timm_computed" in row else row["macs"]


def mismatch(row: dict) -> str | None:
    """What is wrong with a row, or None. A row without MACs states parameters only."""
    graph = nas.trace(nas.zoo.published(row), row["input_size"] or IMAGENET)
    macs = expected_macs(row)
    if graph.params != row["params"] or macs not in (None, graph.macs):
        return f"{row['space']}, {row['name']}: {graph.params}, {graph.macs} instead of {row['params']}, {macs}"
    activations = row.get("activations", graph.activations + CLASSES) - CLASSES  # pycls adds the classifier's outputs
    if activations != graph.activations:
        return f"{row['space']}, {row['name']}: {graph.activations} activations instead of {activations}"
    return None


def test_every_computed_row_of_the_reference_file(reference: Path) -> None:
    rows = [r for r in json.loads(reference.read_text())["values"] if r["kind"] == "computed" or r["space"] == "RegNet"]
    wrong = [text for row in rows if (text := mismatch(row)) is not None]
    total = Counter(row["space"] for row in rows)
    print(f"\nreference rows matched: {len(rows) - len(wrong)} of {len(rows)}: {dict(total)}")
    assert not wrong
    assert len(rows) >= 270


@pytest.mark.parametrize("part", ["rows", "unseen"])
def test_golden_rows(part: str) -> None:
    rows = [row for row in GOLDEN[part] if row["space"] != "pycls"]  # its "flops" count biases: see below
    wrong = [text for row in rows if (text := mismatch(row)) is not None]
    print(f"\ngolden {part} matched: {len(rows) - len(wrong)} of {len(rows)}")
    assert not wrong


def test_published_networks_are_stored_as_json() -> None:
    for row in GOLDEN["rows"][::5]:
        block = nas.zoo.published(row)
        assert block_from_dict(json.loads(json.dumps(block_to_dict(block)))) == block


def test_cifar_resnets_have_the_published_parameters() -> None:
    # pycls dev/model_complexity.json; its "flops" count the classifier's 10 biases
    for depth, params, flops in ((56, 855_770, 125_747_850), (110, 1_730_714, 253_149_834)):
        graph = nas.trace(nas.zoo.resnet.resnet_cifar(depth, classes=10), (3, 32, 32))
        assert (graph.params, graph.macs) == (params, flops - 10)


def test_option_a_shortcuts_have_no_parameters() -> None:
    # He et al. 2016, table 6: ResNet-20 has 0.27M parameters, ResNet-110 1.7M
    for depth, published in ((20, 0.27e6), (32, 0.46e6), (44, 0.66e6), (56, 0.85e6), (110, 1.7e6)):
        graph = nas.trace(nas.zoo.resnet.resnet_cifar(depth, shortcut="pad", classes=10), (3, 32, 32))
        assert graph.params == pytest.approx(published, rel=0.03)
        assert not any("shortcut" in node.path and node.operation.kind == "conv" for node in graph.nodes)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("mobilenetv2_075.lamb_in1k", "timm"),
        ("efficientnet_b0.ra_in1k", "timm"),
        ("mnasnet0_5", "torchvision"),
    ],
)
def test_weight_tags_are_ignored(name: str, library: str) -> None:
    assert by_name(name, library) == by_name(name.split(".")[0], library)


@pytest.mark.parametrize("name", ["densenet120", "resnet51", "mobilenetv2_1x", "resnext50", "wide_resnext50_2", ""])
def test_unknown_names_list_the_families(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Known: "):
        by_name(name)


def test_unknown_library_and_space() -> None:
    with pytest.raises(UnknownNameError, match="torchvision"):
        by_name("resnet18", "keras")
    with pytest.raises(UnknownNameError, match="MCUNet"):
        nas.zoo.published({"space": "MCUNet", "config": {}})


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"space": "OFA"},
        {"space": "reference-model", "config": {}},
        {"space": "reference-model", "config": "resnet18"},
        {"space": "ProxylessNAS", "config": {"stem": 32}},
        {"space": "OFA-MobileNetV3", "config": {"final_expand": 960, "stages": []}},
    ],
)
def test_malformed_rows_are_refused(row: dict) -> None:
    with pytest.raises(InvalidInputError, match=r"row|needs|stages"):
        nas.zoo.published(row)


def test_a_published_network_takes_another_number_of_classes() -> None:
    assert nas.trace(nas.zoo.mobilenetv2.mobilenetv2(), IMAGENET, classes=10).nodes[-1].shape == (10,)
    assert nas.trace(by_name("resnet18", classes=7), IMAGENET).nodes[-1].shape == (7,)


@pytest.mark.parametrize("row", [None, 5, "resnet18", [1]])
def test_a_row_is_a_mapping(row: object) -> None:
    with pytest.raises(InvalidInputError, match="A row is a mapping"):
        nas.zoo.published(row)


@pytest.mark.parametrize(
    "error", [ValueError, AttributeError, ZeroDivisionError, StopIteration, KeyError, OverflowError]
)
def test_what_a_maker_raises_names_the_row(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_row: object) -> None:
        raise error("inside")

    monkeypatch.setitem(ROWS, "OFA", fail)
    with pytest.raises(InvalidInputError, match="'my row' of 'OFA' is malformed"):
        nas.zoo.published({"space": "OFA", "name": "my row", "config": {}})


def test_the_librarys_own_errors_pass_untouched() -> None:
    with pytest.raises(UnknownNameError, match=r"ResNet depth .51"):
        nas.zoo.published({"space": "reference-model", "config": {"library": "timm", "model": "resnet51"}})
    with pytest.raises(InvalidInputError, match="malformed"):
        nas.zoo.published({"space": "reference-model", "config": {"library": "timm", "model": 5}})
    with pytest.raises(UnknownNameError, match="space of published networks"):
        nas.zoo.published({"space": ["OFA"], "config": {}})


@pytest.mark.parametrize("name", ["mobilenetv1_000", "mobilenetv2_000"])
def test_a_width_multiplier_is_above_zero(name: str) -> None:
    with pytest.raises(InvalidInputError, match="above 0"):
        by_name(name)


def test_mobilenet_with_a_head_convolution() -> None:
    graph = nas.trace(by_name("mobilenetv1_100h"), IMAGENET)  # timm 1.0.31, hooks on the meta device
    assert (graph.params, graph.macs) == (5_282_600, 620_120_576)
