"""What a comparison says, as plain values: the tables that the command prints and the report draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nasturtium.bench import curves
from nasturtium.bench.comparison import Comparison
from nasturtium.bench.run import Floats, Run
from nasturtium.bench.statistics import Band, Ranks, band, difference, rank

CHECKPOINTS = (10, 25, 50, 100, 200, 300)
"""Full evaluations at which results are told, as far as the budget goes."""
MARGIN = 0.1
"""By how many points a strategy may be behind another and still be "not worse"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One strategy on one table after so many full evaluations."""

    table: str
    strategy: str
    evaluations: float
    seeds: int
    regret: float
    """Mean, in `unit`; the table's worst value stands in while nothing counts yet."""
    regret_low: float
    regret_high: float
    report: dict[str, float]
    """Mean of each metric of the report, over seeds that have a result."""
    hypervolume: float | None = None
    hypervolume_low: float | None = None
    hypervolume_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How soon a strategy is as good as another at the end of its budget."""

    table: str
    strategy: str
    target: float
    mean: float
    """Evaluations until the mean over seeds is there; infinite if never."""
    median: float
    """Of the seeds' own; infinite where fewer than half get there."""
    share: float
    """Of the seeds that get there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Whether a strategy is worse than another by more than the margin."""

    table: str
    strategy: str
    other: str
    evaluations: float
    difference: float
    """Mean regret less the other's, seed by seed; positive is worse."""
    low: float
    high: float
    seeds: int
    worse: str
    """"no", "yes" or "open" (the interval holds the margin)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Real time of ask and tell, in seconds of one evaluation."""

    strategy: str
    evaluations: int
    median: float
    mean: float
    """Amortised: of all evaluations, the slow ones that fit a model included."""
    last: float
    """Mean of the last tenth."""
    failed: int
    busy: float
    """Share of the simulated workers' time, up to the last start."""
    busy_to_the_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Average ranks at a checkpoint, on the strategies that every table has with the same seeds."""

    evaluations: float
    strategies: tuple[str, ...]
    tables: Ranks
    """Blocks are tables, ranks averaged over seeds first: what the ranks say of another table. Wide for few tables."""
    runs: Ranks
    """Blocks are (table, seed): what they say of another seed on these tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All tables of a comparison."""

    metric: str
    unit: str
    score: str
    """What strategies are compared and ranked by."""
    margin: float
    reported: str | None
    """The metric of the report that is shown beside: test of the first objective, where the table has it."""
    target_of: str | None
    """The strategy whose result is to be reached."""
    standings: tuple[Standing, ...]
    reaches: tuple[Reach, ...]
    margins: tuple[Margin, ...]
    rankings: tuple[Ranking, ...]
    askings: tuple[Asking, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; None for what is not finite."""
        return _finite(asdict(self))


def summarize(
    comparison: Comparison,
    *,
    checkpoints: Sequence[float] = CHECKPOINTS,
    margin: float = MARGIN,
    candidate: str | None = None,
    target_of: str | None = None,
) -> Summary:
    """Work out every table.

    Args:
        comparison: The runs.
        checkpoints: Full evaluations; those beyond the budget are left out, and its end is added.
        margin: In the regret's unit.
        candidate: The strategy of the margins; by default the first that was given.
        target_of: The strategy whose mean result at the end is to be reached; by default the first whose name begins
            with "evolution", if there is one.
    """
    metric = comparison.first.objectives[0].metric
    grid = checkpoints_of(comparison, checkpoints)
    first = candidate if candidate in comparison.strategies else comparison.strategies[0]
    aim = target_of or next((s for s in comparison.strategies if s.partition("(")[0] == "evolution"), None)
    return Summary(
        metric=metric, unit=curves.scale_of(metric)[1], margin=margin, target_of=aim,
        reported=_reported(comparison, metric),
        score="regret" if len(comparison.first.objectives) == 1 else "percentage of the volume not dominated",
        standings=tuple(s for key, runs in comparison.runs.items() for s in _standings(*key, runs, grid)),
        reaches=tuple(_reaches(comparison, aim)) if aim else (),
        margins=tuple(_margins(comparison, grid, first, margin)),
        rankings=tuple(r for n in grid if (r := ranking(comparison, n)) is not None),
        askings=tuple(_asking(name, comparison) for name in comparison.strategies),
        remarks=comparison.remarks,
    )  # fmt: skip


def checkpoints_of(comparison: Comparison, checkpoints: Sequence[float] = CHECKPOINTS) -> list[float]:
    """The checkpoints that lie within the budget, and its end."""
    budget = comparison.first.settings["evaluations"]
    if budget is None:
        budget = min(float(run.spent[-1]) for runs in comparison.runs.values() for run in runs if len(run))
    return sorted({float(n) for n in checkpoints if n <= budget} | {float(math.floor(budget))})


def scores(runs: Sequence[Run], evaluations: Floats) -> Floats:
    """`(seed, point)`, smaller is better: regret, or for several objectives the percentage of volume not dominated."""
    if len(runs[0].objectives) > 1:
        return np.array([100 * (1 - curves.hypervolume_at(run, evaluations)) for run in runs])
    return regrets(runs, evaluations)


def regrets(runs: Sequence[Run], evaluations: Floats) -> Floats:
    """`(seed, point)` regret of the first objective; behind the best of these runs where the table's is not known."""
    values = np.array([curves.best_at(run, evaluations) for run in runs])
    return np.array([curves.regret(run, row) for run, row in zip(runs, values, strict=True)])


