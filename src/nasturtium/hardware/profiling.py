"""Profiling a space: every distinct kernel once, and some whole networks, into a file that can be gone on with."""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from nasturtium.errors import (
    InvalidInputError,
    MissingExtraError,
    NasturtiumError,
    SizeUnknownError,
    TraceError,
    TrialError,
)
from nasturtium.graph.graph import Graph
from nasturtium.graph.trace import Inputs, named_shapes, trace
from nasturtium.hardware.device import Device
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.open_kernels import KernelList, space_kernels
from nasturtium.hardware.profile_file import REFERENCE, VERSION, Line, Use, begin, table_of
from nasturtium.hardware.table import LatencyTable
from nasturtium.space import Architecture, Space


class HasSeconds(Protocol):
    """A measured latency; a `Measurement` is one."""

    @property
    def seconds(self) -> float:
        """Median of one inference."""
        ...


Measure = Callable[[Sequence[Graph], Device, float | None], Sequence[HasSeconds]]
"""Measures networks on a device, stated for a time of the reference kernel; `measure_kernels` does."""
Machine = Callable[[Device], Mapping[str, Any]]
"""Says of a device's machine `{"processor": name, "versions": {package: version}}`; `machine_of` does."""
BATCH = 12
"""Networks that share their processes; also what is lost when a profile is stopped."""
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "eager": ("torch",), "compiled": ("torch",), "litert": ("ai-edge-litert",),
}  # fmt: skip
"""What a runtime's times depend on; ONNX Runtime for the others."""


class Progress(NamedTuple):
    """How far a profile is."""

    done: int
    total: int
    what: str
    """What was measured last."""
    seconds: float
    """Its latency."""
    left: float
    """Seconds that the rest will take, if it goes on as in this run."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to measure."""

    use: Use
    key: str
    """Of the kernel; the canonical hash of a whole network's graph."""
    text: str
    graph: Graph
    kernel: Kernel | None = None


@dataclass(frozen=True, kw_only=True)
class ProfilePlan:
    """What a profile measures, in which order."""

    device: Device
    kernels: KernelList
    tasks: tuple[Task, ...]
    """Kernels and whole networks, shuffled, so that a slow hour falls on none of them alone."""
    header: Mapping[str, Any]
    """What the file's first line says: two profiles that differ in it are not mixed."""

    @property
    def text(self) -> str:
        """For people."""
        networks = len(self.tasks) - len(self.kernels.kernels)
        return f"{self.kernels.text}, and {networks} whole networks on {self.device.name}"


