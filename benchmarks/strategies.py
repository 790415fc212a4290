"""Time of ask and tell: `python benchmarks/strategies.py [trials …]`, on a space of 20 choices.

Two keys tell equal networks apart: the decisions, which is near free, so that the time is the strategies' own and the
space's; and the canonical hash of the traced graph, as a study uses it. Then the time to exhaust a space.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from nasturtium.blocks import Classifier, Conv, MBConv, Sequential
from nasturtium.graph import trace
from nasturtium.space import Architecture, Space, one_of
from nasturtium.strategies import Grid, LocalSearch, Random, RegularizedEvolution
from nasturtium.testing import drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most
from nasturtium.trial import Objective, Problem

MAKERS: tuple[Callable[[], Any], ...] = (Random, Grid, RegularizedEvolution, LocalSearch)


def mobile() -> Space:
    """Ten inverted residuals, each with a choice of kernel and of expansion: 20 choices, 6^10 networks."""
    blocks = [MBConv(16, kernel=one_of(3, 5), expand=one_of(1, 3, 6)) for _ in range(10)]
    return Space(Sequential(Conv(16, stride=2), *blocks, Classifier()))


def canonical(architecture: Architecture) -> str:
    """The hash that a study uses for a task of 10 classes."""
    return trace(architecture, (3, 32, 32), classes=10).canonical_hash


def line(trials: int, label: str, make: Callable[[], Any], problem: Problem) -> None:
    """Measure one strategy on one problem and print it."""
    begun = time.perf_counter()
    run = drive(make(), problem, trials, concurrency=4)
    taken = (time.perf_counter() - begun) / len(run.proposals)
    name = getattr(make, "__name__", "")
    print(f"{len(run.proposals):>6} trials  {label:<24} {name:<22} {1e3 * taken:7.3f} ms  {1 / taken:8,.0f} /s")


def main(sizes: list[int]) -> None:
    """Print milliseconds of one ask and tell for each strategy, number of trials and kind of problem."""
    objectives = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
    space = toy_space(10, 5)
    for trials in sizes:
        for label, changes in (
            ("one objective", {}),
            ("two objectives", {"objectives": objectives}),
            ("params <= 60", {"constraints": at_most(60)}),
        ):
            for make in MAKERS:
                line(trials, label, make, toy_problem(space, trials=trials, **changes))
        for make in MAKERS:
            line(trials, "MBConv, decisions key", make, toy_problem(mobile(), trials=trials))
    for make in MAKERS:
        line(min(sizes), "MBConv, canonical key", make, toy_problem(mobile(), trials=min(sizes), key=canonical))
    for make in MAKERS:
        line(20_000, "to the last of 15,625", make, toy_problem(toy_space(3, 5), trials=15_625))


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1_000, 10_000])
