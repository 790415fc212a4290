"""Training of shared weights, and networks that inherit them."""

from nasturtium.supernets.calibration import calibration_batches, recalibrate
from nasturtium.supernets.extremes import extreme
from nasturtium.supernets.searcher import Found, Run, Searcher, SearchResult
from nasturtium.supernets.single_path import SinglePathResult, load, measure, save, train_single_path

__all__ = [
    "Found",
    "Run",
    "SearchResult",
    "Searcher",
    "SinglePathResult",
    "calibration_batches",
    "extreme",
    "load",
    "measure",
    "recalibrate",
    "save",
    "train_single_path",
]