def plan_profile(
    space: Space,
    device: Device,
    inputs: Inputs,
    *,
    name: str = "space",
    context: Mapping[str, object] | None = None,
    fit: int = 32,
    held_out: int = 32,
    samples: int = 1000,
    seed: int = 0,
) -> ProfilePlan:
    """What to measure for the table of a space.

    Args:
        space: The space.
        device: Where.
        inputs: Shape of a network's input, as for `trace`.
        name: Of the space, for people.
        context: What the task tells the network, for example `{"classes": 10}`.
        fit: Whole networks on which the constant and the slopes are fitted; 0 takes the plain sum.
        held_out: Other whole networks, on which its error is measured. Of a small space half of what there is.
        samples: Architectures drawn for the list of kernels, where that cannot be exact.
        seed: Of all draws and of the order.

    Raises:
        InvalidInputError: a number is negative, or the device is a microcontroller.
        TraceError: the space's networks cannot be traced on these inputs.
    """
    for label, number in (("fit", fit), ("held_out", held_out)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InvalidInputError(f"`{label}` must be a number of networks of at least 0, got {number!r}.")
    if device.is_microcontroller:
        raise InvalidInputError(
            f"A profile takes a clock, and nothing is timed on {device.name!r}: its memory is known from the graph, "
            "its latency only on the board."
        )
    given = dict(context or {})
    listed = space_kernels(space, inputs, samples=samples, seed=seed, context=given)
    rng = Random(f"{seed} profile")  # a text: the same numbers in every process
    networks = _drawn(space, inputs, fit + held_out, rng, given)
    split = round(len(networks) * fit / max(1, fit + held_out))
    distinct = dict.fromkeys([*listed.kernels, *[k for _, graph in networks for k in kernels(graph)]])
    listed = replace(listed, kernels=tuple(distinct))  # where it is not exact, the networks may have others
    tasks = [Task(use="kernel", key=k.key, text=k.text, graph=k.graph(), kernel=k) for k in distinct]
    for number, (key, graph) in enumerate(networks):
        use: Use = "fit" if number < split else "held_out"
        tasks.append(Task(use=use, key=key, text=f"whole network {number + 1} of {len(networks)}", graph=graph))
    rng.shuffle(tasks)
    header = {
        "nasturtium_profile": VERSION, "device": device.to_dict(), "space": space.fingerprint, "name": name,
        "inputs": {k: list(v) for k, v in named_shapes(inputs).items()}, "context": given, "fit": fit,
        "held_out": held_out, "seed": seed, "samples": samples, "tasks": len(tasks), "coverage": listed.text,
    }  # fmt: skip
    return ProfilePlan(device=device, kernels=listed, tasks=tuple(tasks), header=header)


def _drawn(
    space: Space, inputs: Inputs, number: int, rng: Random, context: Mapping[str, object]
) -> list[tuple[str, Graph]]:
    """Canonical hashes and graphs of different networks, half of the draws uniform and half hierarchical.

    Fewer where there are no more. Architectures of equal graphs are one network: else one could be fitted on, and the
    other held out.
    """
    with contextlib.suppress(SizeUnknownError):
        number = min(number, space.size)
    found: dict[str, Graph] = {}
    seen: set[Architecture] = set()
    for turn in range(50 * number):
        if len(found) == number:
            break
        architecture = space.sample(rng, "uniform" if turn % 2 else "hierarchical")
        if architecture not in seen:
            seen.add(architecture)
            with contextlib.suppress(TraceError):
                graph = trace(architecture, inputs, **context)
                found.setdefault(graph.canonical_hash, graph)
    return list(found.items())


def profile(
    plan: ProfilePlan,
    path: str | Path,
    *,
    measure: Measure | None = None,
    calibrate: Callable[[Device], float] | None = None,
    machine: Machine | None = None,
    batch: int = BATCH,
    progress: Callable[[Progress], object] | None = None,
) -> LatencyTable:
    """Measure what the file does not hold yet, and make the table.

    Measurements are written as they come, so that a profile that was stopped goes on where it was: call again with
    the same plan and file. The reference kernel is measured first and kept in the file; all else, on whatever day, is
    stated for that speed of the machine. The processor and the runtime's versions are kept too: the file does not go on
    on another machine, or after an update. `read_table` reads the finished file without measuring.

    Args:
        plan: Of `plan_profile`.
        path: The file, JSON lines; made where it is not there.
        measure: Measures graphs on a device; None for `measure_kernels`.
        calibrate: Gives the seconds of the device's reference kernel; None for `nasturtium.hardware.calibrate`, or,
            where `measure` is given, for none.
        machine: Says which machine it is; None for `machine_of`, or, where `measure` is given, for none.
        batch: Networks that share their processes.
        progress: Called after each batch.

    Raises:
        IncompatibleError: the file is of another profile, machine or version; the message says what differs.
        InvalidInputError: the file cannot be read, `batch` is below 1, or a kernel cannot be measured on the device
            (the message names it; what else was in its batch is measured and written).
        MissingExtraError: the device's runtime is not installed.
        TrialError: the device's agent cannot be reached or refuses.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InvalidInputError(f"`batch` must be a number of networks of at least 1, got {batch!r}.")
    path = Path(path)
    if measure is None:
        if not plan.device.is_remote:
            from nasturtium.hardware import runtimes  # noqa: PLC0415  (it loads torch)

            runtimes.support(plan.device)  # refuses before a file is made
        measure, calibrate, machine = measure_kernels, calibrate or _reference, machine or machine_of
    header = {**plan.header, **({} if machine is None else {"machine": dict(machine(plan.device))})}
    known = begin(path, header)
    with path.open("a", encoding="utf-8") as file:

        def keep(line: Line) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()
            known[line["use"], line["key"]] = line

        if calibrate is not None and REFERENCE not in known:
            keep({"use": REFERENCE[0], "key": REFERENCE[1], "seconds": calibrate(plan.device)})
        reference = known[REFERENCE]["seconds"] if REFERENCE in known else None
        todo = [(number, task) for number, task in enumerate(plan.tasks) if (task.use, task.key) not in known]
        started = time.monotonic()
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            for line in _measured(part, plan.device, measure, reference):
                keep(line)
            if progress is not None:
                count = start + len(part)
                left = (time.monotonic() - started) / count * (len(todo) - count)
                done, last = len(plan.tasks) - len(todo) + count, part[-1][1]
                seconds = known[last.use, last.key]["seconds"]
                progress(Progress(done, len(plan.tasks), last.text, seconds, left))
    return table_of(header, known.values(), str(path))


def measure_kernels(graphs: Sequence[Graph], device: Device, reference: float | None) -> Sequence[HasSeconds]:
    """Measure for a table: six processes, a tenth of a second of each network in each."""
    from nasturtium.hardware.measuring import Plan, measure_all  # noqa: PLC0415  (it loads torch)

    thorough = Plan(precision=None, processes=(6, 6), seconds=0.1, reference=reference)
    return measure_all(graphs, device, plan=thorough)


def _reference(device: Device) -> float:
    from nasturtium.hardware.measuring import calibrate  # noqa: PLC0415

    return calibrate(device).seconds


def machine_of(device: Device) -> dict[str, Any]:
    """The processor of a device's machine and the versions that its times depend on; a remote one's agent is asked.

    Raises:
        InvalidInputError, TrialError: of a remote device, as `remote.Remote`.
        MissingExtraError: the runtime is not installed.
    """
    from nasturtium.hardware import agent  # noqa: PLC0415
    from nasturtium.hardware.remote import Remote  # noqa: PLC0415

    if device.is_remote:
        about = Remote(device).about()
        return {"processor": about["machine"], "versions": dict(about.get("versions", {}))}
    names = PACKAGES.get(device.runtime, ("onnxruntime",))
    try:
        versions = {name: version(name) for name in names}
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The runtime {device.runtime!r} needs {error.name!r}: install it.") from error
    return {"processor": agent.processor(), "versions": {"python": platform.python_version(), **versions}}


def _measured(
    tasks: Sequence[tuple[int, Task]], device: Device, measure: Measure, reference: float | None
) -> Iterator[Line]:
    """Lines of the file for tasks, with their numbers; where they fail together, one by one, to name those that do."""
    try:
        found = measure([task.graph for _, task in tasks], device, reference)
    except NasturtiumError as error:
        if isinstance(error, MissingExtraError) or (isinstance(error, TrialError) and error.kind == "worker"):
            raise  # no network's fault
        if len(tasks) == 1:
            name = tasks[0][1].text
            raise InvalidInputError(f"{name} cannot be measured on {device.name!r}: {error}") from error
    else:
        yield from [_line(*task, each) for task, each in zip(tasks, found, strict=True)]
        return
    failed = []
    for task in tasks:
        try:
            yield from _measured([task], device, measure, reference)
        except InvalidInputError as error:
            failed.append(error)
    if failed:
        more = f" So it is with {len(failed) - 1} more of {len(tasks)}." if len(failed) > 1 else ""
        raise InvalidInputError(f"{failed[0]}{more}") from failed[0]


def _line(number: int, task: Task, found: HasSeconds) -> Line:
    line: Line = {"use": task.use, "key": task.key, "number": number, "seconds": float(found.seconds)}
    if task.kernel is not None:
        line["kernel"] = task.kernel.to_dict()
    else:
        line["graph"] = task.key
        line["kernels"] = {kernel.key: times for kernel, times in Counter(kernels(task.graph)).items()}
    if hasattr(found, "to_dict"):
        line["measurement"] = found.to_dict()
    return line
