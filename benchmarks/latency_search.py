"""Accuracy within a latency: searched networks beside MobileNetV2 scaled to the same latency, on this machine's CPU.

CIFAR-10, ONNX Runtime, one thread, batch 1. The space (inverted residuals; kernels, expansions, widths and depths open)
is profiled once. For each of three latency budgets (quantiles of the latency of random networks) and each seed, a
search of `--trials` networks, each trained for `--epochs` on `--images` images, keeps to the budget by the table,
measures its finalists, corrects the table and goes on; the best network that is shown to meet the budget is then
trained for `--final-epochs` on `--final-images`. Beside it MobileNetV2 with the width, of a grid, that is the widest
shown to meet the same budget by a measurement, trained alike with the same seed. Both are measured on the 10,000 test
images, once, and their latencies in the same processes, interleaved.

    taskset -c 0 python benchmarks/latency_search.py --data-root PATH/TO/cifar10 --out runs/latency_search

Every part is kept in `--out`; run the same command again after any stop and it goes on, or with `--report`, which only
reads. The defaults are a small protocol, about 45 minutes on a free core: few images, few epochs, few trials, so the
accuracies are far from what such networks reach; `--trials 40 --epochs 8 --images 10000 --final-epochs 40
--final-images 40000` takes about ten hours. `--smoke` takes minutes, and shows nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path

import numpy as np

import nasturtium as nas
from nasturtium.hardware.profiling import plan_profile, profile
from nasturtium.study.verification import Verify
from nasturtium.zoo.mobile import mobilenetv2_small

QUANTILES = (0.2, 0.5, 0.8)
WIDTHS = tuple(k / 8 for k in range(1, 25))
VALIDATION = 2_000


def searched_space(*, smoke: bool) -> nas.Space:
    """Inverted residuals on 32x32 images, about the scaled MobileNetV2's widths at these budgets and twice those."""
    if smoke:
        return nas.Space(nas.Sequential(nas.Conv(8, stride=2), nas.MBConv(nas.one_of(12, 16, 20)), nas.Classifier()))
    stages = [
        nas.repeat(
            nas.MBConv(kernel=nas.one_of(3, 5), expand=nas.one_of(2, 4)), width=nas.one_of(*widths),
            times=nas.one_of(1, 2, 3), stride=stride,
        )
        for widths, stride in (((12, 24), 1), ((16, 32), 2), ((32, 64), 2))
    ]  # fmt: skip
    head = nas.Conv(128, kernel=1)
    return nas.Space(nas.Sequential(nas.Conv(nas.one_of(8, 16), stride=2), *stages, head, nas.Classifier()))


def subset(data_root: Path, images: int, out: Path):
    """A task of so many training images, 2,000 validation images and the official test images, shared by file."""
    tags = {"train": f"train-{images}", "validation": "validation", "test": "test"}
    paths = {name: (out / f"{tag}-images.npy", out / f"{tag}-labels.npy") for name, tag in tags.items()}
    if not all(path.is_file() for pair in paths.values() for path in pair):
        whole = nas.tasks.load("cifar10", data_root=data_root)
        train, test = whole.split("train"), whole.split("test")
        order = np.random.default_rng(0).permutation(len(train))
        parts = {
            "train": (train.images[order[:images]], train.labels[order[:images]]),
            "validation": (train.images[order[-VALIDATION:]], train.labels[order[-VALIDATION:]]),
            "test": (test.images, test.labels),
        }
        for name, (pixels, labels) in parts.items():
            np.save(paths[name][0], pixels)
            np.save(paths[name][1], labels)
    return nas.tasks.from_arrays(name="cifar10", **paths)


