"""Relaxation of spaces to mixtures, and the way back."""

import itertools
import math
import random

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.darts_cell import SepConv, Skip
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.space.lowering import lower
from nasturtium.supernets.expected import ExpectedCost
from nasturtium.supernets.relaxation import relax
from tests.supernets.mixtures import Joined, Sum, network, space

SHAPE = (1, 8, 8)


def test_every_item_stands_with_none_as_a_further_option():
    relaxed = relax(space())
    assert {d.name: d.count for d in relaxed.space.decisions} == {"op_0": 4, "op_1": 4, "op_2": 4}
    net = nas.supernet(relaxed.space, SHAPE, seed=0, classes=3)
    assert net.mixed == {"op_0": 4, "op_1": 4, "op_2": 4}
    relaxed.require_mixed(net.mixed, net.graph)


def test_a_relaxed_network_without_some_edges_is_the_network_of_the_subset():
    """Option 3 of an edge is none: the relaxed architecture computes what the original one does, weights shared."""
    original = space()
    relaxed = relax(original)
    net = nas.supernet(relaxed.space, SHAPE, seed=0, classes=3).eval()
    plain = nas.supernet(original, SHAPE, seed=1, classes=3).eval()
    assert set(plain.state_dict()) == set(net.state_dict())
    plain.load_state_dict(net.state_dict())
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for a in itertools.islice(original.enumerate(), 0, 27, 4):
        chosen = {name: a.decisions.get(name, 3) for name in ("op_0", "op_1", "op_2")}
        torch.testing.assert_close(net.set(chosen)(x), plain.set(a)(x))


def test_the_strongest_edges_and_their_strongest_operations_are_kept():
    original = space()
    found = relax(original).decode(
        {"op_0": [0.1, 0.3, 0.2, 0.4], "op_1": [0.05, 0.1, 0.15, 0.7], "op_2": [0.0, 0.0, 0.25, 0.75]}
    )
    assert found in original
    assert dict(found.decisions) == {"inputs": 1, "op_0": 1, "op_2": 2}  # edges 0 and 2 of (01, 02, 12)


def test_the_authors_rule_on_the_cells_of_darts():
    """An independent reading of `genotype` of the authors' `model_search.py`, on random alphas."""
    original = nas.zoo.darts.space(affine=False)
    relaxed = relax(original)
    rng = random.Random(1)
    alphas = {d.name: [rng.gauss(0, 2) for _ in range(8)] for d in relaxed.space.decisions}
    weights = {n: [math.exp(v) / sum(map(math.exp, row)) for v in row] for n, row in alphas.items()}
    genes = {}
    for kind in ("normal", "reduce"):
        genes[kind] = []
        for node in range(2, 6):
            rows = {j: weights[f"{kind}_op_{j}_{node}"][:7] for j in range(node)}
            edges = sorted(rows, key=lambda j: -max(rows[j]))[:2]
            genes[kind] += [(nas.zoo.darts.SEARCHED[rows[j].index(max(rows[j]))], j) for j in sorted(edges)]
    found = nas.zoo.darts.genotype(relaxed.decode(weights))
    assert list(found.normal) == genes["normal"]
    assert list(found.reduce) == genes["reduce"]


def test_the_weights_of_edges_count():
    """PC-DARTS: alpha times beta."""
    relaxed = relax(space(), edges=True, parts=2)
    names = [item.edge for item in relaxed.groups[0].items]
    alphas = {f"op_{i}": [0.3 + 0.1 * i, 0.1, 0.1, 0.5 - 0.1 * i] for i in range(3)}
    betas = dict(zip(names, ([0.5, 0.5], [0.1, 0.9], [0.4, 0.6]), strict=True))  # products: 0.15, 0.04, 0.2
    assert relaxed.decode({**alphas, **betas}).decisions["inputs"] == 1
    flat = {name: [1 / 3, 2 / 3] for name in names}  # 0.3, 0.4, 0.5
    assert relaxed.decode({**alphas, **flat}).decisions["inputs"] == 2


