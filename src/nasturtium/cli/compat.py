"""`nasturtium compat`: which method that shares weights goes with which space."""

from __future__ import annotations

import click

import nasturtium as nas
from nasturtium.cli.options import import_from_here, load_space
from nasturtium.cli.output import emit_json, format_option, is_terminal, note, table
from nasturtium.tasks.dataless import without_data


@click.command(epilog="Example: nasturtium compat nasbench201 mobile")
@click.argument("spaces", nargs=-1)
@click.option("--method", "methods", multiple=True, help="Only this one; repeatable.  [default: all]")
@click.option("--shape", help="Of the input, like 3x32x32.  [default: the space's own]")
@click.option("--classes", type=int, default=10, show_default=True)
@format_option
def compat(spaces: tuple[str, ...], methods: tuple[str, ...], shape: str | None, classes: int, style: str) -> None:
    """Ask everything that shares weights (methods, `SharedWeights`) whether it goes with SPACES (default: all).

    Nothing is trained. Where a pair does not go, the reason says what to change. A large space takes a minute.
    """
    import_from_here()
    families = {family.name: family for family in nas.zoo.FAMILIES if family.space is not None}
    given = None if shape is None else _shape(shape)
    asked = {}
    for name in spaces or families:
        wanted = given or (families[name].input_shape if name in families else (3, 32, 32))
        asked[name] = (load_space(name, wanted), without_data(name, wanted, classes))

    def said(verdict: nas.study.Verdict) -> None:
        if is_terminal() and style != "json":
            note(f"{verdict.space} {verdict.method}: {'yes' if verdict.possible else 'no'}")

    found = nas.study.compatibility(asked, methods or nas.study.COMPARED, report=said)
    if style == "json":
        emit_json(found.to_dict())
        return
    rows = [[s, *["yes" if found.of(s, m).possible else "no" for m in found.methods]] for s in found.spaces]
    click.echo(table(["space", *found.methods], rows))
    for verdict in found.verdicts:
        if not verdict.possible:
            click.echo(f"\n{verdict.space} with {verdict.method}: {verdict.reason}")


def _shape(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        found = ()
    if len(found) != 3 or min(found) < 1:
        raise nas.errors.InvalidInputError(f"`--shape` is channels x height x width, like 3x32x32, got {text!r}.")
    return found
