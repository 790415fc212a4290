"""Zero-cost scores as features: known of a network before it is trained, for strategies that learn from trials."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from nasturtium.errors import InvalidInputError, StoreError, UnknownNameError
from nasturtium.estimators.protocol import Naming
from nasturtium.space import Architecture

IMAGES = 32
"""Of the batch, drawn from the train split. The papers take 64 or 128; features are asked of hundreds of candidates."""
FOLDER = "features"


def asked_of(strategy: Any) -> tuple[str, ...]:
    """The features that a strategy asks for, and those within it that propose for it: their field `features`."""
    own = getattr(strategy, "features", ())
    names = [str(name) for name in own] if isinstance(own, Sequence) and not isinstance(own, str) else []
    if is_dataclass(strategy) and not isinstance(strategy, type):
        values = [getattr(strategy, f.name, None) for f in fields(strategy) if f.init]
        for part in values:
            if callable(getattr(part, "ask", None)) and callable(getattr(part, "tell", None)):
                names += asked_of(part)
    return tuple(dict.fromkeys(names))


@dataclass(slots=True)
class Scores:
    """Zero-cost scores of networks, each worked out once: equal networks (by their key) have one.

    All are of one batch of train images and one draw of weights, which the seed determines. What was worked out is
    also kept in a file, so that a search that goes on reads what it read before, and does not work it out again.

    Args:
        names: Of the scores.
        task: The data.
        seed: Of images and weights.
        threads: PyTorch's, meanwhile.
        device: Where; None for a GPU where there is one.
        folder: Of the file; None keeps all in memory.
    """

    names: tuple[str, ...]
    task: Any
    seed: int
    threads: int = 1
    device: str | None = None
    folder: Path | None = None
    _known: dict[str, dict[str, float]] | None = field(init=False, default=None)
    _estimator: Any = field(init=False, default=None)

    def of(self, architecture: Architecture, key: str) -> Mapping[str, float]:
        """The scores by name; NaN where one is not defined.

        Args:
            architecture: Closed.
            key: Equal for equal networks.

        Raises:
            StoreError: the file cannot be read or written.
            InvalidInputError: the task has too few train images.
        """
        if self._known is None:
            self._known = self._read()
        if key not in self._known:
            from nasturtium.estimators import Job  # noqa: PLC0415  (loads torch)

            job = Job(task=self.task, seed=self.seed, threads=self.threads, device=self.device)
            found = self._scorer().scores(architecture, job)
            self._write(key, found)
            self._known[key] = found
        return self._known[key]

    def _scorer(self) -> Any:
        if self._estimator is None:
            from nasturtium.estimators import ZeroCost  # noqa: PLC0415  (loads torch)

            self._estimator = ZeroCost(self.names, images=IMAGES, seed=self.seed)
        return self._estimator

    def _path(self) -> Path | None:
        if self.folder is None:
            return None
        facts = [self._scorer().fingerprint, self.task.fingerprint, self.device, self.threads]
        return self.folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.jsonl"

    def _read(self) -> dict[str, dict[str, float]]:
        path = self._path()
        try:
            lines = [] if path is None else path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            lines = []
        except (OSError, ValueError) as error:
            raise StoreError(f"Cannot read the features in '{path}': {error}.") from error
        found: dict[str, dict[str, float]] = {}
        for line in lines:
            try:
                key, values = json.loads(line)
            except ValueError:  # an empty line, or one that a power cut tore
                continue
            found[key] = {name: math.nan if value is None else value for name, value in values.items()}
        return found

    def _write(self, key: str, found: Mapping[str, float]) -> None:
        path = self._path()
        if path is None:
            return
        row = json.dumps([key, {name: None if math.isnan(value) else value for name, value in found.items()}])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n{row}\n")  # a line of its own, also after one that a power cut tore
        except OSError as error:
            raise StoreError(f"Cannot write the features to '{path}': {error}.") from error


class WithScores(Mapping[str, float]):
    """Cheap metrics with scores besides; a score is worked out when one is read.

    Args:
        cheap: What is known without.
        scores: Of the architecture, when called.
        names: Of the scores.
    """

    def __init__(self, cheap: Mapping[str, float], scores: Any, names: Sequence[str]) -> None:
        self._cheap, self._scores, self._names = cheap, scores, tuple(names)

    def __getitem__(self, name: str) -> float:
        return float(self._scores()[name]) if name in self._names else self._cheap[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names or name in self._cheap

    def __iter__(self) -> Iterator[str]:
        yield from self._cheap
        yield from self._names

    def __len__(self) -> int:
        return len(self._cheap) + len(self._names)


def check_names(names: Sequence[str], known: Sequence[str], estimator: Any) -> tuple[str, ...]:
    """Those features that are zero-cost scores.

    Args:
        names: Asked for.
        known: Cheap metrics that are known without.
        estimator: Of the search.

    Raises:
        UnknownNameError: one is neither.
        InvalidInputError: one is what the estimator measures.
    """
    wanted = [name for name in names if name not in known]
    if not wanted:
        return ()
    from nasturtium.estimators.zero_cost import PROXIES  # noqa: PLC0415  (loads torch)

    measured = estimator.known_metrics if isinstance(estimator, Naming) else {}
    for name in wanted:
        if name not in PROXIES:
            raise UnknownNameError("feature", name, [*known, *(n for n in PROXIES if n not in known)])
        if name in measured:
            raise InvalidInputError(
                f"The feature {name!r} is what the estimator measures, so nothing can be learnt from it: leave it out "
                "of `features`, or take an estimator that trains."
            )
    return tuple(wanted)
