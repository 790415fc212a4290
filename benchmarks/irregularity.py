"""Does irregularity predict latency at equal MACs? Correlations over several spaces, and matched pairs.

Run: `python benchmarks/irregularity.py`, about 4 minutes. One thread, pinned to one core; PyTorch eager, eval mode,
float32, batch 1. The latency of a network is the least CPU time of a forward pass over repeats that are interleaved
over all networks, so other load on the machine moves it little. Compare within one run only.

Networks are drawn from each space uniformly by its decisions; each is then widened or narrowed by `nas.design.scale`
until its MACs lie within 5 % of the target, as ShuffleNet V2 did, and left out where that cannot be reached.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import nasturtium as nas

SHAPE = (3, 32, 32)
CLASSES = 10
TOLERANCE = 0.05
SPACES = (
    "nasbench201", "nasbench101", "nasnet", "darts", "enas_micro", "enas_macro", "anynet_a", "nasbench_macro",
    "proxylessnas_cifar", "mobile",
)  # fmt: skip
"""From the most fragmented cells to chains."""
PARTS: dict[str, Callable[[nas.Graph], float]] = {
    "irregularity (edges / depth)": lambda g: g.irregularity,
    "fragmentation (kernels / depth)": lambda g: nas.graph.irregularity(g).fragmentation,
    "branches": lambda g: nas.graph.irregularity(g).branches,
    "edges": lambda g: nas.graph.irregularity(g).edges,
    "kernels": lambda g: nas.graph.irregularity(g).kernels,
    "depth": lambda g: nas.graph.irregularity(g).depth,
    "operations, nothing fused": lambda g: len(g.nodes),
    "activations": lambda g: g.activations,
    "params": lambda g: g.params,
    "macs": lambda g: g.macs,
}
"""What is correlated with latency; the last three for comparison."""


@dataclass(frozen=True)
class Sample:
    """One network of a space, at the target."""

    space: str
    graph: nas.Graph


def drawn(name: str, count: int, target: float, seed: int) -> list[Sample]:
    """So many networks of a space whose MACs are the target's, of different structure."""
    space = nas.zoo.space(name, SHAPE)
    rng = random.Random(f"{seed}/{name}")
    model = nas.CostModel(SHAPE, classes=CLASSES)
    found: dict[str, Sample] = {}
    for _ in range(40 * count):
        architecture = space.sample(rng, sampler="hierarchical")
        block = _at_target(architecture.block, target, model)
        if block is not None:
            graph = nas.trace(block, SHAPE, classes=CLASSES)
            found.setdefault(graph.canonical_hash, Sample(name, graph))
        if len(found) == count:
            break
    return list(found.values())


def _at_target(block: nas.Block, target: float, model: nas.CostModel) -> nas.Block | None:
    width = 1.0
    for _ in range(6):
        scaled = nas.design.scale(block, width=width, divisor=4).network
        ratio = target / model(scaled).macs
        if abs(1 / ratio - 1) <= TOLERANCE:
            return scaled
        width *= ratio**0.5
    return None


def measured(graphs: Sequence[nas.Graph], repeats: int) -> np.ndarray:
    """CPU seconds of a forward pass, `(network, repeat)`; the repeats of one network lie far apart."""
    models = [nas.build(graph, seed=0).eval() for graph in graphs]
    inputs = [torch.randn(1, *graph.nodes[0].shape, generator=torch.Generator().manual_seed(0)) for graph in graphs]
    seconds = np.empty((len(graphs), repeats))
    with torch.inference_mode():
        for model, x in zip(models, inputs, strict=True):
            model(x)
        for repeat in range(repeats):
            for k in np.random.default_rng(repeat).permutation(len(models)):
                models[k](inputs[k])  # into the caches, as in a stream of images
                start = time.thread_time()
                models[k](inputs[k])
                seconds[k, repeat] = time.thread_time() - start
    return seconds


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    a, b = ranks(a), ranks(b)
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else float("nan")


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Tau-b."""
    upper = np.triu_indices(len(a), 1)
    x, y = (np.sign(v[upper[0]] - v[upper[1]]) for v in (a, b))
    scale = np.sqrt(np.count_nonzero(x) * np.count_nonzero(y))
    return float(x @ y / scale) if scale else float("nan")


def within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Ranks inside each space, from 0 to 1, so that differences between spaces do not count."""
    result = np.empty(len(values))
    for group in np.unique(groups):
        of = groups == group
        result[of] = (ranks(values[of]) - 0.5) / of.sum()
    return result


def interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray,
    seed: int,
    rounds: int = 1000,
) -> tuple[float, float, float]:
    """The statistic and its 95 % bootstrap interval; networks are drawn again inside each space."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(rounds):
        take = np.concatenate([rng.choice(of, len(of)) for of in members])
        values.append(statistic(a[take], b[take]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return statistic(a, b), float(low), float(high)


def correlations(samples: Sequence[Sample], latency: np.ndarray, seed: int) -> None:
    """Print each part's correlation with latency, over all spaces and inside them."""
    groups = np.array([sample.space for sample in samples])
    print(f"{'':32}{'Spearman, all':>22}{'Kendall, all':>22}{'Spearman, within':>24}")
    for name, part in PARTS.items():
        values = np.array([part(sample.graph) for sample in samples], float)
        texts = [
            _text(*interval(spearman, values, latency, groups, seed)),
            _text(*interval(kendall, values, latency, groups, seed)),
            _text(*interval(spearman, within(values, groups), within(latency, groups), groups, seed)),
        ]
        print(f"{name:32}{texts[0]:>22}{texts[1]:>22}{texts[2]:>24}")


def _text(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def by_space(samples: Sequence[Sample], latency: np.ndarray) -> None:
    """Print what each space is like."""
    print(f"{'space':20}{'n':>4}{'latency ms':>22}{'irregularity':>20}{'kernels':>14}{'Spearman':>10}")
    for name in dict.fromkeys(sample.space for sample in samples):
        of = [k for k, sample in enumerate(samples) if sample.space == name]
        ms = 1e3 * latency[of]
        values = np.array([samples[k].graph.irregularity for k in of])
        kernels = [nas.graph.irregularity(samples[k].graph).kernels for k in of]
        print(
            f"{name:20}{len(of):>4}{f'{np.median(ms):.1f} ({ms.min():.1f}..{ms.max():.1f})':>22}"
            f"{f'{np.median(values):.2f} ({values.min():.2f}..{values.max():.2f})':>20}"
            f"{f'{min(kernels)}..{max(kernels)}':>14}{spearman(values, latency[of]):>+10.2f}"
        )


class Fragments(nas.Block):
    """Ten blocks of `count` convolutions, one after another or side by side and summed.

    Reference:
        Ma et al. (2018), arXiv 1807.11164, table 3 and appendix figure 1, guideline G3.
    """

    width: int
    kernel: int
    count: int
    parallel: bool

    def forward(self, x):
        for number in range(10):
            with x.scope(f"block_{number}"):
                if self.parallel and self.count > 1:
                    x = nas.ops.add(*[self._conv(x, k) for k in range(self.count)])
                else:
                    for k in range(self.count):
                        x = self._conv(x, k)
        return x

    def _conv(self, x, number: int):
        with x.scope(f"part_{number}"):
            x = nas.ops.conv(x, self.width, self.kernel)
            return nas.ops.activation(nas.ops.batch_norm(x), "relu")


def matched_pairs(repeats: int) -> None:
    """Print the time of fragments by that of one convolution, at equal MACs."""
    cases = []
    for kernel, full, size in ((1, 128, 56), (1, 128, 14), (3, 64, 28)):
        for count in (1, 2, 4, 8):
            for parallel in (False, True) if count > 1 else (False,):
                width = round(full / count**0.5)
                block = Fragments(width, kernel, count, parallel)
                cases.append((kernel, size, block, nas.trace(block, (width, size, size))))
    seconds = measured([graph for *_, graph in cases], repeats).min(axis=1)
    print(f"{'convolution':18}{'fragments':>14}{'channels':>10}{'MACs':>10}{'time':>8}{'ms':>9}{'irregularity':>14}")
    base, base_macs = 0.0, 0
    for (kernel, size, block, graph), time_taken in zip(cases, seconds, strict=True):
        if block.count == 1:
            base, base_macs = time_taken, graph.macs
        how = "one" if block.count == 1 else f"{block.count} {'parallel' if block.parallel else 'in series'}"
        print(
            f"{f'{kernel}x{kernel} on {size}x{size}':18}{how:>14}{block.width:>10}{graph.macs / base_macs:>9.2f}x"
            f"{time_taken / base:>7.2f}x{1e3 * time_taken:>9.2f}{graph.irregularity:>14.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12, help="networks of each space")
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats")
    parser.add_argument("--target", type=float, default=50e6, help="MACs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    begun = time.perf_counter()
    samples = [s for name in SPACES for s in drawn(name, given.count, given.target, given.seed)]
    seconds = measured([sample.graph for sample in samples], given.repeats)
    latency = seconds.min(axis=1)
    macs = [sample.graph.macs / 1e6 for sample in samples]
    spread = np.median(np.median(seconds, axis=1) / latency) - 1
    size = "x".join(map(str, SHAPE))
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, 1 thread, 1 core")
    print(f"float32, batch 1, input {size}, MACs {min(macs):.1f} M to {max(macs):.1f} M; seed {given.seed}")
    print(f"{len(samples)} networks of {len(SPACES)} spaces; least CPU time of {given.repeats} interleaved repeats;")
    print(f"the median repeat lies {spread:.1%} above it (median network)\n")
    by_space(samples, latency)
    print("\nCorrelation with latency at equal MACs, with 95 % bootstrap intervals (within: ranks inside each space)")
    correlations(samples, latency, given.seed)
    print("\nThe same MACs in one convolution and in fragments, ten blocks (convolution, norm, ReLU)")
    matched_pairs(given.repeats)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
