"""Which operations a runtime can compute: one table, read before a search, so that no search ends in what cannot run.

The verdicts come from trying: each operation was exported, quantised to int8 where the runtime is an int8 one, and run
by the real interpreter beside PyTorch; tests repeat that.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nasturtium.errors import IncompatibleError, InvalidInputError, TraceError, UnknownNameError
from nasturtium.graph.graph import Graph
from nasturtium.graph.operations import AdaptiveAvgPool, Operation, Shape
from nasturtium.graph.trace import Inputs, trace
from nasturtium.space import Architecture, Block, Space
from nasturtium.space.diagram import Diagram
from nasturtium.space.lowering import RefusedError, lower
from nasturtium.space.open_graph import Form, OpenGraph
from nasturtium.space.structure import Decision

Verdict = Literal["yes", "costly", "no"]
"""Runs; runs, but slower or in more memory than its size says; does not run."""

TARGETS = ("eager", "compiled", "onnx", "onnx_int8", "litert", "tflm")
"""Runtimes, by the names that devices use; "litert" and "tflm" are meant in int8."""


SAMPLES = 100
"""Architectures that stand for a space that cannot be lowered as a whole."""

SHOWN = 10
"""Problems in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What a runtime makes of an operation."""

    operation: str
    """A kind of operation, or a kind and what distinguishes it: "activation gelu"."""
    verdict: Verdict
    reason: str = ""
    remedy: str = ""
    """What to take instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An operation that a target does not support, at its place."""

    path: str
    """Where it stands in the network, or in the space."""
    support: Support
    decisions: tuple[str, ...] = ()
    """In a space, the decisions that it depends on; without any, every architecture has it."""

    @property
    def text(self) -> str:
        """For people."""
        where = f"`{self.path}`"
        if self.decisions:
            where += f" (depends on {', '.join(self.decisions)})"
        return f"{self.support.operation} at {where}: {self.support.reason} {self.support.remedy}".rstrip()


def operation_name(operation: Operation, *inputs: Shape) -> str:
    """Name of an operation in the table.

    Its kind, and the function of an activation or global pooling, the mode of a resampling, or what else decides
    whether a runtime has it.

    Args:
        operation: The operation.
        *inputs: Its input shapes; without them it is taken to fit.
    """
    if isinstance(operation, AdaptiveAvgPool) and inputs:
        uneven = inputs[0][1] % operation.size[0] or inputs[0][2] % operation.size[1]
        return f"{operation.kind} uneven" if uneven else operation.kind
    match operation.kind:
        case "activation":
            return f"activation {operation.function}"  # type: ignore[attr-defined]
        case "global_pool":
            return f"global_pool {operation.function}"  # type: ignore[attr-defined]
        case "resize":
            return f"resize {operation.mode}"  # type: ignore[attr-defined]
    return operation.kind


OPAQUE = Support(
    operation="opaque",
    verdict="costly",
    reason="what a user's own module computes is not known before it is exported.",
    remedy="Export one architecture with it before the search.",
)

_NO_KERNEL = "TensorFlow Lite Micro has no kernel for what it is exported as"
_SIMPLE = "Take relu, relu6 or hardswish."

_MAX = Support(
    operation="global_pool max",
    verdict="no",
    reason="litert-torch cannot export it (adaptive_max_pool2d).",
    remedy="Take the average, or a max pooling of the image's size.",
)

_LITERT = (
    _MAX,
    Support(
        operation="activation leaky_relu", verdict="costly", reason="it stays in float32, four times as large.",
        remedy=_SIMPLE,
    ),
    Support(
        operation="activation prelu", verdict="costly", reason="it becomes four operations (RELU, MUL, MUL, SUB).",
        remedy=_SIMPLE,
    ),
    Support(
        operation="group_norm", verdict="costly", reason="it becomes about eighteen operations.",
        remedy="Take batch norm, which is folded.",
    ),
    Support(
        operation="shuffle", verdict="costly", reason="it becomes three copies (RESHAPE, TRANSPOSE, RESHAPE)."
    ),
)  # fmt: skip

TABLE: dict[str, tuple[Support, ...]] = {
    "eager": (),
    "compiled": (),
    "onnx": (),
    "onnx_int8": (),
    "litert": _LITERT,
    "tflm": (
        *_LITERT,
        Support(
            operation="adaptive_avg_pool uneven",
            verdict="no",
            reason=f"{_NO_KERNEL} where the image's size is no multiple of the output's (SELECT).",
            remedy="Take a size that divides the image's, or global_pool.",
        ),
        Support(operation="activation gelu", verdict="no", reason=f"{_NO_KERNEL} (GELU).", remedy=_SIMPLE),
        Support(operation="activation elu", verdict="no", reason=f"{_NO_KERNEL} (SELECT).", remedy=_SIMPLE),
        Support(operation="activation mish", verdict="no", reason=f"{_NO_KERNEL} (SELECT).", remedy=_SIMPLE),
    ),
}
"""What is not simply supported, by target. Whatever is not listed runs."""


def support(operation: Operation, target: str, *inputs: Shape) -> Support:
    """What a target makes of an operation.

    Args:
        operation: The operation.
        target: One of `TARGETS`.
        *inputs: Its input shapes; without them it is taken to fit.

    Raises:
        UnknownNameError: an unknown target.
    """
    if target not in TABLE:
        raise UnknownNameError("target", target, TABLE)
    name = operation_name(operation, *inputs)
    for entry in TABLE[target]:
        if entry.operation == name:
            return entry
    if operation.kind == OPAQUE.operation:
        return OPAQUE
    return Support(operation=name, verdict="yes")


def problems(
    network: Graph | Architecture | Block | Space, target: str, inputs: Inputs | None = None, **context: object
) -> tuple[Problem, ...]:
    """The operations of a network, or of any network of a space, that a target does not support.

    A space is lowered once to the graph of all its architectures, so that none is missed. Where it is too wide for
    that, `SAMPLES` of its architectures stand for it, and a warning says so: what they do not hold is not found. Those
    of them that cannot be traced are left out, and counted in the warning.

    Args:
        network: A graph, an architecture, a block (closed or open) or a space.
        target: One of `TARGETS`.
        inputs: Shape of the input without the batch; not needed for a graph.
        **context: As for `trace`, for example `classes=10`.

    Returns:
        One for each operation and place, in order; empty where everything runs.

    Raises:
        UnknownNameError: an unknown target.
        InvalidInputError: no input shape for what is not a graph.
        TraceError: the architecture, or each of the architectures that stand for a space, cannot be traced.
    """
    found, drawn = _problems(network, target, inputs, context)
    if drawn is not None:
        warnings.warn(f"{drawn} For {target!r}, an operation that none of them has is not found.", stacklevel=2)
    return found


def _problems(
    network: Graph | Architecture | Block | Space, target: str, inputs: Inputs | None, context: dict[str, object]
) -> tuple[tuple[Problem, ...], str | None]:
    """See `problems`; beside them what stood for the space, None where all of it was judged."""
    if target not in TABLE:
        raise UnknownNameError("target", target, TABLE)
    if isinstance(network, Graph):
        return tuple(_unique(_in_graph(network, target))), None
    if inputs is None:
        raise InvalidInputError(f"`inputs`, the shape of an image without the batch, is needed for {network!r}.")
    if isinstance(network, Architecture):
        return tuple(_unique(_in_graph(trace(network, inputs, **context), target))), None
    try:
        opened = lower(network, inputs, **context)  # type: ignore[arg-type]  # `context` holds no `limit`
    except RefusedError:
        space = network if isinstance(network, Space) else Space(network)
        return _in_sample(space, target, inputs, context)
    return tuple(_unique(_in_space(opened, target))), None


def _in_sample(
    space: Space, target: str, inputs: Inputs, context: dict[str, object]
) -> tuple[tuple[Problem, ...], str]:
    graphs, last = [], None
    for seed in range(SAMPLES):
        try:
            graphs.append(trace(space.sample(random.Random(seed)), inputs, **context))
        except TraceError as error:
            last = error
    if last is not None and not graphs:
        raise TraceError(f"None of {SAMPLES} architectures of this space can be traced; the last one: {last}") from last
    untraced = f" ({SAMPLES - len(graphs)} more cannot be traced)" if last is not None else ""
    said = f"The space is too wide to be judged as a whole: {len(graphs)} random architectures stand for it{untraced}."
    return tuple(_unique(p for graph in graphs for p in _in_graph(graph, target))), said


def check(
    network: Graph | Architecture | Block | Space, target: str, inputs: Inputs | None = None, **context: object
) -> bool:
    """Refuse what a target cannot run, before any search or training.

    Args:
        network: As for `problems`.
        target: One of `TARGETS`.
        inputs: As for `problems`.
        **context: As for `problems`.

    Returns:
        Whether that is known of every architecture; False, with a warning, where `SAMPLES` of them stood for the space.

    Raises:
        IncompatibleError: an operation does not run there; the message names each with its place, the decisions that
            it depends on, why, and what to take instead.
        UnknownNameError: an unknown target.
        InvalidInputError: no input shape for what is not a graph.
    """
    found, drawn = _problems(network, target, inputs, context)
    if not found:
        if drawn is not None:
            warnings.warn(f"{drawn} For {target!r}, an operation that none of them has is not found.", stacklevel=2)
        return drawn is None
    lines = "\n".join(f"  {problem.text}" for problem in found[:SHOWN])
    more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    what = "a network of this space" if isinstance(network, Space) else "this network"
    raise IncompatibleError(f"The runtime {target!r} cannot run {what}:\n{lines}{more}")


def _in_graph(graph: Graph, target: str) -> Iterator[Problem]:
    for i in graph.costed:
        node = graph.nodes[i]
        entry = support(node.operation, target, *graph.input_shapes(node))
        if entry.verdict == "no":
            yield Problem(path=node.path, support=entry)


def _in_space(graph: OpenGraph, target: str) -> Iterator[Problem]:
    try:
        stated: list[tuple[Form, Diagram | None]] = [(s.form, s.times) for s in graph.statements]
    except TraceError:  # some architectures cannot be traced: then of each operation all that it may be
        stated = [(form, None) for node in graph.nodes for form in node.variants]
    found: dict[tuple[str, Support], list[Diagram | None]] = {}
    for form, times in stated:
        entry = support(form.operation, target, *form.inputs)
        if entry.verdict == "no":
            found.setdefault((form.path, entry), []).append(times)
    for (path, entry), cases in found.items():
        whole = [times for times in cases if times is not None]
        either = graph.record.diagrams.combine(_sum, *whole) if whole else None
        decisions = [] if either is None else _deciding(either, graph.decisions)
        yield Problem(path=path, support=entry, decisions=tuple(decisions))


def _sum(*times: int) -> int:
    return sum(times)


def _deciding(times: Diagram, decisions: Sequence[Decision]) -> list[str]:
    """The decisions that alone can keep an operation out, with the options that do not."""
    found = []
    for position in sorted(times.support):
        decision = decisions[position]
        with_it = [k for k in range(decision.count) if _possible(times, position, k)]
        if len(with_it) < decision.count:
            found.append(f"{decision.name} = {' or '.join(decision.label(k) for k in with_it)}")
    return found


def _possible(times: Diagram, position: int, index: int) -> bool:
    """Whether a number of times may be above 0 with one decision fixed."""
    if times.is_leaf:
        return bool(times.value)
    if times.variable == position:
        return _possible(times.children[index], position, index)
    return any(_possible(child, position, index) for child in times.children)


def _unique(found: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(found))
