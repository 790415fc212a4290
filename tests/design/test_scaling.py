"""Compound scaling: the laws of `scale`, published networks by it, and what cannot be scaled."""

from __future__ import annotations

import json
import math
import random
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.blocks import Linear, MaxPool, Repeat
from nasturtium.design import ENDS, compound, fast_compound, scale
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Block
from nasturtium.space.json import block_from_dict, block_to_dict
from nasturtium.zoo import efficientnet
from nasturtium.zoo.registry import FAMILIES

SHAPE = (3, 224, 224)
B0 = efficientnet.efficientnet("b0")


def networks() -> dict[str, Block]:
    """Networks of several families, each with stages."""
    zoo = nas.zoo
    return {
        "efficientnet": B0,
        "mobilenetv2": zoo.mobilenetv2.mobilenetv2(),
        "mobilenetv3": zoo.by_name("mobilenetv3_large_100"),
        "mnasnet": zoo.mnasnet.mnasnet("a1"),
        "single_path": zoo.mnasnet.mnasnet("single_path"),
        "resnet18": zoo.resnet.resnet(18),
        "resnet50": zoo.resnet.resnet(50),
        "resnext50": zoo.by_name("resnext50_32x4d"),
        "mobile": zoo.space("mobile", (3, 64, 64)).sample(random.Random(1)).block,
    }


NETWORKS = networks()


def macs(scaled, classes: int = 10) -> int:
    return nas.cost(scaled.network, scaled.input_shape, classes=classes).macs


def stages(block: Block) -> list[int]:
    """Numbers of blocks in the stages, in order."""
    return [len(layer.blocks) for layer in block.layers if isinstance(layer, Repeat)]


@pytest.mark.parametrize("name", NETWORKS)
def test_by_one_it_is_the_same_network(name):
    block = NETWORKS[name]
    scaled = scale(block, 1, 1, 1, input_shape=(3, 64, 48))
    assert scaled.network is block
    assert scaled.input_shape == (3, 64, 48)
    assert scale(block, width=1.0 + 1e-9).network == block or name == "mobile"  # not multiples of 8
    assert scale(block, width=1.0 + 1e-9, divisor=1, keep=ENDS).network == block


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.floats(0.3, 2.5), st.floats(0.3, 2.5), st.floats(0.8, 1.5))
def test_what_is_scaled_traces_and_reads_back(name, depth, width, resolution):
    block = NETWORKS[name]
    scaled = scale(block, depth, width, resolution, input_shape=(3, 64, 64))
    graph = nas.trace(scaled.network, scaled.input_shape, classes=10)
    assert graph.macs > 0
    assert block_from_dict(json.loads(json.dumps(block_to_dict(scaled.network)))) == scaled.network
    for before, after in zip(stages(block), stages(scaled.network), strict=True):
        assert after == max(1, math.ceil(before * depth))
    assert block == networks()[name], "the network that was given has not changed"


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_grow_as_depth_width_and_resolution_say(name):
    block = NETWORKS[name]
    base = macs(scale(block, input_shape=SHAPE))
    assert macs(scale(block, resolution=2, input_shape=SHAPE)) / base == pytest.approx(4, rel=0.02)
    depthwise = name not in ("resnet18", "resnet50")
    assert macs(scale(block, width=2, input_shape=SHAPE)) / base == pytest.approx(4, rel=0.25 if depthwise else 0.04)
    doubled = macs(scale(block, depth=2, input_shape=SHAPE)) / base
    assert 1.5 < doubled < 2.4


@pytest.mark.parametrize("phi", [1, 2, 3])
def test_compound_scaling_multiplies_the_macs_by_what_it_says(phi):
    multipliers = compound(phi)
    assert multipliers.cost == pytest.approx((1.2 * 1.1**2 * 1.15**2) ** phi)
    deep = nas.zoo.resnet.resnet(152)  # where rounding depths up does little
    grown = macs(scale(deep, *multipliers, input_shape=SHAPE)) / macs(scale(deep, input_shape=SHAPE))
    assert grown == pytest.approx(multipliers.cost, rel=0.15)
    grown = macs(scale(B0, *multipliers, input_shape=SHAPE)) / macs(scale(B0, input_shape=SHAPE))
    assert multipliers.cost * 0.9 < grown < multipliers.cost * 1.5


