"""Estimators: how good is an architecture."""

from nasturtium.estimators.final import load_weights, measure_test
from nasturtium.estimators.protocol import Estimator, Job
from nasturtium.estimators.registry import ESTIMATORS, from_dict
from nasturtium.estimators.results import read_correct
from nasturtium.estimators.trained import Trained

__all__ = ["ESTIMATORS", "Estimator", "Job", "Trained", "from_dict", "load_weights", "measure_test", "read_correct"]
