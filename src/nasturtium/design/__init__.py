"""Which network or space to search: scaling of one network to many budgets."""

from nasturtium.design.multipliers import Multipliers, compound, fast_compound
from nasturtium.design.scaling import ENDS, Scaled, scale

__all__ = ["ENDS", "Multipliers", "Scaled", "compound", "fast_compound", "scale"]
