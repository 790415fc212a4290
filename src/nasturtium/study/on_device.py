"""What a search is asked of devices: where each latency comes from, what is known before training, what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasturtium.errors import InvalidInputError, NasturtiumError, StoreError
from nasturtium.graph import Graph
from nasturtium.hardware import Device
from nasturtium.hardware import device as device_named
from nasturtium.hardware.latency import LatencyModel, model_from_dict
from nasturtium.hardware.micro_file import SOURCES
from nasturtium.hardware.table import LatencyTable
from nasturtium.space import Architecture, Space
from nasturtium.trial import Metric, OfDevice, of_device, on_device

MEASURE = "measure"
"""In place of a model: the latency of every trial is measured."""

HOW = (
    "give a model, `latency={{{0!r}: 'FILE'}}` (`--latency {0}=FILE`), which `nasturtium profile {0} SPACE --out FILE` "
    "makes, or have every trial measured, `latency={{{0!r}: 'measure'}}` (`--latency {0}=measure`)"
)

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class OnDevices:
    """Devices of a search, by name, and what is asked of them."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    models: Mapping[str, LatencyModel | None] = field(default_factory=dict)
    """Of the latency on a device; None where every trial is measured."""
    names: tuple[str, ...] = ()
    """All metrics of devices: those that the search names, and the latency wherever it has a source."""
    shifts: Mapping[str, float] = field(default_factory=dict)
    """Bytes by which files of finalists were larger than a memory's model says, by metric; it is corrected by these."""
    files: Mapping[str, int] = field(default_factory=dict)
    """How many files are behind each of the `shifts`."""
    references: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the reference kernel for which a device's model is stated, where it says so."""

    @property
    def cheap(self) -> tuple[str, ...]:
        """Metrics that are known before training: predicted latencies, memory of microcontrollers."""
        return tuple(name for name in self.names if not self._is_measured(name))

    @property
    def measured(self) -> tuple[str, ...]:
        """Metrics that every trial measures."""
        return tuple(name for name in self.names if self._is_measured(name))

    @property
    def latencies(self) -> tuple[str, ...]:
        """The latencies: what is measured once more for the finalists."""
        return tuple(name for name in self.names if name.startswith("latency("))

    @property
    def memories(self) -> tuple[str, ...]:
        """The memories of microcontrollers: what is proved for the finalists by their files."""
        return tuple(name for name in self.names if name.startswith(("sram(", "flash(")))

    @property
    def verifiable(self) -> tuple[str, ...]:
        """What is measured once more for the finalists."""
        return self.latencies + self.memories

    @property
    def known_metrics(self) -> dict[str, Metric]:
        """All of them, by name; a predicted latency is cheap."""
        return {name: replace(metric_named(name), cheap=name in self.cheap) for name in self.names}

    def device_of(self, name: str) -> Device:
        """The device of a metric."""
        return self.devices[asked_of(name).device]

    def model_of(self, name: str) -> LatencyModel | None:
        """What predicts a latency; None where nothing does."""
        asked = asked_of(name)
        return self.models.get(asked.device) if asked.kind == "latency" else None

    def value(self, name: str, architecture: Architecture, graph: Graph) -> float:
        """A cheap metric of a network.

        Raises:
            InvalidInputError: the model does not know what the network is made of.
            IncompatibleError: the microcontroller's runtime lacks an operation.
        """
        kind = asked_of(name).kind
        if kind == "latency":
            model = self.model_of(name)
            assert model is not None
            return model.predict(input_of(model, architecture, graph)).seconds  # type: ignore[arg-type]
        from nasturtium.hardware.micro import predict_arena, predict_flash  # noqa: PLC0415

        said = predict_arena(graph).total if kind == "sram" else predict_flash(graph).total
        return float(said) + self.shifts.get(name, 0.0)

    def with_models(
        self, models: Mapping[str, LatencyModel | None], shifts: Mapping[str, float], files: Mapping[str, int]
    ) -> OnDevices:
        """The same with other models, by device, and other corrections of memories, by metric."""
        return replace(self, models={**self.models, **models}, shifts=dict(shifts), files=dict(files))

    def check(self, space: Space, inputs: tuple[int, ...], context: Mapping[str, Any], *, measuring: bool) -> None:
        """Refuse, before anything is trained, what a device cannot run or a model cannot predict.

        Args:
            space: That is searched.
            inputs: Shape of an input without the batch.
            context: What the task tells the network.
            measuring: Whether finalists are to be measured.

        Raises:
            IncompatibleError: an operation of the space does not run on a device; names it, with its place.
            InvalidInputError: a device cannot be measured here, has no counter of energy, or a model lacks a kernel.
            MissingExtraError: a device's runtime is not installed.
            TrialError: the agent of a remote device cannot be reached.
        """
        from nasturtium.hardware import support  # noqa: PLC0415

        for device in {asked_of(name).device: self.device_of(name) for name in self.names}.values():
            support.check(space, device.runtime, inputs, **context)
        for name in self.names:
            if self._is_measured(name) or (measuring and name in self.latencies):
                self._check_measurable(name)
        for name in self.latencies:
            model = self.model_of(name)
            if hasattr(model, "check"):
                model.check()  # type: ignore[union-attr]
            self._check_kernels(model, space, inputs, context)

    def _check_measurable(self, name: str) -> None:
        device = self.device_of(name)
        if asked_of(name).kind == "energy":
            from nasturtium.hardware.energy import meter  # noqa: PLC0415

            meter(device)
            return
        from nasturtium.hardware import runtimes  # noqa: PLC0415  (loads torch)

        try:
            runtimes.support(device)
            if device.is_remote:
                from nasturtium.hardware.remote import Remote  # noqa: PLC0415

                Remote(device).about()
        except NasturtiumError as error:
            if self.model_of(name) is None:
                raise
            raise type(error)(
                f"The finalists are to be measured on {device.name!r}, which is not possible now: {error} To search by "
                "the model alone, say `verify=False` (`--no-verify`); no network is then shown to meet a limit."
            ) from error

    def _check_kernels(
        self, model: LatencyModel | None, space: Space, inputs: tuple[int, ...], context: Mapping[str, Any]
    ) -> None:
        """That a table has all kernels of the space."""
        seconds = getattr(model, "seconds", None)
        if model is None or not isinstance(seconds, Mapping):
            return
        from nasturtium.hardware.open_kernels import space_kernels  # noqa: PLC0415

        listed = space_kernels(space, inputs, context=dict(context)).kernels
        missing = [kernel for kernel in listed if kernel not in seconds]
        if missing:
            named = "; ".join([kernel.text for kernel in missing[:3]])
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InvalidInputError(
                f"The table of {model.device.name!r} ({model.source}) lacks {len(missing)} of {len(listed)} kernels of "
                f"this space on inputs of {'x'.join(map(str, inputs))}: {named}{more}. Profile this space with this "
                f"input and number of classes: `nasturtium profile {model.device.name} SPACE`."
            )

    def _is_measured(self, name: str) -> bool:
        asked = asked_of(name)
        return asked.kind == "energy" or (asked.kind == "latency" and self.models.get(asked.device) is None)

    def to_measure(self, inputs: tuple[int, ...], context: Mapping[str, Any]) -> Json | None:
        """What every trial measures, as plain JSON for `measurer`; None for nothing."""
        if not self.measured:
            return None
        metrics = {name: self.device_of(name).to_dict() for name in self.measured}
        return {"metrics": metrics, "inputs": list(inputs), "context": dict(context)}

    def compared(self) -> Json:
        """What makes two searches the same, as plain JSON: devices, and which model."""
        return {
            name: {
                "device": device.to_dict(),
                **({"latency": fingerprint(self.models[name])} if name in self.models else {}),
            }
            for name, device in sorted(self.devices.items())
        }

    def stored(self) -> Json:
        """All of it as plain JSON; `restored` is the inverse."""
        return {
            "devices": {name: device.to_dict() for name, device in self.devices.items()},
            "models": {name: None if model is None else model.to_dict() for name, model in self.models.items()},
            "names": list(self.names),
            "sources": {name: self.source(name) for name in self.verifiable},
            "references": dict(self.references),
        }

    def source(self, name: str) -> str:
        """Where a latency or a memory comes from, in words, with the error of its model."""
        if name in self.memories:
            said = SOURCES[asked_of(name).kind]
            return corrected_source(said, self.shifts[name], self.files[name]) if name in self.shifts else said
        model = self.model_of(name)
        if model is None:
            return "a short measurement in each trial"
        error = "" if model.error is None else f" ({model.error.text})"
        return f"{model.source}{error}"

    @classmethod
    def restored(cls, data: Mapping[str, Any], *, trust: bool = False) -> OnDevices:
        """Inverse of `stored`; `trust` as of `model_from_dict`."""
        models = {n: None if m is None else model_from_dict(m, trust=trust) for n, m in data["models"].items()}
        devices = {name: Device.from_dict(d) for name, d in data["devices"].items()}
        return cls(devices=devices, models=models, names=tuple(data["names"]), references=dict(data["references"]))