def test_efficientnets_by_scale_to_the_unit(reference):
    rows = [row for row in json.loads(reference.read_text())["values"] if row["name"].startswith("efficientnet_")]
    for row in rows:
        variant = row["name"].removeprefix("efficientnet_")
        width, depth, *_ = efficientnet.SCALES[variant]
        lite = variant.startswith("lite")
        base = efficientnet.efficientnet("lite0" if lite else "b0")
        cost = nas.cost(scale(base, depth, width, keep=ENDS if lite else ()).network, row["input_size"], classes=1000)
        assert (cost.params, cost.macs) == (row["params"], row["macs"]), row["name"]
    assert len(rows) == 28


EFFICIENTNETS = {
    "b0": (5_288_548, 385_814_752), "b1": (7_794_184, 686_802_832), "b2": (9_109_994, 993_561_872),
    "b3": (12_233_232, 1_827_141_392), "b4": (19_341_616, 4_393_771_024), "b5": (30_389_784, 10_266_384_752),
    "b6": (43_040_704, 19_067_593_536), "b7": (66_347_960, 37_745_884_192),
}  # fmt: skip
"""Parameters and MACs of timm's networks, counted by hooks."""


@pytest.mark.parametrize("variant", EFFICIENTNETS)
def test_b0_to_b7_from_b0(variant):
    width, depth, pixels, _ = efficientnet.SCALES[variant]
    scaled = scale(B0, depth, width, pixels=pixels, input_shape=SHAPE)
    assert scaled.input_shape == (3, pixels, pixels)
    cost = nas.cost(scaled.network, scaled.input_shape, classes=1000)
    assert (cost.params, cost.macs) == EFFICIENTNETS[variant]


def test_ends_of_efficientnet_lite_stay():
    lite = efficientnet.efficientnet("lite0")
    scaled = scale(lite, 1.8, 1.4, keep=ENDS).network
    assert scaled.layers[:-1] == efficientnet.efficientnet("lite4").layers[:-1], "which has another dropout"
    assert scaled.layers[0] == lite.layers[0]
    assert scaled.layers[-2].width == 1280
    assert stages(scaled) == [1, 4, 4, 6, 6, 8, 1]
    assert scaled.layers[1].blocks[0].width == 24
    assert nas.cost(scaled, SHAPE, classes=1000).params == 13_006_568


def test_an_architecture_gives_an_architecture():
    architecture = nas.zoo.space("mobile").sample(random.Random(0))
    scaled = scale(architecture, 2, 1.5, input_shape=(1, 8, 8))
    assert isinstance(scaled.network, Architecture)
    assert scaled.network.block == scale(architecture.block, 2, 1.5).network
    assert Architecture.from_dict(json.loads(json.dumps(scaled.network.to_dict()))) == scaled.network
    assert scale(architecture).network is architecture
    assert nas.cost(scaled.network, (1, 8, 8), classes=10).macs > nas.cost(architecture, (1, 8, 8), classes=10).macs


def test_a_scaled_network_builds_and_runs():
    import torch

    scaled = scale(NETWORKS["mobile"], 1.5, 1.3, 0.5, input_shape=(3, 64, 64))
    model = nas.build(nas.trace(scaled.network, scaled.input_shape, classes=10), seed=0)
    assert model(torch.zeros(2, *scaled.input_shape)).shape == (2, 10)


def test_a_stage_grows_and_shrinks_at_its_end():
    first, second, third = nas.MBConv(16, 5, stride=2), nas.MBConv(16, 3), nas.MBConv(16, 7)
    stage = Repeat((first, second, third))
    assert scale(stage, 5 / 3).network.blocks == (first, second, third, third, third)
    assert scale(stage, 0.5).network.blocks == (first, second)
    assert scale(stage, 0.01).network.blocks == (first,)
    assert scale(stage, 0.5, round_depth="round").network.blocks == (first, second)
    assert scale(Repeat((first,)), 3).network.blocks == (first, nas.MBConv(16, 5), nas.MBConv(16, 5))
    grown = scale(Repeat((second,)), 3).network
    assert nas.trace(grown, (16, 8, 8)).params == 3 * nas.trace(second, (16, 8, 8)).params, "each has its own weights"


def output_shape(block: Block) -> tuple[int, ...]:
    graph = nas.trace(block, (3, 16, 16))
    return graph.nodes[graph.outputs[0].node].shape


def test_copies_have_stride_1_however_deep_the_stride_stands():
    inner = nas.Sequential(nas.Conv(16, stride=2), nas.Sequential(nas.Conv(16), MaxPool(3, stride=2)))
    network = nas.Sequential(nas.repeat(inner, 1), nas.Classifier(10))
    first, *copies = scale(network, depth=3).network.layers[0].blocks
    assert first == inner
    assert copies == [nas.Sequential(nas.Conv(16), nas.Sequential(nas.Conv(16), MaxPool(3)))] * 2
    stage = scale(network, depth=3).network.layers[0]
    assert output_shape(stage) == (16, 4, 4)
    plain = nas.Sequential(nas.repeat(nas.Sequential(nas.Conv(16, stride=2)), 1))
    assert output_shape(scale(plain, depth=3).network) == (16, 8, 8)