def _reported(comparison: Comparison, metric: str) -> str | None:
    names = {name for runs in comparison.runs.values() for run in runs for name in run.report}
    return f"test_{metric}" if f"test_{metric}" in names else min(names, default=None)


def _standings(strategy: str, table: str, runs: Sequence[Run], grid: Sequence[float]) -> list[Standing]:
    points = np.array(grid)
    found = band(regrets(runs, points))
    names = sorted({name for run in runs for name in run.report})
    reported = {name: _mean([curves.report_at(run, name, points) for run in runs]) for name in names}
    volume: Band | None = None
    if len(runs[0].objectives) > 1:
        volume = band(np.array([curves.hypervolume_at(run, points) for run in runs]))
    return [
        Standing(
            table=table, strategy=strategy, evaluations=n, seeds=len(runs), regret=float(found.mean[i]),
            regret_low=float(found.low[i]), regret_high=float(found.high[i]),
            report={name: float(values[i]) for name, values in reported.items()},
            hypervolume=None if volume is None else float(volume.mean[i]),
            hypervolume_low=None if volume is None else float(volume.low[i]),
            hypervolume_high=None if volume is None else float(volume.high[i]),
        )
        for i, n in enumerate(grid)
    ]  # fmt: skip


def _mean(rows: Sequence[Floats]) -> Floats:
    values = np.array(rows)
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    return np.where(counts > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def _reaches(comparison: Comparison, aim: str) -> list[Reach]:
    found = []
    for table in comparison.tables:
        given = comparison.runs.get((aim, table))
        if not given or not all(len(run) for run in given):
            continue
        target = float(np.mean([run.best()[-1] for run in given]))
        if math.isnan(target):
            continue
        for strategy in comparison.strategies:
            runs = [run for run in comparison.runs.get((strategy, table), ()) if len(run)]
            if runs:
                each = np.array([curves.evaluations_to_reach(run, target) for run in runs])
                found.append(
                    Reach(
                        table=table, strategy=strategy, target=target,
                        mean=curves.mean_evaluations_to_reach(runs, target),
                        median=float(np.sort(each)[(len(each) - 1) // 2]), share=float(np.isfinite(each).mean()),
                    )
                )  # fmt: skip
    return found


def _margins(comparison: Comparison, grid: Sequence[float], first: str, margin: float) -> list[Margin]:
    found = []
    for table in comparison.tables:
        mine = _by_seed(comparison, first, table)
        for other in comparison.strategies:
            theirs = _by_seed(comparison, other, table)
            seeds = sorted(mine.keys() & theirs.keys())
            if other == first or not seeds:
                continue
            points = np.array(grid)
            a, b = (scores([runs[seed] for seed in seeds], points) for runs in (mine, theirs))
            for i, n in enumerate(grid):
                one = difference(a[:, i], b[:, i])
                found.append(
                    Margin(
                        table=table, strategy=first, other=other, evaluations=n, difference=one.mean, low=one.low,
                        high=one.high, seeds=one.n, worse=one.verdict(margin),
                    )
                )  # fmt: skip
    return found


def _by_seed(comparison: Comparison, strategy: str, table: str) -> dict[int, Run]:
    return {int(run.settings["seed"]): run for run in comparison.runs.get((strategy, table), ())}


def ranking(comparison: Comparison, evaluations: float) -> Ranking | None:
    """Average ranks after so many evaluations; None where fewer than two strategies have all tables."""
    strategies = [s for s in comparison.strategies if all((s, table) in comparison.runs for table in comparison.tables)]
    if len(strategies) < 2:
        return None
    blocks, means = [], []
    for table in comparison.tables:
        runs = {s: _by_seed(comparison, s, table) for s in strategies}
        seeds = sorted(set.intersection(*(set(found) for found in runs.values())))
        if not seeds:
            return None
        point = np.array([evaluations])
        rows = np.stack([scores([runs[s][seed] for seed in seeds], point)[:, 0] for s in strategies], axis=1)
        blocks.append(np.round(rows, 9))  # differences below a billionth of a point are rounding
        means.append(rank(blocks[-1]).mean)
    from_tables = np.array(means)
    return Ranking(
        evaluations=evaluations, strategies=tuple(strategies), tables=_table_ranks(from_tables),
        runs=rank(np.concatenate(blocks)),
    )  # fmt: skip


def _table_ranks(means: Floats) -> Ranks:
    """Rank the tables' average ranks again, so that each table is one block."""
    return rank(np.round(means, 9))


def _asking(strategy: str, comparison: Comparison) -> Asking:
    runs = [run for table in comparison.tables for run in comparison.runs.get((strategy, table), ()) if len(run)]
    times = [run.ask_seconds + run.tell_seconds for run in runs]
    whole = np.concatenate(times) if times else np.array([math.nan])
    tails = [one[-max(1, len(one) // 10) :] for one in times]
    return Asking(
        strategy=strategy, evaluations=max((len(run) for run in runs), default=0),
        median=float(np.median(whole)), mean=float(whole.mean()),
        last=float(np.concatenate(tails).mean()) if tails else math.nan,
        failed=sum(int(run.failed.sum()) for run in runs),
        busy=float(np.mean([run.busy_share() for run in runs])) if runs else math.nan,
        busy_to_the_end=float(np.mean([run.busy_share(ramp_down=True) for run in runs])) if runs else math.nan,
    )  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
