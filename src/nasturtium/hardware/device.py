"""Descriptions of devices: where a network shall run, through which runtime, and what memory there is."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nasturtium.errors import InvalidInputError, UnknownNameError

VERSION = 1

Runtime = Literal["eager", "compiled", "onnx", "onnx_int8", "litert", "tflm"]
"""PyTorch, PyTorch compiled, ONNX Runtime, the same in int8, LiteRT (TensorFlow Lite), and TensorFlow Lite Micro."""

DType = Literal["float32", "bfloat16", "float16", "int8"]

RUNTIMES: Mapping[Runtime, tuple[DType, ...]] = {
    "eager": ("float32", "bfloat16", "float16"),
    "compiled": ("float32", "bfloat16", "float16"),
    "onnx": ("float32",),
    "onnx_int8": ("int8",),
    "litert": ("float32", "int8"),
    "tflm": ("int8",),
}
"""The number formats that each runtime takes here."""

TOKEN_VARIABLE = "NASTURTIUM_AGENT_TOKEN"  # noqa: S105  (the name of a variable, no secret)
"""The environment variable that holds the token of an agent, unless the device names another."""

DEVICES_VARIABLE = "NASTURTIUM_DEVICES"
"""The environment variable that names the file of the user's own devices; `devices.toml` here without it."""

