"""`nasturtium verify`: measure the finalists of a study on their devices."""

from __future__ import annotations

from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.look import ROLES, study_argument, trust_option
from nasturtium.cli.options import finalist_options, read_finalists
from nasturtium.cli.output import emit_json, format_option, is_terminal, note
from nasturtium.cli.progress import Progress
from nasturtium.cli.results import finalist_rows, finalist_table

NOTHING_SHOWN = 3


@click.command(epilog="Example: nasturtium verify runs/digits.db --finalists 4, or, once more, --trial 12")
@study_argument
@click.option("--trial", "trials", type=int, multiple=True, help="Measure this one, again if need be; repeatable.")
@click.option("--of", "role", type=click.Choice(list(ROLES)), default="search", show_default=True, help="Which run.")
@click.option("--quiet", is_flag=True, help="No progress.")
@finalist_options
@trust_option
@format_option
def verify(study_path: str, trials: tuple[int, ...], role: str, **given: Any) -> int:
    """Measure networks of a study on the devices that it was searched for, and say which meet their limits.

    By default the finalists that were not measured yet: what stands on the front by prediction, and what would stand
    there within the error of the model. For a microcontroller's memory their int8 files are written and allocated. All
    measurements are kept in the study; the last one of a network counts.
    Exit code 3: no network is shown to meet the limits.
    """
    stored = nas.Study.open(study_path, trust=given["trust"])
    begun = stored.settings["options"].get("verify") or {}
    how = read_finalists(given, **begun)
    with Progress(stored.objectives, stored.constraints, live=is_terminal(), quiet=given["quiet"]) as progress:
        study = nas.study.verify(
            study_path, trials=trials, role=ROLES[role], how=how, trust=given["trust"], listeners=[progress]
        )  # fmt: skip
    if given["style"] == "json":
        emit_json({"finalists": finalist_rows(study, ROLES[role]), "notes": list(study.notes)})
    else:
        click.echo(finalist_table(study, ROLES[role]))
        for text in study.notes:
            note(text)
    shown = any(all(m.verdict(c) == "met" for c in study.constraints) for m in study.feasible(ROLES[role]))
    return 0 if shown else NOTHING_SHOWN
