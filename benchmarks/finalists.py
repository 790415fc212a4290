"""Do finalists meet their latency when it is measured again? Searches under several limits, on this machine's CPU.

The space (3x128x128 inputs, networks of 1 ms and more under ONNX Runtime) is profiled once. Then, for each limit
(quantiles of the latency of random networks) and seed, a search makes the network as large as it can within the limit:
the estimator is the number of MACs, so every search ends at the limit, where the model's error counts most. Its
finalists are measured, the model is corrected, and it goes on, in rounds. Last, every finalist is measured again, in
other processes, by this script.

Printed are, of all finalists, the share that met their limit
  - by the model alone: those that it predicted to meet it, when first measured;
  - as the search reports them: those that it says meet it, when measured again here;
and how far the model was off: in the first round of each search by the profile, later corrected by those before.

    taskset -c 0 python benchmarks/finalists.py --out runs/finalists

Every part is kept in `--out`; run the same command again after any stop and it goes on, or with `--report`, which only
reads. About half an hour on a free core; `--smoke` takes a minute or two, and shows nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import nasturtium as nas
from nasturtium.hardware.profiling import plan_profile, profile
from nasturtium.study.verification import Verify
from nasturtium.tasks.dataless import without_data
from nasturtium.tasks.statistics import wilson

SHAPE = (3, 128, 128)
CONTEXT = {"classes": 10}
QUANTILES = (0.2, 0.4, 0.6, 0.8, 0.95)
AGAIN = (6, 6)
"""Processes of the last measurement of each finalist."""
LEAST = 1e-3
"""Seconds: limits below are left out, since a clock's grain and the cost of a call count there."""


def searched_space(*, smoke: bool) -> nas.Space:
    """Inverted residuals in four stages; two in a smoke test."""
    widths = ((24, 32), (40, 56)) if smoke else ((16, 24), (32, 48), (64, 96), (96, 128))
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
    made.add_argument("--trials", type=int, default=48)
    made.add_argument("--finalists", type=int, default=4, help="of each round")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--networks", type=int, default=24, help="whole ones for the fit of the table; as many held out")
    made.add_argument("--precision", type=float, default=0.03, help="half width at which a measurement stops")
    made.add_argument("--processes", type=int, nargs=2, default=(6, 10), help="fewest and most of a measurement")
    made.add_argument("--smoke", action="store_true")
    made.add_argument(
        "--only", type=int, nargs="+", metavar="SEED", help="seeds that the report counts; all by default"
    )
    made.add_argument("--report", action="store_true", help="only read what is there")
    given = made.parse_args()
    if given.smoke:
        given.seeds, given.trials, given.finalists, given.networks, given.processes = 1, 8, 2, 4, (3, 3)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.report:
        rows = [row for path in sorted(given.out.glob("*us-*.json")) for row in json.loads(path.read_text())]
        show([row for row in rows if given.only is None or row["seed"] in given.only], given)
        return 0
    device, space = nas.hardware.device(given.device), searched_space(smoke=given.smoke)
    few = given.networks
    plan = plan_profile(space, device, SHAPE, name="finalists", context=CONTEXT, fit=few, held_out=few)
    table = profile(
        plan, given.out / "profile.jsonl", progress=lambda p: print(f"profile {p.done}/{p.total}: {p.what}")
    )
    (given.out / "table.txt").write_text(table.text)
    print(table.text, flush=True)
    rows = []
    limits = limits_of(table, space, smoke=given.smoke)
    for seed in range(given.seeds):  # limits inside, so that a run that is stopped has seen all of them
        for limit in limits:
            rows += one(given, space, table, limit, seed)
    show(rows, given)
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
        verify=Verify(
            finalists=given.finalists, rounds=given.rounds, precision=given.precision, processes=tuple(given.processes)
        ),
    )  # fmt: skip
    metric, constraint = f"latency({table.device.name})", study.constraints[0]
    members = list(study.finalists)
    order = [number for name, (_, number), _ in study.evidences.log if name == metric]
    plan = nas.hardware.Plan(reference=table.reference, precision=None, processes=AGAIN, seconds=0.2)
    again = nas.hardware.measure_all(
        [nas.trace(m.architecture, SHAPE, **CONTEXT) for m in members], table.device, plan=plan
    )
    rows = []
    for member, measured in zip(members, again, strict=True):
        evidence = member.evidence[metric]
        rows.append(
            {
                "limit": limit, "seed": seed, "trial": member.number, "order": order.index(member.number),
                "size": member.metrics["size"],
                "predicted": evidence.predicted, "measured": evidence.measurement.seconds,
                "interval": [evidence.measurement.low, evidence.measurement.high],
                "verdict": member.verdict(constraint), "again": measured.seconds,
                "again_interval": [measured.low, measured.high], "again_verdict": measured.verdict(limit),
            }
        )  # fmt: skip
    record.write_text(json.dumps(rows))
    print(
        f"{name}: {len(rows)} finalists, {sum(r['verdict'] == 'met' for r in rows)} reported as meeting {limit:.3g} s",
        flush=True,
    )
    return rows