def test_the_expected_cost_is_the_brute_force_mean_and_its_gradient_a_difference():
    original = space()
    relaxed = relax(original)
    expected = ExpectedCost(lower(original, SHAPE, classes=3), "macs")
    macs = {a: float(nas.trace(a, SHAPE, classes=3).macs) for a in original.enumerate()}

    def mean(logits):
        """From the definition: subsets by products of what is not none, operations given that they are not."""
        p = torch.softmax(logits, 1)
        strength = p[:, :3].sum(1)
        pairs = [(0, 1), (0, 2), (1, 2)]
        total = sum(strength[i] * strength[j] for i, j in pairs)
        cost = 0.0
        for a, own in macs.items():
            i, j = pairs[a.decisions["inputs"]]
            chance = strength[i] * strength[j] / total
            for edge in (i, j):
                chance = chance * p[edge, a.decisions[f"op_{edge}"]] / strength[edge]
            cost = cost + chance * own
        return cost

    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    rows = torch.softmax(logits, 1)
    value = expected(relaxed.distribution({f"op_{i}": rows[i] for i in range(3)}))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(mean(logits).item(), rel=1e-10)
    step = 1e-5
    for i, j in ((0, 2), (1, 3), (2, 0)):
        shift = torch.zeros(3, 4, dtype=torch.float64)
        shift[i, j] = step
        difference = (mean(logits + shift) - mean(logits - shift)) / (2 * step)
        assert gradient[i, j].item() == pytest.approx(difference.item(), rel=1e-5)


def test_items_that_are_whole_blocks_are_kept_or_not():
    original = network(Sum(nas.subset([Skip(affine=False), SepConv(3), SepConv(5)], 2, name="which")))
    relaxed = relax(original)
    names = [d.name for d in relaxed.space.decisions]
    assert [d.count for d in relaxed.space.decisions] == [2, 2, 2]
    a = relaxed.decode(dict(zip(names, ([0.2, 0.8], [0.6, 0.4], [0.5, 0.5]), strict=True)))
    assert a.decisions == {"which": 2}
    assert a in original


def test_what_is_a_mixture_already_stays():
    original = nas.zoo.nasbench201.space(cells=1)
    relaxed = relax(original)
    assert relaxed.space is original
    a = original.sample(random.Random(0))
    one_hot = {d.name: [float(i == a.decisions[d.name]) for i in range(d.count)] for d in original.decisions}
    assert relaxed.decode(one_hot) == a
    with pytest.raises(InvalidInputError, match="5 numbers"):
        relaxed.decode({**one_hot, original.decisions[0].name: [1.0]})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: network(nas.Conv(nas.one_of(4, 8))), "change numbers or shapes"),
        (lambda: network(nas.Conv(4)), "no decision"),
        (lambda: network(Joined(nas.subset([SepConv(3), SepConv(5), Skip()], 2)), nas.Conv(4)), "go into concat"),
        (lambda: network(nas.Conv(nas.one_of(4, 8))).where(lambda a: True), "conditions"),
        (lambda: nas.Space(Sum(nas.subset([1, 2, 3], 2))), "subset of blocks"),
    ],
)
def test_what_no_mixture_stands_for_is_refused(make, why):
    def check():
        relaxed = relax(make())
        net = nas.supernet(relaxed.space, SHAPE, seed=0, classes=3)
        relaxed.require_mixed(net.mixed, net.graph)

    with pytest.raises(IncompatibleError, match=why):
        check()


@pytest.mark.slow
@pytest.mark.parametrize(("options", "params"), [({}, 1_930_618), ({"edges": True, "parts": 4}, 299_578)])
def test_the_published_sizes_of_the_search_networks(options, params):
    relaxed = relax(nas.zoo.darts.space(affine=False), **options)
    net = nas.supernet(relaxed.space, (3, 32, 32), seed=0, classes=10)
    assert sum(p.numel() for p in net.parameters()) == params
    relaxed.require_mixed(net.mixed, net.graph)
