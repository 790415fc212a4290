"""One step of DARTS on the supernet against the same step as its authors write it (`plain_darts.py`), in one run.

Both have the search network of DARTS (16 channels, 8 cells, CIFAR shapes), the same weights, architecture and images,
one thread. A step is the architecture's step on one batch and the weights' step on another (SGD with momentum and
weight decay, gradients clipped). Losses and gradients are compared first; then steps alternate, and the medians of
their CPU times stand beside each other, with the quartiles; peak memory is each one's in a process of its own, less
what the process held before it.

    OMP_NUM_THREADS=1 python benchmarks/darts_step.py
    OMP_NUM_THREADS=1 python benchmarks/darts_step.py --order 2 --repeats 3
    OMP_NUM_THREADS=1 python benchmarks/darts_step.py --batch 64 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import nasturtium as nas
import plain_darts
from nasturtium.blocks.darts_cell import Cell, Edge, Node, Nothing
from nasturtium.model import Softmax, Supernet, supernet
from nasturtium.supernets.bilevel import first_order, second_order
from nasturtium.zoo.darts import DARTSNetwork
from nasturtium.zoo.darts_genotypes import SEARCHED, operations

RATE, MOMENTUM, DECAY, CLIP = 0.025, 0.9, 3e-4, 5.0
SHAPE = (3, 32, 32)


def space(*, width: int, layers: int) -> nas.Space:
    """The search network with each edge's operation as a decision, in the authors' order of candidates."""
    known = operations(affine=False)
    candidates = [Nothing(), *[known[name] for name in SEARCHED]]
    cells = []
    for kind in ("normal", "reduce"):
        nodes = []
        for node in range(2, 2 + plain_darts.STEPS):
            edges = [Edge(i, nas.one_of(*candidates, name=f"{kind}_{i}_{node}")) for i in range(node)]
            nodes.append(Node(tuple(edges)))
        cells.append(Cell(tuple(nodes), reduction=kind == "reduce", affine=False))
    return nas.Space(DARTSNetwork(cells[0], cells[1], width, layers, classes=10))


class Ours:
    """The supernet, mixed by softmax."""

    def __init__(self, *, width: int, layers: int, optimize: bool = True) -> None:
        self.network: Supernet = supernet(space(width=width, layers=layers), SHAPE, seed=0)
        self.gate = Softmax(self.network.mixed)
        self.network.mix(self.gate, optimize=optimize)
        self.weights = list(self.network.parameters())
        self.architecture = list(self.gate.parameters())
        self.sgd = torch.optim.SGD(self.weights, RATE, momentum=MOMENTUM, weight_decay=DECAY)
        self.adam = torch.optim.Adam(self.architecture, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss(self, batch: plain_darts.Batch) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def ahead(self, batch: plain_darts.Batch) -> Tensor:
        """The loss whose gradients of weights and architecture are both wanted, as `DARTS` computes it."""
        with self.network.recomputing():
            return self.loss(batch)

    def architecture_gradients(self, train: plain_darts.Batch, valid: plain_darts.Batch, order: int) -> Tensor:
        """Leave the architecture's gradient in `.grad`."""
        if order == 1:
            loss, found = first_order(lambda: self.loss(valid), self.architecture)
        else:
            buffers = [self.sgd.state.get(p, {}).get("momentum_buffer") for p in self.weights]
            loss, found = second_order(
                lambda: self.loss(train),
                lambda: self.ahead(valid),
                self.weights,
                self.architecture,
                rate=RATE,
                momentum=MOMENTUM,
                buffers=buffers,
                weight_decay=DECAY,
            )
        for tensor, gradient in zip(self.architecture, found, strict=True):
            tensor.grad = gradient
        return loss

    def weight_gradients(self, train: plain_darts.Batch) -> Tensor:
        """Leave the weights' gradient in `.grad`."""
        loss = self.loss(train)
        for weight, gradient in zip(self.weights, torch.autograd.grad(loss, self.weights), strict=True):
            weight.grad = gradient
        return loss.detach()

    def step(self, train: plain_darts.Batch, valid: plain_darts.Batch, order: int) -> None:
        """Architecture, then weights."""
        self.architecture_gradients(train, valid, order)
        self.adam.step()
        self.weight_gradients(train)
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.sgd.step()

    def alphas(self) -> list[list[Tensor]]:
        """The logits of the normal and the reduction cell, edge by edge in the authors' order."""
        named = dict(zip(self.network.mixed, self.architecture, strict=True))
        edges = [(i, n) for n in range(2, 2 + plain_darts.STEPS) for i in range(n)]
        return [[named[f"{kind}_{i}_{n}"] for i, n in edges] for kind in ("normal", "reduce")]


