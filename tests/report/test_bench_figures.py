"""The data of the figures of a comparison."""

from __future__ import annotations

import pytest
from plotly.offline import get_plotlyjs

from nasturtium.bench import compare, summarize
from nasturtium.bench.comparison import Comparison
from nasturtium.bench.statistics import from_average_ranks
from nasturtium.bench.summary import Ranking
from nasturtium.report import bench_figures as figures
from nasturtium.report.bench_page import page, write
from nasturtium.trial import Objective

TABLE = "tests.bench.toy:table"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Comparison:
    return compare(
        ["evolution(population=10)", "random"], [TABLE], directory=tmp_path_factory.mktemp("bench"), seeds=3,
        evaluations=20, processes=1,
        objectives=(
            Objective(metric="accuracy", direction="maximize"), Objective(metric="cost", direction="minimize")
        ),
    )  # fmt: skip


def named(figure):
    return {trace.name: trace for trace in figure.data if trace.name}


def test_regret_has_a_line_and_a_band_for_each_strategy(comparison):
    figure = figures.regret_over_evaluations(comparison, TABLE, "points")
    traces = named(figure)
    assert set(traces) == {n + s for n in ("evolution(population=10)", "random") for s in ("", " (band)")}
    line, shade = traces["random"], traces["random (band)"]
    assert list(line.x) == list(range(1, 21))
    assert list(line.y) == sorted(line.y, reverse=True)
    assert min(line.y) >= 1e-3
    assert all(low <= y <= high for y, high, low in zip(line.y, shade.y[:20], reversed(shade.y[20:]), strict=True))
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")


def test_regret_over_time_goes_from_the_first_end_to_the_last_that_all_have(comparison):
    line = named(figures.regret_over_time(comparison, TABLE, "points"))["random"]
    runs = comparison.runs["random", TABLE]
    assert line.x[0] == pytest.approx(max(run.end.min() for run in runs), rel=1e-4)
    assert line.x[-1] == pytest.approx(min(run.makespan() for run in runs), rel=1e-4)


def test_hypervolume_grows(comparison):
    figure = figures.hypervolume(comparison, TABLE)
    assert figure is not None
    line = named(figure)["random"]
    assert list(line.y) == sorted(line.y)
    assert 0 < line.y[0] <= line.y[-1] <= 1


def test_the_critical_difference_is_drawn_to_scale():
    names = ("a", "b", "c", "random")
    ranks = from_average_ranks([3.143, 2.0, 2.893, 1.964], 14)  # Demšar (2006), section 3.2.4: CD 1.25
    figure = figures.critical_difference(Ranking(evaluations=10, strategies=names, tables=ranks, runs=ranks), ranks)
    traces = named(figure)
    assert traces["b"].x[0] == 2.0
    ruler = traces["critical difference"]
    assert ruler.x[1] - ruler.x[0] == pytest.approx(1.25, abs=0.005)
    bars = [t for t in figure.data if t.name == "not told apart"]
    assert [tuple(round(x, 3) for x in bar.x) for bar in bars] == [(1.934, 3.173)]  # 1.964 to 3.143: all of them


def test_a_colour_belongs_to_a_strategy():
    looks = figures.look(["random", *(f"s{i}" for i in range(14))])
    assert looks["random"] == (figures.PLAIN, "solid")
    assert len(set(looks.values())) == 15


def test_the_page_needs_nothing_else(comparison, tmp_path):
    summary = summarize(comparison)
    path = write(comparison, summary, tmp_path / "new" / "report.html")
    text = path.read_text()
    assert get_plotlyjs() in text
    text = text.replace(get_plotlyjs(), "")
    assert len(text) == len(page(comparison, summary).replace(get_plotlyjs(), ""))
    for part in ("regret over evaluations", "hypervolume", "simulated time", "Average ranks", "Time of ask and tell"):
        assert part in text
    assert "<link" not in text
    assert "src=" not in text
    assert "http" not in text
