"""Bayesian optimisation along one decision: the lecture's figure, and acquisition functions against each other.

    python benchmarks/acquisition.py [--seeds 20] [--html figure.html] [--acquisition ucb] [--seed 6]

About a minute, one core. The response has a wide lower hill and a narrow higher one, at places drawn for each seed; its
best value is the highest of 60. Printed is the share of it that was found after n trials, mean and standard deviation
over seeds, for the strategy with a squared-exponential kernel and 3 random trials, and for random search.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import get_args

import numpy as np

from nasturtium.report.posterior_figure import Line, along_one_decision, posterior_figure, search_one_decision
from nasturtium.strategies.learned.bayesian import Acquisition
from nasturtium.strategies.random_search import Random
from nasturtium.trial import Strategy

COUNTS = (5, 8, 12, 20)


def found(make: Callable[[], Strategy], seeds: int) -> np.ndarray:
    """`(seeds, counts)`: share of the best of the response that was found."""
    rows = []
    for seed in range(seeds):
        line = Line(make(), seed)
        values = [line.response[line.step()] for _ in range(max(COUNTS))]
        rows.append([max(values[:count]) / line.response.max() for count in COUNTS])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--html", help="where to write the figure")
    parser.add_argument("--acquisition", default="ucb", choices=get_args(Acquisition), help="of the figure")
    parser.add_argument("--seed", type=int, default=6, help="of the figure")
    given = parser.parse_args()
    if given.html:
        steps = search_one_decision(given.acquisition, seed=given.seed)
        posterior_figure(steps).write_html(given.html, include_plotlyjs=True, config={"displayModeBar": False})
    print(f"share of the best value found, mean ± standard deviation over {given.seeds} seeds")
    print(f"{'trials':<10}" + "".join(f"{count:>16}" for count in COUNTS))
    makers = {name: lambda name=name: along_one_decision(name) for name in get_args(Acquisition)}
    for name, make in {**makers, "random": Random}.items():
        shares = found(make, given.seeds)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(shares.mean(axis=0), shares.std(axis=0, ddof=1), strict=True)]
        print(f"{name:<10}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
