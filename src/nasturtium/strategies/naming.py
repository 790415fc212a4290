"""Strategies as text: `evolution(population=20, sample=5)`."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.strategies.registry import load
from nasturtium.trial.types import Strategy

_FORM = re.compile(r"\s*(?P<name>[A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.]*)?)\s*(?P<options>\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """A strategy's name with its options, where text comes in.

    Args:
        name: Of the registry, or `module:function`.
        options: Keyword arguments.

    Example:
        >>> Named.parse("evolution(population=20, sample=5)").make().population
        20
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read `name`, `name(option=value, …)` or `module:function(option=value)`.

        Values are Python literals; a bare word stands for itself as text, and `name(…)` for a strategy inside.

        Raises:
            InvalidInputError: it is not of this form.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise _unreadable(text, "it must begin with a name")
        if match["options"] is None:
            return cls(match["name"])
        try:
            call = ast.parse(f"_{match['options']}", mode="eval").body
        except SyntaxError as error:
            raise _unreadable(text, f"{error.msg}") from error
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise _unreadable(text, "one pair of brackets is expected")
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise _unreadable(text, "every option needs its name")
        if len({keyword.arg for keyword in call.keywords}) < len(call.keywords):
            raise _unreadable(text, "an option is given twice")
        return cls(match["name"], tuple((str(k.arg), _value(k.value, text)) for k in call.keywords))

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={_shown(value)}' for key, value in self.options)})"

    def make(self) -> Strategy:
        """The strategy.

        Raises:
            UnknownNameError: no strategy of that name.
            InvalidInputError: it cannot be imported or does not take these options.
        """
        options = {key: value.make() if isinstance(value, Named) else value for key, value in self.options}
        if ":" not in self.name:
            return load(self.name, **options)
        try:
            made: Strategy = import_object(self.name, "strategy")(**options)
        except TypeError as error:
            raise InvalidInputError(f"The strategy {self.name!r} does not take these options: {error}.") from error
        return made


def import_object(reference: str, what: str) -> Any:
    """The object that `module:name` names.

    Raises:
        InvalidInputError: there is no such module or name.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(
            f"The {what} {reference!r} must name something that can be imported, but: {error}. Is its folder on "
            "PYTHONPATH?"
        ) from error


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call):
        return Named.parse(ast.unparse(node))
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise _unreadable(text, f"{ast.unparse(node)!r} is not a plain value") from error


def _shown(value: Any) -> str:
    return (
        value
        if isinstance(value, str) and value.isidentifier()
        else str(value)
        if isinstance(value, Named)
        else repr(value)
    )


def _unreadable(text: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"The strategy {text!r} cannot be read: {why}. Write it as `evolution`, `evolution(population=20, sample=5)`, "
        "`optuna(sampler=tpe)` or `module:function(option=1)`."
    )
