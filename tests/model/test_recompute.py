"""Recomputation in segments: what is kept for the gradient, and where a schedule is divided."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor

import nasturtium as nas
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
