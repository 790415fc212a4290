"""Heads of dense prediction: what turns a backbone's features into a class for each pixel, or boxes and their classes.

Segmentation: `ASPP`, `DeepLabDecoder`, `PixelClassifier`, and all three as `DeepLabHead`. Detection: `Laterals`, which
begin a feature pyramid, and `retinanet_head`. All are ordinary blocks: any field may be left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasturtium.blocks.conv import Conv
from nasturtium.blocks.layers import conv_norm_act
from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block

Size = tuple[int, ...]
"""Height and width, in pixels."""


class ASPP(Block):
    """Atrous spatial pyramid pooling: one image seen at several distances at once.

    A 1x1 convolution, a dense 3x3 convolution at each rate, and the image's mean stand side by side; a 1x1
    convolution joins them. In training a batch needs at least two images: the mean is normalised over the batch alone.

    Args:
        width: Output channels, and those of each branch.
        rates: Distances between taps, in pixels of the input.
        pooled: Whether the image's mean is a branch.

    Reference:
        Chen et al. (2017), "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv 1706.05587,
        section 3.3.
    """

    width: int = 256
    rates: tuple[Any, ...] = (6, 12, 18)
    pooled: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """Return an image of `width` channels, of the input's size."""
        branches = [conv_norm_act(x, self.width, name="point")]
        for number, rate in enumerate(self.rates):
            branches.append(conv_norm_act(x, self.width, 3, dilation=rate, name=f"rate_{number}"))
        if self.pooled:
            with x.scope("image"):
                y = conv_norm_act(ops.global_pool(x), self.width)
                branches.append(ops.resize(y, (x.height, x.width)))
        return conv_norm_act(ops.concat(*branches), self.width, name="project")


class DeepLabDecoder(Block):
    """Refine coarse features by fine ones: both at the fine size, side by side, then 3x3 convolutions.

    Args:
        width: Output channels.
        fine_width: Channels to which the fine features are reduced.
        convs: Number of 3x3 convolutions.

    Reference:
        Chen et al. (2018), "Encoder-Decoder with Atrous Separable Convolution", arXiv 1802.02611, section 3.1; dense
        convolutions here.
    """

    width: int = 256
    fine_width: int = 48
    convs: int = 2

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """Return `(width, …)` at the size of `fine`."""
        low = conv_norm_act(fine, self.fine_width, name="fine")
        x = ops.concat(bilinear(x, low.shape[1:]), low)
        for number in range(self.convs):
            x = conv_norm_act(x, self.width, 3, name=f"convs.{number}")
        return x


class PixelClassifier(Block):
    """A class for each position: 1x1 convolution with bias to the classes' logits, enlarged to a given size.

    Args:
        classes: Number of classes; None takes it from the task (`x.context.classes`).
        dropout: Rate before it, in [0, 1).
    """

    classes: int | None = None
    dropout: float = 0.0

    def forward(self, x: Tensor, size: Size | None = None) -> Tensor:
        """Return logits `(classes, height, width)`, at `size` where that is given."""
        classes = x.context.classes if self.classes is None else self.classes
        x = ops.conv(ops.dropout(x, self.dropout), classes, 1, bias=True, name="logits")
        return x if size is None else bilinear(x, size)


class DeepLabHead(Block):
    """Head of a segmentation network: ASPP, decoder, classifier.

    Args:
        aspp: On the coarse features.
        decoder: Joins its output with the fine features.
        classifier: Gives each pixel's logits.
    """

    aspp: Any = ASPP()
    decoder: Any = DeepLabDecoder()
    classifier: Any = PixelClassifier()

    def forward(self, x: Tensor, fine: Tensor, size: Size) -> Tensor:
        """Return logits `(classes, *size)` from coarse and fine features."""
        return self.classifier(self.decoder(self.aspp(x), fine), size)


class Laterals(Block):
    """Begin a feature pyramid: a backbone's features at one width, and coarser levels by max pooling with stride 2.

    Args:
        width: Channels of every level.
        levels: The pyramid's levels, increasing; level l has stride 2^l. The backbone's features are the first ones.
        bias: Whether the 1x1 convolutions have a bias beside their norm (the authors' code has it).
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch; the authors' is 0.003.

    Reference:
        Ghiasi et al. (2019), "NAS-FPN", arXiv 1904.07392, section 3.2; bias and norm as in the authors' code. There a
        feature that has the width already gets no convolution; here every one has its own.
    """

    width: int = 256
    levels: tuple[Any, ...] = (3, 4, 5, 6, 7)
    bias: bool = True
    eps: float = 1e-4
    momentum: float = 0.1

    def forward(self, features: Any) -> dict[str, Tensor]:
        """Return {"P3": …} from the features, finest first, as a dict or tuple."""
        given = tuple(features.values() if isinstance(features, Mapping) else features)
        if not 0 < len(given) <= len(self.levels):
            raise ShapeError(
                f"A pyramid of levels {self.levels} begins with 1 to {len(self.levels)} features, got {len(given)}."
            )
        pyramid: dict[str, Tensor] = {}
        x = given[0]
        for number, level in enumerate(self.levels):
            if number < len(given):
                x = conv_norm_act(
                    given[number],
                    self.width,
                    act="identity",
                    bias=self.bias,
                    eps=self.eps,
                    momentum=self.momentum,
                    name=f"lateral_{level}",
                )
            else:
                x = shrink(x, 2, name=f"pool_{level}")
            pyramid[f"P{level}"] = x
        return pyramid


