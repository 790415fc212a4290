"""FBNet's space: the measured latency of 5,000 networks on 27 devices, without accuracies.

Reference:
    Lee et al. 2021, "HELP: Hardware-adaptive Efficient Latency Prediction for NAS via Meta-Learning",
    arXiv 2106.08630; the space of Wu et al. 2019, "FBNet", arXiv 1812.03443.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasturtium.blocks import Classifier, Identity, Sequential
from nasturtium.errors import InvalidInputError
from nasturtium.estimators.tables.column import Column
from nasturtium.estimators.tables.files import Arrays
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.space import Space, one_of
from nasturtium.zoo.fbnet import CANDIDATES, SKIP, STAGES, FBNetBlock

FILE = "latency_fbnet/fbnet_latency.npz"
INPUT_SHAPE, CLASSES = (3, 32, 32), 100
"""Of CIFAR-100."""


def read(root: Path, part: str, *, source: Mapping[str, Any]) -> Tabular:
    """The table.

    Metrics are "latency_<device>_<batch>" in seconds. The file's networks have "skip" in layers where the paper's
    space has none (the first of a stage), so `table.space` lists its rows over a chain of 22 layers with the nine
    candidates each: its decisions "layer_0" to "layer_21" are the file's, its blocks stand for them, and the strides
    and the fallback of "skip" in HELP's networks are not reproduced.

    Args:
        root: Folder of data sets.
        part: Nothing.
        source: How it is opened again.
    """
    if part:
        raise InvalidInputError(f"The table 'latency_fbnet' has no parts, got {part!r}.")
    with Arrays(root / FILE) as arrays:
        names = [str(name) for name in arrays["op_names"]]
        latency = arrays["latency_ms"] / 1000.0
        columns = [
            Column(metric=f"latency_{device}", values=latency[:, i]) for i, device in enumerate(arrays["devices"])
        ]
        space = _space(names)
        positions = [space.decision(f"layer_{i}").position for i in range(len(space.decisions))]
        rows = np.empty_like(arrays["arch"], dtype=np.int8)
        rows[:, positions] = arrays["arch"]
    return Tabular(
        name="latency_fbnet", space=Space.from_table(space, rows), rows=rows, columns=columns, input_shape=INPUT_SHAPE,
        classes=CLASSES, source=source,
    )  # fmt: skip


def _space(names: list[str]) -> Space:
    widths = [width for width, layers, _ in STAGES for _ in range(layers)]
    layers = [
        one_of(*[_block(name, width) for name in names], name=f"layer_{number}") for number, width in enumerate(widths)
    ]
    return Space(Sequential(*layers, Classifier()))


def _block(name: str, width: int) -> Any:
    return Identity() if name == SKIP else FBNetBlock(width, **CANDIDATES[name])
