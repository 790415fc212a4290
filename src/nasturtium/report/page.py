"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from nasturtium.report import figures
from nasturtium.report.data import Point, ReportData
from nasturtium.report.text import quantity
from nasturtium.study.evidence import is_memory

STYLE = files("nasturtium.report").joinpath("style.css").read_text()

LOGO = (
    '<svg viewBox="0 0 48 48" role="img" aria-label="Nasturtium"><g fill="#e4572e">'
    + "".join(f'<ellipse cx="24" cy="12.5" rx="7.2" ry="10" transform="rotate({72 * i} 24 24)"/>' for i in range(5))
    + '</g><circle cx="24" cy="24" r="5.4" fill="#f6b73c"/></svg>'
)

PALETTE = ("#3b6fb6", "#e4572e", "#2e7d6b", "#a45bb0", "#c58b1b", "#54708a", "#b0476b", "#5d8c3c")


def page(data: ReportData) -> str:
    """The whole report as HTML text."""
    title = escape(data.title)
    tiles = "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(c)}</span></div>' for c, v in data.tiles)
    volume = figures.hypervolume(data)
    right = (
        "<section><h2>Progress of the whole front</h2>"
        f"{_note('Hypervolume: how much of the objective space the front dominates.')}{_figure(volume)}</section>"
        if volume is not None
        else ""
    )
    progress = (
        f"<section><h2>Progress over trials</h2>{_note('Best feasible network so far; dots are single trials.')}"
        f"{_figure(figures.progress(data))}</section>"
    )
    middle = f'<div class="two">{progress}{right}</div>' if right else progress
    scatter_note = (
        "Each point is one trained network, measured on the validation split. Circled: the Pareto front. "
        "Crosses break a constraint. Hover for details."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>
<header>{LOGO}<h1>{title}</h1></header>
<p class="lead">{escape(data.headline)}</p>
<div class="verdict">{escape(data.verdict)}</div>
<div class="tiles">{tiles}</div>
<section><h2>{escape(data.quality.title.capitalize())} against cost</h2>{_note(scatter_note)}
{_figure(figures.quality_against_cost(data))}</section>
{middle}
<section><h2>The front</h2>{_note("Unfold a row to see the network.")}{_front(data)}</section>
{_finalists(data)}
{_choices_section(data)}
{_failures(data)}
<section><h2>The run</h2>{_note("What was run, on what, and for how long.")}
<table>{"".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in data.facts)}</table></section>
<footer>Made with Nasturtium. This file needs no network.</footer>
</main></body></html>
"""


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _figure(figure: go.Figure) -> str:
    return plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )


def _front(data: ReportData) -> str:
    rows = []
    for i, point in enumerate(data.front):
        costs = "".join(
            f"<span>{escape(a.title)} {escape(quantity(a.metric, point.metrics[a.metric]))}</span>"
            for a in data.costs
            if a.metric in point.metrics
        )
        value = escape(quantity(data.quality.metric, point.metrics[data.quality.metric]))
        drawing = point.drawing or "<p class='note'>No drawing.</p>"
        rows.append(
            f"<details{' open' if i == 0 else ''}><summary><b>{value}</b><span>{escape(point.label)}</span>{costs}"
            "</summary>"
            f'<div class="drawing">{drawing}</div></details>'
        )
    return "".join(rows) or _note("No network met the constraints.")


def _finalists(data: ReportData) -> str:
    if not data.finalists and not data.on_devices:
        return ""
    note = (
        f"{data.on_devices} A limit is met where the whole 95 % interval meets it, missed where the whole "
        "interval misses it, otherwise not shown; memory is counted, and not proved where a network has no int8 file "
        f"that was allocated. {data.front_rests_on}"
    )
    rows = []
    for f in data.finalists:
        verdicts = "<br>".join(f"{escape(limit)}: <b>{escape(said)}</b>" for limit, said in f.verdicts) or "–"
        quality = "–" if f.quality is None else quantity(data.quality.metric, f.quality)
        details = escape("; ".join([f.conditions, *f.warnings]))
        rows.append(
            f"<tr><td class='n'>{f.number}</td><td class='n'>{escape(quality)}</td><td>{escape(f.metric)}</td>"
            f"<td title='{details}'>{escape(f.measured)}</td><td>{escape(f.predicted)}</td><td>{verdicts}</td></tr>"
        )
    head = (
        f"<tr><th class='n'>trial</th><th class='n'>{escape(data.quality.title)}</th><th>metric</th>"
        "<th>measured (95 % interval)</th><th>predicted before</th><th>verdict</th></tr>"
    )
    table = f"<table>{head}{''.join(rows)}</table>" if rows else ""
    table += "".join(map(_note, _warnings(data)))
    conditions = _note(f"Conditions of the first: {data.finalists[0].conditions}.") if data.finalists else ""
    return f"<section><h2>On the device</h2>{_note(note)}{table}{conditions}</section>"


def _warnings(data: ReportData) -> list[str]:
    """Warnings of memories, each with its trials; a latency's stand with its conditions."""
    found: dict[str, set[int]] = {}
    for f in data.finalists:
        for text in f.warnings if is_memory(f.metric) else ():
            found.setdefault(text, set()).add(f.number)
    return [f"Warning, trials {', '.join(map(str, sorted(numbers)))}: {text}" for text, numbers in found.items()]