def show(rows: list[dict], given: argparse.Namespace) -> None:
    """Print and keep the result: shares with their 95 % intervals, errors of the model."""
    if not rows:
        print("no search has ended yet")
        return
    limits = sorted({r["limit"] for r in rows})
    searches = len({(r["limit"], r["seed"]) for r in rows})
    lines = [
        (given.out / "table.txt").read_text() if (given.out / "table.txt").is_file() else "",
        f"{searches} searches, {len(rows)} finalists, measured {1e3 * min(r['measured'] for r in rows):.2f} ms to "
        f"{1e3 * max(r['measured'] for r in rows):.2f} ms; seeds {sorted({r['seed'] for r in rows})}; {given.trials} "
        f"trials a search, {given.rounds} rounds of {given.finalists} finalists",
        "",
        "   limit  searches  finalists  by prediction  met when measured  reported met  met again (median)",
        *[row_of([r for r in rows if r["limit"] == limit], f"{1e3 * limit:5.2f} ms") for limit in limits],
        row_of(rows, "     all"),
        "",
    ]
    believed, reported = [r for r in rows if predicted(r)], [r for r in rows if r["verdict"] == "met"]
    for text, kept, met in (
        (
            "predicted to meet the limit: median within it when measured",
            believed,
            lambda r: r["measured"] <= r["limit"],
        ),
        ("predicted to meet the limit: shown to, by the whole interval", believed, lambda r: r["verdict"] == "met"),
        ("reported as meeting it: median within it when measured again", reported, lambda r: r["again"] <= r["limit"]),
        ("reported as meeting it: shown to again", reported, lambda r: r["again_verdict"] == "met"),
        (
            "reported as meeting it: missed, by the whole interval, again",
            reported,
            lambda r: r["again_verdict"] == "missed",
        ),
    ):
        lines.append(f"{text:62s} {share(kept, met)}")
    widths = sorted((r["interval"][1] - r["interval"][0]) / 2 / r["measured"] for r in rows)
    verdicts = Counter(r["verdict"] for r in rows)
    lines.append(
        f"verdicts of all: {', '.join(f'{n} {verdict}' for verdict, n in sorted(verdicts.items()))}; intervals of "
        f"{100 * widths[len(widths) // 2]:.1f} % to each side in the median"
    )
    over = sorted(r["again"] / r["limit"] - 1 for r in reported)
    if over:
        lines.append(
            f"reported as meeting it: the slowest was {100 * over[-1]:+.1f} % of its limit when measured again"
        )
    for name, kept in (
        ("before any correction", [r for r in rows if r["order"] < given.finalists]),
        ("after the first round", [r for r in rows if r["order"] >= given.finalists]),
    ):
        off = sorted(r["predicted"] / r["measured"] - 1 for r in kept if r["predicted"] is not None)
        if off:
            size = sorted(map(abs, off))
            lines.append(
                f"the model {name}: {100 * off[len(off) // 2]:+.1f} % in the median, off by "
                f"{100 * size[len(size) // 2]:.1f} % in the median, "
                f"{100 * size[int(0.9 * len(size))]:.1f} % at the ninth decile (n = {len(off)})"
            )
    print("\n".join(lines))
    (given.out / "result.txt").write_text("\n".join(lines))
    (given.out / "result.json").write_text(json.dumps(rows, indent=1))


def predicted(row: dict) -> bool:
    """Whether the model said that it meets the limit, before it was measured."""
    return row["predicted"] is not None and row["predicted"] <= row["limit"]


def row_of(rows: list[dict], name: str) -> str:
    """A line of the table."""
    believed, reported = [r for r in rows if predicted(r)], [r for r in rows if r["verdict"] == "met"]
    met = sum(r["measured"] <= r["limit"] for r in believed)
    again = sum(r["again"] <= r["limit"] for r in reported)
    searches = len({(r["limit"], r["seed"]) for r in rows})
    return f"{name}  {searches:8d}  {len(rows):9d}  {len(believed):13d}  {met:17d}  {len(reported):12d}  {again:18d}"


def share(kept: list[dict], met) -> str:
    """How many, with a 95 % interval."""
    if not kept:
        return "none"
    count = sum(map(met, kept))
    found = wilson(count, len(kept))
    return f"{count:3d} of {len(kept):3d}: {count / len(kept):6.1%} ({found.low:.1%} to {found.high:.1%})"


if __name__ == "__main__":
    raise SystemExit(main())
