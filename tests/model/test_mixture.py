"""Mixtures in a supernet: one-hot weights are paths, probed gradients are the full ones and leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.graph.tensor import Tensor as Symbol
from nasturtium.model import Binary, Gumbel, Sigmoid, Softmax, Sum, Uniform
from nasturtium.model.supernet import Supernet, supernet
from tests.model.test_supernet import CASES, batch, flat, make
from tests.space.open_blocks import Select, conv

SHAPE = (4, 6, 6)
OPTIONS: tuple[Any, ...] = (nas.Identity(), nas.Conv(4), nas.Conv(4, 1), nas.blocks.Zero())


class Dropped(nas.Block):
    """A convolution with dropout."""

    rate: float

    def forward(self, x: Symbol) -> Symbol:
        return nas.ops.dropout(nas.ops.batch_norm(nas.ops.conv(x, x.channels, 3)), self.rate)


def edges(*options: Any) -> Supernet:
    """A cell of three edges between choices, then a norm."""
    cell = nas.blocks.SumCell(tuple(nas.one_of(*options) for _ in range(3)))
    return make(nas.Space(nas.Sequential(cell, nas.Conv(3, 1))), SHAPE)


class OneHot:
    """Weights of one architecture: numbers, or tensors."""

    def __init__(self, architecture: nas.Architecture, *, soft: bool) -> None:
        self.decisions, self.soft = architecture.decisions, soft

    def weights(self, decision: str, count: int) -> Any:
        weights = [float(i == self.decisions.get(decision, 0)) for i in range(count)]
        return torch.tensor(weights) if self.soft else weights


class Chosen(nas.Block):
    """Concatenates some of its branches, which are of one width; which ones is open."""

    branches: tuple[Any, ...]
    chosen: tuple[int, ...]

    def forward(self, x: Symbol) -> Symbol:
        outputs = [branch(x) for branch in self.branches]
        return nas.ops.concat(*[outputs[i] for i in self.chosen])


BRANCHES = (nas.one_of(conv(4), conv(4, 5)), conv(4), nas.one_of(nas.Identity(), conv(4, 1)))
CHOSEN = nas.Space(
    nas.Sequential(Chosen(BRANCHES, nas.subset(range(3), 2)), conv(3), nas.one_of(conv(3), nas.Identity()))
)
MIXED = {
    "edges": (nas.Space(nas.blocks.SumCell(tuple(nas.one_of(*OPTIONS) for _ in range(3)))), SHAPE),
    "nested branches": CASES["nested branches"],
    "behind an open concatenation": (CHOSEN, SHAPE),
    "of open concatenations": (nas.Space(Select(BRANCHES, nas.subset(range(3), 2))), SHAPE),
    "not all": (nas.Space(nas.Sequential(conv(nas.one_of(2, 3)), nas.one_of(conv(3), conv(3, 1)))), SHAPE),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("soft", [False, True], ids=["numbers", "tensors"])
def test_one_hot_weights_are_the_path(name: str, soft: bool) -> None:
    space, inputs = MIXED[name]
    shared, xs = make(space, inputs).eval(), batch(inputs)
    assert shared.mixed
    with torch.no_grad():
        for seed in range(4):
            architecture = space.sample(Random(seed))
            path = flat(shared.mix(None).set(architecture)(*xs))
            mixture = flat(shared.mix(OneHot(architecture, soft=soft), optimize=False)(*xs))
            for ours, theirs in zip(mixture, path, strict=True):
                if soft:
                    torch.testing.assert_close(ours, theirs)
                else:
                    assert torch.equal(ours, theirs)


def test_what_fills_a_concatenation_is_not_mixed_and_what_stands_around_is() -> None:
    shared = make(CHOSEN, SHAPE)
    names = [d.name for d in shared.graph.decisions]
    assert sorted(shared.mixed) == sorted(name for name in names if name != "layers.0.chosen")
    assert len(shared.mixed) == 3
    with pytest.raises(InvalidInputError, match="concatenation"):
        shared.mix(Sum({"layers.0.chosen": 3}), ["layers.0.chosen"])


def test_the_gate_is_no_part_of_the_weights() -> None:
    shared = edges(*OPTIONS)
    names = set(shared.state_dict())
    gate = Softmax(shared.mixed)
    shared.mix(gate)
    assert shared.gate is gate
    assert set(shared.state_dict()) == names
    assert not {id(p) for p in gate.parameters()} & {id(p) for p in shared.parameters()}
    shared.eval()
    assert not gate.training
    shared.train()
    assert gate.training
    assert shared.mix(None).gate is None


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_gradients_of_a_soft_mixture(kind: Callable[..., Any]) -> None:
    """By finite differences in float64, weights and logits."""
    shared = edges(*OPTIONS[:3]).double().eval()
    gate = kind(shared.mixed, seed=0).double()
    x = batch(SHAPE)[0].double()[:1, :, :3, :3]
    shared.mix(gate, optimize=False)
    inputs = [*gate.parameters(), dict(shared.named_parameters())["weights.layers.0.edges.0.1.conv.conv.weight"]]
    assert torch.autograd.gradcheck(lambda *_: shared(x).square().sum(), inputs, fast_mode=True)


def full(shared: Supernet, indices: dict[str, int], x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Gradients of binary gates with all branches computed and kept: weights are 1 and 0, but tensors."""
    gates = {name: torch.eye(n, dtype=x.dtype)[indices[name]].requires_grad_() for name, n in shared.mixed.items()}

    class Gates:
        def weights(self, decision: str, count: int) -> Tensor:
            return gates[decision]

    loss(shared.mix(Gates(), optimize=False)(x)).backward()
    return {name: g.grad for name, g in gates.items() if g.grad is not None}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("two", [False, True], ids=["all", "two"])
