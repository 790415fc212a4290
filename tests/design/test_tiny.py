"""TinyNAS, first stage: footprints equal the graph's, the published table, limits, ranking and acceptance."""

from __future__ import annotations

import json
import random

import pytest

import nasturtium as nas
from nasturtium.blocks import Conv, Identity, MBConv, Sequential, repeat
from nasturtium.design import Footprints, Limits, sample_footprints, scan
from nasturtium.design.footprint import ENGINES, Footprint
from nasturtium.design.tiny import Candidate, Scan, rows
from nasturtium.errors import IncompatibleError, InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.hardware.micro import predict_arena, predict_file
from nasturtium.zoo import mcunet

KIB, MIB = 1 << 10, 1 << 20


def whole(block, shape, name, **context):
    """The same numbers from the graph of the whole network."""
    graph = nas.trace(block, shape, **context)
    if name == "tflm":
        return Footprint(graph.macs, predict_arena(graph).total, predict_file(graph))
    peak = graph.peak_memory(convention="conv_in_out", inplace_depthwise=name == "tinyengine")
    return Footprint(graph.macs, peak, graph.flash_memory())


@pytest.mark.parametrize("name", ENGINES)
def test_footprints_are_those_of_the_whole_graph(name):
    rng = random.Random(0)
    for space, shape in (
        (mcunet.mcunet(width=0.5, resolutions=48), (3, 48, 48)),
        (mcunet.mcunet(width=0.3, resolutions=80), (1, 28, 28)),  # images are resized inside the network
        (nas.zoo.space("mobile", (1, 28, 28)), (1, 28, 28)),
        (nas.zoo.space("darts", (3, 32, 32)), (3, 32, 32)),  # no chain: cells read two predecessors
        (nas.zoo.space("anynet_a", (3, 32, 32)), (3, 32, 32)),
    ):
        footprints = Footprints(shape, name, classes=10)
        for _ in range(2):
            network = space.sample(rng)
            assert footprints(network) == whole(network, shape, name, classes=10)
            assert footprints(network.block) == footprints(network)


def test_the_limit_under_tflm_is_the_arena_and_not_the_activations_of_a_frugal_engine():
    """MCUNet of width 0.3 at 48 pixels: in-place activations that fit 64 KiB need an arena of nearly twice as much."""
    network = mcunet.mcunet(width=0.3, resolutions=48).sample(random.Random(0))
    graph = nas.trace(network, (3, 48, 48), classes=10)
    frugal, real = (Footprints((3, 48, 48), name, classes=10)(network) for name in ("tinyengine", "tflm"))
    assert real.sram == predict_arena(graph).total > 1.5 * frugal.sram
    assert real.flash == predict_file(graph) > frugal.flash
    limits = Limits(sram=64 * KIB)
    assert limits.fits(frugal)
    assert not limits.fits(real)


def test_an_operation_that_tflm_lacks_is_named():
    with pytest.raises(IncompatibleError, match=r"(?i)gelu"):
        Footprints((3, 8, 8), "tflm")(Sequential(Conv(4, act="gelu")))


class Normalize(nas.Block):
    """A batch norm of its own, which may be folded into whatever stands before it."""

    def forward(self, x):
        return nas.ops.batch_norm(x)


@pytest.mark.parametrize("before", [Conv(8, norm=False, act="identity"), Identity(), MBConv(3)])
def test_a_norm_that_leans_on_the_block_before(before):
    network = Sequential(before, Sequential(Normalize(), Conv(4)))
    assert Footprints((3, 8, 8))(network) == whole(network, (3, 8, 8), "tinyengine")


def test_published_networks(reference):
    checked = 0
    for row in json.loads(reference.read_text())["values"]:
        if row["space"] != "MCUNet/TinyNAS" or "int8_weight_plus_int32_bias_bytes" not in row:
            continue
        found = Footprints(tuple(row["input_size"]))(nas.zoo.published(row))
        expected = (row["macs"], row["peak_activation_bytes_inplace_dw"], row["int8_weight_plus_int32_bias_bytes"])
        assert found == expected
        checked += 1
    assert checked >= 10


def drawn(keys, samples, name="tinyengine"):
    made = {}
    spaces = {key: mcunet.mcunet(width=key[0], resolutions=key[1]) for key in keys}
    return sample_footprints(
        spaces,
        lambda key: made.setdefault(key[1], Footprints((3, key[1], key[1]), name, classes=1000)),
        samples=samples,
    )


@pytest.fixture(scope="module")
def sampled():
    return drawn([(0.5, 176), (0.5, 160), (0.5, 144)], 120)


def test_rows_of_the_published_table(reference, sampled):
    """Three spaces under two limits, within the sampling error of both tables; `benchmarks/tinynas.py` makes all."""
    table = json.loads(reference.read_text())["tinynas_stage1_reference"]
    for limits, best in (("256kB/1MB", (0.5, 176)), ("320kB/1MB", (0.5, 176))):
        published = {(row[2], row[3]): row for row in table[f"{limits}|inplace"]}
        found = scan(sampled, Limits(sram=int(limits[:3]) * KIB, flash=MIB))
        for candidate in found.candidates:
            expected, quantile, _, _, acceptance = published[candidate.key]
            assert candidate.mean / 1e6 == pytest.approx(expected, rel=0.06)
            assert candidate.quantile() / 1e6 == pytest.approx(quantile, rel=0.08)
            error = (acceptance * (1 - acceptance) * (1 / 120 + 1 / 1000)) ** 0.5
            assert abs(candidate.acceptance - acceptance) < 3.5 * error + 1e-9
        assert found.best().key == best


