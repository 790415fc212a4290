"""How fast Once-for-All specialises: extraction, costs, search, on the MobileNetV3 space at width 1.0.

Bars: extraction of a sub-network under 100 ms; costs of 1,000 sub-networks under 1 s. Medians over repeats on one
thread; the processor's own time is printed beside, because it does not count what else the machine does.

    OMP_NUM_THREADS=1 python benchmarks/once_for_all.py
    OMP_NUM_THREADS=1 python benchmarks/once_for_all.py --data-root ../shared/data     # search on the authors' numbers
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import torch

import nasturtium as nas
from nasturtium.graph import CostModel
from nasturtium.supernets import published_once_for_all as published
from nasturtium.supernets.genes import Genes, cost_tables
from nasturtium.supernets.specialize import EvolutionSettings, Limit, best_of_random, specialize
from nasturtium.zoo import once_for_all as ofa

INPUT = (3, 224, 224)
OFFICIAL = {20: (0.80544, 0.79634), 25: (0.81769, 0.80688), 30: (0.82442, 0.81447), 40: (0.83599, 0.82303)}
"""By limit in ms: best predicted accuracy of the authors' evolution (200 generations, seed 0) and of 5,000 random."""


def timed(action: Callable[[int], object], repeats: int) -> dict[str, float]:
    """Median wall-clock and processor seconds of calls with 0, 1, 2 …; one more call before warms up."""
    action(repeats)
    wall, own = [], []
    for number in range(repeats):
        begin, begin_own = time.perf_counter(), time.process_time()
        action(number)
        wall.append(time.perf_counter() - begin)
        own.append(time.process_time() - begin_own)
    return {"seconds": float(np.median(wall)), "processor_seconds": float(np.median(own)), "repeats": repeats}


def show(name: str, row: dict[str, float], bar: float | None = None) -> None:
    """One line."""
    kept = "" if bar is None else f"  (bar {1e3 * bar:g} ms: {'kept' if row['seconds'] < bar else 'MISSED'})"
    print(
        f"{name:42} {1e3 * row['seconds']:9.2f} ms, processor {1e3 * row['processor_seconds']:9.2f} ms{kept}",
        flush=True,
    )


def networks(repeats: int) -> dict[str, dict[str, float]]:
    """Extraction and costs."""
    space = ofa.mobilenetv3_space()
    begin = time.process_time()
    shared = nas.supernet(space, INPUT, seed=0, classes=1000, kernel_transform=True)
    found = {"make the supernet": {"seconds": time.process_time() - begin, "processor_seconds": 0.0, "repeats": 1}}
    print(f"supernet: {sum(p.numel() for p in shared.parameters()):,} parameters", flush=True)
    drawn = [space.sample(Random(seed)) for seed in range(1000)]
    found["extract"] = timed(lambda i: shared.extract(drawn[i]), repeats)
    show("extract a sub-network", found["extract"], 0.1)
    largest = ofa.architecture({"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}, space)
    found["extract the largest"] = timed(lambda _: shared.extract(largest), repeats)
    show("extract the largest network", found["extract the largest"], 0.1)
    genes = Genes(space)
    begin = time.process_time()
    tables = {metric: cost_tables(shared.graph, metric) for metric in ("macs", "params")}  # type: ignore[arg-type]
    print(f"tables of both costs: {time.process_time() - begin:.2f} s of processor time, once for a space", flush=True)
    found["costs"] = timed(lambda _: [table(genes.matrix(drawn)) for table in tables.values()], repeats)
    show("MACs and parameters of 1,000 sub-networks", found["costs"], 1.0)
    model = CostModel(INPUT, classes=1000)
    exact = [model(a) for a in drawn[:100]]
    rows = genes.matrix(drawn[:100])
    assert tables["macs"](rows).tolist() == [c.macs for c in exact]
    assert tables["params"](rows).tolist() == [c.params for c in exact]
    found["cost model"] = timed(lambda _: [model(a) for a in drawn], 1)
    show("the same by `CostModel` (peak memory too)", found["cost model"])
    return found


def search(folder: Path, generations: int, seeds: int) -> dict[str, object]:
    """The authors' search on the authors' numbers."""
    genes = Genes(published.space())
    table = published.latency_tables(genes, published.read_latencies(folder / "latency_table_note10.csv"))
    predict = published.read_predictor(genes, folder / "ofa_accuracy_predictor.npz")
    settings = EvolutionSettings(generations=generations, own={"resolution": 0.1})
    found: dict[str, object] = {}
    for limit_ms, (official, official_random) in OFFICIAL.items():
        limit = [Limit(name="latency", cost=table, most=limit_ms / 1e3)]
        own = time.process_time()
        results = [specialize(genes, predict, limit, settings=settings, seed=seed) for seed in range(seeds)]
        own = (time.process_time() - own) / seeds
        best = 100 * np.array([r.predicted for r in results])
        random = best_of_random(genes, predict, limit, count=5000, seed=1)
        spread = best.std(ddof=1) if seeds > 1 else float("nan")
        print(
            f"{limit_ms} ms, {generations} generations: {best.mean():.2f} ± {spread:.2f} % (n = {seeds}; authors' code "
            f"{100 * official:.2f}); 5,000 random {100 * random.predicted:.2f} (authors' {100 * official_random:.2f}); "
            f"{np.mean([r.seconds for r in results]):.1f} s a search, {own:.1f} s of processor time",
            flush=True,
        )
        found[f"{limit_ms} ms"] = {"predicted": best.tolist(), "random": random.predicted, "processor_seconds": own}
    return found


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {"torch": torch.__version__, **networks(given.repeats)}
    if given.data_root is not None:
        found |= search(given.data_root / "ofa_mbv3", given.generations, given.seeds)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