def test_probed_gradients_are_those_of_the_full_computation(training: bool, two: bool) -> None:
    """Chain rule of METHODS: dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i), with dL/dg by the full mixture."""
    shared = edges(*OPTIONS).double().train(training)
    x = batch(SHAPE)[0].double()
    gate = Binary(shared.mixed, paths="two" if two else "all", seed=3).double()
    for logits in gate.logits:
        logits.data.normal_(generator=torch.Generator().manual_seed(5))
    shared.mix(gate)
    gate.train()  # draws also where the layers evaluate
    y = shared(x)
    y.square().sum().backward()
    weights = {name: p.grad for name, p in shared.named_parameters() if p.grad is not None}
    shared.zero_grad()
    gates = full(shared, gate.drawn, x, lambda out: out.square().sum())
    for name, gradient in gates.items():
        probed = list(gate._pairs[name][0]) if two else list(range(len(gradient)))
        p = torch.softmax(gate.logits[name].detach()[probed], 0)
        expected = torch.zeros_like(gradient)
        expected[probed] = p * (gradient[probed] - (p * gradient[probed]).sum())
        torch.testing.assert_close(gate.logits[name].grad, expected)
    for name, gradient in weights.items():
        torch.testing.assert_close(dict(shared.named_parameters())[name].grad, gradient)
    path = shared.mix(None).set(gate.drawn)(x)
    torch.testing.assert_close(y, path)


def test_hard_gumbel_in_a_supernet_has_the_gradient_of_its_relaxation() -> None:
    shared = edges(*OPTIONS).double().eval()
    x = batch(SHAPE)[0].double()
    hard = Gumbel(shared.mixed, hard=True, temperature=0.7, seed=1).double()
    soft = Gumbel(shared.mixed, temperature=0.7, seed=1).double()
    shared.mix(hard)
    hard.train()
    shared(x).square().sum().backward()
    gates = full(shared, hard.drawn, x, lambda out: out.square().sum())
    relaxed = {name: soft.weights(name, n) for name, n in shared.mixed.items()}
    for name, gradient in gates.items():
        relaxed[name].backward(gradient)
        torch.testing.assert_close(hard.logits[name].grad, soft.logits[name].grad)


