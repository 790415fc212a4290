"""Once-for-All on Fashion-MNIST: networks for several budgets out of one supernet, beside random search.

Space: three stages of inverted residuals on 28x28 images; kernel (3, 5, 7) and expansion (2, 3, 4) of every block and
depth (1, 2, 3) of every stage are open: 819^3 = 549,353,259 networks.

Protocol (the defaults; at most 30 minutes on 2 CPU threads), for each of --seeds seeds:
  1. one supernet, progressive shrinking in --epochs epochs over --images train images (the plan of the authors' code,
     elastic kernels with transform matrices, the largest network as teacher); --measured random sub-networks are
     measured, a predictor learns their accuracy, and evolution finds the best predicted within each of --budgets MACs;
     the time of each part is printed;
  2. random search that trains networks alone, --alone epochs each, within the same budgets, for as many seconds in all
     as step 1 took, shared out equally among the budgets;
  3. for each budget, measured once on test: the specialised network with inherited weights, recalibrated; the same
     fine-tuned for --tune epochs; the same from scratch for --final epochs; random search's from scratch alike.

    python examples/once_for_all.py --data-root ../shared/data --out runs/once_for_all
    python examples/once_for_all.py --data-root ../shared/data --out runs/once_for_all-smoke --smoke
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_random import at_random, final, kept, load, parser, small

import nasturtium as nas
from nasturtium.supernets import Alone, OnceForAll, Run, calibration_batches
from nasturtium.supernets.once_for_all import specialized_network
from nasturtium.tasks import Task
from nasturtium.training import Recipe, evaluate, fit

STAGES = ((16, 1), (24, 2), (40, 2))
"""Channels and stride of each stage."""
BUDGETS = (1_000_000.0, 1_600_000.0, 2_400_000.0)
"""MACs of the networks that are wanted."""
TUNING_RATE = 0.1
"""Learning rate of fine-tuning, relative to that of training from scratch."""


def make_space() -> nas.Space:
    """A small space of Once-for-All's kind."""
    stages = [
        nas.repeat(
            nas.MBConv(width, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(2, 3, 4), act="hardswish", divisor=8),
            nas.one_of(1, 2, 3),
            stride=stride,
        )
        for width, stride in STAGES
    ]
    return nas.Space(nas.Sequential(nas.Conv(8, stride=2, act="hardswish"), *stages, nas.Classifier()))


def options() -> argparse.Namespace:
    """What the command line says."""
    made = parser(__doc__)
    made.set_defaults(images=3000, seeds=2)
    made.add_argument("--epochs", type=int, default=15, help="of the supernet")
    made.add_argument("--measured", type=int, default=60, help="sub-networks that the predictor learns from")
    made.add_argument("--tune", type=int, default=2, help="epochs of fine-tuning")
    made.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS), help="MACs")
    given = made.parse_args()
    if given.smoke:
        small(given, epochs=6, measured=6, tune=1, budgets=given.budgets[:2])
    return given


