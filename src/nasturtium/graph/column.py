"""The outline of a network: a column of boxes, or a path through a grid of resolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from nasturtium.graph.captions import COLOURS, Sort, chips, macs
from nasturtium.graph.cells import Cell
from nasturtium.graph.figures import LINE, Drawing, Grid
from nasturtium.graph.levels import Record
from nasturtium.graph.outline import Outline, Unit
from nasturtium.graph.svg import FAINT, INK, MUTED, arrow, curve, escaped, label, line, rect, text_width, tint

ROW, CHIPS, GAP = 34.0, 18.0, 16.0
"""Height of a box, more of it for a line of chips, and space below it, in pixels."""
TALL = 16
"""Boxes of a column; a longer one goes on in the next."""


def is_path(units: Sequence[Unit]) -> bool:
    """Whether the network moves between three resolutions or more, and goes back to finer ones too."""
    heights = [u.shape[1] for u in units if len(u.shape) == 3 and u.shape[1] > 1 and not u.is_side]
    if any(u.levels > 2 for u in units):
        return False
    rises = any(b > a for a, b in pairwise(heights))
    return rises and len(set(heights)) >= 3


def draw_column(outline: Outline, run: Record, colours: dict[Cell, str]) -> Drawing:
    """The units from the input down."""
    units = [u for u in outline.units if not u.is_side]
    number = {id(u): n for n, u in enumerate(units)}
    index = {n: number[id(u)] for n, u in enumerate(outline.units) if id(u) in number}
    sources = [[index[s] if s >= 0 else -1 for s in u.sources if s < 0 or s in index] for u in units]
    far = [
        (s, n) for n, own in enumerate(sources) for s in own if s not in (n - 1, n) and s >= -1 and (n, s) != (0, -1)
    ]
    width = max(_width(u, run) for u in units)
    lines: list[str] = []
    most = max(sum(macs(s, run.shapes) for p in u.members for s in p.steps) for u in units) or 1
    ends = _ends(run)
    heights = [24.0] + [ROW + (CHIPS if _chips(u, run) else 0) for u in units]
    folds = 1 if far else -(-len(units) // TALL)
    each = -(-(len(units) + 1) // folds)
    places: list[tuple[float, float]] = []
    x = y = 0.0
    for n, height in enumerate(heights):
        if n and n % each == 0:
            x, y = x + width + 46, 0.0
        places.append((x, y))
        y += height + GAP
    lines += _spine(places, heights, width)
    reach, arcs = _arcs(far, places, heights, width)
    lines.append(rect(width / 2 - ends[1] / 2, 0, ends[1], 24, f'fill="#f1f5f9" stroke="{FAINT}"', radius=11))
    lines.append(label(width / 2, 16, ends[0], 11.5, MUTED, style='text-anchor="middle"'))
    sorts: set[Sort] = set()
    for n, unit in enumerate(units):
        left, top = places[n + 1]
        share = sum(macs(s, run.shapes) for p in unit.members for s in p.steps) / most
        lines += _unit(unit, run, (left, top, width, heights[n + 1]), colours, share)
        sorts |= {sort for _, sort in _chips(unit, run)} or ({unit.sort} if unit.cell is None else set())
    lines += arcs
    wide = max(x for x, _ in places) + width + reach + 4
    for side in _sides(outline):
        source = index.get(side.sources[0], -1) if side.sources else -1
        left, top = places[source + 1]
        text = f"{side.title} (training only)"
        own = text_width(text, 12) + 20
        at, middle = left + width + reach + 26, top + heights[source + 1] / 2
        lines.append(curve([(left + width, middle), (at, middle)], FAINT, style='stroke-dasharray="4 3"'))
        lines.append(rect(at, middle - 14, own, 28, f'fill="#ffffff" stroke="{FAINT}" stroke-dasharray="4 3"'))
        lines.append(label(at + 10, middle + 4, text, 12, MUTED))
        wide = max(wide, at + own)
    tall = max(y + h for (_, y), h in zip(places, heights, strict=True))
    return Drawing(wide, tall, lines, sorts)


def _ends(run: Record) -> tuple[str, float]:
    """The text of the input and its width."""
    shapes = ["×".join(map(str, run.shapes[v])) for v in run.inputs]
    text = f"input {', '.join(shapes)}"
    return text, text_width(text, 11.5) + 24


def _chips(unit: Unit, run: Record) -> list[tuple[str, Sort]]:
    if unit.known or unit.cell is not None:
        return []
    return chips(unit.part.steps, run.shapes)


def _count(unit: Unit) -> str:
    return f"×{unit.count}" if unit.count > 1 else ""


def _shape(unit: Unit) -> str:
    return "×".join(map(str, unit.shape))


def _width(unit: Unit, run: Record) -> float:
    row = 18 + text_width(unit.title, 13, bold=True) + 22 + text_width(_shape(unit), 11.5) + 14
    row += text_width(_count(unit), 12, bold=True) + 20 if unit.count > 1 else 0
    steps = 26 + sum(text_width(text, 10.5) + 17 for text, _ in _chips(unit, run))
    return max(row, steps, 250.0)


def _colour(unit: Unit, colours: dict[Cell, str]) -> str:
    return COLOURS[unit.sort] if unit.cell is None else colours[unit.cell]


def _unit(
    unit: Unit, run: Record, place: tuple[float, float, float, float], colours: dict[Cell, str], share: float
) -> list[str]:
    """A box with its caption, how often it stands, the shape that it makes, its steps, and its share of the MACs."""
    left, top, width, height = place
    colour = _colour(unit, colours)
    fill = tint(colour, 0.14) if unit.cell is not None else "#f8fafc"
    lines = [f"<g><title>{escaped(unit.part.path)}</title>"]
    if unit.count > 1:
        lines.append(rect(left + 4, top + 4, width, height, f'fill="#ffffff" stroke="{FAINT}"'))
    lines.append(rect(left, top, width, height, f'fill="{fill}" stroke="{tint(colour, 0.5)}"'))
    lines.append(rect(left, top, 6, height, f'fill="{colour}"', radius=3))
    right = left + width - 12
    if unit.count > 1:
        wide = text_width(_count(unit), 12, bold=True) + 12
        lines.append(rect(right - wide, top + 8, wide, 19, f'fill="{colour}"', radius=9))
        style = 'text-anchor="middle" font-weight="700"'
        lines.append(label(right - wide / 2, top + 22, _count(unit), 12, "#ffffff", style=style))
        right -= wide + 8
    lines.append(label(left + 16, top + 22, unit.title, 13, INK, style='font-weight="600"'))
    lines.append(label(right, top + 22, _shape(unit), 11.5, MUTED, style='text-anchor="end"'))
    x = left + 16
    for text, sort in _chips(unit, run):
        wide = text_width(text, 10.5) + 11
        lines.append(rect(x, top + 30, wide, 16, f'fill="{tint(COLOURS[sort], 0.9)}"', radius=4))
        lines.append(label(x + wide / 2, top + 42, text, 10.5, "#ffffff", style='text-anchor="middle"'))
        x += wide + 6
    if unit.is_residual:
        lines += _shortcut(left, top, height)
    if share > 0.004:
        bar = f'fill="{colour}" opacity="0.35"'
        lines.append(rect(left + 7, top + height - 3, (width - 14) * share, 3, bar, radius=1.5))
    return [*lines, "</g>"]


def _shortcut(left: float, top: float, height: float) -> list[str]:
    """An arc beside a box that adds its input to its output."""
    out, high, low = left - 13, top + 5, top + height - 5
    path = f"M{left:.1f} {high:.1f}C{out:.1f} {high:.1f} {out:.1f} {low:.1f} {left - 1:.1f} {low:.1f}"
    return [line(path, COLOURS["join"])]


def _spine(places: list[tuple[float, float]], heights: list[float], width: float) -> list[str]:
    """Arrows from each box to the next; to the next column where the column ends."""
    lines = []
    for n in range(1, len(places)):
        (x0, y0), (x1, y1) = places[n - 1], places[n]
        bottom = y0 + heights[n - 1]
        if x0 == x1:
            middle = x0 + width / 2
            lines.append(line(f"M{middle:.1f} {bottom:.1f}V{y1:.1f}", LINE))
            lines.append(arrow(middle, y1, LINE, down=True))
        else:
            side, middle = x0 + width + 23, x1 + width / 2
            path = f"M{x0 + width / 2:.1f} {bottom:.1f}v8H{side:.1f}V{y1 - 14:.1f}H{middle:.1f}V{y1:.1f}"
            lines.append(line(path, LINE, style='stroke-linejoin="round"'))
            lines.append(arrow(middle, y1, LINE, down=True))
    return lines


def _arcs(
    far: list[tuple[int, int]], places: list[tuple[float, float]], heights: list[float], width: float
) -> tuple[float, list[str]]:
    """Connections past boxes, to the right of the column, on lanes that do not overlap; and how far they reach."""
    lines, taken = [], list[tuple[float, float, int]]()
    reach = 0.0
    for source, target in sorted(far, key=lambda pair: (pair[1] - pair[0], pair)):
        top = places[source + 1][1] + heights[source + 1] / 2 + 5
        bottom = places[target + 1][1] + heights[target + 1] / 2 - 5
        lane = 0
        while any(lane == k and top < b and a < bottom for a, b, k in taken):
            lane += 1
        taken.append((top, bottom, lane))
        edge = places[target + 1][0] + width + 4
        out = edge + 16 + 9 * lane
        reach = max(reach, out - edge + 4)
        corner = f"Q{out:.1f} {top:.1f} {out:.1f} {top + 10:.1f}V{bottom - 10:.1f}"
        end = f"Q{out:.1f} {bottom:.1f} {edge + 5:.1f} {bottom:.1f}"
        lines.append(line(f"M{edge - 4:.1f} {top:.1f}H{edge:.1f}{corner}{end}", LINE, width=1.3))
        lines.append(
            f'<path d="M{edge + 7:.1f} {bottom - 4:.1f}L{edge + 1:.1f} {bottom:.1f}L{edge + 7:.1f} {bottom + 4:.1f}z" '
            f'fill="{LINE}"/>'
        )
    return reach, lines


def _sides(outline: Outline) -> list[Unit]:
    """What serves training only; one box for parts that follow each other."""
    sides: list[Unit] = []
    inside: set[int] = set()
    for n, unit in enumerate(outline.units):
        if not unit.is_side:
            continue
        if not inside & set(unit.sources):
            sides.append(unit)
        inside.add(n)
    return sides


def draw_path(outline: Outline, run: Record, colours: dict[Cell, str]) -> Drawing:
    """The units on a grid of resolutions; where the cells could stand too is faint."""
    units = [u for u in outline.single if not u.is_side]
    number = {id(u): n for n, u in enumerate(units)}
    index = {n: number[id(u)] for n, u in enumerate(outline.single) if id(u) in number}
    total = max((run.shapes[v][1] for v in run.inputs if len(run.shapes[v]) == 3), default=1)
    sizes = [total]
    for unit in units:
        image = len(unit.shape) == 3 and unit.shape[1] > 1
        sizes.append(unit.shape[1] if image else sizes[-1])
    sources = [[], *[[index[s] + 1 if s >= 0 else 0 for s in u.sources if s < 0 or s in index] for u in units]]
    texts = ["input"]
    stops = _stops(units)
    for n, own in enumerate(units):
        name = own.title[:1].lower() + own.title[1:].split(" /")[0]
        texts.append(f"{name} {stops.index(n) + 1}" if n in stops else own.title)
    widths = [text_width(text, 11.5, bold=True) + 16 for text in texts]
    grid = Grid(widths, sizes, sources, gap=26)
    lines = grid.rows_lines(total) + _trellis(grid, [n + 1 for n in stops])
    for n, read in enumerate(sources):
        for s in read:
            if s != n - 1 and not (s == n - 2 and n - 1 in stops):
                lines += grid.route(s, (grid.x(n) - widths[n] / 2, grid.y(n) + 6), FAINT, column=grid.columns[n])
    for n in range(1, len(widths)):
        start = (grid.x(n - 1) + widths[n - 1] / 2, grid.y(n - 1))
        end = (grid.x(n) - widths[n] / 2, grid.y(n))
        lines += [curve([start, end], INK, width=2.2), arrow(*end, INK)]
    colours_of = [MUTED, *[_colour(u, colours) for u in units]]
    paths = ["input", *[u.part.path for u in units]]
    for n, text in enumerate(texts):
        x, y, colour = grid.x(n), grid.y(n), colours_of[n]
        style = f'fill="{tint(colour, 0.2)}" stroke="{colour}"'
        lines += [
            f"<g><title>{escaped(paths[n])}</title>",
            rect(x - widths[n] / 2, y - 13, widths[n], 26, style),
            label(x, y + 4, text, 11.5, INK, style='text-anchor="middle" font-weight="600"'),
            "</g>",
        ]
    sorts = {u.sort for u in units if u.cell is None}
    return Drawing(grid.left + grid.width, grid.height, lines, sorts)


def _stops(units: list[Unit]) -> list[int]:
    """The layers of the path: where its most frequent cell stands."""
    cells = Counter(u.cell for u in units if u.cell is not None)
    cell, places = max(cells.items(), key=lambda item: item[1], default=(None, 0))
    return [n for n, u in enumerate(units) if u.cell is cell] if places > 2 else []


def _trellis(grid: Grid, stops: list[int]) -> list[str]:
    """Every position that a path of cells could take, and the steps between, faintly."""
    if not stops:
        return []
    rows = sorted({grid.levels.index(grid.sizes[n]) for n in stops})
    rows = list(range(rows[0], rows[-1] + 1))
    lines = []
    before: dict[int, tuple[float, float]] = {}
    for n in range(stops[0], stops[-1] + 1):
        near = before or {grid.levels.index(grid.sizes[n]): (0.0, 0.0)}
        reach = 1 if before else 0
        here = {r: (grid.x(n), grid.row * (r + 0.5)) for r in rows if any(abs(r - k) <= reach for k in near)}
        for row, (x, y) in here.items():
            for k, (x0, y0) in before.items():
                if abs(k - row) <= 1:
                    lines.append(line(f"M{x0:.1f} {y0:.1f}L{x:.1f} {y:.1f}", FAINT, width=1))
        before = here
        lines += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="#ffffff" stroke="{FAINT}" stroke-width="1.3"/>'
            for x, y in here.values()
        ]
    return lines
