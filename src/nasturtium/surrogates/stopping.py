"""Rules that end trainings which will hardly be among the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.surrogates.curves import FEWEST, extrapolate


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveStopping:
    """Stop a training that will hardly beat a value that is known.

    Args:
        best: The accuracy to beat.
        threshold: A training whose probability to end above `best` is below this stops; 0.05 is the paper's.
        after: Epochs before the first look; at least `FEWEST`.
        every: Epochs from look to look.

    Notes:
        Differs from the paper: the value to beat is a setting, not the best of the search so far, so that a trial's
        result depends on nothing but its own settings.

    Reference:
        Domhan, Springenberg, Hutter (2015), section 4, "predictive termination".
    """

    best: float
    threshold: float = 0.05
    after: int = FEWEST
    every: int = 1

    def __post_init__(self) -> None:
        _check_best(self.best)
        if not 0 < self.threshold < 1:
            raise InvalidInputError(f"`threshold` must be a probability in (0, 1), got {self.threshold!r}.")
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < FEWEST:
            raise InvalidInputError(f"`after` must be an integer of {FEWEST} or more, got {self.after!r}.")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InvalidInputError(f"`every` must be an integer of 1 or more, got {self.every!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `stopping_from_dict` is the inverse."""
        return {"type": "curve", **asdict(self)}

    def stops(self, curve: Sequence[float], epochs: int) -> bool:
        """Whether to stop after these validation accuracies of a training of so many epochs."""
        seen = len(curve)
        if seen < self.after or seen >= epochs or (seen - self.after) % self.every or max(curve) > self.best:
            return False
        return extrapolate(curve, epochs).probability_above(self.best) < self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianStopping:
    """The cheap baseline: stop a training whose best accuracy so far is below the median of others at that epoch.

    Args:
        curves: Validation accuracies of finished trainings by epoch; running averages are compared, as in Vizier.
        after: Epochs before the first look.

    Reference:
        Golovin et al. (2017), "Google Vizier: a service for black-box optimization", KDD, section 3.2.2.
    """

    curves: tuple[tuple[float, ...], ...]
    after: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "curves", tuple(tuple(map(float, curve)) for curve in self.curves))
        if not self.curves or not all(self.curves):
            raise InvalidInputError("`curves` must hold a curve or more, none empty.")
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 1:
            raise InvalidInputError(f"`after` must be an integer of 1 or more, got {self.after!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `stopping_from_dict` is the inverse."""
        return {"type": "median", "curves": [list(curve) for curve in self.curves], "after": self.after}

    def stops(self, curve: Sequence[float], epochs: int) -> bool:
        """Whether to stop after these validation accuracies of a training of so many epochs."""
        seen = len(curve)
        others = [float(np.mean(c[:seen])) for c in self.curves if len(c) >= seen]
        if seen < self.after or seen >= epochs or not others:
            return False
        return max(curve) < float(np.median(others))


def stopping_from_dict(data: Mapping[str, Any]) -> CurveStopping | MedianStopping:
    """Inverse of a rule's `to_dict`.

    Raises:
        UnknownNameError: no rule of that type.
        InvalidInputError: its settings are wrong.
    """
    rules = {"curve": CurveStopping, "median": MedianStopping}
    settings = dict(data)
    kind = settings.pop("type", None)
    if kind not in rules:
        raise UnknownNameError("stopping rule", str(kind), rules)
    try:
        made: CurveStopping | MedianStopping = rules[kind](**settings)
    except TypeError as error:
        raise InvalidInputError(f"The stopping rule {kind!r} does not take these settings: {error}.") from error
    return made


def _check_best(best: float) -> None:
    if isinstance(best, bool) or not isinstance(best, (int, float)) or not 0 <= best <= 1:
        raise InvalidInputError(f"`best` must be an accuracy in [0, 1], got {best!r}.")
