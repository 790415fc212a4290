"""What a user wants, as text or as values: objectives and constraints, and how far a network misses them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from nasturtium.errors import InvalidInputError
from nasturtium.trial.metrics import METRICS, Metric, Unit, metric
from nasturtium.trial.types import Constraint, Objective

UNITS: Mapping[Unit, Mapping[str, float]] = {
    "count": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "bytes": {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30},
    "fraction": {"": 1, "%": 1e-2},
    "seconds": {"": 1, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60, "h": 3600},
    "joules": {"": 1, "J": 1, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6},
    "number": {"": 1},
}
"""Suffixes that a limit may carry, by the metric's unit; letter case matters."""

_EXPRESSION = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*(?:\s*\([^()]*\))?)\s*(?P<relation><=|>=|≤|≥|==|!=|=<|=>|<|>|=)\s*(?P<value>.*?)\s*"
)
_NUMBER = re.compile(r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>.*)")
_INCLUSIVE = {"<=": "<=", "≤": "<=", "=<": "<=", ">=": ">=", "≥": ">=", "=>": ">="}


def parse_constraint(text: str, *, extra: Mapping[str, Metric] | None = None) -> Constraint:
    """Read a constraint such as "params <= 60k", "peak_memory<=64KiB", "accuracy >= 90%" or "latency(cpu) <= 2ms".

    Args:
        text: `<metric> <= <number><unit>`, or `>=`. Units are in `UNITS`.
        extra: Further metrics by name.

    Raises:
        UnknownNameError: Nobody measures the metric.
        InvalidInputError: It is not of this form, the unit does not fit, or no value of the metric can be there.
    """
    match = _EXPRESSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidInputError(
            f"Constraint {text!r}: expected `metric <= number` or `metric >= number`, such as 'params <= 60k'."
        )
    subject = metric(match["name"], extra=extra)
    relation = _INCLUSIVE.get(match["relation"])
    if relation is None:
        raise InvalidInputError(
            f"Constraint {text!r}: expected `<=` or `>=`, got `{match['relation']}`. Limits are inclusive; "
            f"write '{subject.name} {'>=' if match['relation'] == '>' else '<='} {match['value']}'."
        )
    try:
        limit = subject.check_limit(parse_value(match["value"], subject))
    except InvalidInputError as error:
        raise InvalidInputError(f"Constraint {text!r}: {error}") from error
    return subject <= limit if relation == "<=" else subject >= limit


