"""Which points of a grid of two axes, such as width and resolution, meet the constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture, Decision, Space
from nasturtium.strategies.grid import axis_indices, axis_values
from nasturtium.trial import METRICS, Constraint, excess, format_constraint, format_number, parse_constraint

MET, MISSED = "●", "·"
"""Marks of a point that meets the constraints, and of one that does not, in text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintMap:
    """Costs over two axes, and where they are allowed.

    Attributes:
        names: Of the two decisions: rows, columns.
        rows: Labels of the first decision's values.
        columns: Labels of the second decision's values.
        architectures: `(row, column)`; None where a condition of the space refuses the point.
        metrics: `(row, column)` of each constrained metric, in base units; NaN where there is no architecture.
        constraints: Which must be met.
        feasible: `(row, column)`: whether all are met.
    """

    names: tuple[str, str]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    architectures: tuple[tuple[Architecture | None, ...], ...]
    metrics: Mapping[str, tuple[tuple[float, ...], ...]]
    constraints: tuple[Constraint, ...]
    feasible: tuple[tuple[bool, ...], ...]

    @property
    def count(self) -> int:
        """Points that meet the constraints."""
        return sum(map(sum, self.feasible))

    @property
    def boundary(self) -> tuple[tuple[int, int], ...]:
        """The last allowed column of each row that has one, as `(row, column)`: the networks worth training first."""
        found = []
        for row, allowed in enumerate(self.feasible):
            places = [column for column, good in enumerate(allowed) if good]
            if places:
                found.append((row, places[-1]))
        return tuple(found)

    def text(self) -> str:
        """A table of marks, rows downwards, and below it each constrained metric with its unit."""
        limits = " and ".join(format_constraint(c) for c in self.constraints)
        total = len(self.rows) * len(self.columns)
        lines = [f"{self.count} of {total} points of {self.names[0]} x {self.names[1]} meet {limits}", ""]
        marks = [[MET if good else MISSED for good in line] for line in self.feasible]
        lines += _table(f"{self.names[0]} \\ {self.names[1]}", self.rows, self.columns, marks)
        for name, values in self.metrics.items():
            known = METRICS.get(name)
            shown = known.format if known else format_number
            lines += ["", *_table(name, self.rows, self.columns, [[shown(v) for v in line] for line in values])]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def constraint_map(
    space: Space,
    axes: Mapping[str, Sequence[object]],
    constraints: Sequence[Constraint | str],
    measure: Callable[[Architecture], Mapping[str, float]],
    *,
    base: Architecture | None = None,
) -> ConstraintMap:
    """Measure every point of two axes, and say which meet the constraints.

    Args:
        space: That has both decisions.
        axes: The values of two decisions, by name: rows, columns. See `Grid(axes=...)`.
        constraints: For example `nas.macs <= 60e6` or "macs <= 60M".
        measure: Gives the constrained metrics of an architecture, for example
            `lambda a: {"macs": costs(a.block).macs, "latency": latency(a)}` with `costs = nas.graph.CostModel(...)`.
        base: Gives the values of all other decisions; not needed where there are none.

    Raises:
        InvalidInputError: there are not two axes, an axis names several decisions, other decisions are open and no
            `base` is given, or a constrained metric is not measured.
        UnknownNameError: an axis names no decision.
    """
    limits = tuple(parse_constraint(c) if isinstance(c, str) else c for c in constraints)
    if not limits:
        raise InvalidInputError("At least one constraint is needed for a map of what meets them, got none.")
    chosen = _decisions(space, axes, base)
    indices = axis_indices(space, {d.name: axis_values(d.name, axes[name]) for name, d in chosen.items()})
    first, second = chosen.values()
    wanted = dict(base.decisions) if base else {}
    grid = tuple(
        tuple(space.settle({**wanted, first.name: i, second.name: j}) for j in indices[second.position])
        for i in indices[first.position]
    )
    nothing = {c.metric: float("nan") for c in limits}
    measured = [[nothing if a is None else _measured(measure, a, limits) for a in line] for line in grid]
    return ConstraintMap(
        names=(first.name, second.name),
        rows=tuple(map(first.label, indices[first.position])),
        columns=tuple(map(second.label, indices[second.position])),
        architectures=grid,
        metrics={m: tuple(tuple(at[m] for at in line) for line in measured) for m in nothing},
        constraints=limits,
        feasible=tuple(tuple(all(excess(at[c.metric], c) == 0 for c in limits) for at in line) for line in measured),
    )


def _decisions(space: Space, axes: Mapping[str, Sequence[object]], base: Architecture | None) -> dict[str, Decision]:
    if len(axes) != 2:
        raise InvalidInputError(f"A constraint map has two axes, got {len(axes)}: {', '.join(axes) or 'none'}.")
    chosen = {name: space.decision(name) for name in axes}
    others = [d.name for d in space.decisions if d.count > 1 and d not in chosen.values()]
    if others and base is None:
        raise InvalidInputError(
            f"Besides the axes, {', '.join(others[:5])}{' …' if len(others) > 5 else ''} must be decided: give an "
            "architecture as `base`."
        )
    return chosen


def _measured(
    measure: Callable[[Architecture], Mapping[str, float]], architecture: Architecture, limits: Sequence[Constraint]
) -> dict[str, float]:
    found = measure(architecture)
    for limit in limits:
        if limit.metric not in found:
            raise InvalidInputError(f"`measure` gives no {limit.metric!r}; it gives {', '.join(found) or 'nothing'}.")
    return {limit.metric: float(found[limit.metric]) for limit in limits}


def _table(corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    left = max(len(corner), *map(len, rows))
    widths = [max(len(c), *[len(line[k]) for line in cells]) for k, c in enumerate(columns)]
    head = "  ".join([corner.ljust(left), *[c.rjust(w) for c, w in zip(columns, widths, strict=True)]])
    body = [
        "  ".join([row.rjust(left), *[cell.rjust(w) for cell, w in zip(line, widths, strict=True)]])
        for row, line in zip(rows, cells, strict=True)
    ]
    return [head, *body]
