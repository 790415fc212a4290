"""Little helpers for SVG text: widths of words, boxes, labels and curves."""

from __future__ import annotations

import re
from html import escape

from nasturtium.errors import InvalidInputError

FONT = "font-family=\"ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""
INK, MUTED, FAINT = "#0f172a", "#64748b", "#cbd5e1"

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 admits in no form, not even escaped."""

_NARROW, _SLIM, _WIDE = frozenset("ijl.,:;'|! "), frozenset("frt()[]/-"), frozenset("mwMW@%×+—…")


def escaped(text: str) -> str:
    """A text as XML content: markup escaped, characters that XML does not admit replaced by U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def title_line(title: str | None, default: str = "Network") -> str:
    """The picture's `<title>`.

    Args:
        title: What the caller asked for.
        default: What stands where that is None or empty.

    Raises:
        InvalidInputError: the title is not a text.
    """
    if title is not None and not isinstance(title, str):
        raise InvalidInputError(
            f"`title` must be a text or None, got {title!r} of type {type(title).__name__}; "
            f"write title={str(title)!r} to show it."
        )
    return f"<title>{escaped(title or default)}</title>"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in pixels, estimated from above: fonts differ, and none of the usual ones is wider."""
    em = sum(
        0.34 if c in _NARROW else 0.45 if c in _SLIM else 0.95 if c in _WIDE else 0.72 if c.isupper() else 0.62
        for c in text
    )
    return em * size * (1.08 if bold else 1.0)


def rect(x: float, y: float, width: float, height: float, style: str, *, radius: float = 6) -> str:
    """A box."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" {style}/>'


def label(x: float, y: float, text: str, size: float, fill: str = INK, *, style: str = "") -> str:
    """A line of text whose baseline is at `y`."""
    more = f" {style}" if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}"{more}>{escaped(text)}</text>'


def arrow(x: float, y: float, fill: str, *, down: bool = False) -> str:
    """A little head that points right, or down, at (x, y)."""
    if down:
        return f'<path d="M{x - 4:.1f} {y - 6:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 6:.1f}z" fill="{fill}"/>'
    return f'<path d="M{x - 6:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 6:.1f} {y + 4:.1f}z" fill="{fill}"/>'


def line(path: str, stroke: str, *, width: float = 1.5, style: str = "") -> str:
    """A line along an SVG path."""
    more = f" {style}" if style else ""
    return f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{more}/>'


def curve(points: list[tuple[float, float]], stroke: str, *, style: str = "", width: float = 1.5) -> str:
    """A smooth line from left to right through points; it leaves and reaches each of them horizontally."""
    x, y = points[0]
    path = f"M{x:.1f} {y:.1f}"
    for x1, y1 in points[1:]:
        if abs(y1 - y) < 0.5:
            path += f"L{x1:.1f} {y1:.1f}"
        else:
            bend = (x1 - x) / 2
            path += f"C{x + bend:.1f} {y:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        x, y = x1, y1
    return line(path, stroke, width=width, style=style)


def tint(colour: str, share: float) -> str:
    """A colour mixed with white; a share of 1 is the colour itself."""
    mixed = [round(255 - share * (255 - int(colour[i : i + 2], 16))) for i in (1, 3, 5)]
    return "#" + "".join(f"{value:02x}" for value in mixed)