def parse_value(text: str, subject: Metric) -> float:
    """Read a number with a unit that fits the metric; returns it in the metric's base unit.

    Raises:
        InvalidInputError: It is not a number, or the unit does not fit or is ambiguous.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"expected a number with a unit such as {_example(subject)!r}, got {text!r}.")
    units = UNITS[subject.unit]
    unit = match["unit"]
    if unit not in units:
        named = [u for u in units if u]
        allowed = f"expected one of {', '.join(named)}, or none" if named else "it has none"
        raise InvalidInputError(f"unit {unit!r} does not fit `{subject.name}`: {allowed}.{_unit_hint(unit, units)}")
    # Decimal, so that 1.1k is 1100 and 90% is 0.9, without binary dust.
    return float(Decimal(match["number"]) * Decimal(str(units[unit])))


def parse_objective(text: str, *, extra: Mapping[str, Metric] | None = None) -> Objective:
    """Read an objective such as "maximize accuracy" or "minimize macs".

    Raises:
        UnknownNameError: Nobody measures the metric.
        InvalidInputError: The direction is missing or unknown.
    """
    words = text.split(maxsplit=1) if isinstance(text, str) else []
    if len(words) == 1:
        name = metric(words[0], extra=extra).name
        raise InvalidInputError(f"Objective {text!r} lacks its direction: 'maximize {name}' or 'minimize {name}'.")
    if len(words) != 2 or words[0] not in ("maximize", "maximise", "minimize", "minimise"):
        raise InvalidInputError(f"Objective {text!r}: expected 'maximize <metric>' or 'minimize <metric>'.")
    direction = "maximize" if words[0].startswith("max") else "minimize"
    return Objective(metric=metric(words[1], extra=extra).name, direction=direction)  # type: ignore[arg-type]


Named = str | Metric
"""A metric or its name."""


def objectives(
    maximize: Named | Sequence[Named] = (),
    minimize: Named | Sequence[Named] = (),
    *,
    extra: Mapping[str, Metric] | None = None,
) -> tuple[Objective, ...]:
    """Return the objectives of a search, those to maximise first.

    Raises:
        UnknownNameError: Nobody measures a metric.
        InvalidInputError: There is none, one is given twice, or one is to be made both large and small.
    """
    found: dict[str, Objective] = {}
    for direction, given in (("maximize", maximize), ("minimize", minimize)):
        for item in [given] if isinstance(given, (str, Metric)) else given:
            name = item.name if isinstance(item, Metric) else metric(item, extra=extra).name
            if name not in found:
                found[name] = Objective(metric=name, direction=direction)  # type: ignore[arg-type]
            elif found[name].direction == direction:
                raise InvalidInputError(f"`{name}` is given twice to {direction}; once is enough.")
            else:
                raise InvalidInputError(f"`{name}` cannot be both maximised and minimised; choose one.")
    if not found:
        raise InvalidInputError("A search needs an objective: for example `maximize='accuracy'`.")
    return tuple(found.values())


def constraints(
    given: str | Constraint | Iterable[str | Constraint], *, extra: Mapping[str, Metric] | None = None
) -> tuple[Constraint, ...]:
    """Return constraints, given as values or as text, after checking that they do not contradict each other.

    Raises:
        UnknownNameError: Nobody measures a metric.
        InvalidInputError: One cannot be read, or two leave no value ("params <= 1k" and "params >= 2k").
    """
    items = [given] if isinstance(given, (str, Constraint)) else list(given)
    found: list[Constraint] = []
    for item in items:
        one = parse_constraint(item, extra=extra) if isinstance(item, str) else item
        if not isinstance(one, Constraint):
            raise InvalidInputError(
                f"A constraint must be text such as 'params <= 60k' or `nas.params <= 60_000`, got {item!r}."
            )
        metric(one.metric, extra=extra).check_limit(one.limit)
        if one not in found:
            found.append(one)
    for low in found:
        for high in found:
            if (low.metric, low.relation, high.relation) == (high.metric, ">=", "<=") and low.limit > high.limit:
                raise InvalidInputError(
                    f"`{format_constraint(low, extra=extra)}` and `{format_constraint(high, extra=extra)}` leave no "
                    "value; relax one of them."
                )
    return tuple(found)


def format_constraint(constraint: Constraint, *, extra: Mapping[str, Metric] | None = None) -> str:
    """Write a constraint so that `parse_constraint` reads it back exactly: "params <= 60k".

    A metric that is not known here, such as a table's own, is written as a number.
    """
    subject = (extra or {}).get(constraint.metric) or METRICS.get(constraint.metric) or Metric(name=constraint.metric)
    return f"{constraint.metric} {constraint.relation} {subject.format_exact(constraint.limit)}"


def excess(value: float, constraint: Constraint) -> float:
    """How far a value misses a constraint, relative to the limit: 0.0 when met, 0.25 for a quarter too much.

    Relative to 1 where the limit is 0; infinite for NaN, since what is not known does not meet a limit.
    """
    if math.isnan(value):
        return math.inf
    over = value - constraint.limit if constraint.relation == "<=" else constraint.limit - value
    return max(0.0, over / (abs(constraint.limit) or 1.0))


def violation(metrics: Mapping[str, float], constraints: Iterable[Constraint]) -> float:
    """Sum of the relative amounts by which constraints are missed; 0.0 exactly when all are met.

    A metric that is absent or NaN (a failed trial) counts as infinitely far.
    """
    return sum(excess(metrics.get(constraint.metric, math.nan), constraint) for constraint in constraints)


def _example(subject: Metric) -> str:
    return {"count": "60k", "bytes": "64KiB", "fraction": "90%", "seconds": "2ms", "joules": "3mJ", "number": "0.5"}[
        subject.unit
    ]


def _unit_hint(unit: str, units: Mapping[str, float]) -> str:
    if "KiB" in units and unit.upper() in ("K", "KB", "M", "G"):
        letter = unit[0].upper()
        return f" Say {'k' if letter == 'K' else letter}B (powers of 1000) or {letter}iB (powers of 1024)."
    close = [u for u in units if u and u.lower() == unit.lower()]
    return f" Did you mean {close[0]!r}? Letter case matters." if close else ""
