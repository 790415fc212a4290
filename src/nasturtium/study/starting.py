"""A method that starts from weights that the user has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasturtium.study.codec import describe, incidental_of, restore

if TYPE_CHECKING:
    from nasturtium.space import Space
    from nasturtium.supernets import Run, SearchResult


@dataclass(frozen=True)
class StartFrom:
    """A method whose shared weights begin at given ones, at the same paths; what the file lacks begins at random.

    As text, every method has an option for it: `method="enas(epochs=20, initial='weights.safetensors')"`.

    Args:
        weights: A file of safetensors, such as the `weights.safetensors` of another search of the space, or what
            `nas.supernets.save` wrote; or a state dict of PyTorch (`.pt`, `.pth`). Names are the supernet's.
        method: A `Searcher`, such as `nas.supernets.DARTS()`.
        digest: SHA-256 of the file; filled in. It is among the settings of a study, which refuses another one; the same
            file at another place is the same.

    Raises:
        InvalidInputError: the file cannot be read.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> path = tempfile.mkdtemp() + "/mine.safetensors"
        >>> save_file({"weights.layers.0.conv.weight": torch.zeros(4, 3, 3, 3)}, path)
        >>> from nasturtium.supernets import ENAS
        >>> StartFrom(path, ENAS(epochs=20)).epochs
        20
    """

    weights: str | Path
    method: Any
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.digest is None:
            object.__setattr__(self, "digest", self._digest(None))

    def _digest(self, expected: str | None) -> str:
        from nasturtium.supernets.storage import file_digest  # noqa: PLC0415  (loads torch)

        return file_digest(Path(self.weights), expected)

    @property
    def name(self) -> str:
        """Of the method's class."""
        return type(self.method).__name__

    @property
    def epochs(self) -> int:
        """Of the method, 0 where it has none."""
        return int(getattr(self.method, "epochs", 0))

    @property
    def incidental(self) -> tuple[str, ...]:
        """Settings that change no result: where the file is, and the method's own."""
        return ("weights", *incidental_of(self.method, "method"))

    def check(self, space: Space, task: Any) -> None:
        """As the method's."""
        self.method.check(space, task)

    def search(self, space: Space, run: Run) -> SearchResult:
        """As the method's, from the given weights.

        Raises:
            InvalidInputError: the file has changed, or has a name or a shape that the supernet has not.
            StoreError: it holds no weights.
        """
        from nasturtium.supernets.storage import read_weights  # noqa: PLC0415  (loads torch)

        self._digest(self.digest)
        found: SearchResult = self.method.search(space, replace(run, initial=read_weights(Path(self.weights))))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"weights": str(self.weights), "digest": self.digest, "method": describe(self.method, "method")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> StartFrom:
        """Inverse of `to_dict`; the file need not be there before the search starts."""
        return cls(data["weights"], restore(data["method"], "method", trust=trust), data["digest"])
