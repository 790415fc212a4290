"""Figures of single cells: operations in layers from left to right, or on a grid of resolutions for a pyramid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from nasturtium.graph.captions import COLOURS, Sort
from nasturtium.graph.cells import Cell
from nasturtium.graph.layout import Layout, Spot, layered
from nasturtium.graph.levels import Record
from nasturtium.graph.parts import Part
from nasturtium.graph.svg import FAINT, INK, MUTED, arrow, curve, escaped, label, line, rect, text_width, tint

BOX, CIRCLE, SIZE = 28.0, 26.0, 12.0
"""Height of a box, diameter of a circle, size of the text, in pixels."""
LINE = "#8493a8"


@dataclass(slots=True)
class Drawing:
    """A part of the picture; its upper left corner is (0, 0)."""

    width: float
    height: float
    lines: list[str]
    sorts: set[Sort]
    """Sorts of operation that it shows, for the legend."""


def draw_cell(cell: Cell) -> Drawing:
    """The operations of a cell, in layers from left to right."""
    spots, drawn = _spots(cell)
    layout = layered(spots, last=[len(spots) - 1])
    lines = [path for n in range(len(drawn)) for path in _connections(layout, n, faint=_is_faint(drawn[n]))]
    sorts: set[Sort] = set()
    for spot, item in zip(layout.spots, drawn, strict=False):
        lines += _item(item, spot.x, spot.y, spot.width)
        if isinstance(item, Part):
            sorts.add(item.caption.sort)
    return Drawing(layout.width, layout.height, lines, sorts)


@dataclass(slots=True)
class _End:
    """An input or the output of a cell."""

    text: str
    note: str = ""


_Item = Part | _End


def _spots(cell: Cell) -> tuple[list[Spot], list[_Item]]:
    """Inputs, the parts that are shown, and the output, with their sizes and sources."""
    drawn: list[_Item] = [
        _End(name, cell.adapters[i][1] if i in cell.adapters else "") for i, name in enumerate(cell.inputs)
    ]
    place = {-1 - i: i for i in range(len(cell.inputs))}
    place.update({part: i for i, (part, _) in cell.adapters.items()})
    sources: list[list[int]] = [[] for _ in cell.inputs]
    for n, part in enumerate(cell.parts):
        if n not in cell.hidden:
            place[n] = len(drawn)
            drawn.append(part)
            sources.append(list(dict.fromkeys(place[s] for s in part.sources)))
    drawn.append(_End("output" if len(cell.outputs) == 1 else "outputs"))
    sources.append([place[n] for n in cell.outputs])
    spots = [Spot(*_size(item), own) for item, own in zip(drawn, sources, strict=True)]
    return spots, drawn


def _size(item: _Item) -> tuple[float, float]:
    if isinstance(item, _End):
        wide = max(text_width(item.text, 11), text_width(item.note, 9.5))
        return wide + 18, BOX + (8 if item.note else -4)
    if item.join in ("+", "×"):
        return CIRCLE, CIRCLE
    return text_width(shown(item), SIZE) + 18, BOX


def shown(part: Part) -> str:
    """The text on a part."""
    if part.join == "concat":
        return "concat"
    if part.join == "+":
        numbers = re.findall(r"\d+", part.path)
        return numbers[-1] if numbers else "+"
    return part.join or part.caption.text


def _is_faint(item: _Item) -> bool:
    return isinstance(item, Part) and item.caption.sort == "none"


def _item(item: _Item, x: float, y: float, width: float) -> list[str]:
    if isinstance(item, _End):
        return _end(item, x, y)
    return box(item, x, y, width)


def _end(end: _End, x: float, y: float) -> list[str]:
    width, height = _size(end)
    lines = [
        rect(x - width / 2, y - height / 2, width, height, f'fill="#f1f5f9" stroke="{FAINT}"', radius=height / 2.6)
    ]
    middle = 'text-anchor="middle"'
    if not end.note:
        return [*lines, label(x, y + 4, end.text, 11, MUTED, style=middle)]
    return [
        *lines,
        label(x, y - 2, end.text, 11, MUTED, style=middle),
        label(x, y + 11, end.note, 9.5, MUTED, style=middle),
    ]


def box(part: Part, x: float, y: float, width: float, *, text: str | None = None) -> list[str]:
    """A part at its place: a box for an operation, a circle for a sum."""
    text = shown(part) if text is None else text
    colour = COLOURS[part.caption.sort]
    middle = 'text-anchor="middle"'
    lines = [f"<g><title>{escaped(part.path)}</title>"]
    if part.join in ("+", "×"):
        sort: Sort = "gate" if part.join == "×" else "join"
        fill = COLOURS[sort]
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{CIRCLE / 2:g}" fill="{fill}"/>')
        lines.append(label(x, y + 4, text, 11.5, "#ffffff", style=f'{middle} font-weight="600"'))
    elif part.join == "concat":
        lines.append(rect(x - width / 2, y - BOX / 2, width, BOX, f'fill="{COLOURS["join"]}"', radius=BOX / 2))
        lines.append(label(x, y + 4, text, SIZE, "#ffffff", style=middle))
    else:
        dashed = ' stroke-dasharray="3 3"' if part.caption.sort == "none" else ""
        fill = "#ffffff" if part.caption.sort in ("none", "skip") else tint(colour, 0.22)
        lines.append(rect(x - width / 2, y - BOX / 2, width, BOX, f'fill="{fill}" stroke="{colour}"{dashed}'))
        ink = MUTED if part.caption.sort == "none" else INK
        lines.append(label(x, y + 4, text, SIZE, ink, style=middle))
    return [*lines, "</g>"]


def _connections(layout: Layout, number: int, *, faint: bool) -> list[str]:
    """The lines to a spot, each from its source or from the lane that comes there."""
    spots = layout.spots
    target = spots[number]
    lines = []
    stroke = FAINT if faint else LINE
    style = 'stroke-dasharray="3 3"' if faint else ""
    wide = [max(spots[n].width for n in column) for column in layout.columns]
    for source in target.sources:
        points = [(target.x - target.width / 2, target.y), (target.x - wide[target.layer] / 2 - 4, target.y)]
        at = source
        while spots[at].is_lane:
            lane = spots[at]
            points += [(lane.x + lane.width / 2, lane.y), (lane.x - lane.width / 2, lane.y)]
            at = lane.sources[0]
        first = spots[at]
        points += [(first.x + wide[first.layer] / 2 + 4, first.y), (first.x + first.width / 2, first.y)]
        points.reverse()
        lines.append(curve(points, stroke, style=style))
        lines.append(arrow(*points[-1], stroke))
    return lines


def draw_pyramid(cell: Cell, record: Record) -> Drawing:
    """The parts of a pyramid on a grid: each at its resolution, in its order."""
    shapes = record.shapes
    total = max((shapes[v][1] for v in record.inputs if len(shapes[v]) == 3), default=1)
    ends = [_End(name) for name in cell.inputs]
    values = [cell.level.inputs[i] for i in range(len(ends))]
    items: list[_Item] = [*ends, *cell.parts]
    sizes = [shapes[v][1] for v in values] + [shapes[p.outputs[-1]][1] for p in cell.parts]
    sources: list[list[int]] = [[] for _ in ends]
    sources += [[len(ends) + s if s >= 0 else -1 - s for s in p.sources] for p in cell.parts]
    outputs = [len(ends) + n if n >= 0 else -1 - n for n in cell.outputs]
    grid = Grid([_size(item)[0] for item in items], sizes, sources, gap=38)
    lines = grid.rows_lines(total)
    for n in range(len(items)):
        lines += grid.connections(n, LINE)
    for n in outputs:
        y, right = grid.y(n), grid.left + grid.width
        lines += grid.route(n, (right + 30, y), LINE)
        lines.append(arrow(right + 30, y, LINE))
    for n, item in enumerate(items):
        lines += _item(item, grid.x(n), grid.y(n), grid.widths[n])
    return Drawing(grid.left + grid.width + 34, grid.height, lines, {p.caption.sort for p in cell.parts})


class Grid:
    """Places on a grid: a column for the order, a row for the resolution, fine ones above.

    Args:
        widths: Of the boxes, in pixels.
        sizes: Height in pixels of the image that each makes: its row.
        sources: What each reads; those without sources share the first column.
        gap: Space between columns.
        row: Height of a row.
    """

    def __init__(
        self, widths: Sequence[float], sizes: Sequence[int], sources: Sequence[Sequence[int]], *, gap: float,
        row: float = 62.0,
    ) -> None:  # fmt: skip
        self.widths, self.sizes, self.sources = list(widths), list(sizes), [list(s) for s in sources]
        self.levels = sorted(set(sizes), reverse=True)
        self.gap, self.row, self.left = gap, row, 92.0
        self.columns = self._columns()
        count = 1 + max(self.columns)
        wide = [
            max((w for w, c in zip(self.widths, self.columns, strict=True) if c == k), default=20.0)
            for k in range(count)
        ]
        self.starts = [self.left + sum(wide[:k]) + gap * k for k in range(count)]
        self.wide = wide
        self.width = self.starts[-1] + wide[-1] - self.left
        self.height = row * len(self.levels)
        self.taken: dict[int, list[tuple[float, float, int]]] = {}

    def _columns(self) -> list[int]:
        columns: list[int] = []
        following = 0
        for own in self.sources:
            column = following if own else 0
            columns.append(column)
            following = max(following, column + 1)
        return columns

    def x(self, n: int) -> float:
        """Middle of a box."""
        return self.starts[self.columns[n]] + self.wide[self.columns[n]] / 2

    def y(self, n: int) -> float:
        """Middle of a box."""
        return self.row * (self.levels.index(self.sizes[n]) + 0.5)

    def rows_lines(self, total: int) -> list[str]:
        """A faint line for each resolution, with its stride and size."""
        lines = []
        for k, size in enumerate(self.levels):
            y = self.row * (k + 0.5)
            stride = _stride(total, size)
            path = f"M{self.left - 12:.1f} {y:.1f}H{self.left + self.width:.1f}"
            lines.append(line(path, "#eef2f7", width=10, style='stroke-linecap="round"'))
            lines.append(label(self.left - 24, y - 1, f"stride {stride}", 11.5, INK, style='text-anchor="end"'))
            lines.append(label(self.left - 24, y + 12, f"{size} px", 10, MUTED, style='text-anchor="end"'))
        return lines

    def connections(self, n: int, stroke: str, *, style: str = "") -> list[str]:
        """The lines to a box."""
        lines = []
        x, y = self.x(n) - self.widths[n] / 2, self.y(n)
        own = list(dict.fromkeys(self.sources[n]))
        for place, source in enumerate(own):
            spread = (place - (len(own) - 1) / 2) * 8
            lines += self.route(source, (x, y + spread), stroke, column=self.columns[n], style=style)
            lines.append(arrow(x, y + spread, stroke))
        return lines

    def route(
        self, source: int, end: tuple[float, float], stroke: str, *, column: int | None = None, style: str = ""
    ) -> list[str]:
        """A line from a box to a point: straight to the next column, else between the rows."""
        start = (self.x(source) + self.widths[source] / 2, self.y(source))
        first = self.columns[source]
        last = len(self.starts) if column is None else column
        between = [n for n in range(len(self.sizes)) if first < self.columns[n] < last]
        straight = abs(end[1] - start[1]) < 10 and not any(self.sizes[n] == self.sizes[source] for n in between)
        if last <= first + 1 or straight:
            return [curve([start, end], stroke, style=style)]
        down = end[1] > start[1] + 10
        low, high = (
            self.starts[first] + self.wide[first] + 4,
            (self.starts[last] if column is not None else end[0]) - self.gap * 0.8,
        )
        row = self.levels.index(self.sizes[source])
        gutter = self._lane(row + 1 if down else row, low, high)
        return [
            curve(
                [start, (low + self.gap * 0.7, gutter), (max(high, low + self.gap), gutter), end], stroke, style=style
            )
        ]

    def _lane(self, gutter: int, low: float, high: float) -> float:
        """A height in the gutter above a row that no other line has there."""
        taken = self.taken.setdefault(gutter, [])
        step = 0
        while any(s == step and low < b and a < high for a, b, s in taken):
            step += 1
        taken.append((low, high, step))
        away = (step + 1) // 2 * (1 if step % 2 else -1) * 5
        return self.row * gutter + away


def _stride(total: int, size: int) -> int:
    """Stride of a level: the power of two that leaves this size, rounded up; else the nearest integer."""
    ratio = max(1, round(total / size))
    power = 1 << max(0, round(log2(total / size)))
    return power if -(-total // power) == size else ratio
