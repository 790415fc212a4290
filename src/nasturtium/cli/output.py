"""Printing: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nasturtium.errors import InvalidInputError
from nasturtium.trial import METRICS, format_number

format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Text for people or JSON for machines.",
)


def emit_json(value: object) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A plain table with aligned columns; `right` are the columns aligned to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        parts = [
            str(c).rjust(w) if i in right else str(c).ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(columns), "  ".join("─" * w for w in widths), *(line(row) for row in rows)])


def pairs(values: Mapping[str, Any]) -> str:
    """Captions and values, aligned."""
    width = max(len(caption) for caption in values)
    return "\n".join(f"{caption.ljust(width)}  {value}" for caption, value in values.items())


def note(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(text, err=True)


def is_terminal() -> bool:
    """Whether somebody watches standard error."""
    return sys.stderr.isatty()


def big(number: int) -> str:
    """An exact integer with separators, and its order of magnitude where it is long."""
    text = f"{number:,}"
    return text if number < 10**9 else f"{text} (≈ {number:.2e})" if number < 10**300 else f"10^{len(str(number)) - 1}"


def shown(metric: str, value: float | None) -> str:
    """A metric's value for people, or a dash."""
    if value is None:
        return "–"
    known = METRICS.get(metric)
    return known.format(value) if known else format_number(value)


def check_drawing(path: Path) -> None:
    """See that a drawing can be written there, before anything long begins.

    Raises:
        InvalidInputError: its folder does not exist.
    """
    if not path.parent.is_dir():
        raise InvalidInputError(f"The drawing cannot be written to {str(path)!r}: there is no folder {path.parent}.")


def write_drawing(path: Path, svg: str) -> None:
    """Write a drawing and say so.

    Raises:
        InvalidInputError: it cannot be written.
    """
    check_drawing(path)
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"The drawing cannot be written to {str(path)!r}: {error}.") from error
    note(f"Drawn into {path}.")