class Theirs:
    """The plain implementation."""

    def __init__(self, *, width: int, layers: int) -> None:
        self.network = plain_darts.Network(c=width, layers=layers)
        self.weights = list(self.network.parameters())
        self.sgd = torch.optim.SGD(self.weights, RATE, momentum=MOMENTUM, weight_decay=DECAY)
        self.architect = plain_darts.Architect(self.network, momentum=MOMENTUM, weight_decay=DECAY)

    def architecture_gradients(self, train: plain_darts.Batch, valid: plain_darts.Batch, order: int) -> Tensor:
        """Leave the architecture's gradient in `.grad`."""
        return self.architect.gradients(train, valid, RATE, self.sgd, order)

    def weight_gradients(self, train: plain_darts.Batch) -> Tensor:
        """Leave the weights' gradient in `.grad`."""
        self.sgd.zero_grad()
        loss = self.network.loss(*train)
        loss.backward()
        return loss.detach()

    def step(self, train: plain_darts.Batch, valid: plain_darts.Batch, order: int) -> None:
        """Architecture, then weights."""
        self.architect.step(train, valid, RATE, self.sgd, order)
        self.weight_gradients(train)
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.sgd.step()

    def alphas(self) -> list[list[Tensor]]:
        """As `Ours.alphas`; gradients by `alpha_gradients`."""
        return [list(a.detach()) for a in self.network.arch_parameters()]


def pairs(ours: Ours, theirs: Theirs) -> list[tuple[Tensor, Tensor]]:
    """Weights of both that mean the same: both list them in the order in which they compute."""
    mine = ours.weights
    if [tuple(p.shape) for p in mine] != [tuple(p.shape) for p in theirs.weights]:
        raise SystemExit("The two networks have not the same weights in the same order.")
    return list(zip(mine, theirs.weights, strict=True))


def synchronise(ours: Ours, theirs: Theirs) -> None:
    """Give both the same weights and the same architecture."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mine, other in pairs(ours, theirs):
            mine.copy_(other)
        for cell, values in zip(ours.alphas(), theirs.network.arch_parameters(), strict=True):
            values.normal_(generator=generator)
            for logits, row in zip(cell, values, strict=True):
                logits.copy_(row)


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Length of the difference by the length of theirs."""
    mine, other = (torch.cat([t.double().flatten() for t in ts]) for ts in (ours, theirs))
    return float((mine - other).norm() / other.norm())


def compare(
    ours: Ours, theirs: Theirs, train: plain_darts.Batch, valid: plain_darts.Batch, order: int
) -> dict[str, float]:
    """Relative differences of losses and gradients, from equal weights."""
    synchronise(ours, theirs)
    a, b = (x.architecture_gradients(train, valid, order) for x in (ours, theirs))
    found = {"validation loss": abs(float(a - b)) / float(b)}
    mine = [logits.grad for cell in ours.alphas() for logits in cell]
    other = [row for values in theirs.network.arch_parameters() for row in values.grad]
    found["architecture gradient"] = difference(mine, other)
    a, b = (x.weight_gradients(train) for x in (ours, theirs))
    found["training loss"] = abs(float(a - b)) / float(b)
    both = pairs(ours, theirs)
    found["weight gradient"] = difference([m.grad for m, _ in both], [o.grad for _, o in both])
    return found


