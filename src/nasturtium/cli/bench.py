"""`nasturtium bench`: strategies against each other on tables of known results."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from nasturtium.cli.options import import_from_here
from nasturtium.cli.output import emit_json, format_option, is_terminal, note, table
from nasturtium.errors import InvalidInputError

FAILED = 1


@click.command(
    epilog="Example: nasturtium bench --table nasbench201/cifar10 --strategy auto --strategy random "
    '--strategy "evolution(population=20, sample=5)" --seeds 20 --evaluations 100 -o runs/bench'
)
@click.option("--table", "tables", multiple=True, help="Name, file (.npz, .parquet) or module:function; repeatable.")
@click.option(
    "--strategy", "strategies", multiple=True,
    help='Like random, "optuna(sampler=tpe)" or module:function; repeatable, the first is compared with the others.',
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Searches of each, from seed 0.")
@click.option("--evaluations", type=float, default=100.0, show_default=True, help="Budget of a search in full ones.")
@click.option("--simulated-seconds", "seconds", type=float, help="Budget of a search in simulated time.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Simulated workers.")
@click.option(
    "--schedule", type=click.Choice(["asynchronous", "deterministic"]), default="asynchronous", show_default=True
)
@click.option("--thinking", is_flag=True, help="Let the real time of ask and tell pass on the simulated clock.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Real processes.")
@click.option("--maximize", multiple=True, help="Metric to make large; repeatable.  [default: accuracy]")
@click.option("--minimize", multiple=True, help="Metric to make small; repeatable.")
@click.option("--constraint", "constraints", multiple=True, help='A hard limit, like "params <= 60k"; repeatable.')
@click.option("--observed", help="Column of NAS-Bench-201: mean (its default) or one_seed.")
@click.option("--checkpoint", "checkpoints", type=float, multiple=True, help="Evaluations to report; repeatable.")
@click.option("--margin", type=float, default=0.1, show_default=True, help="Of “not worse than”, in points.")
@click.option("--data-root", type=click.Path(), help="Folder that holds nasbench201, nasbench101 …")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the runs and of report.html.")
@click.option(
    "--show",
    "only_show",
    is_flag=True,
    help="Print what the folder holds, or the strategies and tables named; run nothing.",
)
@click.option("--redo", is_flag=True, help="Make runs of other settings or other code anew instead of refusing them.")
@click.option("--quiet", is_flag=True, help="No progress.")
@format_option
@click.option("--json", "style", flag_value="json", help="The same as --format json.")
def bench(**given: Any) -> int:
    """Compare search strategies on tables of known results, over many seeds.

    Every search is a file of its own in the output folder: run the same command again after any stop and it goes on;
    run it with more strategies, tables or seeds and they are added. Regret is of validation; test is only reported.
    """
    from nasturtium import bench as room  # noqa: PLC0415  (the help must be instant)
    from nasturtium.report import bench_page  # noqa: PLC0415

    if given["output"] is None:
        raise InvalidInputError("A comparison needs a place to keep its runs: give `-o runs/bench`.")
    if given["only_show"]:
        comparison = room.load(given["output"]).select(given["strategies"], given["tables"])
    else:
        comparison = _run(given)
    summary = room.summarize(
        comparison, margin=given["margin"], **({"checkpoints": given["checkpoints"]} if given["checkpoints"] else {})
    )
    if given["style"] == "json":
        emit_json(summary.to_dict())
    else:
        click.echo("\n\n".join(text_of(summary)))
    path = bench_page.write(comparison, summary, given["output"] / "report.html")
    note(f"\nReport: {path}")
    for label, error in comparison.failures:
        note(f"Failed: {label}: {error.strip().splitlines()[-1]}")
    return FAILED if comparison.failures else 0


def _run(given: dict[str, Any]) -> Any:
    from nasturtium import bench as room  # noqa: PLC0415
    from nasturtium.trial import constraints, objectives  # noqa: PLC0415

    if not given["tables"] or not given["strategies"]:
        raise InvalidInputError(
            "A comparison needs tables and strategies: for example `--table nasbench201/cifar10 --strategy evolution "
            "--strategy random`. To print one that was run, give --show."
        )
    import_from_here()  # for module:function
    known = [room.load_table(name, given["data_root"], given["observed"]) for name in given["tables"]]
    extra = {name: metric for one in known for name, metric in one.known_metrics.items()}
    return room.compare(
        given["strategies"], given["tables"], directory=given["output"], seeds=given["seeds"],
        evaluations=given["evaluations"], seconds=given["seconds"], workers=given["workers"],
        schedule=given["schedule"], thinking=given["thinking"],
        objectives=objectives(
            given["maximize"] or (() if given["minimize"] else ("accuracy",)), given["minimize"], extra=extra
        ),
        constraints=constraints(given["constraints"], extra=extra), processes=given["processes"],
        data_root=given["data_root"], observed=given["observed"], redo=given["redo"],
        progress=(lambda _: None) if given["quiet"] else _Line(),
    )  # fmt: skip


class _Line:
    """Progress as one line that renews itself, or elsewhere as a line every ten seconds."""

    def __init__(self) -> None:
        self.last = 0.0
        self.live = is_terminal()

    def __call__(self, progress: Any) -> None:
        from nasturtium.trial import format_seconds  # noqa: PLC0415

        finished = progress.done == progress.total
        now = time.monotonic()
        if not finished and now - self.last < (0.1 if self.live else 10.0):
            return
        self.last = now
        left = "done" if finished else f"about {format_seconds(progress.seconds_left)} left"
        text = f"{progress.done} of {progress.total} searches, {left}: {progress.label}"
        if self.live:
            click.echo(f"\r\x1b[2K{text[:110]}" + ("\n" if finished else ""), nl=False, err=True)
        else:
            note(text)


def text_of(summary: Any) -> Iterable[str]:
    """Every table as text."""
    for name in dict.fromkeys(s.table for s in summary.standings):
        yield _standings(summary, name)
    if summary.reaches:
        yield _reaches(summary)
    if summary.margins:
        yield _margins(summary)
    if summary.rankings:
        yield _rankings(summary)
    yield _askings(summary)
    yield from summary.remarks


def _standings(summary: Any, name: str) -> str:
    """Regret with its band at each checkpoint, and the test metric beside it."""
    rows = [s for s in summary.standings if s.table == name]
    points = list(dict.fromkeys(s.evaluations for s in rows))
    shown = summary.reported
    several = any(s.hypervolume is not None for s in rows)
    head = ["strategy", "seeds"]
    for n in points:
        head += [f"at {n:g}", *(["test"] if shown else []), *(["hypervolume"] if several else [])]
    lines = []
    for strategy in dict.fromkeys(s.strategy for s in rows):
        mine = {s.evaluations: s for s in rows if s.strategy == strategy}
        line = [strategy, str(next(iter(mine.values())).seeds)]
        for n in points:
            s = mine[n]
            line.append(_interval(s.regret, s.regret_low, s.regret_high))
            if shown:
                value = s.report.get(shown, math.nan)
                line.append(f"{100 * value:.2f}" if summary.unit == "points" else f"{value:.4g}")
            if several:
                line.append(_interval(s.hypervolume, s.hypervolume_low, s.hypervolume_high, 4))
        lines.append(line)
    beside = f", and {shown} of the best by validation" if shown else ""
    title = (
        f"{name}: mean regret of {summary.metric} in {summary.unit} [95 % band] after so many full evaluations{beside}"
    )
    return title + "\n" + table(head, lines, right=range(1, len(head)))


def _interval(mean: float, low: float, high: float, digits: int = 3) -> str:
    if not math.isfinite(mean):
        return "–"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _reaches(summary: Any) -> str:
    names = list(dict.fromkeys(r.table for r in summary.reaches))
    head, rows = ["strategy"], []
    for name in names:
        head += [name, "median", "share"]
    for strategy in dict.fromkeys(r.strategy for r in summary.reaches):
        line = [strategy]
        for name in names:
            found = [r for r in summary.reaches if (r.strategy, r.table) == (strategy, name)]
            line += [_count(found[0].mean), _count(found[0].median), f"{found[0].share:.0%}"] if found else ["–"] * 3
        rows.append(line)
    title = f"Evaluations until the mean over seeds is that of {summary.target_of} at the end; the seeds' own median"
    return title + "\n" + table(head, rows, right=range(1, len(head)))


def _count(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "not reached"


def _margins(summary: Any) -> str:
    first = summary.margins[0].strategy
    points = list(dict.fromkeys(m.evaluations for m in summary.margins))
    rows = []
    for name, other in dict.fromkeys((m.table, m.other) for m in summary.margins):
        mine = {m.evaluations: m for m in summary.margins if (m.table, m.other) == (name, other)}
        cells = [f"{_interval(m.difference, m.low, m.high)} {m.worse}" if (m := mine.get(n)) else "–" for n in points]
        rows.append([name, other, str(next(iter(mine.values())).seeds), *cells])
    title = (
        f"Is {first} worse by more than {summary.margin:g}? Its {summary.score} less the other's, seed by seed "
        "[95 % interval]; negative is better"
    )
    head = ["table", "than", "seeds", *(f"at {n:g}" for n in points)]
    return title + "\n" + table(head, rows, right=range(2, len(head)))


def _rankings(summary: Any) -> str:
    last = summary.rankings[-1]
    head = ["strategy", *(f"at {r.evaluations:g}" for r in summary.rankings)]
    rows = [[s, *(f"{r.runs.mean[r.strategies.index(s)]:.2f}" for r in summary.rankings)] for s in last.strategies]
    for which in ("tables", "runs"):
        if getattr(last, which).blocks < 2:
            continue
        rows.append([
            f"critical difference, {which}", *(f"{getattr(r, which).critical_difference:.2f}" for r in summary.rankings)
        ])  # fmt: skip
        rows.append([f"p (Iman-Davenport), {which}", *(f"{getattr(r, which).p_value:.2g}" for r in summary.rankings)])
    title = (
        f"Average rank over (table, seed), 1 is best; by tables n = {last.tables.blocks} (another table), by runs n = "
        f"{last.runs.blocks} (another seed of these tables)"
    )
    return title + "\n" + table(head, rows, right=range(1, len(head)))


def _askings(summary: Any) -> str:
    rows = [
        [
            a.strategy, str(a.evaluations), *(f"{1e3 * value:.3g}" for value in (a.median, a.mean, a.last)),
            f"{a.busy:.1%}", f"{a.busy_to_the_end:.1%}", str(a.failed),
        ]
        for a in summary.askings
    ]  # fmt: skip
    head = ["strategy", "evaluations", "median ms", "mean ms", "last tenth ms", "busy", "busy to the end", "failed"]
    return "Real time of ask and tell per evaluation, and simulated workers\n" + table(
        head, rows, right=range(1, len(head))
    )
