"""Parallel search in simulated time, on the real training times of NAS-Bench-101 (a sample of 20,001 cells).

    python benchmarks/parallel.py -o runs/parallel [--data-root FOLDER] [--workers 1 8 64 512] [--seeds 10]

For each number of workers and both schedules: the busy share of the workers, up to the last start and up to the last
end, and mean regret after equal numbers of evaluations and at equal simulated times; regret over workers is drawn into
price.html. In the rows "thinking", ask and tell take their real time on the simulated clock (one process asks for all
workers), so that a slow strategy leaves workers idle. At the end a run of `--rounds` evaluations a worker, of which the
tail, in which the last trainings end one by one, is a small part. Stop it and run it again: it goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nasturtium import bench
from nasturtium.bench.curves import best_at, best_at_seconds, regret
from nasturtium.bench.statistics import band
from nasturtium.cli.output import table
from nasturtium.errors import NasturtiumError
from nasturtium.report.bench_figures import look
from nasturtium.report.figures import style
from nasturtium.trial import format_seconds

TABLE = "nasbench101"
STRATEGIES = ("auto", "evolution(population=20, sample=5)", "random")
WORKERS = (1, 8, 64, 512)
EVALUATIONS = 4_096
"""Eight rounds of 512 workers, a fifth of the table."""
ROUNDS = 32
CHECKPOINTS = (128, 512, 1024, 2048, 4096)
TIMES = (1.0e4, 3.0e4, 1.0e5, 3.0e5)
"""Simulated seconds; the mean training of 108 epochs takes about half an hour."""
PRICED, PRICED_AT = 1024, 3.0e4
"""Of the figure: evaluations, and simulated seconds."""


def kinds() -> Iterator[tuple[str, str, bool]]:
    yield "asynchronous", "asynchronous", False
    yield "asynchronous, thinking", "asynchronous", True
    yield "deterministic", "deterministic", False


def available(names: list[str]) -> list[str]:
    found = []
    for name in names:
        try:
            bench.Named.parse(name).make()
        except (NasturtiumError, ImportError) as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


def folder_of(output: Path, workers: int, label: str) -> Path:
    return output / f"{workers}-{label.replace(', ', '-')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data-root")
    parser.add_argument("--workers", type=int, nargs="*", default=list(WORKERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--auto-seeds", type=int, default=3, help="of the default strategy, which is slower")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kinds", nargs="*", help="these of asynchronous, thinking, deterministic")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    names = available([n for n in STRATEGIES if not arguments.only or n in arguments.only])
    rows, prices = [], {}
    for workers in arguments.workers:
        for label, schedule, thinking in kinds():
            if arguments.kinds and label.split(", ")[-1] not in arguments.kinds:
                continue
            if workers == 1 and label != "asynchronous":
                continue  # one worker: the schedules are the same
            print(f"{workers} workers, {label}", file=sys.stderr)
            for name in names:
                if name == "auto" and label != "asynchronous":
                    continue  # minutes a search
                found = bench.compare(
                    [name], [TABLE], directory=folder_of(arguments.output, workers, label),
                    seeds=arguments.auto_seeds if name == "auto" else arguments.seeds,
                    evaluations=arguments.evaluations, workers=workers, schedule=schedule, thinking=thinking,
                    processes=arguments.processes, data_root=arguments.data_root,
                )  # fmt: skip
                runs = found.runs[name, TABLE]
                counts = [n for n in CHECKPOINTS if n <= arguments.evaluations]
                at = band(np.array([regret(r, best_at(r, np.array(counts, dtype=float))) for r in runs]))
                by = band(np.array([regret(r, best_at_seconds(r, np.array(TIMES))) for r in runs]))
                prices[name, label, workers] = [
                    (b.mean[k], b.low[k], b.high[k])
                    for b, k in ((at, counts.index(PRICED)), (by, TIMES.index(PRICED_AT)))
                ]
                rows.append([
                    name, str(workers), label, str(len(runs)), f"{np.mean([r.busy_share() for r in runs]):.1%}",
                    f"{np.mean([r.busy_share(ramp_down=True) for r in runs]):.1%}",
                    format_seconds(float(np.mean([r.makespan() for r in runs]))),
                    *(f"{v:.3f}" for v in at.mean), *(f"{v:.3f}" for v in by.mean),
                ])  # fmt: skip
    head = [
        "strategy", "workers", "schedule", "seeds", "busy", "to the end", "makespan",
        *(f"at {n:,}" for n in CHECKPOINTS if n <= arguments.evaluations), *(f"by {t:.0e} s" for t in TIMES),
    ]  # fmt: skip
    print(f"{TABLE}: mean regret in points, {arguments.evaluations:,} evaluations")
    print(table(head, rows, right=range(3, len(head))))
    path = arguments.output / "price.html"
    price(prices, arguments.workers).write_html(path, include_plotlyjs=True, config={"displayModeBar": False})
    print(f"Drawn into {path}.")
    long_run([n for n in names if n != "auto"], max(arguments.workers), arguments.rounds, arguments.data_root)


def long_run(names: list[str], workers: int, rounds: int, data_root: str | None) -> None:
    """Busy share to the last end of a long run."""
    known = bench.load_table(TABLE, data_root)
    print(f"{workers} workers, asynchronous, {rounds} evaluations a worker, seed 0")
    for name in names:
        run = bench.simulate(name, known, evaluations=rounds * workers, workers=workers)
        ends = f"{run.busy_share():.1%} up to the last start, {run.busy_share(ramp_down=True):.1%} to the last end"
        print(f"{name}: busy {ends}, {len(run):,} evaluations in {format_seconds(run.makespan())}", flush=True)


def price(prices: dict, workers: list[int]) -> go.Figure:
    """Regret over the number of workers: what they cost in evaluations, and what they gain in time; 95 % bands."""
    places = f"after {PRICED:,} evaluations", f"by {PRICED_AT:,.0f} simulated seconds"
    figure = make_subplots(rows=1, cols=2, subplot_titles=places, horizontal_spacing=0.09)
    names = list(dict.fromkeys(name for name, _, _ in prices))
    for place, name in enumerate(names):
        given = [w for w in workers if (name, "asynchronous", w) in prices]
        xs = [w * 1.06 ** (place - len(names) / 2) for w in given]  # side by side
        for column in (1, 2):
            means, lows, highs = np.array([prices[name, "asynchronous", w][column - 1] for w in given]).T
            figure.add_scatter(
                x=xs, y=means, name=name, legendgroup=name, showlegend=column == 1, mode="lines+markers", row=1,
                col=column, line={"color": look(names)[name][0]},
                error_y={"array": highs - means, "arrayminus": means - lows, "thickness": 1},
            )  # fmt: skip
    style(figure, "simulated workers", "mean regret (points)", height=440)
    figure.update_layout(legend={"y": 1.1})
    figure.update_annotations(font_size=13)
    figure.update_xaxes(type="log", tickvals=workers, ticktext=[str(w) for w in workers])
    figure.update_yaxes(rangemode="tozero")
    return figure


if __name__ == "__main__":
    main()
