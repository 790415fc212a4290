"""Accuracy within a latency: searched networks beside MobileNetV2 scaled to the same latency, on this machine's CPU.

CIFAR-10, ONNX Runtime, one thread, batch 1. The space (inverted residuals; kernels, expansions, widths and depths open)
is profiled once. For each of three latency budgets and each seed, a search of `--trials` networks, each trained for
`--epochs` on `--images` images, keeps to the budget by the table, measures its finalists, corrects the table and goes
on; the best network that is shown to meet the budget is then trained for `--final-epochs`. Beside it MobileNetV2 with
the width, of a grid, that is the widest shown to meet the same budget by a measurement, trained alike with the same
seed. Both are measured on the 10,000 test images, once, and their latencies in the same processes, interleaved.

    python benchmarks/latency_search.py --data-root PATH/TO/cifar10 --out runs/latency_search

Every part is kept in `--out`; run the same command again after any stop and it goes on. About ten hours on a free core;
`--smoke` takes minutes, and shows nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

import nasturtium as nas
from nasturtium.hardware.profiling import plan_profile, profile
from nasturtium.study.verification import Verify
from nasturtium.zoo.mobile import mobilenetv2_small

BUDGETS = (0.5e-3, 1.0e-3, 2.0e-3)
WIDTHS = tuple(k / 8 for k in range(2, 41))


def searched_space() -> nas.Space:
    """Inverted residuals on 32x32 images, from half to four times the widths of the scaled MobileNetV2."""
    stages = [
        nas.repeat(
            nas.MBConv(kernel=nas.one_of(3, 5), expand=nas.one_of(2, 4, 6)), width=nas.one_of(*widths),
            times=nas.one_of(1, 2, 3, 4), stride=stride,
        )
        for widths, stride in (((16, 24, 40), 1), ((24, 40, 64), 2), ((48, 80, 128), 2))
    ]  # fmt: skip
    head = nas.Conv(nas.one_of(64, 128, 256), kernel=1)
    return nas.Space(nas.Sequential(nas.Conv(nas.one_of(16, 24, 32), stride=2), *stages, head, nas.Classifier()))


def subset(data_root: Path, images: int, out: Path):
    """A task of so many training images, 5,000 validation images and the official test images, shared by file."""
    whole = nas.tasks.load("cifar10", data_root=data_root)
    train, test = whole.split("train"), whole.split("test")
    order = np.random.default_rng(0).permutation(len(train))
    parts = {
        "train": (train.images[order[:images]], train.labels[order[:images]]),
        "validation": (train.images[order[-5000:]], train.labels[order[-5000:]]),
        "test": (test.images, test.labels),
    }
    paths = {}
    for name, (pixels, labels) in parts.items():
        paths[name] = (out / f"{name}-{images}-images.npy", out / f"{name}-{images}-labels.npy")
        if not paths[name][1].is_file():
            np.save(paths[name][0], pixels)
            np.save(paths[name][1], labels)
    return nas.tasks.from_arrays(name="cifar10", **paths)


def main() -> int:
    """Run and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-root", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--trials", type=int, default=40)
    made.add_argument("--epochs", type=int, default=8)
    made.add_argument("--images", type=int, default=10_000)
    made.add_argument("--final-epochs", type=int, default=40)
    made.add_argument("--final-images", type=int, default=45_000)
    made.add_argument("--workers", type=int, default=1)
    made.add_argument("--smoke", action="store_true")
    given = made.parse_args()
    if given.smoke:
        given.seeds, given.trials, given.epochs, given.images = 1, 3, 1, 500
        given.final_epochs, given.final_images = 1, 500
    given.out.mkdir(parents=True, exist_ok=True)
    task, whole = (subset(given.data_root, n, given.out) for n in (given.images, given.final_images))
    device, space = nas.hardware.device("cpu"), searched_space()
    few = 3 if given.smoke else 32
    plan = plan_profile(
        space, device, task.input_shape, name="latency_search", context=dict(task.context), fit=few, held_out=few
    )
    table = profile(
        plan, given.out / "profile.jsonl", progress=lambda p: print(f"profile {p.done}/{p.total}: {p.what}")
    )
    print(table.text)
    rows = []
    for budget in BUDGETS[:1] if given.smoke else BUDGETS:
        scaled = widest(table, task, budget, given.out / f"widths-{1e6 * budget:.0f}us.json")
        rows += [one(given, space, table, task, whole, budget, seed, scaled) for seed in range(given.seeds)]
    (given.out / "result.json").write_text(json.dumps(rows, indent=1))
    show(rows)
    return 0


