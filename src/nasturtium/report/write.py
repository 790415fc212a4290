"""From a study to a report: gather what it shows, and write the page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nasturtium.errors import StoreError
from nasturtium.graph.sketch import sketch
from nasturtium.report.data import Axis, Finalist, Point, ReportData, Role
from nasturtium.report.page import page
from nasturtium.report.text import quantity
from nasturtium.study import Member, Study
from nasturtium.study.evidence import conditions_of
from nasturtium.trial import METRICS, Constraint, format_constraint, format_seconds, of_device, violation

RUNS: tuple[tuple[Role, str], ...] = (("search", "search"), ("random", "baseline:random"), ("reference", "reference"))
TITLES = {"macs": "MACs", "params": "parameters", "peak_memory": "peak memory", "accuracy": "validation accuracy"}
USUAL_COSTS = ("macs", "params", "peak_memory")


def write(study: Study, path: str | Path) -> Path:
    """Write the report of a study as one HTML file that needs nothing else.

    Args:
        study: With at least one completed trial.
        path: File to write; its folder is made. It is replaced at once or not at all.

    Raises:
        StoreError: nothing was completed yet, or the file cannot be written.
    """
    text = page(collect(study))
    target = Path(path)
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


def collect(study: Study) -> ReportData:
    """Everything that the report of a study shows.

    Raises:
        StoreError: nothing was completed yet.
    """
    members = {role: study.members(run) for role, run in RUNS}
    if not any(m.trial.state == "completed" and m.trial.fidelity.is_full for group in members.values() for m in group):
        raise StoreError(
            f"The study {study.location.text!r} has no completed trial at full fidelity yet, so there is nothing to "
            "report. Run the search first, or look at `nasturtium status`."
        )
    front = {m.number for m in study.front}
    quality = _axis(study.objectives[0].metric, study)
    costs = tuple(_axis(name, study) for name in _cost_names(study))
    points = [
        _point(study, role, m, front=role == "search" and m.number in front)
        for role, group in members.items()
        for m in group
        if m.trial.state == "completed" and m.trial.fidelity.is_full
    ]
    histories = study.hypervolume_history()
    return ReportData(
        title=f"{study.task['name']}: {len(study.trials)} trials",
        headline=_headline(study, quality, costs),
        verdict=_verdict(study),
        quality=quality,
        costs=costs,
        points=tuple(points),
        hypervolume={role: histories[run] for role, run in RUNS if run in histories},
        tiles=_tiles(study),
        facts=_facts(study),
        finalists=tuple(_finalists(study)),
        on_devices=" ".join(study.evidences.sentence(n, "search", study.constraints) for n in study.evidences.metrics),
        front_rests_on=_front_rests_on(study),
        failures=tuple((t.number, t.error_kind or "", _last_line(t.error)) for t in study.failures),
    )


def _front_rests_on(study: Study) -> str:
    """Whether the front keeps to the limits on devices by what was measured of its networks, limit by limit."""
    limits = [c for c in study.constraints if c.metric in study.evidences.metrics]
    shown = [c for c in limits if study.evidences.measured(c.metric)]
    open_ = [c for c in limits if c not in shown]
    if not open_:
        return (
            "Only networks that meet every limit stand on the front, those on devices by measurement." if limits else ""
        )
    modelled = study.evidences.modelled
    sources = {
        "predictions": [c for c in open_ if c.metric in modelled],
        "the short measurement of each trial": [c for c in open_ if c.metric not in modelled],
    }
    said = " and ".join(f"{source} for {_limits(of)}" for source, of in sources.items() if of)
    return f"The front rests on {said}{f'; its networks were measured to meet {_limits(shown)}' if shown else ''}."


def _finalists(study: Study) -> Iterator[Finalist]:
    first = study.objectives[0].metric
    for member in study.finalists:
        for name, evidence in member.evidence.items():
            m = evidence.measurement
            yield Finalist(
                number=member.number,
                quality=member.metrics.get(first),
                metric=name,
                measured=evidence.measured_text,
                predicted="–" if evidence.predicted is None else quantity(name, evidence.predicted),
                verdicts=tuple(
                    (format_constraint(c), member.verdict(c)) for c in study.constraints if c.metric == name
                ),
                conditions=evidence.reason
                if m is None
                else "; ".join(f"{key}: {text}" for key, text in conditions_of(m).items()),
                warnings=() if m is None else m.warnings,
            )


def _cost_names(study: Study) -> list[str]:
    quality = study.objectives[0].metric
    names = [o.metric for o in study.objectives[1:]] + [c.metric for c in study.constraints] + list(USUAL_COSTS)
    return [name for name in dict.fromkeys(names) if name != quality]


def _axis(metric: str, study: Study) -> Axis:
    directions = {o.metric: o.direction for o in study.objectives}
    known = METRICS.get(metric)
    direction = directions.get(metric, known.direction if known else "minimize")
    return Axis(
        metric=metric,
        title=TITLES.get(metric) or _title(metric),
        maximize=direction == "maximize",
        percent=known is not None and known.unit == "fraction",
        limits=tuple((c.relation, c.limit) for c in study.constraints if c.metric == metric),
    )


def _title(metric: str) -> str:
    found = of_device(metric)
    return metric.replace("_", " ") if found is None else f"{found.kind} on {found.device}"


def _point(study: Study, role: Role, member: Member, *, front: bool) -> Point:
    drawing = ""
    if front:
        drawing = sketch(member.architecture, tuple(study.task["input_shape"]), **study.task["context"])
    return Point(
        label=member.trial.origin if role == "reference" else f"trial {member.number}",
        role=role,
        number=member.number,
        metrics=dict(member.metrics),
        choices={} if role == "reference" else {n: str(v) for n, v in member.architecture.choices.items()},
        feasible=violation(member.metrics, study.constraints) == 0
        and study.evidences.shown(member.role, member.trial, study.constraints),
        front=front,
        drawing=drawing,
    )


def _headline(study: Study, quality: Axis, costs: Sequence[Axis]) -> str:
    limits = _limits(study.constraints)
    if not study.front:
        return f"None of the {len(study.trials)} trials met the constraints ({limits})."
    best = study.best.metrics
    parts = [f"{quantity(a.metric, best[a.metric])} {a.title}" for a in costs if a.metric in best]
    within = f" within {limits}" if study.constraints else ""
    head = f"The best network{within} reaches {quantity(quality.metric, best[quality.metric])} {quality.title}"
    tested = study.best.test_metrics
    test = f" ({quantity('accuracy', tested['accuracy'])} on test)" if tested and "accuracy" in tested else ""
    return f"{head}{test} with {_joined(parts)}."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _limits(constraints: Iterable[Constraint]) -> str:
    return ", ".join(map(format_constraint, constraints))


def _verdict(study: Study) -> str:
    comparison = study.comparison()
    if comparison is None:
        return (
            "No random search was run beside this search, so nothing here says that searching paid. "
            "`nasturtium resume STUDY --baseline random` adds it."
        )
    return comparison.text


def _tiles(study: Study) -> tuple[tuple[str, str], ...]:
    facts = study.facts
    done = [str(run["finished"]) for run in facts["runs"].values()]
    names = " + ".join({"baseline:random": "random", "reference": "hand-designed"}.get(r, r) for r in facts["runs"])
    return (
        (f"trials ({names})", " + ".join(done)),
        ("failed trials", str(len(study.failures))),
        ("networks on the front", str(len(study.front))),
        ("time", format_seconds(facts["seconds"])),
        ("seed", str(facts["seed"])),
    )


def _facts(study: Study) -> tuple[tuple[str, str], ...]:
    facts = study.facts
    rows = [
        ("study", facts["study"]),
        ("begun", str(facts["created"])),
        ("task", f"{facts['task']}, input {'×'.join(map(str, study.task['input_shape']))}"),
        ("objectives", ", ".join(f"{o.direction} {o.metric}" for o in study.objectives)),
        ("constraints", _limits(study.constraints) or "none"),
        ("method", _short(facts["method"])) if "method" in facts else ("strategy", _short(facts["strategy"])),
        ("estimator", _short(facts["estimator"])),
        *([("notes", " ".join(study.notes))] if study.notes else []),
        ("seed, schedule", f"{facts['seed']}, {facts['schedule']}, concurrency {facts['concurrency']}"),
        ("threads, device", f"{facts['threads']}, {facts['device'] or 'automatic'}"),
        ("hardware", _short(facts["hardware"])),
        ("versions", _short(facts["versions"])),
        ("time", format_seconds(facts["seconds"])),
        ("peak memory is", "of activations: int8, batch 1, the given order, liveness"),
    ]
    return tuple(rows)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items() if v is not None)
    return str(value)


def _last_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[-1][:200] if lines else ""
