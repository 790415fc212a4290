"""Kernels made of larger ones by matrices, against the paper's equations written by hand."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import Tensor

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.model.kernel_transform import matrix_name, shrink
from nasturtium.model.supernet import Supernet
from nasturtium.space.lowering import lower
from nasturtium.supernets import insert
from nasturtium.zoo import once_for_all as ofa


def space(widths: object = 6) -> nas.Space:
    block = nas.MBConv(widths, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(2, 3), se=0.5)
    return nas.Space(nas.Sequential(nas.repeat(block, nas.one_of(1, 2)), nas.Classifier(3)))


def disturbed(shared: Supernet, seed: int = 0) -> Supernet:
    """Matrices far from the identity, norms that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in shared.named_parameters():
            if "transform" in name or parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return shared


def by_hand(weight: Tensor, matrix: Tensor, side: int) -> Tensor:
    """Tap i of the small kernel is the sum over taps j of the large one's centre of matrix[i, j] times tap j."""
    start = (weight.shape[-1] - side) // 2
    taps = [weight[:, 0, start + r, start + c] for r in range(side) for c in range(side)]
    return torch.einsum("ij,jc->ci", matrix, torch.stack(taps)).reshape(len(weight), 1, side, side)


def test_one_step_is_the_paper_s_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 1, 5, 5, generator=generator, dtype=torch.float64)
    matrix = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    small = shrink(weight, matrix, 3)
    assert small.shape == (2, 1, 3, 3)
    for channel in range(2):
        for i in range(9):
            expected = sum(matrix[i, 3 * r + c] * weight[channel, 0, 1 + r, 1 + c] for r in range(3) for c in range(3))
            torch.testing.assert_close(small[channel, 0, i // 3, i % 3], expected)
    torch.testing.assert_close(small, by_hand(weight, matrix, 3))


def test_a_kernel_of_3_goes_through_that_of_5() -> None:
    shared = disturbed(nas.supernet(space(), (4, 8, 8), seed=0, kernel_transform=True))
    weights = dict(shared.named_parameters())
    path = "weights.layers.0.blocks.0.depthwise.conv"
    seven = weights[f"{path}.weight"]
    assert seven.shape == (12, 1, 7, 7)
    five = by_hand(seven, weights[f"{path}.transform_7to5"], 5)
    three = by_hand(five, weights[f"{path}.transform_5to3"], 3)
    for side, expected in ((7, seven), (5, five), (3, three)):
        architecture = space().architecture(
            {"layers.0.blocks.length": 1, "layers.0.blocks.0.kernel": side, "layers.0.blocks.0.expand": 2}
        )
        found = shared.parameters_of(architecture)["layers.0.blocks.0.depthwise.conv.weight"]
        torch.testing.assert_close(found, expected[:8])  # the first channels at the smaller expansion


def test_they_start_as_the_centre() -> None:
    plain = nas.supernet(space(), (4, 8, 8), seed=0).eval()
    shared = nas.supernet(space(), (4, 8, 8), seed=0, kernel_transform=True).eval()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        a = space().sample(Random(seed))
        torch.testing.assert_close(shared.set(a)(x), plain.set(a)(x))


def test_the_law_holds_in_evaluation_and_training() -> None:
    shared = disturbed(nas.supernet(space(), (4, 8, 8), seed=0, kernel_transform=True))
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(6):
        a = space().sample(Random(seed))
        network = shared.eval().extract(a)
        assert torch.equal(shared.set(a)(x), network(x))
        torch.testing.assert_close(shared.train().set(a)(x), shared.extract(a)(x))


def test_gradients_reach_the_large_kernel_and_the_matrices() -> None:
    """Those of the whole equal those by automatic differentiation of the equation written by hand."""
    shared = disturbed(nas.supernet(space(), (4, 8, 8), seed=0, kernel_transform=True)).double().eval()
    architecture = space().architecture(
        {"layers.0.blocks.length": 1, "layers.0.blocks.0.kernel": 3, "layers.0.blocks.0.expand": 3}
    )
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shared.set(architecture)(x).square().sum().backward()
    path = "weights.layers.0.blocks.0.depthwise.conv"
    leaves = {n: p.detach().clone().requires_grad_() for n, p in shared.named_parameters() if n.startswith(path)}
    kernel = by_hand(leaves[f"{path}.weight"], leaves[f"{path}.transform_7to5"], 5)
    kernel = by_hand(kernel, leaves[f"{path}.transform_5to3"], 3)
    network = shared.extract(architecture).double()  # its other weights are copied once more, in double precision
    network.load_state_dict(network.state_dict() | shared.parameters_of(architecture))
    given = {"layers.0.blocks.0.depthwise.conv.weight": kernel}
    torch.func.functional_call(network, given, (x,)).square().sum().backward()
    for name, leaf in leaves.items():
        found = shared.get_parameter(name).grad
        assert found is not None
        assert float(found.abs().sum()) > 0
        torch.testing.assert_close(found, leaf.grad)


def test_only_depthwise_kernels_that_differ_have_matrices() -> None:
    block = nas.MBConv(4, kernel=3, expand=2)
    fixed = nas.Space(nas.Sequential(nas.Conv(4, nas.one_of(3, 5)), nas.repeat(block, nas.one_of(1, 2))))
    names = [n for n, _ in nas.supernet(fixed, (4, 8, 8), seed=0, kernel_transform=True).named_parameters()]
    assert not any("transform" in name for name in names)
    assert matrix_name(7, 5) == "transform_7to5"


def test_a_made_kernel_has_no_place_to_insert_it() -> None:
    shared = nas.supernet(space(), (4, 8, 8), seed=0, kernel_transform=True)
    for side in (7, 3):
        named = {"layers.0.blocks.length": 1, "layers.0.blocks.0.kernel": side, "layers.0.blocks.0.expand": 3}
        architecture = space().architecture(named)
        weights = shared.extract(architecture).state_dict()
        if side == 7:
            insert(shared, architecture, weights)
        else:
            with pytest.raises(InvalidInputError, match="larger kernel"):
                insert(shared, architecture, weights)


@pytest.mark.parametrize(
    ("width", "published"), [(1.0, 7_678_880), pytest.param(1.2, 10_715_752, marks=pytest.mark.slow)]
)
def test_parameters_of_the_published_supernets(width: float, published: int) -> None:
    """METHODS: 20 layers of 625 + 81 more parameters than the largest network."""
    graph = lower(ofa.mobilenetv3_space(width=width), (3, 224, 224), classes=1000)
    with torch.device("meta"):
        shared = Supernet(graph, seed=0, kernel_transform=True)
    assert sum(p.numel() for p in shared.parameters()) == published
    matrices = [p.numel() for n, p in shared.named_parameters() if "transform" in n]
    assert sorted(matrices) == [81] * 20 + [625] * 20
