"""A network as a person would draw it: one box a block, from the input down, as self-contained SVG.

Operations are gathered into boxes by their path: a numbered part ("layers.2.blocks.0") or a named one ("stem") is one
box. Boxes stand in layers by their longest path from the input; long connections run beside the boxes between.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from nasturtium.graph import operations as ops
from nasturtium.graph.layers import kind_of
from nasturtium.graph.memory import is_depthwise
from nasturtium.graph.svg import FONT, escaped, title_line

if TYPE_CHECKING:
    from nasturtium.graph.graph import Graph

COLOURS = {
    "input": "#475569",
    "convolution": "#2f6fde",
    "pointwise": "#7aa7f0",
    "depthwise": "#0f9d8a",
    "pooling": "#d98a1f",
    "linear": "#8a5cd6",
    "gate": "#d6578f",
    "join": "#4d7c3a",
    "other": "#94a3b8",
}
"""Fill of each sort of operation, in the order of the legend."""

HEIGHT, GAP, SIDE = 46, 22, 26
"""Height of a box, space below it, and space between boxes of one layer, in pixels."""


@dataclass(slots=True)
class _Box:
    """One part of the drawing; a box without a path is a bend of a long connection."""

    path: str
    nodes: list[int] = field(default_factory=list)
    layer: int = 0
    x: float = 0.0
    width: float = 14.0
    sources: list[int] = field(default_factory=list)

    @property
    def y(self) -> float:
        return self.layer * (HEIGHT + GAP)


def draw(graph: Graph, *, title: str | None = None) -> str:
    """The network as SVG text, without scripts or outside references.

    Args:
        graph: The network; what serves training-only outputs alone is left out.
        title: First line; None leaves it out.

    Raises:
        InvalidInputError: the title is not a text.
    """
    name = title_line(title)
    boxes = _boxes(graph)
    real = len(boxes)
    _set_layers(boxes)
    rows = _rows(boxes)
    branched = max((sum(1 for b in row if b < real) for row in rows), default=1) > 1
    widths = [_box_width(graph, box, branched=branched) for box in boxes[:real]]
    for box, own in zip(boxes, widths, strict=False):
        box.width = own if branched else max(widths)
    _place(boxes, rows)
    half = max(box.width / 2 + abs(box.x) for box in boxes) + 24
    top = 78 if title else 54
    height = top + len(rows) * (HEIGHT + GAP) + 8
    legend = sum(_legend_width(sort) for sort in _legend(graph))
    width = max(2 * half, 48 + 6.6 * len(_totals(graph)), 48 + 9.0 * len(title or ""), 34 + legend, 400)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" {FONT}>',
        name,
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#ffffff"/>',
        *_header(graph, title),
        f'<g transform="translate({width / 2:.0f} {top})">',
        *[path for number in range(real) for path in _connections(boxes, number)],
    ]
    most = max((_macs(graph, box) for box in boxes[:real]), default=0) or 1
    for box in boxes[:real]:
        parts.extend(_residual(graph, box))
    for box in boxes[:real]:
        parts.extend(_drawn(graph, box, _macs(graph, box) / most))
    return "\n".join([*parts, "</g>", "</svg>"])


def group_of(path: str) -> str:
    """The part of a network that an operation's path belongs to: numbered parts as deep as they nest, or a name."""
    names = path.split(".")
    depth = 0
    while len(names) > depth + 2 and names[depth + 1].isdigit():
        depth += 2
    return ".".join(names[:depth]) or names[0]


def _boxes(graph: Graph) -> list[_Box]:
    """Boxes in order of execution, with the boxes that they read."""
    nodes = graph.nodes
    groups = {i: group_of(nodes[i].path) for i in graph.costed}
    inner = {group for i, group in groups.items() if not isinstance(nodes[i].operation, ops.Input)}
    if len(inner) < 3:
        groups = {i: nodes[i].path for i in graph.costed}
    boxes: list[_Box] = []
    number: dict[str, int] = {}
    reach: list[set[int]] = []
    for i in graph.costed:
        sources = {number[groups[j]] for j in nodes[i].inputs}
        own = number.get(groups[i])
        if own is not None and any(own in reach[s] for s in sources - {own}):
            own = None  # the part is left and entered again: what comes after stands in a box of its own
        if own is None:
            own = number[groups[i]] = len(boxes)
            boxes.append(_Box(groups[i]))
            reach.append(set())
        boxes[own].nodes.append(i)
        for s in sorted(sources - {own}):
            if s not in boxes[own].sources:
                boxes[own].sources.append(s)
            reach[own] |= reach[s] | {s}
    return boxes


