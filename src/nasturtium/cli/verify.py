"""`nasturtium verify`: measure the finalists of a study on their devices."""

from __future__ import annotations

from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.look import ROLES, study_argument, trust_option
from nasturtium.cli.options import finalist_options, read_finalists
from nasturtium.cli.output import emit_json, format_option, is_terminal, note
from nasturtium.cli.progress import TITLES, Progress
from nasturtium.cli.results import comparison_of, finalist_rows, finalist_table

NOTHING_SHOWN = 3


@click.command(epilog="Example: nasturtium verify runs/digits.db --finalists 4, or, once more, --trial 12")
@study_argument
@click.option("--trial", "trials", type=int, multiple=True, help="Measure this one, again if need be; repeatable.")
@click.option("--of", "role", type=click.Choice(list(ROLES)), help="Which run.  [all; with --trial, search]")
@click.option("--quiet", is_flag=True, help="No progress.")
@finalist_options
@trust_option
@format_option
def verify(study_path: str, trials: tuple[int, ...], role: str | None, **given: Any) -> int:
    """Measure networks of a study on the devices that it was searched for, and say which meet their limits.

    By default the finalists that were not measured yet, of the search and of random search beside it: what stands on
    the front by prediction, and what would stand there within the error of the model; and hand-designed references. For
    a microcontroller's memory their int8 files are written and allocated. All measurements are kept in the study; the
    last one of a network counts.
    Exit code 3: no network is shown to meet the limits.
    """
    stored = nas.Study.open(study_path, trust=given["trust"])
    begun = stored.settings["options"].get("verify") or {}
    how = read_finalists(given, **begun)
    with Progress(stored.objectives, stored.constraints, live=is_terminal(), quiet=given["quiet"]) as progress:
        study = nas.study.verify(
            study_path, trials=trials, role=None if role is None else ROLES[role], how=how, trust=given["trust"],
            listeners=[progress],
        )  # fmt: skip
    main = ROLES[role or "search"]
    beside = [each for each in ROLES.values() if role is None and not trials and each != main and study.members(each)]
    comparison = study.comparison()
    if given["style"] == "json":
        others = {each: finalist_rows(study, each) for each in beside}
        said = None if comparison is None else comparison_of(comparison)
        emit_json(
            {"finalists": finalist_rows(study, main), "beside": others, "comparison": said, "notes": list(study.notes)}
        )  # fmt: skip
    else:
        click.echo(finalist_table(study, main))
        for each in beside:
            click.echo(f"\n{TITLES[each].capitalize()}\n{finalist_table(study, each)}")
        if comparison is not None:
            click.echo(f"\n{comparison.text}")
        for text in study.notes:
            note(text)
    shown = any(all(m.verdict(c) == "met" for c in study.constraints) for m in study.feasible(main))
    return 0 if shown else NOTHING_SHOWN
