"""Profiling a space: every distinct kernel once, and some whole networks, into a file that can be gone on with."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, Protocol, TextIO

from nasturtium.errors import IncompatibleError, InvalidInputError, NasturtiumError, SizeUnknownError, TraceError
from nasturtium.graph.graph import Graph
from nasturtium.graph.trace import Inputs, named_shapes, trace
from nasturtium.hardware.device import Device
from nasturtium.hardware.kernels import Kernel, kernels
from nasturtium.hardware.open_kernels import KernelList, space_kernels
from nasturtium.hardware.table import LatencyTable, Row
from nasturtium.space import Architecture, Space

VERSION = 1
REFERENCE = ("reference", "")
"""Where a file keeps the seconds of the reference kernel."""
Use = Literal["kernel", "fit", "held_out"]


class HasSeconds(Protocol):
    """A measured latency; a `Measurement` is one."""

    @property
    def seconds(self) -> float:
        """Median of one inference."""
        ...


Measure = Callable[[Sequence[Graph], Device, float | None], Sequence[HasSeconds]]
"""Measures networks on a device, stated for a time of the reference kernel; `measure_kernels` does."""
BATCH = 12
"""Networks that share their processes; also what is lost when a profile is stopped."""


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
    """Of the kernel, or of the architecture."""
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
        InvalidInputError: a number is negative.
        TraceError: the space's networks cannot be traced on these inputs.
    """
    for label, number in (("fit", fit), ("held_out", held_out)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InvalidInputError(f"`{label}` must be a number of networks of at least 0, got {number!r}.")
    given = dict(context or {})
    listed = space_kernels(space, inputs, samples=samples, seed=seed, context=given)
    rng = Random(f"{seed} profile")  # a text: the same numbers in every process
    networks = _drawn(space, inputs, fit + held_out, rng, given)
    split = round(len(networks) * fit / max(1, fit + held_out))
    distinct = dict.fromkeys([*listed.kernels, *[k for _, graph in networks for k in kernels(graph)]])
    listed = replace(listed, kernels=tuple(distinct))  # where it is not exact, the networks may have others
    tasks = [Task(use="kernel", key=k.key, text=k.text, graph=k.graph(), kernel=k) for k in distinct]
    for number, (architecture, graph) in enumerate(networks):
        use: Use = "fit" if number < split else "held_out"
        key = json.dumps(dict(architecture.decisions), sort_keys=True)
        tasks.append(Task(use=use, key=key, text=f"whole network {number + 1} of {len(networks)}", graph=graph))
    rng.shuffle(tasks)
    header = {
        "nasturtium_profile": VERSION, "device": device.to_dict(), "space": space.fingerprint, "name": name,
        "inputs": {k: list(v) for k, v in named_shapes(inputs).items()}, "context": given, "fit": fit,
        "held_out": held_out, "seed": seed, "samples": samples,
    }  # fmt: skip
    return ProfilePlan(device=device, kernels=listed, tasks=tuple(tasks), header=header)


def _drawn(
    space: Space, inputs: Inputs, number: int, rng: Random, context: Mapping[str, object]
) -> list[tuple[Architecture, Graph]]:
    """Distinct architectures, half of them uniform and half hierarchical; fewer where there are no more."""
    with contextlib.suppress(SizeUnknownError):
        number = min(number, space.size)
    found: dict[Architecture, Graph] = {}
    for turn in range(50 * number):
        if len(found) == number:
            break
        architecture = space.sample(rng, "uniform" if turn % 2 else "hierarchical")
        if architecture not in found:
            try:
                found[architecture] = trace(architecture, inputs, **context)
            except TraceError:
                continue
    return list(found.items())


def profile(
    plan: ProfilePlan,
    path: str | Path,
    *,
    measure: Measure | None = None,
    calibrate: Callable[[Device], float] | None = None,
    batch: int = BATCH,
    progress: Callable[[Progress], object] | None = None,
) -> LatencyTable:
    """Measure what the file does not hold yet, and make the table.

    Measurements are written batch by batch, so that a profile that was stopped goes on where it was: call again with
    the same plan and file. The reference kernel is measured first and kept in the file; all else, on whatever day, is
    stated for that speed of the machine.

    Args:
        plan: Of `plan_profile`.
        path: The file, JSON lines; made where it is not there.
        measure: Measures graphs on a device; None for `measure_kernels`.
        calibrate: Gives the seconds of the device's reference kernel; None for `nasturtium.hardware.calibrate`, or,
            where `measure` is given, for none.
        batch: Networks that share their processes.
        progress: Called after each batch.

    Raises:
        IncompatibleError: the file is of another profile; the message says what differs.
        InvalidInputError: the file cannot be read, `batch` is below 1, or a kernel cannot be measured on the device
            (the message names it).
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InvalidInputError(f"`batch` must be a number of networks of at least 1, got {batch!r}.")
    path = Path(path)
    known = _begin(path, plan.header)
    if measure is None:
        measure, calibrate = measure_kernels, calibrate or _reference
    with path.open("a", encoding="utf-8") as file:
        if calibrate is not None and REFERENCE not in known:
            known[REFERENCE] = calibrate(plan.device)
            _write(file, [{"use": REFERENCE[0], "key": REFERENCE[1], "seconds": known[REFERENCE]}])
        reference = known.get(REFERENCE)
        todo = [task for task in plan.tasks if (task.use, task.key) not in known]
        started = time.monotonic()
        for start in range(0, len(todo), batch):
            part = todo[start : start + batch]
            lines = _measured(part, plan.device, measure, reference)
            _write(file, lines)
            known.update({(line["use"], line["key"]): line["seconds"] for line in lines})
            if progress is not None:
                number = start + len(part)
                left = (time.monotonic() - started) / number * (len(todo) - number)
                done = len(plan.tasks) - len(todo) + number
                progress(Progress(done, len(plan.tasks), part[-1].text, lines[-1]["seconds"], left))
    return _table(plan, known)


def measure_kernels(graphs: Sequence[Graph], device: Device, reference: float | None) -> Sequence[HasSeconds]:
    """Measure for a table: six processes, a tenth of a second of each network in each."""
    from nasturtium.hardware.measuring import Plan, measure_all  # noqa: PLC0415  (it loads torch)

    thorough = Plan(precision=None, processes=(6, 6), seconds=0.1, reference=reference)
    return measure_all(graphs, device, plan=thorough)


def _reference(device: Device) -> float:
    from nasturtium.hardware.measuring import calibrate  # noqa: PLC0415

    return calibrate(device).seconds


def _write(file: TextIO, lines: Sequence[Mapping[str, Any]]) -> None:
    file.write("".join([json.dumps(line) + "\n" for line in lines]))
    file.flush()


def _measured(tasks: Sequence[Task], device: Device, measure: Measure, reference: float | None) -> list[dict[str, Any]]:
    """Lines of the file for some tasks; where they fail together, one by one, to name the one that fails."""
    try:
        found = measure([task.graph for task in tasks], device, reference)
    except NasturtiumError as error:
        if len(tasks) == 1:
            raise InvalidInputError(f"{tasks[0].text} cannot be measured on {device.name!r}: {error}") from error
        return [line for task in tasks for line in _measured([task], device, measure, reference)]
    return [_line(task, each) for task, each in zip(tasks, found, strict=True)]


def _line(task: Task, found: HasSeconds) -> dict[str, Any]:
    line: dict[str, Any] = {"use": task.use, "key": task.key, "seconds": float(found.seconds)}
    if task.kernel is not None:
        line["kernel"] = task.kernel.to_dict()
    if hasattr(found, "to_dict"):
        line["measurement"] = found.to_dict()
    return line


def _begin(path: Path, header: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """What a file holds; its first line is written where it is new."""
    lines = list(_lines(path)) if path.exists() else []
    if not lines:
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    first = lines[0]
    same = json.loads(json.dumps(header))
    if first != same:
        keys = [key for key in {**first, **same} if first.get(key) != same.get(key)]
        said = "; ".join([f"{key}: {first.get(key)!r} there, {same.get(key)!r} now" for key in keys])
        raise IncompatibleError(f"{str(path)!r} holds another profile ({said}). Take another file.")
    return {(line["use"], line["key"]): float(line["seconds"]) for line in lines[1:]}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a profile; a last one that was cut off is removed from the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The profile {str(path)!r} cannot be read: {error}.") from error
    whole, _, cut = text.rpartition("\n")
    if cut:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            data = json.loads(line)
        except ValueError as error:
            raise InvalidInputError(f"Line {number} of {str(path)!r} is no JSON: {error}.") from error
        if not isinstance(data, dict) or (number > 1 and not {"use", "key", "seconds"} <= set(data)):
            raise InvalidInputError(f"Line {number} of {str(path)!r} is no measurement of a profile: {line[:80]!r}.")
        if number == 1 and data.get("nasturtium_profile") != VERSION:
            raise InvalidInputError(f"{str(path)!r} is no profile of version {VERSION}: it begins with {line[:80]!r}.")
        yield data


def _table(plan: ProfilePlan, known: Mapping[tuple[str, str], float]) -> LatencyTable:
    seconds = {t.kernel: known[t.use, t.key] for t in plan.tasks if t.kernel is not None}
    bare = LatencyTable(device=plan.device, seconds=seconds)

    def rows(use: Use) -> tuple[Row, ...]:
        return tuple([Row(bare.sums(t.graph), known[t.use, t.key]) for t in plan.tasks if t.use == use])

    shapes: Sequence[str] = ["x".join(map(str, shape)) for shape in plan.header["inputs"].values()]
    return LatencyTable(
        device=plan.device,
        seconds=seconds,
        fitted=rows("fit"),
        held_out=rows("held_out"),
        source=f"the kernels of {plan.header['name']} on {' and '.join(shapes)}, each measured once",
        coverage=plan.kernels.text,
    )
