"""A network as a person would draw it: the outline with repeated parts collapsed, and every cell once, beside it."""

from __future__ import annotations

from itertools import accumulate

from nasturtium.graph.captions import CELL_COLOURS, COLOURS, Sort
from nasturtium.graph.cells import Cell
from nasturtium.graph.column import draw_column, draw_path, is_path
from nasturtium.graph.cost import Cost, cost
from nasturtium.graph.figures import Drawing, draw_cell, draw_pyramid
from nasturtium.graph.levels import Record, record
from nasturtium.graph.outline import Outline, outline
from nasturtium.graph.svg import FONT, INK, MUTED, label, rect, text_width, title_line
from nasturtium.graph.trace import Designed, Inputs, Traceable, closed, named_shapes

MARGIN, SPACE, PANEL = 24.0, 30.0, 14.0
"""Around the picture, between its parts, and inside a panel, in pixels."""

LEGEND: dict[Sort, str] = {
    "pointwise": "1×1 convolution", "separable": "separable convolution", "dilated": "dilated convolution",
    "depthwise": "depthwise convolution", "classifier": "linear", "join": "sum, concat",
}  # fmt: skip
"""Texts of the legend that are not the sort's own name."""


def sketch(block: Traceable | Designed, inputs: Inputs, *, title: str | None = None, **context: object) -> str:
    """The network as SVG text, without scripts or outside references.

    The outline runs from the input down: equal neighbours are one box with their number, and a block that only runs
    others after each other is not drawn itself. A block with branches inside is a cell, drawn once from left to right
    however often it stands in the network; its inputs are named by what makes them. Where the network moves between
    resolutions, the outline is a path on the grid of strides. A block may name itself by an attribute `label`.

    Args:
        block: A closed block or an architecture.
        inputs: Shape of the input without the batch, as for `trace`.
        title: First line; None leaves it out.
        **context: What the task tells the network, for example `classes=10`.

    Raises:
        InvalidInputError: the title is not a text.
        TraceError: the block has open choices, or does not return tensors.
        ShapeError: the inputs do not fit an operation; the message names it.
    """
    name = title_line(title)
    costs = cost(block, inputs, **context)
    run = record(closed(block), inputs, context)
    drawn = outline(run)
    parts: list[tuple[Drawing, float, float]] = []
    x = MARGIN
    colours = {cell: CELL_COLOURS[i % len(CELL_COLOURS)] for i, cell in enumerate(drawn.cells)}
    below = 0.0
    if drawn.units:
        path = is_path(drawn.units)
        main = draw_path(drawn, run, colours) if path else draw_column(drawn, run, colours)
        parts.append((main, x, 0.0))
        if path:
            below = main.height + SPACE
        else:
            x += main.width + SPACE
    parts += _panels(drawn, run, colours, x, below, (parts[0][0].width, parts[0][0].height) if parts else (0.0, 0.0))
    width = max((d.width + at for d, at, _ in parts), default=0.0) + MARGIN
    height = max((d.height + y for d, _, y in parts), default=0.0)
    facts = _facts(costs, inputs, context)
    if drawn.hidden:
        facts += f" · {len(drawn.cells)} of {len(drawn.cells) + drawn.hidden} different cells drawn"
    head = _header(title, facts, {s for d, _, _ in parts for s in d.sorts})
    width = max(width, head.width + MARGIN)
    body = [
        line
        for d, at, y in parts
        for line in (f'<g transform="translate({at:.1f} {head.height + y:.1f})">', *d.lines, "</g>")
    ]
    whole = head.height + height + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {whole:.0f}" width="{width:.0f}" '
            f'height="{whole:.0f}" role="img" {FONT}>',
            name,
            rect(0, 0, width, whole, 'fill="#ffffff"', radius=10),
            *head.lines,
            *body,
            "</svg>",
        ]
    )


