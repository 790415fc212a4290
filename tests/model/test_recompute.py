"""Recomputation in segments: what is kept for the gradient, and where a schedule is divided."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor, nn

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.graph.tensor import Tensor as Symbol
from nasturtium.model import Softmax, Supernet
from nasturtium.model.mixture import write_program
from nasturtium.model.passes.expressions import Rules, express
from nasturtium.model.passes.schedule import Schedule, schedule
from nasturtium.model.passes.segments import segments
from nasturtium.zoo import darts
from tests.model.test_passes import SPACES, made


def plan_of(shared: Supernet) -> Schedule:
    positions = tuple([i for i, d in enumerate(shared.graph.decisions) if d.name in shared.mixed])
    program = write_program(shared.graph, shared._channels, positions, (0,) * len(shared.graph.decisions), shared._call)
    return schedule(express(program, Rules(merge_norms=True, phases=True)), training=True, fast_columns=True)


def kept_bytes(shared: Supernet, x: Tensor, *, recompute: bool) -> int:
    """Bytes that the forward pass keeps for the backward pass, weights left out."""
    storages = {}
    weights = {p.untyped_storage().data_ptr() for p in [*shared.parameters(), *shared.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    gate = Softmax(shared.mixed, seed=0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = shared.mix(gate, recompute=recompute)(x)
    del y
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_segments_are_the_schedule_and_pass_on_what_is_read_later(name: str, seed: int) -> None:
    plan = plan_of(made(name, seed))
    found = segments(plan)
    assert [s.start for s in found] == [0, *[s.stop for s in found[:-1]]]
    assert found[-1].stop == len(plan.instructions)
    known = {place for place in plan.inputs if place >= 0}
    for segment in found:
        assert set(segment.reads) <= known
        known = (known | set(segment.writes)) - set(segment.dead)
    assert set(plan.outputs) <= known


def test_a_deep_network_keeps_less() -> None:
    shared = nas.supernet(
        darts.space((3, 16, 16), width=4, layers=6, nodes=2, affine=False), (3, 16, 16), seed=0, classes=3
    )
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert len(segments(plan_of(shared))) > 2
    assert kept_bytes(shared, x, recompute=True) < 0.5 * kept_bytes(shared, x, recompute=False)


def test_random_numbers_are_drawn_once() -> None:
    shared = made("darts", Random(3).randint(0, 9), dtype=torch.float32)
    gate = Softmax(shared.mixed, seed=0)
    x = torch.randn(2, 3, 8, 8)
    torch.manual_seed(0)
    shared.mix(gate, recompute=True)(x).sum().backward()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    shared.mix(gate)(x).sum().backward()
    assert torch.equal(after, torch.get_rng_state())


class Tanh(nn.Module):
    """A user's layer with a norm and a counter of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.norm(x))


class Vectors(nas.Block):
    """Norms of vectors, which are not fused."""

    width: int

    def forward(self, x: Symbol) -> Symbol:
        return nas.ops.activation(nas.ops.batch_norm(nas.ops.linear(x, self.width, name="l"), name="n"), "relu")


def chains() -> dict[str, tuple[nas.Space, tuple[int, ...]]]:
    """Spaces with state outside of fused norms: vectors, cut widths, users' modules."""
    vectors = [nas.one_of(Vectors(6), nas.Identity(), name=f"op{i}") for i in range(6)]
    images = [nas.one_of(nas.Conv(4), nas.Conv(4, kernel=5), name=f"op{i}") for i in range(4)]
    own = [nas.one_of(nas.Module(Tanh, channels=4), nas.Identity(), name=f"op{i}") for i in range(4)]
    return {
        "vectors": (nas.Space(nas.Sequential(*vectors)), (6,)),
        "cut": (nas.Space(nas.Sequential(nas.Conv(nas.one_of(2, 4, name="width")), *images)), (3, 8, 8)),
        "own": (nas.Space(nas.Sequential(nas.Conv(4), *own)), (3, 8, 8)),
    }


@pytest.mark.parametrize("name", ["vectors", "cut", "own"])
def test_no_buffer_changes_in_the_backward_pass(name: str) -> None:
    space, shape = chains()[name]
    shared = nas.supernet(space, shape, seed=0)
    decisions = [d for d in shared.mixed if d.startswith("op")]
    if name == "cut":
        shared.set({d.name: 0 for d in shared.graph.decisions})
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    gate, found = Softmax(dict.fromkeys(decisions, 2), seed=0), []
    start = {key: value.clone() for key, value in shared.state_dict().items()}
    for recompute in (False, True):
        shared.load_state_dict(start)
        y = shared.mix(gate, decisions, recompute=recompute)(x)
        before = {key: value.clone() for key, value in shared.named_buffers()}
        gradients = torch.autograd.grad(y.square().sum(), [*gate.parameters()])
        assert all(torch.equal(value, before[key]) for key, value in shared.named_buffers())
        counts = [int(value) for key, value in shared.named_buffers() if key.endswith("num_batches_tracked")]
        found.append((before, gradients, counts))
    assert set(found[0][2]) <= {0, 1}
    assert found[0][2] == found[1][2]
    assert all(torch.equal(value, found[1][0][key]) for key, value in found[0][0].items())
    torch.testing.assert_close(found[1][1], found[0][1])


def test_gradients_can_be_taken_twice_and_of_the_weights_of_the_forward_pass_only() -> None:
    shared = made("darts", 0, dtype=torch.float32)
    gate = Softmax(shared.mixed, seed=0)
    x = torch.randn(2, 3, 8, 8)
    loss = shared.mix(gate, recompute=True)(x).square().sum()
    first = torch.autograd.grad(loss, [*gate.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [*gate.parameters()])
    torch.testing.assert_close(first, second)
    loss = shared(x).square().sum()
    with torch.no_grad():
        next(shared.parameters()).mul_(2.0)
    with pytest.raises(InvalidInputError, match="recompute=False"):
        torch.autograd.grad(loss, [*gate.parameters()])
    other = {name: (weight * 2.0).detach().requires_grad_() for name, weight in shared.named_parameters()}
    loss = torch.func.functional_call(shared, other, (x,)).square().sum()
    with pytest.raises(InvalidInputError, match="recompute=False"):
        torch.autograd.grad(loss, [*gate.parameters()])
