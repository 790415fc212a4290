"""Weights that go over to other networks: the child computes what its parent does, or is said not to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.graph.tensor import Tensor
from nasturtium.supernets import recalibrate
from nasturtium.supernets.inheritance import Inheritance, inherit, load_matching
from nasturtium.supernets.net2net import mapping, widened_conv
from nasturtium.zoo import nasbench201

INPUTS = (3, 8, 8)
TAIL = nas.Classifier(classes=4)


class Joined(nas.Block):
    """Branches of different widths, concatenated, shuffled, halved; one half is added to what it came from."""

    widths: tuple[int, ...]
    groups: int = 1

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for number, width in enumerate(self.widths):
            with x.scope(f"branch_{number}"):
                parts.append(nas.ops.activation(nas.ops.batch_norm(nas.ops.conv(x, width, 3))))
        y = nas.ops.concat(*parts)
        y = nas.ops.channel_shuffle(y, self.groups) if self.groups > 1 else y
        y = nas.ops.conv(y, y.channels, groups=y.channels, name="depthwise")
        return y + nas.ops.conv(y, y.channels, 1, name="mix") if len(set(self.widths)) == 1 else y


def trained(block: nas.Block, seed: int = 0) -> tuple[nas.Graph, nn.Module]:
    """A network with weights, norms and statistics that are nothing special."""
    graph = nas.trace(block, INPUTS)
    network = nas.build(graph, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    assert isinstance(tensor, torch.Tensor)
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                for tensor in (module.bias, module.running_mean):
                    assert isinstance(tensor, torch.Tensor)
                    tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
    return graph, network.eval()


def compared(parent: nas.Block, child: nas.Block, **options: Any) -> tuple[float, Inheritance, nn.Module]:
    """Largest difference of the outputs in evaluation, relative to the largest output."""
    graph, network = trained(parent)
    made, report = inherit(graph, network.state_dict(), nas.trace(child, INPUTS), seed=1, **options)
    x = torch.randn(4, *INPUTS, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected, found = network(x), made.eval()(x)
    assert float(expected.abs().max()) > 1e-2
    return float((found - expected).abs().max() / expected.abs().max()), report, made


def chain(*widths: int, kernel: int = 3, act: str = "relu") -> nas.Block:
    return nas.Sequential(*[nas.Conv(width, kernel, act=act) for width in widths], TAIL)


def stack(times: int, act: str = "relu") -> nas.Block:
    return nas.Sequential(nas.repeat(nas.Conv(5, act=act), times), TAIL)


def stages(width: int, times: int, *, expand: int = 2, kernel: int = 3, se: float | None = None) -> nas.Block:
    """A stem, and a stage of inverted residuals: sums along the stage."""
    return nas.Sequential(
        nas.Conv(width),
        nas.repeat(nas.MBConv(width, kernel, 1, expand, se=se), times),
        TAIL,
    )


PRESERVED = {
    "the same": (chain(4, 6), chain(4, 6)),
    "wider": (chain(4, 6), chain(9, 13)),
    "one layer wider": (chain(4, 6), chain(4, 7)),
    "wider with grown kernels": (chain(4, 6), chain(5, 6, kernel=5)),
    "deeper after relu": (stack(1), stack(2)),
    "wider residuals": (stages(6, 3), stages(10, 3)),
    "wider expansion": (stages(6, 2), stages(6, 2, expand=5)),
    "wider gates": (stages(6, 2, se=0.5), stages(9, 2, expand=3, se=0.5)),
    "larger depthwise kernels": (stages(6, 2), stages(6, 2, kernel=7)),
    "deeper residuals": (stages(6, 1), stages(6, 4)),
    "wider and deeper, larger kernels": (stages(6, 2), stages(8, 3, expand=3, kernel=5)),
    "wider concatenation": (nas.Sequential(Joined((3, 5)), TAIL), nas.Sequential(Joined((4, 9)), TAIL)),
    "wider shuffled sum": (nas.Sequential(Joined((4, 4), 2), TAIL), nas.Sequential(Joined((6, 6), 2), TAIL)),
    "wider DenseNet-like": (
        nas.Sequential(Joined((3, 5)), Joined((2, 2)), TAIL),
        nas.Sequential(Joined((6, 7)), Joined((3, 3)), TAIL),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRESERVED)
def test_the_child_computes_the_same(name: str) -> None:
    parent, child = PRESERVED[name]
    difference, report, network = compared(parent, child)
    assert report.preserved, report
    assert difference < 1e-5
    names = [*report.inherited, *report.transformed, *report.fresh]
    assert sorted(names) == sorted(network.state_dict())
    if name == "the same":
        assert not report.transformed
        assert not report.fresh


CHANGED = {
    "narrower": (chain(6, 6), chain(4, 6)),
    "smaller kernel": (chain(4, 6, kernel=5), chain(4, 6)),
    "deeper after hardswish": (stack(1, "hardswish"), stack(2, "hardswish")),
    "another activation": (chain(4, 6), chain(4, 6, act="silu")),
    "an expansion where none was": (stages(6, 2, expand=1), stages(6, 2, expand=2)),
    "another stride": (chain(4, 6), nas.Sequential(nas.Conv(4), nas.Conv(6, stride=2), TAIL)),
    "more classes": (chain(4, 6), nas.Sequential(nas.Conv(4), nas.Conv(6), nas.Classifier(classes=5))),
}


@pytest.mark.parametrize("name", CHANGED)
def test_it_says_where_nothing_keeps_the_function(name: str) -> None:
    parent, child = CHANGED[name]
    graph, network = trained(parent)
    _, report = inherit(graph, network.state_dict(), nas.trace(child, INPUTS), seed=1)
    assert not report.preserved
    assert report.reasons
    assert report.share > 0.5  # most of it is inherited all the same


def test_another_operation_at_an_edge_keeps_the_rest() -> None:
    space = nasbench201.space(cells=1, width=4)
    first = space.architecture(dict.fromkeys([d.name for d in space.decisions], 3), indices=True)
    second = space.architecture({d.name: 3 - (i == 2) for i, d in enumerate(space.decisions)}, indices=True)
    graphs = [nas.trace(a, INPUTS, classes=4) for a in (first, second)]
    network = nas.build(graphs[0], seed=0)
    _, report = inherit(graphs[0], network.state_dict(), graphs[1], seed=1)
    assert not report.preserved
    assert not report.fresh  # the 1x1 convolution is the centre of the 3x3 one
    assert report.inherited


def test_wider_by_hand() -> None:
    """Equation 4: three channels of two; what reads them takes a half of the one that stands twice."""
    weight = torch.tensor([[1.0, 2.0]]).view(1, 2, 1, 1)
    assert widened_conv(weight, (0, 1, 0), (0, 0), (1, 1)).flatten(1).tolist() == [[0.5, 2.0, 0.5], [0.5, 2.0, 0.5]]
    grown = widened_conv(weight, (0, 1), (0,), (3, 3))
    assert grown[0, 1].tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    for old, new in ((3, 3), (3, 8), (5, 2)):
        channels = mapping(old, new)
        assert channels[:old] == tuple(range(min(old, new)))
        assert len(channels) == new
        assert set(Counter(channels)) <= set(range(old))


def test_noise_breaks_ties_of_copies_alone() -> None:
    parent, child = PRESERVED["wider"]
    _, quiet, still = compared(parent, child)
    difference, report, noisy = compared(parent, child, noise=0.01)
    assert report == quiet
    assert 1e-6 < difference < 0.2
    before, after = still.state_dict(), noisy.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"layers.0.conv.conv.weight", "layers.1.conv.conv.weight"}
    weight = "layers.0.conv.conv.weight"
    assert torch.equal(before[weight][:4], after[weight][:4])
    assert float((before[weight] - after[weight])[4:].std() / before[weight].std()) == pytest.approx(0.01, rel=0.3)


def test_new_norms_with_statistics_change_nothing_in_training_either() -> None:
    parent, child = PRESERVED["deeper after relu"]
    graph, network = trained(parent)
    x = torch.randn(16, *INPUTS, generator=torch.Generator().manual_seed(7))
    recalibrate(network, [x])
    made, report = inherit(graph, network.state_dict(), nas.trace(child, INPUTS), seed=1, batches=[x])
    plain, _ = inherit(graph, network.state_dict(), nas.trace(child, INPUTS), seed=1)
    assert report.preserved
    network.eval()
    with torch.no_grad():
        assert float((made.eval()(x) - network(x)).abs().max()) < 1e-5
        trains = network.train()(x)
        assert float((made.train()(x) - trains).abs().max()) < 1e-3
        assert float((plain.train()(x) - trains).abs().max()) > 1e-2  # mean 0 and variance 1 is another thing


def test_weights_of_another_network_are_refused() -> None:
    graph, network = trained(chain(4, 6))
    state = network.state_dict()
    with pytest.raises(InvalidInputError, match="missing"):
        inherit(graph, {n: t for n, t in state.items() if not n.startswith("layers.1")}, graph, seed=0)
    with pytest.raises(InvalidInputError, match="must have shape"):
        inherit(graph, {n: t[:3] if t.ndim > 3 else t for n, t in state.items()}, graph, seed=0)
    with pytest.raises(InvalidInputError, match="noise"):
        inherit(graph, state, graph, seed=0, noise=-1.0)


def test_matching_weights_go_into_networks_and_supernets() -> None:
    _, network = trained(chain(4, 6))
    other = nas.build(nas.trace(chain(4, 7), INPUTS), seed=3)
    report = load_matching(other, {**network.state_dict(), "extra": torch.ones(1)})
    assert "layers.0.conv.conv.weight" in report.copied
    assert "layers.1.conv.conv.weight" in report.other_shape
    assert report.unused == ("extra",)
    assert torch.equal(
        other.state_dict()["layers.0.conv.conv.weight"], network.state_dict()["layers.0.conv.conv.weight"]
    )
    space = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 6)), TAIL))
    source, target = [nas.supernet(space, INPUTS, seed=seed) for seed in (0, 1)]
    assert not load_matching(target, source.state_dict()).missing
    assert all(torch.equal(t, target.state_dict()[n]) for n, t in source.state_dict().items())
    with pytest.raises(InvalidInputError, match="None of the 1 given"):
        load_matching(other, {"x": torch.ones(1)})
