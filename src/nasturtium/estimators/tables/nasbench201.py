"""NAS-Bench-201: all 15,625 cells on three data sets, with a 12-epoch fidelity, latencies and zero-cost scores.

Reference:
    Dong, Yang 2020, "NAS-Bench-201", arXiv 2001.00326; latencies of Lee et al. 2021, "HELP", arXiv 2106.08630.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasturtium.errors import DataError
from nasturtium.estimators.tables.column import Column
from nasturtium.estimators.tables.files import Arrays, choose
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.trial.types import Fidelity
from nasturtium.zoo import nasbench201

FILE = "nasbench201/nasbench201.npz"
DATA: dict[str, tuple[str, tuple[int, int, int], int]] = {
    "cifar10": ("cifar10", (3, 32, 32), 10),
    "cifar100": ("cifar100", (3, 32, 32), 100),
    "imagenet16": ("ImageNet16-120", (3, 16, 16), 120),
}
"""The file's name of each data set, with the input's shape and the classes."""

OBSERVED = {"mean": "valid_acc_200", "one_seed": "valid_acc_200_one_seed"}
"""The column that a search observes as "accuracy": the mean over the 1 to 3 trainings, or a single one."""

EPOCHS, SHORT_EPOCHS = 200, 12
SCORES = {"zc_naswot": "naswot", "zc_ntk_monet": "ntk", "zc_nasi": "nasi", "zc_zen": "zen"}


def read(root: Path, part: str, *, source: Mapping[str, Any], observed: str = "mean") -> Tabular:
    """The table of one data set.

    "accuracy" is that of validation: after 200 epochs, and after the 12 of a separate short training (fidelity
    `epochs=0.06`). Cheap are "params", "mflops" (in the file's counting, with pooling and norms), the zero-cost scores
    "naswot", "ntk", "nasi", "zen" (NaN where they failed), and "latency_<device>_<batch>" in seconds, measured of
    the CIFAR-100 network. For the report only: "test_accuracy" and "mean_accuracy", that of validation over the seeds,
    which the noisy variant's regret is measured with. The file has no training times, so a full evaluation counts as
    1 s on the simulated clock.

    Args:
        root: Folder of data sets.
        part: "cifar10", "cifar100" or "imagenet16".
        source: How it is opened again.
        observed: "mean", or "one_seed" for the noise of a single training.
    """
    title, shape, classes = choose("data set of NAS-Bench-201", part, DATA)
    seen = choose("observed column of NAS-Bench-201", observed, OBSERVED)
    space = nasbench201.space(shape)
    with Arrays(root / FILE) as arrays:
        place = _place(arrays, title)
        columns = [
            Column(metric="accuracy", values=arrays[seen][:, place] / 100.0),
            Column(
                metric="accuracy", values=arrays["valid_acc_12"][:, place] / 100.0,
                fidelity=Fidelity(epochs=SHORT_EPOCHS / EPOCHS),
            ),
            Column(metric="test_accuracy", values=arrays["test_acc_200"][:, place] / 100.0, role="test"),
            Column(metric="mean_accuracy", values=arrays["valid_acc_200"][:, place] / 100.0, role="test"),
            Column(metric="params", values=arrays["params"][:, place], role="cheap"),
            Column(metric="mflops", values=arrays["mflops"][:, place], role="cheap"),
        ]  # fmt: skip
        for key, name in SCORES.items():
            values = arrays[key][:, place]
            if not np.isnan(values).all():
                columns.append(Column(metric=name, values=values, role="cheap", missing=True))
        latency = arrays["latency_ms"]
        for number, device in enumerate(arrays["latency_devices"]):
            columns.append(Column(metric=f"latency_{device}", values=latency[:, number] / 1000.0, role="cheap"))
        rows = _rows(arrays, space)
    return Tabular(
        name=f"nasbench201/{part}", space=space, rows=rows, columns=columns, input_shape=shape, classes=classes,
        source=source,
    )  # fmt: skip


def _place(arrays: Arrays, title: str) -> int:
    found = np.flatnonzero(arrays["datasets"] == title)
    if len(found) != 1:
        raise DataError(f"The file '{arrays.path}' must have the data set {title!r}; it has {arrays['datasets']!r}.")
    return int(found[0])


def _rows(arrays: Arrays, space: Any) -> np.ndarray[Any, Any]:
    """Decision indices of all rows: the file's codes, put in the space's order of edges and of operations."""
    known = list(nasbench201.OPERATIONS)
    names = [str(name) for name in arrays["op_names"]]
    if sorted(names) != sorted(known):
        raise DataError(f"The file '{arrays.path}' must have the operations {known}, got {names}.")
    codes = np.array([known.index(name) for name in names])[arrays["ops"]]
    edges = [f"edge_{source}_{target}" for source, target in arrays["edges"].tolist()]
    rows = np.empty((len(codes), len(edges)), dtype=np.int8)
    for number, edge in enumerate(edges):
        rows[:, space.decision(edge).position] = codes[:, number]
    return rows
