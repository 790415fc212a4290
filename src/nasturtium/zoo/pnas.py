"""PNAS."""

from __future__ import annotations

from nasturtium.zoo.listing import Family

FAMILIES: tuple[Family, ...] = ()
