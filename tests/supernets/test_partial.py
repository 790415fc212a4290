"""Partial channels, weights of edges and fading shortcuts, against their definitions in plain PyTorch."""

import pytest
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.blocks.darts_cell import Pool, Skip
from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.supernets.branch_blocks import Absent, Beside, Partial, Shortcut
from nasturtium.supernets.darts import DARTS
from nasturtium.supernets.darts_search import DARTSSearch
from nasturtium.supernets.mixture_gate import MixtureGate
from nasturtium.supernets.relaxation import relax
from nasturtium.supernets.searcher import Run
from tests.supernets.mixtures import Sum, edge, space, task


class Doubled(nas.Block):
    """Twice the image, by stride."""

    def forward(self, x, stride=1):
        y = nas.ops.add(x, x)
        return y if stride == 1 else nas.ops.avg_pool(y, stride, stride=stride, padding=0, ceil_mode=True)


class At(nas.Block):
    """An operation with a stride."""

    operation: object
    stride: int

    def forward(self, x):
        return self.operation(x, self.stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_part_of_the_channels_is_computed_on(stride):
    x = torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    net = nas.build(nas.trace(At(Partial(Doubled(), 4), stride), (8, 6, 6)))
    y = 2 * x[:, :2] if stride == 1 else functional.avg_pool2d(2 * x[:, :2], 2)
    rest = x[:, 2:] if stride == 1 else functional.max_pool2d(x[:, 2:], 2)
    both = torch.cat([y, rest], 1)
    shuffled = both.view(3, 4, 2, *both.shape[2:]).transpose(1, 2).reshape(both.shape)  # the authors' channel_shuffle
    torch.testing.assert_close(net(x), shuffled)


def test_nothing_and_shortcuts_have_the_shape_of_what_they_stand_for():
    for stride in (1, 2):
        graph = nas.trace(At(Absent(Skip(affine=False)), stride), (4, 5, 5))
        assert graph.nodes[-1].shape == nas.trace(At(Skip(affine=False), stride), (4, 5, 5)).nodes[-1].shape
        assert graph.params == 0
        assert not nas.build(graph)(torch.ones(1, 4, 5, 5)).any()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    passed = nas.build(nas.trace(At(Shortcut(Pool("max")), 2), (4, 6, 6)))
    torch.testing.assert_close(passed(x), functional.avg_pool2d(x, 2))
    beside = nas.build(nas.trace(At(Beside(Doubled(), Shortcut(Doubled())), 1), (4, 6, 6)))
    torch.testing.assert_close(beside(x), 3 * x)


def test_what_cannot_be_partial_is_refused():
    with pytest.raises(ShapeError, match="multiple of 3"):
        nas.trace(Partial(Doubled(), 3), (4, 6, 6))
    with pytest.raises(ShapeError, match="keeps the channels"):
        nas.trace(Partial(nas.Conv(7), 2), (4, 6, 6))
    with pytest.raises(InvalidInputError, match="2 or more"):
        Partial(Doubled(), 1)


def test_a_node_of_pc_darts():
    """sum_j beta_j shuffle(cat(sum_k alpha_jk o_k(first part of x), the rest of x)), equations 1 and 2."""
    searched = nas.Space(Sum(nas.subset([nas.one_of(Doubled(), Pool("max"), name=f"op_{i}") for i in range(3)], 2)))
    relaxed = relax(searched, edges=True, parts=2)
    net = nas.supernet(relaxed.space, (4, 6, 6), seed=0)
    gate = MixtureGate(relaxed, net.mixed, edges=True, seed=0)
    with torch.no_grad():
        for p in gate.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    betas = torch.softmax(gate.edge_logits[0], 0)
    expected = torch.zeros_like(x)
    for i in range(3):
        alpha = torch.softmax(gate.operations.logits_of(f"op_{i}"), 0)
        part = x[:, :2]
        y = alpha[0] * 2 * part + alpha[1] * functional.max_pool2d(part, 3, 1, 1)  # alpha[2] is of none
        both = torch.cat([y, x[:, 2:]], 1)
        expected = expected + betas[i] * both[:, [0, 2, 1, 3]]
    torch.testing.assert_close(net.mix(gate)(x), expected)
    assert sum(p[0].item() for n, p in gate.probabilities().items() if "op" not in n) == pytest.approx(1.0)


def test_a_shortcut_fades_out():
    method = DARTS.minus(batch_size=12, epochs=2)
    search = DARTSSearch(method, space(), Run(task=task(), seed=0))
    names = search.relaxation.shortcuts
    assert len(names) == 3
    seen = []
    step = search.step

    def spied(batch, second, moment):
        found = step(batch, second, moment)
        seen.append(search.gate.weights(names[0], 2)[0])
        return found

    search.step = spied
    result = search.complete()
    assert seen == [1.0, 0.75, 0.5, 0.25]
    assert not set(result.found[0].architecture.decisions) & set(names)


def test_partial_channels_shrink_the_search_network():
    wide = nas.Space(nas.Sequential(nas.Conv(8), Sum(nas.subset([edge(f"op_{i}") for i in range(3)], 2))))
    _, whole = DARTS().prepare(wide, task(), seed=0)
    _, part = DARTS.pc(parts=4).prepare(wide, task(), seed=0)
    count = [sum(p.numel() for n, p in net.named_parameters() if "edges" in n) for net in (whole, part)]
    assert count == [3 * 2 * (9 * 8 + 64), 3 * 2 * (9 * 2 + 4)]  # depthwise 3x3 and pointwise, twice an edge
