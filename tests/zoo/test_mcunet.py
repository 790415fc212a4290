"""MCUNet and TinyNAS: published networks with their memories, the 108 spaces, which networks stand in them."""

from __future__ import annotations

import json
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks import Conv, Sequential
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.space.lowering import lower
from nasturtium.zoo import mcunet

KIB = 1024
# METHODS, section 7: parameters, MACs, plain and in-place peak in KiB, bytes of int8 weights and int32 biases
TABLE = {
    "mcunet-10fps_imagenet": (749_840, 6_364_224, 45.0, 45.0, 766_504),
    "mcunet-5fps_imagenet": (636_232, 12_790_096, 90.0, 90.0, 651_248),
    "mcunet-256kb-1mb_imagenet": (729_392, 67_287_200, 325.0, 200.0, 747_880),
    "mcunet-320kb-1mb_imagenet": (737_408, 81_785_520, 332.75, 242.0, 755_784),
    "mcunet-512kb-2mb_imagenet": (1_732_640, 125_874_400, 412.5, 400.0, 1_757_048),
    "mbv2-w0.35-r144_imagenet": (750_280, 23_499_152, 303.75, 283.5, 765_696),
    "proxyless-w0.3-r176_imagenet": (754_280, 38_282_216, 242.0, 242.0, 768_880),
}
# width and resolution that the published networks decode to (METHODS, section 7)
PLACES = {
    "mcunet-10fps_imagenet": (0.6, 48),
    "mcunet-5fps_imagenet": (0.5, 96),
    "mcunet-256kb-1mb_imagenet": (0.5, 160),
    "mcunet-320kb-1mb_imagenet": (0.5, 176),
    "mcunet-512kb-2mb_imagenet": (1.0, 160),
    "mcunet-256kb-1mb-int4_imagenet": (0.9, 160),
    "mcunet-320kb-1mb-int4_imagenet": (0.9, 176),
    "mcunet-512kb-2mb-int4_imagenet": (1.5, 192),
}


def costs(graph):
    return (
        graph.params,
        graph.macs,
        graph.peak_memory(convention="conv_in_out"),
        graph.peak_memory(convention="conv_in_out", inplace_depthwise=True),
        graph.flash_memory(bias=False),
        graph.flash_memory(),
    )


@pytest.fixture(scope="module")
def rows(reference):
    found = {r["name"]: r for r in json.loads(reference.read_text())["values"] if r["space"] == "MCUNet/TinyNAS"}
    assert len(found) >= 10
    return found


def test_reference_rows(rows):
    keys = (
        "params", "macs", "peak_activation_bytes_inout_residual", "peak_activation_bytes_inplace_dw",
        "int8_weight_bytes", "int8_weight_plus_int32_bias_bytes",
    )  # fmt: skip
    for row in rows.values():
        assert costs(nas.trace(nas.zoo.published(row), row["input_size"])) == tuple(row[k] for k in keys), row["name"]


def test_the_table_of_the_methods(rows):
    for name, (params, macs, plain, inplace, flash) in TABLE.items():
        found = costs(nas.trace(nas.zoo.published(rows[name]), rows[name]["input_size"]))
        assert found[:4] == (params, macs, plain * KIB, inplace * KIB)
        assert found[5] == flash


def test_published_networks_stand_in_their_spaces(rows):
    checked = 0
    for name, (width, resolution) in PLACES.items():
        if name not in rows:
            continue
        network = nas.zoo.published(rows[name])
        assert rows[name]["input_size"][1] == resolution
        space = mcunet.mcunet(width=width, expansions=mcunet.PUBLISHED_EXPANSIONS)
        ours, theirs = (
            nas.trace(block, (3, resolution, resolution), classes=1000)
            for block in (mcunet.architecture(network, space), network)
        )
        assert ours.canonical_hash == theirs.canonical_hash
        assert costs(ours) == costs(theirs)
        checked += 1
    assert checked >= 7


def test_the_network_with_expansion_five_is_not_in_the_space_without_it(rows):
    network = nas.zoo.published(rows["mcunet-320kb-1mb_imagenet"])
    with pytest.raises(nas.errors.NasturtiumError, match="5"):
        mcunet.architecture(network, mcunet.mcunet(width=0.5))
    with pytest.raises(InvalidArchitectureError, match="widths and strides"):
        mcunet.architecture(network, mcunet.mcunet(width=1.0))


def test_sizes():
    assert mcunet.mcunet().size == (9**2 + 9**3 + 9**4) ** 5 * 9 == mcunet.FAMILIES[0].size
    four = mcunet.mcunet(expansions=mcunet.PUBLISHED_EXPANSIONS)
    assert four.size == (12**2 + 12**3 + 12**4) ** 5 * 12
    assert f"{four.size:.1e}" == "7.1e+22"  # METHODS, section 0.1
    assert mcunet.mcunet(resolutions=mcunet.RESOLUTIONS).size == 12 * mcunet.mcunet().size


def test_the_108_spaces():
    spaces = mcunet.tinynas_spaces()
    assert len(spaces) == 108
    assert len({space.fingerprint for space in spaces.values()}) == 108
    assert {space.size for space in list(spaces.values())[::20]} == {mcunet.mcunet().size}
    rng = random.Random(0)
    for (_, resolution), space in list(spaces.items())[::17]:
        graph = nas.trace(space.sample(rng), (3, resolution, resolution), classes=1000)
        assert not any(node.operation.kind == "resize" for node in graph.nodes)


def test_laws_and_lowering():
    nas.testing.check_space(mcunet.mcunet(), samples=5)
    assert lower(mcunet.mcunet(resolutions=(48, 64)), (3, 48, 48), classes=10).nodes


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 224, 224)])
def test_any_image_size(shape):
    architecture = mcunet.mcunet(shape, resolutions=(48, 64)).sample(random.Random(0))
    graph = nas.trace(architecture, shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


def test_a_network_that_resizes_runs():
    architecture = mcunet.mcunet(resolutions=48).sample(random.Random(0))
    model = nas.build(nas.trace(architecture, (3, 32, 32), classes=10), seed=0)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_flash_counts_each_tensor_of_weights_once():
    conv = nas.trace(Conv(8, 3), (4, 6, 6))
    assert conv.flash_memory() == 8 * 4 * 9 + 4 * 8
    assert conv.flash_memory(bias=False) == 8 * 4 * 9
    assert conv.flash_memory("int4", bias=False) == 8 * 4 * 9 // 2
    assert conv.flash_memory("float32", bias=False) == 4 * 8 * 4 * 9
    biased = nas.trace(Conv(8, 3, norm=False), (4, 6, 6))
    assert biased.flash_memory() == conv.flash_memory()

    class Twice(nas.Block):
        block: object

        def forward(self, x):
            return self.block(self.block(x))

    tied = nas.trace(Twice(Conv(4)), (4, 6, 6))
    assert tied.flash_memory() == 4 * 4 * 9 + 4 * 4
    assert nas.trace(Sequential(Conv(4), Conv(4)), (4, 6, 6)).flash_memory() == 2 * tied.flash_memory()
    with pytest.raises(UnknownNameError, match="int9"):
        conv.flash_memory("int9")


def test_bad_input():
    with pytest.raises(InvalidInputError, match="multiplier"):
        mcunet.mcunet(width=0)
    with pytest.raises(InvalidInputError, match="positive integers"):
        mcunet.mcunet(resolutions=(48, 0))
    with pytest.raises(InvalidInputError, match="space of `mcunet`"):
        mcunet.architecture(Conv(8), nas.Space(Conv(8)))
