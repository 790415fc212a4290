"""Speed of tracing, costing and hashing, and the ratio to fvcore, in one run.

Run: `python benchmarks/graph.py`. Medians of repeats; single thread; nothing is cached between repeats unless said.
"""

from __future__ import annotations

import json
import random
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

import nasturtium as nas
from nasturtium.graph import CostModel, canonical, cost, operations, trace

PARAMS, MACS = 3_504_872, 300_774_272
INPUT = (3, 224, 224)
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, width, repeats, stride: table 2 of arXiv 1801.04381."""


def conv_norm_act(wide_in: int, wide_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True):
    layers = [
        nn.Conv2d(wide_in, wide_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(wide_out),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if act else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    def __init__(self, wide_in: int, wide_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = wide_in * expand
        self.residual = stride == 1 and wide_in == wide_out
        self.layers = nn.Sequential(
            *([conv_norm_act(wide_in, hidden)] if expand != 1 else []),
            conv_norm_act(hidden, hidden, 3, stride, hidden),
            conv_norm_act(hidden, wide_out, act=False),
        )

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class TorchMobileNetV2(nn.Module):
    """Plain PyTorch, the network that fvcore counts."""

    def __init__(self) -> None:
        super().__init__()
        layers = [conv_norm_act(3, 32, 3, 2)]
        wide_in = 32
        for expand, width, repeats, stride in SETTINGS:
            for k in range(repeats):
                layers.append(InvertedResidual(wide_in, width, stride if k == 0 else 1, expand))
                wide_in = width
        layers.append(conv_norm_act(wide_in, 1280))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenetv2() -> nas.Block:
    """The same network as blocks."""
    layers: list[nas.Block] = [nas.Conv(32, stride=2, act="relu6")]
    for expand, width, repeats, stride in SETTINGS:
        layers += [nas.MBConv(width, stride=stride if k == 0 else 1, expand=expand) for k in range(repeats)]
    return nas.Sequential(*layers, nas.Conv(1280, kernel=1, act="relu6"), nas.Classifier())


def median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of one call, after one call to warm up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def traced() -> tuple[int, int]:
    """Parameters and MACs from an empty cache: the blocks, the trace and the counts are made anew."""
    empty_caches()
    graph = trace(mobilenetv2(), INPUT, classes=1000)
    return graph.params, graph.macs


def empty_caches() -> None:
    """Forget what earlier repeats left in module-level caches."""
    for module in (canonical, canonical.simplify.__globals__, nas.ops, operations):
        names = module if isinstance(module, dict) else vars(module)
        for value in list(names.values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def counted_by_fvcore() -> tuple[int, int]:
    """Parameters and MACs by fvcore; building the module is not timed."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(MODEL, PICTURE)
    analysis.unsupported_ops_warnings(enabled=False)
    analysis.uncalled_modules_warnings(enabled=False)
    by_operator = analysis.by_operator()
    return sum(p.numel() for p in MODEL.parameters()), int(by_operator["conv"] + by_operator["linear"])


def search_space() -> nas.Space:
    """A space of 27 choices."""
    stages = (
        nas.repeat(
            nas.MBConv(width, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(3, 4, 6)),
            times=nas.one_of(2, 3, 4),
            stride=2,
        )
        for width in (24, 40, 80)
    )
    return nas.Space(nas.Sequential(nas.Conv(16, stride=2), *stages, nas.Classifier()))


def mutations_per_second(space: nas.Space, size: tuple[int, ...], count: int = 4000) -> float:
    """Mutate and cost the child, amortised over a search that begins with an empty memory; by processor time."""
    rng = random.Random(0)
    model = CostModel(size, classes=10)
    architecture = space.sample(rng, sampler="hierarchical")
    start = time.process_time()
    for _ in range(count):
        architecture = space.mutate(architecture, rng)
        model(architecture)
    return count / (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    assert traced() == (PARAMS, MACS)
    assert counted_by_fvcore() == (PARAMS, MACS)
    block = mobilenetv2()
    graph = trace(block, INPUT, classes=1000)

    def hashed() -> str:
        empty_caches()
        return canonical.canonical_hash(graph)

    ours, theirs = median(traced, 200), median(counted_by_fvcore, 15)
    result = {
        "mobilenetv2_trace_params_macs_ms": 1e3 * ours,
        "mobilenetv2_fvcore_ms": 1e3 * theirs,
        "ratio": theirs / ours,
        "mobilenetv2_cost_empty_memory_ms": 1e3 * median(lambda: cost(block, INPUT, classes=1000), 100),
        "mobilenetv2_canonical_hash_ms": 1e3 * median(hashed, 100),
        "mutate_and_cost_per_s": mutations_per_second(search_space(), (3, 64, 64)),
    }
    print(json.dumps({name: round(value, 4) for name, value in result.items()}, indent=2))


if __name__ == "__main__":
    MODEL, PICTURE = TorchMobileNetV2().eval(), torch.zeros(1, *INPUT)
    main()