class Around(Block):
    """A number of cells, each of which is a stage too."""

    depth_fields: ClassVar[tuple[str, ...]] = ("cells",)
    cell: Block
    cells: int = 3


def test_a_stage_inside_a_stage_keeps_its_depth():
    inner = Repeat((nas.Conv(8), nas.Conv(8)))
    scaled = scale(Repeat((inner, inner)), 2, 2).network
    assert [len(block.blocks) for block in scaled.blocks] == [2] * 4
    assert scaled.blocks[3].blocks[1].width == 16
    assert scale(Around(inner), 2, 2).network == Around(Repeat((nas.Conv(16), nas.Conv(16))), cells=6)


def test_groups_divide_the_widths():
    block = nas.zoo.by_name("resnext50_32x4d")
    scaled = scale(block, width=1.3).network
    assert all(b.mid % 32 == 0 for layer in scaled.layers if isinstance(layer, Repeat) for b in layer.blocks)
    mixed = nas.Sequential(nas.Conv(24), nas.Conv(24, groups=3), nas.Conv(24, groups=24), nas.Conv(40, groups=2))
    for width in (0.3, 1.4, 2.7):
        for divisor in (1, 8):
            assert nas.trace(scale(mixed, width=width, divisor=divisor).network, (3, 8, 8)).params > 0
    assert [layer.width for layer in scale(mixed, width=1.4).network.layers] == [48, 48, 48, 72]
    depthwise = nas.Sequential(nas.Conv(32), nas.Conv(32, groups=32))
    scaled = scale(depthwise, width=1.5).network
    assert (scaled.layers[1].width, scaled.layers[1].groups) == (48, 48)
    assert nas.trace(scaled, (3, 8, 8)).params == nas.trace(nas.Sequential(nas.Conv(48)), (3, 8, 8)).params + 48 * 11


HAND_DESIGNED = {
    "inception": nas.zoo.inception.inception_v3,
    "densenet": nas.zoo.densenet.densenet,
    "squeezenet": nas.zoo.squeezenet.squeezenet,
    "vgg": nas.zoo.vgg.vgg,
    "shufflenetv2": nas.zoo.shufflenet.shufflenetv2,
    "ghostnet": nas.zoo.ghostnet.ghostnet,
    "resnet": lambda: nas.zoo.by_name("resnext50_32x4d"),
    "efficientnet": lambda: B0,
    "mobilenetv1": lambda: nas.zoo.by_name("mobilenetv1_100"),
    "mobilenetv2": lambda: nas.zoo.by_name("mobilenetv2_100"),
    "mobilenetv3": lambda: nas.zoo.by_name("mobilenetv3_small_100"),
    "lcnet": lambda: nas.zoo.by_name("lcnet_050"),
    "hardcorenas": lambda: nas.zoo.by_name("hardcorenas_a"),
}
"""A network of each family without a space."""

COMPUTED = {"regnet": "RegNet", "anynet_d": "OrderedStage", "anynet_e": "OrderedStage"}
"""Families whose widths and depths follow from several numbers together, and the block that says so."""


WITHOUT_DEPTH = ("nas_rl", "enas_macro", "nasbench101", "nasbench201", "nats_size", "nasbench_macro", "autodeeplab")
"""Families whose layers are wired one by one, or in a skeleton of fixed depth."""


def family_network(name: str):
    if name in HAND_DESIGNED:
        return HAND_DESIGNED[name]()
    space = nas.zoo.family(name).space
    assert space is not None, f"name a network of {name} in HAND_DESIGNED"
    return space().sample(random.Random(0))


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_every_family_scales_or_is_refused(name):
    network, shape = family_network(name), nas.zoo.family(name).input_shape
    if name in COMPUTED:
        for arguments in ({"width": 2}, {"depth": 2}):
            with pytest.raises(InvalidInputError, match=rf"cannot be scaled: {COMPUTED[name]} computes `\w+` from"):
                scale(network, **arguments)
        return
    base = nas.cost(network, shape, classes=10).macs
    assert 2.5 < nas.cost(scale(network, width=2).network, shape, classes=10).macs / base < 4.5
    if name in WITHOUT_DEPTH:
        with pytest.raises(InvalidInputError, match="has no depth to scale"):
            scale(network, depth=2)
    else:  # from a stage in a neck to dense layers, each of which sees more
        assert 1.05 < nas.cost(scale(network, depth=2).network, shape, classes=10).macs / base < 3


