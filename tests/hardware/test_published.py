"""Readers of published latencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasturtium.errors import DataError, UnknownNameError
from nasturtium.hardware.published import read_fbnet, read_nasbench201, read_once_for_all
from nasturtium.hardware.regression import fit_regression
from nasturtium.hardware.report import error_report


def needed(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no published latencies: {path} is absent")
    return path


def test_once_for_all(data_root: Path) -> None:
    rows = read_once_for_all(needed(data_root / "ofa_mbv3" / "latency_table_note10.csv"))
    assert len(rows) == 1632
    key = (160, "Conv", "160x160x3", "80x80x24", 0, 0, 0, 0, 0, 0)
    assert rows[key] == pytest.approx(0.495562248995984e-3)


def test_nasbench201(data_root: Path) -> None:
    data = read_nasbench201(needed(data_root / "nasbench201" / "nasbench201.npz"))
    assert data.seconds.shape == (15625, 27)
    assert data.choices.shape == (15625, 6)
    assert [d for d in data.devices if data.is_rounded(d)] == ["essential_ph_1", "pixel2", "samsung_a50", "samsung_s7"]
    with pytest.raises(UnknownNameError, match="raspi5"):
        data.on("raspi5")


def test_a_predictor_of_fbnet(data_root: Path) -> None:
    """The bar on a device that repeats: 95 % within 10 % (here within 5 %), fitted on 300 networks."""
    data = read_fbnet(needed(data_root / "latency_fbnet" / "fbnet_latency.npz"))
    rows, seconds = data.features.of_indices(data.choices), data.on("raspi4")
    order = np.random.default_rng(0).permutation(len(rows))
    fit = fit_regression(rows[order[:300]], seconds[order[:300]])
    assert error_report(fit.predict(rows[order[300:]]), seconds[order[300:]]).within_5 > 0.99


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    for read in (read_fbnet, read_nasbench201, read_once_for_all):
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path / "none")