KIB = 1024
MIB = 1024 * KIB

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TARGET = re.compile(r"cpu|cuda(:\d+)?|microcontroller")
_ADDRESS = re.compile(r"https?://([^\s/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a network runs, and how: every latency belongs to one of these.

    Raises:
        InvalidInputError: a field is out of its range, or two contradict each other.
    """

    name: str
    runtime: Runtime = "onnx"
    target: str = "cpu"
    """"cpu", "cuda", "cuda:1" … or "microcontroller"."""
    threads: int = 1
    """Threads of one inference; each is pinned to a core of its own while measuring."""
    dtype: DType = "float32"
    batch: int = 1
    """Inputs of one inference. A latency is that of the whole batch."""
    sram: int | None = None
    """Working memory in bytes, None where it is no limit."""
    flash: int | None = None
    """Memory for the program and its weights in bytes, None where it is no limit."""
    address: str | None = None
    """Of the agent that measures there ("http://192.168.1.20:8420"); None for this machine."""
    token_variable: str = TOKEN_VARIABLE
    """Name of the environment variable that holds the agent's token. The token itself is never stored."""
    note: str = ""
    """For people: the board, the data sheet."""

    def __post_init__(self) -> None:
        _check_text(self)
        for field, least in (("threads", 1), ("batch", 1), ("sram", 1), ("flash", 1)):
            value = getattr(self, field)
            if value is None and field in {"sram", "flash"}:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(
                    f"Device {self.name!r}: {field!r} must be a whole number of at least {least}, got {value!r}."
                )
        if self.dtype not in RUNTIMES[self.runtime]:
            raise InvalidInputError(
                f"Device {self.name!r}: runtime {self.runtime!r} computes in {' or '.join(RUNTIMES[self.runtime])}, "
                f"got dtype {self.dtype!r}."
            )
        if self.is_cuda and self.runtime not in {"eager", "compiled"}:
            raise InvalidInputError(
                f"Device {self.name!r}: on {self.target!r} the runtimes 'eager' and 'compiled' are measured, "
                f"got {self.runtime!r}."
            )
        if self.is_microcontroller and (self.runtime != "tflm" or self.sram is None or self.flash is None):
            raise InvalidInputError(
                f"Device {self.name!r}: a microcontroller has runtime 'tflm', `sram` and `flash` in bytes; got "
                f"runtime {self.runtime!r}, sram {self.sram!r}, flash {self.flash!r}."
            )
        if self.is_remote and self.runtime not in {"onnx", "onnx_int8"}:
            raise InvalidInputError(
                f"Device {self.name!r}: an agent measures through 'onnx' or 'onnx_int8' (it needs ONNX Runtime only), "
                f"got {self.runtime!r}."
            )

    @property
    def is_microcontroller(self) -> bool:
        """Whether its costs come from exact static models of memory, not from a clock."""
        return self.target == "microcontroller"

    @property
    def is_cuda(self) -> bool:
        """Whether it is an NVIDIA GPU of this machine."""
        return self.target.startswith("cuda")

    @property
    def is_remote(self) -> bool:
        """Whether an agent measures."""
        return self.address is not None

    @property
    def text(self) -> str:
        """For people: "ONNX Runtime, 1 thread, float32, batch 1 on this machine's CPU"."""
        runtime = {
            "eager": "PyTorch",
            "compiled": "PyTorch compiled",
            "onnx": "ONNX Runtime",
            "onnx_int8": "ONNX Runtime",
            "litert": "LiteRT",
            "tflm": "TensorFlow Lite Micro",
        }[self.runtime]
        if self.is_microcontroller:
            return f"{runtime}, {self.dtype}, batch {self.batch} on a microcontroller"
        where = f"the agent at {self.address}" if self.is_remote else "this machine"
        part = "CPU" if self.target == "cpu" else self.target.upper()
        plural = "thread" if self.threads == 1 else "threads"
        return f"{runtime}, {self.threads} {plural}, {self.dtype}, batch {self.batch} on the {part} of {where}"

    def replace(self, **changes: Any) -> Device:
        """Another device that differs in the given fields."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; no secrets are in it."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Device:
        """Read what `to_dict` gave, or a table of a file of devices.

        Raises:
            InvalidInputError: unknown or missing fields, or values that do not fit.
        """
        if not isinstance(data, Mapping) or "name" not in data:
            raise InvalidInputError(f"A device is a table with at least a `name`, got {data!r}.")
        given = dict(data)
        version = given.pop("version", VERSION)
        if version != VERSION:
            raise InvalidInputError(f"Device {data['name']!r} is of version {version!r}; this one reads {VERSION}.")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise InvalidInputError(
                    f"Device {data['name']!r}: unknown field {key!r}. Known: {', '.join(known)}.{hint}"
                )
        return cls(**given)


def _check_text(device: Device) -> None:
    """Check the fields that are text; see `Device`."""
    if not isinstance(device.name, str) or not _NAME.fullmatch(device.name):
        raise InvalidInputError(f"A device's name is made of letters, digits, '.', '_' and '-', got {device.name!r}.")
    for field, known in (("runtime", get_args(Runtime)), ("dtype", get_args(DType))):
        if getattr(device, field) not in known:
            raise UnknownNameError(f"{field} of device {device.name!r}:", str(getattr(device, field)), known)
    for field, pattern, example in (
        ("target", _TARGET, "'cpu', 'cuda', 'cuda:1' or 'microcontroller'"),
        ("address", _ADDRESS, "'http://host:8420'"),
    ):
        value = getattr(device, field)
        if value is None and field == "address":
            continue
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InvalidInputError(f"Device {device.name!r}: {field!r} must be like {example}, got {value!r}.")
    if not isinstance(device.token_variable, str) or not device.token_variable.isidentifier():
        raise InvalidInputError(
            f"Device {device.name!r}: 'token_variable' is the name of an environment variable, "
            f"got {device.token_variable!r}. The token itself stands in that variable, never in a device."
        )
    if not isinstance(device.note, str):
        raise InvalidInputError(f"Device {device.name!r}: 'note' is text, got {device.note!r}.")


def _microcontroller(name: str, sram: int, flash: int, note: str) -> Device:
    return Device(
        name=name, runtime="tflm", target="microcontroller", dtype="int8", sram=sram, flash=flash,
        note=f"{note}. The data sheet's kB are 1024 bytes, its MB 1024 kB.",
    )  # fmt: skip


BUILT_IN: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device(name="cpu", runtime="onnx", note="What an exported network does on this machine"),
        Device(name="cpu-int8", runtime="onnx_int8", dtype="int8", note="Quantised after training (QDQ, per channel)"),
        Device(name="cpu-eager", runtime="eager"),
        Device(name="cpu-compiled", runtime="compiled", note="torch.compile; compiling takes seconds a network"),
        Device(name="cpu-litert", runtime="litert", note="Needs nasturtium[tinyml]"),
        Device(name="cpu-litert-int8", runtime="litert", dtype="int8", note="Needs nasturtium[tinyml]"),
        Device(name="cuda", runtime="eager", target="cuda"),
        Device(name="cuda-compiled", runtime="compiled", target="cuda"),
        _microcontroller("mcu-256k", 256 * KIB, 1 * MIB, "256 kB SRAM, 1 MB flash, such as an STM32F412 (Cortex-M4)"),
        _microcontroller("mcu-320k", 320 * KIB, 1 * MIB, "320 kB SRAM, 1 MB flash, such as an STM32F746 (Cortex-M7)"),
        _microcontroller("mcu-512k", 512 * KIB, 2 * MIB, "512 kB SRAM, 2 MB flash, such as an STM32H743 (Cortex-M7)"),
    )
}
"""The devices that need no description of yours, by name."""


def devices_file() -> Path:
    """The file of the user's own devices: `$NASTURTIUM_DEVICES`, or `devices.toml` in the working folder."""
    return Path(os.environ.get(DEVICES_VARIABLE) or "devices.toml")


def load_devices(path: str | Path) -> dict[str, Device]:
    """The devices of a TOML or JSON file: one table for each, under its name.

    ```toml
    [pi4]
    runtime = "onnx"
    address = "http://192.168.1.20:8420"
    ```

    Raises:
        InvalidInputError: the file cannot be read, a device is not valid, or it has the name of a built-in one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{str(path)!r} cannot be read as a file of devices (TOML or JSON): {error}."
        ) from error
    if not isinstance(data, dict) or not all(isinstance(table, dict) for table in data.values()):
        raise InvalidInputError(f"{str(path)!r} must hold one table for each device, under its name.")
    found = {}
    for name, table in data.items():
        if name in BUILT_IN:
            raise InvalidInputError(f"{str(path)!r}: {name!r} is the name of a built-in device; choose another.")
        try:
            found[name] = Device.from_dict({"name": name, **table})
        except InvalidInputError as error:
            raise InvalidInputError(f"{str(path)!r}: {error}") from error
        if found[name].name != name:
            raise InvalidInputError(f"{str(path)!r}: the table {name!r} holds a device named {found[name].name!r}.")
    return found


def devices(file: str | Path | None = None) -> dict[str, Device]:
    """All devices by name: the built-in ones, then those of the file.

    Args:
        file: A file of devices; None for `devices_file()` where that exists.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    if file is None:
        path = devices_file()
        return {**BUILT_IN, **(load_devices(path) if path.exists() else {})}
    return {**BUILT_IN, **load_devices(file)}


def device(name: str | Device, *, file: str | Path | None = None) -> Device:
    """A device by name.

    Args:
        name: Of a built-in device or of one in the file; a `Device` is handed through.
        file: A file of devices; None for `devices_file()` where that exists.

    Raises:
        UnknownNameError: no device has that name.
        InvalidInputError: the file cannot be read.
    """
    if isinstance(name, Device):
        return name
    if file is None and name in BUILT_IN:
        return BUILT_IN[name]
    known = devices(file)
    if name not in known:
        raise UnknownNameError("device", str(name), known)
    return known[name]


def add_device(new: Device, file: str | Path | None = None) -> Path:
    """Append a device to a TOML file, which keeps what stands in it; returns the file.

    Raises:
        InvalidInputError: the name is taken, or the file is not TOML or cannot be written.
    """
    path = devices_file() if file is None else Path(file)
    if path.suffix == ".json":
        raise InvalidInputError(f"Devices are added to a TOML file, got {str(path)!r}; edit a JSON file by hand.")
    known = {**BUILT_IN, **(load_devices(path) if path.exists() else {})}
    if new.name in known:
        raise InvalidInputError(f"There is a device {new.name!r} already: {known[new.name].text}. Choose another name.")
    defaults = {field.name: field.default for field in dataclasses.fields(Device)}
    table = [f"[{json.dumps(new.name)}]"]
    table += [
        f"{field} = {json.dumps(value, ensure_ascii=False)}"
        for field, value in dataclasses.asdict(new).items()
        if field != "name" and value != defaults[field]
    ]
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        path.write_text(f"{before}{gap}" + "\n".join(table) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"The device cannot be written to {str(path)!r}: {error}.") from error
    return path
