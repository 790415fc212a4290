"""Contract suites: the laws that every space, strategy and estimator of the library passes, for your own ones.

Each check raises `AssertionError` that names the broken law. None imports torch.
"""

from nasturtium.testing.estimators import check_estimator
from nasturtium.testing.problems import drive, toy_problem, toy_space
from nasturtium.testing.spaces import check_space
from nasturtium.testing.strategies import STRATEGY_LAWS, check_strategy

__all__ = ["STRATEGY_LAWS", "check_estimator", "check_space", "check_strategy", "drive", "toy_problem", "toy_space"]
