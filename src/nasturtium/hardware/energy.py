"""Energy of an inference, where the machine has a meter: RAPL of the processor, NVML of an NVIDIA GPU."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nasturtium.errors import InvalidInputError, MissingExtraError
from nasturtium.graph import Graph
from nasturtium.hardware import agent, runtimes, statistics
from nasturtium.hardware.device import Device
from nasturtium.hardware.device import device as device_named

POWERCAP = Path("/sys/class/powercap")
VERSION = 1


class Meter(Protocol):
    """A counter of energy."""

    @property
    def source(self) -> str:
        """What it counts, in words."""
        ...

    def joules(self) -> float:
        """Energy since some moment; only differences mean something. It never goes back."""
        ...


class Rapl:
    """The energy counters of the processor's packages under Linux; everything that runs on them is counted.

    Args:
        root: Where the kernel shows them.

    Raises:
        InvalidInputError: there are none, or this user may not read them.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._packages = sorted(p for p in root.glob("*rapl:*") if p.name.count(":") == 1 and _is_package(p))
        if not self._packages:
            raise InvalidInputError(
                f"This machine exposes no energy counter of its processor (RAPL): {root} has no `intel-rapl:0` of a "
                "package. Virtual machines and most ARM boards have none; energy is then unknown, and no number is "
                "made up."
            )
        try:
            self._ranges = [self._read(p / "max_energy_range_uj") for p in self._packages]
            self._last = [self._read(p / "energy_uj") for p in self._packages]
        except PermissionError as error:
            raise InvalidInputError(
                f"The energy counter {error.filename!r} may be read by the administrator only. Allow it for this "
                f"session: sudo chmod a+r {root}/*rapl:*/energy_uj"
            ) from error
        self._total = 0

    @staticmethod
    def _read(path: Path) -> int:
        return int(path.read_text())

    @property
    def source(self) -> str:
        """What it counts."""
        return f"RAPL, {len(self._packages)} processor package(s), whole package"

    def joules(self) -> float:
        """Energy since this meter was made; a counter that ran over is put right."""
        for i, package in enumerate(self._packages):
            now = self._read(package / "energy_uj")
            self._total += (now - self._last[i]) % (self._ranges[i] + 1)
            self._last[i] = now
        return self._total / 1e6


def _is_package(domain: Path) -> bool:
    """Whether a domain is a processor's package: "psys", the whole board, stands beside them and holds them."""
    name = domain / "name"
    return name.exists() and name.read_text().startswith("package") and (domain / "energy_uj").exists()


