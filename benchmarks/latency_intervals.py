"""Do stated latency intervals hold? Repeats in fresh processes spread over time, against the pooled median.

Each repeat is a whole measurement: some fresh processes, a median, a 95 % interval. At least 90 % of the intervals of
at least 40 repeats must hold the median that all processes of all repeats pool to. Two ways to state the level are
judged on the same processes: for a reference that was calibrated once, before the first repeat, and for the reference
as each repeat observed it. Every process is appended to a file; a stopped run goes on where it was, and `--judge` only
reads.

Each repeat has a fixed number of processes. `measure` adds processes until the interval is as narrow as asked, which
stops more often at an interval that is narrow by chance: the share found here is that of `Plan(precision=None)`, and
an upper estimate for one that stops early.

    python benchmarks/latency_intervals.py --file runs/latency_intervals.jsonl --repeats 40 --pause 20

Needs about 2 s of processor time a process: 40 repeats of 6 take 10 minutes on a free core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

import nasturtium as nas
from nasturtium.hardware import Plan, agent, measuring, runtimes, statistics

PROCESSES = 6
BAR = 0.90


def collect(file: Path, device: nas.hardware.Device, network: str, shape: tuple[int, ...], repeats: int, pause: float):
    """Run the processes that the file lacks; repeat 0 is the calibration."""
    rows = read(file)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = nas.trace(nas.zoo.by_name(network), shape)
        job = {
            "networks": [str(runtimes.prepare(graph, device, folder / "network"))],
            "reference": str(runtimes.prepare_reference(device, folder)),
            "threads": device.threads, "batch": device.batch, "turns": measuring.TURNS, "seconds": measuring.SECONDS,
            "least": measuring.LEAST, "target": device.target, "dtype": device.dtype,
        }  # fmt: skip
        for repeat in range(repeats + 1):
            missing = PROCESSES - len(rows.get(repeat, []))
            for _ in range(missing):
                result = agent.fresh_process(runtimes.support(device).command, job)
                with file.open("a") as stream:
                    stream.write(json.dumps({"repeat": repeat, "time": time.time(), "result": result}) + "\n")
            if missing:
                time.sleep(pause)


def read(file: Path) -> dict[int, list[dict]]:
    """Rows by repeat."""
    rows = defaultdict(list)
    if file.exists():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            rows[row["repeat"]].append(row)
    return dict(sorted(rows.items()))


def judge(file: Path, device: nas.hardware.Device) -> None:
    """Print how many of the stated intervals hold the pooled median."""
    rows = {repeat: found for repeat, found in read(file).items() if len(found) == PROCESSES}
    calibration, *repeats = [[row["result"] for row in found] for found in rows.values()]
    clock = measuring.clock_of(device)
    reference = float(np.median([statistics.process_times(r["results"][0], clock).reference for r in calibration]))
    times = [row["time"] for found in rows.values() for row in found]
    loads = [row["result"]["load"] for found in rows.values() for row in found]
    print(
        f"{len(repeats)} repeats of {PROCESSES} processes over {(max(times) - min(times)) / 60:.0f} minutes; load "
        f"{min(loads):.1f} to {max(loads):.1f} on {calibration[0]['machine']}"
    )
    print("level                       pooled ms  half width  hold       share  95 % interval of the share")
    for name, known in (("calibrated once", reference), ("observed in each repeat", None)):
        plan = Plan(precision=None, processes=(PROCESSES, PROCESSES), reference=known)
        found = [measuring.summarize(results, device, plan) for results in repeats]
        pooled = float(np.median([p for m in found for p in m.processes]))
        hold = sum(m.low <= pooled <= m.high for m in found)
        ends = stats.binomtest(hold, len(found)).proportion_ci(method="wilson")
        width, share = float(np.median([m.half_width for m in found])), hold / len(found)
        print(
            f"{name:26s}  {1e3 * pooled:9.4f}  {100 * width:8.1f} %  {hold:2d} of {len(found):2d}  {share:6.1%}"
            f"  {ends.low:.1%} to {ends.high:.1%}  {'meets' if share >= BAR else 'MISSES'} {BAR:.0%}"
        )
    seconds = [[statistics.process_times(r["results"][0], clock).wall for r in results] for results in repeats]
    flat = np.log([s for one in seconds for s in one])
    print(f"for comparison, the plain wall clock of a process scatters by {100 * flat.std():.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="mobilenetv2_035")
    parser.add_argument("--input", default="3x96x96")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--pause", type=float, default=20.0, help="Seconds between repeats.")
    parser.add_argument("--judge", action="store_true", help="Only read the file.")
    given = parser.parse_args()
    device = nas.hardware.device(given.device)
    if not given.judge:
        shape = tuple(int(part) for part in given.input.split("x"))
        collect(given.file, device, given.network, shape, given.repeats, given.pause)
    judge(given.file, device)


if __name__ == "__main__":
    main()
