"""Do finalists meet their latency when it is measured again? Searches under several limits, on this machine's CPU.

The space (3x96x96 inputs, networks of 1 ms to about 10 ms under ONNX Runtime) is profiled once. Then, for each limit
(quantiles of the latency of random networks) and seed, a search makes the network as large as it can within the limit:
the estimator is the number of MACs, so every search ends at the limit, where the model's error counts most. Its
finalists are measured, the model is corrected, and it goes on, in rounds. Last, every network that a search reports as
meeting its limit is measured again, in other processes, by this script.

Printed are, of all finalists, the share that met their limit
  - by the model alone: those that it predicted to meet it, when first measured;
  - as the search reports them: those that it says meet it, when measured again here.

    python benchmarks/finalists.py --out runs/finalists

Every part is kept in `--out`; run the same command again after any stop and it goes on. About an hour on a free core;
`--smoke` is a minute, and shows nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import nasturtium as nas
from nasturtium.hardware.profiling import plan_profile, profile
from nasturtium.study.verification import Verify
from nasturtium.tasks.dataless import without_data
from nasturtium.tasks.statistics import wilson

SHAPE = (3, 96, 96)
CONTEXT = {"classes": 10}
QUANTILES = (0.15, 0.35, 0.55, 0.75, 0.9)
LEAST = 1e-3
"""Seconds: limits below are left out, since a clock's grain and the cost of a call count there."""


def searched_space(*, smoke: bool) -> nas.Space:
    """Inverted residuals in four stages; two in a smoke test."""
    widths = ((24, 32), (40, 56)) if smoke else ((16, 24, 32), (32, 40, 56), (64, 80, 96), (96, 128))
    stages = [
        nas.repeat(
            nas.MBConv(kernel=nas.one_of(3, 5), expand=nas.one_of(3, 6)), width=nas.one_of(*options),
            times=nas.one_of(1, 2, 3), stride=2,
        )
        for options in widths
    ]  # fmt: skip
    return nas.Space(nas.Sequential(nas.Conv(16, stride=2), *stages, nas.Classifier()))


@dataclass(frozen=True)
class Size:
    """Not how good a network is, but how large: a stand-in that drives every search to its limit."""

    deterministic: bool = True
    fingerprint: str = "size"

    @property
    def known_metrics(self):
        """Its metric."""
        return {"size": nas.trial.Metric(name="size", direction="maximize", description="MACs in millions")}

    def estimate(self, architecture, fidelity, job):
        """Millions of MACs."""
        return {"size": nas.cost(architecture.block, job.task.input_shape, **job.task.context).macs / 1e6}

    def expected_seconds(self, task, macs):
        """None to speak of."""
        return 0.01

    def to_dict(self):
        """Nothing."""
        return {}


