"""The file of a profile: a header, then one measurement a line; read as a table without measuring or writing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.hardware.device import Device
from nasturtium.hardware.kernels import Kernel
from nasturtium.hardware.table import LatencyTable, Row

VERSION = 2
REFERENCE = ("reference", "")
"""Use and key of the line that has the seconds of the reference kernel."""
Use = Literal["kernel", "fit", "held_out"]
Line = dict[str, Any]
Key = tuple[str, str]
"""Use, and key of the kernel or network."""


def read_table(path: str | Path) -> LatencyTable:
    """The table of a finished profile. Reads the file and nothing else; its space is not needed.

    Args:
        path: The file of `nasturtium profile`.

    Raises:
        InvalidInputError: it cannot be read, is no profile of this version, or is not finished; the message says how
            much is left.
    """
    header, lines, _ = _read(Path(path))
    if header is None:
        raise InvalidInputError(f"{str(path)!r} is empty: `nasturtium profile` makes such a file.")
    left = header["tasks"] - len([key for key in lines if key != REFERENCE])
    if left:
        raise InvalidInputError(
            f"The profile {str(path)!r} is not finished: {left} of {header['tasks']} are to be measured. Run the same "
            "`nasturtium profile` command again."
        )
    return table_of(header, lines.values(), str(path))


def begin(path: Path, header: Mapping[str, Any]) -> dict[Key, Line]:
    """The lines that a file holds; its header is written where it is new, and a last line that was cut is removed.

    Raises:
        IncompatibleError: it is of another profile, or was measured on another machine or with other versions.
        InvalidInputError: it cannot be read.
    """
    there, lines, whole = _read(path) if path.exists() else (None, {}, "")
    if there is None:
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    same = json.loads(json.dumps(header))
    if there != same:
        keys = [key for key in {**there, **same} if there.get(key) != same.get(key)]
        said = "; ".join([f"{key}: {there.get(key)!r} there, {same.get(key)!r} now" for key in keys])
        raise IncompatibleError(f"{str(path)!r} holds another profile ({said}). Take another file.")
    if len(whole.encode()) != path.stat().st_size:
        path.write_text(whole, encoding="utf-8")
    return lines


def _read(path: Path) -> tuple[dict[str, Any] | None, dict[Key, Line], str]:
    """Header (None where not even that is whole), lines, and the text up to where a last line was cut."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The profile {str(path)!r} cannot be read: {error}.") from error
    whole = text[: text.rfind("\n") + 1]
    header, lines = None, {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            data = json.loads(line)
        except ValueError as error:
            raise InvalidInputError(f"Line {number} of {str(path)!r} is no JSON: {error}.") from error
        if number == 1:
            if not isinstance(data, dict) or data.get("nasturtium_profile") != VERSION:
                raise InvalidInputError(
                    f"{str(path)!r} is no profile of version {VERSION}: it begins with {line[:80]!r}."
                )
            header = data
            continue
        if not isinstance(data, dict) or not {"use", "key", "seconds"} <= set(data):
            raise InvalidInputError(f"Line {number} of {str(path)!r} is no measurement of a profile: {line[:80]!r}.")
        lines[data["use"], data["key"]] = data
    return header, lines, whole


def table_of(header: Mapping[str, Any], lines: Iterable[Line], where: str) -> LatencyTable:
    """The table of a header and all its lines, in the order of the plan.

    Raises:
        InvalidInputError: a line lacks something.
    """
    ordered = sorted(lines, key=lambda line: line.get("number", -1))
    reference = next((float(line["seconds"]) for line in ordered if line["use"] == REFERENCE[0]), None)
    try:
        device = Device.from_dict(header["device"])
        known = {line["key"]: Kernel.from_dict(line["kernel"]) for line in ordered if line["use"] == "kernel"}
        seconds = {known[line["key"]]: float(line["seconds"]) for line in ordered if line["use"] == "kernel"}
        bare = LatencyTable(device=device, seconds=seconds)

        def rows(use: Use) -> tuple[Row, ...]:
            return tuple(
                [
                    Row(bare.added({known[k]: n for k, n in line["kernels"].items()}), line["seconds"], line["graph"])
                    for line in ordered
                    if line["use"] == use
                ]
            )

        machine = header.get("machine", {})
        shapes = " and ".join(["x".join(map(str, shape)) for shape in header["inputs"].values()])
        return LatencyTable(
            device=device,
            seconds=seconds,
            fitted=rows("fit"),
            held_out=rows("held_out"),
            source=f"the kernels of {header['name']} on {shapes}, each measured once{_on(machine)}",
            coverage=header["coverage"],
            reference=reference,
            machine=machine.get("processor", ""),
            versions=tuple(sorted(machine.get("versions", {}).items())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"The profile {where!r} lacks something: {error!r}.") from error


def _on(machine: Mapping[str, Any]) -> str:
    if not machine:
        return ""
    versions = ", ".join([f"{name} {number}" for name, number in sorted(machine["versions"].items())])
    return f" on {machine['processor']} ({versions})"
