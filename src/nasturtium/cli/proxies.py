"""`nasturtium proxies`: what zero-cost scores are worth on a space and a data set, before they are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import data_options, import_from_here, load_space, load_task
from nasturtium.cli.output import emit_json, format_option, note, table


@click.command(epilog="Example: nasturtium proxies digits --space mobile --proxy synflow --proxy naswot --networks 20")
@click.argument("data")
@click.option("--space", "space_name", default="mobile", show_default=True, help="Space, or module:function.")
@click.option("--proxy", "names", multiple=True, default=("synflow", "naswot"), show_default=True, help="Repeatable.")
@click.option("--networks", type=click.IntRange(min=5), default=20, show_default=True, help="Drawn, and trained.")
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Of each training.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of networks, scores and trainings.")
@data_options
@format_option
def proxies(
    data: str, space_name: str, names: Sequence[str], networks: int, epochs: int, seed: int, style: str, **given: Any
) -> None:
    """Rank random networks of a space by zero-cost proxies and by short trainings, and say how far they agree.

    DATA is the name of a task, a folder of images, or `module:function`. Counting parameters and MACs is always judged
    too: a proxy that does no better says nothing new.
    """
    import_from_here()
    task = load_task(data, **given)
    found = nas.estimators.zero_cost.check(
        load_space(space_name, task.input_shape),
        task,
        names,
        reference=nas.estimators.Trained(epochs=epochs),
        n=networks,
        seed=seed,
        report=lambda record: note(f"{record['done']:.0f} of {record['of']:.0f} networks"),
    )
    if style == "json":
        emit_json({name: checked.to_dict() for name, checked in found.items()})
        return
    rows = [
        [name, f"{c.tau:+.2f}", f"{c.trust.low:+.2f} to {c.trust.high:+.2f}",
         f"{c.spearman[0]:+.2f}", f"{c.spearman[1]:+.2f} to {c.spearman[2]:+.2f}", str(c.trust.n), str(c.undefined)]
        for name, c in found.items()
    ]  # fmt: skip
    headers = ["proxy", "Kendall's tau", "95 %", "Spearman's rho", "95 %", "networks", "not defined"]
    click.echo(table(headers, rows, right=[1, 3, 5, 6]))
    click.echo()
    for checked in found.values():
        click.echo(checked.sentence)