def compare_in_double(order: int) -> dict[str, float]:
    """The same for a small network in float64, where rounding hides nothing."""
    ours, theirs = Ours(width=4, layers=3), Theirs(width=4, layers=3)
    ours.network.double()
    ours.gate.double()
    theirs.network.double()
    for name in ("alphas_normal", "alphas_reduce"):
        setattr(theirs.network, name, getattr(theirs.network, name).detach().double().requires_grad_())
    train, valid = ((x.double(), y) for x, y in batches(4))
    return compare(ours, theirs, train, valid, order)


MAKERS: dict[str, Callable[..., Any]] = {
    "plain": Theirs,
    "nasturtium": Ours,
    "unoptimised": lambda **given: Ours(optimize=False, **given),
}


def batches(size: int) -> tuple[plain_darts.Batch, plain_darts.Batch]:
    """A training and a validation batch of noise."""
    generator = torch.Generator().manual_seed(1)
    both = [
        (torch.randn(size, *SHAPE, generator=generator), torch.randint(0, 10, (size,), generator=generator))
        for _ in range(2)
    ]
    return both[0], both[1]


def resident() -> float:
    """Peak memory of this process so far, GB; `getrusage` would count what the process that started it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9


def measure_memory(name: str, given: argparse.Namespace) -> None:
    """Two steps in this process; prints its peak, whole and above what it held before the network, as JSON."""
    train, valid = batches(given.batch)
    before = resident()
    made = MAKERS[name](width=given.width, layers=given.layers)
    for _ in range(2):
        made.step(train, valid, given.order)
    print(json.dumps({"peak": resident(), "above": resident() - before}))


def memory(name: str) -> dict[str, float]:
    """The same in a fresh process."""
    run = subprocess.run([sys.executable, *sys.argv, "--memory", name], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--order", type=int, choices=(1, 2), default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--unoptimised", action="store_true", help="the plain executor of our supernet too")
    parser.add_argument("--memory", choices=[*MAKERS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if given.memory:
        measure_memory(given.memory, given)
        return
    names = ["plain", "nasturtium", *(["unoptimised"] if given.unoptimised else [])]
    peaks = {name: memory(name) for name in names}
    train, valid = batches(given.batch)
    made = {name: MAKERS[name](width=given.width, layers=given.layers) for name in names}
    print(f"order {given.order}, batch {given.batch}, C = {given.width}, {given.layers} cells, one thread")
    exact = compare_in_double(given.order)
    for what, number in compare(made["nasturtium"], made["plain"], train, valid, given.order).items():
        print(f"  relative difference of the {what}: {number:.1e} (small network in float64: {exact[what]:.1e})")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(given.repeats + 1):
        for name in names:
            begin = time.process_time()
            made[name].step(train, valid, given.order)
            if repeat:  # the first is to warm up
                seconds[name].append(time.process_time() - begin)
    n = given.repeats
    base, least = statistics.median(seconds["plain"]), peaks["plain"]
    print(
        f"\n{'':<14}{'seconds':>9}{'quartiles':>18}{'faster':>9}{'GB':>8}{'times':>8}{'above':>8}{'times':>8}   n = {n}"
    )
    for name in names:
        low, middle, high = statistics.quantiles(seconds[name], n=4)
        peak = peaks[name]
        print(
            f"{name:<14}{middle:>9.2f}{f'{low:.2f} to {high:.2f}':>18}{base / middle:>8.2f}x{peak['peak']:>8.2f}"
            f"{peak['peak'] / least['peak']:>8.2f}{peak['above']:>8.2f}{peak['above'] / least['above']:>8.2f}"
        )
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["nasturtium"], strict=True)]
    print(f"ratio step by step: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