def read_on_devices(
    latency: Mapping[Any, Any] | None,
    names: Iterable[str],
    *,
    space: Space,
    inputs: tuple[int, ...],
    context: Mapping[str, Any],
) -> OnDevices:
    """Read a search's `latency` argument, beside the metrics that its wishes name.

    Args:
        latency: For each device, by name or as itself: a model, the file of one, or "measure".
        names: Of metrics; others than those of devices are passed over.
        space: That is searched.
        inputs: Shape of an input without the batch.
        context: What the task tells the network.

    Raises:
        InvalidInputError: a latency is asked of a device without saying where it comes from, a file cannot be read,
            or a metric does not exist on such a device.
        UnknownNameError: no such device.
    """
    devices: dict[str, Device] = {}
    models: dict[str, LatencyModel | None] = {}
    references: dict[str, float] = {}
    if latency is not None and not isinstance(latency, Mapping):
        raise InvalidInputError(
            f"`latency` says for each device where its latency comes from, such as {{'cpu': 'cpu.jsonl'}}, got "
            f"{latency!r}."
        )
    for key, source in (latency or {}).items():
        model, reference = read_source(source, str(getattr(key, "name", key)), space, inputs, context)
        name = key.name if isinstance(key, Device) else str(key)
        device = key if isinstance(key, Device) else model.device if model is not None else device_named(name)
        if model is not None and model.device != device:
            raise InvalidInputError(
                f"The latency model given for {name!r} is of {model.device.name!r}: {model.device.text}. Give each "
                "device its own."
            )
        if device.name != name:
            raise InvalidInputError(f"The latency model given for {name!r} is of the device {device.name!r}.")
        devices[name], models[name] = device, model
        if reference is not None:
            references[name] = reference
    wanted = list(dict.fromkeys(name for name in names if of_device(name)))
    for name in wanted:
        asked = asked_of(name)
        device = devices.get(asked.device) or device_named(asked.device)
        devices[asked.device] = device
        _check_kind(name, device, sourced=asked.device in models)
    wanted += [f"latency({name})" for name in models if f"latency({name})" not in wanted]
    return OnDevices(devices=devices, models=models, names=tuple(wanted), references=references)


