"""Does sharing weights rank networks as training them alone does?

Trains the elastic supernet of the `mobile` space, measures random sub-networks with inherited weights, trains the same
networks alone, and prints Kendall's tau of the two rankings with a 95% bootstrap interval.

    OMP_NUM_THREADS=1 python benchmarks/supernet_rank.py
    OMP_NUM_THREADS=1 python benchmarks/supernet_rank.py --task fashion-mnist --data-root ../shared/data --images 6000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from random import Random

import numpy as np
import torch

import nasturtium as nas
from nasturtium.supernets import calibration_batches, extreme, measure, measure_trust, train_single_path
from nasturtium.tasks import Task
from nasturtium.training import Recipe, evaluate, fit
from nasturtium.zoo.mobile import mobile


def spread(space: nas.Space, task: Task, count: int, rng: Random) -> list[nas.Architecture]:
    """Random networks spread over sizes: for MACs evenly spaced in the logarithm the nearest of 2,000 random ones."""
    pool = [space.sample(rng, "hierarchical") for _ in range(2000)]
    macs = np.log([nas.cost(a, task.input_shape, **task.context).macs for a in pool])
    chosen: list[int] = []
    for goal in np.linspace(macs.min(), macs.max(), count):
        order = np.argsort(np.abs(macs - goal))
        chosen.append(next(int(i) for i in order if int(i) not in chosen))
    return [pool[i] for i in chosen]


def smaller(task: Task, images: int) -> Task:
    """The task with so many train images (the first ones of a fixed shuffle)."""
    split = task.split("train")
    if images >= len(split):
        return task
    rows = np.sort(np.random.default_rng(0).permutation(len(split))[:images])
    splits = dict(task.splits) | {"train": split.take(rows)}
    return Task(
        name=task.name, splits=splits, class_names=task.class_names, source=task.source, augmentation=task.augmentation
    )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--images", type=int, default=10**9, help="train images at most")
    parser.add_argument("--epochs", type=int, default=60, help="of the supernet")
    parser.add_argument("--alone", type=int, default=8, help="epochs of each network alone")
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1, help="trainings alone, averaged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sandwich", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = smaller(nas.tasks.load(given.task, data_root=given.data_root), given.images)
    space, inputs = mobile(task.input_shape), task.input_shape
    rng = Random(given.seed)
    begin = time.perf_counter()
    always = [extreme(space, w, inputs, Random(0), **task.context) for w in ("smallest", "largest")]  # type: ignore[arg-type]
    shared = nas.supernet(space, inputs, seed=given.seed, **task.context)
    trained = train_single_path(
        shared, space, task, Recipe(), epochs=given.epochs, seed=given.seed, always=always if given.sandwich else ()
    )
    minutes = (time.perf_counter() - begin) / 60
    print(f"supernet: {trained.paths} paths, {minutes:.1f} minutes, last loss {trained.history[-1]['loss']:.3f}")
    batches = calibration_batches(task)
    rows = []
    begin = time.perf_counter()
    for number, architecture in enumerate(spread(space, task, given.networks, rng)):
        inherited = measure(shared, architecture, task, batches=batches)
        results = []
        for seed in range(given.seeds):
            graph = nas.trace(architecture, inputs, **task.context)
            network = nas.build(graph, seed=1000 * given.seed + seed)
            fit(network, task, Recipe(), epochs=given.alone, seed=seed)
            results.append(evaluate(network, task, "validation"))
        row = {
            "macs": graph.macs,
            "params": graph.params,
            "shared_accuracy": inherited.accuracy,
            "shared_loss": inherited.loss,
            "alone_accuracy": float(np.mean([r.accuracy for r in results])),
            "alone_loss": float(np.mean([r.loss for r in results])),
        }
        rows.append(row)
        print(f"{number + 1:3d}  " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), file=sys.stderr, flush=True)
    minutes_alone = (time.perf_counter() - begin) / 60
    report(rows, given, minutes, minutes_alone)
    return 0


def report(rows: list[dict[str, float]], given: argparse.Namespace, minutes: float, minutes_alone: float) -> None:
    """Print the rank correlations."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    pairs = {
        "shared weights by accuracy": (columns["shared_accuracy"], columns["alone_accuracy"]),
        "shared weights by loss": (columns["shared_loss"], columns["alone_loss"]),
        "MACs (baseline)": (columns["macs"], columns["alone_accuracy"]),
    }
    summary = {}
    for name, (x, y) in pairs.items():
        found = measure_trust(x, y, seed=given.seed, names=(name, "training alone"))
        summary[name] = found.to_dict()
        print(found.sentence)
    print(
        f"{given.task}, {len(rows)} networks of {min(columns['macs']):,.0f} to {max(columns['macs']):,.0f} MACs, "
        f"seed {given.seed}, {given.seeds} training(s) alone of {given.alone} epochs, {minutes:.1f} minutes shared, "
        f"{minutes_alone:.1f} minutes alone."
    )
    print(json.dumps({"summary": summary, "rows": rows}))


if __name__ == "__main__":
    sys.exit(main())
