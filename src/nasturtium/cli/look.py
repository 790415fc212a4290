"""`nasturtium status`, `front` and `show`: looking at a study, while it runs or later."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import nasturtium as nas
from nasturtium.cli.output import emit_json, format_option, pairs, shown, table, write_drawing
from nasturtium.cli.progress import TITLES
from nasturtium.cli.results import columns_of, comparison_of, front_table
from nasturtium.errors import InvalidInputError
from nasturtium.graph.sketch import sketch
from nasturtium.trial import format_constraint, format_seconds

ROLES = {"search": "search", "random": "baseline:random", "reference": "reference"}
study_argument = click.argument("study_path", metavar="STUDY")
trust_option = click.option("--trust", is_flag=True, help="Import the classes of your own that the study names.")


@click.command(epilog="Example: nasturtium status runs/digits.db")
@study_argument
@trust_option
@format_option
def status(study_path: str, style: str, *, trust: bool) -> None:
    """Print how far a study is: trials, failures, best so far, time."""
    study = nas.Study.open(study_path, trust=trust)
    if style == "json":
        best = study.best.number if study.front else None
        failures = [{"number": t.number, "kind": t.error_kind, "error": t.error} for t in study.failures]
        emit_json({**study.facts, "status": study.status, "best": best, "failures": failures})
        return
    facts = study.facts
    head = {
        "study": facts["study"],
        "task": facts["task"],
        "objectives": ", ".join(f"{o.direction} {o.metric}" for o in study.objectives),
        "constraints": ", ".join(map(format_constraint, study.constraints)) or "none",
        "seed": facts["seed"],
        "time": format_seconds(facts["seconds"]),
    }
    for role, run in facts["runs"].items():
        title = TITLES.get(role, role)
        reason = f": {run['reason']}" if run["reason"] else ""
        head[title] = f"{run['finished']} of {run['budget']} trials, {run['status']}{reason}"
    if study.front:
        first = study.objectives[0]
        head["best"] = (
            f"trial {study.best.number}, {first.metric} {shown(first.metric, study.best.metrics[first.metric])}"
        )
    click.echo(pairs(head))
    if study.failures:
        rows = [[str(t.number), t.error_kind or "", _last_line(t.error)] for t in study.failures]
        click.echo("\nFailed trials\n" + table(["trial", "kind", "error"], rows, right=[0]))


def _last_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[-1][:100] if lines else ""


@click.command(epilog="Example: nasturtium front runs/digits.db --format json")
@study_argument
@click.option("--all", "everything", is_flag=True, help="Every trial, not only the front.")
@click.option("--on", "device", help="The front of one device of several: without the wishes on other devices.")
@trust_option
@format_option
def front(study_path: str, style: str, device: str | None, *, everything: bool, trust: bool) -> None:
    """Print the Pareto front of a study, and the comparison with random search."""
    study = nas.Study.open(study_path, trust=trust)
    if device is not None:
        found = study.front_on(device)
        rows = [{"number": m.number, **m.metrics} for m in found]
        emit_json({"device": device, "front": rows}) if style == "json" else click.echo(front_table(study, found))
        return
    comparison = study.comparison()
    if style == "json":
        emit_json(
            {
                "front": study.to_table("search" if everything else "front"),
                "comparison": None if comparison is None else comparison_of(comparison),
            }
        )
        return
    members = study.members() if everything else study.front
    if members:
        click.echo(front_table(study, members))
    else:
        click.echo(f"None of the {len(study.trials)} trials so far completed and met the constraints.")
    if comparison is not None:
        click.echo(f"\n{comparison.text}")


def find_member(study: nas.Study, trial: int | None, role: str = "search") -> nas.study.Member:
    """A trial of a study by number, or the best one.

    Raises:
        InvalidInputError: there is no such trial.
    """
    if trial is None:
        return study.best
    members = {m.number: m for m in study.members(ROLES[role])}
    if trial not in members:
        raise InvalidInputError(
            f"The study has no finished trial {trial} of its {TITLES[ROLES[role]]} run; it has "
            f"{f'0 to {max(members)}' if members else 'none'}."
        )
    return members[trial]


@click.command(epilog="Example: nasturtium show runs/digits.db --trial 12 --svg network.svg")
@study_argument
@click.option("--trial", type=int, help="Number of the trial; the best one by default.")
@click.option("--of", "role", type=click.Choice(list(ROLES)), default="search", show_default=True, help="Which run.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw the network into this file.")
@trust_option
@format_option
def show(study_path: str, trial: int | None, role: str, svg: Path | None, style: str, *, trust: bool) -> None:
    """Print one network of a study: its choices, metrics and costs."""
    study = nas.Study.open(study_path, trust=trust)
    member = find_member(study, trial, role)
    if svg is not None:
        drawing = sketch(member.architecture, tuple(study.task["input_shape"]), **study.task["context"])
        write_drawing(svg, drawing)
    choices = {name: str(value) for name, value in member.architecture.choices.items()}
    if style == "json":
        emit_json(
            {
                "number": member.number, "state": member.trial.state, "origin": member.trial.origin,
                "fidelity": asdict(member.trial.fidelity),
                "parents": list(member.trial.parents), "metrics": dict(member.metrics), "choices": choices,
                "error": member.trial.error, "test_metrics": member.test_metrics,
                "architecture": member.architecture.to_dict(),
            }
        )  # fmt: skip
        return
    parents = f" of {', '.join(map(str, member.trial.parents))}" if member.trial.parents else ""
    lower = "" if member.trial.fidelity.is_full else f"; at {member.trial.fidelity.text}"
    head = {"trial": f"{member.number} ({member.trial.state}; {member.trial.origin or 'proposed'}{parents}{lower})"}
    names = [*columns_of(study), *(m for m in member.metrics if m not in columns_of(study))]
    head |= {name: shown(name, member.metrics[name]) for name in names if name in member.metrics}
    click.echo(pairs(head))
    for evidence in member.evidence.values():
        limits = [c for c in study.constraints if c.metric == evidence.metric]
        said = "".join(f"; {format_constraint(c)}: {member.verdict(c)}" for c in limits)
        click.echo(f"measured {evidence.metric}: {evidence.text}{said}")
    if choices:
        click.echo("\n" + table(["choice", "value"], [[n, v] for n, v in choices.items()]))
    if member.trial.error:
        click.echo(f"\n{member.trial.error}")
