"""The strategies against each other on NAS-Bench-201: the figures of docs and changelog.

    python benchmarks/search.py accuracy   -o runs/search [--data-root FOLDER] [--processes 2] [--only NAME …]
    python benchmarks/search.py reach      -o runs/search
    python benchmarks/search.py objectives -o runs/search

Hours with all strategies and seeds. Stop it whenever you like: the same command goes on, and prints the tables of what
is there with --show. Hyper-parameters are the strategies' defaults, from the literature or chosen on other objectives;
evolution is beside them as NATS-Bench's baseline has it (Dong et al. 2021: population 20, sample 5 at this budget).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nasturtium import bench
from nasturtium.bench import curves
from nasturtium.cli.bench import text_of
from nasturtium.errors import NasturtiumError
from nasturtium.report import bench_page
from nasturtium.trial import Objective

TABLES = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16")
CHECKPOINTS = (50, 100, 200)
EVALUATIONS = 200
REACHED = "evolution(population=20, sample=5)"
REACHED_AT = 300
"""How soon the default strategy has the validation accuracy that this one has after so many evaluations."""
MARGIN = 0.1
"""Points of validation accuracy; set before the first run."""

CHEAP = ("random", REACHED, "evolution", "local", "nsga2", "optuna(sampler=nsga2)")
DEFAULT = ("auto",)
MODELS = ("bayesian", "bananas", "predictor", "controller", "optuna(sampler=tpe)", "optuna(sampler=gp)")
SEEDS = ((CHEAP, 100), (DEFAULT, 100), (MODELS, 20))
"""How many searches of each; fewer where time is short (--most-seeds)."""

DEVICES = ("latency_pixel3", "latency_raspi4", "latency_eyeriss", "latency_1080ti_1")
SEVERAL = (
    "auto", "bayesian", "nsga2", "random", "evolution(population=20, sample=5)", "optuna(sampler=nsga2)",
    "optuna(sampler=tpe)",
)  # fmt: skip
SEVERAL_TABLE, SEVERAL_EVALUATIONS = "nasbench201/cifar100", 100
"""The latencies were measured with the CIFAR-100 network."""


def available(names: Sequence[str]) -> list[str]:
    """Those strategies that can be made here; the others are named."""
    found = []
    for name in names:
        try:
            bench.Named.parse(name).make()
        except (NasturtiumError, ImportError) as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


def progress(state: bench.Progress) -> None:
    if state.done % 20 == 0 or state.done == state.total:
        print(f"{state.done} of {state.total}, {state.seconds_left / 60:.0f} min left: {state.label}", file=sys.stderr)


def show(folder: Path, checkpoints: Sequence[float]) -> None:
    comparison = bench.load(folder)
    summary = bench.summarize(comparison, checkpoints=checkpoints, margin=MARGIN, candidate="auto")
    print(f"\n# {folder.name}\n\n" + "\n\n".join(text_of(summary)))
    bench_page.write(comparison, summary, folder / "report.html")


def accuracy(arguments: argparse.Namespace) -> None:
    """One objective: validation accuracy at 200 epochs."""
    folder = arguments.output / "accuracy"
    for group, seeds in SEEDS:
        names = available([n for n in group if not arguments.only or n in arguments.only])
        wanted = min(seeds, arguments.most_seeds)
        if names and not arguments.show:
            bench.compare(
                names, TABLES, directory=folder, seeds=wanted, evaluations=EVALUATIONS, processes=arguments.processes,
                data_root=arguments.data_root, progress=progress, redo=arguments.redo,
            )  # fmt: skip
    show(folder, CHECKPOINTS)


def reach(arguments: argparse.Namespace) -> None:
    """Evaluations that the default strategy needs for what evolution has found in many."""
    if not arguments.show:
        bench.compare(
            [REACHED], TABLES, directory=arguments.output / "reach", seeds=min(100, arguments.most_seeds),
            evaluations=REACHED_AT, processes=arguments.processes, data_root=arguments.data_root, progress=progress,
            redo=arguments.redo,
        )  # fmt: skip
    slow, fast = bench.load(arguments.output / "reach"), bench.load(arguments.output / "accuracy")
    for table in TABLES:
        runs, ours = slow.runs[REACHED, table], fast.runs["auto", table]
        target = float(np.mean([curves.best_at(run, np.array([REACHED_AT])) for run in runs]))
        print(
            f"{table}: {REACHED} has {100 * target:.3f} % on validation after {REACHED_AT} (mean of {len(runs)}); auto "
            f"after {curves.mean_evaluations_to_reach(ours, target):.0f} (mean curve of {len(ours)})"
        )


def objectives(arguments: argparse.Namespace) -> None:
    """Accuracy against the latency of each of several devices."""
    for device in DEVICES:
        folder = arguments.output / f"accuracy-{device}"
        names = available([n for n in SEVERAL if not arguments.only or n in arguments.only])
        if names and not arguments.show:
            bench.compare(
                names, [SEVERAL_TABLE], directory=folder, seeds=min(20, arguments.most_seeds),
                evaluations=SEVERAL_EVALUATIONS, processes=arguments.processes,
                data_root=arguments.data_root, progress=progress, redo=arguments.redo,
                objectives=(
                    Objective(metric="accuracy", direction="maximize"), Objective(metric=device, direction="minimize")
                ),
            )  # fmt: skip
        show(folder, (25, 50, 100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["accuracy", "reach", "objectives"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data-root")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--most-seeds", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="these strategies")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--redo", action="store_true", help="make runs of other code or settings anew")
    arguments = parser.parse_args()
    {"accuracy": accuracy, "reach": reach, "objectives": objectives}[arguments.which](arguments)


if __name__ == "__main__":
    main()
