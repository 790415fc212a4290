"""Time of ask and tell: `python benchmarks/strategies.py [trials …]`, on a space of 20 choices.

The toy problem's costs and key are near free, so this is the strategies' own time and the space's.
"""

from __future__ import annotations

import sys
import time

from nasturtium.strategies import Grid, LocalSearch, Random, RegularizedEvolution
from nasturtium.testing import drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most
from nasturtium.trial import Objective


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
            for make in (Random, Grid, RegularizedEvolution, LocalSearch):
                problem = toy_problem(space, trials=trials, **changes)
                begun = time.perf_counter()
                run = drive(make(), problem, trials, concurrency=4)
                taken = (time.perf_counter() - begun) / len(run.proposals)
                print(f"{trials:>6} trials  {label:<15} {make.__name__:<22} {1e3 * taken:.3f} ms  {1 / taken:,.0f} /s")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1_000, 10_000])
