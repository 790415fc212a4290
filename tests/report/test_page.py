"""The page on made-up data: complete, escaped, self-contained, and without the parts that there is no data for."""

import dataclasses
import re
from types import SimpleNamespace

from nasturtium.report import Axis, Point, ReportData, page
from nasturtium.report.write import _front_rests_on
from nasturtium.trial import constraints


def data(**changes) -> ReportData:
    points = [
        Point(
            label=f"<trial {i}>", role="search", number=i,
            metrics={"accuracy": 0.9 + i / 1000, "macs": 1000.0 * (i + 1)},
            choices={"layers.0.kernel": str(3 + 2 * (i % 2))}, front=i == 9, drawing="<svg><text>net</text></svg>",
        )
        for i in range(10)
    ]  # fmt: skip
    made = ReportData(
        title="a & b",
        headline="It fits.",
        verdict="Not significant.",
        quality=Axis(metric="accuracy", title="validation accuracy", maximize=True, percent=True),
        costs=(Axis(metric="macs", title="MACs", maximize=False, limits=(("<=", 5000.0),)),),
        points=tuple(points),
    )
    return dataclasses.replace(made, **changes)


def outside_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere() -> None:
    body = outside_scripts(page(data()))
    assert "&lt;trial 9&gt;" in body
    assert "<trial" not in body
    assert "a &amp; b" in body
    assert not re.search(r"(src|href)=", body)


def test_it_shows_verdict_front_drawing_and_choices() -> None:
    body = outside_scripts(page(data()))
    for part in ("Not significant.", "It fits.", "90.9 %", "<svg>", "What the good ones share", "layers.0.kernel"):
        assert part in body


def test_constraint_lines_are_drawn() -> None:
    from nasturtium.report.figures import quality_against_cost

    figure = quality_against_cost(data())
    assert [shape.x0 for shape in figure.layout.shapes] == [5000.0]
    assert "5k" in figure.layout.annotations[0].text


def test_parts_without_data_are_left_out() -> None:
    body = outside_scripts(page(data()))
    assert "Progress of the whole front" not in body
    assert "Failed trials" not in body
    body = outside_scripts(page(data(failures=((3, "time", "longer than 1 s"),), hypervolume={"search": (0.1, 0.2)})))
    assert "Progress of the whole front" in body
    assert "longer than 1 s" in body


def test_best_so_far_never_falls_and_skips_infeasible_networks() -> None:
    from nasturtium.report.figures import progress

    points = [
        Point(label="", role="search", number=i, metrics={"accuracy": a, "macs": 1.0}, feasible=a < 0.95)
        for i, a in enumerate((0.5, 0.7, 0.99, 0.6, 0.8))
    ]
    lines = [trace for trace in progress(data(points=tuple(points))).data if trace.mode == "lines"]
    assert [list(line.y) for line in lines] == [[0.5, 0.7, 0.7, 0.7, 0.8]]


def test_what_the_front_rests_on_is_what_was_measured() -> None:
    class Stored:
        """A study, as far as it is asked."""

        def __init__(self, *measured: str) -> None:
            names = ("latency(cpu)", "latency(gpu)", "flash(mcu-256k)")
            limits = ("latency(cpu) <= 2ms", "latency(gpu) <= 1ms", "flash(mcu-256k) <= 40kB", "params <= 10")
            self.constraints = constraints(limits)
            self.evidences = SimpleNamespace(
                metrics=names, modelled=(names[0], names[2]), measured=lambda name: name in measured
            )

    whole = _front_rests_on(Stored("latency(cpu)", "latency(gpu)", "flash(mcu-256k)"))
    assert whole == "Only networks that meet every limit stand on the front, those on devices by measurement."
    assert _front_rests_on(Stored("latency(cpu)")) == (
        "The front rests on predictions for flash(mcu-256k) <= 40000B and the short measurement of each trial for "
        "latency(gpu) <= 1ms; its networks were measured to meet latency(cpu) <= 2ms."
    )
    nothing = _front_rests_on(Stored())
    assert "predictions for latency(cpu) <= 2ms, flash(mcu-256k)" in nothing
    assert "measured to meet" not in nothing
    body = page(data(on_devices="None was measured.", front_rests_on=nothing))
    assert "The front rests on predictions for latency(cpu) &lt;= 2ms" in body
    assert "Only networks" not in body
