"""The figures of the design of spaces, as plotly figures, and a page that holds them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from nasturtium.design.coefficients import KINDS
from nasturtium.design.comparing import SpaceComparison
from nasturtium.design.edf import Distribution
from nasturtium.design.tiny import LEVEL, Scan
from nasturtium.errors import StoreError
from nasturtium.report.bench_figures import COLORS, DASHES
from nasturtium.report.figures import MUTED, style
from nasturtium.report.page import LOGO, STYLE

LEGEND_NOTE = (
    "In the legend [min|mean] are the smallest and the mean error of a space's networks (fractions in per cent), as in "
    "the paper. They are not the two numbers of a sentence “x % of the models have an error above y %”, as a lecture "
    "that shows these figures reads them: that share is 1 - F(y), and is read off the curve."
)
"""What the two numbers in a legend of error distributions mean."""


class ScalingPoint(NamedTuple):
    """A network scaled one way, and what was measured of it."""

    kind: str
    """One of `design.coefficients.KINDS`, or "base"."""
    factor: float
    macs: float
    accuracy: float
    text: str = ""
    """What to show of it."""


def _line(number: int, width: float = 2.2) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "width": width, "dash": DASHES[number // len(COLORS) % len(DASHES)]}


def macs_figure(scan: Scan[Any], *, by: str = "mean", level: float = LEVEL, least: float, most: int = 8) -> go.Figure:
    """Distributions of MACs of what fits, of the best spaces: the farther right, the better.

    Args:
        scan: Of TinyNAS' spaces, whose keys are (width multiplier, resolution).
        by: How they are ranked; see `Scan.ranked`.
        level: Where the distributions are read, drawn as a line.
        least: See `Scan.ranked`.
        most: Spaces drawn.

    Reference:
        Lin et al. (2020), arXiv 2007.10319, figure 4.
    """
    figure = go.Figure()
    for number, found in enumerate(scan.ranked(by, level=level, least=least)[:most]):
        width, resolution = found.key
        x = np.array([found.macs[0], *found.macs]) / 1e6
        figure.add_scatter(
            x=x, y=np.linspace(0, 1, len(x)), mode="lines", line={**_line(number), "shape": "hv"},
            name=f"w{width:g} r{resolution} ({found.mean / 1e6:.1f}M, {found.acceptance:.0%})",
            hovertemplate=f"<b>w{width:g} r{resolution}</b>: %{{y:.0%}} do at most %{{x:.1f}}M<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=level, line={"color": MUTED, "width": 1, "dash": "dot"})
    style(figure, "MACs of the networks that fit (millions)", "share of the networks that fit", height=480)
    _legend_below(figure)
    return figure


def edf_figure(distributions: Sequence[Distribution], comparison: SpaceComparison | None = None) -> go.Figure:
    """Error distributions: the farther left and up, the better; legends are `name [min|mean]`.

    Args:
        distributions: Of the spaces; their errors are in per cent where all are fractions.
        comparison: Of two of them; its greatest distance is drawn.

    Reference:
        Radosavovic et al. (2020), arXiv 2003.13678, figure 5.
    """
    figure = go.Figure()
    form = _form(distributions)
    for number, found in enumerate(distributions):
        x, y = found.curve()
        above = [found.above(e) for e in x]
        figure.add_scatter(
            x=x, y=y, mode="lines", name=found.label, line={**_line(number), "shape": "hv"}, customdata=above,
            hovertemplate=f"<b>{found.name}</b>: %{{y:.1%}} have an error of at most %{{x:{form}}}, "
            "%{customdata:.1%} a greater one<extra></extra>",
        )  # fmt: skip
    if comparison is not None and len(distributions) >= 2:
        ends = [float(d.up_to([comparison.at])[0]) for d in distributions[:2]]
        figure.add_scatter(
            x=[comparison.at] * 2, y=ends, mode="lines", line={"color": MUTED, "width": 1.5, "dash": "dot"},
            name=f"D = {comparison.statistic:.3f}, p = {comparison.p_value:.2g}", hoverinfo="skip",
        )  # fmt: skip
    style(figure, "error", "share of networks, by weight", height=480)
    figure.update_xaxes(tickformat=".0%" if form == ".1%" else "")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    _legend_below(figure)
    return figure


def best_of_figure(distributions: Sequence[Distribution], most: int = 100) -> go.Figure:
    """Expected smallest error of k networks: what random search of each space reaches.

    Reference:
        Radosavovic et al. (2019), arXiv 1905.13214, section 5.3.
    """
    figure = go.Figure()
    form = _form(distributions)
    counts = np.unique(np.geomspace(1, most, 40).round())
    for number, found in enumerate(distributions):
        figure.add_scatter(
            x=counts, y=found.best_of(counts), mode="lines", name=found.name, line=_line(number),
            hovertemplate=f"<b>{found.name}</b>: best of %{{x}} has %{{y:{form}}}<extra></extra>",
        )  # fmt: skip
    style(figure, "networks drawn", "expected smallest error", height=400)
    figure.update_xaxes(type="log", dtick="D1")
    figure.update_yaxes(tickformat=form)
    return figure


def _form(distributions: Sequence[Distribution]) -> str:
    """Of an error: per cent where all are fractions."""
    return ".1%" if all(d.in_per_cent for d in distributions) else ".4g"


def scaling_figure(points: Sequence[ScalingPoint]) -> go.Figure:
    """Accuracy against MACs of a network scaled by depth, width or resolution alone, and by all three.

    Reference:
        Tan, Le (2019), arXiv 1905.11946, figures 3 and 8.
    """
    figure = go.Figure()
    base = [p for p in points if p.kind == "base"]
    for number, kind in enumerate(KINDS):
        found = [*base, *sorted((p for p in points if p.kind == kind), key=lambda p: p.macs)]
        if len(found) == len(base):
            continue
        figure.add_scatter(
            x=[p.macs for p in found], y=[p.accuracy for p in found], mode="lines+markers", line=_line(number),
            name=kind if kind == "compound" else f"{kind} alone", customdata=[p.text for p in found],
            hovertemplate=f"<b>{kind}</b> %{{customdata}}<br>%{{x:.3s}} MACs, %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    style(figure, "MACs", "accuracy on validation", height=460)
    figure.update_xaxes(type="log", exponentformat="SI")
    figure.update_yaxes(tickformat=".1%")
    return figure


def _legend_below(figure: go.Figure) -> None:
    figure.update_layout(
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "xanchor": "left", "x": 0}, margin={"t": 20, "b": 130}
    )


def write_page(path: Path, title: str, lead: str, sections: Mapping[str, tuple[str, go.Figure]]) -> Path:
    """Write figures with their notes as one HTML file that needs nothing else.

    Args:
        path: File; its folder is made. It is replaced at once or not at all.
        title: Of the page.
        lead: One paragraph.
        sections: By title: a note and a figure.

    Raises:
        StoreError: it cannot be written.
    """
    parts = "".join(
        f'<section><h2>{escape(name)}</h2><p class="note">{escape(note)}</p>{_html(figure)}</section>'
        for name, (note, figure) in sections.items()
    )
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>
<header>{LOGO}<h1>{escape(title)}</h1></header><p class="lead">{escape(lead)}</p>{parts}
<footer>Made with Nasturtium. This file needs no network.</footer></main></body></html>
"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".html")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise StoreError(f"The page cannot be written to {str(path)!r}: {error.strerror or error}.") from error
    return path


def _html(figure: go.Figure) -> str:
    return plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
