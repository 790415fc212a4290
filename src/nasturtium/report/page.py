"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from nasturtium.report import figures
from nasturtium.report.data import Point, ReportData
from nasturtium.report.text import quantity

STYLE = """
:root { --ink:#1f2a37; --muted:#6b7280; --line:#e8ebef; --accent:#e4572e; --green:#2e7d6b; --paper:#ffffff; --back:#f6f7f9; }
* { box-sizing:border-box }
body { margin:0; background:var(--back); color:var(--ink); line-height:1.55;
  font:15px/1.55 Inter,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif }
main { max-width:1120px; margin:0 auto; padding:36px 24px 80px }
header { display:flex; align-items:center; gap:16px; margin-bottom:8px }
header svg { width:44px; height:44px; flex:none }
h1 { font-size:26px; letter-spacing:-.02em; margin:0; font-weight:650 }
h2 { font-size:18px; letter-spacing:-.01em; margin:0 0 4px; font-weight:620 }
p.note, .note { color:var(--muted); margin:2px 0 12px; font-size:13.5px }
.lead { font-size:17px; max-width:860px; margin:10px 0 6px }
.verdict { border-left:3px solid var(--accent); padding:2px 0 2px 14px; margin:14px 0 22px; max-width:860px }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin:18px 0 24px }
.tile { background:var(--paper); border:1px solid var(--line); border-radius:12px; padding:13px 16px }
.tile b { display:block; font-size:20px; font-weight:640; letter-spacing:-.01em }
.tile span { color:var(--muted); font-size:12.5px }
section { background:var(--paper); border:1px solid var(--line); border-radius:14px; padding:22px 24px; margin:0 0 18px }
.two { display:grid; grid-template-columns:1fr 1fr; gap:18px } .two section { margin:0 0 18px; min-width:0 }
@media (max-width:860px) { .two { grid-template-columns:1fr } }
table { border-collapse:collapse; width:100%; font-size:14px; font-variant-numeric:tabular-nums }
th { text-align:left; color:var(--muted); font-weight:560; font-size:12.5px }
th, td { padding:7px 12px 7px 0; border-bottom:1px solid var(--line); vertical-align:top }
td.n, th.n { text-align:right }
details { border:1px solid var(--line); border-radius:10px; margin:10px 0; overflow:hidden }
summary { cursor:pointer; padding:11px 16px; display:grid; grid-template-columns:16px 100px minmax(110px,1fr) repeat(3,minmax(130px,1fr));
  gap:4px 14px; align-items:baseline; list-style:none }
summary::before { content:'▸'; color:var(--muted) } details[open] summary::before { content:'▾' }
summary span { color:var(--muted); font-size:13.5px }
.drawing { overflow-x:auto; padding:6px 16px 16px; border-top:1px solid var(--line) } .drawing svg { max-width:100%; height:auto }
.decision { display:grid; grid-template-columns:minmax(150px,250px) 1fr 1fr; gap:4px 18px; align-items:center; padding:5px 0;
  border-bottom:1px solid var(--line); font-size:13px }
.decision code { font-size:12.5px; overflow-wrap:anywhere }
.bar { display:flex; height:20px; border-radius:5px; overflow:hidden; background:var(--line) }
.bar span { color:#fff; font-size:11px; line-height:20px; text-align:center; overflow:hidden; white-space:nowrap }
.head { color:var(--muted); font-size:12.5px; border-bottom:1px solid var(--line) }
code { font-family:ui-monospace,'SF Mono',Menlo,Consolas,monospace; font-size:13px }
footer { color:var(--muted); font-size:13px; margin-top:26px }
"""

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
        f"<section><h2>Progress of the whole front</h2>{_note('Hypervolume: how much of the objective space the front dominates.')}"
        f"{_figure(volume)}</section>"
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
            f"<details{' open' if i == 0 else ''}><summary><b>{value}</b><span>{escape(point.label)}</span>{costs}</summary>"
            f'<div class="drawing">{drawing}</div></details>'
        )
    return "".join(rows) or _note("No network met the constraints.")


def _choices_section(data: ReportData) -> str:
    searched = [p for p in data.points if p.choices and p.feasible and data.quality.metric in p.metrics]
    if len(searched) < 8:
        return ""
    sign = -1 if data.quality.maximize else 1
    searched.sort(key=lambda p: sign * p.metrics[data.quality.metric])
    good = searched[: max(4, len(searched) // 4)]
    note = (
        f"Share of each option among the best {len(good)} of {len(searched)} feasible networks (random search included), "
        "and among all of them. Strategies sample some options more often: compare the two columns, not one alone. "
        "Decisions that differ most come first."
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
        f"<section><h2>Failed trials</h2><table><tr><th class='n'>trial</th><th>kind</th><th>error</th></tr>{rows}</table>"
        "</section>"
    )
