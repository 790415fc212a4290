"""Training of shared weights, and networks that inherit them."""

from nasturtium.supernets.auto_deeplab import AutoDeepLabSupernet
from nasturtium.supernets.calibration import calibration_batches, recalibrate
from nasturtium.supernets.collapse import CollapseWatch
from nasturtium.supernets.darts import DARTS
from nasturtium.supernets.enas import ENAS
from nasturtium.supernets.expected import ExpectedCost
from nasturtium.supernets.extremes import extreme
from nasturtium.supernets.importance import sort_channels
from nasturtium.supernets.inheritance import Inheritance, Matched, inherit, load_matching
from nasturtium.supernets.once_for_all import OnceForAll
from nasturtium.supernets.one_shot import OneShot
from nasturtium.supernets.paths import CostBalanced, Fair, Independent, PathSampler
from nasturtium.supernets.phases import Phase, shrinking_phases
from nasturtium.supernets.proxyless import ProxylessNAS
from nasturtium.supernets.ranking import Alone
from nasturtium.supernets.searcher import Found, Run, Searcher, SearchResult
from nasturtium.supernets.shrinking import train_shrinking
from nasturtium.supernets.single_path import SinglePathResult, measure, train_single_path
from nasturtium.supernets.specialize import Limit, specialize
from nasturtium.supernets.storage import insert, load, save, start_from
from nasturtium.supernets.trust import Trust, measure_trust

__all__ = [
    "DARTS",
    "ENAS",
    "Alone",
    "AutoDeepLabSupernet",
    "CollapseWatch",
    "CostBalanced",
    "ExpectedCost",
    "Fair",
    "Found",
    "Independent",
    "Inheritance",
    "Limit",
    "Matched",
    "OnceForAll",
    "OneShot",
    "PathSampler",
    "Phase",
    "ProxylessNAS",
    "Run",
    "SearchResult",
    "Searcher",
    "SinglePathResult",
    "Trust",
    "calibration_batches",
    "extreme",
    "inherit",
    "insert",
    "load",
    "load_matching",
    "measure",
    "measure_trust",
    "recalibrate",
    "save",
    "shrinking_phases",
    "sort_channels",
    "specialize",
    "start_from",
    "train_shrinking",
    "train_single_path",
]
