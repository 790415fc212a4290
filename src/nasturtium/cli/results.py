"""What a search found, as a table for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.output import shown, table
from nasturtium.hardware.micro_file import ALONE
from nasturtium.study.evidence import is_memory
from nasturtium.trial import Trial, format_constraint

COSTS = ("params", "macs", "peak_memory")


def columns_of(study: nas.Study) -> list[str]:
    """Metrics worth a column: objectives first, then constrained ones, then the usual costs."""
    names = [o.metric for o in study.objectives] + [c.metric for c in study.constraints] + list(COSTS)
    return list(dict.fromkeys(names))


def front_table(study: nas.Study, members: Sequence[Any] | None = None) -> str:
    """The Pareto front, or other members, as text."""
    columns = columns_of(study)

    def cell(member: Any, name: str) -> str:
        guessed = name in study.evidences.predicted(member.role, member.number)
        return ("~" if guessed and name in member.metrics else "") + shown(name, member.metrics.get(name))

    chosen = study.front if members is None else members
    rows = [[str(m.number), *[cell(m, c) for c in columns], origin_of(m.trial)] for m in chosen]
    text = table(["trial", *columns, "origin"], rows, right=range(len(columns) + 1))
    return f"{text}\n~ predicted, not measured" if any("~" in each for row in rows for each in row[1:-1]) else text


def finalist_rows(study: nas.Study, role: str = "search") -> list[dict[str, Any]]:
    """What was measured on devices, as plain JSON: one row for each network and metric."""
    rows = []
    for member in sorted(study.members(role), key=lambda m: m.number):
        for name, evidence in member.evidence.items():
            m = evidence.measurement
            limits = [c for c in study.constraints if c.metric == name]
            rows.append(
                {
                    "trial": member.number, "metric": name, "measured": None if m is None else m.value,
                    "interval": None if m is None else [m.low, m.high], "predicted": evidence.predicted,
                    "measurements": evidence.attempts, **({"reason": evidence.reason} if evidence.reason else {}),
                    "verdicts": {format_constraint(c): member.verdict(c) for c in limits},
                    "warnings": [] if m is None else list(m.warnings),
                }
            )  # fmt: skip
    return rows


def finalist_table(study: nas.Study, role: str = "search") -> str:
    """What was measured on devices, as text."""
    first = study.objectives[0].metric
    values = {m.number: m.metrics.get(first) for m in study.members(role)}
    rows = [
        [
            str(row["trial"]), shown(first, values[row["trial"]]), row["metric"], shown(row["metric"], row["measured"]),
            _interval(row["metric"], row["interval"]),
            shown(row["metric"], row["predicted"]), ", ".join(f"{k}: {v}" for k, v in row["verdicts"].items()) or "–",
        ]
        for row in finalist_rows(study, role)
    ]  # fmt: skip
    if not rows:
        return "No finalist was measured on a device yet."
    columns = ["trial", first, "on the device", "measured", "95 % interval", "predicted", "verdict"]
    return "\n".join([table(columns, rows, right=(0, 1, 3, 5)), *_of_memories(finalist_rows(study, role))])


def _of_memories(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What to know of memories in a table of finalists, a line each."""
    kinds = dict.fromkeys(row["metric"].partition("(")[0] for row in rows if is_memory(row["metric"]))
    warned: dict[str, set[int]] = {}
    for row in rows:
        for warning in row["warnings"] if is_memory(row["metric"]) else ():
            warned.setdefault(warning, set()).add(row["trial"])
    return [f"{kind}: {ALONE[kind]}" for kind in kinds] + [
        f"Warning, trials {', '.join(map(str, sorted(numbers)))}: {text}" for text, numbers in warned.items()
    ]


def _interval(name: str, ends: Sequence[float] | None) -> str:
    if ends is None:
        return "–"
    return "exact" if ends[0] == ends[1] else " to ".join(shown(name, x) for x in ends)


def origin_of(trial: Trial) -> str:
    """How a trial came to be, and at which fidelity it was measured where that is not the full one."""
    return trial.origin if trial.fidelity.is_full else f"{trial.origin or 'proposed'} at {trial.fidelity.text}"


def result_of(study: nas.Study) -> dict[str, Any]:
    """Front, best, comparison and facts as plain JSON."""
    comparison = study.comparison()
    return {
        "front": study.to_table("front"),
        "best": study.best.number if study.front else None,
        "objectives": [f"{o.direction} {o.metric}" for o in study.objectives],
        "constraints": [format_constraint(c) for c in study.constraints],
        "finalists": finalist_rows(study),
        "comparison": None if comparison is None else comparison_of(comparison),
        "references": study.to_table("reference"),
        "trials": len(study.trials),
        "failed": len(study.failures),
        "notes": list(study.notes),
        "facts": study.facts,
    }


def comparison_of(comparison: nas.study.Comparison) -> dict[str, Any]:
    """A comparison with random search as plain JSON."""
    difference = comparison.difference
    return {
        "metric": comparison.metric,
        "search": comparison.search,
        "random": comparison.random,
        "search_trials": comparison.search_trials,
        "random_trials": comparison.random_trials,
        "difference": None if difference is None else difference.estimate,
        "interval": None if difference is None else [difference.low, difference.high],
        "significant": comparison.significant,
        "hypervolume_search": comparison.hypervolume_search,
        "hypervolume_random": comparison.hypervolume_random,
        "text": comparison.text,
    }


def print_result(study: nas.Study) -> None:
    """Print the front, the comparison, and what to do next."""
    if study.front:
        click.echo(f"Pareto front ({len(study.front)} of {len(study.trials)} trials; validation metrics)")
        click.echo(front_table(study))
    else:
        click.echo(f"None of the {len(study.trials)} trials completed and met the constraints.")
    if study.finalists:
        click.echo("\nMeasured on the device")
        click.echo(finalist_table(study))
    if study.references:
        click.echo("\nHand-designed networks, trained alike")
        click.echo(front_table(study, study.members("reference")))
    comparison = study.comparison()
    if comparison is not None:
        click.echo(f"\n{comparison.text}")
    for note in study.notes:
        click.echo(f"\n{note}")
    if study.failures:
        click.echo(f"\n{len(study.failures)} trials failed; `nasturtium status {study.location.text}` shows why.")
    if study.front:
        where = study.location.text
        click.echo(f"\nNext: nasturtium report {where}    nasturtium export {where} -o best/")