def plan_of(table) -> nas.hardware.Plan:
    """Measured for the speed of the machine that the table is stated for."""
    return nas.hardware.Plan(reference=table.reference)


def widest(table, task, budget: float, record: Path) -> float:
    """The largest width of MobileNetV2 that is shown to meet a budget; by bisection, kept in a file."""
    if record.is_file():
        return json.loads(record.read_text())
    low, high = 0, len(WIDTHS)
    while high - low > 1:
        middle = (low + high) // 2
        graph = nas.trace(mobilenetv2_small(task.input_shape, WIDTHS[middle]), task.input_shape, **task.context)
        met = nas.hardware.measure(graph, table.device, plan=plan_of(table)).verdict(budget) == "met"
        low, high = (middle, high) if met else (low, middle)
    record.write_text(json.dumps(WIDTHS[low]))
    return WIDTHS[low]


def one(given, space: nas.Space, table, task, whole, budget: float, seed: int, width: float) -> dict:
    """One search, both networks trained and measured; kept in a file."""
    name = f"{1e6 * budget:.0f}us-{seed}"
    record = given.out / f"{name}.json"
    if record.is_file():
        return json.loads(record.read_text())
    study = nas.search(
        space, task, maximize="accuracy", constraints=[nas.latency("cpu") <= budget], latency={"cpu": table},
        estimator=nas.estimators.Trained(epochs=given.epochs), trials=given.trials, seed=seed, workers=given.workers,
        study=given.out / f"{name}.db", verify=Verify(finalists=6),
    )  # fmt: skip
    found = study.best
    networks = {
        "searched": found.architecture,
        "scaled": nas.Architecture.of(mobilenetv2_small(task.input_shape, width)),
    }
    graphs = [nas.trace(network, task.input_shape, **task.context) for network in networks.values()]
    latencies = nas.hardware.measure_all(graphs, table.device, plan=plan_of(table))
    row = {
        "budget": budget,
        "seed": seed,
        "width": width,
        "trial": found.number,
        "validation": found.metrics["accuracy"],
    }
    for (label, network), graph, latency in zip(networks.items(), graphs, latencies, strict=True):
        folder = given.out / f"final-{name}-{label}"
        job = nas.estimators.Job(task=whole, seed=seed, directory=folder, threads=1)
        nas.estimators.Trained(epochs=given.final_epochs).estimate(network, nas.trial.FULL, job)
        test = nas.estimators.measure_test(network, whole, weights=folder)
        row[label] = {
            "test": test.accuracy, "seconds": latency.seconds, "interval": [latency.low, latency.high],
            "verdict": latency.verdict(budget), "params": graph.params, "macs": graph.macs,
        }  # fmt: skip
    record.write_text(json.dumps(row))
    print(json.dumps(row))
    return row


def show(rows: list[dict]) -> None:
    """Means and standard deviations over seeds, and the paired difference."""
    print(
        f"{'budget':>8}  {'n':>2}  {'searched':>16}  {'scaled':>16}  {'difference':>12}  latencies (searched, scaled)"
    )
    for budget in sorted({r["budget"] for r in rows}):
        own = [r for r in rows if r["budget"] == budget]
        cells = []
        for label in ("searched", "scaled"):
            values = [100 * r[label]["test"] for r in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):6.2f} ± {spread:.2f} %")
        gain = statistics.fmean(100 * (r["searched"]["test"] - r["scaled"]["test"]) for r in own)
        times = [statistics.fmean(1e3 * r[label]["seconds"] for r in own) for label in ("searched", "scaled")]
        print(
            f"{1e3 * budget:6.2f}ms  {len(own):>2}  {cells[0]:>16}  {cells[1]:>16}  {gain:+9.2f} pt  "
            f"{times[0]:.3f} ms, {times[1]:.3f} ms"
        )


if __name__ == "__main__":
    raise SystemExit(main())
