"""Each operation has its layer, and the layer computes what the operation says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import OPERATIONS, Operation
from nasturtium.graph import operations as ops
from nasturtium.model import LAYERS, layer
from nasturtium.model.initialize import initialize, path_generator

IMAGE = (4, 7, 6)


def run(operation, *shapes, seed=0):
    """The layer's output in float64, its inputs, and the layer."""
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    made = layer(operation, *shapes)
    if isinstance(made, torch.nn.Module):
        initialize(made, path_generator(seed, "x"))
        made = made.double().eval()
    y = made(*xs)
    assert tuple(y.shape) == (3, *operation.shape(*shapes))
    return y, xs, made


def test_every_operation_has_a_layer():
    assert set(LAYERS) == set(OPERATIONS)


def test_an_operation_without_a_layer_is_refused_by_name():
    class Strange(Operation):
        pass

    with pytest.raises(InvalidInputError, match=r"Strange.*no layer"):
        layer(Strange(), IMAGE)


@settings(deadline=None, max_examples=30)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from((1, 2, 4)),
    bias=st.booleans(),
)
def test_convolution_equals_a_loop(kernel, stride, padding, dilation, groups, bias):
    operation = ops.Conv(8, kernel, stride, padding, dilation, groups, bias)
    y, (x,), made = run(operation, IMAGE)
    top, bottom, left, right = padding
    padded = torch.zeros(3, 4, 7 + top + bottom, 6 + left + right, dtype=torch.float64)
    padded[:, :, top : top + 7, left : left + 6] = x
    expected = torch.zeros_like(y)
    for out in range(8):
        first = out // (8 // groups) * (4 // groups)
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                total = made.bias[out].expand(3) if bias else torch.zeros(3, dtype=torch.float64)
                for a in range(kernel[0]):
                    for b in range(kernel[1]):
                        pixel = padded[:, :, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]]
                        total = total + (pixel[:, first : first + 4 // groups] * made.weight[out, :, a, b]).sum(1)
                expected[:, out, i, j] = total
    torch.testing.assert_close(y, expected)


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
    counted=st.booleans(),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_pooling_shapes_are_pytorchs(kernel, stride, padding, ceil_mode, counted, size):
    shape = (2, *size)
    for operation in (
        ops.MaxPool((kernel,) * 2, (stride,) * 2, (padding,) * 2, ceil_mode),
        ops.AvgPool((kernel,) * 2, (stride,) * 2, (padding,) * 2, ceil_mode, counted),
    ):
        if 2 * padding > kernel:
            with pytest.raises(ShapeError, match="at most half"):
                operation.shape(shape)
        else:
            run(operation, shape)


def test_average_pooling_without_the_padding_is_a_mean_of_what_is_there():
    y, (x,), _ = run(ops.AvgPool(), IMAGE)
    torch.testing.assert_close(y[:, :, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    torch.testing.assert_close(y[:, :, 3, 3], x[:, :, 2:5, 2:5].mean((2, 3)))


def test_norms():
    y, (x,), _ = run(ops.BatchNorm(eps=0.5), IMAGE)
    torch.testing.assert_close(y, x / math.sqrt(1.5))
    vector, (v,), _ = run(ops.BatchNorm(affine=False), (5,))
    torch.testing.assert_close(vector, v / math.sqrt(1 + 1e-5))
    y, (x,), _ = run(ops.GroupNorm(2), IMAGE)
    halves = x.reshape(3, 2, -1)
    expected = (halves - halves.mean(2, keepdim=True)) / (halves.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(y, expected.reshape(x.shape))


@pytest.mark.parametrize("function", ops.ACTIVATIONS)
def test_activations_equal_their_formula(function):
    y, (x,), _ = run(ops.Activation(function), IMAGE)
    hard = (x + 3).clamp(0, 6) / 6
    expected = {
        "relu": x.clamp(min=0),
        "relu6": x.clamp(0, 6),
        "hardswish": x * hard,
        "hardsigmoid": hard,
        "silu": x / (1 + torch.exp(-x)),
        "sigmoid": 1 / (1 + torch.exp(-x)),
        "tanh": torch.tanh(x),
        "gelu": x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        "elu": torch.where(x > 0, x, torch.exp(x) - 1),
        "leaky_relu": torch.where(x > 0, x, 0.01 * x),
        "prelu": torch.where(x > 0, x, 0.25 * x),
        "mish": x * torch.tanh(torch.log1p(torch.exp(x))),
    }[function]
    torch.testing.assert_close(y, expected)


def test_layers_that_move_and_combine():
    y, (x,), _ = run(ops.Shuffle(2), IMAGE)
    assert torch.equal(y, x[:, [0, 2, 1, 3]])
    y, (x,), _ = run(ops.Slice(1, 3), IMAGE)
    assert torch.equal(y, x[:, 1:3])
    y, (x,), _ = run(ops.Pad((1, -2, 0, 3)), IMAGE)
    assert torch.equal(y[:, :, 1:, :6], x[:, :, :5])
    assert not y[:, :, 0].any()
    assert not y[:, :, :, 6:].any()
    y, (x,), _ = run(ops.Flatten(), IMAGE)
    assert torch.equal(y, x.reshape(3, -1))
    y, xs, _ = run(ops.Add(), IMAGE, IMAGE, IMAGE)
    torch.testing.assert_close(y, xs[0] + xs[1] + xs[2])
    y, xs, _ = run(ops.Concat(), IMAGE, (2, 7, 6))
    assert torch.equal(y[:, 4:], xs[1])
    y, (x, gate), _ = run(ops.Multiply(), IMAGE, (4, 1, 1))
    torch.testing.assert_close(y[1, 2], x[1, 2] * gate[1, 2, 0, 0])
    y, (x,), _ = run(ops.GlobalPool("max"), IMAGE)
    assert torch.equal(y[..., 0, 0], x.amax((2, 3)))
    y, (x,), _ = run(ops.GlobalPool("avg"), IMAGE)
    torch.testing.assert_close(y[..., 0, 0], x.mean((2, 3)))
    y, (x,), _ = run(ops.AdaptiveAvgPool((2, 4)), IMAGE)
    torch.testing.assert_close(y[:, :, 1, 3], x[:, :, 3:, 4:].mean((2, 3)))
    y, (x,), _ = run(ops.Resize((14, 12)), IMAGE)
    assert torch.equal(y[:, :, ::2, ::2], x)
    y, (x,), _ = run(ops.Resize((3, 4), "bilinear", True), IMAGE)
    torch.testing.assert_close(y[:, :, 0, 0], x[:, :, 0, 0])
    torch.testing.assert_close(y[:, :, 2, 3], x[:, :, 6, 5])
    y, (x,), made = run(ops.Linear(3), (5,))
    torch.testing.assert_close(y, x @ made.weight.T)
    for operation in (ops.TrainingOnly(), ops.Dropout(0.5), ops.DropPath(0.5)):
        y, (x,), _ = run(operation, IMAGE)
        assert torch.equal(y, x)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [None, 9])
def test_zeros(stride, channels):
    y, _, _ = run(ops.Zero(stride, channels), IMAGE)
    assert not y.any()


def test_drop_path_drops_samples_and_keeps_the_mean():
    made = layer(ops.DropPath(0.25), IMAGE)
    torch.manual_seed(0)
    y = made.train()(torch.ones(4000, 2, 1, 1))
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1.0, abs=0.04)
    assert not layer(ops.DropPath(1.0), IMAGE).train()(torch.ones(5, 1)).any()


def test_channels_last_survives_a_shuffle():
    x = torch.randn(2, 6, 5, 4).to(memory_format=torch.channels_last)
    made = layer(ops.Shuffle(3), (6, 5, 4))
    assert made(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(made(x), made(x.contiguous()))
    assert torch.equal(made(x), F.channel_shuffle(x.contiguous(), 3))
