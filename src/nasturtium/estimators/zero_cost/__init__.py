"""Zero-cost proxies: scores of untrained networks, each a function, and the estimator of them.

Every function takes a network and a `Batch`, leaves the network as it is, and returns a number that is larger for what
its paper holds to be better.
"""

from nasturtium.estimators.zero_cost.agreement import vote
from nasturtium.estimators.zero_cost.batch_scores import jacob_cov, naswot
from nasturtium.estimators.zero_cost.batches import draw_batches
from nasturtium.estimators.zero_cost.checking import Checked, check
from nasturtium.estimators.zero_cost.estimator import ZeroCost
from nasturtium.estimators.zero_cost.features import depends_on_input, feature_graph
from nasturtium.estimators.zero_cost.flow import synflow
from nasturtium.estimators.zero_cost.gradient_scores import fisher, grad_norm, grasp, l2_norm, plain, snip, zico
from nasturtium.estimators.zero_cost.networks import Batch, draw_as_pytorch
from nasturtium.estimators.zero_cost.proxies import PROXIES, Proxy
from nasturtium.estimators.zero_cost.zen import zen

__all__ = [
    "PROXIES",
    "Batch",
    "Checked",
    "Proxy",
    "ZeroCost",
    "check",
    "depends_on_input",
    "draw_as_pytorch",
    "draw_batches",
    "feature_graph",
    "fisher",
    "grad_norm",
    "grasp",
    "jacob_cov",
    "l2_norm",
    "naswot",
    "plain",
    "snip",
    "synflow",
    "vote",
    "zen",
    "zico",
]
