"""How far tables of kernels are off on whole networks, for each device and runtime of this machine.

Profiles a space on each device (resumable: run it again after a stop) and prints the error on held-out whole networks,
for the plain sum of kernels, for the fitted table, and for a predictor learned from the same whole networks.

    OMP_NUM_THREADS=1 python benchmarks/latency_table.py --devices cpu cpu-eager cpu-int8 --space proxylessnas \
        --folder runs/tables --out tables.json
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
    assert table.error is not None
    return {
        "device": plan.device.to_dict(),
        "kernels": len(table.seconds),
        "fit": table.fit.to_dict(),
        "sum": error_report([plain(row.kernels) for row in table.held_out], times).to_dict(),
        "table": table.error.to_dict(),
        "predictor": error_report(
            guesses, [times[number] for number in read], training=len(rows), unreadable=len(held) - len(read)
        ).to_dict(),
        "milliseconds": [1e3 * min(times), 1e3 * max(times)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=["cpu", "cpu-eager", "cpu-int8"])
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--input", dest="shape", help="channels x height x width; the space's own by default")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=32, help="whole networks for the fit, and as many held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="where the profiles lie")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    shape = parse_shape(given.shape) if given.shape else nas.zoo.family(given.space).input_shape
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
        for model in ("sum", "table", "predictor"):
            print(f"  {model:10} {json.dumps(results[-1][model])}", flush=True)
    if given.out:
        given.out.write_text(json.dumps({"space": given.space, "input": list(shape), "results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
