"""DARTS on Fashion-MNIST: the derived network beside random networks at equal total cost.

Space: normal and reduction cells as in DARTS with --nodes nodes of two inputs and seven operations each, in a network
of --layers cells and --width channels for 28x28 images. The search has norms without weights, the final networks have
them.

Protocol (the defaults; at most 30 minutes on 2 CPU threads), for each of --seeds seeds:
  1. the search, --method of the first order by default, --epochs passes over half of --images train images, the other
     half for the architecture, whose learning rate is high (--rate, 0.01 instead of 0.0003) because there are few
     steps; collapse is watched for by the number of identities;
  2. the derived network is trained from scratch for --final epochs and measured once on test;
  3. the control, at equal total cost: random search that trains networks for --alone epochs, for the seconds of the
     search; its best by validation is trained from scratch in the same way;
  4. one random network, chosen by nothing, is trained in the same way.

    python examples/darts.py --data-root ../shared/data --out runs/darts
    python examples/darts.py --data-root ../shared/data --out runs/darts-smoke --smoke
    python examples/darts.py --out runs/darts --show
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from against_random import spread, write

import nasturtium as nas
from nasturtium.estimators import Job, Trained, measure_test
from nasturtium.supernets import DARTS, CollapseWatch, Run
from nasturtium.tasks import Task
from nasturtium.trial import FULL

METHODS = {
    "darts": lambda given, **own: DARTS(**own),
    "darts-second": lambda given, **own: DARTS(order=2, **own),
    "pc-darts": lambda given, **own: DARTS.pc(frozen=given.epochs // 4, **own),
    "fair-darts": lambda given, **own: DARTS.fair(**own),
    "gdas": lambda given, **own: DARTS.gdas(**own),
    "darts-minus": lambda given, **own: DARTS.minus(**own),
}


def subset(task: Task, images: int, validation: int, test: int) -> Task:
    """The task with the first images of each split."""
    splits = dict(task.splits)
    for name, count in (("train", images), ("validation", validation), ("test", test)):
        splits[name] = task.split(name).take(np.arange(min(count, len(task.split(name)))))
    return replace(task, splits=splits, loader=None)


def final(name: str, found: nas.Architecture, task: Task, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train from scratch, measure on test."""
    graph = nas.trace(found, task.input_shape, **task.context)
    folder = given.out / f"final-{name}-{seed}"
    metrics = Trained(epochs=given.final).estimate(
        found, FULL, Job(task=task, seed=seed, directory=folder, threads=given.threads)
    )
    return {
        "seed": seed, "macs": graph.macs, "params": graph.params, "train_seconds": metrics["train_seconds"],
        "test_accuracy": measure_test(found, task, weights=folder).accuracy,
        "genotype": nas.zoo.darts.genotype(found).to_dict(),
    }  # fmt: skip


def show(said: dict[str, Any]) -> None:
    """Print the summary of a `result.json`."""
    for row in said["searches"]:
        networks = f"; the control trained {row['control_networks']} networks" if "control_networks" in row else ""
        print(f"seed {row['seed']}: searched for {row['seconds']:.0f} s{networks}; {' '.join(row['notes'])}")
    for name, found in said["final"].items():
        print(
            f"{name}: test accuracy {spread([row['test_accuracy'] for row in found], 4)}, "
            f"{np.mean([row['macs'] for row in found]):,.0f} MACs, {np.mean([row['params'] for row in found]):,.0f} "
            "params (means)"
        )
    spent, protocol = np.mean([row["seconds"] for row in said["searches"]]), said["protocol"]
    print(
        f"{said['minutes']:.1f} minutes in all, {spent:.0f} s a search, seeds 0 to {protocol['seeds'] - 1}; all is in "
        f"{protocol['out']}"
    )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root")
    parser.add_argument("--out", type=Path, required=True, help="folder of all results")
    parser.add_argument("--method", choices=sorted(METHODS), default="darts")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10_000, help="test images; 10,000 are all")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10, help="of a search")
    parser.add_argument(
        "--rate", type=float, default=0.01, help="learning rate of the architecture; few steps need a high one"
    )
    parser.add_argument("--alone", type=int, default=3, help="epochs of networks trained alone in the control")
    parser.add_argument("--final", type=int, default=8, help="epochs of the final trainings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--show", action="store_true", help="only print the summary in --out again; runs nothing")
    given = parser.parse_args()
    if given.show:
        show(json.loads((given.out / "result.json").read_text()))
        return 0
    if given.smoke:
        small = {"images": 128, "validation": 64, "test": 200, "width": 4, "layers": 3, "nodes": 1, "epochs": 1}
        vars(given).update(small, alone=1, final=1, seeds=1, threads=1)
    given.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    torch.set_num_threads(given.threads)
    task = subset(
        nas.tasks.load("fashion-mnist", data_root=given.data_root), given.images, given.validation, given.test
    )
    size = {"width": given.width, "layers": given.layers, "nodes": given.nodes}
    searched = nas.zoo.darts.space(task.input_shape, affine=False, **size)
    trained = nas.zoo.darts.space(task.input_shape, **size)
    settings = {"epochs": given.epochs, "architecture_learning_rate": given.rate, "watch": CollapseWatch(every=0)}
    method = METHODS[given.method](given, **settings)
    rows: dict[str, list[dict[str, Any]]] = {given.method: [], "random search": [], "one random network": []}
    searches = []
    for seed in range(given.seeds):
        start = time.perf_counter()
        result = method.search(searched, Run(task=task, seed=seed, directory=given.out / f"search-{seed}"))
        seconds = time.perf_counter() - start
        genotype = nas.zoo.darts.genotype(result.found[0].architecture)
        searches.append({
            "seed": seed, "seconds": seconds, "notes": list(result.notes), "history": [dict(r) for r in result.history],
        })  # fmt: skip
        print(f"seed {seed}: searched for {seconds:.0f} s; {' '.join(result.notes)}", flush=True)
        derived = nas.zoo.darts.architecture(genotype, trained)
        rows[given.method].append(final("derived", derived, task, seed, given))
        control = nas.search(
            trained, task, maximize="accuracy", strategy="random", estimator=Trained(epochs=given.alone),
            trials=10_000, seed=seed, seconds=seconds, threads=given.threads, concurrency=1,
            study=given.out / f"random-{seed}.db",
        )  # fmt: skip
        searches[-1]["control_networks"] = len(control.trials)
        rows["random search"].append(final("random-search", control.best.architecture, task, seed, given))
        chance = trained.sample(Random(seed))
        rows["one random network"].append(final("chance", chance, task, seed, given))
    minutes = (time.perf_counter() - begin) / 60
    said = {
        "protocol": {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items()},
        "method": method.to_dict(), "searches": searches, "final": rows, "minutes": minutes,
        "torch": torch.__version__,
    }  # fmt: skip
    write(given.out / "result.json", said)
    show(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
