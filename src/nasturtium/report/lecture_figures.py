"""Figures of the lecture, from networks that were really measured or proposed: constraint map, grid against random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random as Generator
from statistics import fmean, stdev
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nasturtium.errors import InvalidInputError
from nasturtium.report.figures import COLORS, MUTED, style
from nasturtium.space import Architecture, Block, Space, int_range
from nasturtium.strategies.feasibility import ConstraintMap
from nasturtium.strategies.grid import Grid
from nasturtium.strategies.random_search import Random
from nasturtium.trial import METRICS, format_constraint, format_number
from nasturtium.trial.types import Objective, Problem, Proposal, Strategy, Trial

STEPS = 60
"""Values of each axis of the two-axis space."""
PEAK, MINOR = 0.08, 0.05
"""Width of the peak on the important axis, which is 1 long, and height of the other axis' wave; the peak is 1 high."""

Place = tuple[int, int]
"""Values of a point: on the important axis, on the minor one."""


def constraint_map_figure(found: ConstraintMap, metric: str | None = None) -> go.Figure:
    """The points of two axes: filled where they meet the constraints, hollow where not, each with a metric's value.

    Args:
        found: The map; its first axis goes upwards, the second to the right.
        metric: Whose values are written; the first constrained one by default.

    Raises:
        InvalidInputError: the metric is not of the map.
    """
    name = next(iter(found.metrics)) if metric is None else metric
    if name not in found.metrics:
        raise InvalidInputError(f"The map has no metric {name!r}; it has {', '.join(found.metrics)}.")
    known = METRICS.get(name)
    shown = known.format if known else format_number
    figure = go.Figure()
    limits = " and ".join(map(format_constraint, found.constraints))
    for good, title, color, symbol in (
        (True, f"meets {limits}", COLORS["reference"], "circle"),
        (False, "does not", COLORS["random"], "circle-open"),
    ):
        places = [
            (i, j) for i, line in enumerate(found.feasible) for j, allowed in enumerate(line)
            if allowed == good and found.architectures[i][j] is not None
        ]  # fmt: skip
        figure.add_scatter(
            x=[found.columns[j] for _, j in places], y=[found.rows[i] for i, _ in places], name=title,
            mode="markers+text", marker={"size": 13, "color": color, "symbol": symbol, "line": {"width": 2}},
            text=[shown(found.metrics[name][i][j]) for i, j in places], textposition="bottom center",
            textfont={"size": 10, "color": MUTED}, hovertemplate=f"{found.names[0]} %{{y}}, {found.names[1]} %{{x}}: "
            f"{name} %{{text}}<extra></extra>",
        )  # fmt: skip
    edge = found.boundary
    figure.add_scatter(
        x=[found.columns[j] for _, j in edge], y=[found.rows[i] for i, _ in edge], mode="lines", hoverinfo="skip",
        line={"color": COLORS["search"], "dash": "dot"}, name="largest that meets them",
    )  # fmt: skip
    style(figure, found.names[1], found.names[0], height=150 + 46 * len(found.rows))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=found.columns)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=found.rows)
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class GridAgainstRandom:
    """What grid and random search found with equally many trials, on a response with one important axis.

    Attributes:
        trials: Of each search.
        shown: Points that each search tried with the first seed, by its name ("grid", "random").
        peak: Where the peak of the shown response stands, in [0, 1].
        distinct: Distinct values that were tried on the important axis, for each seed.
        best: Best response that was found, for each seed; the top of the response is 1 at most.
    """

    trials: int
    shown: dict[str, tuple[Place, ...]]
    peak: float
    distinct: dict[str, tuple[int, ...]]
    best: dict[str, tuple[float, ...]]

    def text(self) -> str:
        """A table: distinct values on the important axis, and the best found, mean and standard deviation."""
        seeds = len(self.best["grid"])
        lines = [
            f"{self.trials} trials on a response with one important axis, {seeds} seeds (mean ± standard deviation)",
            f"{'':8}{'distinct values':>18}{'best found':>18}",
        ]
        for name in self.best:
            shown = [_spread(self.distinct[name], 2), _spread(self.best[name], 3)]
            lines.append(f"{name:8}{shown[0]:>18}{shown[1]:>18}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def grid_against_random(side: int = 3, *, seeds: int = 100) -> GridAgainstRandom:
    """Run grid search with `side` values of each of two axes, and random search with as many trials, and compare.

    The response is a narrow peak on the important axis, at a place drawn anew for each seed, plus a low wave on the
    other. Both searches are the library's own strategies on one space of 60 x 60 points.

    Args:
        side: Values of each axis in the grid, in [2, 30]; 3 as in the paper's figure.
        seeds: Responses, at least 2.

    Raises:
        InvalidInputError: a number is out of range.

    Reference:
        Bergstra, Bengio (2012), "Random search for hyper-parameter optimization", JMLR 13, figure 1.
    """
    if not 2 <= side <= STEPS // 2 or seeds < 2:
        raise InvalidInputError(f"Expected `side` in [2, {STEPS // 2}] and `seeds` >= 2, got {side} and {seeds}.")
    space = Space(_TwoAxes(int_range(0, STEPS - 1, name="important"), int_range(0, STEPS - 1, name="minor")))
    values = [round((2 * k + 1) * STEPS / (2 * side) - 0.5) for k in range(side)]
    searches: dict[str, Any] = {"grid": lambda: Grid(axes={"important": values, "minor": values}), "random": Random}
    places: dict[str, list[tuple[Place, ...]]] = {name: [] for name in searches}
    best: dict[str, list[float]] = {name: [] for name in searches}
    peaks = [Generator(f"peak/{seed}").random() for seed in range(seeds)]
    for seed, peak in enumerate(peaks):
        for name, make in searches.items():
            problem = Problem(space=space, objectives=(Objective(metric="value", direction="maximize"),), seed=seed)
            found = _run(make(), problem, side * side, peak)
            places[name].append(found)
            best[name].append(max(response(place, peak) for place in found))
    return GridAgainstRandom(
        trials=side * side,
        shown={name: found[0] for name, found in places.items()},
        peak=peaks[0],
        distinct={name: tuple(len({x for x, _ in each}) for each in found) for name, found in places.items()},
        best={name: tuple(found) for name, found in best.items()},
    )


def grid_against_random_figure(found: GridAgainstRandom) -> go.Figure:
    """Both searches side by side: the tried points below, and above them the important axis' response where tried."""
    titles = [
        f"{name}: {len({x for x, _ in places})} values of the important axis in {found.trials} trials"
        for name, places in found.shown.items()
    ]
    figure = make_subplots(
        rows=2, cols=2, shared_xaxes=True, row_heights=[0.35, 0.65], vertical_spacing=0.04, subplot_titles=titles
    )
    line = [x / (STEPS - 1) for x in range(STEPS)]
    for column, (name, places) in enumerate(found.shown.items(), 1):
        color = COLORS["search" if name == "random" else "random"]
        xs = [x / (STEPS - 1) for x, _ in places]
        figure.add_scatter(
            x=line, y=[_important(x, found.peak) for x in line], mode="lines", line={"color": MUTED, "width": 1.5},
            hoverinfo="skip", showlegend=False, row=1, col=column,
        )  # fmt: skip
        figure.add_scatter(
            x=xs, y=[_important(x, found.peak) for x in xs], mode="markers", marker={"color": color, "size": 8},
            showlegend=False, row=1, col=column,
        )  # fmt: skip
        figure.add_scatter(
            x=xs, y=[y / (STEPS - 1) for _, y in places], mode="markers", marker={"color": color, "size": 11},
            name=name, row=2, col=column,
        )  # fmt: skip
    style(figure, "important axis", "minor axis", height=470)
    figure.update_layout(showlegend=False)  # the titles name the searches
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title_text=None, row=1)
    figure.update_yaxes(title_text="response", row=1)
    return figure


def response(place: Place, peak: float) -> float:
    """The response at a point, in [0, 1 + a little], for a peak at a place in [0, 1] of the important axis."""
    x, y = (value / (STEPS - 1) for value in place)
    return (_important(x, peak) + MINOR * (1 + math.cos(2 * math.pi * y)) / 2) / (1 + MINOR)


def _important(x: float, peak: float) -> float:
    return math.exp(-(((x - peak) / PEAK) ** 2))


class _TwoAxes(Block):
    """Two numbers; nothing is computed with them but a response."""

    important: int
    minor: int

    def forward(self, x: Any) -> Any:
        return x


def _run(strategy: Strategy, problem: Problem, trials: int, peak: float) -> tuple[Place, ...]:
    strategy.setup(problem)
    found = []
    for number in range(trials):
        proposal = strategy.ask(number)
        if not isinstance(proposal, Proposal):
            break
        place = _place(proposal.architecture)
        found.append(place)
        strategy.tell(
            Trial(number=number, architecture=proposal.architecture, metrics={"value": response(place, peak)})
        )
    return tuple(found)


def _place(architecture: Architecture) -> Place:
    return architecture.decisions["important"], architecture.decisions["minor"]


def _spread(values: tuple[float, ...], digits: int) -> str:
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"