def _check_kind(name: str, device: Device, *, sourced: bool) -> None:
    kind = asked_of(name).kind
    if kind in ("sram", "flash") and not device.is_microcontroller:
        raise InvalidInputError(
            f"`{name}` is asked of microcontrollers (see `nasturtium device list`), and {device.name!r} is none: "
            f"{device.text}."
        )
    if kind in ("latency", "energy") and device.is_microcontroller:
        raise InvalidInputError(
            f"`{name}` is not known: for microcontrollers memory is modelled, and time and energy are to be "
            f"measured on the board. Ask for `sram({device.name})` and `flash({device.name})`, and for `macs`."
        )
    if kind == "latency" and not sourced:
        raise InvalidInputError(f"`{name}` needs a source: {HOW.format(device.name)}.")


def read_source(
    source: Any, name: str, space: Space, inputs: tuple[int, ...], context: Mapping[str, Any]
) -> tuple[LatencyModel | None, float | None]:
    """A device's model, and the seconds of the reference kernel that it is stated for; None for "measure".

    Raises:
        InvalidInputError: the file cannot be read, holds no model, or a profile that is not finished.
    """
    if isinstance(source, str) and source == MEASURE:
        return None, None
    if isinstance(source, LatencyModel):
        return source, getattr(source, "reference", None)
    if not isinstance(source, (str, Path)):
        raise InvalidInputError(
            f"The latency of {name!r} comes from a model, the file of one, or 'measure'; got {source!r}."
        )
    path = Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        first = json.loads(lines[0]) if lines else {}
    except OSError as error:
        raise InvalidInputError(
            f"The latency model of {name!r} cannot be read from {str(path)!r}: {error.strerror or error}. Or "
            f"{HOW.format(name)}."
        ) from error
    except ValueError:
        first = {}
    if isinstance(first, dict) and "nasturtium_profile" in first:
        table = _profiled(path, first, space, inputs, context)
        return table, table.reference
    try:
        data = json.loads("\n".join(lines))
        model = model_from_dict(data)
    except (ValueError, AttributeError) as error:
        raise InvalidInputError(f"{str(path)!r} holds no latency model: {error}") from error
    return model, getattr(model, "reference", None)