def main() -> int:
    """Run and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-root", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--trials", type=int, default=12)
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--images", type=int, default=1_200)
    made.add_argument("--final-epochs", type=int, default=6)
    made.add_argument("--final-images", type=int, default=4_000)
    made.add_argument("--finalists", type=int, default=3, help="measured in each of two rounds")
    made.add_argument("--precision", type=float, default=0.03, help="half width at which a measurement stops")
    made.add_argument("--processes", type=int, nargs=2, default=(6, 10), help="fewest and most of a measurement")
    made.add_argument("--networks", type=int, default=16, help="whole ones for the fit of the table; as many held out")
    made.add_argument("--smoke", action="store_true")
    made.add_argument("--report", action="store_true", help="only read what is there")
    given = made.parse_args()
    if given.smoke:
        given.seeds, given.trials, given.epochs, given.images = 1, 3, 1, 300
        given.final_epochs, given.final_images, given.processes, given.networks = 1, 300, (3, 3), 3
    given.out.mkdir(parents=True, exist_ok=True)
    if given.report:
        show([json.loads(path.read_text()) for path in sorted(given.out.glob("[0-9]*us-*.json"))], given)
        return 0
    task, whole = (subset(given.data_root, n, given.out) for n in (given.images, given.final_images))
    device, space = nas.hardware.device("cpu"), searched_space(smoke=given.smoke)
    few = given.networks
    plan = plan_profile(
        space, device, task.input_shape, name="latency_search", context=dict(task.context), fit=few, held_out=few
    )
    table = profile(
        plan, given.out / "profile.jsonl", progress=lambda p: print(f"profile {p.done}/{p.total}: {p.what}")
    )
    (given.out / "table.txt").write_text(table.text)
    print(table.text, flush=True)
    rows = []
    budgets = budgets_of(table, space, task)
    for seed in range(given.seeds):  # budgets inside, so that a run that is stopped has seen all of them
        scaled = WIDTHS[0]
        for budget in budgets[-1:] if given.smoke else budgets:
            scaled = widest(given, table, task, budget, given.out / f"widths-{1e6 * budget:.0f}us.json", scaled)
            rows.append(one(given, space, table, task, whole, budget, seed, scaled))
    show(rows, given)
    return 0


def budgets_of(table, space: nas.Space, task) -> list[float]:
    """Quantiles of predicted latencies, in seconds, two digits."""
    rng = random.Random(0)
    graphs = [nas.trace(space.sample(rng), task.input_shape, **task.context) for _ in range(300)]
    seconds = sorted(table.predict(graph).seconds for graph in graphs)
    return [float(f"{seconds[int(q * len(seconds))]:.2g}") for q in QUANTILES]


def plan_of(given, table) -> nas.hardware.Plan:
    """Measured for the speed of the machine that the table is stated for."""
    return nas.hardware.Plan(reference=table.reference, precision=given.precision, processes=tuple(given.processes))


def widest(given, table, task, budget: float, record: Path, least: float) -> float:
    """The largest width of MobileNetV2 that is shown to meet a budget; by bisection, kept in a file.

    At least what was shown to meet a smaller budget: on a noisy machine the bisection may end below that.
    """
    if record.is_file():
        return json.loads(record.read_text())
    low, high = WIDTHS.index(least), len(WIDTHS)
    while high - low > 1:
        middle = (low + high) // 2
        graph = nas.trace(mobilenetv2_small(task.input_shape, WIDTHS[middle]), task.input_shape, **task.context)
        met = nas.hardware.measure(graph, table.device, plan=plan_of(given, table)).verdict(budget) == "met"
        low, high = (middle, high) if met else (low, middle)
    print(f"MobileNetV2 within {1e3 * budget:.2f} ms: width {WIDTHS[low]:g}", flush=True)
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
        estimator=nas.estimators.Trained(epochs=given.epochs), trials=given.trials, seed=seed,
        study=given.out / f"{name}.db",
        verify=Verify(finalists=given.finalists, precision=given.precision, processes=tuple(given.processes)),
    )  # fmt: skip
    found = study.best
    networks = {
        "searched": found.architecture,
        "scaled": nas.Architecture.of(mobilenetv2_small(task.input_shape, width)),
    }
    graphs = [nas.trace(network, task.input_shape, **task.context) for network in networks.values()]
    latencies = nas.hardware.measure_all(graphs, table.device, plan=plan_of(given, table))
    row = {
        "budget": budget,
        "seed": seed,
        "width": width,
        "trial": found.number,
        "validation": found.metrics["accuracy"],
        "finalists": len(study.finalists),
        "met": sum(m.verdict(study.constraints[0]) == "met" for m in study.finalists),
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
    print(json.dumps(row), flush=True)
    return row


def show(rows: list[dict], given: argparse.Namespace) -> None:
    """Print and keep the result: the protocol, means and standard deviations over seeds, paired differences."""
    if not rows:
        print("no search has ended yet")
        return
    lines = [
        (given.out / "table.txt").read_text() if (given.out / "table.txt").is_file() else "",
        f"CIFAR-10; search: {given.trials} trials of {given.epochs} epochs on {given.images:,} images, {VALIDATION:,} "
        f"for validation, two rounds of {given.finalists} finalists; then {given.final_epochs} epochs on "
        f"{given.final_images:,} images; 10,000 test images; seeds {sorted({r['seed'] for r in rows})}",
        "",
        "test accuracy: mean ± standard deviation over n seeds; difference: searched minus scaled, paired by seed",
        " budget  n         searched           scaled       difference     latency searched, scaled     met     MACs",
    ]
    for budget in sorted({r["budget"] for r in rows}):
        own = [r for r in rows if r["budget"] == budget]
        gains = [100 * (r["searched"]["test"] - r["scaled"]["test"]) for r in own]
        cells = [spread([100 * r[label]["test"] for r in own]) for label in ("searched", "scaled")]
        times, macs, met = [], [], []
        for label in ("searched", "scaled"):
            times.append(f"{statistics.fmean(1e3 * r[label]['seconds'] for r in own):.3f} ms")
            macs.append(f"{statistics.fmean(r[label]['macs'] for r in own) / 1e6:.1f}M")
            met.append(str(sum(r[label]["verdict"] == "met" for r in own)))
        lines.append(
            f"{1e3 * budget:5.2f}ms  {len(own)}  {cells[0]:>15s}  {cells[1]:>15s}  {spread(gains, '+'):>15s}  "
            f"{', '.join(times):>27s}  {', '.join(met):>6s}  {', '.join(macs)}"
        )
    counted = [(r["finalists"], r["met"]) for r in rows]
    lines += [
        "met: networks whose whole interval lay within the budget when both were measured last, of n; searched, scaled",
        f"finalists measured by the searches: {sum(n for n, _ in counted)}, {sum(m for _, m in counted)} of them met",
    ]
    print("\n".join(lines))
    (given.out / "result.txt").write_text("\n".join(lines))
    (given.out / "result.json").write_text(json.dumps(rows, indent=1))


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    deviation = f"± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.2f} {deviation}"


if __name__ == "__main__":
    raise SystemExit(main())
