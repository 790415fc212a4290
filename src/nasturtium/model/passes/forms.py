"""Weighted sums of values, with weights that are polynomials of a gate's weights."""

from __future__ import annotations

from collections.abc import Mapping

Monomial = tuple[tuple[int, int], ...]
"""A product of gate weights, each as (position of the decision, option), sorted; the empty one is 1."""
Coefficient = tuple[tuple[Monomial, float], ...]
"""A sum of products with numbers before them, sorted."""
Sum = dict[int, Coefficient]
"""A weighted sum: the coefficient of each value, by the value's number, in order of appearance."""

ONE: Coefficient = (((), 1.0),)


def plus(a: Coefficient, b: Coefficient) -> Coefficient:
    """Sum of two coefficients."""
    found = dict(a)
    for monomial, number in b:
        found[monomial] = found.get(monomial, 0.0) + number
    return tuple(sorted(found.items()))


def times(a: Coefficient, position: int, option: int) -> Coefficient:
    """Product of a coefficient and one gate weight."""
    return tuple(sorted([(tuple(sorted((*monomial, (position, option)))), number) for monomial, number in a]))


def add_to(terms: Sum, other: Mapping[int, Coefficient]) -> None:
    """Add a weighted sum to another, in place."""
    for value, coefficient in other.items():
        terms[value] = plus(terms[value], coefficient) if value in terms else coefficient


def scaled(terms: Mapping[int, Coefficient], position: int, option: int) -> Sum:
    """A weighted sum times one gate weight."""
    return {value: times(coefficient, position, option) for value, coefficient in terms.items()}