def _profiled(
    path: Path,
    header: Mapping[str, Any],
    space: Space,
    inputs: tuple[int, ...],
    context: Mapping[str, Any],
) -> LatencyTable:
    """The table of a finished file of `nasturtium profile`, of this space. Nothing is measured or written."""
    from nasturtium.hardware.profile_file import read_table  # noqa: PLC0415

    shapes = [tuple(shape) for shape in header["inputs"].values()]
    said = {"space": header["space"], "inputs": shapes, "context": dict(header["context"])}
    asked = {"space": space.fingerprint, "inputs": [tuple(inputs)], "context": dict(context)}
    wrong = [f"{key} {said[key]!r}, here {asked[key]!r}" for key in said if said[key] != asked[key]]
    if wrong:
        raise InvalidInputError(
            f"The profile {str(path)!r} is of another space or task ({'; '.join(wrong)}), so its whole networks cannot "
            "be traced here. Give its finished table (`nasturtium profile … --table FILE`), or profile this space."
        )
    return read_table(path)


def input_of(model: LatencyModel, architecture: Architecture, graph: Graph) -> Graph | Architecture:
    """What a model reads of a network: its graph, or its decisions."""
    from nasturtium.hardware.features import DecisionFeatures  # noqa: PLC0415

    sources = getattr(model, "sources", None)
    first = sources[0] if isinstance(sources, (tuple, list)) and sources else model
    return architecture if isinstance(getattr(first, "features", None), DecisionFeatures) else graph


def fingerprint(model: LatencyModel | None) -> str:
    """The word "measure", or the source of a model and the head of its SHA-256."""
    if model is None:
        return MEASURE
    digest = hashlib.sha256(json.dumps(model.to_dict(), sort_keys=True).encode()).hexdigest()
    return f"{model.source} ({digest[:12]})"


def corrected_source(source: str, shift: float, files: int) -> str:
    """Where a memory comes from whose model was corrected by what files were larger, in words.

    Args:
        source: Of the model alone. Corrected, it is no lower bound.
        shift: Bytes, the median over the files.
        files: How many.
    """
    plain = source.replace("a lower bound, ", "")
    larger = "larger" if shift >= 0 else "smaller"
    sign = "plus" if shift >= 0 else "less"
    count = f"{files} files were" if files > 1 else "1 file was"
    return f"{plain}, {sign} {abs(shift):,.0f} B, the median by which {count} {larger}"


def metric_named(name: str) -> Metric:
    """The metric of a device by its name."""
    asked = asked_of(name)
    return on_device(asked.kind, asked.device)


def asked_of(name: str) -> OfDevice:
    """Kind and device of a metric."""
    found = of_device(name)
    if found is None:
        raise InvalidInputError(f"{name!r} is no metric of a device, such as 'latency(cpu)'.")
    return found


def read_stored(detail: Mapping[str, Any], *, trust: bool = False) -> OnDevices:
    """The devices of a stored study.

    Args:
        detail: What `OnDevices.stored` gave.
        trust: Whether a model may name a space of modules that are not nasturtium's.

    Raises:
        StoreError: they cannot be made again.
    """
    try:
        return OnDevices.restored(detail, trust=trust)
    except (KeyError, TypeError, NasturtiumError) as error:
        raise StoreError(f"The devices of the study cannot be made again: {error}") from error
