"""`nasturtium zoo`: the published search spaces and networks, by family."""

from __future__ import annotations

import click

import nasturtium as nas
from nasturtium.cli.output import big, emit_json, format_option, table


@click.command(epilog="Example: nasturtium zoo --task segmentation")
@click.option("--task", "wanted", default=None, help="Only families for this task, like classification or detection.")
@click.option("--spaces", "only_spaces", is_flag=True, help="Only families with a search space.")
@format_option
def zoo(wanted: str | None, style: str, *, only_spaces: bool) -> None:
    """List the families of search spaces and networks: size, task and paper.

    A family with a size, or with "not counted", is a space for `nasturtium space` and `nasturtium search --space`; the
    others are hand-designed or published networks for `nasturtium cost`.
    """
    tasks = sorted({family.task for family in nas.zoo.FAMILIES})
    if wanted is not None and not any(wanted.lower() in task for task in tasks):
        raise nas.errors.UnknownNameError("task", wanted, tasks)
    found = [
        family
        for family in nas.zoo.FAMILIES
        if (family.space is not None or not only_spaces) and (wanted is None or wanted.lower() in family.task)
    ]
    if style == "json":
        emit_json(
            [
                {
                    "name": f.name, "title": f.title, "level": f.level, "task": f.task,
                    "has_space": f.space is not None,
                    "size": f.size, "quoted_size": f.quoted_size, "input_shape": list(f.input_shape), "paper": f.paper,
                    "networks": list(f.named),
                }
                for f in found
            ]
        )  # fmt: skip
        return
    rows = [[f.name, f.level, f.task, _size(f), f.quoted_size or "", f.title, f.paper] for f in found]
    columns = ["family", "level", "task", "architectures", "paper's figure", "what", "paper"]
    click.echo(table(columns, rows, right=[3]))
    spaces = sum(f.space is not None for f in found)
    click.echo(f"\n{len(found)} families, {spaces} with a search space (`nasturtium space NAME`).")


def _size(family: nas.zoo.Family) -> str:
    if family.space is None:
        return ""
    return "not counted" if family.size is None else big(family.size)
