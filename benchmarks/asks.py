"""Time of ask plus tell, ours beside Optuna's samplers, on one space of 20 choices of 8 values (8^20 networks).

    python benchmarks/asks.py [--trials 1000 10000 100000] [--limit SECONDS] [--only NAME …]

Each line is a process of its own. Printed are the median and the mean of the last tenth of the trials, the mean over
all (amortised) and the slowest, in CPU time of the process, which others on the machine do not disturb; the amortised
wall time beside it; and resident memory at the beginning and at the end. The first asks, which import and build things,
are left out. A line that takes more CPU than the limit is stopped, and says at which trial. Optuna is measured through
`strategies.Optuna`, and bare: the same 20 categorical choices through its own ask and tell, in memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

OURS = (
    "random", "evolution(population=20, sample=5)", "evolution", "local", "nsga2", "grid", "asha", "hyperband",
    "controller", "auto", "predictor", "bananas", "bayesian", "optuna(sampler=random)", "optuna(sampler=tpe)",
    "optuna(sampler=nsga2)", "optuna(sampler=gp)",
)  # fmt: skip
BARE = ("RandomSampler", "TPESampler", "NSGAIISampler", "GPSampler")
LAYERS, OPTIONS = 10, 8
LONG = (
    "random", "evolution(population=20, sample=5)", "evolution", "nsga2", "auto", "RandomSampler", "TPESampler",
    "NSGAIISampler",
)  # fmt: skip
"""Measured at every number of trials unless others are named; the rest at the first number only."""
Step = Callable[[int], tuple[float, float]]
"""CPU and wall seconds of one ask and tell."""


class Watch:
    """Adds up CPU and wall time of what is done inside it."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._cpu
        self.wall += time.perf_counter() - self._wall


def resident() -> float:
    """MiB of this process."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def ours(name: str, trials: int) -> Step:
    """One ask and tell of a strategy of ours; the outcome is worked out in between, untimed."""
    from nasturtium.bench import Named
    from nasturtium.testing import toy_problem, toy_space
    from nasturtium.testing.problems import outcome_of
    from nasturtium.trial import Proposal

    strategy = Named.parse(name).make()
    strategy.setup(toy_problem(toy_space(LAYERS, OPTIONS), trials=trials))

    def step(number: int) -> tuple[float, float]:
        watch = Watch()
        with watch:
            proposal = strategy.ask(number)
        if not isinstance(proposal, Proposal):
            raise TypeError(f"{name} answers {proposal!r} though everything is told")
        trial = outcome_of(proposal)
        with watch:
            strategy.tell(trial)
        return watch.cpu, watch.wall

    return step


def bare(name: str, trials: int) -> Step:
    """One ask, the suggestions and tell of Optuna by itself."""
    import optuna

    from nasturtium.testing import toy_space
    from nasturtium.testing.problems import toy_outcome

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = toy_space(LAYERS, OPTIONS)
    study = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, name)(seed=0))
    choices = list(range(OPTIONS))

    def step(_: int) -> tuple[float, float]:
        watch = Watch()
        with watch:
            trial = study.ask()
            values = [trial.suggest_categorical(f"x{i}", choices) for i in range(2 * LAYERS)]
        value = toy_outcome(space.of_indices(values))["accuracy"]
        with watch:
            study.tell(trial, value)
        return watch.cpu, watch.wall

    return step


def measure(kind: str, name: str, trials: int, limit: float, answer: Any) -> None:
    """Run in a process of its own, and send the line."""
    try:
        step = ours(name, trials) if kind == "ours" else bare(name, trials)
    except (ImportError, ValueError) as error:
        answer.send(f"{name:<36} {trials:>7,}  left out: {str(error)[:90]}")
        return
    for number in range(min(5, trials)):  # first asks import and build things
        step(number)
    before, begun, times = resident(), time.process_time(), array("d")
    number = min(5, trials)
    try:
        while number < trials and time.process_time() - begun < limit:
            times.extend(step(number))
            number += 1
    except Exception as error:  # noqa: BLE001
        answer.send(f"{name:<36} {trials:>7,}  failed at {number:,}: {type(error).__name__}: {str(error)[:90]}")
        return
    values, wall = 1e3 * np.array(times).reshape(-1, 2).T
    tail = values[-max(1, len(values) // 10) :]
    stopped = "" if number == trials else f"  stopped after {limit:g} s at {number:,}"
    growth = (resident() - before) * 2**10 / len(values)
    answer.send(
        f"{name if kind == 'ours' else f'Optuna {name} (bare)':<36} {trials:>7,}  {np.median(tail):>9.3f} "
        f"{tail.mean():>9.3f} {values.mean():>9.3f} {values.max():>9.1f} {wall.mean():>9.3f}  {before:>6.0f} "
        f"{resident():>6.0f} {growth:>8.2f}{stopped}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--limit", type=float, default=120.0, help="CPU seconds of one line")
    parser.add_argument("--only", nargs="*", help="these strategies or samplers")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    print(f"{2 * LAYERS} choices of {OPTIONS} values; ms for one ask and tell, one thread, CPU and wall; KiB a trial")
    print(
        f"{'':<36} {'trials':>7}  {'median':>9} {'last 10%':>9} {'amortised':>9} {'max':>9} {'wall':>9}  {'MiB':>6} "
        f"{'MiB':>6} {'KiB':>8}"
    )
    context = multiprocessing.get_context("spawn")
    for place, trials in enumerate(arguments.trials):
        for kind, name in [*(("ours", n) for n in OURS), *(("bare", n) for n in BARE)]:
            if name not in (arguments.only or ([name] if not place else LONG)):
                continue
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=measure, args=(kind, name, trials, arguments.limit, send))
            process.start()
            send.close()
            try:
                print(receive.recv(), flush=True)
            except EOFError:
                print(f"{name:<36} {trials:>7,}  its process ended", flush=True)
            process.join()


if __name__ == "__main__":
    main()
