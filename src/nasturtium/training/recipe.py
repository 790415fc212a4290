"""How to train one network: a frozen value, the same for every network of a comparison. Loads no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nasturtium.errors import InvalidInputError
from nasturtium.tasks.task import Augmentation

RECIPE_VERSION = 1
OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("auto", "float32", "bfloat16")
LAYOUTS = ("auto", "contiguous", "channels_last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train one network. The defaults suit small networks on small images.

    Args:
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw" (betas 0.9 and 0.999).
        learning_rate: Peak of the schedule; None for the rule of `peak_learning_rate`.
        momentum: Of SGD, in [0, 1).
        weight_decay: On weights of convolutions and linear layers only, never on norms and biases; None for 5e-4 with
            SGD and 0.05 with AdamW (which multiplies it by the learning rate).
        batch_size: None for 64 below 20,000 train images, else 128. Fewer images than a batch are one batch.
        warmup: Share of all steps over which the learning rate rises linearly; then half a cosine down to zero.
        label_smoothing: In [0, 1).
        augment: "auto" for what the task says of its images, "none", or an `Augmentation`.
        ema: Decay of an exponential average of the weights, which then replaces them at the end; None for none.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 on GPUs that have it, else float32.
        memory_format: "contiguous", "channels_last", or "auto": channels_last on GPU, and on CPU for networks with
            depthwise or dilated convolutions or pooling, where it was measured to be faster.
        clip: Largest norm of the gradient, or None.
        auxiliary_weight: Weight of the loss of each training-only output (Szegedy et al. 2015 use 0.3, DARTS 0.4).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    batch_size: int | None = None
    warmup: float = 0.1
    label_smoothing: float = 0.05
    augment: Literal["auto", "none"] | Augmentation = "auto"
    ema: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    clip: float | None = None
    auxiliary_weight: float = 0.4

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("memory_format", self.memory_format, LAYOUTS)
        if not isinstance(self.augment, Augmentation):
            _one_of("augment", self.augment, ("auto", "none"))
        _within("learning_rate", self.learning_rate, 0.0, float("inf"), low_open=True)
        _within("momentum", self.momentum, 0.0, 1.0)
        _within("weight_decay", self.weight_decay, 0.0, float("inf"))
        _within("warmup", self.warmup, 0.0, 1.0)
        _within("label_smoothing", self.label_smoothing, 0.0, 1.0)
        _within("ema", self.ema, 0.0, 1.0)
        _within("clip", self.clip, 0.0, float("inf"), low_open=True)
        _within("auxiliary_weight", self.auxiliary_weight, 0.0, float("inf"))
        if self.batch_size is not None and (not isinstance(self.batch_size, int) or self.batch_size < 2):
            raise InvalidInputError(f"`batch_size` must be an integer of 2 or more, or None, got {self.batch_size!r}.")

    def batch_for(self, images: int) -> int:
        """Batch size for so many train images."""
        wanted = self.batch_size or (64 if images < 20_000 else 128)
        return min(wanted, images)

    def peak_learning_rate(self, batch: int) -> float:
        """Peak learning rate: 0.1 a batch of 64, linear in the batch, for SGD; 1e-2, square root, for AdamW."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.1 * batch / 64 if self.optimizer == "sgd" else 1e-2 * (batch / 64) ** 0.5

    @property
    def decay(self) -> float:
        """The weight decay in use."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 5e-4 if self.optimizer == "sgd" else 0.05

    def augmentation(self, of_task: Augmentation) -> Augmentation:
        """The augmentation in use, for a task that says `of_task` of its images."""
        if isinstance(self.augment, Augmentation):
            return self.augment
        return of_task if self.augment == "auto" else Augmentation()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"version": RECIPE_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`; keys that are missing take their defaults.

        Raises:
            InvalidInputError: an unknown key (the nearest is named), a later version, or a value out of range.
        """
        values = dict(data)
        if values.pop("version", RECIPE_VERSION) != RECIPE_VERSION:
            raise InvalidInputError(f"A recipe must have version {RECIPE_VERSION}, got {data['version']!r}.")
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise InvalidInputError(f"A recipe has no {key!r}. Known: {', '.join(known)}.{hint}")
        if isinstance(values.get("augment"), Mapping):
            values["augment"] = Augmentation(**values["augment"])
        return cls(**values)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInputError(f"`{name}` must be one of {', '.join(map(repr, known))}, got {value!r}.")


def _within(name: str, value: float | None, low: float, high: float, *, low_open: bool = False) -> None:
    """Check a number of a half-open range; None passes."""
    if value is None:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not low <= value < high
        or (low_open and value == low)
    ):
        raise InvalidInputError(f"`{name}` must be in {'(' if low_open else '['}{low:g}, {high:g}), got {value!r}.")
