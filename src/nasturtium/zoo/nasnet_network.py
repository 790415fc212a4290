"""The network around the cells of NASNet, AmoebaNet and PNASNet: stem, stages with reductions between, classifier.

Reference:
    Zoph et al. 2018, arXiv 1707.07012, figure 2; the authors' code (`nasnet.py`, and `pnasnet.py` of Liu et al. 2018).
"""

from __future__ import annotations

from typing import Any

from nasturtium.blocks.nasnet_cell import PADDINGS, Setting
from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block

STEMS = ("cifar", "imagenet")


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
        skip_reduction_input: Whether the cell after a reduction has the input of the reduction's predecessor as
            previous state, and not of the reduction itself (the authors' `skip_reduction_layer_input`).
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
        if self.cells < 3:
            raise InvalidInputError(f"`cells` must be at least 3, one a stage, got {self.cells!r}.")
        if self.width < (4 if self.stem == "imagenet" else 1):
            raise InvalidInputError(f"`width` must be at least 4 with stem 'imagenet', else 1, got {self.width!r}.")
        if self.stem not in STEMS:
            raise InvalidInputError(f"`stem` must be one of {', '.join(STEMS)}, got {self.stem!r}.")
        if self.padding not in PADDINGS:
            raise InvalidInputError(f"`padding` must be one of {', '.join(PADDINGS)}, got {self.padding!r}.")

    @property
    def reductions(self) -> tuple[int, int]:
        """Numbers of the normal cells at which the size is halved."""
        return (self.cells // 3, 2 * self.cells // 3)

    def forward(self, x: Tensor) -> Any:
        """The logits; with an auxiliary classifier, a pair with its logits, which exist in training only."""
        image = x
        outputs, x, number = self._stem(x)
        auxiliary = None
        scaling = 1
        for cell in range(self.cells):
            before = outputs[-2]
            reduces = cell in self.reductions
            scaling *= 2 if reduces else 1
            if reduces and self.reduction is not None:
                name = f"reduction_{self.reductions.index(cell)}"
                x = self._cell(name, (x, before, image), number, self.width * scaling, strided=True)
                outputs.append(x)
                number += 1
                if not self.skip_reduction_input:
                    before = outputs[-2]
            strided = reduces and self.reduction is None
            x = self._cell(f"cell_{cell}", (x, before, image), number, self.width * scaling, strided=strided)
            outputs.append(x)
            number += 1
            if self.auxiliary and cell == self.reductions[1] - 1:
                auxiliary = self._auxiliary(x)
        with x.scope("head"):
            x = ops.flatten(ops.global_pool(ops.activation(x, "relu")))
            x = ops.dropout(x, self.dropout)
            x = ops.linear(x, x.context.classes if self.classes is None else self.classes)
        return x if auxiliary is None else (x, auxiliary)

    def _stem(self, x: Tensor) -> tuple[list[Tensor | None], Tensor, int]:
        """The outputs of the stem (None before the first), the last of them, and the number of its cells."""
        image = x
        cifar = self.stem == "cifar"
        width = self.stem_width if self.stem_width is not None else 3 * self.width if cifar else 32
        with x.scope("stem"):
            x = ops.conv(x, width, 3) if cifar else ops.conv(x, width, 3, stride=2, padding=0)
            x = ops.batch_norm(x, eps=self.eps)
        outputs: list[Tensor | None] = [None, x]
        if cifar:
            return outputs, x, 0
        for number, part in enumerate((4, 2)):
            x = self._cell(f"stem_{number}", (x, outputs[-2], image), number, self.width // part, strided=True)
            outputs.append(x)
        return outputs, x, 2

    def _cell(
        self, name: str, inputs: tuple[Tensor, Tensor | None, Tensor], number: int, width: int, *, strided: bool
    ) -> Tensor:
        """One place: inputs are the cell's own two and the network's."""
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
            return cell(*inputs, setting)  # type: ignore[no-any-return]

    def _auxiliary(self, x: Tensor) -> Tensor:
        if min(x.shape[1:]) < 5:
            raise ShapeError(
                f"The auxiliary classifier needs a map of at least 5 x 5 before the second reduction, got {x.shape}: "
                "give larger images or `auxiliary=False`."
            )
        with x.scope("auxiliary"):
            x = ops.avg_pool(ops.activation(x, "relu"), 5, stride=3, padding=0)
            with x.scope("project"):
                x = ops.activation(ops.batch_norm(ops.conv(x, 128, 1), eps=self.eps), "relu")
            with x.scope("whole"):
                x = ops.conv(x, 768, (x.height, x.width), padding=0)
                x = ops.activation(ops.batch_norm(x, eps=self.eps), "relu")
            x = ops.linear(ops.flatten(x), x.context.classes if self.classes is None else self.classes)
            return ops.training_only(x)
