"""Accuracy against MACs on Fashion-MNIST: searched networks beside MobileNetV2 and ResNet scaled to the same MACs.

A search (regularized evolution) and random search, each of `--trials` networks trained for `--epochs` on `--images`
training images; then, for each budget of MACs, the search's best network within it by validation accuracy, random
search's best within it, and MobileNetV2 and ResNet with the width that comes closest to the budget from below are
trained from scratch alike for `--final-epochs`, with `--seeds` each, and measured on the 10,000 test images.

Every part is kept in `--out`; run the same command again after any stop and it goes on.

    python benchmarks/fashion_mnist.py --data-root PATH/TO/fashion_mnist --out runs/fashion
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import nasturtium as nas
from nasturtium.trial import format_count


def scaled(family, input_shape, classes, budget):
    """The member of a family of widths whose MACs come closest to the budget from below."""
    best = None
    for step in range(4, 400):
        block = family(input_shape, step / 40)
        macs = nas.cost(block, input_shape, classes=classes).macs
        if macs <= budget and (best is None or macs >= best[0]):
            best = (macs, block)
        if macs > 1.5 * budget:
            break
    return best


def subset(data_root, images, out):
    """A task of so many training images, 4,000 validation images and the official test images, shared by file."""
    whole = nas.tasks.load("fashion-mnist", data_root=data_root)
    train, test = whole.split("train"), whole.split("test")
    order = np.random.default_rng(0).permutation(len(train))
    parts = {
        "train": (train.images[order[:images]], train.labels[order[:images]]),
        "validation": (train.images[order[-4000:]], train.labels[order[-4000:]]),
        "test": (test.images, test.labels),
    }
    paths = {}
    out.mkdir(parents=True, exist_ok=True)
    for name, (pixels, labels) in parts.items():
        paths[name] = (out / f"{name}-{images}-images.npy", out / f"{name}-{images}-labels.npy")
        if not paths[name][1].is_file():
            np.save(paths[name][0], pixels)
            np.save(paths[name][1], labels)
    return nas.tasks.from_arrays(name="fashion-mnist", **paths)


def final(name, architecture, reference, seed, epochs, folder):
    """Train from scratch and measure on test, once; kept in a file."""
    record = folder / "result.json"
    if record.is_file():
        return json.loads(record.read_text())
    task = nas.tasks.open(nas.tasks.TaskReference.from_dict(reference))
    network = nas.Architecture.from_dict(architecture)
    estimator = nas.estimators.Trained(epochs=epochs)
    job = nas.estimators.Job(task=task, seed=seed, directory=folder, threads=1)
    metrics = estimator.estimate(network, nas.trial.FULL, job)
    test = nas.estimators.measure_test(network, task, weights=folder)
    cost = nas.cost(network.block, task.input_shape, **task.context)
    result = {
        "name": name, "seed": seed, "macs": cost.macs, "params": cost.params, "validation": metrics["accuracy"],
        "test": test.accuracy, "seconds": metrics["train_seconds"],
    }  # fmt: skip
    record.write_text(json.dumps(result))
    return result


def within(members, budget):
    """The best validated network with at most so many MACs."""
    fitting = [m for m in members if m.metrics["macs"] <= budget]
    return max(fitting, key=lambda m: m.metrics["accuracy"], default=None)


def main():
    """Run or go on, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--search-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--final-epochs", type=int, default=5)
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.2e6, 2e6])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    task = subset(arguments.data_root, arguments.images, arguments.out / "data")
    study = nas.search(
        nas.zoo.space("mobile", task.input_shape), task, maximize="accuracy", minimize="macs",
        constraints=[nas.macs <= max(arguments.budgets)], estimator=nas.estimators.Trained(epochs=arguments.epochs),
        trials=arguments.trials, seed=arguments.search_seed, workers=arguments.workers, baseline="random",
        study=arguments.out / f"search{arguments.search_seed}.db", listeners=[tell],
    )  # fmt: skip
    print(study.comparison().text, flush=True)
    jobs = []
    for budget in arguments.budgets:
        for name, architecture in rivals(study, task, budget).items():
            for seed in arguments.seeds:
                label = f"{name.replace(' ', '-')}-{int(budget)}-{arguments.search_seed}-{seed}"
                folder = arguments.out / "final" / label
                jobs.append((budget, (name, architecture.to_dict(), task.reference.to_dict(), seed,
                                      arguments.final_epochs, folder)))  # fmt: skip
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        rows = [(budget, pool.submit(final, *job)) for budget, job in jobs]
        table([(budget, row.result()) for budget, row in rows], arguments)


def tell(event):
    """Show that it moves."""
    if isinstance(event, nas.study.TrialFinished):
        metrics = event.trial.metrics
        print(f"  {event.role} {event.trial.number}: {metrics.get('accuracy')} {metrics.get('macs')}", flush=True)


def rivals(study, task, budget):
    """The networks to compare at one budget, by name."""
    found = {
        "search": within(study.feasible(), budget),
        "random search": within(study.feasible("baseline:random"), budget),
    }
    networks = {name: m.architecture for name, m in found.items() if m is not None}
    for name, family in (("MobileNetV2", nas.zoo.mobilenetv2_small), ("ResNet", nas.zoo.resnet_small)):
        near = scaled(family, task.input_shape, task.classes, budget)
        if near is not None:
            networks[name] = nas.Architecture.of(near[1])
    return networks


def table(rows, arguments):
    """Print mean and spread of the test accuracy, by budget and kind."""
    print(
        f"\nFashion-MNIST, test accuracy in %, mean ± std over n seeds; final training {arguments.final_epochs} epochs;"
    )
    print(
        f"search and random search: {arguments.trials} trials of {arguments.epochs} epochs each, seed "
        f"{arguments.search_seed}; {arguments.images:,} training images throughout\n"
    )
    print(f"{'budget':>8}  {'network':<14} {'n':>2}  {'test':>14}  {'MACs':>8}  {'params':>8}")
    for budget in arguments.budgets:
        for name in ("search", "random search", "MobileNetV2", "ResNet"):
            group = [r for b, r in rows if b == budget and r["name"] == name]
            if not group:
                continue
            values = [100 * r["test"] for r in group]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            macs = format_count(statistics.mean(r["macs"] for r in group))
            params = format_count(statistics.mean(r["params"] for r in group))
            print(
                f"{format_count(budget):>8}  {name:<14} {len(group):>2}  "
                f"{statistics.mean(values):>6.2f} ± {spread:<5.2f}  {macs:>8}  {params:>8}"
            )


if __name__ == "__main__":
    main()
