"""Tasks: data, splits and their statistics. Importing this room loads no torch."""

from nasturtium.tasks.arrays import from_arrays, from_factory
from nasturtium.tasks.loading import load
from nasturtium.tasks.loading import open_task as open  # noqa: A004  `tasks.open(reference)` reads well
from nasturtium.tasks.statistics import Interval, mean_interval, paired_difference, smallest_difference, wilson
from nasturtium.tasks.task import Augmentation, Split, Task, TaskReference

__all__ = [
    "Augmentation",
    "Interval",
    "Split",
    "Task",
    "TaskReference",
    "from_arrays",
    "from_factory",
    "load",
    "mean_interval",
    "open",
    "paired_difference",
    "smallest_difference",
    "wilson",
]
