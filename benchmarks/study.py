"""What a study itself costs: a commit, a proposal with its trial and epochs, replaying a log, opening, a worker.

Run: `python benchmarks/study.py [--trials 500]`. Prints one JSON object; times are wall time, medians where repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nasturtium as nas
from nasturtium.study import Study


@dataclass(frozen=True)
class Instant:
    """Measures nothing, so that only the study's own work is timed."""

    epochs: int = 3

    def estimate(self, architecture, fidelity, job):
        for epoch in range(self.epochs):
            job.report({"epoch": epoch + 1, "loss": 1.0})
        return {"accuracy": 0.5 + (hash(architecture.key) % 1000) / 4000}


def space() -> nas.Space:
    layers = [
        nas.Conv(nas.int_range(4, 32, name=f"w{i}"), kernel=nas.one_of(1, 3, 5, name=f"kernel{i}"), stride=1 + i % 2)
        for i in range(4)
    ]
    return nas.Space(nas.Sequential(*layers, nas.Classifier()))


def search(path: Path, trials: int) -> float:
    started = time.perf_counter()
    nas.search(
        space(), "digits", maximize="accuracy", minimize="macs", estimator=Instant(), trials=trials, study=path,
        strategy=nas.strategies.RegularizedEvolution(population=20, sample=5),
    )  # fmt: skip
    return time.perf_counter() - started


def median_of(repeats: int, function) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.db"
        search(Path(folder) / "warm.db", 4)
        seconds = search(path, trials)
        print(
            json.dumps(
                {
                    "trials": trials,
                    "trial_milliseconds": 1e3 * seconds / trials,
                    "replay_milliseconds_a_trial": 1e3 * search(path, trials + 1) / trials,
                    "open_and_front_milliseconds": 1e3 * median_of(5, lambda: Study.open(path).front),
                    "file_bytes_a_trial": path.stat().st_size / trials,
                    "import_seconds": median_of(
                        3, lambda: subprocess.run([sys.executable, "-c", "import nasturtium.study"], check=True)
                    ),
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
