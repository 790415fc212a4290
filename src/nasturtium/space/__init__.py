"""What may be chosen: choices, blocks, spaces and architectures."""

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

__all__ = [
    "Block",
    "Choice",
    "IntRange",
    "OneOf",
    "Open",
    "Prefix",
    "Subset",
    "Walk",
    "fresh_copy",
    "int_range",
    "is_open",
    "one_of",
    "subset",
    "walk",
]
