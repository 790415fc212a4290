"""The law of weight sharing: the active path computes what the extracted network computes."""

from __future__ import annotations

import copy
import time
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasturtium as nas
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, TraceError
from nasturtium.model.elastic import take
from nasturtium.model.mix import Softmax, Sum
from nasturtium.model.supernet import Supernet, supernet
from nasturtium.zoo import nasbench201
from nasturtium.zoo.mobile import mobile
from tests.space.open_blocks import Residual, conv, spaces

CASES: dict[str, tuple[nas.Space, Any]] = spaces() | {
    "nasbench201": (nasbench201.space(cells=1, width=4), (3, 16, 16)),
    "mobile": (mobile((3, 32, 32)), (3, 32, 32)),
}


def make(space: nas.Space, inputs: Any) -> Supernet:
    """A supernet whose norms and biases are not trivial."""
    made = supernet(space, inputs, seed=0, classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
        for name, buffer in made.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5, generator=generator)
    return made


def batch(inputs: Any) -> list[Tensor]:
    shapes = inputs if isinstance(inputs[0], tuple) else (inputs,)
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, *shape, generator=generator) for shape in shapes]


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in (value.values() if isinstance(value, dict) else value) for t in flat(item)]


def samples(space: nas.Space, inputs: Any, count: int) -> list[nas.Architecture]:
    """Random architectures that can be traced."""
    found = []
    for seed in range(count):
        architecture = space.sample(Random(seed))
        try:
            nas.trace(architecture, inputs, classes=10)
        except TraceError:
            continue
        found.append(architecture)
    assert found
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_law(name: str) -> None:
    space, inputs = CASES[name]
    shared, xs = make(space, inputs).eval(), batch(inputs)
    for architecture in samples(space, inputs, 12):
        network = shared.extract(architecture)
        ours, alone = flat(shared.set(architecture)(*xs)), flat(network(*xs))
        assert len(ours) == len(alone)
        assert all(torch.equal(a, b) for a, b in zip(ours, alone, strict=True))
        sizes = {k: v.shape for k, v in shared.parameters_of(architecture).items()}
        live = {k: v.shape for k, v in network.named_parameters() if k in sizes}
        assert sizes == live


@pytest.mark.parametrize("name", CASES)
def test_the_law_in_training(name: str) -> None:
    """Outputs, gradients and running statistics agree with those of the extracted network."""
    space, inputs = CASES[name]
    shared, xs = make(space, inputs).train(), batch(inputs)
    for architecture in samples(space, inputs, 3):
        network = shared.extract(architecture)
        assert network.training
        shared.zero_grad()
        sum(y.square().mean() for y in flat(shared.set(architecture)(*xs))).backward()
        sum(y.square().mean() for y in flat(network(*xs))).backward()
        after = shared.extract(architecture)
        where = shared.shared_weights(architecture)
        for name_, buffer in network.named_buffers():
            if name_ not in where:  # of a branch that no output reads; the supernet does not compute it
                continue
            torch.testing.assert_close(dict(after.named_buffers())[name_], buffer)
        gradients = dict(shared.named_parameters())
        for name_, parameter in network.named_parameters():
            if name_ not in where or parameter.grad is None:
                continue
            whole = gradients[where[name_].name].grad
            assert whole is not None
            torch.testing.assert_close(take(whole, where[name_].cut), parameter.grad, rtol=1e-4, atol=1e-5)


def test_width_is_the_first_channels_and_kernels_the_centre() -> None:
    space = nas.Space(Residual(nas.one_of(4, 8), nas.one_of(1, 3)))
    shared = make(space, (4, 6, 6))
    weight = dict(shared.named_parameters())["weights.conv.weight"]
    assert weight.shape == (8, 4, 3, 3)
    small = shared.parameters_of(space.architecture({"width": 4, "kernel": 1}))["conv.weight"]
    assert torch.equal(small, weight[:4, :, 1:2, 1:2])
    large = shared.parameters_of(space.architecture({"width": 8, "kernel": 3}))["conv.weight"]
    assert large.data_ptr() == weight.data_ptr()


def test_a_part_of_an_open_concatenation_keeps_its_weights() -> None:
    """Its consumer uses the same columns for it, whatever stands before it."""
    space, inputs = CASES["flat concatenation"]
    shared = make(space, inputs)
    for left in (2, 5):
        for right in (3, 4):
            architecture = space.architecture({"left.width": left, "right.width": right})
            weight = shared.parameters_of(architecture)["linear.weight"]
            whole = dict(shared.named_parameters())["weights.linear.weight"]
            assert whole.shape == (3, (5 + 4) * 64)
            expected = torch.cat([whole[:, : left * 64], whole[:, 5 * 64 : (5 + right) * 64]], 1)
            assert torch.equal(weight, expected)


