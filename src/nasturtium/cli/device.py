"""`nasturtium device`: list, show, add and try devices."""

from __future__ import annotations

import math
from typing import Any, get_args

import click

import nasturtium as nas
from nasturtium.cli.options import import_from_here, load_network, parse_shape
from nasturtium.cli.output import emit_json, format_option, note, pairs, table
from nasturtium.errors import InvalidInputError
from nasturtium.hardware.device import DEVICES_VARIABLE, DType, Runtime, devices_file
from nasturtium.trial import format_bytes, format_seconds
from nasturtium.trial.objectives import UNITS

file_option = click.option(
    "--file",
    type=click.Path(dir_okay=False),
    help=f"File of your devices.  [default: ${DEVICES_VARIABLE} or devices.toml]",
)


@click.group(epilog="Example: nasturtium device measure cpu mobilenetv2_035 --input 3x96x96")
def device() -> None:
    """Devices: where a network runs, through which runtime, and what memory there is."""


@device.command("list")
@file_option
@format_option
def list_devices(file: str | None, style: str) -> None:
    """All devices: the built-in ones and those of your file."""
    known = nas.hardware.devices(file)
    if style == "json":
        emit_json([found.to_dict() for found in known.values()])
        return
    rows = [
        [d.name, d.runtime, d.target, str(d.threads), d.dtype, str(d.batch), _bytes(d.sram), _bytes(d.flash),
         d.address or "–"]
        for d in known.values()
    ]  # fmt: skip
    columns = ["device", "runtime", "target", "threads", "dtype", "batch", "SRAM", "flash", "agent"]
    click.echo(table(columns, rows, right=(3, 5, 6, 7)))


@device.command()
@click.argument("name")
@file_option
@format_option
def show(name: str, file: str | None, style: str) -> None:
    """One device in full; an agent is asked who it is."""
    found = nas.hardware.device(name, file=file)
    facts: dict[str, Any] = found.to_dict()
    if found.is_remote:
        from nasturtium.hardware.remote import Remote  # noqa: PLC0415  (only where there is an agent)

        facts["agent"] = Remote(found).about()
    if style == "json":
        emit_json(facts)
        return
    facts.pop("version")
    facts |= {"sram": _exact(found.sram), "flash": _exact(found.flash)}
    click.echo(pairs({key: "–" if value is None else value for key, value in facts.items() if value != ""}))


@device.command(
    epilog="Examples: nasturtium device add pi4 --address http://192.168.1.20:8420 --threads 4; "
    "nasturtium device add m4 --runtime tflm --target microcontroller --sram 192KiB --flash 1MiB"
)
@click.argument("name")
@click.option("--runtime", type=click.Choice(get_args(Runtime)), default="onnx", show_default=True)
@click.option("--target", default="cpu", show_default=True, help="cpu, cuda, cuda:1 … or microcontroller.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--dtype", type=click.Choice(get_args(DType)), help="[default: the runtime's own]")
@click.option("--batch", type=int, default=1, show_default=True)
@click.option("--sram", help="Like 256KiB; a data sheet's kB is usually 1024 bytes, so write KiB.")
@click.option("--flash", help="Like 1MiB.")
@click.option("--address", help="Of an agent, like http://192.168.1.20:8420.")
@click.option("--token-variable", help="Environment variable that holds the agent's token.")
@click.option("--note", "remark", help="For people.")
@file_option
def add(name: str, file: str | None, sram: str | None, flash: str | None, remark: str | None, **given: Any) -> None:
    """Describe a device of yours, in a file that later commands read."""
    from nasturtium.hardware.device import RUNTIMES  # noqa: PLC0415

    fields = {key: value for key, value in given.items() if value is not None}
    fields.setdefault("dtype", RUNTIMES[fields["runtime"]][0])
    fields |= {key: parse_bytes(value) for key, value in (("sram", sram), ("flash", flash)) if value is not None}
    if remark:
        fields["note"] = remark
    new = nas.hardware.Device(name=name, **fields)
    path = nas.hardware.add_device(new, file)
    note(f"Added {name} to {path}: {new.text}.")
    if path != devices_file():
        note(f"Later commands find it with --file {path}, or with {DEVICES_VARIABLE}={path}.")


@device.command(epilog="Example: nasturtium device measure cpu mobilenetv2_035 --input 3x96x96")
@click.argument("name")
@click.argument("network")
@click.option("--input", "shape", default="3x224x224", show_default=True, help="Input, channels x height x width.")
@click.option("--classes", type=int, default=None, help="Classes, for a network that leaves them to the task.")
@click.option("--precision", default=0.02, show_default=True, help="Half width of the interval, as a share.")
@click.option("--processes", type=(int, int), default=(6, 18), show_default=True, help="Fewest and most.")
@click.option("--reference", type=float, help="Seconds of the reference kernel to state the result for.")
@click.option("--trust", is_flag=True, help="Import the classes that a file of your own names.")
@file_option
@format_option
def measure(
    name: str, network: str, shape: str, classes: int | None, precision: float, processes: tuple[int, int],
    reference: float | None, file: str | None, style: str, *, trust: bool,
) -> None:  # fmt: skip
    """Measure the latency of NETWORK on a device, with its interval: a published one, a file, or module:function."""
    import_from_here()
    target = nas.hardware.device(name, file=file)
    graph = nas.trace(
        load_network(network, trust=trust), parse_shape(shape), **({} if classes is None else {"classes": classes})
    )
    plan = nas.hardware.Plan(precision=precision, processes=processes, reference=reference)
    found = nas.hardware.measure(graph, target, plan=plan)
    if style == "json":
        emit_json({"network": network, "input": shape, **found.to_dict()})
        return
    click.echo(f"{network} on {shape}: {found.text}")
    where = found.conditions
    load = "unknown" if where.load is None else f"{where.load:.1f}"
    click.echo(
        f"{where.machine}, load {load}, {', '.join(f'{k} {v}' for k, v in where.versions)}; {where.clock} time; "
        f"measured {where.started} in {format_seconds(where.seconds)}."
    )
    for warning in found.warnings:
        note(f"Warning: {warning}")


def parse_bytes(text: str) -> int:
    """`256KiB` to 262144; kB is 1000 bytes, KiB 1024.

    Raises:
        InvalidInputError: it is no number with such a unit.
    """
    number = text.strip().rstrip("BKMGkib")
    unit = text.strip()[len(number) :]
    try:
        value = float(number) * UNITS["bytes"][unit]
    except (ValueError, KeyError) as error:
        raise InvalidInputError(
            f"A memory must be written like 256KiB (1024 bytes each) or 256kB (1000 bytes each), got {text!r}."
        ) from error
    if not math.isfinite(value) or value < 1 or value != int(value):
        raise InvalidInputError(f"A memory is a whole number of bytes of at least 1, got {text!r}.")
    return int(value)


def _bytes(value: int | None) -> str:
    return "–" if value is None else format_bytes(value)


def _exact(value: int | None) -> str | None:
    return None if value is None else f"{format_bytes(value)} ({value:,} bytes)"