def _choices_section(data: ReportData) -> str:
    searched = [p for p in data.points if p.choices and p.feasible and data.quality.metric in p.metrics]
    if len(searched) < 8:
        return ""
    sign = -1 if data.quality.maximize else 1
    searched.sort(key=lambda p: sign * p.metrics[data.quality.metric])
    good = searched[: max(4, len(searched) // 4)]
    note = (
        f"Share of each option among the best {len(good)} of {len(searched)} feasible networks (random search "
        "included), and among all of them. Strategies sample some options more often: compare the two columns, not one "
        "alone. Decisions that differ most come first."
    )
    rows = sorted(_decisions(searched), key=lambda name: -_shift(name, good, searched))[:24]
    body = "".join(_decision_row(name, good, searched) for name in rows)
    head = '<div class="decision head"><span>decision</span><span>the best quarter</span><span>all</span></div>'
    return f"<section><h2>What the good ones share</h2>{_note(note)}{head}{body}</section>"


def _decisions(points: Sequence[Point]) -> list[str]:
    names: dict[str, set[str]] = {}
    for point in points:
        for name, option in point.choices.items():
            names.setdefault(name, set()).add(option)
    return [name for name, options in names.items() if len(options) > 1]


def _shares(name: str, points: Sequence[Point]) -> dict[str, float]:
    counts = Counter(p.choices[name] for p in points if name in p.choices)
    total = sum(counts.values())
    return {option: count / total for option, count in counts.items()} if total else {}


def _shift(name: str, good: Sequence[Point], everyone: Sequence[Point]) -> float:
    best, base = _shares(name, good), _shares(name, everyone)
    return sum(abs(best.get(option, 0.0) - base.get(option, 0.0)) for option in base)


def _decision_row(name: str, good: Sequence[Point], everyone: Sequence[Point]) -> str:
    options = sorted(_shares(name, everyone), key=_natural)
    colors = {option: PALETTE[i % len(PALETTE)] for i, option in enumerate(options)}

    def bar(points: Sequence[Point]) -> str:
        shares = _shares(name, points)
        parts = "".join(
            f'<span style="width:{100 * shares[o]:.1f}%;background:{colors[o]}" title="{escape(o)}: {shares[o]:.0%}">'
            f"{escape(o)} · {shares[o]:.0%}</span>"
            for o in options
            if o in shares
        )
        return f'<div class="bar">{parts}</div>'

    return f'<div class="decision"><code>{escape(name)}</code>{bar(good)}{bar(everyone)}</div>'


def _natural(option: str) -> tuple[int, float, str]:
    try:
        return (0, float(option), option)
    except ValueError:
        return (1, 0.0, option)


def _failures(data: ReportData) -> str:
    if not data.failures:
        return ""
    rows = "".join(
        f"<tr><td class='n'>{number}</td><td>{escape(kind)}</td><td><code>{escape(line)}</code></td></tr>"
        for number, kind, line in data.failures
    )
    return (
        "<section><h2>Failed trials</h2><table><tr><th class='n'>trial</th><th>kind</th><th>error</th></tr>"
        f"{rows}</table></section>"
    )
