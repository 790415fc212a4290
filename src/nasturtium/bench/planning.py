"""Which cells a comparison has, and which of them are there already."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from nasturtium.bench.cells import Cell, Conditions
from nasturtium.bench.run import Run
from nasturtium.bench.tables import Table, extremes, load_table
from nasturtium.errors import StoreError, StudyMismatchError
from nasturtium.strategies import Named
from nasturtium.study.codec import describe
from nasturtium.study.identity import differences, versions


def plan(
    strategies: Sequence[str], tables: Sequence[str], seeds: Sequence[int], conditions: Conditions, directory: Path
) -> list[Cell]:
    """Every cell, seed by seed, so that a comparison that is cut short has as many of each.

    Raises:
        InvalidInputError: a strategy or a table cannot be made.
    """
    named = [Named.parse(text) for text in strategies]
    made = {str(name): name.make() for name in named}
    known: dict[str, tuple[Table, dict[str, Any]]] = {}
    for name in tables:
        table = load_table(name, conditions.data_root, conditions.observed)
        known[name] = (table, extremes(table, conditions.objectives, conditions.constraints))
    cells = []
    facts = {"versions": versions()}
    for seed in seeds:
        for name, (table, bounds) in known.items():
            for label, strategy in made.items():
                settings = conditions.settings() | {
                    "strategy": describe(strategy, "strategy"), "table": name, "fingerprint": table.fingerprint,
                    "seed": seed,
                }  # fmt: skip
                path = directory / slug(name) / slug(label) / f"{seed:05d}.npz"
                cells.append(
                    Cell(
                        strategy=label, table=name, seed=seed, conditions=conditions, settings=settings, bounds=bounds,
                        facts=facts | {"code": code_of(strategy)}, path=path,
                    )
                )  # fmt: skip
    return cells


def stored_run(cell: Cell) -> Run | None:
    """The run of a cell, if it is there.

    Raises:
        StudyMismatchError: it was made with other settings.
    """
    if not cell.path.exists():
        return None
    try:
        run = Run.load(cell.path)
    except StoreError:
        return None  # a damaged file is made again
    found = differences(run.settings, cell.settings)
    if found:
        shown = "; ".join(f"{name}: stored {old!r}, given {new!r}" for name, old, new in found)
        raise StudyMismatchError(
            f"{str(cell.path)!r} was run with other settings than {cell.label} ({shown}). Take another folder, or "
            "run again with redo=True (`--redo`) to make such cells anew."
        )
    return run


def slug(text: str) -> str:
    """A text as the name of a folder; a digest keeps different ones apart."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")[:60]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def code_of(strategy: object) -> str:
    """Digest of the source of the strategy's module; empty where there is none."""
    try:
        source = inspect.getsource(sys.modules[type(strategy).__module__])
    except (OSError, KeyError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def clean(directory: Path) -> None:
    """Remove what processes that are gone left half written."""
    for path in directory.glob("*/*/.*.tmp"):
        parts = path.name.split(".")
        if not (parts[-2].isdigit() and _lives(int(parts[-2]))):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def load_runs(directory: Path) -> list[Run]:
    """All runs of a folder.

    Raises:
        StoreError: there is none, or one cannot be read.
    """
    paths = sorted(directory.glob("*/*/*.npz"))
    if not paths:
        raise StoreError(f"There are no runs in {str(directory)!r}: run `nasturtium bench … -o {directory}` first.")
    return [Run.load(path) for path in paths]
