"""PyTorch's CPU kernel that writes outside of its memory is not called: 1x1, strided, narrow, channels last."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.model.elastic import is_unsafe_with_channels_last
from nasturtium.training.optimization import wants_channels_last

CPU = torch.device("cpu")


def network(width: int, stride: int = 2) -> nas.Block:
    return nas.Sequential(nas.Conv(width), nas.Conv(8, 1, stride=stride), nas.MBConv(8), nas.Classifier(classes=3))


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_gradients_of_a_supernet_with_channels_last(width: int) -> None:
    space = nas.Space(
        nas.Sequential(nas.Conv(nas.one_of(1, width)), nas.Conv(4, 1, stride=2), nas.Classifier(classes=3))
    )
    net = nas.supernet(space, (1, 12, 12), seed=0).set({"layers.0.width": 1})
    x = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for _ in range(20):  # corrupted memory shows only after some calls
            net.zero_grad()
            net.eval()(x.contiguous(memory_format=layout)).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(found[0]) > 4
    for first, last in zip(*found, strict=True):
        assert first == pytest.approx(last, rel=1e-4, abs=1e-5)


def test_training_avoids_channels_last_there() -> None:
    narrow, wide, plain = (nas.build(nas.trace(n, (1, 8, 8)), seed=0) for n in (network(4), network(8), network(4, 1)))
    assert [wants_channels_last(net, "auto", CPU) for net in (narrow, wide, plain)] == [False, True, True]
    assert wants_channels_last(wide, "channels_last", CPU)
    with pytest.raises(InvalidInputError, match="fewer than 8 input channels"):
        wants_channels_last(narrow, "channels_last", CPU)


def test_which_are_avoided() -> None:
    assert is_unsafe_with_channels_last((1, 1), (2, 2), 7)
    assert not is_unsafe_with_channels_last((1, 1), (2, 2), 8)
    assert not is_unsafe_with_channels_last((1, 1), (1, 1), 4)
    assert not is_unsafe_with_channels_last((3, 3), (2, 2), 4)


def test_the_safe_layout_computes_the_same() -> None:
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    w = torch.randn(4, 4, 1, 1, dtype=torch.float64)
    assert torch.allclose(functional.conv2d(x.contiguous(), w, stride=2), functional.conv2d(x, w, stride=2))
