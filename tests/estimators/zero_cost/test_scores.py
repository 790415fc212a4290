"""Each score against an independent direct computation on a tiny network."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.zero_cost import (
    Batch,
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    l2_norm,
    naswot,
    plain,
    snip,
    synflow,
    zen,
    zico,
)


def filled(net: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.5)
    return net


def small() -> nn.Module:
    """A convolution, a norm, an activation, a linear layer: 54 + 6 + 3 * 48 + 3 numbers, in float64."""
    made = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)
    )
    return filled(made.double())


def batch(n: int = 5, shape: tuple[int, ...] = (2, 4, 4), classes: int = 3, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((n, *shape), generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(0, classes, (n,), generator=generator))


def loss(net: nn.Module, data: Batch) -> torch.Tensor:
    return functional.cross_entropy(net(data.images), data.labels)


def test_first_order_scores_equal_backward_and_masks():
    net, data = small(), batch()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scores = [f(net, data) for f in (grad_norm, plain, snip)]
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    masks = {name: torch.ones_like(net.get_parameter(name), requires_grad=True) for name in ("0.weight", "4.weight")}
    masked = {name: net.get_parameter(name).detach() * mask for name, mask in masks.items()}
    logits = functional_call(net, masked, (data.images,))
    slopes = torch.autograd.grad(functional.cross_entropy(logits, data.labels), list(masks.values()))
    assert scores[2] == pytest.approx(sum(s.abs().sum().item() for s in slopes), rel=1e-9)
    assert scores[1] == pytest.approx(sum(s.sum().item() for s in slopes), rel=1e-9)
    loss(net, data).backward()
    assert scores[0] == pytest.approx(float(net[0].weight.grad.norm()) + float(net[4].weight.grad.norm()), rel=1e-9)
    assert l2_norm(net) == pytest.approx(sum(net[i].weight.detach().norm().item() for i in (0, 4)))


def test_grasp_equals_the_exact_hessian():
    net, data = (
        filled(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()),
        batch(6, (3,)),
    )

    def of(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(torch.tanh(data.images @ first.T) @ second.T, data.labels)

    weights = (net[0].weight.detach(), net[2].weight.detach())
    blocks = torch.autograd.functional.hessian(of, weights)
    hessian = torch.cat([torch.cat([b.reshape(w.numel(), -1) for b in row], 1) for w, row in zip(weights, blocks)])
    leaves = [w.clone().requires_grad_() for w in weights]
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(of(*leaves), leaves)])
    flat = torch.cat([w.flatten() for w in weights])
    assert grasp(net, data) == pytest.approx(-float(flat @ hessian @ slope), rel=1e-9)


def test_fisher_equals_masks_of_each_images_channels():
    net, data = small().eval(), batch()
    net[1] = nn.Identity()  # so that images do not depend on each other
    first = torch.ones(5, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    second = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    logits = net[4](torch.tanh(net[0](data.images) * first).flatten(1)) * second
    slopes = torch.autograd.grad(functional.cross_entropy(logits, data.labels), (first, second))
    expected = [0.5 * n * float(s.square().mean(0).sum()) for s, n in zip(slopes, (2 * 9, 48), strict=True)]
    assert fisher(net, data) == pytest.approx(sum(expected), rel=1e-9)


def test_synflow_enumerates_paths():
    net = filled(nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)))
    first, second = net[0].weight.abs().tolist(), net[2].weight.abs().tolist()
    paths = sum(second[o][h] * first[h][i] for o, h, i in product(range(2), range(4), range(3)))
    assert synflow(net, batch(2, (3,))) == pytest.approx(2 * paths)  # each path goes through two weights


def test_synflow_knows_neither_norms_nor_signs_nor_data():
    net = small().eval()
    other = nn.Sequential(net[0], nn.ReLU6(), nn.Flatten(), net[4])
    assert synflow(net[:1], batch()) == synflow(net[:2], batch(seed=7))
    before = synflow(other, batch())
    with torch.no_grad():
        for p in other.parameters():
            p.neg_().mul_(100)  # ReLU6 would saturate
    assert synflow(other, batch()) > 100 * before
    assert all((p < 0).any() for p in other.parameters())
    with torch.no_grad():
        net[0].weight.fill_(1e200)
        net[4].weight.fill_(1e200)
    assert synflow(nn.Sequential(net[0], nn.Flatten(), net[4]), batch()) == math.inf


def test_jacob_cov_equals_explicit_jacobians():
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 3)).double())
    data = batch(4)
    rows = [torch.autograd.functional.jacobian(lambda x: net(x).sum(), x[None]).flatten().numpy() for x in data.images]
    centred = [row - row.mean() for row in rows]
    correlation = [[a @ b / math.sqrt((a @ a) * (b @ b)) for a in centred] for b in centred]
    values = np.linalg.eigvals(np.array(correlation)).real
    assert jacob_cov(net, data) == pytest.approx(-sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values), rel=1e-6)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(32, 3).double())
    flat[1].weight.data.fill_(1.0)
    assert math.isnan(jacob_cov(flat, data))  # every pixel counts the same, so a Jacobian has no spread


def test_naswot_counts_equal_units():
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    net, data = net.double(), batch(4)
    first = net[1](data.images.flatten(1))
    codes = torch.cat([first > 0, net[3](first.relu()) > 0], 1).tolist()
    kernel = np.array([[sum(a == b for a, b in zip(one, two, strict=True)) for one in codes] for two in codes])
    assert any(one != two for one, two in combinations(codes, 2))
    assert naswot(net, data) == pytest.approx(math.log(abs(np.linalg.det(kernel))))
    assert naswot(net, Batch(data.images[[0, 0, 1]], data.labels[:3])) == -math.inf
    assert math.isnan(naswot(nn.Sequential(nn.Flatten(), nn.Linear(32, 3)).double(), data))


class Dead(nn.Module):
    """A branch that the output does not depend on, beside one that it does."""

    def __init__(self, live: nn.Module, dead: nn.Module) -> None:
        super().__init__()
        self.live, self.dead = live, dead

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.dead(x)
        return self.live(x)


def test_naswot_leaves_out_what_does_not_reach_the_output():
    live = filled(nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 3)).double())
    dead = filled(nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.ReLU()).double(), 5)
    assert naswot(Dead(live, dead), batch()) == naswot(live, batch())
    assert snip(Dead(live, dead), batch()) == snip(live, batch())
    assert grasp(Dead(live, dead), batch()) == pytest.approx(grasp(live, batch()))


def test_zico_by_hand():
    net, batches = small(), [batch(seed=1), batch(seed=2)]
    slopes = []
    for data in batches:
        net.zero_grad()
        loss(net, data).backward()
        slopes.append([net[0].weight.grad.flatten().tolist(), net[4].weight.grad.flatten().tolist()])
    expected = 0.0
    for one, two in zip(*slopes, strict=True):
        # Of two numbers, the standard deviation is half their distance.
        expected += math.log(sum((abs(a) + abs(b)) / abs(a - b) for a, b in zip(one, two, strict=True) if a != b))
    assert zico(net, batches) == pytest.approx(expected, rel=1e-7)
    assert math.isnan(zico(net, [batches[0], batches[0]]))
    with pytest.raises(InvalidInputError, match="two batches"):
        zico(net, batches[:1])


def test_zen_of_a_linear_map_is_its_gain():
    # f(x) - f(x + 0.01 e) = -0.01 W e, with W and e standard normal: 4 outputs of 9 products each have the standard
    # deviation 3, so the L1 norm has the mean 4 * 0.01 * E|W e|, with E|sum of 9 products| by simulation.
    rng = np.random.default_rng(0)
    products = (rng.standard_normal((100_000, 9)) * rng.standard_normal((100_000, 9))).sum(1)
    expected = math.log(4 * 0.01 * np.abs(products).mean())
    assert zen(nn.Linear(9, 4), (9,), seed=0, repeats=200) == pytest.approx(
        expected, abs=0.05
    )  # 200 draws of 16 images


def test_zen_gives_back_what_a_norm_takes():
    plain_layer, normed = nn.Conv2d(2, 64, 3), nn.Sequential(nn.Conv2d(2, 64, 3), nn.BatchNorm2d(64))
    # With many alike channels the mean variance is each one's, and the norm's factor is put back.
    assert zen(normed, (2, 8, 8), seed=0, repeats=20) == pytest.approx(
        zen(plain_layer, (2, 8, 8), seed=0, repeats=20), abs=0.1
    )


def test_zen_is_a_function_of_the_seed():
    net = nn.Linear(9, 4)
    assert zen(net, (9,), seed=1, repeats=2) == zen(net, (9,), seed=1, repeats=2) != zen(net, (9,), seed=2, repeats=2)
    with pytest.raises(InvalidInputError, match="repeats"):
        zen(net, (9,), seed=1, repeats=0)