@pytest.mark.parametrize(
    ("name", "field"), [("darts", "layers"), ("enas_micro", "layers"), ("nasnet", "cells"), ("pnas", "cells")]
)
def test_cells_are_the_depth_of_cell_networks(name, field):
    network = family_network(name).block
    assert getattr(scale(network, depth=1.5).network, field) == math.ceil(1.5 * getattr(network, field))


def test_what_the_families_scale():
    zoo = nas.zoo
    dense = scale(zoo.densenet.densenet(121), 2, 2).network
    counted = [(block.count, block.growth) for block in dense.layers if isinstance(block, zoo.densenet.DenseBlock)]
    assert counted == [(12, 64), (24, 64), (48, 64), (32, 64)]
    assert scale(zoo.inception.inception_v3(), 2, 0.5).network == zoo.inception.inception_v3(0.5, 2.0)
    mobile = zoo.squeezenet.squeezenet("1_1")
    assert scale(mobile, width=0.5).network.layers[2].blocks == zoo.squeezenet.squeezenet("1_1", 0.5).layers[2].blocks
    deeplab = family_network("autodeeplab").block
    wide = scale(deeplab, width=2).network
    assert (wide.stem, wide.trellis.filters) == ((128, 128, 256), 2 * deeplab.trellis.filters)
    assert wide.trellis.path == deeplab.trellis.path


def test_widths_round_as_make_divisible():
    widths = [
        scale(nas.Conv(w), width=f, divisor=d).network.width for w, f, d in [(20, 1, 8), (20, 1.1, 8), (24, 1.1, 8)]
    ]
    assert widths == [20, 24, 24]
    assert scale(nas.Conv(100), width=0.11, divisor=1).network.width == 11
    assert scale(nas.Conv(100), width=0.01).network.width == 8


class Own(Block):
    """A user's block, which says what can be scaled."""

    width_fields: ClassVar[tuple[str, ...]] = ("growth", "ratio")
    depth_fields: ClassVar[tuple[str, ...]] = ("count", "length", "more")
    growth: int = 8
    ratio: float = 0.5
    count: int = 3
    length: float = 1.0
    width: int = 5
    more: tuple[int, ...] = ()

    def forward(self, x):
        for k in range(math.ceil(self.count * self.length)):
            x = nas.ops.conv(x, int(self.growth / self.ratio), name=f"conv_{k}")
        return nas.ops.conv(x, self.width, name="last")


def test_a_block_says_what_can_be_scaled():
    assert scale(Own(), 1.5, 2).network == Own(growth=16, ratio=1.0, count=5, length=1.5, width=5)
    assert scale(Own(more=(1, 2)), 1.5).network == Own(count=5, length=1.5, more=(2, 3))
    inside = nas.Sequential(nas.Conv(8), Own(), Linear(10))
    scaled = scale(inside, 2, 2, keep=("stem", "head")).network
    assert scaled.layers == (nas.Conv(8), Own(growth=16, ratio=1.0, count=6, length=2.0), Linear(10))


def test_a_cell_network_has_widths_only():
    cell = nas.zoo.nasbench201.network(
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    )
    wide = scale(cell, width=2, input_shape=(3, 32, 32))
    assert wide.network.width == 32
    assert macs(wide) / macs(scale(cell, input_shape=(3, 32, 32))) == pytest.approx(4, rel=0.03)
    with pytest.raises(
        InvalidInputError, match=r"NASBench201 has no depth to scale: it holds no `Repeat`.*nas\.repeat"
    ):
        scale(cell, depth=2)
    with pytest.raises(InvalidInputError, match="has no stage that tells head, stem"):
        scale(cell, width=2, keep=("stem", "head"))


