"""Grid against random search on a response with one important axis, and how soon random search hits the top.

Run: `python benchmarks/grid_random.py [--seeds 1000] [--html figure.html]`, some seconds, one core. Both searches are
the library's strategies; the space has 60 x 60 points. Expected: Bergstra and Bengio (2012), figure 1 and section 2.
"""

from __future__ import annotations

import argparse
from math import comb, sqrt
from random import Random as Generator

from nasturtium.report.lecture_figures import STEPS, grid_against_random, grid_against_random_figure
from nasturtium.strategies.random_search import chance_of_top


def hits(trials: int, share: float, repeats: int, size: int = 10_000) -> float:
    """How often so many draws without replacement hit the best share, counted."""
    top = int(share * size)
    rng = Generator("hits")
    return sum(min(rng.sample(range(size), trials)) < top for _ in range(repeats)) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--html", help="where to write the figure")
    given = parser.parse_args()
    for side in (3, 5):
        found = grid_against_random(side, seeds=given.seeds)
        print(found)
        one = comb(STEPS * STEPS - STEPS, side * side) / comb(STEPS * STEPS, side * side)
        print(f"expected of random: {STEPS * (1 - one):.2f} distinct values; of the grid: {side}\n")
        if side == 3 and given.html:
            grid_against_random_figure(found).write_html(given.html, include_plotlyjs=True)
    print("chance that N trials hit the best 5 %: 1 - 0.95^N, and counted (± standard error)")
    for trials in (10, 20, 40, 59, 60, 100):
        counted = hits(trials, 0.05, given.seeds)
        error = sqrt(counted * (1 - counted) / given.seeds)
        print(f"{trials:4d}  {chance_of_top(trials, 0.05):.4f}  {counted:.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
