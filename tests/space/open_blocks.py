"""Open blocks that are hard to share weights in."""

from __future__ import annotations

from typing import Any

import nasturtium as nas
from nasturtium.graph.tensor import Tensor


class Residual(nas.Block):
    """The residual appears only where the width is the input's."""

    width: int
    kernel: int = 3

    def forward(self, x: Tensor) -> Tensor:
        y = nas.ops.batch_norm(nas.ops.conv(x, self.width, self.kernel))
        return x + y if y.shape == x.shape else y


class Select(nas.Block):
    """Concatenates some of its branches; which ones, and how wide they are, is open."""

    branches: tuple[Any, ...]
    chosen: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in self.branches]
        y = nas.ops.concat(*[outputs[i] for i in self.chosen])
        y = nas.ops.activation(nas.ops.batch_norm(y))
        y = nas.ops.conv(y, y.channels, groups=y.channels, name="depthwise")
        return nas.ops.conv(nas.ops.channel_shuffle(y, 2), 6, 1, name="mix")


class Flat(nas.Block):
    """A linear layer on a flattened open concatenation."""

    left: Any
    right: Any

    def forward(self, x: Tensor) -> Tensor:
        return nas.ops.linear(nas.ops.flatten(nas.ops.concat(self.left(x), self.right(x))), 3)


class Pyramid(nas.Block):
    """Two inputs, three outputs, nested."""

    fuse: Any
    width: int
    extra: Any

    def forward(self, fine: Tensor, coarse: Tensor) -> dict[str, Any]:
        lateral = nas.ops.conv(fine, self.width, 1, name="lateral")
        top = nas.ops.conv(coarse, self.width, 1, name="top")
        both = self.fuse(lateral + nas.ops.resize(top, lateral.shape[1:]))
        return {"levels": (both, top), "extra": self.extra(top)}


class Peeking(nas.Block):
    """Asks what its child is, and reads the child's open field."""

    body: Any

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.body, Residual):
            y = self.body(x)
            return nas.ops.activation(y, "relu") if self.body.width > 4 else y
        return nas.ops.activation(self.body(x), "tanh")


class Trellis(nas.Block):
    """A path through two widths, one convolution a level."""

    path: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        for number, width in enumerate(self.path):
            x = nas.ops.conv(x, width, name=f"step_{number}")
        return x


class Product(nas.Block):
    """Reads many choices by itself."""

    widths: tuple[Any, ...]

    def forward(self, x: Tensor) -> Tensor:
        for width in self.widths:
            x = nas.ops.conv(x, width, 1)
        return x


class Told(nas.Block):
    """A convolution whose width and stride its caller tells; perhaps through a child of its own."""

    kernel: int = 3
    inner: Any = None

    def forward(self, x: Tensor, width: int, stride: int = 1) -> Tensor:
        x = nas.ops.conv(x, width, self.kernel, stride=stride)
        return x if self.inner is None else self.inner(x, width + 1)


class Telling(nas.Block):
    """Tells its children what it has read, and what it has found out of shapes."""

    first: Any
    second: Any
    width: int
    strided: bool = False

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x, self.width)
        return self.second(y, y.channels + 2, 2 if self.strided else 1)


class Making(nas.Block):
    """Makes its children where it calls them, of what it has read, and hands one on."""

    width: int
    kernel: int
    body: Any

    def forward(self, x: Tensor) -> Tensor:
        x = nas.Conv(self.width)(x)
        x = self.body(x, nas.Conv(6, self.kernel))
        return nas.Conv(self.kernel, 1)(x)


class Handed(nas.Block):
    """Calls a block that it is given."""

    times: int = 1

    def forward(self, x: Tensor, block: nas.Block) -> Tensor:
        for number in range(self.times):
            with x.scope(f"turn_{number}"):
                x = block(x)
        return x


class Uneven(nas.Block):
    """Returns one tensor or two."""

    outputs: int

    def forward(self, x: Tensor) -> Any:
        return x if self.outputs == 1 else (x, x)


def conv(width: Any, kernel: Any = 3) -> nas.Conv:
    """A convolution with open fields."""
    return nas.Conv(width, kernel)


def spaces() -> dict[str, tuple[nas.Space, Any]]:
    """Spaces with their inputs."""
    shared = nas.one_of(4, 8)
    tail = nas.Classifier(classes=3)
    one = (4, 8, 8)
    return {
        "residual": (
            nas.Space(nas.Sequential(Residual(nas.one_of(4, 8), nas.one_of(1, 3)), conv(nas.one_of(4, 6)))),
            one,
        ),
        "shared choice": (nas.Space(nas.Sequential(Residual(shared), Residual(shared), conv(shared), tail)), one),
        "subset": (
            nas.Space(
                nas.Sequential(
                    Select(
                        (conv(4), conv(nas.one_of(4, 8)), conv(nas.one_of(2, 6), 1), nas.blocks.MaxPool()),
                        nas.subset((0, 1, 2, 3), 2),
                    ),
                    tail,
                )
            ),
            one,
        ),
        "flat concatenation": (nas.Space(Flat(conv(nas.one_of(2, 5)), conv(nas.one_of(3, 4)))), one),
        "walk": (nas.Space(nas.Sequential(Trellis(nas.walk((4, 8, 12), 3)), tail)), one),
        "two in, three out": (
            nas.Space(
                Pyramid(
                    nas.one_of(conv(nas.one_of(4, 8)), nas.Identity()),
                    nas.one_of(4, 8),
                    nas.one_of(conv(6), nas.blocks.MaxPool(), nas.Sequential(conv(nas.one_of(2, 3)), conv(4))),
                )
            ),
            ((4, 8, 8), (6, 4, 4)),
        ),
        "told by the caller": (
            nas.Space(
                nas.Sequential(
                    Telling(
                        Told(nas.one_of(1, 3), Told(nas.one_of(1, 5))),
                        Told(),
                        nas.one_of(2, 4, 6),
                        nas.one_of(False, True),
                    ),
                    Telling(nas.one_of(Told(1), Told(3)), Told(5), nas.one_of(4, 2)),
                    tail,
                )
            ),
            one,
        ),
        "children made inline": (
            nas.Space(nas.Sequential(Making(nas.one_of(4, 8), nas.one_of(1, 3), Handed(nas.one_of(1, 2))), tail)),
            one,
        ),
        "peeking": (nas.Space(nas.Sequential(Peeking(nas.one_of(Residual(nas.one_of(4, 8)), conv(4))), tail)), one),
        "depth": (
            nas.Space(
                nas.Sequential(
                    nas.repeat(
                        nas.MBConv(nas.one_of(4, 8), kernel=nas.one_of(3, 5, 7), expand=nas.one_of(1, 2)),
                        nas.one_of(0, 1, 3),
                        stride=2,
                    ),
                    tail,
                )
            ),
            one,
        ),
        "nested branches": (
            nas.Space(
                nas.Sequential(
                    nas.repeat(
                        nas.one_of(nas.one_of(conv(4), conv(4, 5)), nas.Identity(), Residual(4)), nas.one_of(1, 2)
                    ),
                    tail,
                )
            ),
            one,
        ),
        "user's module": (
            nas.Space(
                nas.Sequential(
                    nas.Module("torch.nn:Conv2d", out_channels=nas.one_of(4, 8), kernel_size=3),
                    nas.one_of(nas.Identity(), nas.Module("torch.nn:InstanceNorm2d", num_features=8, affine=True)),
                    tail,
                )
            ),
            one,
        ),
    }