def main() -> int:
    """Run and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--device", default="cpu")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--trials", type=int, default=60)
    made.add_argument("--finalists", type=int, default=5, help="of each round")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--smoke", action="store_true")
    given = made.parse_args()
    if given.smoke:
        given.seeds, given.trials, given.finalists = 1, 8, 2
    given.out.mkdir(parents=True, exist_ok=True)
    device, space = nas.hardware.device(given.device), searched_space(smoke=given.smoke)
    few = 4 if given.smoke else 32
    plan = plan_profile(space, device, SHAPE, name="finalists", context=CONTEXT, fit=few, held_out=few)
    table = profile(
        plan, given.out / "profile.jsonl", progress=lambda p: print(f"profile {p.done}/{p.total}: {p.what}")
    )
    print(table.text)
    rows = []
    for limit in limits_of(table, space, smoke=given.smoke):
        for seed in range(given.seeds):
            rows += one(given, space, table, limit, seed)
    summary = report(rows)
    (given.out / "result.json").write_text(json.dumps({"summary": summary, "rows": rows}, indent=1))
    print(json.dumps(summary, indent=1))
    return 0


def limits_of(table, space: nas.Space, *, smoke: bool) -> list[float]:
    """Quantiles of predicted latencies, in seconds, three digits."""
    rng = random.Random(0)
    graphs = [nas.trace(space.sample(rng), SHAPE, **CONTEXT) for _ in range(20 if smoke else 300)]
    seconds = sorted(table.predict(graph).seconds for graph in graphs)
    found = [float(f"{seconds[int(q * len(seconds))]:.3g}") for q in (QUANTILES[2:3] if smoke else QUANTILES)]
    return found if smoke else [value for value in found if value >= LEAST]


def one(given, space: nas.Space, table, limit: float, seed: int) -> list[dict]:
    """One search, and its finalists measured again; kept in a file."""
    name = f"{1e6 * limit:.0f}us-{seed}"
    record = given.out / f"{name}.json"
    if record.is_file():
        return json.loads(record.read_text())
    study = nas.search(
        space, without_data("no data", SHAPE, 10), maximize="size", constraints=[nas.latency(table.device) <= limit],
        latency={table.device: table}, strategy=nas.strategies.RegularizedEvolution(population=16, sample=4),
        estimator=Size(), trials=given.trials, seed=seed, study=given.out / f"{name}.db",
        verify=Verify(finalists=given.finalists, rounds=given.rounds),
    )  # fmt: skip
    metric, constraint = f"latency({table.device.name})", study.constraints[0]
    members = list(study.finalists)
    plan = nas.hardware.Plan(reference=table.reference, processes=(6, 6), precision=None) if given.smoke else (
        nas.hardware.Plan(reference=table.reference)
    )  # fmt: skip
    again = nas.hardware.measure_all(
        [nas.trace(m.architecture, SHAPE, **CONTEXT) for m in members], table.device, plan=plan
    )
    rows = []
    for member, measured in zip(members, again, strict=True):
        evidence = member.evidence[metric]
        rows.append(
            {
                "limit": limit, "seed": seed, "trial": member.number, "size": member.metrics["size"],
                "predicted": evidence.predicted, "measured": evidence.measurement.seconds,
                "interval": [evidence.measurement.low, evidence.measurement.high],
                "verdict": member.verdict(constraint), "again": measured.seconds,
                "again_interval": [measured.low, measured.high], "again_verdict": measured.verdict(limit),
            }
        )  # fmt: skip
    record.write_text(json.dumps(rows))
    print(
        f"{name}: {len(rows)} finalists, {sum(r['verdict'] == 'met' for r in rows)} reported as meeting {limit:.3g} s"
    )
    return rows


def report(rows: list[dict]) -> dict:
    """Shares with their 95 % intervals."""

    def share(kept: list[dict], met) -> dict:
        count = sum(map(met, kept))
        found = wilson(count, len(kept)) if kept else None
        return {"of": len(kept), "met": count} | ({} if found is None else {"low": found.low, "high": found.high})

    predicted = [r for r in rows if r["predicted"] is not None and r["predicted"] <= r["limit"]]
    reported = [r for r in rows if r["verdict"] == "met"]
    errors = sorted(abs(r["predicted"] / r["measured"] - 1) for r in rows if r["predicted"] is not None)
    return {
        "finalists": len(rows), "searches": len({(r["limit"], r["seed"]) for r in rows}),
        "limits_ms": sorted({1e3 * r["limit"] for r in rows}),
        "predicted to meet, median at or below the limit when measured": share(
            predicted, lambda r: r["measured"] <= r["limit"]
        ),
        "predicted to meet, whole interval": share(predicted, lambda r: r["verdict"] == "met"),
        "reported as meeting, median at or below the limit when measured again": share(
            reported, lambda r: r["again"] <= r["limit"]
        ),
        "reported as meeting, whole interval when measured again": share(
            reported, lambda r: r["again_verdict"] == "met"
        ),
        "reported as meeting, missed when measured again": share(reported, lambda r: r["again_verdict"] == "missed"),
        "median error of the prediction": errors[len(errors) // 2] if errors else None,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
