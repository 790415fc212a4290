"""The memory of finalists on microcontrollers: each one's int8 file written, and its arena really allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nasturtium.errors import ExportError
from nasturtium.graph import Graph
from nasturtium.hardware.micro_file import FileMemory, measure_file, missing_packages
from nasturtium.study.on_device import OnDevices
from nasturtium.trial import Constraint, of_device, on_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Writes networks of a study as files of a microcontroller and counts; nothing is kept."""

    trials: Path
    """Folder of the trials' weights."""

    @property
    def obstacle(self) -> str:
        """Why no file can be written on this machine; empty where it can."""
        missing = missing_packages()
        if not missing:
            return ""
        return (
            f"the extra `tinyml` is not installed here ({', '.join(missing)}): pip install 'nasturtium[tinyml]' (Linux "
            "on x86-64), then `nasturtium verify`"
        )

    def measure(self, graph: Graph, role: str, number: int) -> tuple[FileMemory | None, str, bool]:
        """The memory of a network with the weights that its trial left, or with untrained ones.

        Returns:
            Its memory, or None and the reason why it has no file; and whether its weights were trained ones.
        """
        from nasturtium.estimators.final import load_weights  # noqa: PLC0415  (PyTorch)
        from nasturtium.model import build  # noqa: PLC0415

        model = build(graph, seed=0)
        weights = self.trials / role.replace(":", "-") / str(number) / "weights.safetensors"
        if trained := weights.is_file():
            load_weights(model, weights)
        try:
            return measure_file(model, graph.nodes[0].shape), "", trained
        except ExportError as error:
            return None, f"the network has no int8 file: {error}", trained


def own_limits(devices: OnDevices, limits: tuple[Constraint, ...]) -> tuple[OnDevices, tuple[Constraint, ...]]:
    """The limits of a search with those of its microcontrollers' own memory, where it set no tighter one.

    They are on the arena and the file alone: what misses them fits in no way, and what meets them has yet to leave room
    for the program (`micro_file.ALONE`).

    Args:
        devices: Of the search.
        limits: That it was given.
    """
    named = {found.device for name in devices.names if (found := of_device(name)) is not None}
    added = []
    for device in [devices.devices[name] for name in sorted(named) if devices.devices[name].is_microcontroller]:
        for kind, most in (("sram", device.sram), ("flash", device.flash)):
            name = f"{kind}({device.name})"
            tighter = any(c.metric == name and c.relation == "<=" and c.limit <= (most or 0) for c in limits)
            if most is not None and not tighter:
                added.append(on_device(kind, device.name) <= most)
    names = tuple(dict.fromkeys([*devices.names, *(c.metric for c in added)]))
    return replace(devices, names=names), (*limits, *added)
