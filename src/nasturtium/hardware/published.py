"""Published latencies: the table of Once-for-All, and networks of FBNet and NAS-Bench-201 measured on many devices.

Readers only: the files are the user's.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import DataError, UnknownNameError
from nasturtium.hardware.features import CategoryFeatures

Key = tuple[int, str, str, str, int, int, int, int, int, int]
"""Resolution, operation, input, output, hidden channels, kernel, stride, and whether residual, gated, h-swish."""

WHOLE = 1e-9
"""Latencies that are this near to whole milliseconds were rounded to them."""


def read_once_for_all(path: str | Path) -> dict[Key, float]:
    """The rows of `latency_table_note10.csv`: mean latencies in seconds on a Samsung Note10.

    A network's latency is the sum of its rows; `nasturtium.supernets.published_once_for_all` sums them.

    Raises:
        DataError: the file cannot be read, or is no such table.

    Reference:
        Cai et al. (2020), "Once-for-All", arXiv 1908.09791; the authors' code (`tutorial/`, MIT).
    """
    try:
        with Path(path).open(newline="") as file:
            return {_key(row): float(row["mean_ms"]) / 1e3 for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"The latency table '{path}' cannot be read ({error!r}): it must have the columns resolution, op, input, "
            "output, expand, kernel, stride, idskip, se, hs and mean_ms."
        ) from error


def _key(row: dict[str, str]) -> Key:
    numbers = [int(row[name] or 0) for name in ("expand", "kernel", "stride", "idskip", "se", "hs")]
    return (int(row["resolution"]), row["op"], row["input"], row["output"], *numbers)  # type: ignore[return-value]


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredNetworks:
    """Networks of one space, each measured on several devices."""

    name: str
    choices: NDArray[np.int64]
    """`(networks, decisions)`, the option of each; all decisions have the same options."""
    options: tuple[str, ...]
    devices: tuple[str, ...]
    seconds: NDArray[np.float64]
    """`(networks, devices)`."""

    @property
    def features(self) -> CategoryFeatures:
        """What a predictor reads of them."""
        count = self.choices.shape[1]
        return CategoryFeatures(counts=(len(self.options),) * count, groups=(0,) * count)

    def on(self, device: str) -> NDArray[np.float64]:
        """`(networks,)`, in seconds.

        Raises:
            UnknownNameError: there is no such device.
        """
        if device not in self.devices:
            raise UnknownNameError("device", device, self.devices)
        return self.seconds[:, self.devices.index(device)]

    def is_rounded(self, device: str) -> bool:
        """Whether a device's latencies were rounded to whole milliseconds."""
        milliseconds = self.on(device) * 1e3
        return bool(np.all(np.abs(milliseconds - np.round(milliseconds)) <= WHOLE * np.maximum(1, milliseconds)))


def read_fbnet(path: str | Path) -> MeasuredNetworks:
    """`fbnet_latency.npz`: 5,000 networks of FBNet's space on 27 devices.

    Raises:
        DataError: the file cannot be read, or is no such file.

    Reference:
        Lee et al. (2021), "HELP", arXiv 2106.08630; the authors' data, after HW-NAS-Bench (Li et al. 2021).
    """
    return _read(path, "FBNet", "arch", "devices")


def read_nasbench201(path: str | Path) -> MeasuredNetworks:
    """`nasbench201.npz`: all 15,625 cells of NAS-Bench-201 on 27 devices.

    Raises:
        DataError: the file cannot be read, or is no such file.

    Reference:
        As of `read_fbnet`.
    """
    return _read(path, "NAS-Bench-201", "ops", "latency_devices")


def _read(path: str | Path, name: str, choices: str, devices: str) -> MeasuredNetworks:
    try:
        with np.load(path, allow_pickle=False) as held:
            return MeasuredNetworks(
                name=name,
                choices=held[choices].astype(np.int64),
                options=tuple(map(str, held["op_names"])),
                devices=tuple(map(str, held[devices])),
                seconds=held["latency_ms"].astype(np.float64) / 1e3,
            )
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"The latencies of {name} cannot be read from '{path}': {error!r}.") from error
