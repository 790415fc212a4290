"""Spaces as plain JSON, both ways, and their fingerprint."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, cast

from nasturtium.errors import InvalidArchitectureError, InvalidInputError, InvalidSpaceError
from nasturtium.space.block import Block, Open
from nasturtium.space.choice import Choice, CopyScope, IntRange, OneOf, Prefix, Subset, Walk
from nasturtium.space.conditions import Condition
from nasturtium.space.json import VERSION, check_version, find_class, type_name, value_json

Predicate = Callable[..., bool]


def space_to_dict(block: Any, conditions: Sequence[Condition], quoted_size: int | None) -> dict[str, object]:
    """Plain JSON of a space; see `Space.to_dict`."""
    return {
        "version": VERSION,
        "kind": "space",
        "block": _Writer().write(block),
        "conditions": [{"predicate": import_path(c.predicate), "reads": _reads(c)} for c in conditions],
        "quoted_size": quoted_size,
    }


def space_from_dict(
    data: Mapping[str, object], *, trust: bool
) -> tuple[Any, list[tuple[Predicate, list[str] | None]], int | None]:
    """Block, conditions and quoted size of a stored space; see `Space.from_dict`."""
    stored = check_version(data, "space")
    block = _Reader(trust).read(stored["block"])
    conditions = [(_predicate(c["predicate"], trust), c["reads"]) for c in stored.get("conditions", ())]
    return block, conditions, stored.get("quoted_size")


def space_fingerprint(block: Any, conditions: Sequence[Condition], rows: str | None = None) -> str:
    """SHA-256 of the open block, the conditions' reads and code, and a table's rows; 32 hexadecimal digits."""
    content: dict[str, Any] = {
        "version": VERSION,
        "block": _Writer().write(block),
        "conditions": [{"reads": _reads(c), "code": predicate_digest(c.predicate)} for c in conditions],
    }
    if rows is not None:
        content["rows"] = rows
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _reads(condition: Condition) -> list[str] | None:
    return None if condition.reads is None else [d.name for d in condition.reads]


def import_path(predicate: Predicate) -> str:
    """`"module:name"` of a function that can be imported.

    Raises:
        InvalidInputError: it cannot, for example a lambda.
    """
    module = getattr(predicate, "__module__", None)
    name = getattr(predicate, "__qualname__", "<unnamed>")
    if module is None or "<" in name:
        raise InvalidInputError(
            f"The condition {predicate!r} cannot be stored: define it as a function of a module, not as a lambda or "
            "inside another function."
        )
    return f"{module}:{name}"


def _predicate(path: str, trust: bool) -> Predicate:
    module_name, _, name = path.partition(":")
    if module_name.split(".")[0] != "nasturtium" and not trust:
        raise InvalidArchitectureError(
            f"The stored space has the condition {path!r}, whose module's code would run: pass `trust=True` if you "
            "trust it."
        )
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidArchitectureError(f"The stored condition {path!r} cannot be imported: {error}.") from error
    return cast("Predicate", found)


def predicate_digest(predicate: Predicate) -> str:
    """Digest of a predicate's source (bytecode where there is none), defaults and the plain values it closes over."""
    function = getattr(predicate, "func", predicate)
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    parts = [getattr(function, "__qualname__", type(function).__qualname__)]
    if code is None:
        parts.append(repr(sorted(getattr(function, "__dict__", {}).items(), key=lambda item: item[0])))
        code = getattr(type(function).__call__, "__code__", None)
    if code is not None:
        parts += [_source(code), repr(code.co_names), _constants(code)]
    parts += [repr(getattr(function, "__defaults__", None)), repr(getattr(function, "__kwdefaults__", None))]
    parts += [repr(getattr(predicate, "args", ())), repr(getattr(predicate, "keywords", {}))]
    for cell in getattr(function, "__closure__", None) or ():
        value = cell.cell_contents
        parts.append(repr(value) if " at 0x" not in repr(value) else type(value).__qualname__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _source(code: CodeType) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return code.co_code.hex()


def _constants(code: CodeType) -> str:
    return ", ".join(_constants(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)


class _Writer:
    """Writes an open value; a choice that was written before is a reference."""

    def __init__(self) -> None:
        self.choices: dict[int, int] = {}
        self.scopes: dict[CopyScope, int] = {}
        self.blocks: dict[int, list[dict[str, object]]] = {}

    def write(self, value: object) -> Any:
        result = self._value(value)
        for scope, number in self.scopes.items():
            for written in self.blocks.get(id(scope.value), ()):
                written["copy"] = number
        return result

    def _value(self, value: object) -> Any:
        if isinstance(value, Block):
            fields = {name: self._value(getattr(value, name)) for name in value._field_names}
            written: dict[str, object] = {"type": type_name(type(value)), "fields": fields}
            self.blocks.setdefault(id(value), []).append(written)
            return written
        if isinstance(value, (tuple, list)):
            return [self._value(item) for item in value]
        if isinstance(value, Open):
            return self._open(value)
        return value_json(value, repr)

    def _open(self, value: Open) -> dict[str, object]:
        if isinstance(value, Prefix):
            return {"open": "prefix", "items": self._value(value.items), "length": self._value(value.length)}
        if not isinstance(value, Choice):
            raise InvalidSpaceError(f"The open value {value!r} is none that can be stored.")
        number = self.choices.get(id(value))
        if number is not None:
            return {"open": "ref", "id": number}
        number = self.choices[id(value)] = len(self.choices)
        written: dict[str, object] = {"open": value.kind, "id": number}
        if value.name is not None:
            written["name"] = value.name
            if value.scope is not None:
                written["scope"] = self.scopes.setdefault(value.scope, len(self.scopes))
        return written | self._details(value)

    def _details(self, value: Choice) -> dict[str, object]:
        if isinstance(value, IntRange):
            return {"low": value.low, "high": value.high, "step": value.step}
        if isinstance(value, Subset):
            return {"options": self._value(value.options), "k": value.k}
        if isinstance(value, Walk):
            levels = self._value(value.levels)
            return {"levels": levels, "length": value.length, "start": self._value(value.start), "step": value.step}
        return {"options": self._value(value.choices)}


class _Reader:
    """Reads what `_Writer` wrote."""

    def __init__(self, trust: bool) -> None:
        self.trust = trust
        self.choices: dict[int, Choice] = {}
        self.scopes: dict[int, CopyScope] = {}

    def read(self, data: Any) -> Any:
        try:
            return self._value(data)
        except (KeyError, TypeError) as error:
            raise InvalidArchitectureError(
                f"The stored space cannot be read: {type(error).__name__} {error}."
            ) from error

    def _value(self, data: Any) -> Any:
        if isinstance(data, list):
            return tuple([self._value(item) for item in data])
        if not isinstance(data, Mapping):
            return data
        if "open" in data:
            return self._open(data)
        cls = find_class(str(data["type"]), trust=self.trust)
        block = cls(**{name: self._value(item) for name, item in data["fields"].items()})
        if "copy" in data:
            self.scopes.setdefault(data["copy"], CopyScope()).value = block
        return block

    def _open(self, data: Mapping[str, Any]) -> Open:
        kind = data["open"]
        if kind == "prefix":
            items = self._value(data["items"])
            return Prefix(items, self._value(data["length"]))
        if kind == "ref":
            return self.choices[data["id"]]
        name = data.get("name")
        choice: Choice
        if kind == "int_range":
            choice = IntRange(data["low"], data["high"], data["step"], name)
        elif kind == "subset":
            choice = Subset(self._value(data["options"]), data["k"], name)
        elif kind == "walk":
            start = self._value(data["start"])
            choice = Walk(self._value(data["levels"]), data["length"], start, data["step"], name)
        elif kind == "one_of":
            choice = OneOf(self._value(data["options"]), name)
        else:
            raise InvalidArchitectureError(f"The stored space has an open value of unknown kind {kind!r}.")
        if "scope" in data:
            choice.scope = self.scopes.setdefault(data["scope"], CopyScope())
        self.choices[data["id"]] = choice
        return choice