def _set_layers(boxes: list[_Box]) -> None:
    """Layers by longest path; long connections get a bend in every layer that they cross."""
    pending = set(range(len(boxes)))
    while pending:
        for number in sorted(pending):
            if not any(s in pending for s in boxes[number].sources):
                boxes[number].layer = 1 + max((boxes[s].layer for s in boxes[number].sources), default=-1)
                pending.discard(number)
    for number in range(len(boxes)):
        for place, source in enumerate(boxes[number].sources):
            before = source
            for layer in range(boxes[source].layer + 1, boxes[number].layer):
                boxes.append(_Box("", layer=layer, sources=[before]))
                before = len(boxes) - 1
            boxes[number].sources[place] = before


def _rows(boxes: list[_Box]) -> list[list[int]]:
    """Boxes of each layer from left to right; a few sweeps bring connected ones near each other."""
    rows: list[list[int]] = [[] for _ in range(1 + max(box.layer for box in boxes))]
    for number, box in enumerate(boxes):
        rows[box.layer].append(number)
    readers: dict[int, list[int]] = {number: [] for number in range(len(boxes))}
    for number, box in enumerate(boxes):
        for source in box.sources:
            readers[source].append(number)
    spot = {number: place - len(row) / 2 for row in rows for place, number in enumerate(row)}
    for sweep in range(8):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            near = {n: boxes[n].sources if sweep % 2 == 0 else readers[n] for n in row}
            mean = {n: sum(spot[s] for s in near[n]) / len(near[n]) if near[n] else spot[n] for n in row}
            row.sort(key=lambda n: (mean[n], bool(not boxes[n].path), n))
            spot.update({n: place - len(row) / 2 for place, n in enumerate(row)})
    return rows


def _place(boxes: list[_Box], rows: list[list[int]]) -> None:
    """Horizontal places. Boxes are centred in their layer; a single box stays in the middle, bends beside it."""
    for row in rows:
        real = [n for n in row if boxes[n].path]
        if len(real) <= 1:
            middle = row.index(real[0]) if real else 0
            edge = boxes[real[0]].width / 2 + SIDE if real else 0.0
            for place, number in enumerate(row):
                away = abs(place - middle)
                boxes[number].x = (
                    0.0 if number in real else (1 if place >= middle else -1) * (edge + 18 * max(away - 1, 0))
                )
            continue
        total = sum(boxes[n].width for n in row) + SIDE * (len(row) - 1)
        left = -total / 2
        for number in row:
            boxes[number].x = left + boxes[number].width / 2
            left += boxes[number].width + SIDE


def _connections(boxes: list[_Box], number: int) -> list[str]:
    """Curves from a box's sources, through their bends, to the box."""
    target = boxes[number]
    count = len(target.sources)
    parts = []
    for place, source in enumerate(target.sources):
        spread = (place - (count - 1) / 2) * min(18.0, 0.5 * target.width / count)
        points = [(target.x + spread, target.y)]
        at = source
        while not boxes[at].path:
            points += [(boxes[at].x, boxes[at].y + HEIGHT), (boxes[at].x, boxes[at].y)]
            at = boxes[at].sources[0]
        points.append((boxes[at].x, boxes[at].y + _drawn_height(boxes[at])))
        points.reverse()
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for (x0, y0), (x1, y1) in pairwise(points):
            bend = (y1 - y0) / 2
            straight = abs(x0 - x1) < 0.5
            path += (
                f"L{x1:.1f} {y1:.1f}"
                if straight
                else f"C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"
            )
        parts.append(f'<path d="{path}" fill="none" stroke="#94a3b8" stroke-width="1.6"/>')
        x, y = points[-1]
        parts.append(f'<path d="M{x - 4:.1f} {y - 6:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 6:.1f}z" fill="#94a3b8"/>')
    return parts


def _drawn_height(box: _Box) -> float:
    return HEIGHT if box.path else 0.0


