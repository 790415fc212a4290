"""The interactive figures of a report, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from nasturtium.report.data import Axis, Point, ReportData, Role
from nasturtium.report.text import quantity

INK, MUTED, GRID = "#1f2a37", "#6b7280", "#e8ebef"
COLORS: dict[Role, str] = {"search": "#e4572e", "random": "#8a94a6", "reference": "#2e7d6b"}
NAMES: dict[Role, str] = {"search": "search", "random": "random search", "reference": "hand-designed"}
SYMBOLS: dict[Role, str] = {"search": "circle", "random": "circle-open", "reference": "diamond"}
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def quality_against_cost(data: ReportData) -> go.Figure:
    """Quality against each cost (a button for each), with the front, references and constraint lines."""
    figure = go.Figure()
    groups: list[int] = []
    for number, axis in enumerate(data.costs):
        traces = _scatter_traces(data, axis)
        groups += [number] * len(traces)
        for trace in traces:
            trace.visible = number == 0
            figure.add_trace(trace)
    buttons = [_button(data, number, axis, groups) for number, axis in enumerate(data.costs)]
    style(figure, data.costs[0].title, data.quality.title, height=470)
    figure.update_layout(shapes=_limit_lines(data, data.costs[0]), annotations=_limit_notes(data, data.costs[0]))
    figure.update_xaxes(type="log", exponentformat="SI")
    if data.quality.percent:
        figure.update_yaxes(tickformat=".1%")
    if len(buttons) > 1:
        figure.update_layout(
            updatemenus=[
                {
                    "type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.14, "xanchor": "left",
                    "showactive": True, "bgcolor": "#ffffff", "bordercolor": GRID, "font": {"size": 12},
                    "pad": {"l": 0, "t": 0},
                }
            ]
        )  # fmt: skip
    return figure


def progress(data: ReportData) -> go.Figure:
    """Best feasible quality so far, over trials, beside random search."""
    figure = go.Figure()
    better = max if data.quality.maximize else min
    roles: tuple[Role, Role] = ("random", "search")
    for role in roles:
        best: float | None = None
        xs, ys, dots_x, dots_y = [], [], [], []
        for count, point in enumerate(data.of(role), 1):
            value = point.metrics.get(data.quality.metric)
            if value is not None and point.feasible:
                best = value if best is None else better(best, value)
                dots_x.append(count)
                dots_y.append(value)
            if best is not None:
                xs.append(count)
                ys.append(best)
        if not xs:
            continue
        color = COLORS[role]
        figure.add_scatter(
            x=dots_x, y=dots_y, mode="markers", marker={"size": 5, "color": color, "opacity": 0.35},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=xs, y=ys, mode="lines", line={"shape": "hv", "width": 2.5, "color": color}, name=f"best of {NAMES[role]}"
        )
    style(figure, "trials", data.quality.title, height=360)
    if data.quality.percent:
        figure.update_yaxes(tickformat=".1%")
    return figure


def hypervolume(data: ReportData) -> go.Figure | None:
    """Hypervolume of the front so far, over trials; None for a single objective."""
    if not data.hypervolume:
        return None
    figure = go.Figure()
    roles: tuple[Role, Role] = ("random", "search")
    for role in roles:
        values = data.hypervolume.get(role)
        if values:
            figure.add_scatter(
                x=list(range(1, len(values) + 1)), y=list(values), mode="lines",
                line={"shape": "hv", "width": 2.5, "color": COLORS[role]}, name=NAMES[role],
            )  # fmt: skip
    style(figure, "trials", "hypervolume of the front (share of the box)", height=360)
    return figure


def _scatter_traces(data: ReportData, axis: Axis) -> list[Any]:
    traces = []
    roles: tuple[Role, ...] = ("random", "search", "reference")
    for role in roles:
        points = [p for p in data.of(role) if axis.metric in p.metrics and data.quality.metric in p.metrics]
        if points:
            traces.append(_marks(data, axis, points, role))
    front = sorted((p for p in data.front if axis.metric in p.metrics), key=lambda p: p.metrics[axis.metric])
    if front:
        traces.append(
            go.Scatter(
                x=[p.metrics[axis.metric] for p in front], y=[p.metrics[data.quality.metric] for p in front],
                mode="lines+markers", name="front of the search", hoverinfo="skip",
                line={"color": COLORS["search"], "width": 1.5, "dash": "dot", "shape": "hv"},
                marker={"size": 15, "color": "rgba(0,0,0,0)", "line": {"color": COLORS["search"], "width": 2}},
            )
        )  # fmt: skip
    return traces


def _marks(data: ReportData, axis: Axis, points: Sequence[Point], role: Role) -> Any:
    return go.Scatter(
        x=[p.metrics[axis.metric] for p in points],
        y=[p.metrics[data.quality.metric] for p in points],
        mode="markers+text" if role == "reference" else "markers",
        name=NAMES[role],
        text=[p.label if role == "reference" else "" for p in points],
        textposition="bottom center",
        textfont={"size": 10, "color": COLORS["reference"]},
        customdata=[_hover(data, p) for p in points],
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            "size": 9,
            "color": COLORS[role],
            "symbol": [SYMBOLS[role] if p.feasible else "x-thin-open" for p in points],
            "opacity": 0.9,
            "line": {"width": 1.3, "color": COLORS[role] if role != "search" else "#ffffff"},
        },
    )


def _hover(data: ReportData, point: Point) -> str:
    lines = [f"<b>{point.label}</b>" + ("" if point.feasible else " (breaks a constraint)")]
    lines += [f"{axis.title}: {quantity(axis.metric, point.metrics[axis.metric])}"
              for axis in (data.quality, *data.costs) if axis.metric in point.metrics]  # fmt: skip
    return "<br>".join(lines)


def _button(data: ReportData, number: int, axis: Axis, groups: list[int]) -> dict[str, Any]:
    return {
        "label": axis.title,
        "method": "update",
        "args": [
            {"visible": [group == number for group in groups]},
            {
                "xaxis.title.text": axis.title,
                "shapes": _limit_lines(data, axis),
                "annotations": _limit_notes(data, axis),
            },
        ],
    }


def _limit_lines(data: ReportData, axis: Axis) -> list[dict[str, Any]]:
    style = {"color": "#b42318", "width": 1.2, "dash": "dash"}
    lines: list[dict[str, Any]] = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": v, "x1": v, "y0": 0, "y1": 1, "line": style}
        for _, v in axis.limits
    ]
    lines += [
        {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": v, "y1": v, "line": style}
        for _, v in data.quality.limits
    ]
    return lines


def _limit_notes(data: ReportData, axis: Axis) -> list[dict[str, Any]]:
    font = {"size": 11, "color": "#b42318"}
    notes: list[dict[str, Any]] = [
        {
            "xref": "x", "yref": "paper", "x": log10(v), "y": 0.02, "xanchor": "right",
            "showarrow": False, "font": font,
            "text": f"{axis.title} {relation} {quantity(axis.metric, v)} ",
        }
        for relation, v in axis.limits
    ]  # fmt: skip
    notes += [
        {
            "xref": "paper", "yref": "y", "x": 0.01, "y": v, "xanchor": "left", "yanchor": "bottom",
            "showarrow": False, "font": font, "text": f"{data.quality.title} {r} {quantity(data.quality.metric, v)}",
        }
        for r, v in data.quality.limits
    ]  # fmt: skip
    return notes


def style(figure: go.Figure, x: str, y: str, *, height: int) -> None:
    """Give a figure the look of the reports, titles of its axes, and a height."""
    figure.update_layout(
        height=height, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": INK}, margin={"l": 70, "r": 20, "t": 50, "b": 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "right", "x": 1, "font": {"size": 12}},
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": GRID, "font": {"family": FONT, "color": INK}},
    )  # fmt: skip
    axis = {
        "gridcolor": GRID, "zeroline": False, "linecolor": "#c5ccd6", "ticks": "outside", "tickcolor": "#c5ccd6",
        "title_font": {"size": 13, "color": MUTED}, "tickfont": {"color": MUTED},
    }  # fmt: skip
    figure.update_xaxes(title=x, **axis)
    figure.update_yaxes(title=y, **axis)
