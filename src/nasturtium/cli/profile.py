"""`nasturtium profile`: the latency table of a space on a device."""

from __future__ import annotations

import json
from pathlib import Path

import click

import nasturtium as nas
from nasturtium.cli.device import file_option
from nasturtium.cli.options import load_space, parse_shape
from nasturtium.cli.output import emit_json, format_option, note, pairs
from nasturtium.errors import InvalidInputError
from nasturtium.hardware import device as device_named
from nasturtium.hardware.profiling import BATCH, Progress, plan_profile
from nasturtium.hardware.profiling import profile as run_profile
from nasturtium.trial import format_seconds


@click.command(epilog="Example: nasturtium profile cpu mobile --input 1x28x28 --out mobile-cpu.jsonl")
@click.argument("device")
@click.argument("name", metavar="SPACE")
@click.option(
    "--input",
    "shape",
    default=None,
    help="Input, channels x height x width; by default that of a space of the library.",
)
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes of the task.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file; SPACE-DEVICE.jsonl by default.")
@click.option("--table", type=click.Path(dir_okay=False, path_type=Path), help="Also write the finished table, JSON.")
@click.option("--fit", type=click.IntRange(min=0), default=32, show_default=True, help="Whole networks for the fit.")
@click.option("--held-out", type=click.IntRange(min=0), default=32, show_default=True, help="Others, for its error.")
@click.option("--batch", type=click.IntRange(min=1), default=BATCH, show_default=True, help="Networks a process.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the networks and of the order.")
@file_option
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@format_option
def profile(
    device: str,
    file: str | None,
    name: str,
    shape: str | None,
    classes: int,
    out: Path | None,
    table: Path | None,
    fit: int,
    held_out: int,
    batch: int,
    seed: int,
    dry_run: bool,
    style: str,
) -> None:
    """Measure every distinct kernel of a space on a device, and how well they add up to whole networks.

    DEVICE is one of `nasturtium device list`; SPACE is a space of the library or `module:function` of your own. Stop it
    at any time; the same command goes on where it was.
    """
    given = parse_shape(shape) if shape else None
    space = load_space(name, given)
    inputs = given or _own_shape(name)
    plan = plan_profile(
        space, device_named(device, file=file), inputs, name=name, context={"classes": classes}, fit=fit,
        held_out=held_out, seed=seed,
    )  # fmt: skip
    note(plan.text)
    path = out or Path(f"{name.replace(':', '.')}-{plan.device.name}.jsonl")
    if dry_run:
        if style == "json":
            emit_json(
                {
                    "device": plan.device.to_dict(),
                    "space": name,
                    "input": list(inputs),
                    "file": str(path),
                    "plan": plan.text,
                }
            )
        return
    found = run_profile(plan, path, batch=batch, progress=_report)
    if table is not None:
        table.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    error = found.error
    if style == "json":
        emit_json(
            {
                "device": plan.device.to_dict(), "space": name, "file": str(path), "kernels": len(found.seconds),
                "coverage": found.coverage, "fit": found.fit.to_dict(),
                "error": None if error is None else error.to_dict(),
            }
        )  # fmt: skip
        return
    click.echo(
        pairs(
            {
                "table": str(path), "device": f"{plan.device.name}: {plan.device.text}", "kernels": found.coverage,
                "fit": f"{found.fit.form}, on {found.fit.networks} whole networks",
                "error": "not measured: the table refuses to predict" if error is None else error.text,
            }
        )
    )  # fmt: skip


def _own_shape(name: str) -> tuple[int, ...]:
    """The input of a space of the library.

    Raises:
        InvalidInputError: the space is the user's own, whose input only its user knows.
        UnknownNameError: no space has that name.
    """
    if ":" in name:
        raise InvalidInputError(
            f"The input of {name!r} is not known here, and latency depends on it: give --input, like --input 3x32x32."
        )
    return nas.zoo.family(name).input_shape


def _report(progress: Progress) -> None:
    note(
        f"[{progress.done}/{progress.total}] {progress.what}: {format_seconds(progress.seconds)}, about "
        f"{format_seconds(round(progress.left))} left"
    )
