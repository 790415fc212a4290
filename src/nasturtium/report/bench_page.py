"""The report of a comparison of strategies: one HTML file that needs nothing else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from nasturtium.bench import Comparison, Summary
from nasturtium.bench.summary import Standing
from nasturtium.errors import StoreError
from nasturtium.report import bench_figures as figures
from nasturtium.report.page import LOGO, STYLE

WIDE = "main { max-width:1240px } .lead { margin-bottom:20px } td, th { white-space:nowrap } .wide { overflow-x:auto }"


def write(comparison: Comparison, summary: Summary, path: str | Path) -> Path:
    """Write the report; it is replaced at once or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    target = Path(path)
    text = page(comparison, summary)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".html")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except OSError as error:
        raise StoreError(f"The report cannot be written to {str(target)!r}: {error.strerror or error}.") from error
    return target


def page(comparison: Comparison, summary: Summary) -> str:
    """The whole report as HTML text."""
    title = f"{len(comparison.strategies)} search strategies on {_number(len(comparison.tables), 'table')}"
    sections = [section for table in comparison.tables for section in _table_sections(comparison, summary, table)]
    sections += [_ranks(summary), _asking(summary)]
    remarks = "".join(f'<div class="verdict">{escape(text)}</div>' for text in summary.remarks)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{WIDE}</style><script>{get_plotlyjs()}</script></head><body><main>
<header>{LOGO}<h1>{escape(title)}</h1></header>
<p class="lead">{escape(_lead(comparison, summary))}</p>{remarks}
{"".join(sections)}
<footer>Made with Nasturtium. This file needs no network.</footer>
</main></body></html>
"""


def _lead(comparison: Comparison, summary: Summary) -> str:
    run = comparison.first
    wishes = " and ".join(f"{o.direction} {o.metric}" for o in run.objectives)
    limits = ", ".join(f"{name} {relation} {limit:g}" for name, relation, limit in run.settings["constraints"])
    seeds = sorted({len(runs) for runs in comparison.runs.values()})
    budget = run.settings["evaluations"]
    parts = [
        f"{wishes[0].upper()}{wishes[1:]}{f' within {limits}' if limits else ''}",
        f"{_number(budget, 'full evaluation') if budget is not None else ''}".strip(),
        f"{run.settings['workers']} simulated worker(s), {run.settings['schedule']}",
        f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else _number(seeds[0], "seed"),
    ]
    return (
        f"{'; '.join(p for p in parts if p)}. Regret: how far the best found lies behind the best of the table, by "
        f"validation, in {summary.unit}; test is only reported. Bands: 95 % bootstrap over seeds."
    )


def _number(count: float, noun: str) -> str:
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def _table_sections(comparison: Comparison, summary: Summary, table: str) -> Iterable[str]:
    over = "Mean over seeds, both axes logarithmic; zero is drawn at the lower edge. Click a name to hide it."
    body = _figure(figures.regret_over_evaluations(comparison, table, summary.unit)) + _standings(summary, table)
    yield _section(f"{table}: regret over evaluations", over, body)
    volume = figures.hypervolume(comparison, table)
    if volume is not None:
        note = "Share of the box between the table's worst and best value of each objective that the front dominates."
        yield _section(f"{table}: hypervolume over evaluations", note, _figure(volume))
    if not _timed(comparison, table):
        return  # the same curves once more
    note = "Seconds of training as the table has them; where it has none, a full evaluation counts as one second."
    yield _section(
        f"{table}: regret over simulated time",
        note,
        _figure(figures.regret_over_time(comparison, table, summary.unit)),
    )


def _timed(comparison: Comparison, table: str) -> bool:
    """Whether simulated time is more than the count of evaluations."""
    runs = [run for (_, where), group in comparison.runs.items() if where == table for run in group]
    return any(run.settings["workers"] > 1 or not np.allclose(run.end - run.start, run.share) for run in runs)


def _standings(summary: Summary, table: str) -> str:
    rows = [s for s in summary.standings if s.table == table]
    points = list(dict.fromkeys(s.evaluations for s in rows))
    shown = summary.reported
    several = any(s.hypervolume is not None for s in rows)
    beside = (f'<th class="n">{escape(shown)}</th>' if shown else "") + (
        '<th class="n">hypervolume</th>' if several else ""
    )
    head = "".join(f'<th class="n">at {n:g}</th>{beside}' for n in points)
    lines = []
    for strategy in dict.fromkeys(s.strategy for s in rows):
        mine = [s for s in rows if s.strategy == strategy]
        cells = "".join(_cell(s, shown, summary.unit) for s in mine)
        lines.append(f'<tr><td>{escape(strategy)}</td><td class="n">{mine[0].seeds}</td>{cells}</tr>')
    return (
        f'<div class="wide"><table><tr><th>strategy</th><th class="n">seeds</th>{head}</tr>{"".join(lines)}</table>'
        "</div>"
    )


def _cell(standing: Standing, shown: str | None, unit: str) -> str:
    band = f"{standing.regret_low:.3f} to {standing.regret_high:.3f}"
    text = f'<td class="n" title="{band}">{standing.regret:.3f}</td>'
    if shown:
        value = standing.report.get(shown, float("nan"))
        text += f'<td class="n">{f"{100 * value:.2f}" if unit == "points" else f"{value:.4g}"}</td>'
    if standing.hypervolume is not None:
        band = f"{standing.hypervolume_low:.4f} to {standing.hypervolume_high:.4f}"
        text += f'<td class="n" title="{band}">{standing.hypervolume:.4f}</td>'
    return text


def _ranks(summary: Summary) -> str:
    if not summary.rankings:
        return ""
    last = summary.rankings[-1]
    parts = []
    for ranks, what in (
        (last.tables, "what the ranks say of another table: one block a table, ranks averaged over its seeds"),
        (last.runs, "what they say of another seed of these tables: one block for each table and seed"),
    ):
        if ranks.blocks < 2:
            continue  # one table says nothing of another
        p = f", p = {ranks.p_value:.2g} (Friedman, Iman-Davenport)" if ranks.p_value == ranks.p_value else ""
        note = f"{what[0].upper()}{what[1:]}; {_number(ranks.blocks, 'block')}{p}."
        parts.append(_note(note) + _figure(figures.critical_difference(last, ranks)))
    head = (
        f"After {last.evaluations:g} evaluations, 1 is best, by {summary.score}. A bar joins strategies whose average "
        "ranks differ by less than Nemenyi's critical difference at 5 %."
    )
    return _section("Average ranks", head, "".join(parts))


def _asking(summary: Summary) -> str:
    head = ("strategy", "busy share", "to the last end", "failed look-ups")
    rows = "".join(
        f'<tr><td>{escape(a.strategy)}</td><td class="n">{a.busy:.1%}</td><td class="n">{a.busy_to_the_end:.1%}</td>'
        f'<td class="n">{a.failed}</td></tr>'
        for a in summary.askings
    )
    titles = "".join(f'<th class="n">{h}</th>' for h in head[1:])
    table = f"<table><tr><th>{head[0]}</th>{titles}</tr>{rows}</table>"
    note = (
        "Real time on the machine that ran the comparison. Busy: share of the simulated workers' time up to the last "
        "start, after which there is nothing left to hand out; and up to the last end."
    )
    return _section("Time of ask and tell", note, _figure(figures.time_per_ask(summary.askings)) + table)


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{_note(note)}{body}</section>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _figure(figure: go.Figure) -> str:
    return plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
