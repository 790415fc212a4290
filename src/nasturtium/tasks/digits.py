"""Scikit-learn's handwritten digits: 1,797 real grey images of 8 x 8 pixels, shipped with it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError
from nasturtium.tasks.task import Augmentation, Split

CLASSES = tuple("0123456789")
AUGMENTATION = Augmentation(shift=1)


def read_digits() -> Split:
    """All digits, in scikit-learn's order, as grey images in [0, 255].

    The source's 17 grey levels 0 … 16 become `round(level * 255 / 16)`. The file is read where scikit-learn keeps it:
    importing scikit-learn takes two seconds, the file a few hundredths.

    Raises:
        DataError: scikit-learn is not installed, or lacks the file.

    Reference:
        Alpaydin, Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
    """
    spec = find_spec("sklearn")
    path = Path(spec.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if spec else None
    if path is None:
        raise DataError(
            "The task 'digits' is part of scikit-learn, which is not installed: `pip install scikit-learn`."
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.float64) if path.is_file() else _from_scikit_learn()
    levels = table[:, :64].reshape(-1, 1, 8, 8)
    return Split(images=np.rint(levels * (255 / 16)).astype(np.uint8), labels=table[:, 64].astype(np.int64))


def _from_scikit_learn() -> NDArray[np.float64]:
    """The same table through the public function, for releases that keep the file elsewhere."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  two seconds; needed only here

    images, labels = load_digits(return_X_y=True)
    return np.concatenate([images, labels[:, None]], axis=1)
