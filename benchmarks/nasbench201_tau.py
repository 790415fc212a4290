"""How well supernets of NAS-Bench-201 rank its cells, against the table of networks trained alone for 200 epochs.

Trains one supernet by single paths (SPOS, hierarchical or fair) and one by the sum with path dropout (One-Shot), on
CIFAR-10 at a small size, measures random cells by inherited weights, norms recalibrated, on images that training never
saw, and prints Kendall's tau with the table's validation accuracy (200 epochs), with 95% bootstrap intervals, beside
that of the parameter count over the same cells.

    OMP_NUM_THREADS=1 python benchmarks/nasbench201_tau.py --data-root ../shared/data --out tau.json
    OMP_NUM_THREADS=1 python benchmarks/nasbench201_tau.py --data-root ../shared/data --images 256 --validation 200 \
        --side 8 --width 4 --epochs 1 --networks 20
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.supernets import OneShot, Run, calibration_batches, measure, measure_trust, train_single_path
from nasturtium.tasks import Split, Task
from nasturtium.training import Recipe
from nasturtium.zoo import nasbench201

METHODS = ("hierarchical", "fair", "one-shot")


def shrunk(split: Split, count: int, side: int, seed: int) -> Split:
    """Random images of a split, reduced to `side` pixels by area averaging."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    part = split.take(rows)
    images = torch.from_numpy(np.array(part.images)).float()
    small = functional.interpolate(images, size=(side, side), mode="area").round().to(torch.uint8)
    return Split(images=small.numpy(), labels=part.labels)


def reduced(task: Task, images: int, validation: int, side: int) -> Task:
    """CIFAR-10 with fewer and smaller images."""
    splits = {
        "train": shrunk(task.split("train"), images, side, 0),
        "validation": shrunk(task.split("validation"), validation, side, 1),
        "test": task.split("validation").take(np.arange(1)),  # never read
    }
    return Task(
        name=f"cifar10 at {side}x{side}", splits=splits, class_names=task.class_names, source=task.source,
        augmentation=task.augmentation,
    )  # fmt: skip


def trained(method: str, space: nas.Space, task: Task, given: argparse.Namespace) -> tuple[nas.Supernet, float, Any]:
    """A supernet, its training's seconds and history."""
    shared = nas.supernet(space, task.input_shape, seed=given.seed, **task.context)
    recipe = Recipe(batch_size=given.batch)
    if method == "one-shot":
        one_shot = OneShot(epochs=given.epochs, dropout=given.dropout, recipe=recipe)
        training = one_shot.train(shared, Run(task=task, seed=given.seed))
        return shared, training.seconds, training.history
    epochs = given.epochs * given.single_factor
    if method == "fair":
        epochs = max(1, round(epochs / 5))  # five paths a step
    result = train_single_path(shared, space, task, recipe, epochs=epochs, seed=given.seed, sampler=method)
    return shared, result.seconds, result.history


def ranked(
    shared: nas.Supernet, cells: Sequence[nas.Architecture], task: Task, images: int
) -> list[tuple[float, float]]:
    """(accuracy, minus loss) of each cell by shared weights."""
    batches = calibration_batches(task, images=images)
    results = [measure(shared, cell, task, batches=batches) for cell in cells]
    return [(r.accuracy, -r.loss) for r in results]


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=5000, help="train images")
    parser.add_argument("--validation", type=int, default=1000, help="validation images")
    parser.add_argument("--calibration", type=int, default=500, help="train images for the norms' statistics")
    parser.add_argument("--side", type=int, default=16, help="pixels")
    parser.add_argument("--width", type=int, default=8, help="channels of the first stage")
    parser.add_argument("--cells", type=int, default=1, help="cells of a stage")
    parser.add_argument("--epochs", type=int, default=5, help="of One-Shot; single paths train --single-factor as many")
    parser.add_argument("--single-factor", type=int, default=6, help="epochs of single paths for one of the sum")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.1, help="of all branches of an edge, at the end")
    parser.add_argument("--networks", type=int, default=200, help="cells that are ranked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for all numbers, JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(Path(given.data_root) / "nasbench201" / "nasbench201.npz", allow_pickle=False) as table:
        strings, truth, params = table["arch_str"], table["valid_acc_200"][:, 0] / 100, table["params"][:, 0]
    rows = sorted(Random(given.seed).sample(range(len(strings)), given.networks))
    task = reduced(nas.tasks.load("cifar10", data_root=given.data_root), given.images, given.validation, given.side)
    space = nasbench201.space(width=given.width, cells=given.cells)
    cells = [nasbench201.architecture(str(strings[row]), space) for row in rows]
    accuracy = truth[rows].tolist()
    columns: dict[str, Any] = {"row": rows, "table": accuracy, "params": params[rows].tolist()}
    seconds: dict[str, tuple[float, float]] = {}
    histories = {}
    for method in given.methods:
        shared, took, histories[method] = trained(method, space, task, given)
        begin = time.perf_counter()
        values = ranked(shared, cells, task, given.calibration)
        seconds[method] = took, time.perf_counter() - begin
        columns[method] = [v[0] for v in values]
        columns[f"{method}, minus loss"] = [v[1] for v in values]
        print(f"{method}: trained {took / 60:.1f} min, measured {seconds[method][1] / 60:.1f} min", file=sys.stderr)
    print(
        f"CIFAR-10 (JPEG), {given.images} train and {given.validation} validation images at {given.side}x{given.side}, "
        f"{given.width} channels, {given.cells} cell(s) a stage, batch {given.batch}, seed {given.seed}, "
        f"{given.networks} cells drawn uniformly; table: validation accuracy after 200 epochs."
    )
    found = {}
    for name in (*[c for c in columns if c not in ("row", "table")],):
        label = name if name == "params" else f"shared weights ({name})"
        found[name] = measure_trust(columns[name], accuracy, seed=given.seed, names=(label, "the table"))
        minutes = f" {seconds[name][0] / 60:.1f} min of training." if name in seconds else ""
        print(found[name].sentence + minutes)
    if given.out is not None:
        said = {
            "protocol": {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items()},
            "trust": {name: value.to_dict() for name, value in found.items()},
            "seconds": seconds, "columns": columns, "torch": torch.__version__,
            "histories": {method: [dict(record) for record in history] for method, history in histories.items()},
        }  # fmt: skip
        given.out.write_text(json.dumps(said, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
