"""Measuring the latency of networks on a device, in fresh processes, with an interval that covers them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.graph import Graph, trace
from nasturtium.graph.trace import Inputs
from nasturtium.hardware import agent, runtimes, statistics
from nasturtium.hardware.device import Device
from nasturtium.hardware.device import device as device_named
from nasturtium.hardware.measurement import Conditions, Measurement
from nasturtium.hardware.remote import Remote
from nasturtium.hardware.statistics import Clock, Interval, ProcessTimes
from nasturtium.space import Architecture, Block

PROCESSES = (6, 18)
SECONDS = 0.4
TURNS = 10
LEAST = 3

Network = Graph | Architecture | Block | nn.Module
Process = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How thoroughly to measure.

    Raises:
        InvalidInputError: a number is out of its range.
    """

    precision: float | None = 0.02
    """Half width of the interval, relative to the median, at which it stops; None for the fewest processes."""
    processes: tuple[int, int] = PROCESSES
    """Fewest and most fresh processes. Fewer than six give wide intervals."""
    seconds: float = SECONDS
    """Of processor time for each network in each process, the reference and the warm-up not counted."""
    turns: int = TURNS
    """Changes between network and reference in a process."""
    confidence: float = 0.95
    reference: float | None = None
    """Seconds of the reference kernel to state the result for (see `calibrate`); None for those of this measurement."""

    def __post_init__(self) -> None:
        few, most = self.processes
        if not statistics.FEWEST <= few <= most:
            raise InvalidInputError(
                f"`processes` are the fewest and the most, {statistics.FEWEST} <= fewest <= most; got {self.processes}."
            )
        for name, value, low, high in (
            ("precision", self.precision, 0.0, 1.0),
            ("seconds", self.seconds, 0.0, 60.0),
            ("confidence", self.confidence, 0.0, 1.0),
            ("reference", self.reference, 0.0, 60.0),
        ):
            if value is not None and not low < value < high:
                raise InvalidInputError(f"`{name}` must lie between {low:g} and {high:g}, got {value!r}.")
        if not 1 <= self.turns <= 1000:
            raise InvalidInputError(f"`turns` must be in [1, 1000], got {self.turns!r}.")


def measure(
    network: Network,
    device: str | Device = "cpu",
    *,
    shape: Inputs | None = None,
    inputs: Sequence[Tensor] = (),
    plan: Plan | None = None,
    context: dict[str, Any] | None = None,
) -> Measurement:
    """Measure the latency of one network on a device: the median of one inference, with its interval.

    A number of fresh processes, one after the other, times the network in turns with a reference kernel; the ratio of
    the two takes out what slows both for a whole process (what changes within a process scatters its turns, and stays
    in the interval), and is stated in seconds by the reference's median over the processes, whose scatter from process
    to process is in the interval then, or by `plan.reference`. Threads are pinned; the times settle first. On one
    thread of a CPU the clock is the processor time of the process: it leaves out the time in which other programs had
    the core, and what the network itself waits. It comes near the wall clock of a machine that does nothing else; on a
    busy one it still rises, since caches and memory are shared. The wall clock's median is stored beside it, with a
    warning where it is a tenth above, or where the system took the core away in a fifth of the runs. Processes are
    added until the interval is as narrow as asked, or the most are reached, which the result then says. About two
    seconds of processor time a process under ONNX Runtime, four under PyTorch.

    Args:
        network: A `Graph`; or an architecture or closed block, with `shape`; or a module, with `inputs`. The weights
            of all but a module are drawn.
        device: A name (see `nasturtium.hardware.devices`) or a description.
        shape: Of the input or inputs, for `nasturtium.trace`.
        inputs: For a module, `(batch, *shape)`, on the CPU.
        plan: How thoroughly.
        context: Further arguments of `nasturtium.trace`, such as `{"classes": 10}`.

    Raises:
        InvalidInputError: nothing is timed on such a device, or the network lacks its shape or inputs.
        MissingExtraError: the device's runtime is not installed.
        ExportError: the network cannot be written for the runtime.
        TrialError: a process failed, or the agent cannot be reached.
    """
    traced = _graph(network, shape, context or {})
    return measure_all([traced], device, inputs=[inputs] if inputs else (), plan=plan)[0]


def measure_all(
    networks: Sequence[Graph | nn.Module],
    device: str | Device = "cpu",
    *,
    inputs: Sequence[Sequence[Tensor]] = (),
    plan: Plan | None = None,
) -> list[Measurement]:
    """Measure many networks in the same processes: much faster for small ones, since starting a process is shared.

    Each is measured as by `measure`; processes are added until all intervals are as narrow as asked.

    Args:
        networks: Graphs or modules.
        device: A name or a description.
        inputs: For modules, the inputs of each.
        plan: How thoroughly.

    Raises:
        InvalidInputError, MissingExtraError, ExportError, TrialError: as `measure`.
    """
    device, plan = device_named(device), plan or Plan()
    if not networks:
        return []
    with tempfile.TemporaryDirectory(prefix="nasturtium-") as name, _processes(device) as process:
        folder = Path(name)
        files = [
            runtimes.prepare(network, device, folder / str(i), inputs=inputs[i] if inputs else ())
            for i, network in enumerate(networks)
        ]
        job = {
            "networks": [str(file) for file in files],
            "reference": str(runtimes.prepare_reference(device, folder)),
            "threads": device.threads,
            "batch": device.batch,
            "turns": plan.turns,
            "seconds": plan.seconds,
            "least": LEAST,
            "target": device.target,
            "dtype": device.dtype,
        }
        return _collected(process, job, device, plan)


