"""What a group of operations is called in a drawing, and which colour it has.

A reader knows "sep conv 3×3" and "MBConv 5×5, expand 6" at a glance, and not the six operations that they are made of.
The caption follows from the operations; a block may say better by an attribute `label`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from math import prod
from typing import Literal, NamedTuple

from nasturtium.graph import operations as ops
from nasturtium.graph.layers import kind_of
from nasturtium.graph.levels import Level, Step
from nasturtium.graph.memory import is_depthwise
from nasturtium.graph.operations import Shape

Sort = Literal[
    "convolution", "pointwise", "separable", "dilated", "depthwise", "inverted residual", "max pool", "avg pool",
    "skip", "none", "resize", "gate", "classifier", "join", "other",
]  # fmt: skip
"""What sort of operation a box is: tells its colour."""

COLOURS: dict[Sort, str] = {
    "convolution": "#2f6fde",
    "pointwise": "#7aa7f0",
    "separable": "#0f9d8a",
    "dilated": "#0b7285",
    "depthwise": "#45b8a8",
    "inverted residual": "#1c7ed6",
    "max pool": "#e8590c",
    "avg pool": "#d9a01f",
    "skip": "#94a3b8",
    "none": "#cbd5e1",
    "resize": "#a45bb0",
    "gate": "#d6578f",
    "classifier": "#8a5cd6",
    "join": "#4d7c3a",
    "other": "#64748b",
}
"""Colour of each sort of operation, in the order of the legend."""

CELL_COLOURS = ("#5f3dc4", "#c2255c", "#087f5b", "#d9480f", "#1864ab", "#846358", "#862e9c", "#5c940d")
"""Colours that tie the cells in an outline to their figures."""

QUIET = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.Dropout, ops.DropPath, ops.Flatten, ops.Pad, ops.Slice,
         ops.TrainingOnly)  # fmt: skip
"""Operations that a drawing tells only where nothing else stands."""

LONGEST = 16
"""Operations in the longest pattern that has a name."""

JOINS = (ops.Add, ops.Concat, ops.Multiply)


class Caption(NamedTuple):
    """What a box says."""

    text: str
    sort: Sort
    known: bool = True
    """Whether the text says all; otherwise the single steps are worth a line of their own."""


def caption(steps: Sequence[Step], shapes: Sequence[Shape], level: Level | None = None, name: str = "") -> Caption:
    """Caption of a group of operations.

    Args:
        steps: The operations in order.
        shapes: Shapes of all values.
        level: The called block that they are, if they are one.
        name: What to fall back on where they are not a known pattern.
    """
    found = _known([s for s in steps if not isinstance(s.operation, QUIET)], steps, shapes)
    sort = found.sort if found else main_sort(steps, shapes)
    given = label_of(level)
    if given:
        return Caption(given, sort)
    if found:
        return found
    title = words(name or (type(level.block).__name__ if level else ""))
    if level is not None and len(level.inputs) > 1 and not name:
        joined = _merged(steps)
        if joined:
            return joined
    kernels = dict.fromkeys(
        window(s) for s in steps if isinstance(s.operation, ops.Conv) and s.operation.kernel != (1, 1)
    )
    if len(kernels) == 1 and level is not None and not name:
        title = f"{title} {next(iter(kernels))}"
    title = title or ", ".join(dict.fromkeys(text for text, _ in chips(steps, shapes))) or "part"
    return Caption(title + halving(steps, shapes), sort, known=False)


def label_of(level: Level | None) -> str:
    """The label that a block gives itself, or nothing."""
    own = getattr(level.block, "label", None) if level else None
    return own if isinstance(own, str) else ""


def plain(text: str) -> str:
    """A caption without its stride."""
    return re.sub(r" /\d+$", "", text)


def words(name: str) -> str:
    """A name of a class or a part as words: "FusedMBConv" to "Fused MBConv", "squeeze_excite" to "Squeeze excite"."""
    parts = re.findall(r"[A-Z]+[a-z]?[A-Z][a-z]+|[A-Z]{2,}\d*(?![a-z])|[A-Z]?[a-z]+\d*|[A-Z]\d*|\d+", name)
    text = " ".join(p if sum(map(str.isupper, p)) > 1 else p.lower() for p in parts)
    return text[:1].upper() + text[1:]


def halving(steps: Sequence[Step], shapes: Sequence[Shape]) -> str:
    """A stride, as in "/2", where the steps make the image smaller by windows with a stride."""
    total: dict[int, float] = {}
    for step in steps:
        own = getattr(step.operation, "stride", 1)
        stride: float = max(own) if isinstance(own, tuple) else own
        if isinstance(step.operation, ops.Resize):
            stride = shapes[step.inputs[0]][1] / shapes[step.outputs[0]][1]
        total[step.outputs[0]] = stride * max((total.get(v, 1) for v in step.inputs), default=1)
    stride = round(total[steps[-1].outputs[0]]) if steps else 1
    return f" /{stride}" if stride > 1 else ""


def sort_of(step: Step, shapes: Sequence[Shape]) -> Sort:
    """Sort of a single operation."""
    match step.operation:
        case ops.Conv(kernel=kernel, dilation=dilation):
            if max(dilation) > 1:
                return "dilated"
            if is_depthwise(step.operation, [shapes[v] for v in step.inputs]):
                return "depthwise"
            return "pointwise" if kernel == (1, 1) else "convolution"
        case ops.MaxPool() | ops.GlobalPool(function="max"):
            return "max pool"
        case ops.AvgPool() | ops.GlobalPool() | ops.AdaptiveAvgPool():
            return "avg pool"
        case ops.Linear():
            return "classifier"
        case ops.Multiply():
            return "gate"
        case ops.Add() | ops.Concat():
            return "join"
        case ops.Resize():
            return "resize"
        case ops.Zero():
            return "none"
        case _:
            return "other"


def main_sort(steps: Sequence[Step], shapes: Sequence[Shape]) -> Sort:
    """Sort of a group without a name of its own: of its convolution that costs most, first those with a window."""
    if any(isinstance(s.operation, ops.Linear) for s in steps):
        return "classifier"
    convs = [s for s in steps if isinstance(s.operation, ops.Conv)]
    telling = [s for s in steps if not isinstance(s.operation, QUIET)] or list(steps)
    if not convs:
        return sort_of(telling[0], shapes) if telling else "skip"
    return sort_of(max(convs, key=lambda s: (_operation(s).kernel != (1, 1), macs(s, shapes))), shapes)  # type: ignore[attr-defined]


def macs(step: Step, shapes: Sequence[Shape]) -> int:
    """Multiply-accumulates of one operation."""
    assert step.operation is not None
    return step.operation.macs(shapes[step.outputs[0]], *[shapes[v] for v in step.inputs])


def chips(steps: Sequence[Step], shapes: Sequence[Shape], most: int = 7) -> list[tuple[str, Sort]]:
    """Text and sort of each step that a reader wants to see, for a line of chips."""
    found: list[tuple[str, Sort]] = []
    gated = any(isinstance(s.operation, ops.Multiply) for s in steps)
    for step in steps:
        inner = gated and shapes[step.outputs[0]][1:] == (1, 1)
        if isinstance(step.operation, (*QUIET, ops.Shuffle)) or inner:
            continue
        sort = sort_of(step, shapes)
        text = {"gate": "gate", "classifier": "linear"}.get(sort) or short(step, shapes)
        found.append((text, sort))
    return found if len(found) <= most else [*found[: most - 1], (f"+{len(found) - most + 1}", "other")]


def short(step: Step, shapes: Sequence[Shape]) -> str:
    """One operation in a word or two."""
    match step.operation:
        case ops.Add():
            return "+"
        case ops.Resize():
            return "resize" + _factor(step, shapes)
        case ops.MaxPool() | ops.AvgPool() if step.operation.kernel == (1, 1):
            return f"subsample{_stride(step)}"
        case ops.MaxPool():
            return f"max {window(step)}{_stride(step)}"
        case ops.AvgPool():
            return f"avg {window(step)}{_stride(step)}"
        case ops.GlobalPool(function=function):
            return f"global {function}"
        case _:
            assert step.operation is not None
            text = kind_of(step.operation, tuple(shapes[v] for v in step.inputs))
            return times(text.replace("depthwise", "dw").replace("conv ", ""))


def times(text: str) -> str:
    """A proper sign between the numbers of a window."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", text)


