"""Fixtures for all tests: where the shared data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of shared data sets; tests that need it are skipped where it is absent."""
    given = os.environ.get("NASTURTIUM_DATA")
    folder = Path(given) if given else PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data: set NASTURTIUM_DATA, or put them in {folder}")
    return folder


@pytest.fixture(scope="session")
def reference(data_root: Path) -> Path:
    """The file of reference values, beside the shared data; tests that need it are skipped where it is absent."""
    path = data_root.parent / "reference_values.json"
    if not path.is_file():
        pytest.skip(f"no reference values: {path} is absent")
    return path
