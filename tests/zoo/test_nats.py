"""Three tabular benchmarks: NATS-Bench's size space, NAS-Bench-Macro, TransNAS-Bench-101's macro space."""

from __future__ import annotations

import random
from itertools import pairwise, product
from math import comb

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.zoo import nasbench_macro, nats, transnas

MODULES = (nats, nasbench_macro, transnas)


def digest(network, shape=(3, 32, 32)):
    return nas.trace(network, shape, classes=10).canonical_hash


@pytest.mark.parametrize(("module", "size"), [(nats, 8**5), (nasbench_macro, 3**8), (transnas, 3_256)])
def test_sizes_and_laws(module, size):
    space = module.space()
    assert space.size == size == module.FAMILIES[0].size
    nas.testing.check_space(space, samples=5)


@pytest.mark.parametrize("module", MODULES)
def test_official_strings_round_trip(module):
    space = module.space()
    rng = random.Random(0)
    for _ in range(20):
        drawn = space.sample(rng)
        text = module.to_string(drawn)
        assert module.architecture(text, space) == drawn
        assert module.network(text) == drawn.block
        assert module.to_string(drawn.block) == text


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 224, 224)])
def test_any_image_size(module, shape):
    graph = nas.trace(module.space(shape).sample(random.Random(0)), shape, classes=7)
    assert graph.nodes[graph.outputs[0].node].shape == (7,)


@pytest.mark.parametrize("text", [(nats, "8:16:24:8:32"), (nasbench_macro, "01200120"), (transnas, "64-1234-basic")])
def test_networks_run(text):
    module, name = text
    model = nas.build(nas.trace(module.network(name), (3, 33, 47), classes=10), seed=0)
    assert model(torch.randn(2, 3, 33, 47)).shape == (2, 10)


def test_lowering():
    assert lower(nats.space(), (3, 16, 16), classes=10).nodes
    assert lower(nasbench_macro.space(), (3, 32, 32), classes=10).nodes


def test_nats_parameters_stored_in_the_benchmark():
    # "params" of `get_cost_info(index, "cifar10")`, in millions there: 0.011714, 0.107826, 0.713674
    for text, params in (("8:8:8:8:8", 11_714), ("8:8:16:40:40", 107_826), ("64:64:64:64:64", 713_674)):
        assert nas.trace(nats.network(text), (3, 32, 32), classes=10).params == params


def test_nats_strings_are_all_there():
    found = {nats.to_string(architecture) for architecture in nats.space().enumerate()}
    assert found == {":".join(map(str, widths)) for widths in product(nats.WIDTHS, repeat=5)}


def test_nats_takes_other_cells():
    cell = "|none~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    graph = nas.trace(nats.network("8:16:24:8:32", cell=cell), (3, 32, 32), classes=10)
    assert graph.canonical_hash != digest(nats.network("8:16:24:8:32"))


def test_macro_networks_are_equal_up_to_identities():
    texts = ["".join(digits) for digits in product("012", repeat=8)]
    assert len({nasbench_macro.unique_string(text) for text in texts}) == nasbench_macro.ISOMORPHIC == (3 * 3) * 21**2
    assert [nasbench_macro.to_string(a) for a in nasbench_macro.space().enumerate()] == texts
    stages = ["01200" + "".join(digits) for digits in product("012", repeat=3)]
    hashes = {text: digest(nasbench_macro.network(text)) for text in stages}
    for a, b in product(stages, repeat=2):
        same = nasbench_macro.unique_string(a) == nasbench_macro.unique_string(b)
        assert (hashes[a] == hashes[b]) == same


def test_macro_against_the_authors_code_by_hand():
    # all identities: 3x3 stem, three strided 1x1 convolutions, 1x1 to 1280, classifier; each with its norm
    widths = [32, 64, 128, 256, 1280]
    convs = 3 * 32 * 9 + sum(a * b for a, b in pairwise(widths))
    graph = nas.trace(nasbench_macro.network("00000000"), (3, 32, 32), classes=10)
    assert graph.params == convs + 2 * sum(widths) + 1280 * 10 + 10


def test_transnas_counts():
    count = {
        n: sum(comb(n, k) for k in transnas.HALVINGS) * sum(comb(n, k) for k in transnas.DOUBLINGS)
        for n in transnas.DEPTHS
    }
    assert count == {4: 15 * 14, 5: 30 * 25, 6: 56 * 41}
    texts = {transnas.to_string(architecture) for architecture in transnas.space().enumerate()}
    assert len(texts) == 3_256
    # strings of the authors' repository
    assert {"64-1234-basic", "64-2311-basic", "64-41414-basic"} <= texts
    assert "64-1111-basic" not in texts
    assert "64-4444-basic" not in texts


def test_transnas_shapes():
    graph = nas.trace(transnas.network("64-1234-basic"), (3, 224, 224), classes=75)
    assert next(n.shape for n in graph.nodes if n.path.endswith("blocks.3.1.add")) == (256, 14, 14)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nats, "8:16:32:64"),
        (nats, "8:16:32:64:x"),
        (nasbench_macro, "0120012"),
        (nasbench_macro, "01200123"),
        (transnas, "64-123-basic"),
        (transnas, "64-1235-basic"),
        (transnas, "64-1234"),
    ],
)
def test_malformed_strings(module, text):
    with pytest.raises((InvalidArchitectureError, InvalidInputError), match=text):
        module.network(text)


@pytest.mark.parametrize(
    ("module", "text"),
    [(nats, "8:16:32:64:7"), (transnas, "64-1111-basic"), (transnas, "64-2222-basic"), (transnas, "32-1234-basic")],
)
def test_strings_of_other_networks(module, text):
    with pytest.raises(InvalidArchitectureError):
        module.architecture(text, module.space())


@pytest.mark.parametrize("module", MODULES)
def test_strings_are_of_this_space_only(module):
    with pytest.raises(InvalidArchitectureError, match="Expected a closed network"):
        module.to_string(nas.Conv(8))