def test_options_that_are_blocks_do_not_share() -> None:
    space = nas.Space(nas.Sequential(nas.one_of(conv(4), conv(4, 5)), conv(2)))
    names = {n for n, _ in make(space, (4, 8, 8)).named_parameters()}
    assert {"weights.layers.0.0.conv.conv.weight", "weights.layers.0.1.conv.conv.weight"} <= names


def test_a_gate_is_the_weighted_sum() -> None:
    """On a cell of three edges, against the sum written by hand, and against the enumerated paths."""
    options = tuple(nasbench201.OPERATIONS.values())
    space = nas.Space(nas.blocks.SumCell(tuple(nas.one_of(*options) for _ in range(3))))
    shared = make(space, (4, 6, 6)).eval()
    (x,) = batch((4, 6, 6))
    gate = Softmax(shared.mixed)
    assert list(shared.mixed.values()) == [5, 5, 5]
    with torch.no_grad():
        for number, logits in enumerate(gate.logits):
            logits.normal_(generator=torch.Generator().manual_seed(number))
    names = list(shared.mixed)

    def mixed(edge: int, y: Tensor) -> Tensor:
        weights = torch.softmax(gate.logits[names[edge]], 0)
        total = torch.zeros_like(y)
        for number, option in enumerate(options):
            layers = nas.build(nas.trace(option, (4, 6, 6)), seed=0).eval()
            path = f"weights.edges.{edge}.{number}."
            state = {k.removeprefix(path): v for k, v in shared.state_dict().items() if k.startswith(path)}
            layers.load_state_dict(state)
            total = total + weights[number] * layers(y)
        return total

    first = mixed(0, x)
    expected = mixed(1, x) + mixed(2, first)
    torch.testing.assert_close(shared.mix(gate)(x), expected)
    shared.mix(gate)(x).sum().backward()
    assert all(logits.grad is not None for logits in gate.logits)
    a = space.sample(Random(0))
    assert torch.equal(shared.mix(None).set(a)(x), shared.extract(a)(x))


def test_a_sum_over_depth_adds_the_prefixes() -> None:
    space = nas.Space(nas.repeat(Residual(4), nas.one_of(1, 2)))
    shared = make(space, (4, 6, 6)).eval()
    (x,) = batch((4, 6, 6))
    parts = [shared.set(a)(x) for a in space.enumerate()]
    torch.testing.assert_close(shared.mix(Sum(shared.mixed))(x), parts[0] + parts[1])


def test_what_cannot_be_mixed_is_named() -> None:
    space = nas.Space(nas.Sequential(Residual(nas.one_of(4, 8)), conv(2)))
    shared = make(space, (4, 6, 6))
    assert shared.mixed == {}
    with pytest.raises(InvalidInputError, match=r"layers\.0\.width"):
        shared.mix(Sum({"layers.0.width": 2}), ["layers.0.width"])
    with pytest.raises(InvalidInputError, match="none"):
        shared.mix(Sum({"layers.0.width": 2}))


def test_bad_use_is_refused() -> None:
    space = nas.Space(Residual(nas.one_of(4, 8)))
    shared = make(space, (4, 6, 6))
    (x,) = batch((4, 6, 6))
    with pytest.raises(InvalidInputError, match="Choose a path"):
        shared(x)
    with pytest.raises(InvalidInputError, match="input"):
        shared.set({"width": 0})(x, x)
    with pytest.raises(InvalidArchitectureError, match="width"):
        shared.set(CASES["mobile"][0].sample(Random(0)))


def test_equal_seeds_give_equal_weights_and_copies_are_independent() -> None:
    space, inputs = CASES["mobile"]
    first, second = supernet(space, inputs, seed=3, classes=10), supernet(space, inputs, seed=3, classes=10)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    a = space.sample(Random(0))
    clone = copy.deepcopy(first.set(a)).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    (x,) = batch(inputs)
    assert torch.equal(clone(x), clone.extract(a)(x))
    assert not torch.equal(clone(x), first.eval()(x))


def test_the_largest_architecture_is_the_whole_supernet() -> None:
    space = nas.Space(
        nas.Sequential(Residual(nas.one_of(4, 8), nas.one_of(1, 3)), nas.repeat(conv(8), nas.one_of(1, 2)))
    )
    shared = make(space, (4, 6, 6))
    largest = max(space.enumerate(), key=lambda a: nas.trace(a, (4, 6, 6)).params)
    assert sum(p.numel() for p in shared.parameters()) == nas.trace(largest, (4, 6, 6)).params


def test_switching_is_quick() -> None:
    space, inputs = CASES["mobile"]
    shared = make(space, inputs)
    a, b = space.sample(Random(0)), space.sample(Random(1))
    shared.set(a).set(b)
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        shared.set(a)
        best = min(best, time.perf_counter() - start)
    assert best < 1e-3


def test_it_is_a_module_like_any_other() -> None:
    shared = make(*CASES["mobile"])
    assert isinstance(shared, nn.Module)
    other = make(*CASES["mobile"])
    other.load_state_dict(shared.state_dict())