def _residual(graph: Graph, box: _Box) -> list[str]:
    """An arc beside a box whose block adds its input to its output."""
    own = set(box.nodes)
    adds = [i for i in box.nodes if isinstance(graph.nodes[i].operation, ops.Add)]
    around = any({j in own for j in graph.nodes[i].inputs} == {True, False} for i in adds)
    if len(box.sources) != 1 or not around:
        return []
    x, top, bottom = box.x + box.width / 2, box.y - 8, box.y + HEIGHT + 8
    return [
        f'<path d="M{box.x:.1f} {top:.1f}H{x + 4:.1f}Q{x + 16:.1f} {top:.1f} {x + 16:.1f} {top + 12:.1f}'
        f'V{bottom - 12:.1f}Q{x + 16:.1f} {bottom:.1f} {x + 4:.1f} {bottom:.1f}H{box.x:.1f}" fill="none" '
        f'stroke="{COLOURS["join"]}" stroke-width="1.6" stroke-dasharray="4 3"/>'
    ]


def _sort(graph: Graph, i: int) -> str:
    """Which colour an operation has."""
    node = graph.nodes[i]
    match node.operation:
        case ops.Input():
            return "input"
        case ops.Conv(kernel=kernel):
            if is_depthwise(node.operation, graph.input_shapes(node)):
                return "depthwise"
            return "pointwise" if kernel == (1, 1) else "convolution"
        case ops.MaxPool() | ops.AvgPool() | ops.GlobalPool() | ops.AdaptiveAvgPool():
            return "pooling"
        case ops.Linear():
            return "linear"
        case ops.Multiply():
            return "gate"
        case ops.Add() | ops.Concat():
            return "join"
        case _:
            return "other"


def _chips(graph: Graph, box: _Box) -> list[tuple[str, str]]:
    """Text and colour of each step that a reader wants to see in a box."""
    chips: list[tuple[str, str]] = []
    for i in box.nodes:
        node = graph.nodes[i]
        gated = node.shape[1:] == (1, 1) and any(isinstance(graph.nodes[j].operation, ops.Multiply) for j in box.nodes)
        sort = _sort(graph, i)
        if gated or (sort == "other" and len(box.nodes) > 1) or sort == "input":
            continue
        text = {"gate": "gate", "linear": "linear", "join": "+"}.get(sort) or kind_of(
            node.operation, graph.input_shapes(node)
        )
        if isinstance(node.operation, ops.Concat):
            text = "concat"
        short = text.replace("depthwise", "dw").replace("conv ", "").replace(" pool", "")
        chips.append((_times(short), COLOURS[sort]))
    return chips if len(chips) <= 7 else [*chips[:6], (f"+{len(chips) - 6}", COLOURS["other"])]


def _caption(graph: Graph, box: _Box) -> str:
    """What a box is, in a few words."""
    first = graph.nodes[box.nodes[0]]
    if isinstance(first.operation, ops.Input):
        return "Input" if len(graph.inputs) == 1 else box.path
    sorts = Counter(_sort(graph, i) for i in box.nodes)
    convs = [graph.nodes[i] for i in box.nodes if isinstance(graph.nodes[i].operation, ops.Conv)]
    wide = [n for n in convs if n.shape[1:] != (1, 1)] or convs
    if len(box.nodes) == 1:
        return _times(kind_of(first.operation, graph.input_shapes(first)).capitalize())
    if sorts["linear"]:
        return "Classifier"
    if sorts["depthwise"] == 1 and len(wide) in (2, 3):
        depthwise = next(n for n in wide if is_depthwise(n.operation, graph.input_shapes(n)))
        given = graph.input_shapes(wide[0])[0][0]
        ratio = depthwise.shape[0] / given
        name = "MBConv" if len(wide) == 3 else "Separable"
        return f"{name} {_square(depthwise.operation)}" + (f", expand {ratio:.3g}" if ratio != 1 else "")
    if len(wide) == 1:
        return f"{'Depthwise' if sorts['depthwise'] else 'Conv'} {_square(wide[0].operation)}"
    if wide and sorts["join"]:
        kernels = [_square(n.operation) for n in wide]
        return f"{'Residual' if len(kernels) < 5 else 'Cell'}, {len(kernels)} convolutions"
    if wide:
        return f"{len(wide)} convolutions"
    name = box.path.rpartition(".")[2]
    return (name if not name.isdigit() else box.path).replace("_", " ").capitalize()


def _times(text: str) -> str:
    return re.sub(r"(?<=\d)x(?=\d)", "×", text)