class Nvml:
    """The energy counter of an NVIDIA GPU (Volta and later); the whole board is counted.

    Args:
        index: Of the GPU, as PyTorch numbers it. NVML numbers all GPUs of the machine, by their places on the bus, also
            those that `CUDA_VISIBLE_DEVICES` hides; so the board is looked up by its UUID.

    Raises:
        MissingExtraError: `pynvml` is not installed.
        InvalidInputError: there is no such GPU, or it has no counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise MissingExtraError(
                "The energy of a GPU is read through NVML: pip install nvidia-ml-py (it gives `pynvml`)."
            ) from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid(index))
            pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except pynvml.NVMLError as error:
            raise InvalidInputError(f"GPU {index} exposes no energy counter through NVML: {error}.") from error
        self._index = index

    @property
    def source(self) -> str:
        """What it counts."""
        return f"NVML, GPU {self._index}, whole board"

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3


def _uuid(index: int) -> str:
    """The UUID of PyTorch's GPU of a number, as NVML writes it."""
    if index >= torch.cuda.device_count():
        raise InvalidInputError(f"There is no GPU {index}: PyTorch finds {torch.cuda.device_count()} here.")
    uuid = str(torch.cuda.get_device_properties(index).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def meter(device: Device) -> Meter:
    """The meter of a device.

    Raises:
        InvalidInputError: the device has none that this machine can read; says why.
        MissingExtraError: it needs a package that is not installed.
    """
    if device.is_microcontroller:
        raise InvalidInputError(f"The energy of {device.name!r} is not modelled: measure on the board.")
    if device.is_remote:
        raise InvalidInputError(f"The agent of {device.name!r} measures latency, not energy.")
    if device.is_cuda:
        return Nvml(int(device.target.partition(":")[2] or 0))
    return Rapl()


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference (of the whole batch), in joules."""

    joules: float
    """Median, above what the machine takes at rest."""
    low: float
    high: float
    gross: float
    """Median, the rest of the machine included."""
    idle_watts: float
    """Power at rest, measured before each repetition (median)."""
    seconds: float
    """Of one inference, by the wall clock (median)."""
    repetitions: int
    confidence: float = 0.95
    """Of the interval, over the repetitions."""
    source: str
    device: Device

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"version": VERSION, **dataclasses.asdict(self), "device": self.device.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Energy:
        """Read what `to_dict` gave.

        Raises:
            InvalidInputError: another version, or fields that are missing or unknown.
        """
        given = dict(data)
        if given.pop("version", None) != VERSION:
            raise InvalidInputError(f"An energy of version {data.get('version')!r} cannot be read; expected {VERSION}.")
        try:
            return cls(**{**given, "device": Device.from_dict(given["device"])})
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"An energy cannot be read: {error!r} in {data!r}.") from error


def measure_energy(
    network: Graph, device: str | Device = "cpu", *, seconds: float = 3.0, repetitions: int = 6
) -> Energy:
    """Measure the energy of one inference: the counter over many of them, less the power at rest.

    Nothing else should run: the counters see the whole processor or board. It runs in this process, whose threads are
    set and bound to cores as the device says, and set free again.

    Args:
        network: The weights are drawn.
        device: Of this machine.
        seconds: Of inferences in each repetition, after half as many at rest.
        repetitions: At least 3.

    Raises:
        InvalidInputError: the machine exposes no counter for this device, or a number is out of its range.
        MissingExtraError: a package is not installed.
        ExportError: the network cannot be written for the runtime.
    """
    device = device_named(device)
    counter = meter(device)
    if seconds <= 0 or repetitions < statistics.FEWEST:
        raise InvalidInputError(
            f"`seconds` must be above 0 and `repetitions` at least {statistics.FEWEST}, got {seconds}, {repetitions}."
        )
    with tempfile.TemporaryDirectory(prefix="nasturtium-") as folder:
        path = runtimes.prepare(network, device, Path(folder) / "network")
        with _threads(device.threads):
            run = runtimes.one_run(path, device)
            agent.warm_up(run, least=seconds / 4, most=seconds)
            return repeated(run, counter, device, seconds=seconds, repetitions=repetitions)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads, and as many cores for them, as in the processes that measure latency."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    before = torch.get_num_threads()
    agent.pin(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def repeated(
    run: agent.Run,
    counter: Meter,
    device: Device,
    *,
    seconds: float,
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Count the energy of runs, and of rest before each repetition.

    Args:
        run: One inference.
        counter: Of energy.
        device: For the record.
        seconds: Of each repetition.
        repetitions: How many.
        clock: In seconds.
        sleep: Rests for some seconds.
    """
    gross, net, idle, times = [], [], [], []
    for _ in range(repetitions):
        begin, before = clock(), counter.joules()
        sleep(seconds / 2)
        watts = (counter.joules() - before) / max(clock() - begin, 1e-9)
        begin, before, runs = clock(), counter.joules(), 0
        while runs == 0 or clock() - begin < seconds:
            run()
            runs += 1
        passed, used = clock() - begin, counter.joules() - before
        gross.append(used / runs)
        net.append((used - watts * passed) / runs)
        idle.append(watts)
        times.append(passed / runs)
    low, high = _bounds(net)
    return Energy(
        joules=float(np.median(net)), low=low, high=high, gross=float(np.median(gross)),
        idle_watts=float(np.median(idle)), seconds=float(np.median(times)), repetitions=repetitions,
        source=counter.source, device=device,
    )  # fmt: skip


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Expanded percentile interval of the median (see `statistics.interval`); a net energy may be below 0."""
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(np.asarray(values), (statistics.RESAMPLES, len(values))), axis=1)
    tail = statistics.expanded_tail(len(values), 0.95)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
