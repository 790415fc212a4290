"""The search of DARTS as its authors write it: plain PyTorch, eager, NCHW, float32. What `darts_step.py` compares with.

Written for this comparison after the paper and the shape of the authors' code: one module per candidate operation, an
edge that adds up all eight of them by weight, cells that add up their edges, an `Architect` with the first- and the
second-order gradient. `PartialEdge` is the edge of PC-DARTS. Run it to check the published numbers of weights:

    python benchmarks/plain_darts.py

Reference:
    Liu, Simonyan, Yang (2019), "DARTS: Differentiable Architecture Search", arXiv 1806.09055, sections 2 and 3.1.
    Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 4
"""Nodes of a cell."""
EDGES = sum(2 + i for i in range(STEPS))
PUBLISHED = {1: 1_930_618, 4: 299_578}
"""Weights of the search network (C = 16, 8 cells), by K: DARTS and PC-DARTS."""


class ReLUConvBN(nn.Module):
    """ReLU, convolution, norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, affine=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Two strided 1x1 convolutions, one pixel apart."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=False)
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class SepConv(nn.Module):
    """Twice ReLU, depthwise, pointwise, norm."""

    def __init__(self, c: int, kernel: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in (stride, 1):
            layers += [
                nn.ReLU(inplace=False),
                nn.Conv2d(c, c, kernel, stride=step, padding=kernel // 2, groups=c, bias=False),
                nn.Conv2d(c, c, 1, bias=False),
                nn.BatchNorm2d(c, affine=False),
            ]
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class DilConv(nn.Module):
    """ReLU, depthwise with dilation 2, pointwise, norm."""

    def __init__(self, c: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False),
            nn.Conv2d(c, c, kernel, stride=stride, padding=kernel - 1, dilation=2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Zero(nn.Module):
    """The operation "none"."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x.mul(0.0)
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _pool(kind: str, c: int, stride: int) -> nn.Module:
    pool: nn.Module = nn.MaxPool2d(3, stride, 1)
    if kind == "avg":
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return nn.Sequential(pool, nn.BatchNorm2d(c, affine=False))


OPS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda c, stride: Zero(stride),
    "max_pool_3x3": lambda c, stride: _pool("max", c, stride),
    "avg_pool_3x3": lambda c, stride: _pool("avg", c, stride),
    "skip_connect": lambda c, stride: nn.Identity() if stride == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, stride: SepConv(c, 3, stride),
    "sep_conv_5x5": lambda c, stride: SepConv(c, 5, stride),
    "dil_conv_3x3": lambda c, stride: DilConv(c, 3, stride),
    "dil_conv_5x5": lambda c, stride: DilConv(c, 5, stride),
}
"""The candidates in the authors' order."""


class MixedOp(nn.Module):
    """All candidates, added up by weight."""

    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList([make(c, stride) for make in OPS.values()])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class PartialEdge(nn.Module):
    """The edge of PC-DARTS: the candidates on 1/K of the channels, and a shuffle."""

    def __init__(self, c: int, stride: int, partial: int) -> None:
        super().__init__()
        self.k = partial
        self.mp = nn.MaxPool2d(2, 2)
        self.mixed = MixedOp(c // partial, stride)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        dim = x.shape[1]
        active, rest = x[:, : dim // self.k], x[:, dim // self.k :]
        active = self.mixed(active, weights)
        if active.shape[2] != x.shape[2]:
            rest = self.mp(rest)
        y = torch.cat([active, rest], dim=1)
        n, c, h, w = y.shape
        return y.view(n, self.k, c // self.k, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Cell(nn.Module):
    """Two inputs, four nodes, the concatenation of the nodes."""

    def __init__(self, c_before: int, c_previous: int, c: int, reduction: bool, reduced: bool, partial: int) -> None:
        super().__init__()
        self.preprocess0 = FactorizedReduce(c_before, c) if reduced else ReLUConvBN(c_before, c)
        self.preprocess1 = ReLUConvBN(c_previous, c)
        self._ops = nn.ModuleList()
        for i in range(STEPS):
            for j in range(2 + i):
                stride = 2 if reduction and j < 2 else 1
                self._ops.append(MixedOp(c, stride) if partial == 1 else PartialEdge(c, stride, partial))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, betas: Tensor | None) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(STEPS):
            edges = [self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states)]
            if betas is not None:
                edges = [betas[offset + j] * edge for j, edge in enumerate(edges)]
            offset += len(states)
            states.append(sum(edges))
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """The search network; `alphas` and `betas` are tensors, not parameters, as in the authors' code."""

    def __init__(self, *, c: int = 16, classes: int = 10, layers: int = 8, partial: int = 1) -> None:
        super().__init__()
        self.partial = partial
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))
        before, previous, current, reduced = 3 * c, 3 * c, c, False
        self.cells = nn.ModuleList()
        self.reductions: list[bool] = []
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            current *= 2 if reduction else 1
            self.cells.append(Cell(before, previous, current, reduction, reduced, partial))
            self.reductions.append(reduction)
            before, previous, reduced = previous, STEPS * current, reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, classes)
        self.alphas_normal = (1e-3 * torch.randn(EDGES, len(OPS))).requires_grad_()
        self.alphas_reduce = (1e-3 * torch.randn(EDGES, len(OPS))).requires_grad_()
        self.betas_normal = (1e-3 * torch.randn(EDGES)).requires_grad_()
        self.betas_reduce = (1e-3 * torch.randn(EDGES)).requires_grad_()

    def arch_parameters(self) -> list[Tensor]:
        """What the architecture step trains."""
        alphas = [self.alphas_normal, self.alphas_reduce]
        return alphas if self.partial == 1 else [*alphas, self.betas_normal, self.betas_reduce]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell, reduction in zip(self.cells, self.reductions, strict=True):
            alphas = functional.softmax(self.alphas_reduce if reduction else self.alphas_normal, dim=-1)
            betas = None
            if self.partial > 1:
                raw = self.betas_reduce if reduction else self.betas_normal
                betas = torch.cat([functional.softmax(part, dim=-1) for part in raw.split([2, 3, 4, 5])])
            s0, s1 = s1, cell(s0, s1, alphas, betas)
        return self.classifier(self.global_pooling(s1).flatten(1))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of a batch."""
        return functional.cross_entropy(self(x), y)


Batch = tuple[Tensor, Tensor]


class Architect:
    """Gradients of the architecture, first and second order, and Adam on them."""

    def __init__(
        self, network: Network, *, momentum: float = 0.9, weight_decay: float = 3e-4, learning_rate: float = 3e-4
    ) -> None:
        self.network, self.momentum, self.weight_decay = network, momentum, weight_decay
        self.optimizer = torch.optim.Adam(
            network.arch_parameters(), lr=learning_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )

    def gradients(self, train: Batch, valid: Batch, rate: float, weights: torch.optim.Optimizer, order: int) -> Tensor:
        """Leave the gradient of the architecture in `.grad`, and return the validation loss."""
        self.optimizer.zero_grad()
        if order == 1:
            loss = self.network.loss(*valid)
            loss.backward()
            return loss.detach()
        return self._second_order(train, valid, rate, weights)

    def step(self, train: Batch, valid: Batch, rate: float, weights: torch.optim.Optimizer, order: int) -> Tensor:
        """One step of the architecture."""
        loss = self.gradients(train, valid, rate, weights, order)
        self.optimizer.step()
        return loss

    def _second_order(self, train: Batch, valid: Batch, rate: float, weights: torch.optim.Optimizer) -> Tensor:
        network = self.network
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(network.loss(*train), parameters)
        before = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                buffer = weights.state.get(p, {}).get("momentum_buffer")
                step = g + self.weight_decay * p
                p -= rate * (step if buffer is None else step + self.momentum * buffer)
        for p in parameters:
            p.grad = None
        loss = network.loss(*valid)
        loss.backward()
        direct = [a.grad.clone() for a in network.arch_parameters()]
        vector = [p.grad.clone() for p in parameters]
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
        implicit = self._hessian_vector(parameters, vector, train)
        for a, g, h in zip(network.arch_parameters(), direct, implicit, strict=True):
            a.grad = g - rate * h
        return loss.detach()

    def _hessian_vector(self, parameters: list[nn.Parameter], vector: list[Tensor], train: Batch) -> list[Tensor]:
        eps = 0.01 / torch.cat([v.flatten() for v in vector]).norm()
        sides = []
        for sign in (1.0, -2.0, 1.0):
            with torch.no_grad():
                for p, v in zip(parameters, vector, strict=True):
                    p += sign * eps * v
            if len(sides) < 2:
                sides.append(torch.autograd.grad(self.network.loss(*train), self.network.arch_parameters()))
        return [(plus - minus) / (2 * eps) for plus, minus in zip(*sides, strict=True)]


def main() -> None:
    """Compare the numbers of weights with the published ones."""
    for partial, published in PUBLISHED.items():
        found = sum(p.numel() for p in Network(partial=partial).parameters())
        print(f"K = {partial}: {found:,} weights, published {published:,}")
        if found != published:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
