"""Strategies as text."""

from __future__ import annotations

import pytest

from nasturtium.bench import Named
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.strategies import Random, RegularizedEvolution


def test_names_options_and_strategies_inside():
    assert Named.parse(" evolution ").make() == RegularizedEvolution()
    made = Named.parse("evolution(population=20,sample=5, how='stage')").make()
    assert made == RegularizedEvolution(population=20, sample=5, how="stage")
    assert Named.parse("optuna(sampler=tpe)").options == (("sampler", "tpe"),)
    assert Named.parse("x(a=-1.5, b=[1, 2], c=None, d={'e': True})").options == (
        ("a", -1.5), ("b", [1, 2]), ("c", None), ("d", {"e": True}),
    )  # fmt: skip
    inner = dict(Named.parse("hyperband(strategy=evolution(population=20))").options)["strategy"]
    assert inner.make() == RegularizedEvolution(population=20)


def test_a_function_of_ones_own():
    assert Named.parse("nasturtium.strategies.random_search:Random(sampler=hierarchical)").make() == Random(
        sampler="hierarchical"
    )
    with pytest.raises(InvalidInputError, match="does not take these options"):
        Named.parse("nasturtium.strategies.random_search:Random(x=1)").make()
    with pytest.raises(InvalidInputError, match="must name something that can be imported"):
        Named.parse("nasturtium.strategies.random_search:Nothing").make()


def test_text_is_written_so_that_it_is_read_back():
    for text in ("evolution", "optuna(sampler=tpe)", "x(a=1, b='two words', c=y(d=[1]))"):
        assert str(Named.parse(text)) == text
        assert str(Named.parse(str(Named.parse(text)))) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begin with a name"),
        ("evolution(", "begin with a name"),
        ("evolution(1)", "every option needs its name"),
        ("evolution(**x)", "every option needs its name"),
        ("evolution(a=1)(b=2)", "one pair of brackets"),
        ("evolution(a=1, a=2)", "given twice"),
        ("evolution(a=1+x)", "not a plain value"),
        ("evolution(a=__import__('os').system('true'))", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(InvalidInputError, match=message):
        Named.parse(text)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownNameError, match="Did you mean 'evolution'"):
        Named.parse("evolutoin").make()