def window(step: Step) -> str:
    """Kernel of a convolution or pooling."""
    kernel = getattr(step.operation, "kernel", (1, 1))
    return f"{kernel[0]}×{kernel[1]}"


def _stride(step: Step) -> str:
    stride = getattr(step.operation, "stride", (1, 1))
    return f" /{max(stride)}" if max(stride) > 1 else ""


def _factor(step: Step, shapes: Sequence[Shape]) -> str:
    before, after = shapes[step.inputs[0]][1], shapes[step.outputs[0]][1]
    if after % before == 0:
        return f" ×{after // before}"
    return f" /{before // after}" if before % after == 0 else ""


def _known(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """Caption of a pattern that readers know by name, or None."""
    if not steps:
        return Caption("skip", "skip")
    if not telling:
        first = steps[0]
        assert first.operation is not None
        activations = [s.operation.function for s in steps if isinstance(s.operation, ops.Activation)]
        text = activations[-1] if activations else kind_of(first.operation, ()) if first.inputs else "input"
        return Caption({"relu": "ReLU", "batch norm": "norm", "slice": "split"}.get(text, text), "other")
    if all(isinstance(s.operation, ops.Zero) for s in telling):
        return Caption("none", "none")
    if any(isinstance(s.operation, ops.Linear) for s in telling):
        return _classifier(telling)
    if len(telling) == 1:
        return _single(telling[0], shapes)
    if len(telling) > LONGEST:
        return None
    if not any(isinstance(s.operation, (*JOINS, ops.Slice)) for s in steps) and not _is_chain(steps):
        return None
    return (
        _parallel(telling, steps, shapes)
        or _separable(telling, steps, shapes)
        or _pooled(telling, shapes)
        or _bottleneck(telling, steps, shapes)
        or _inverted(telling, steps, shapes)
        or _split(telling, steps, shapes)
    )


def _merged(steps: Sequence[Step]) -> Caption | None:
    """A join of several values and at most one convolution with a window after it: what a merging cell does."""
    kinds = {type(s.operation) for s in steps}
    windows = [s for s in steps if isinstance(s.operation, ops.Conv) and s.operation.kernel != (1, 1)]
    if len(windows) > 1 or not kinds & set(JOINS):
        return None
    sort: Sort = "gate" if ops.Multiply in kinds else "join"
    text = "gate" if ops.Multiply in kinds else "sum" if ops.Add in kinds else "concat"
    return Caption(" → ".join([text, *map(window, windows)]), sort, known=False)


def _classifier(telling: Sequence[Step]) -> Caption | None:
    kinds = (ops.Linear, ops.GlobalPool, ops.AdaptiveAvgPool, ops.AvgPool, ops.MaxPool)
    if not all(isinstance(s.operation, kinds) for s in telling):
        return None
    linear = sum(isinstance(s.operation, ops.Linear) for s in telling)
    if len(telling) == linear:
        return Caption("Linear" if linear == 1 else f"Linear ×{linear}", "classifier")
    return Caption("Classifier", "classifier", known=False)


def _single(step: Step, shapes: Sequence[Shape]) -> Caption | None:
    operation = step.operation
    sort = sort_of(step, shapes)
    match operation:
        case ops.Conv(groups=groups):
            name = {"depthwise": "dw conv", "dilated": "dil conv"}.get(sort, "group conv" if groups > 1 else "conv")
            rate = f" d{max(operation.dilation)}" if max(operation.dilation) > 2 else ""
            return Caption(f"{name} {window(step)}{rate}{_stride(step)}", sort)
        case ops.MaxPool() | ops.AvgPool() if operation.kernel != (1, 1):
            name = "max pool" if sort == "max pool" else "avg pool"
            return Caption(f"{name} {window(step)}{_stride(step)}", sort)
        case ops.GlobalPool() | ops.AdaptiveAvgPool():
            return Caption("global max pool" if sort == "max pool" else "global avg pool", sort)
        case _:
            return Caption(short(step, shapes), sort)


def _separable(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """Depthwise and 1x1 convolutions in turn."""
    if len(telling) % 2:
        return None
    pairs = list(zip(telling[::2], telling[1::2], strict=True))
    for filtered, mixed in pairs:
        if not is_depthwise(_operation(filtered), [shapes[v] for v in filtered.inputs]) or not _is_pointwise(mixed):
            return None
    texts = dict.fromkeys(f"{window(a)}" for a, _ in pairs)
    dilation = max(max(getattr(a.operation, "dilation", (1, 1))) for a, _ in pairs)
    name = "dil conv" if dilation > 1 else "sep conv"
    turns = f"{len(pairs)}× " if len(pairs) > 1 and len(texts) == 1 else ""
    sort: Sort = "dilated" if dilation > 1 else "separable"
    return Caption(f"{turns}{name} {', '.join(texts)}{halving(steps, shapes)}", sort)


def _pooled(telling: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """A pooling and the 1x1 convolution that fits its channels, before or after it."""
    pools = [s for s in telling if isinstance(s.operation, (ops.MaxPool, ops.AvgPool, ops.GlobalPool))]
    if len(pools) != 1 or len(telling) != 2 or not any(map(_is_pointwise, telling)):
        return None
    pool = _single(pools[0], shapes)
    if pool is None or (window(pools[0]) == "1×1" and not isinstance(pools[0].operation, ops.GlobalPool)):
        return None
    text = f"{pool.text}, 1×1" if telling[0] is pools[0] else f"1×1, {pool.text}"
    return Caption(text, pool.sort)


def _inverted(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """Expansion, depthwise convolution, projection, with or without a gate and a sum."""
    wide = [s for s in telling if isinstance(s.operation, ops.Conv) and not _is_gate_part(s, telling, shapes)]
    others = [s for s in telling if s not in wide and not _is_gate_part(s, telling, shapes)]
    if any(not isinstance(s.operation, (ops.Add, ops.Multiply)) for s in others) or len(wide) not in (2, 3):
        return None
    middle = wide[-2]
    if not is_depthwise(_operation(middle), [shapes[v] for v in middle.inputs]) or not _is_pointwise(wide[-1]):
        return None
    if len(wide) == 3 and not _is_pointwise(wide[0]):
        return None
    ratio = shapes[middle.outputs[0]][0] / shapes[wide[0].inputs[0]][0]
    gate = ", SE" if any(isinstance(s.operation, ops.Multiply) for s in others) else ""
    expand = f", expand {ratio:.3g}" if len(wide) == 3 else ""
    name = "MBConv" if len(wide) == 3 else "Separable"
    sort: Sort = "inverted residual" if len(wide) == 3 else "separable"
    return Caption(f"{name} {window(middle)}{expand}{gate}{halving(steps, shapes)}", sort)


def _bottleneck(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """1x1, a window, 1x1, with or without groups and a gate, and the sum with the input or a 1x1 of that."""
    maker = {s.outputs[0]: s for s in steps}

    def before(value: int) -> Step | int:
        """What made a value, norms, activations and gates aside; or where none of the steps did, the value."""
        while value in maker:
            step = maker[value]
            gate = isinstance(step.operation, ops.Multiply)
            if not gate and not isinstance(step.operation, QUIET):
                return step
            value = max(step.inputs, key=lambda v: prod(shapes[v]))
        return value

    wide = [s for s in telling if isinstance(s.operation, ops.Conv) and not _is_gate_part(s, telling, shapes)]
    sums = [s for s in telling if isinstance(s.operation, ops.Add)]
    others = [s for s in telling if s not in wide and s not in sums and not _is_gate_part(s, telling, shapes)]
    windows = [s for s in wide if not _is_pointwise(s)]
    if len(sums) != 1 or len(sums[0].inputs) != 2 or len(windows) != 1 or len(wide) not in (3, 4):
        return None
    (middle,) = windows
    reduced, sides = before(middle.inputs[0]), [before(v) for v in sums[0].inputs]
    last = next((s for s in sides if isinstance(s, Step) and before(s.inputs[0]) is middle), None)
    if not isinstance(reduced, Step) or reduced not in wide or last not in wide or reduced is last:
        return None
    shortcut = sides[sides[0] is last]
    source = before(shortcut.inputs[0]) if isinstance(shortcut, Step) and shortcut in wide else shortcut
    fits = source == before(reduced.inputs[0]) and len(wide) == (4 if shortcut in wide else 3)
    if not fits or any(not isinstance(s.operation, ops.Multiply) for s in others):
        return None
    count = getattr(middle.operation, "groups", 1)
    groups = f", {count} groups" if count > 1 else ""
    if is_depthwise(_operation(middle), [shapes[v] for v in middle.inputs]):
        if len(wide) == 3 and shapes[middle.outputs[0]][0] >= shapes[reduced.inputs[0]][0]:
            return None  # it is not narrower in the middle: an inverted residual
        groups = ", depthwise"
    gate = ", SE" if others else ""
    return Caption(f"Bottleneck {window(middle)}{groups}{gate}{halving(steps, shapes)}", "convolution")


def _is_gate_part(step: Step, telling: Sequence[Step], shapes: Sequence[Shape]) -> bool:
    gated = any(isinstance(s.operation, ops.Multiply) for s in telling)
    return gated and shapes[step.outputs[0]][1:] == (1, 1)


def _split(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """Convolutions along one axis each, or plain ones after each other."""
    convs = [s.operation for s in telling if isinstance(s.operation, ops.Conv)]
    if len(convs) != len(telling) or any(c.groups > 1 for c in convs):
        return None
    stride = halving(steps, shapes)
    if len({max(c.kernel) for c in convs}) == 1 and all(min(c.kernel) == 1 < max(c.kernel) for c in convs):
        return Caption("conv " + ", ".join(map(window, telling)) + stride, "convolution")
    if len(telling) > 3:
        telling = [s for s in telling if not _is_pointwise(s)] or telling
    runs = [(text, len(list(group))) for text, group in groupby(map(window, telling))]
    text = ", ".join(text if count == 1 else f"{text} ×{count}" for text, count in runs)
    sort: Sort = "pointwise" if all(_is_pointwise(s) for s in telling) else "convolution"
    return Caption(f"conv {text}{stride}", sort)


def _parallel(telling: Sequence[Step], steps: Sequence[Step], shapes: Sequence[Shape]) -> Caption | None:
    """1x1 convolutions side by side, as a factorised reduction has them."""
    *convs, last = telling
    if not isinstance(last.operation, ops.Concat) or not all(_is_pointwise(s) for s in convs):
        return None
    return Caption(f"conv 1×1 ‖ 1×1{halving(steps, shapes)}", "pointwise")


def _is_chain(steps: Sequence[Step]) -> bool:
    """Whether each step reads the one before it alone."""
    return all(set(b.inputs) == set(a.outputs) for a, b in pairwise(steps))


def _is_pointwise(step: Step) -> bool:
    operation = step.operation
    return (
        isinstance(operation, ops.Conv) and operation.kernel == (1, 1) and operation.groups < max(operation.channels, 2)
    )


def _operation(step: Step) -> ops.Operation:
    assert step.operation is not None
    return step.operation
