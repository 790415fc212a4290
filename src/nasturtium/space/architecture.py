"""Architectures: one closed block with the decisions that closed it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

from nasturtium.errors import InvalidArchitectureError, NasturtiumError
from nasturtium.graph.sketch import sketch
from nasturtium.space.block import Block
from nasturtium.space.json import VERSION, block_from_dict, block_to_dict, check_version, value_from_json, value_json

if TYPE_CHECKING:
    from nasturtium.space.plan import Plan
    from nasturtium.space.structure import Indices

SHOWN_ON = ((3, 224, 224), (3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 512, 512))
"""Inputs that a notebook tries to draw an architecture for."""

_SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@final
class Architecture:
    """One closed block and the decisions that closed it; immutable and hashable.

    Made by a `Space`, by `Architecture.of(block)`, or from JSON; the last two need no space. Two architectures are
    equal when their decisions and their blocks are.
    """

    __slots__ = ("_block", "_decisions", "_indices", "_key", "_plan", "_values")

    def __init__(self, *, plan: Plan, indices: Indices) -> None:
        """Internal: users draw architectures from a space."""
        self._plan: Plan | None = plan
        self._indices: Indices = indices
        self._block: Block | None = None
        self._key: str | None = None
        self._decisions: Mapping[str, int] | None = None
        self._values: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, block: Block) -> Architecture:
        """The architecture of a closed block, without decisions.

        Raises:
            InvalidArchitectureError: the block has open choices.
        """
        if not isinstance(block, Block):
            raise InvalidArchitectureError(f"An architecture is made of a closed `Block`, got {block!r}.")
        if block.is_open:
            raise InvalidArchitectureError(
                f"An architecture is made of a closed block, but this {type(block).__name__} has open choices: "
                "draw one with `Space(block).sample(rng)`."
            )
        return cls._stored(block, {}, {}, None)

    @classmethod
    def _stored(
        cls, block: Block, decisions: Mapping[str, int], values: Mapping[str, Any], key: str | None
    ) -> Architecture:
        self = object.__new__(cls)
        self._plan, self._indices, self._block = None, (), block
        self._decisions, self._values = MappingProxyType(dict(decisions)), MappingProxyType(dict(values))
        self._key = key or "block-" + _digest(block)
        return self

    @property
    def block(self) -> Block:
        """The closed block. Made on first use; parts that are equal to another architecture's are the same objects."""
        if self._block is None:
            self._block = self._plan.closer.close(self._indices)  # type: ignore[union-attr]
        return self._block

    @property
    def decisions(self) -> Mapping[str, int]:
        """Indices of the active decisions by name, in the order in which they are met."""
        if self._decisions is None:
            plan, indices = self._require_plan(), self._indices
            self._decisions = MappingProxyType({plan.decisions[p].name: indices[p] for p in plan.order(indices)})
        return self._decisions

    @property
    def choices(self) -> Mapping[str, Any]:
        """Chosen values of the active decisions by name; an option that holds blocks is given by its label."""
        if self._values is None:
            plan, indices = self._require_plan(), self._indices
            order = [plan.decisions[p] for p in plan.order(indices)]
            self._values = MappingProxyType({d.name: d.value(indices[d.position]) for d in order})
        return self._values

    @property
    def key(self) -> str:
        """Short text of the decisions, one symbol each; unique within a space, and stable."""
        if self._key is None:
            plan, indices = self._require_plan(), self._indices
            found = [indices[p] for p in plan.order(indices)] if not plan.structure.tree else indices
            self._key = "".join([_symbol(i) for i in found if i >= 0]) or "0"
        return self._key

    def _require_plan(self) -> Plan:
        if self._plan is None:
            raise InvalidArchitectureError("This architecture was read without its space.")
        return self._plan

    def _repr_svg_(self) -> str | None:
        """The drawing, for notebooks.

        An architecture does not know its task, so it is drawn for the first of `SHOWN_ON` that it fits, with ten
        classes; the drawing says which. `graph.sketch` draws it for a task. None, hence plain text, where none fits.
        """
        for shape in SHOWN_ON:
            try:
                return sketch(self.block, shape, classes=10)
            except NasturtiumError:
                continue
        return None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON, readable without the space."""
        return {
            "version": VERSION,
            "kind": "architecture",
            "key": self.key,
            "decisions": dict(self.decisions),
            "choices": {name: value_json(value, repr) for name, value in self.choices.items()},
            "block": block_to_dict(self.block),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, trust: bool = False) -> Architecture:
        """The architecture of a dictionary made by `to_dict`.

        Args:
            data: The dictionary.
            trust: Whether to import block classes from modules other than Nasturtium's; see `block_from_dict`.

        Raises:
            InvalidArchitectureError: it is not a stored architecture, or of an unknown version.
        """
        stored = check_version(data, "architecture")
        missing = {"key", "decisions", "choices", "block"} - set(stored)
        if missing:
            raise InvalidArchitectureError(f"The stored architecture lacks {', '.join(sorted(missing))}.")
        decisions = {str(k): int(v) for k, v in stored["decisions"].items()}
        values = {str(k): value_from_json(v, trust=trust) for k, v in stored["choices"].items()}
        return cls._stored(block_from_dict(stored["block"], trust=trust), decisions, values, str(stored["key"]))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Architecture):
            return NotImplemented
        if self._plan is not None and self._plan is other._plan:
            return self._indices == other._indices
        return self.key == other.key and self.decisions == other.decisions and self.block == other.block

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[object, ...]:
        return Architecture._stored, (self.block, dict(self.decisions), dict(self.choices), self.key)

    def __str__(self) -> str:
        chosen = ", ".join(f"{name}={value}" for name, value in self.choices.items())
        return f"{self.key} ({chosen})" if chosen else f"{self.key} ({type(self.block).__name__})"

    def __repr__(self) -> str:
        return f"<Architecture {self.key}>"


_TABLE = list(_SYMBOLS)


def _symbol(index: int) -> str:
    return _TABLE[index] if index < 62 else f"({index})"


def _digest(block: Block) -> str:
    return hashlib.sha256(json.dumps(block_to_dict(block), sort_keys=True).encode()).hexdigest()[:16]


def diff(a: Architecture, b: Architecture) -> dict[str, tuple[Any, Any]]:
    """What two architectures decide differently: {name: (value in a, value in b)}; None where inactive."""
    names = dict.fromkeys((*a.decisions, *b.decisions))
    return {
        name: (a.choices.get(name), b.choices.get(name))
        for name in names
        if a.decisions.get(name) != b.decisions.get(name)
    }
