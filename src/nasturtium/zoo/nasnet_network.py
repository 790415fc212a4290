"""The network around the cells of NASNet, AmoebaNet and PNASNet: stem, stages with reductions between, classifier.

Reference:
    Zoph et al. 2018, arXiv 1707.07012, figure 2; the authors' code (`nasnet.py`, and `pnasnet.py` of Liu et al. 2018).
"""

from __future__ import annotations

from typing import Any, ClassVar

from nasturtium.blocks.nasnet_cell import PADDINGS, Setting
from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block

Marks = tuple[Tensor, Tensor]
"""See `NASNetCell.forward`."""

STEMS = ("cifar", "imagenet")


class Head(Block):
    """ReLU, mean over all positions, dropout, linear layer.

    It is a block of its own, as is `Auxiliary`, so that the network's `forward` does not depend on how many states
    the last cell concatenates.

    Args:
        dropout: Rate before the last layer.
        classes: Number of classes; None takes it from the task.
    """

    dropout: float = 0.0
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = ops.flatten(ops.global_pool(ops.activation(x, "relu")))
        x = ops.dropout(x, self.dropout)
        return ops.linear(x, x.context.classes if self.classes is None else self.classes)


class Auxiliary(Block):
    """The authors' auxiliary classifier, which exists in training only.

    Args:
        eps: Of the norms.
        classes: Number of classes; None takes it from the task.

    Raises:
        ShapeError: the map is smaller than 5 x 5.
    """

    eps: float = 1e-3
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[1:]) < 5:
            raise ShapeError(
                f"The auxiliary classifier needs a map of at least 5 x 5 before the second reduction, got {x.shape}: "
                "give larger images or `auxiliary=False`."
            )
        x = ops.avg_pool(ops.activation(x, "relu"), 5, stride=3, padding=0)
        with x.scope("project"):
            x = ops.activation(ops.batch_norm(ops.conv(x, 128, 1), eps=self.eps), "relu")
        with x.scope("whole"):
            x = ops.conv(x, 768, (x.height, x.width), padding=0)
            x = ops.activation(ops.batch_norm(x, eps=self.eps), "relu")
        x = ops.linear(ops.flatten(x), x.context.classes if self.classes is None else self.classes)
        return ops.training_only(x)


class NASNet(Block):
    """The network around the cells: stem, normal cells with reductions between, classifier.

    Args:
        normal: The cell that keeps the size.
        reduction: The cell that halves it, put before the normal cell of that place; None: the normal cell of that
            place is strided (PNASNet).
        width: Channels F of the first cells' states; each reduction doubles them.
        cells: Normal cells in all, the authors' `num_cells`; they are 3N, in three stages.
        stem: "cifar", a 3x3 convolution; or "imagenet", a 3x3 convolution of stride 2 without padding and two reducing
            cells of F/4 and F/2.
        stem_width: Channels of the stem's convolution; None: 3F for "cifar", 32 for "imagenet".
        skip_reduction_input: Whether the cell after a reduction has the reduction's own previous state, and not its
            current input (the authors' `skip_reduction_layer_input`); without a reduction cell, always so.
        padding: See `blocks.nasnet_cell.PADDINGS`.
        drop_path: Rate of the last cell; it grows linearly with depth from the first one on (the authors' "v3" at
            the end of training).
        auxiliary: Whether there is an auxiliary classifier, in training only, before the second reduction.
        dropout: Before the last layer.
        eps: Of the norms.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: fewer than three cells, or an unknown stem or padding.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("width", "stem_width")
    depth_fields: ClassVar[tuple[str, ...]] = ("cells",)
    normal: Any
    reduction: Any = None
    width: int = 32
    cells: int = 6
    stem: str = "cifar"
    stem_width: int | None = None
    skip_reduction_input: bool = False
    padding: str = "same"
    drop_path: float = 0.0
    auxiliary: bool = False
    dropout: float = 0.0
    eps: float = 1e-3
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.cells, int) and self.cells < 3:
            raise InvalidInputError(f"`cells` must be at least 3, one a stage, got {self.cells!r}.")
        least = 4 if self.stem == "imagenet" else 1
        if isinstance(self.width, int) and self.width < least:
            raise InvalidInputError(f"`width` must be at least {least} with stem {self.stem!r}, got {self.width!r}.")
        for name, known in (("stem", STEMS), ("padding", PADDINGS)):
            value = getattr(self, name)
            if isinstance(value, str) and value not in known:
                raise InvalidInputError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")

    @property
    def reductions(self) -> tuple[int, int]:
        """Numbers of the normal cells at which the size is halved."""
        return (self.cells // 3, 2 * self.cells // 3)

    def forward(self, x: Tensor) -> Any:
        """The logits; with an auxiliary classifier, a pair with its logits, which exist in training only."""
        image, x = x, self._stem(x)
        if image.shape == x.shape:
            raise ShapeError(
                f"The stem must change the image's shape, which is {image.shape} before and after: give another "
                "`width` or `stem_width`."
            )
        marks = (x, image)
        outputs: list[Tensor | None] = [None, x]
        number = 0
        if self.stem == "imagenet":
            for number, part in enumerate((4, 2), start=1):
                x = self._cell(
                    f"stem_{number - 1}", (x, outputs[-2], marks), number - 1, self.width // part, strided=True
                )
                outputs.append(x)
        auxiliary = None
        scaling = 1
        for cell in range(self.cells):
            before = outputs[-2]
            reduces = cell in self.reductions
            scaling *= 2 if reduces else 1
            if reduces and self.reduction is not None:
                name = f"reduction_{self.reductions.index(cell)}"
                x = self._cell(name, (x, before, marks), number, self.width * scaling, strided=True)
                outputs.append(x)
                number += 1
                if not self.skip_reduction_input:
                    before = outputs[-2]
            strided = reduces and self.reduction is None
            x = self._cell(f"cell_{cell}", (x, before, marks), number, self.width * scaling, strided=strided)
            outputs.append(x)
            number += 1
            if self.auxiliary and cell == self.reductions[1] - 1:
                auxiliary = Auxiliary(self.eps, self.classes)(x)
        x = Head(self.dropout, self.classes)(x)
        return x if auxiliary is None else (x, auxiliary)

    def _stem(self, x: Tensor) -> Tensor:
        cifar = self.stem == "cifar"
        width = self.stem_width if self.stem_width is not None else 3 * self.width if cifar else 32
        with x.scope("stem"):
            x = ops.conv(x, width, 3) if cifar else ops.conv(x, width, 3, stride=2, padding=0)
            return ops.batch_norm(x, eps=self.eps)

    def _cell(
        self, name: str, inputs: tuple[Tensor, Tensor | None, Marks], number: int, width: int, *, strided: bool
    ) -> Tensor:
        """Run the cell of a place, the `number`-th of all."""
        total = self.cells + (2 if self.stem == "imagenet" else 0) + (2 if self.reduction is not None else 0)
        padding = self.padding
        if padding == "pad_then_crop" and (not strided or name == "stem_0"):
            padding = "tf_same"  # Cadene's port pads and crops in the reducing cells but the first
        setting = Setting(
            width=width,
            stride=2 if strided else 1,
            padding=padding,
            drop_path=self.drop_path * (number + 1) / total,
            eps=self.eps,
        )
        cell = self.reduction if strided and self.reduction is not None else self.normal
        with inputs[0].scope(name):
            return cell(*inputs, setting)
