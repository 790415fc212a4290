"""The architecture's gradient in DARTS, against analysis and against autograd through the step ahead."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from nasturtium.errors import InvalidInputError
from nasturtium.supernets.bilevel import first_order, second_order


def test_the_analytic_case():
    """L_train = (w - a)^2 / 2, L_val = (w - 1)^2 / 2 at w = 0, a = 0.5, xi = 0.1: w' = 0.05, xi (w' - 1) = -0.095."""
    w = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    a = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    train = lambda: 0.5 * (w - a).square().sum()  # noqa: E731
    valid = lambda: 0.5 * (w - 1).square().sum()  # noqa: E731
    loss, (gradient,) = second_order(train, valid, [w], [a], rate=0.1)
    assert gradient.item() == pytest.approx(-0.095, abs=1e-12)
    assert loss.item() == pytest.approx(0.5 * 0.95**2)
    assert w.item() == 0.0
    assert w.grad is None
    assert a.grad is None
    assert first_order(valid, [a])[1][0].item() == 0.0
    assert second_order(train, valid, [w], [a], rate=0.0)[1][0].item() == 0.0


def test_momentum_and_decay_enter_the_step_ahead():
    """w = 1, buffer 2, m = 0.9, d = 0.5: w' = 1 - 0.1 (1.8 + 0.5 + 0.5) = 0.72, and the gradient is xi (w' - 1)."""
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    a = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    loss, (gradient,) = second_order(
        lambda: 0.5 * (w - a).square().sum(),
        lambda: 0.5 * (w - 1).square().sum(),
        [w],
        [a],
        rate=0.1,
        momentum=0.9,
        buffers=[torch.tensor([2.0], dtype=torch.float64)],
        weight_decay=0.5,
    )
    assert loss.item() == pytest.approx(0.5 * 0.28**2)
    assert gradient.item() == pytest.approx(0.1 * -0.28, abs=1e-12)
    with pytest.raises(InvalidInputError, match="one for each"):
        second_order(lambda: w.sum(), lambda: w.sum(), [w], [a], rate=0.1, buffers=[])


class Mixture(nn.Module):
    """Two layers, each a softmax mixture of three branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(6, 6)
        self.third = nn.Linear(6, 3)

    def forward(self, x, logits):
        p, q = torch.softmax(logits[0], 0), torch.softmax(logits[1], 0)
        h = self.first(x)
        h = p[0] * torch.tanh(h) + p[1] * torch.sigmoid(h) + p[2] * 0 * h
        y = self.second(h)
        return self.third(q[0] * torch.tanh(y) + q[1] * h + q[2] * torch.sin(y))


def test_against_autograd_through_the_step():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Mixture().double()
    logits = nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    x, u = (torch.randn(16, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    y, z = (torch.randint(0, 3, (16,), generator=generator) for _ in range(2))
    weights = list(model.parameters())
    buffers = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in weights]
    xi, m, d = 0.05, 0.9, 3e-2
    before = [p.detach().clone() for p in weights]

    named = dict(model.named_parameters())
    train = nn.functional.cross_entropy(functional_call(model, named, (x, logits)), y)
    steps = torch.autograd.grad(train, weights, create_graph=True)
    ahead = {name: p - xi * (m * b + g + d * p) for (name, p), g, b in zip(named.items(), steps, buffers, strict=True)}
    valid = nn.functional.cross_entropy(functional_call(model, ahead, (u, logits)), z)
    (exact,) = torch.autograd.grad(valid, [logits])

    loss, (found,) = second_order(
        lambda: nn.functional.cross_entropy(model(x, logits), y),
        lambda: nn.functional.cross_entropy(model(u, logits), z),
        weights,
        [logits],
        rate=xi,
        momentum=m,
        buffers=buffers,
        weight_decay=d,
    )
    assert loss.item() == pytest.approx(valid.item(), rel=1e-12)
    _, (first,) = first_order(lambda: nn.functional.cross_entropy(model(u, logits), z), [logits])
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-8)  # the error of a difference of width 0.01
    assert (found - exact).norm() < 1e-3 * (first - exact).norm()
    assert all(torch.equal(p, q) for p, q in zip(weights, before, strict=True))