def searched(method: OnceForAll, space: nas.Space, task: Task, seed: int, out: Path) -> dict[str, Any]:
    """The search of one seed: an architecture for each budget."""

    def report(record: Mapping[str, float]) -> None:
        print("  " + ", ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)

    def make() -> dict[str, Any]:
        result = method.search(space, Run(task=task, seed=seed, directory=out / f"search-{seed}", report=report))
        found = [{"architecture": f.architecture.to_dict(), "evidence": dict(f.evidence)} for f in result.found]
        return {"found": found, "seconds": result.seconds, "steps": result.steps, "notes": result.notes}

    return kept(out / f"search-{seed}.json", make)


def inherited(
    method: OnceForAll, space: nas.Space, task: Task, seed: int, stored: list[Any], given: argparse.Namespace
) -> dict[str, Any]:
    """Test accuracy with inherited weights, and after fine-tuning, for each budget."""

    def make() -> dict[str, Any]:
        shared = method.make(space, task, seed=seed)
        method.train(shared, space, Run(task=task, seed=seed, directory=given.out / f"search-{seed}"))
        batches = calibration_batches(task, images=method.calibration, seed=seed)
        recipe = Recipe(learning_rate=TUNING_RATE * Recipe().peak_learning_rate(64))
        rows = []
        for found in stored:
            architecture = space.adopt(nas.Architecture.from_dict(found["architecture"]))
            network = specialized_network(shared, architecture, batches)
            before = evaluate(network, task, "test").accuracy
            tuned = fit(network.train(), task, recipe, epochs=given.tune, seed=seed)
            rows.append({"inherited": before, "tuned": evaluate(network, task, "test").accuracy, "s": tuned.seconds})
        return {"rows": rows}

    return kept(given.out / f"inherited-{seed}.json", make)


def one_seed(
    method: OnceForAll, space: nas.Space, task: Task, seed: int, given: argparse.Namespace
) -> list[dict[str, Any]]:
    """All that one seed gives: a row for each budget."""
    print(f"seed {seed}: supernet and search", flush=True)
    result = searched(method, space, task, seed, given.out)
    print(f"  {result['seconds']:.0f} s, {result['steps']} steps. {' '.join(result['notes'])}", flush=True)
    weights = inherited(method, space, task, seed, result["found"], given)["rows"]
    rows = []
    for budget, found, own in zip(given.budgets, result["found"], weights, strict=True):
        there = copy.copy(given)
        there.out = given.out / f"budget-{budget:.0f}"
        there.out.mkdir(parents=True, exist_ok=True)
        seconds = result["seconds"] / len(given.budgets)
        random = at_random(space, task, seconds, seed, int(budget), there)
        ours = final("ours", found["architecture"], task, seed, there)
        theirs = final("random", random["architecture"], task, seed, there)
        row = {
            "inherited": own["inherited"], "tuned": own["tuned"], "scratch": ours["test"], "random": theirs["test"],
            "macs": ours["macs"], "params": ours["params"], "random macs": theirs["macs"],
            "random networks": random["networks"], "predicted": found["evidence"]["predicted_accuracy"],
            "shared": found["evidence"]["shared_accuracy"], "seconds": result["seconds"],
        }  # fmt: skip
        print(f"  {budget:,.0f} MACs: " + ", ".join(f"{k} {v:.6g}" for k, v in row.items()), flush=True)
        rows.append(row)
    return rows


def main() -> int:
    """Run and print."""
    given = options()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    space, task = make_space(), load(given)
    method = OnceForAll(
        epochs=given.epochs, budgets=tuple(given.budgets), measured=given.measured, calibration=min(500, given.images),
        sample=5, alone=Alone(epochs=given.alone),
    )  # fmt: skip
    every = [one_seed(method, space, task, seed, given) for seed in range(given.seeds)]
    print(
        f"\nFashion-MNIST, {given.images} train images, {given.validation} for validation, {space.size:,} networks, "
        f"seeds 0 to {given.seeds - 1} (n = {given.seeds}), supernet {given.epochs} epochs, scratch {given.final}, "
        f"fine-tuned {given.tune}. Test accuracy in %, mean and standard deviation over seeds."
    )
    columns = ("inherited", "tuned", "scratch", "random")
    print(f"{'MACs at most':>14}" + "".join(f"{name:>18}" for name in columns) + f"{'MACs':>12}{'params':>10}")
    for number, budget in enumerate(given.budgets):
        rows = [seed_rows[number] for seed_rows in every]
        cells = []
        for name in columns:
            values = 100 * np.array([row[name] for row in rows])
            spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "n = 1"
            cells.append(f"{f'{values.mean():.2f} ± {spread}':>18}")
        macs, params = (float(np.mean([row[name] for row in rows])) for name in ("macs", "params"))
        print(f"{budget:>14,.0f}" + "".join(cells) + f"{macs:>12,.0f}{params:>10,.0f}")
    seconds = [rows[0]["seconds"] for rows in every]
    networks = [row["random networks"] for rows in every for row in rows]
    print(
        f"Search, supernet included: {np.mean(seconds):.0f} s a seed for all budgets; random search had as long, and "
        f"trained {np.mean(networks):.1f} networks a budget."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
