"""Estimators: how good is an architecture."""

from nasturtium.estimators.protocol import Estimator, Job
from nasturtium.estimators.trained import Trained

__all__ = ["Estimator", "Job", "Trained"]
