"""The figures of a comparison of strategies, as plotly figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from nasturtium.bench import Comparison, Run
from nasturtium.bench.curves import best_at_seconds, evaluation_grid, hypervolume_at, regret
from nasturtium.bench.statistics import Band, Ranks, band, cliques
from nasturtium.bench.summary import Asking, Ranking, regrets
from nasturtium.report.figures import GRID, INK, MUTED, style

Floats = NDArray[np.float64]
COLORS = (
    "#e4572e", "#3b6fb6", "#2e7d6b", "#a45bb0", "#c58b1b", "#b0476b", "#5d8c3c", "#17a2b8", "#7a5c3e", "#d98cb3",
    "#4b3f9e", "#9aa52b",
)  # fmt: skip
PLAIN = "#8a94a6"
"""Of random search."""
DASHES = ("solid", "dash", "dot")
TIMES = 200
"""Points of a curve over simulated time."""


def look(strategies: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each strategy, the same in every figure."""
    found, count = {}, 0
    for strategy in strategies:
        if strategy == "random":
            found[strategy] = (PLAIN, "solid")
            continue
        found[strategy] = (COLORS[count % len(COLORS)], DASHES[count // len(COLORS) % len(DASHES)])
        count += 1
    return found


def regret_over_evaluations(comparison: Comparison, table: str, unit: str) -> go.Figure:
    """Mean regret with its band, over full evaluations; both axes logarithmic."""

    def curve(runs: Sequence[Run]) -> tuple[Floats, Band]:
        grid = evaluation_grid(_budget(runs))
        return grid, band(regrets(runs, grid))

    return _regret(comparison, table, unit, "full evaluations", curve)


def regret_over_time(comparison: Comparison, table: str, unit: str) -> go.Figure:
    """Mean regret with its band, over simulated time, up to the end of the first of a strategy's runs to end."""

    def curve(runs: Sequence[Run]) -> tuple[Floats, Band]:
        first = max(float(run.end.min()) for run in runs)
        last = min(run.makespan() for run in runs)
        grid = np.geomspace(max(first, 1e-9), max(last, first, 1e-9), TIMES)
        return grid, band(np.array([regret(run, best_at_seconds(run, grid)) for run in runs]))

    return _regret(comparison, table, unit, "simulated seconds", curve)


def _regret(
    comparison: Comparison, table: str, unit: str, title: str, curve: Callable[[Sequence[Run]], tuple[Floats, Band]]
) -> go.Figure:
    found = {name: curve(runs) for name, runs in _of_table(comparison, table)}
    positive = [b.mean[b.mean > 0].min() for _, b in found.values() if (b.mean > 0).any()]
    floor = 1e-3 if unit == "points" else 0.5 * min(positive, default=1.0)
    figure = _bands(comparison, found, floor)
    style(figure, title, f"mean regret ({unit})", height=430)
    figure.update_xaxes(type="log", dtick="D1" if title == "full evaluations" else None)
    figure.update_yaxes(type="log", dtick=1, tickformat="~g")
    return figure


def hypervolume(comparison: Comparison, table: str) -> go.Figure | None:
    """Mean hypervolume with its band, over full evaluations; None for a single objective."""
    if len(comparison.first.objectives) < 2:
        return None
    found = {}
    for name, runs in _of_table(comparison, table):
        grid = evaluation_grid(_budget(runs))
        found[name] = (grid, band(np.array([hypervolume_at(run, grid) for run in runs])))
    figure = _bands(comparison, found, None)
    style(figure, "full evaluations", "hypervolume (share of the table's box)", height=430)
    figure.update_xaxes(type="log", dtick="D1")
    return figure


def _bands(comparison: Comparison, found: dict[str, tuple[Floats, Band]], floor: float | None) -> go.Figure:
    """Lines with shaded bands; values below a floor are drawn on it, since a logarithmic axis has no zero."""
    figure = go.Figure()
    looks = look(comparison.strategies)

    def above(values: Floats) -> list[float]:
        return [float(f"{v:.4g}") for v in (values if floor is None else np.maximum(values, floor))]

    for name, (grid, b) in found.items():
        color, dash = looks[name]
        xs = [float(f"{x:.6g}") for x in grid]
        figure.add_scatter(
            x=[*xs, *reversed(xs)], y=[*above(b.high), *reversed(above(b.low))], fill="toself",
            fillcolor=_faint(color), line={"width": 0}, hoverinfo="skip", showlegend=False, legendgroup=name,
            name=f"{name} (band)",
        )  # fmt: skip
        figure.add_scatter(
            x=xs, y=above(b.mean), mode="lines", name=name, legendgroup=name,
            line={"color": color, "width": 2.2, "dash": dash},
            customdata=[[f"{v:.4g}" for v in row] for row in zip(b.mean, b.low, b.high, strict=True)],
            hovertemplate=f"<b>{name}</b> at %{{x:.4g}}: %{{customdata[0]}} "
            f"[%{{customdata[1]}}, %{{customdata[2]}}], {b.n} seeds<extra></extra>",
        )  # fmt: skip
    return figure


def critical_difference(ranking: Ranking, ranks: Ranks) -> go.Figure:
    """Average ranks on one axis; a bar joins those that are not told apart at 5 %.

    Reference:
        Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7, figure 1.
    """
    names, k = ranking.strategies, len(ranking.strategies)
    looks = look(names)
    order = sorted(range(k), key=lambda i: ranks.mean[i])
    bars = cliques(ranks.mean, ranks.critical_difference)
    figure = go.Figure()
    figure.add_scatter(
        x=[1, k], y=[0, 0], mode="lines", line={"color": INK, "width": 1.4}, hoverinfo="skip", showlegend=False
    )
    for level, group in enumerate(bars):
        ends = [min(ranks.mean[i] for i in group) - 0.03, max(ranks.mean[i] for i in group) + 0.03]
        figure.add_scatter(
            x=ends, y=[-0.28 - 0.26 * level] * 2, mode="lines", line={"color": INK, "width": 5}, hoverinfo="skip",
            showlegend=False, name="not told apart",
        )  # fmt: skip
    top = -0.5 - 0.26 * len(bars)
    half = (k + 1) // 2
    for place, i in enumerate(order):
        left = place < half
        depth = top - 0.55 * (place if left else k - 1 - place)
        side = 1 - 0.04 * k if left else k + 0.04 * k
        color, _ = looks[names[i]]
        figure.add_scatter(
            x=[ranks.mean[i], ranks.mean[i], side], y=[0, depth, depth], mode="lines+text", name=names[i],
            line={"color": color, "width": 1.8}, text=["", "", f" {names[i]}  {ranks.mean[i]:.2f} "],
            textposition="middle left" if left else "middle right", textfont={"color": INK, "size": 12.5},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    _ruler(figure, k, ranks.critical_difference)
    depth = top - 0.55 * half
    style(figure, "", "", height=int(120 + 46 * (1.1 - depth)))
    figure.update_xaxes(range=[1 - 0.75 * k, k + 0.75 * k], visible=False)
    figure.update_yaxes(range=[depth, 1.1], visible=False)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 10, "b": 10})
    return figure


def _ruler(figure: go.Figure, k: int, critical: float) -> None:
    for tick in range(1, k + 1):
        figure.add_scatter(
            x=[tick, tick], y=[0, 0.12], mode="lines+text", line={"color": INK, "width": 1.4}, text=["", str(tick)],
            textposition="top center", textfont={"color": MUTED, "size": 12}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=[1, 1 + critical], y=[0.8, 0.8], mode="lines+markers+text", line={"color": INK, "width": 2},
        marker={"symbol": "line-ns-open", "size": 9, "color": INK}, text=["", f"  critical difference {critical:.2f}"],
        textposition="middle right", textfont={"color": INK, "size": 12}, hoverinfo="skip", showlegend=False,
        name="critical difference",
    )  # fmt: skip


def time_per_ask(askings: Sequence[Asking]) -> go.Figure:
    """Median and amortised time of ask and tell."""
    figure = go.Figure()
    order = sorted(askings, key=lambda a: -a.mean)
    names = [a.strategy for a in order]
    for title, color, symbol, values in (
        ("mean (amortised)", "#e4572e", "circle", [a.mean for a in order]),
        ("median", "#3b6fb6", "circle-open", [a.median for a in order]),
        ("mean of the last tenth", "#2e7d6b", "diamond-open", [a.last for a in order]),
    ):
        figure.add_scatter(
            x=[1e3 * v for v in values], y=names, mode="markers", name=title,
            marker={"size": 10, "color": color, "symbol": symbol, "line": {"width": 2, "color": color}},
            hovertemplate="%{y}: %{x:.3g} ms<extra>" + title + "</extra>",
        )  # fmt: skip
    style(figure, "ms for one ask and its tell", "", height=130 + 30 * len(order))
    figure.update_xaxes(type="log", exponentformat="none")
    figure.update_yaxes(automargin=True, gridcolor=GRID)
    return figure


def _budget(runs: Sequence[Run]) -> float:
    given = runs[0].settings["evaluations"]
    return float(given) if given is not None else min(float(run.spent[-1]) for run in runs)


def _of_table(comparison: Comparison, table: str) -> list[tuple[str, tuple[Run, ...]]]:
    found = [(name, comparison.runs.get((name, table), ())) for name in comparison.strategies]
    return [(name, runs) for name, runs in found if runs and all(len(run) for run in runs)]


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"
