"""Accuracy against MACs on Fashion-MNIST: searched networks beside MobileNetV2 and ResNet scaled to the same MACs.

For each seed: a search (regularized evolution) and random search, each of `--trials` networks trained for `--epochs`
on a share of the training images; then, for each budget of MACs, the search's best network within it, random search's
best within it, and MobileNetV2 and ResNet with the width that comes closest to the budget from below are trained from
scratch alike (`--final-epochs`, all training images, same recipe and seed) and measured on the test images.

Every part is kept in `--out`; run the same command again after any stop and it goes on.

    python benchmarks/fashion_mnist.py --data-root PATH/TO/fashion_mnist --out runs/fashion --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

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


def final(name, architecture, task, seed, arguments, folder):
    """Train from scratch and measure on test, once; kept in a file."""
    record = folder / "result.json"
    if record.is_file():
        return json.loads(record.read_text())
    estimator = nas.estimators.Trained(epochs=arguments.final_epochs)
    job = nas.estimators.Job(task=task, seed=seed, directory=folder, threads=arguments.threads)
    metrics = estimator.estimate(architecture, nas.trial.FULL, job)
    test = nas.estimators.measure_test(architecture, task, weights=folder)
    cost = nas.cost(architecture.block, task.input_shape, **task.context)
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--final-epochs", type=int, default=8)
    parser.add_argument("--budgets", type=float, nargs="+", default=[5e5, 1e6, 2e6])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    task = nas.tasks.load("fashion-mnist", data_root=arguments.data_root)
    space = nas.zoo.space("mobile", task.input_shape)
    rows = []
    for seed in arguments.seeds:
        study = nas.search(
            space, task, maximize="accuracy", minimize="macs", constraints=[nas.macs <= max(arguments.budgets)],
            estimator=nas.estimators.Trained(epochs=arguments.epochs), trials=arguments.trials, seed=seed,
            workers=arguments.workers, baseline="random", study=arguments.out / f"seed{seed}.db",
        )  # fmt: skip
        print(f"seed {seed}: {study.comparison().text}", flush=True)
        for budget in arguments.budgets:
            rivals = {
                "search": within(study.feasible(), budget),
                "random search": within(study.feasible("baseline:random"), budget),
            }
            networks = {name: m.architecture for name, m in rivals.items() if m is not None}
            for name, family in (("MobileNetV2", nas.zoo.mobilenetv2_small), ("ResNet", nas.zoo.resnet_small)):
                found = scaled(family, task.input_shape, task.classes, budget)
                if found is not None:
                    networks[name] = nas.Architecture.of(found[1])
            for name, architecture in networks.items():
                folder = arguments.out / "final" / f"{name.replace(' ', '-')}-{int(budget)}-{seed}"
                rows.append((budget, final(name, architecture, task, seed, arguments, folder)))
                print(f"  {format_count(budget)} {rows[-1][1]}", flush=True)
    table(rows, arguments)


def table(rows, arguments):
    """Print mean and spread of the test accuracy, by budget and kind."""
    print(f"\nFashion-MNIST, test accuracy in %, mean ± std over n seeds; final training {arguments.final_epochs} epochs;")
    print(f"search and random search: {arguments.trials} trials of {arguments.epochs} epochs each\n")
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