def _square(operation: ops.Operation) -> str:
    assert isinstance(operation, ops.Conv)
    return f"{operation.kernel[0]}×{operation.kernel[1]}"


def _box_width(graph: Graph, box: _Box, *, branched: bool) -> float:
    chips = sum(7.0 * len(text) + 18 for text, _ in _chips(graph, box))
    shape = 7.4 * len(_shape(graph, box)) + 16
    need = 26 + max(8.4 * len(_caption(graph, box)) + shape, chips)
    return max(need, 120.0 if branched else 300.0)


def _shape(graph: Graph, box: _Box) -> str:
    return "×".join(map(str, graph.nodes[box.nodes[-1]].shape))


def _macs(graph: Graph, box: _Box) -> int:
    return sum(_macs_of(graph, i) for i in box.nodes)


def _macs_of(graph: Graph, i: int) -> int:
    node = graph.nodes[i]
    return node.operation.macs(node.shape, *graph.input_shapes(node))


def _drawn(graph: Graph, box: _Box, share: float) -> list[str]:
    """A box with its caption, output shape, steps, and a bar for its share of the multiply-accumulates."""
    left, right = box.x - box.width / 2, box.x + box.width / 2
    costly = [i for i in box.nodes if graph.nodes[i].operation.is_convolution]
    main = max(costly, key=lambda i: _macs_of(graph, i), default=box.nodes[-1])
    colour = COLOURS["linear" if any(_sort(graph, i) == "linear" for i in box.nodes) else _sort(graph, main)]
    parts = [
        f"<g><title>{escaped(box.path)}</title>",
        f'<rect x="{left:.1f}" y="{box.y}" width="{box.width:.1f}" height="{HEIGHT}" rx="7" fill="#f8fafc" '
        f'stroke="#cbd5e1"/>',
        f'<rect x="{left:.1f}" y="{box.y}" width="6" height="{HEIGHT}" rx="3" fill="{colour}"/>',
    ]
    chips = _chips(graph, box)
    line = box.y + (19 if chips else 27)
    parts.append(_text(left + 15, line, _caption(graph, box), 'font-size="13" font-weight="600" fill="#0f172a"'))
    parts.append(_text(right - 10, line, _shape(graph, box), 'font-size="12" fill="#475569" text-anchor="end"'))
    x = left + 14
    for text, fill in chips:
        wide = 7.0 * len(text) + 11
        parts.append(f'<rect x="{x:.1f}" y="{box.y + 25}" width="{wide:.1f}" height="15" rx="4" fill="{fill}"/>')
        parts.append(_text(x + wide / 2, box.y + 36, text, 'font-size="10.5" fill="#ffffff" text-anchor="middle"'))
        x += wide + 5
    if share > 0.004:
        wide = (box.width - 12) * share
        parts.append(
            f'<rect x="{left + 6:.1f}" y="{box.y + HEIGHT - 3}" width="{wide:.1f}" height="3" rx="1.5" '
            f'fill="{colour}" opacity="0.35"/>'
        )
    return [*parts, "</g>"]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escaped(text)}</text>'


def _header(graph: Graph, title: str | None) -> list[str]:
    """Title, totals, and a legend of the sorts that occur."""
    lines = []
    if title:
        lines.append(_text(24, 28, title, 'font-size="16" font-weight="700" fill="#0f172a"'))
    y = 48 if title else 26
    lines.append(_text(24, y, _totals(graph), 'font-size="12" fill="#475569"'))
    x = 24.0
    for sort in _legend(graph):
        lines.append(f'<rect x="{x:.1f}" y="{y + 9}" width="9" height="9" rx="2" fill="{COLOURS[sort]}"/>')
        lines.append(_text(x + 13, y + 17, sort, 'font-size="10.5" fill="#64748b"'))
        x += _legend_width(sort)
    return lines


def _legend(graph: Graph) -> list[str]:
    """Sorts of operation that occur, in the order of their colours."""
    present = {_sort(graph, i) for i in graph.costed}
    return [sort for sort in COLOURS if sort in present and sort not in ("input", "other")]


def _legend_width(sort: str) -> float:
    return 27 + 6.2 * len(sort)


def _totals(graph: Graph) -> str:
    return (
        f"{_short(graph.params)} parameters · {_short(graph.macs)} MACs · "
        f"{graph.peak_memory() / 1024:,.4g} KiB peak (int8, liveness)"
    )


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return str(number)
