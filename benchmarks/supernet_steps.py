"""One step of shared weights against the same step of the path as a plain network: SPOS and ProxylessNAS.

For each path the two sides take turns, on one thread; a pair of neighbouring steps gives a ratio of CPU times, and the
median of all pairs is printed with its 95 % interval (order statistics). Both take a whole training step: forward,
backward, SGD with momentum. The supernet side includes choosing the path (one that was seen; what a new one costs
stands beside).

Memory is measured twice: what the forward pass saves for the backward pass, and the growth of the process's peak
during the steps, each in a fresh process.

Bars: SPOS at most 1.05; weight step of ProxylessNAS at most 1.15 in time and memory, whatever the number of candidates.

Run: `python benchmarks/supernet_steps.py`.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

import nasturtium as nas
from nasturtium.model import Binary

SHAPE = (3, 32, 32)


def proxyless(count: int) -> nas.Space:
    """Nine blocks in three stages, each one of `count` candidates: kernels 3, 5, 7, expansions 3, 6, and (7) none."""
    blocks: list[object] = [nas.Conv(16)]
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(3):
            first = i == 0 and stride == 2
            options: list[object] = [
                nas.MBConv(width, kernel=k, expand=e, stride=stride if first else 1) for e in (3, 6) for k in (3, 5, 7)
            ]
            options = options[:count] if first or count < 7 else [*options, nas.Identity()]
            blocks.append(nas.one_of(*options))
    return nas.Space(nas.Sequential(*blocks, nas.Classifier(classes=10)))


class Trainer:
    """Whole steps of one module on fixed images."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.module = module
        self.x = torch.randn(batch, *SHAPE, generator=generator)
        self.y = torch.randint(10, (batch,), generator=generator)
        self.optimizer = torch.optim.SGD(module.parameters(), 0.01, momentum=0.9, weight_decay=4e-5)

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.module(self.x), self.y)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()


def seconds(run: Callable[[], None]) -> float:
    """CPU seconds of this thread."""
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def interval(values: list[float]) -> str:
    """Median with the 95 % interval of order statistics."""
    ordered, n = sorted(values), len(values)
    low = max(0, int(n / 2 - 0.98 * n**0.5) - 1)
    return f"{statistics.median(values):.3f} [{ordered[low]:.3f}, {ordered[n - 1 - low]:.3f}]"


def compare(
    shared: nas.Supernet, space: nas.Space, choose: Callable[[nas.Architecture], None], given: argparse.Namespace
) -> tuple[list[float], list[float], list[float]]:
    """Ratios of neighbouring steps, seconds of plain steps, and seconds of choosing new paths."""
    ours, rng = Trainer(shared, given.batch), Random(1 << 30)
    ratios: list[float] = []
    plain: list[float] = []
    new: list[float] = []
    for _ in range(given.paths):
        architecture = space.sample(rng)
        new.append(seconds(lambda: shared.set(architecture)))  # noqa: B023
        alone = Trainer(shared.extract(architecture), given.batch)
        choose(architecture)

        def step() -> None:
            choose(architecture)  # noqa: B023
            ours.step()

        for _ in range(2):
            step()
            alone.step()
        gc.collect()
        for turn in range(given.repeats):
            if turn % 2:
                b = seconds(alone.step)
                a = seconds(step)
            else:
                a = seconds(step)
                b = seconds(alone.step)
            ratios.append(a / b)
            plain.append(b)
    return ratios, plain, new


def spos(name: str, given: argparse.Namespace) -> None:
    space = nas.zoo.space(name)
    shared = nas.supernet(space, SHAPE, seed=0, classes=10)
    for number in range(given.seen):  # parts of paths that all have, or most
        shared.set(space.sample(Random(number)))
    ratios, plain, new = compare(shared, space, shared.set, given)  # type: ignore[arg-type]
    architecture = space.sample(Random(0))
    seen = min(seconds(lambda: shared.set(architecture)) for _ in range(20))
    print(
        f"{name:<24}{statistics.median(plain) * 1e3:>12.1f}{interval(ratios):>26}"
        f"{statistics.median(new) * 1e3:>12.2f}{seen * 1e3:>12.3f}",
        flush=True,
    )


