"""Every space of the zoo: size, and the time to sample, mutate, trace, cost and draw an architecture.

Run: `python benchmarks/zoo.py [NAME …]`. CPU time, medians over the architectures, single thread. `cost` is that of a
new architecture by a `CostModel` that has met others before; `trace` makes the whole graph. The last column is the
ratio of the two, measured in one run.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

import nasturtium as nas
from nasturtium.errors import InfeasibleError, SizeUnknownError

SAMPLES = 20
SEED = 0


def milliseconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def size(space: nas.Space) -> str:
    """Its exact size, short."""
    try:
        digits = str(space.size)
        return digits if len(digits) <= 6 else f"{digits[0]}.{digits[1:4]}e{len(digits) - 1}"
    except SizeUnknownError:
        return "not counted"


def measure(name: str) -> list[str]:
    """One row of the table."""
    family = nas.zoo.family(name)
    shape = family.input_shape
    started = time.process_time()
    space = nas.zoo.space(name)
    counted = size(space)
    made = 1e3 * (time.process_time() - started)
    rng = random.Random(SEED)
    drawn = [space.sample(rng) for _ in range(SAMPLES)]
    model = nas.CostModel(shape, classes=10)
    for architecture in drawn:
        model(architecture)
    new: list[nas.Architecture] = []
    sample = [milliseconds(lambda: new.append(space.sample(rng))) for _ in range(SAMPLES)]
    try:
        mutate = statistics.median(milliseconds(lambda a=a: space.mutate(a, rng)) for a in new)
    except InfeasibleError:
        mutate = float("nan")
    cost = statistics.median(milliseconds(lambda a=a: model(a)) for a in new)
    graphs: list[nas.Graph] = []
    trace = [milliseconds(lambda a=a: graphs.append(nas.trace(a, shape, classes=10))) for a in new]
    params = [milliseconds(lambda g=g: (g.params, g.macs)) for g in graphs]
    whole = statistics.median(t + p for t, p in zip(trace, params, strict=True))
    draw = statistics.median(milliseconds(lambda a=a: nas.sketch(a, shape, classes=10)) for a in new[:5])
    figures = (made, statistics.median(sample), mutate, whole, cost, draw)
    nodes = statistics.median(len(g.nodes) for g in graphs)
    shown = "x".join(map(str, shape))
    return [name, shown, counted, f"{nodes:.0f}", *[f"{f:.2f}" for f in figures], f"{whole / cost:.1f}"]


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(nas.zoo.SPACES)
    head = [
        "space",
        "input",
        "size",
        "nodes",
        "make + count",
        "sample",
        "mutate",
        "trace",
        "cost",
        "draw",
        "trace/cost",
    ]
    rows = [head, *(measure(name) for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    print(f"CPU milliseconds, medians of {SAMPLES} architectures (5 drawings), seed {SEED}")
    for row in rows:
        print("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))


if __name__ == "__main__":
    main()
