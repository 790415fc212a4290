"""How far tables of kernels are off on whole networks, for each device and runtime of this machine.

Profiles a space on each device (resumable: run it again after a stop) and prints the error on held-out whole networks,
for the plain sum of kernels, for the fitted table, and for a predictor learned from the same whole networks.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/latency_table.py --folder runs/tables

About ten minutes on a free core for the space of ProxylessNAS on 3x96x96 inputs; `--smoke` takes one or two, and shows
nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nasturtium as nas
from nasturtium.cli.options import parse_shape
from nasturtium.hardware import (
    GraphFeatures,
    LatencyTable,
    ProfilePlan,
    device,
    error_report,
    fit_predictor,
    plan_profile,
    profile,
)
from nasturtium.hardware.additive import fit_additive
from nasturtium.hardware.latency import Measured


def compared(plan: ProfilePlan, table: LatencyTable) -> dict[str, Any]:
    """Errors of three models on the same held-out networks."""
    times = [row.seconds for row in table.held_out]
    plain = fit_additive([row.kernels for row in table.fitted], [row.seconds for row in table.fitted], "sum")
    learning = [task.graph for task in plan.tasks if task.use == "fit"]
    held = [task.graph for task in plan.tasks if task.use == "held_out"]
    rows = [Measured(graph, row.seconds) for graph, row in zip(learning, table.fitted, strict=True)]
    predictor = fit_predictor(plan.device, rows, held_out=0.0)
    assert isinstance(predictor.features, GraphFeatures)
    read = [number for number, graph in enumerate(held) if predictor.features.reads(graph)]
    guesses = [predictor.predict(held[number]).seconds for number in read]
    times_read = [times[number] for number in read]
    assert table.error is not None
    return {
        "device": plan.device.to_dict(),
        "kernels": len(table.seconds),
        "fit": table.fit.to_dict(),
        "sum": error_report([plain(row.kernels) for row in table.held_out], times).to_dict(),
        "table": table.error.to_dict(),
        "predictor": error_report(guesses, times_read, training=len(rows), unreadable=len(held) - len(read)).to_dict()
        if read
        else None,
        "milliseconds": [1e3 * min(times), 1e3 * max(times)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cpu-eager", "cpu-int8"])
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--input", dest="shape", default="3x96x96", help="channels x height x width")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=16, help="whole networks for the fit, and as many held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="where the profiles and the results lie")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(argv)
    if given.smoke:
        given.devices, given.space, given.shape, given.networks = given.devices[:1], "nasbench_macro", "3x32x32", 6
    shape = parse_shape(given.shape)
    space = nas.zoo.space(given.space, input_shape=shape)
    given.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in given.devices:
        plan = plan_profile(
            space, device(name), shape, name=given.space, context={"classes": given.classes}, fit=given.networks,
            held_out=given.networks, seed=given.seed,
        )  # fmt: skip
        print(plan.text, flush=True)
        path = given.folder / f"{given.space}-{name}.jsonl"
        table = profile(
            plan, path, progress=lambda p: print(f"  {p.done}/{p.total}, {p.left:.0f} s left", file=sys.stderr)
        )
        results.append(compared(plan, table))
        lines = [
            f"{given.space} on {given.shape}, seed {given.seed}; each kernel measured once, {given.networks} whole "
            f"networks for the fit and {given.networks} held out; {table.machine}",
            "device     kernels  networks ms      model      within 5 %  within 10 %   RMSPE  Spearman   n",
            *[line for result in results for line in rows_of(result)],
        ]
        (given.folder / "result.txt").write_text("\n".join(lines))
        (given.folder / "result.json").write_text(
            json.dumps({"space": given.space, "input": list(shape), "results": results}, indent=1)
        )
    print("\n".join(lines))
    return 0


def rows_of(result: dict[str, Any]) -> list[str]:
    """Lines of the table: one for each model of a device."""
    low, high = result["milliseconds"]
    lines = []
    for model, name in (("sum", "sum"), ("table", result["fit"]["form"]), ("predictor", "predictor")):
        report = result[model]
        if report is None:
            lines.append(
                f"{result['device']['name']:10s} {'':7s}  the {name} refuses all: kinds of kernels that it lacks"
            )
            continue
        ranks = "" if report["spearman"] is None else f"{report['spearman']:8.3f}"
        lines.append(
            f"{result['device']['name']:10s} {result['kernels']:7d}  {low:5.2f} to {high:5.2f}  {name:9s}  "
            f"{report['within_5']:10.0%}  {report['within_10']:11.0%}  {report['rmspe']:6.1%}  {ranks:>8s}  "
            f"{report['networks']:2d}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