class AnchorPredictor(Block):
    """A dense 3x3 convolution with bias to some values for each anchor.

    Args:
        size: Values for each anchor; None takes the number of classes from the task (`x.context.classes`).
        anchors: Boxes at each position.
    """

    size: int | None = None
    anchors: int = 9

    def forward(self, x: Tensor) -> Tensor:
        """Return `(anchors * size, height, width)`."""
        size = x.context.classes if self.size is None else self.size
        return ops.conv(x, self.anchors * size, 3, bias=True)


class PredictionTower(Block):
    """Convolutions that all levels of a pyramid share, each level with norms of its own, and a prediction.

    Args:
        convs: Blocks without norm.
        predict: The last block.
        eps: Of the norms.
        momentum: Of the norms, weight of the new batch; the authors' is 0.003.
    """

    convs: tuple[Any, ...]
    predict: Any
    eps: float = 1e-4
    momentum: float = 0.1

    def forward(self, pyramid: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the predictions of each level."""
        found = {}
        for level, features in pyramid.items():
            x = features
            for number, conv in enumerate(self.convs):
                x = conv(x)
                x = ops.batch_norm(x, eps=self.eps, momentum=self.momentum, name=f"norm_{number}_{level}")
                x = ops.activation(x, name=f"act_{number}_{level}")
            found[level] = self.predict(x)
        return found


class RetinaNetHead(Block):
    """Two towers on a feature pyramid, one for the classes of boxes and one for their corners; see `retinanet_head`.

    Args:
        classes: Tower of the classes.
        boxes: Tower of the boxes.
    """

    classes: Any
    boxes: Any

    def forward(self, pyramid: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return {"classes": {"P3": …}, "boxes": {"P3": …}} from {"P3": …}."""
        return {"classes": self.classes(pyramid), "boxes": self.boxes(pyramid)}


def retinanet_head(classes: int | None = None, *, anchors: int = 9, convs: int = 4, width: int = 256) -> RetinaNetHead:
    """The head of RetinaNet: convolutions shared by all levels, with norms of each level's own.

    Args:
        classes: Number of classes; None takes it from the task. The authors' code has 91 for COCO.
        anchors: Boxes at each position.
        convs: 3x3 convolutions before the prediction, at least 0.
        width: Their channels.

    Returns:
        A block from {"P3": …} to {"classes": {"P3": (anchors * classes, h, w) …}, "boxes": {"P3": (anchors * 4, h, w)
        …}}: logits of a class for each anchor, and offsets of its corners.

    Raises:
        InvalidInputError: a number is out of range.

    Reference:
        Lin et al. (2017), "Focal Loss for Dense Object Detection", arXiv 1708.02002, section 4; norms as in the
        NAS-FPN authors' code (`RetinanetHead`). The bias of the class prediction is not initialised to the prior
        probability there (-log 99): do it where the loss is.
    """
    if anchors < 1 or convs < 0:
        raise InvalidInputError(f"A head needs at least 1 anchor and 0 convolutions, got {anchors} and {convs}.")
    towers = [
        PredictionTower(
            tuple(Conv(width, norm=False, act="identity") for _ in range(convs)), AnchorPredictor(size, anchors)
        )
        for size in (classes, 4)
    ]
    return RetinaNetHead(*towers)


def bilinear(x: Tensor, size: Size, *, name: str = "resize") -> Tensor:
    """Bilinear resampling with aligned corners, as DeepLab's code does it; nothing where the size is right."""
    return ops.resize(x, (size[0], size[1]), "bilinear", align_corners=True, name=name)


def shrink(x: Tensor, factor: int, *, name: str = "pool") -> Tensor:
    """Max pooling of disjoint windows, to the size divided by `factor`, rounded up; any size from 1 pixel."""
    kernel = (min(factor, x.height), min(factor, x.width))
    return ops.max_pool(x, kernel, stride=factor, padding=0, ceil_mode=True, name=name)
