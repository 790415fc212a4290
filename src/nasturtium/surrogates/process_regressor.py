"""The Gaussian process with scikit-learn's `fit` and `predict`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.surrogates.gaussian_process import Conditioned, Parameters, Rows, fit


@dataclass(slots=True)
class ProcessRegressor:
    """Predict with the mean of a Gaussian process of one squared exponential kernel on the rows.

    Args:
        fitted: Most rows to which length, scale and noise are fitted, evenly spaced among all, as the time of a fit
            grows with their cube; predictions are from all rows.
    """

    fitted: int = 150
    _parameters: Parameters = field(init=False, repr=False, compare=False)
    _rows: Rows = field(init=False, repr=False, compare=False)
    _targets: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.fitted, bool) or not isinstance(self.fitted, int) or self.fitted < 2:
            raise InvalidInputError(f"`fitted` must be an integer of 2 or more, got {self.fitted!r}.")

    def fit(self, rows: ArrayLike, targets: ArrayLike) -> Self:
        """Train on `(n, features)` and `(n,)`, standardised."""
        self._rows = Rows(squared=(np.asarray(rows, dtype=np.float64),))
        self._targets = np.asarray(targets, dtype=np.float64)
        some = np.unique(
            np.linspace(0, len(self._rows) - 1, min(self.fitted, len(self._rows))).round().astype(np.int64)
        )
        self._parameters = fit(self._rows.take(some.tolist()), self._targets[some])
        return self

    def predict(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Mean at each row, `(n,)`."""
        others = Rows(squared=(np.asarray(rows, dtype=np.float64),))
        return Conditioned(self._parameters, self._rows, self._targets).posterior(others).mean
