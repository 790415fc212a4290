"""Training of one network: recipe, loop, checkpoints, evaluation."""

from nasturtium.training.evaluation import Evaluation, evaluate, resolve_device
from nasturtium.training.fitting import Epoch, FitResult, fit
from nasturtium.training.recipe import Recipe
from nasturtium.training.timing import seconds_per_epoch

__all__ = ["Epoch", "Evaluation", "FitResult", "Recipe", "evaluate", "fit", "resolve_device", "seconds_per_epoch"]
