"""Single Path One-Shot on Fashion-MNIST: evolution against random search on one supernet, and a fair final comparison.

Space: SPOS' four blocks (shuffle units with 3x3, 5x5 or 7x7 kernels, and the xception unit) at eight places of a small
ShuffleNetV2: 4^8 = 65,536 networks for 28x28 images.

Protocol (the defaults; at most 30 minutes on 2 CPU threads):
  1. one supernet, single uniform paths, --epochs passes over --images train images; a sample of --sample networks is
     also trained alone, and Kendall's tau of the two rankings is printed;
  2. on this one supernet, regularised evolution and random search, --trials networks each, --seeds seeds each: the best
     accuracy found so far over the number of networks, mean and standard deviation over the seeds;
  3. the control, at equal total cost: random search that trains networks alone, for as many as fit into the seconds of
     the supernet and of one evolution;
  4. the best network by shared weights of evolution's first seed, and the control's best, are trained from
     scratch for --final epochs with --seeds-final seeds, and measured once on test.

    python examples/spos.py --data-root ../shared/data --out runs/spos
    python examples/spos.py --data-root ../shared/data --out runs/spos-smoke --smoke
    python examples/spos.py --out runs/spos --show
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_random import spread, write

import nasturtium as nas
from nasturtium.estimators import Job, SharedWeights, Trained, measure_test
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.trial import FULL
from nasturtium.zoo.spos import Head, PlainConv, ShuffleUnit, XceptionUnit

STAGES = ((32, 2), (64, 4), (128, 2))
"""Channels and places of each stage; the first place of each halves the size."""


def make_space() -> nas.Space:
    """The four blocks at each of eight places."""
    stages = []
    place = 0
    for width, count in STAGES:
        blocks = []
        for i in range(count):
            stride = 1 if i else 2
            options = [ShuffleUnit(width, stride, kernel=kernel) for kernel in (3, 5, 7)]
            blocks.append(nas.one_of(*options, XceptionUnit(width, stride), name=f"block_{place}"))
            place += 1
        stages.append(nas.blocks.Repeat(tuple(blocks)))
    return nas.Space(nas.Sequential(PlainConv(16, 3), *stages, PlainConv(256), Head()))


def subset(task: Task, images: int, validation: int) -> Task:
    """The task with its first train and validation images; test stays whole."""
    splits = dict(task.splits)
    for name, count in (("train", images), ("validation", validation)):
        splits[name] = task.split(name).take(np.arange(min(count, len(task.split(name)))))
    return replace(task, splits=splits, loader=None)


def best_so_far(accuracies: Sequence[float]) -> list[float]:
    """Running maximum."""
    return np.maximum.accumulate(accuracies).tolist()


def on_supernet(space: nas.Space, task: Task, shared: SharedWeights, given: argparse.Namespace) -> dict[str, list[Any]]:
    """Studies of both strategies on the one supernet."""
    studies: dict[str, list[Any]] = {"evolution": [], "random": []}
    for seed in range(given.seeds):
        for name, found in studies.items():
            strategy = (
                f"evolution(population={given.population}, sample={min(5, given.population)})"
                if name == "evolution"
                else "random"
            )
            found.append(
                nas.search(
                    space,
                    task,
                    maximize="accuracy",
                    strategy=strategy,
                    estimator=shared,
                    trials=given.trials,
                    seed=seed,
                    threads=given.threads,
                    concurrency=1,
                    study=given.out / f"{name}-{seed}.db",
                )
            )
            print(f"{name}, seed {seed}: {found[-1].best.metrics['accuracy']:.4f} by shared weights", flush=True)
    return studies


def curves(studies: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    """Best accuracy so far, `(seeds, trials)`, of each strategy."""
    return {
        name: np.array([best_so_far([t.metrics.get("accuracy", 0.0) for t in study.trials]) for study in found])
        for name, found in studies.items()
    }


def draw(found: dict[str, np.ndarray], path: Path) -> None:
    """The lecture's figure: best accuracy over the number of networks measured, mean and spread."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, values in found.items():
        x, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
        bars = {"array": values.std(axis=0, ddof=1), "thickness": 0.5} if len(values) > 1 else None
        figure.add_scatter(x=x, y=mean, name=name, error_y=bars)
    figure.update_layout(
        xaxis_title="networks measured by shared weights", yaxis_title="best validation accuracy by shared weights"
    )
    figure.write_html(path, include_plotlyjs="cdn")


def alone(space: nas.Space, task: Task, seconds: float, given: argparse.Namespace) -> Any:
    """Random search that trains each network, within the seconds."""
    return nas.search(
        space, task, maximize="accuracy", strategy="random", estimator=Trained(epochs=given.alone), trials=10_000,
        seed=0, seconds=seconds, threads=given.threads, concurrency=1, study=given.out / "alone.db",
    )  # fmt: skip


