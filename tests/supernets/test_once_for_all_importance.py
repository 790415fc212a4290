"""Channels sorted by importance: the widest network stays, and so do the prefixes that were trained."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor

import nasturtium as nas
from nasturtium.model.supernet import Supernet
from nasturtium.supernets.importance import sort_channels


def space(expand: object, **fields: object) -> nas.Space:
    block = nas.MBConv(6, kernel=nas.one_of(3, 5), expand=expand, **fields)
    return nas.Space(nas.Sequential(nas.repeat(block, nas.one_of(1, 2)), nas.Classifier(3)))


def make(space: nas.Space, inputs: tuple[int, ...] = (6, 6, 6)) -> Supernet:
    shared = nas.supernet(space, inputs, seed=0, kernel_transform=True, classes=3).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in shared.state_dict().items():
            if tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
            del name
    return shared


def picture(inputs: tuple[int, ...] = (6, 6, 6)) -> Tensor:
    return torch.randn(3, *inputs, generator=torch.Generator().manual_seed(1))


def of(space: nas.Space, **values: object) -> nas.Architecture:
    """The architecture with one value for each kind of decision."""
    named = {d.name: d.options.index(values[d.name.rpartition(".")[2]]) for d in space.decisions}
    found = space.settle(named)
    assert found is not None
    return found


@pytest.mark.parametrize("se", [None, 0.5])
def test_the_widest_network_computes_what_it_did(se: float | None) -> None:
    given = space(nas.one_of(2, 3, 4), se=se)
    shared, x = make(given), picture()
    before = {}
    for kernel in (3, 5):
        for length in (1, 2):
            a = of(given, kernel=kernel, length=length, expand=4)
            before[a] = shared.set(a)(x)
    done = sort_channels(shared)
    assert len(done) == (2 if se is None else 4)  # the hidden channels of two blocks, and of their gates
    assert all(width.moved for width in done if width.channels == 24)
    for a, y in before.items():
        torch.testing.assert_close(shared.set(a)(x), y)
        assert torch.equal(shared.set(a)(x), shared.extract(a)(x))


def test_the_order_is_that_of_the_projection_s_norms() -> None:
    """By hand: column sums of |W| of the 1x1 convolution that reads the hidden channels; the gate's do not count."""
    given = space(nas.one_of(2, 4), se=0.5)
    shared = make(given)
    path = "weights.layers.0.blocks.0"
    old = {n: t.clone() for n, t in shared.state_dict().items()}
    project = old[f"{path}.project.conv.weight"]
    sums = [sum(abs(float(project[o, c, 0, 0])) for o in range(6)) for c in range(24)]
    order = sorted(range(24), key=lambda c: -sums[c])
    sort_channels(shared)
    new = shared.state_dict()
    assert torch.equal(new[f"{path}.project.conv.weight"], project[:, order])
    assert torch.equal(new[f"{path}.expand.conv.weight"], old[f"{path}.expand.conv.weight"][order])
    assert torch.equal(new[f"{path}.depthwise.conv.weight"], old[f"{path}.depthwise.conv.weight"][order])
    assert torch.equal(new[f"{path}.depthwise.conv.transform_5to3"], old[f"{path}.depthwise.conv.transform_5to3"])
    for norm in (f"{path}.expand.norm", f"{path}.depthwise.norm"):
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(new[f"{norm}.{name}"], old[f"{norm}.{name}"][order])
    gate = next(n.removesuffix(".weight") for n in new if ".se." in n and new[n].shape[:2] == (24, 12))
    columns = old[f"{gate}.weight"].abs().sum((0, 2, 3))
    inner = sorted(range(12), key=lambda c: -float(columns[c]))
    assert torch.equal(new[f"{gate}.weight"], old[f"{gate}.weight"][order][:, inner])
    assert torch.equal(new[f"{gate}.bias"], old[f"{gate}.bias"][order])


def test_supported_widths_keep_their_channels() -> None:
    """As the offsets of the authors' code: networks of the widths trained so far do not change, narrower ones do."""
    given = space(nas.one_of(2, 3, 4), se=0.5)
    shared, x = make(given), picture()
    outputs = {e: shared.set(of(given, kernel=5, length=2, expand=e))(x) for e in (2, 3, 4)}
    supported = {d.name: (1, 2) for d in given.decisions if d.name.endswith("expand")}
    done = sort_channels(shared, supported)
    assert {width.kept for width in done} == {(18, 24), (9, 12)}
    after = {e: shared.set(of(given, kernel=5, length=2, expand=e))(x) for e in (2, 3, 4)}
    torch.testing.assert_close(after[4], outputs[4])
    torch.testing.assert_close(after[3], outputs[3])
    assert not torch.allclose(after[2], outputs[2])


def test_widths_of_stages_are_sorted_through_their_residuals() -> None:
    """Here the open width is that of a stage: two blocks, their sum, and the classifier read it."""
    block = nas.MBConv(nas.one_of(4, 8, name="width"), kernel=3, expand=2)
    given = nas.Space(nas.Sequential(nas.Conv(8), nas.repeat(block, 2, shared=True), nas.Classifier(3)))
    shared, x = make(given), picture()
    a = given.architecture({"width": 8})
    before = shared.set(a)(x)
    sort_channels(shared)
    torch.testing.assert_close(shared.set(a)(x), before)


def test_what_a_permutation_would_change_is_left_alone() -> None:
    """Outputs, concatenations, channels that are cut apart or shuffled."""
    spaces = {
        "output": nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8), 1), nas.Conv(nas.one_of(4, 8), 1))),
        "group norm": nas.Space(nas.zoo.nasbench201.space(cells=1, width=4).block),
    }
    for given in spaces.values():
        shared, x = make(given, (3, 8, 8)), picture((3, 8, 8))
        a = max((given.sample(Random(s)) for s in range(20)), key=lambda a: nas.cost(a, (3, 8, 8), classes=3).params)
        before = shared.set(a)(x)
        done = sort_channels(shared)
        torch.testing.assert_close(shared.set(a)(x), before)
        assert len(done) == (1 if given is spaces["output"] else 0)
