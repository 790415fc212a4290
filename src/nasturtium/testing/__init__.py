"""Contract suites: the laws that every space, strategy and estimator of the library passes, for your own ones.

Each check raises `ContractError`, an `AssertionError` that names the broken law. None imports torch.

Example:
    >>> import nasturtium as nas
    >>> def test_my_strategy():
    ...     nas.testing.check_strategy(lambda: MyStrategy(population=10))
"""

from nasturtium.testing.contract import ContractError
from nasturtium.testing.estimators import check_estimator
from nasturtium.testing.problems import drive, toy_problem, toy_space
from nasturtium.testing.spaces import check_space
from nasturtium.testing.strategies import STRATEGY_LAWS, check_strategy

__all__ = [
    "STRATEGY_LAWS",
    "ContractError",
    "check_estimator",
    "check_space",
    "check_strategy",
    "drive",
    "toy_problem",
    "toy_space",
]
