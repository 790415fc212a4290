"""What may be chosen: choices, blocks, spaces and architectures."""

from nasturtium.space.activation import Activation
from nasturtium.space.architecture import Architecture, diff
from nasturtium.space.block import Block, Open, is_open
from nasturtium.space.choice import (
    Choice,
    IntRange,
    OneOf,
    Prefix,
    Subset,
    Walk,
    fresh_copy,
    int_range,
    one_of,
    subset,
    walk,
)
from nasturtium.space.conditions import Condition, Interval
from nasturtium.space.json import block_from_dict, block_to_dict
from nasturtium.space.space import Space
from nasturtium.space.structure import Decision

__all__ = [
    "Activation",
    "Architecture",
    "Block",
    "Choice",
    "Condition",
    "Decision",
    "IntRange",
    "Interval",
    "OneOf",
    "Open",
    "Prefix",
    "Space",
    "Subset",
    "Walk",
    "block_from_dict",
    "block_to_dict",
    "diff",
    "fresh_copy",
    "int_range",
    "is_open",
    "one_of",
    "subset",
    "walk",
]
