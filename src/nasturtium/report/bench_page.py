"""The report of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nasturtium.bench import Comparison, Summary
from nasturtium.errors import StoreError
from nasturtium.report.page import STYLE


def write(comparison: Comparison, summary: Summary, path: str | Path) -> Path:
    """Write the report; it is replaced at once or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".html")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page(comparison, summary))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except OSError as error:
        raise StoreError(f"The report cannot be written to {str(target)!r}: {error.strerror or error}.") from error
    return target


def page(comparison: Comparison, summary: Summary) -> str:
    """The whole report as HTML text."""
    return f"<!doctype html><style>{STYLE}</style>{len(comparison.runs)} {summary.metric}"
