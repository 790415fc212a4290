"""Blocks and random networks for the tests of model and export."""

from __future__ import annotations

from hypothesis import strategies as st

from nasturtium.graph import tensor as ops
from nasturtium.space import Block


class Chain(Block):
    layers: tuple

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ConvAct(Block):
    width: int
    kernel: int = 3
    stride: int = 1
    function: str = "relu"
    norm: str = "batch"
    padding: tuple | None = None

    def forward(self, x):
        x = ops.conv(x, self.width, self.kernel, stride=self.stride, padding=self.padding, bias=self.norm == "none")
        if self.norm == "batch":
            x = ops.batch_norm(x)
        if self.norm == "group":
            x = ops.group_norm(x, groups=1)
        return ops.activation(x, self.function)


class Inverted(Block):
    width: int
    kernel: int = 3
    stride: int = 1
    expand: int = 3
    gate: bool = False
    drop: float = 0.0

    def forward(self, x):
        y = x
        if self.expand != 1:
            with x.scope("expand"):
                y = ops.activation(ops.batch_norm(ops.conv(y, x.channels * self.expand, 1)), "hardswish")
        with x.scope("depthwise"):
            y = ops.conv(y, y.channels, self.kernel, stride=self.stride, groups=y.channels)
            y = ops.activation(ops.batch_norm(y), "relu6")
        if self.gate:
            with x.scope("gate"):
                s = ops.conv(ops.global_pool(y), max(1, y.channels // 4), 1, bias=True, name="reduce")
                s = ops.conv(ops.activation(s), y.channels, 1, bias=True, name="restore")
                y = y * ops.activation(s, "hardsigmoid", name="sigmoid")
        with x.scope("project"):
            y = ops.batch_norm(ops.conv(y, self.width, 1))
        return x + ops.drop_path(y, self.drop) if y.shape == x.shape else y


class Shuffle(Block):
    """Half of the channels pass, the others are convolved; then all are mixed."""

    def forward(self, x):
        if x.channels % 2:
            x = ops.conv(x, x.channels + 1, 1, name="even")
        half = x.channels // 2
        left, right = ops.channel_slice(x, 0, half), ops.channel_slice(x, half, x.channels)
        right = ops.conv(right, half, name="right")
        return ops.channel_shuffle(ops.concat(left, right), 2)


class Edges(Block):
    """A small cell: two paths between three points, pooling, zeros."""

    pool: str = "avg"

    def forward(self, x):
        pool = ops.avg_pool if self.pool == "avg" else ops.max_pool
        with x.scope("edges"):
            a = ops.conv(x, x.channels, 3, name="0")
            b = pool(x, 3, name="1")
            c = ops.zero(x, name="2")
        return ops.add(a, b, c, x)


class Uneven(Block):
    """Odd paddings, cropping and resizing."""

    mode: str = "nearest"

    def forward(self, x):
        y = ops.conv(x, x.channels, 2, padding=(0, 1, 1, 0), name="uneven")
        y = ops.pad(y, (1, 0, 0, 2))
        return ops.resize(y, (x.height, x.width), self.mode) * ops.global_pool(x, "max")


class Twice(Block):
    """One child called twice: tied weights."""

    body: Block

    def forward(self, x):
        return self.body(self.body(x)) + x


class Head(Block):
    def forward(self, x):
        x = ops.flatten(ops.global_pool(x))
        x = ops.dropout(ops.activation(ops.batch_norm(ops.linear(x, 12, name="hidden"), name="norm"), "tanh"), 0.2)
        return ops.linear(x, x.context.classes, name="classifier")


class Heads(Block):
    """Two inputs; a dict of two outputs and a training-only one."""

    body: Block

    def forward(self, left, right):
        x = self.body(ops.concat(left, right))
        small = ops.adaptive_avg_pool(x, (2, 3))
        return {"logits": Head()(x), "maps": (small, x), "auxiliary": ops.training_only(Head()(small))}


class WithAuxiliary(Block):
    body: Block

    def forward(self, x):
        x = self.body(x)
        return Head()(x), ops.training_only(Head()(ops.max_pool(x, 3)))


kernels = st.sampled_from((1, 3, 5))
functions = st.sampled_from(("relu", "relu6", "hardswish", "silu", "gelu", "prelu", "leaky_relu", "elu", "mish"))
convolutions = st.builds(
    ConvAct,
    width=st.integers(2, 9),
    kernel=kernels,
    stride=st.sampled_from((1, 1, 2)),
    function=functions,
    norm=st.sampled_from(("batch", "group", "none")),
)
inverted = st.builds(
    Inverted,
    width=st.integers(2, 8),
    kernel=kernels,
    stride=st.sampled_from((1, 1, 2)),
    expand=st.sampled_from((1, 2, 3)),
    gate=st.booleans(),
    drop=st.sampled_from((0.0, 0.2)),
)
others = st.one_of(
    st.just(Shuffle()),
    st.builds(Edges, pool=st.sampled_from(("avg", "max"))),
    st.builds(Uneven, mode=st.sampled_from(("nearest", "bilinear"))),
)
layers = st.recursive(
    st.one_of(convolutions, inverted, others),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda xs: Chain(tuple(xs))),
    max_leaves=4,
)
bodies = st.lists(layers, min_size=1, max_size=4).map(lambda xs: Chain(tuple(xs)))
classifiers = bodies.map(lambda body: Chain((*body.layers, Head())))
tied = st.just(Chain((ConvAct(6), Twice(Inverted(6)), Head())))
networks = st.one_of(classifiers, classifiers, tied)