def _panels(
    drawn: Outline, run: Record, colours: dict[Cell, str], x: float, y: float, size: tuple[float, float]
) -> list[tuple[Drawing, float, float]]:
    """A panel for each cell, below each other; a new column begins where the outline ends."""
    panels = [_panel(cell, run, colours[cell], alone=not drawn.units) for cell in drawn.cells]
    if y:
        return _shelves(panels, x, y, size[0])
    limits = [size[1], *accumulate(panel.height + SPACE / 2 for panel in panels)]
    tried = [_stacks(panels, x, max(limit, size[1])) for limit in limits]
    return min(tried, key=lambda placed: _badness(placed, size[1])) if panels else []


def _badness(placed: list[tuple[Drawing, float, float]], tall: float) -> float:
    """How far from the shape of a page: the larger of height and scaled width."""
    width = max(at + d.width for d, at, _ in placed)
    return max(width / 1.7, tall, *(y + d.height for d, _, y in placed))


def _stacks(panels: list[Drawing], x: float, limit: float) -> list[tuple[Drawing, float, float]]:
    """Panels below each other, in columns up to a height."""
    found: list[tuple[Drawing, float, float]] = []
    y = wide = 0.0
    for panel in panels:
        if y > 0 and y + panel.height > limit:
            x, y, wide = x + wide + SPACE, 0.0, 0.0
        found.append((panel, x, y))
        y += panel.height + SPACE / 2
        wide = max(wide, panel.width)
    return found


def _shelves(panels: list[Drawing], x: float, y: float, wide: float) -> list[tuple[Drawing, float, float]]:
    """Panels side by side, as many as fit the width, in rows."""
    found: list[tuple[Drawing, float, float]] = []
    at, tall = x, 0.0
    for panel in panels:
        if at > x and at + panel.width > x + wide:
            at, y, tall = x, y + tall + SPACE / 2, 0.0
        found.append((panel, at, y))
        at += panel.width + SPACE / 2
        tall = max(tall, panel.height)
    return found


def _panel(cell: Cell, run: Record, colour: str, *, alone: bool) -> Drawing:
    """A cell's figure with its title."""
    figure = draw_pyramid(cell, run) if cell.is_pyramid else draw_cell(cell)
    if alone:
        return figure
    times = f"{cell.places} places" if cell.places > 1 else "1 place"
    title = text_width(cell.title, 14, bold=True)
    width = max(figure.width, title + text_width(times, 11) + 40) + 2 * PANEL
    height = figure.height + 2 * PANEL + 28
    lines = [
        rect(0, 0, width, height, f'fill="#fcfdff" stroke="{colour}" stroke-opacity="0.45"', radius=10),
        rect(PANEL, PANEL, 12, 12, f'fill="{colour}"', radius=3),
        label(PANEL + 20, PANEL + 11, cell.title, 14, INK, style='font-weight="600"'),
        label(PANEL + 30 + title, PANEL + 11, times, 11, MUTED),
        f'<g transform="translate({(width - figure.width) / 2:.1f} {PANEL + 28:.1f})">',
        *figure.lines,
        "</g>",
    ]
    return Drawing(width, height, lines, figure.sorts)


def _header(title: str | None, facts: str, sorts: set[Sort]) -> Drawing:
    """Title, facts and legend."""
    lines = []
    y = 30.0
    if title:
        lines.append(label(MARGIN, y, title, 17, INK, style='font-weight="700"'))
        y += 20
    lines.append(label(MARGIN, y, facts, 12, MUTED))
    x, y = MARGIN, y + 22
    for sort in COLOURS:
        if sort in sorts and sort not in ("other", "skip"):
            text = LEGEND.get(sort, sort)
            lines.append(rect(x, y - 9, 10, 10, f'fill="{COLOURS[sort]}"', radius=2))
            lines.append(label(x + 15, y, text, 11, MUTED))
            x += 31 + text_width(text, 11)
    width = max(x, MARGIN + text_width(facts, 12), MARGIN + text_width(title or "", 17, bold=True))
    return Drawing(width, y + 20, lines, set())


def _facts(costs: Cost, inputs: Inputs, context: dict[str, object]) -> str:
    shapes = ", ".join("×".join(map(str, shape)) for shape in named_shapes(inputs).values())
    told = "".join(f", {value} {name}" for name, value in context.items() if isinstance(value, int))
    return f"{_short(costs.params)} parameters · {_short(costs.macs)} MACs · input {shapes}{told}"


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return str(number)