def test_reserved_memory_moves_the_pick_to_the_published_space(sampled):
    """TinyEngine's own buffers, about 45 KiB, move the pick one resolution down: (0.5, 160) at 256 kB (METHODS, 7)."""
    limits = Limits(sram=256 * KIB, flash=MIB, sram_reserve=45 * KIB)
    assert scan(sampled, limits).best().key == (0.5, 160)


def footprints_of(macs, sram, flash=1):
    return [Footprint(m, s, flash) for m, s in zip(macs, sram, strict=True)]


def test_limits_are_inclusive_and_count_the_reserve():
    assert Limits(sram=100, flash=10).fits(Footprint(1, 100, 10))
    assert not Limits(sram=100, flash=10).fits(Footprint(1, 101, 10))
    assert not Limits(sram=100, flash=10).fits(Footprint(1, 100, 11))
    assert Limits().fits(Footprint(1, 1 << 40, 1 << 40))
    limits = Limits(sram=100, sram_reserve=40, flash=10, flash_reserve=5)
    assert limits.fits(Footprint(1, 60, 5))
    assert not limits.fits(Footprint(1, 61, 5))
    assert not limits.fits(Footprint(1, 60, 6))
    for wrong in ({"sram": 10, "sram_reserve": 10}, {"flash": -1}, {"sram_reserve": -1}):
        with pytest.raises(InvalidInputError, match="reserve"):
            Limits(**wrong)


def test_statistics_of_a_space_by_hand():
    candidate = Candidate("a", (10, 20, 30, 40, 100), 20)
    assert candidate.acceptance == 0.25
    assert candidate.mean == 40
    assert candidate.quantile(0.8) == 40  # below(40) = 0.8
    assert candidate.quantile(0.81) == 100
    assert candidate.quantile(0.5) == 30
    assert candidate.quantile(0.0) == 10
    for level in (0.2, 0.4, 0.6, 0.8, 1.0):
        assert candidate.below(candidate.quantile(level)) == level
    assert candidate.quantile(1.0) == 100
    assert [candidate.below(x) for x in (9, 10, 39, 1000)] == [0.0, 0.2, 0.6, 1.0]
    with pytest.raises(InvalidInputError, match="level"):
        candidate.quantile(1.2)
    nothing = Candidate("b", (), 20)
    assert nothing.acceptance == 0
    assert str((nothing.mean, nothing.quantile(), nothing.below(1))) == "(nan, nan, nan)"


def test_mean_and_quantile_may_pick_different_spaces_and_luck_is_passed_over():
    sampled = {
        "mean": footprints_of([50] * 9 + [60], [1] * 10),
        "quantile": footprints_of([10] * 7 + [90] * 3, [1] * 10),
        "lucky": footprints_of([10] * 9 + [1000], [9] * 9 + [1]),
        "none": footprints_of([2000] * 10, [9] * 10),
    }
    found = scan(sampled, Limits(sram=5))
    assert [c.key for c in found.ranked(least=0.2)] == ["mean", "quantile"]
    assert found.best("quantile", least=0.2).key == "quantile"
    assert found.best(least=0.0).key == "lucky"
    with pytest.raises(InfeasibleError, match=r"most does of 'lucky', 10\.00%"):
        scan({k: sampled[k] for k in ("lucky", "none")}, Limits(sram=5)).best(least=0.2)
    with pytest.raises(UnknownNameError, match="criterion"):
        found.ranked("median")
    with pytest.raises(InvalidInputError, match="least"):
        found.ranked(least=2)


def test_one_sample_serves_any_limits_and_spaces_share_their_draws():
    sampled = drawn([(0.5, 48), (0.6, 48)], 6)
    again = drawn([(0.6, 48), (0.5, 48)], 6)
    assert sampled == again
    loose, tight = scan(sampled, Limits()), scan(sampled, Limits(sram=45 * KIB))
    assert all(c.acceptance == 1 for c in loose.candidates)
    assert all(t.acceptance <= one.acceptance for t, one in zip(tight.candidates, loose.candidates, strict=True))
    assert isinstance(loose, Scan)
    assert rows(loose.ranked())[0]["width"] == 0.6


def test_bad_input():
    with pytest.raises(InvalidInputError, match="at least 1 sample"):
        sample_footprints({}, lambda key: None)
    with pytest.raises(UnknownNameError, match="tinyengine"):
        Footprints((3, 8, 8), "tinyengin")
    with pytest.raises(InvalidInputError, match="one shape"):
        Footprints((3, 0, 8))
    with pytest.raises(nas.errors.TraceError):
        Footprints((3, 32, 32), classes=10)(repeat(MBConv(nas.one_of(8, 16)), 1))
