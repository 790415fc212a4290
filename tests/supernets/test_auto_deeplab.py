"""Auto-DeepLab's relaxation against enumeration: transition probabilities, sums over paths, decoding."""

from __future__ import annotations

from itertools import pairwise, product
from math import exp, log, prod

import pytest
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.supernets import trellis
from nasturtium.supernets.auto_deeplab import NAMES, AutoDeepLabSupernet, MixedCell, decode_cell, edges
from nasturtium.zoo import autodeeplab

SIZES = [(levels, steps, seed) for levels in (1, 2, 3, 4) for steps in (1, 3, 5) for seed in (0, 1, 2)]


def drawn(levels: int, steps: int, seed: int) -> torch.Tensor:
    """Random logits, float64."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(steps, levels, 3, generator=generator, dtype=torch.float64)


def paths(levels: int, steps: int, start: int = 0) -> list[tuple[int, ...]]:
    """All walks in steps of at most one."""
    every = product(range(levels), repeat=steps)
    walks = [(start, *rest) for rest in every]
    return [w for w in walks if all(abs(a - b) <= 1 for a, b in pairwise(w))]


def by_hand(logits: torch.Tensor, layer: int, source: int, target: int) -> float:
    """Softmax over the edges that exist."""
    levels = logits.shape[1]
    there = [s for s in (source - 1, source, source + 1) if 0 <= s < levels]
    weights = {s: exp(float(logits[layer, source, s - source + 1])) for s in there}
    return weights[target] / sum(weights.values())


def test_border_nodes_share_what_exists() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, 0, 1], logits[0, 0, 0] = log(3.0), 50.0  # the edge upwards from the finest level does not exist
    found = trellis.transitions(logits)[0]
    assert found[0].tolist() == pytest.approx([0, 0.75, 0.25])
    assert found[1].tolist() == pytest.approx([1 / 3] * 3)
    assert found[3].tolist() == pytest.approx([0.5, 0.5, 0])
    assert found.sum(-1).tolist() == pytest.approx([1] * 4)
    logits = logits.clone().requires_grad_()
    trellis.transitions(logits).square().sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0, 0] == 0
    with pytest.raises(InvalidInputError, match="logits must be"):
        trellis.transitions(torch.zeros(4, 3))


@pytest.mark.parametrize(("levels", "steps", "seed"), SIZES)
def test_viterbi_is_the_best_of_all_paths(levels: int, steps: int, seed: int) -> None:
    logits = drawn(levels, steps, seed)
    every = {
        path: prod(by_hand(logits, i, a, b) for i, (a, b) in enumerate(pairwise(path))) for path in paths(levels, steps)
    }
    assert sum(every.values()) == pytest.approx(1)
    path, probability = trellis.most_probable(trellis.transitions(logits))
    assert path == max(every, key=lambda p: every[p])
    assert probability == pytest.approx(every[path])


@pytest.mark.parametrize(("levels", "steps", "seed"), [(2, 3, 0), (3, 4, 1), (4, 5, 2)])
@pytest.mark.parametrize("first", [False, True])
def test_a_linear_trellis_is_the_sum_over_paths(levels: int, steps: int, seed: int, *, first: bool) -> None:
    """A cell that multiplies by a factor of its own: the output is the sum over paths of both products."""
    logits = drawn(levels, steps, seed)
    layers = steps + first
    factors = torch.rand(layers, levels, levels, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    last = trellis.relax(
        trellis.transitions(logits), one, one, lambda layer, a, b, x, _: factors[layer, a, b] * x, first=first
    )
    expected = dict.fromkeys(last, 0.0)
    for path in paths(levels, steps):
        legs = list(enumerate(pairwise(path)))
        product_of_edges = prod(by_hand(logits, i, a, b) * float(factors[i + first, a, b]) for i, (a, b) in legs)
        expected[path[-1]] += product_of_edges * (float(factors[0, 0, 0]) if first else 1)
    assert {s: float(x) for s, x in last.items()} == pytest.approx(expected)


def test_what_came_two_layers_before_is_of_the_target_s_level() -> None:
    seen: list[tuple[int, int, int, str, str]] = []
    names: dict[int, str] = {}

    def cell(layer: int, a: int, b: int, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        seen.append((layer, a, b, names.get(id(x), "sum"), names.get(id(before), "sum")))
        y = x.clone()
        names[id(y)] = f"{layer}:{a}->{b}"
        keep.append(y)
        return y

    keep: list[torch.Tensor] = []
    x, before = torch.ones(2), torch.ones(3)
    names |= {id(x): "input", id(before): "earlier"}
    trellis.relax(trellis.transitions(torch.zeros(2, 2, 3)), x, before, cell, first=True)
    assert seen[:3] == [(0, 0, 0, "input", "earlier"), (1, 0, 0, "0:0->0", "input"), (1, 0, 1, "0:0->0", "input")]
    assert {(a, b) for layer, a, b, *_ in seen if layer == 2} == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert all(held == "0:0->0" for layer, *_, held in seen if layer == 2)  # level 1 was not there: the finer one


def test_a_cell_is_the_weighted_sum_of_its_equations() -> None:
    cell = MixedCell((6, 8, 8), (5, 8, 8), (4, 4), 3, 2, 2, seed=1).double().eval()
    alpha = torch.softmax(torch.randn(5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64), -1)
    x, before = [torch.randn(2, c, 8, 8, generator=torch.Generator().manual_seed(c)).double() for c in (6, 5)]
    h = {0: cell.last(x), 1: cell.earlier(before)}
    for row, (block, state) in enumerate(edges(2)):
        for k, name in enumerate(NAMES):
            term = alpha[row, k] * cell.operations[row][k](h[state])  # type: ignore[index]
            assert tuple(term.shape) == (2, 3, 4, 4)
            assert name != "zero" or not term.any()
            h[block + 2] = h.get(block + 2, 0) + term
    assert float((cell(x, before, alpha) - torch.cat([h[2], h[3]], 1)).detach().abs().max()) < 1e-12


def test_decoding_a_cell_is_the_best_of_all_cells() -> None:
    """Strongest pair of states of all pairs, strongest operation of all operations, by enumeration."""
    for seed in range(20):
        alpha = torch.softmax(3 * torch.randn(9, 8, generator=torch.Generator().manual_seed(seed)), -1)
        names, states = decode_cell(alpha, 3)
        start = 0
        for block in range(3):
            count = block + 2
            some = [k for k in range(8) if NAMES[k] != "zero"]
            pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
            strength = [max(float(alpha[start + i, k]) for k in some) for i in range(count)]
            best = max(pairs, key=lambda pair: (strength[pair[0]] + strength[pair[1]], strength[pair[0]]))
            assert tuple(states[2 * block : 2 * block + 2]) == best
            for place, state in enumerate(best):
                most = max(some, key=lambda k: float(alpha[start + state, k]))
                assert names[2 * block + place] == NAMES[most]
            start += count


@pytest.mark.parametrize("free_start", [False, True])
def test_the_decoded_architecture_is_an_ordinary_one(*, free_start: bool) -> None:
    inputs = (3, 16, 16)
    space = autodeeplab.space(inputs, filters=2, layers=3, blocks=1, strides=(4, 8), free_start=free_start)
    net = AutoDeepLabSupernet(space, inputs, classes=4, seed=0)
    with torch.no_grad():
        net.alpha[0, NAMES.index("separable_5x5_2")] = 2.0
        net.alpha[1, NAMES.index("zero")] = 9.0
        net.alpha[1, NAMES.index("max_pool_3x3")] = 1.0
        net.beta[:, 0, 2] = 3.0
        net.beta[:, 1, 1] = 3.0
    architecture = net.decode()
    assert architecture in space
    config = autodeeplab.to_config(architecture)
    assert config["backbone_levels"] == ([1, 1, 1] if free_start else [0, 1, 1])
    pair = sorted(zip(config["hiddenstate_indices"], config["cell_operations"], strict=True))
    assert pair == [(0, "separable_5x5_2"), (1, "max_pool_3x3")]
    network = nas.build(nas.trace(architecture, inputs, classes=4), seed=0)
    assert network(torch.randn(2, *inputs)).shape == (2, 4, 16, 16)


def test_it_trains_and_its_gradients_are_the_differences() -> None:
    inputs = (3, 8, 8)
    space = autodeeplab.space(inputs, filters=2, layers=3, blocks=1, strides=(4, 8))
    net = AutoDeepLabSupernet(space, inputs, classes=3, seed=1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, *inputs, generator=generator), torch.randint(3, (4, 8, 8), generator=generator)
    optimizer = torch.optim.Adam([{"params": net.weight_parameters()}, {"params": net.architecture_parameters()}], 0.02)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    net = net.double().eval()
    x = x.double()
    net.zero_grad()
    functional.cross_entropy(net(x), y).backward()
    for parameter, places in ((net.alpha, [(0, 0), (1, 3)]), (net.beta, [(0, 0, 2), (1, 0, 1), (1, 1, 0)])):
        assert parameter.grad is not None
        for place in places:
            values = []
            with torch.no_grad():
                for move in (1e-5, -2e-5):
                    parameter[place] += move
                    values.append(float(functional.cross_entropy(net(x), y)))
                parameter[place] += 1e-5
            assert float(parameter.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-9)
    with pytest.raises(InvalidInputError, match=r"autodeeplab\.space"):
        AutoDeepLabSupernet(nas.Space(nas.Conv(nas.one_of(2, 4))), inputs, classes=3)
