"""A latency table of the fakes' space, and a device whose clock is a formula: nothing here waits for a real one."""

from __future__ import annotations

import random
from collections import Counter

import nasturtium as nas
from nasturtium.hardware import Conditions, LatencyTable, Measurement
from nasturtium.hardware.additive import Sum
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.open_kernels import space_kernels
from nasturtium.hardware.table import Row

INPUTS, CONTEXT = (1, 8, 8), {"classes": 10}
SPREAD = 0.01
"""Half width of the intervals, relative."""


def alone(kernel: Kernel) -> float:
    """Made-up seconds of a kernel: one microsecond, and one nanosecond a MAC."""
    return 1e-6 + 1e-9 * kernel.graph().macs


def truth(graph: nas.Graph, factor: float) -> float:
    """What the device really takes: the sum of the kernels times a factor."""
    return factor * sum(alone(kernel) for kernel in kernels(graph))


def table(space: nas.Space, *, checked: bool = True) -> LatencyTable:
    """A table of all kernels of a space, right but for a factor that it does not know; wide intervals."""
    found = {kernel: alone(kernel) for kernel in space_kernels(space, INPUTS, context=CONTEXT).kernels}
    bare = LatencyTable(device=nas.hardware.device("cpu"), seconds=found, source="made-up kernels")
    if not checked:
        return bare
    rows = []
    for seed in range(40):
        graph = nas.trace(space.sample(random.Random(seed)), INPUTS, **CONTEXT)
        sums: Counter[str] = Counter()
        for kernel in kernels(graph):
            sums[kernel.group] += found[kernel]
        rows.append(Row(Sum(dict(sums), len(kernels(graph))), sum(sums.values()) * (1.1 if seed % 2 else 0.9)))
    return LatencyTable(device=bare.device, seconds=found, held_out=tuple(rows), source="made-up kernels")


class Clock:
    """In place of `measuring.measure_all`: the truth, with an interval; counts what was measured."""

    def __init__(self, factor: float = 1.0, spread: float = SPREAD) -> None:
        self.factor, self.spread, self.measured, self.calls = factor, spread, 0, 0
        self.plans: list[nas.hardware.Plan] = []

    def __call__(self, networks, device="cpu", *, inputs=(), plan=None) -> list[Measurement]:
        self.calls += 1
        self.measured += len(networks)
        self.plans.append(plan)
        return [self.one(graph, device) for graph in networks]

    def one(self, graph, device) -> Measurement:
        seconds = truth(graph, self.factor)
        return Measurement(
            seconds=seconds, low=seconds * (1 - self.spread), high=seconds * (1 + self.spread),
            processes=(seconds,) * 6, samples=(100,) * 6,
            conditions=Conditions(device=device, machine="a made-up processor", load=0.5, started="2026-01-01"),
        )  # fmt: skip