def _collected(process: Process, job: dict[str, Any], device: Device, plan: Plan) -> list[Measurement]:
    """Run processes until the intervals are narrow enough, or enough have run."""
    started, begin = datetime.now(UTC).astimezone().isoformat(timespec="seconds"), time.monotonic()
    results: list[dict[str, Any]] = []
    few, most = plan.processes
    while True:
        while len(results) < few:
            results.append(process(job))
        measured = [
            summarize(
                [{**result, "results": [result["results"][i]]} for result in results],
                device, plan, started=started, seconds=time.monotonic() - begin,
            )
            for i in range(len(job["networks"]))
        ]  # fmt: skip
        if few >= most or plan.precision is None or all(m.is_precise for m in measured):
            return measured
        few = min(most, few + 2)


@contextmanager
def _processes(device: Device) -> Iterator[Process]:
    """What runs one fresh process of a measurement, here or at the agent."""
    if device.is_remote:
        remote = Remote(device)
        remote.about()
        yield remote.process
        return
    command = runtimes.support(device).command

    def run(job: dict[str, Any]) -> dict[str, Any]:
        try:
            return agent.fresh_process(command, job)
        except RuntimeError as error:
            raise TrialError(f"Measuring on {device.name!r} failed: {error}.") from error

    yield run


def _graph(network: Network, shape: Inputs | None, context: dict[str, Any]) -> Graph | nn.Module:
    if isinstance(network, (Graph, nn.Module)):
        return network
    if shape is None:
        raise InvalidInputError("An architecture or a block is measured on inputs of a given `shape`, got none.")
    return trace(network, shape, **context)


def clock_of(device: Device) -> Clock:
    """Processor time on one thread of a CPU, the wall clock elsewhere."""
    return "processor" if device.target == "cpu" and device.threads == 1 else "wall"


def summarize(
    results: Sequence[dict[str, Any]], device: Device, plan: Plan, *, started: str = "", seconds: float = 0.0
) -> Measurement:
    """The measurement that processes came to.

    Args:
        results: Of each process (see `agent.work`), with one network each, in order of time.
        device: Where.
        plan: How thoroughly.
        started: Date and time.
        seconds: How long it took.
    """
    clock = clock_of(device)
    processes = [statistics.process_times(result["results"][0], clock) for result in results]
    references = [p.reference for p in processes]
    observed = float(np.median(references))
    ratios = [[t / p.reference for t in p.turns] for p in processes]
    found = statistics.interval(ratios, references=plan.reference or references, confidence=plan.confidence)
    last = results[-1]
    return Measurement(
        seconds=found.seconds,
        low=found.low,
        high=found.high,
        confidence=plan.confidence,
        precision=plan.precision,
        processes=tuple(float(np.median(r)) * (plan.reference or observed) for r in ratios),
        samples=tuple(p.runs for p in processes),
        conditions=Conditions(
            device=device,
            machine=last["machine"],
            cores=tuple(sorted({core for result in results for core in result["cores"]})),
            load=max((r["load"] for r in results if r["load"] is not None), default=None),
            started=started,
            seconds=seconds,
            versions=tuple(sorted(last["versions"].items())),
            clock=clock,
            wall=float(np.median([p.wall for p in processes])),
            reference=plan.reference,
            observed_reference=observed,
        ),
        warnings=tuple(_warnings(processes, found, plan, observed)),
    )


def _warnings(processes: Sequence[ProcessTimes], found: Interval, plan: Plan, observed: float) -> Iterator[str]:
    """What a reader must know."""
    if plan.precision is not None and found.half_width > plan.precision:
        yield (
            f"The asked precision of {100 * plan.precision:.3g} % was not reached: after {len(processes)} processes "
            f"the interval is {100 * found.half_width:.2g} % to each side. Stop other work, "
            + ("allow more processes." if plan.reference else "or calibrate the reference kernel first (`calibrate`).")
        )
    for name, values in (
        ("network", [p.seconds for p in processes]),
        ("reference kernel", [p.reference for p in processes]),
    ):
        change = statistics.drift(values)
        if change is not None:
            yield f"The {name} drifted by {100 * change:+.2g} % from the first process to the last."
    disturbed = float(np.mean([p.disturbed for p in processes]))
    wall, counted = (float(np.median([getattr(p, name) for p in processes])) for name in ("wall", "seconds"))
    if disturbed > statistics.DISTURBED or wall > (1 + statistics.WAITED) * counted:
        yield (
            f"The machine was busy, or the network waited: in {100 * disturbed:.0f} % of the runs the system took the "
            f"core away; by the wall clock the median is {1e3 * wall:.3g} ms, {100 * (wall / counted - 1):+.0f} %."
        )
    yield from dict.fromkeys(p.note for p in processes if p.note)
    outliers = float(np.mean([p.outliers for p in processes]))
    if outliers > statistics.OUTLIERS:
        yield f"{100 * outliers:.0f} % of the runs took far longer than the median."
    unsettled = sum(not p.settled for p in processes)
    if unsettled:
        yield f"In {unsettled} of {len(processes)} processes the times had not settled after the warm-up."
    if plan.reference is not None and abs(observed / plan.reference - 1) > 0.1:
        yield (
            f"The reference kernel took {100 * (observed / plan.reference - 1):+.0f} % of the time that it was "
            "calibrated to: the correction is large."
        )


def calibrate(device: str | Device = "cpu", *, plan: Plan | None = None) -> Measurement:
    """Measure the reference kernel itself: its `seconds` are what `Plan(reference=...)` states later results for.

    With it, measurements of different days are stated for one speed of the machine.

    Raises:
        InvalidInputError, MissingExtraError, TrialError: as `measure`.
    """
    device = device_named(device)
    family = runtimes.support(device).reference
    plain = device.replace(runtime=family, dtype="float32", batch=1)
    return measure_all([runtimes.reference_graph()], plain, plan=plan)[0]