def test_probing_leaves_no_trace() -> None:
    """Statistics move once, for the path alone; random numbers and modes stay; the loss is that of the plain path."""
    options = (Dropped(0.5), Dropped(0.25), nas.Conv(4), nas.Module("torch.nn:BatchNorm2d", num_features=4))
    shared, other = edges(*options).train(), edges(*options).train()
    x = batch(SHAPE)[0]
    gate = Binary(shared.mixed, seed=0)
    torch.manual_seed(0)
    loss = shared.mix(gate)(x).square().mean()
    state = torch.get_rng_state()
    shared.eval()  # probes still see the training mode of the forward pass
    loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in shared.modules())
    torch.manual_seed(0)
    alone = other.set(gate.drawn)(x).square().mean()
    assert torch.equal(alone, loss)
    for (name, ours), (_, theirs) in zip(shared.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    first = [logits.grad for logits in gate.logits]
    again = edges(*options).train()
    same = Binary(shared.mixed, seed=0)
    torch.manual_seed(0)
    loss = again.mix(same)(x).square().mean()
    torch.rand(3)  # draws between the passes change nothing
    loss.backward()
    for ours, theirs in zip(first, [logits.grad for logits in same.logits], strict=True):
        torch.testing.assert_close(ours, theirs)


def saved_bytes(run: Callable[[], Tensor], held: set[int]) -> int:
    """Bytes that a forward pass keeps for the backward pass, besides the weights."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = run()
    assert kept.requires_grad
    return sum(sizes.values())


def test_memory_does_not_grow_with_the_number_of_candidates() -> None:
    """In the weight step it is that of the path; in the step of the gates at most the mixed outputs more."""
    x = torch.randn(8, 4, 16, 16)
    found: dict[str, list[int]] = {"gates": [], "weights": [], "path": []}
    for count in (2, 4, 7):
        options = [nas.MBConv(4, kernel=k, expand=e) for k in (3, 5, 7, 9) for e in (2, 3)][:count]
        space = nas.Space(nas.Sequential(nas.one_of(*options), nas.one_of(*options), nas.Classifier(classes=3)))
        shared = supernet(space, x.shape[1:], seed=0)
        held = {p.untyped_storage().data_ptr() for p in [*shared.parameters(), *shared.buffers()]}
        gate = Binary(shared.mixed, seed=0)
        with torch.no_grad():
            for logits in gate.logits:
                logits[0] = 100.0  # always the first path
        found["gates"].append(saved_bytes(lambda: shared.mix(gate)(x), held))
        gate.requires_grad_(False)
        found["weights"].append(saved_bytes(lambda: shared.mix(gate)(x), held))
        network = shared.extract(space.architecture(dict.fromkeys(shared.mixed, 0), indices=True))
        own = {p.untyped_storage().data_ptr() for p in [*network.parameters(), *network.buffers()]}
        found["path"].append(saved_bytes(lambda: network(x), own))
    assert found["weights"] == found["path"]
    assert len(set(found["path"])) == 1
    output = 8 * 4 * 16 * 16 * 4
    assert max(found["gates"]) - min(found["gates"]) < 100
    assert found["gates"][-1] <= found["path"][-1] + 2 * output + 100


def test_a_path_gate_runs_the_paths_it_draws() -> None:
    shared = edges(*OPTIONS).eval()
    (x,) = batch(SHAPE)
    gate = Uniform(shared.mixed, seed=0)
    seen = set()
    for _ in range(6):
        y = shared.mix(gate)(x)
        assert torch.equal(y, shared.mix(None).set(gate.drawn)(x))
        seen.add(tuple(gate.drawn.values()))
    assert len(seen) > 1


def test_dropped_paths_are_not_computed() -> None:
    shared = edges(*OPTIONS)
    (x,) = batch(SHAPE)
    gate = Sum(shared.mixed, rate=0.5, seed=0)
    for _ in range(5):
        shared.zero_grad()
        copy = Sum(shared.mixed, rate=0.5, seed=0)
        copy.load_state_dict(gate.state_dict())
        kept = {name: copy.weights(name, n) for name, n in shared.mixed.items()}
        shared.mix(gate)(x).sum().backward()
        for number, weights in enumerate(kept.values()):
            gradient = shared.get_parameter(f"weights.layers.0.edges.{number}.1.conv.conv.weight").grad
            assert (gradient is None) == (weights[1] == 0)


@pytest.mark.parametrize("given", [[0.0] * 4, [1.0] * 3, torch.ones(3)], ids=["zeros", "few", "few, tensor"])
def test_weights_that_do_not_fit_are_refused(given: Any) -> None:
    class Wrong:
        def weights(self, decision: str, count: int) -> Any:
            return given

    shared = make(nas.Space(nas.Sequential(nas.one_of(*OPTIONS))), SHAPE)
    with pytest.raises(InvalidInputError, match="4 weights"):
        shared.mix(Wrong(), optimize=False)(*batch(SHAPE))


def test_the_supernet_is_still_a_module() -> None:
    shared = edges(*OPTIONS)
    shared.mix(Binary(shared.mixed, seed=0))
    assert isinstance(shared, nn.Module)
    assert "gate" not in dict(shared.named_children())