def test_resolution():
    assert scale(B0, resolution=1.15, input_shape=(3, 224, 192)).input_shape == (3, 258, 221)
    assert scale(B0, pixels=240, input_shape=(3, 224, 448)).input_shape == (3, 240, 480)
    assert scale(B0, resolution=0.001, input_shape=SHAPE).input_shape == (3, 1, 1)
    assert scale(B0).input_shape is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "`depth` must be a positive multiplier of at most 1000, got 0"),
        ({"width": -1.0}, "`width` must be a positive"),
        ({"resolution": float("nan"), "input_shape": SHAPE}, "`resolution` must be a positive"),
        ({"depth": True}, "`depth` must be"),
        ({"resolution": 1.5}, "give `input_shape"),
        ({"pixels": 200}, "give `input_shape"),
        ({"pixels": 200, "resolution": 1.5, "input_shape": SHAPE}, "not both"),
        ({"pixels": 0, "input_shape": SHAPE}, "`pixels` must be"),
        ({"input_shape": (3, 8)}, r"`input_shape` must be \(channels, height, width\)"),
        ({"divisor": 0}, "`divisor` must be"),
        ({"depth": 1e308}, "`depth` must be a positive multiplier of at most 1000"),
        ({"width": math.inf}, "`width` must be a positive multiplier of at most 1000"),
        ({"width": "2"}, "`width` must be a positive multiplier"),
        ({"round_depth": ["ceil"]}, "`round_depth` must be one of ceil, round"),
        ({"input_shape": 8}, r"`input_shape` must be \(channels, height, width\), got 8"),
        ({"keep": None}, "`keep` must be a collection of the parts stem, first, last, head.*got None"),
        ({"keep": "stem"}, r"for example `keep=\('stem',\)`, got 'stem'"),
        ({"keep": [3]}, "`keep` must be a collection of the parts"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        scale(B0, **arguments)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'head'"):
        scale(B0, width=2, keep=("heads",))
    with pytest.raises(UnknownNameError, match="ceil"):
        scale(B0, depth=2, round_depth="floor")


def test_what_has_nothing_to_scale():
    with pytest.raises(InvalidInputError, match=r"Identity has no width to scale.*`width_fields`"):
        scale(nas.Identity(), width=2)
    with pytest.raises(InvalidInputError, match="no depth to scale"):
        scale(nas.Sequential(nas.Conv(8), Repeat(())), depth=2)
    with pytest.raises(InvalidInputError, match="has open choices"):
        scale(nas.Conv(nas.one_of(8, 16)), width=2)
    with pytest.raises(InvalidInputError, match="Conv has no stage that tells stem"):
        scale(nas.Conv(8), keep=["stem"])
    with pytest.raises(InvalidInputError, match="must be a closed block or an architecture, got 3 of type int"):
        scale(3, 2.0)
    with pytest.raises(InvalidInputError, match=r"got a Space: draw one with `space\.sample\(rng\)`"):
        scale(nas.Space(nas.repeat(nas.Conv(8), 2)), 2.0)


def test_compound():
    assert compound(0) == (1, 1, 1)
    assert compound(2) == pytest.approx((1.44, 1.21, 1.3225))
    assert compound(-1).cost == pytest.approx(1 / compound(1).cost)
    assert compound(1, alpha=2, beta=1, gamma=1) == (2, 1, 1)
    with pytest.raises(InvalidInputError, match=r"must be 2 to within 0\.1, got 1\.21"):
        compound(1, alpha=1, beta=1.1, gamma=1)
    with pytest.raises(InvalidInputError, match="`gamma` must be at least 1"):
        compound(1, alpha=2, beta=1.1, gamma=0.95)
    with pytest.raises(InvalidInputError, match="`phi` must be a finite number"):
        compound(float("inf"))
    for phi in (1e6, -1e6, 10**300, 1e308):
        with pytest.raises(InvalidInputError, match=r"`phi` must make multipliers from 1 / 1000 to 1000"):
            compound(phi)
    for arguments, message in [
        ({"cost": "x"}, "`cost` must be a finite number, got 'x'"),
        ({"cost": math.nan}, "`cost` must be a finite number, got nan"),
        ({"cost": 0}, "`cost` must be above 0"),
        ({"tolerance": -1}, "`tolerance` must be at least 0, got -1"),
        ({"tolerance": None}, "`tolerance` must be a finite number"),
        ({"alpha": 10**400}, "`alpha` must be a finite number"),
        ({"alpha": 1e300}, "`alpha` must be at least 1 and at most 1000"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            compound(1, **arguments)


@given(st.floats(0.01, 100), st.floats(0, 1))
def test_fast_compound(cost, share):
    found = fast_compound(cost, width_share=share)
    assert found.cost == pytest.approx(cost)
    assert found.width**2 == pytest.approx(cost**share)


def test_fast_compound_is_that_of_the_authors():
    d, w, r = 8 ** (1 / 10), 8 ** (8 / 10 / 2), 8 ** (1 / 10 / 2)  # scale type "d1_w8_g8_r1"
    assert fast_compound(8) == pytest.approx((d, w, r))
    for arguments, message in [((0,), "above 0"), ((math.nan,), "finite"), ((2, 1.5), r"in \[0, 1\]")]:
        with pytest.raises(InvalidInputError, match=message):
            fast_compound(*arguments[:1], **({"width_share": arguments[1]} if arguments[1:] else {}))