def final(name: str, architecture: nas.Architecture, task: Task, given: argparse.Namespace) -> dict[str, Any]:
    """Train from scratch with several seeds, measure on test."""
    graph = nas.trace(architecture, task.input_shape, **task.context)
    tests, seconds = [], []
    for seed in range(given.seeds_final):
        folder = given.out / f"final-{name}-{seed}"
        job = Job(task=task, seed=seed, directory=folder, threads=given.threads)
        seconds.append(Trained(epochs=given.final).estimate(architecture, FULL, job)["train_seconds"])
        tests.append(measure_test(architecture, task, weights=folder).accuracy)
    return {
        "network": architecture.key, "macs": graph.macs, "params": graph.params, "test_accuracy": tests,
        "train_seconds": seconds,
    }  # fmt: skip


def show(said: dict[str, Any]) -> None:
    """Print the summary of a `result.json`."""
    trust, protocol = said["trust"], said["protocol"]
    worth = "Its ranking was not checked (--sample 0)." if trust is None else trust["sentence"]
    print(f"supernet: {said['supernet_seconds'] / 60:.1f} minutes. {worth}")
    found = {name: np.array(values) for name, values in said["curves"].items()}
    trials, seeds = protocol["trials"], protocol["seeds"]
    marks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if k < trials] + [trials]
    print(f"best accuracy by shared weights, mean ± standard deviation over {seeds} seeds")
    print("networks  " + "  ".join(f"{name:>24}" for name in found))
    for k in marks:
        print(f"{k:8d}  " + "  ".join(f"{spread(values[:, k - 1].tolist(), 4):>24}" for values in found.values()))
    networks = f"{said['control_networks']} networks" if "control_networks" in said else "networks"
    print(f"control: {networks} trained alone in {said['search_seconds'] / 60:.1f} minutes, as the supernet's search")
    for name, row in said["final"].items():
        print(
            f"{name}: test accuracy {spread(row['test_accuracy'], 4)}, {row['macs']:,} MACs, {row['params']:,} params, "
            f"trained from scratch in {np.mean(row['train_seconds']):.0f} s; {row['network']}"
        )
    print(f"{said['minutes']:.1f} minutes in all, seeds 0 to {seeds - 1}; everything is in {protocol['out']}")


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root")
    parser.add_argument("--out", type=Path, required=True, help="folder of all studies; run again to go on")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=15, help="of the supernet")
    parser.add_argument("--sample", type=int, default=6, help="networks also trained alone")
    parser.add_argument("--alone", type=int, default=3, help="epochs of networks trained alone in a search")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--population", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--final", type=int, default=8, help="epochs of the final trainings")
    parser.add_argument("--seeds-final", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--show", action="store_true", help="only print the summary in --out again; runs nothing")
    given = parser.parse_args()
    if given.show:
        show(json.loads((given.out / "result.json").read_text()))
        return 0
    if given.smoke:
        small = {"images": 256, "validation": 100, "epochs": 1, "sample": 2, "alone": 1, "trials": 4, "population": 2}
        vars(given).update(small, seeds=2, final=1, seeds_final=1, threads=1)
    given.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    torch.set_num_threads(given.threads)
    task = subset(nas.tasks.load("fashion-mnist", data_root=given.data_root), given.images, given.validation)
    space = make_space()
    shared = SharedWeights(
        space=space, epochs=given.epochs, recipe=Recipe(), directory=given.out / "supernet", calibration=500,
        sample=given.sample, alone=Trained(epochs=given.alone), device="cpu",
    )  # fmt: skip
    ready = shared.supernet(Job(task=task, seed=0, threads=given.threads))
    print(f"supernet: {ready.seconds / 60:.1f} minutes.", flush=True)
    studies = on_supernet(space, task, shared, given)
    found = curves(studies)
    draw(found, given.out / "evolution-random.html")
    one = studies["evolution"][0]  # the first seed's, whose cost the control gets: not the best of all seeds
    winner = one.best
    cost = ready.seconds + sum(t.metrics["measure_seconds"] for t in one.trials)
    control = alone(space, task, cost, given)
    results = {
        "evolution on the supernet": final("evolution", winner.architecture, task, given),
        "random, trained alone": final("random", control.best.architecture, task, given),
    }
    minutes = (time.perf_counter() - begin) / 60
    said = {
        "protocol": {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items()},
        "supernet_seconds": ready.seconds, "search_seconds": cost,
        "trust": None if ready.trust is None else ready.trust.to_dict(), "control_networks": len(control.trials),
        "curves": {name: values.tolist() for name, values in found.items()}, "final": results, "minutes": minutes,
        "torch": torch.__version__,
    }  # fmt: skip
    write(given.out / "result.json", said)
    show(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