def fixed(gate: Binary, architecture: nas.Architecture) -> None:
    """Make the gate draw one path."""
    with torch.no_grad():
        for name, index in architecture.decisions.items():
            logits = gate.logits_of(name)
            logits.zero_()
            logits[index] = 100.0


def proxyless_steps(count: int, given: argparse.Namespace) -> None:
    space = proxyless(count)
    shared = nas.supernet(space, SHAPE, seed=0, classes=10)
    gate = Binary(shared.mixed, seed=0)
    gate.requires_grad_(False)
    last: list[nas.Architecture] = []

    def choose(architecture: nas.Architecture) -> None:
        if last != [architecture]:
            fixed(gate, architecture)
            last[:] = [architecture]
        shared.mix(gate)

    ratios, plain, _ = compare(shared, space, choose, given)
    gate.requires_grad_(True)
    trainer = Trainer(shared, given.batch)
    architecture = [
        seconds(lambda: torch.autograd.grad(trainer.loss(), list(gate.parameters()))) for _ in range(given.repeats)
    ]
    memory = {side: measured(count, side, given) for side in ("plain", "weights", "gates")}
    saved = {side: pair[0] for side, pair in memory.items()}
    peak = {side: pair[1] for side, pair in memory.items()}
    print(
        f"{count:<12}{statistics.median(plain) * 1e3:>10.1f}{interval(ratios):>24}"
        f"{statistics.median(architecture) * 1e3:>12.1f}"
        f"{saved['plain']:>10.1f}{saved['weights'] / saved['plain']:>9.3f}{saved['gates'] / saved['plain']:>9.3f}"
        f"{peak['plain']:>10.1f}{peak['weights'] / peak['plain']:>9.3f}{peak['gates'] / peak['plain']:>9.3f}",
        flush=True,
    )


def measured(count: int, side: str, given: argparse.Namespace) -> tuple[float, float]:
    """MB saved by the forward pass, and growth of the peak in MB, in a fresh process."""
    command = [sys.executable, __file__, "--measure", f"{count}:{side}", "--batch", str(given.batch)]
    at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors go back, so the peak is that of tensors
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=at_once).stdout
    saved, peak = map(float, output.split())
    return saved, peak


def measure(count: int, side: str, batch: int) -> None:
    """Print both numbers of one side, always on the path of the first candidates."""
    space = proxyless(count)
    shared = nas.supernet(space, SHAPE, seed=0, classes=10)
    gate = Binary(shared.mixed, seed=0)
    architecture = space.architecture(dict.fromkeys(gate.logits.counts, 0), indices=True)
    fixed(gate, architecture)
    gate.requires_grad_(side == "gates")
    module = shared.extract(architecture) if side == "plain" else shared.mix(gate)
    trainer = Trainer(module, batch)
    trainer.step()
    held = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers(), trainer.x]}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = trainer.loss()
    del loss
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        if side == "gates":
            torch.autograd.grad(trainer.loss(), list(gate.parameters()))
        else:
            trainer.step()
    print(sum(sizes.values()) / 2**20, (status("VmHWM") - before) / 1024)


def status(name: str) -> int:
    """A line of the process's status, in KB."""
    found = re.search(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--paths", type=int, default=6)
    parser.add_argument("--seen", type=int, default=300, help="paths that were set before")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--spaces", nargs="*", default=["spos", "spos_block_channel"], help="single-path spaces")
    parser.add_argument("--candidates", nargs="*", type=int, default=[2, 4, 7], help="of ProxylessNAS")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        count, side = given.measure.split(":")
        measure(int(count), side, given.batch)
        return
    print(f"CPU time on one thread, batch {given.batch} of {SHAPE}, {given.paths} paths of {given.repeats} pairs.\n")
    print(f"{'space':<24}{'plain, ms':>12}{'supernet / plain':>26}{'new, ms':>12}{'seen, ms':>12}")
    for name in given.spaces:
        spos(name, given)
    print(
        f"\nProxylessNAS; saved: MB that the forward pass keeps; peak: MB by which the process grows\n"
        f"{'candidates':<12}{'plain, ms':>10}{'weight step / plain':>24}{'gates, ms':>12}"
        f"{'saved':>10}{'weights':>9}{'gates':>9}{'peak':>10}{'weights':>9}{'gates':>9}"
    )
    for count in given.candidates:
        proxyless_steps(count, given)


if __name__ == "__main__":
    main()
