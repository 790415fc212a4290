"""A small interpreter of graphs in float64, independent of `nasturtium.model`, with transported weights.

Every weight is a pseudo-random function of the operation's place in the canonical order and of what its input
channels *are* (not of where they stand), so two graphs of one canonical hash are given corresponding weights, also
where a concatenation has another order.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from nasturtium.graph import Graph, weight_order
from nasturtium.graph import operations as ops

torch.set_num_threads(1)

M = np.uint64
FUNCTIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}


def mix(x) -> np.ndarray:
    """The finalizer of splitmix64 on arrays of uint64."""
    x = np.asarray(x, dtype=M)
    with np.errstate(over="ignore"):
        x = (x + M(0x9E3779B97F4A7C15)) & M(0xFFFFFFFFFFFFFFFF)
        x = (x ^ (x >> M(30))) * M(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> M(27))) * M(0x94D049BB133111EB)
        return x ^ (x >> M(31))


def tag(text: str) -> np.uint64:
    value = 1469598103934665603
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) % 2**64
    return M(value)


def uniform(seeds: np.ndarray) -> torch.Tensor:
    """Numbers in [-1, 1) from uint64 seeds."""
    return torch.from_numpy(mix(seeds).astype(np.float64) / 2.0**63 - 1.0)


def occurrences(names: np.ndarray) -> np.ndarray:
    """Names with the k-th repetition of each told apart."""
    seen: dict[int, int] = {}
    result = []
    for name in names.tolist():
        seen[name] = seen.get(name, 0) + 1
        result.append(seen[name])
    with np.errstate(over="ignore"):
        return names + M(7919) * np.asarray(result, dtype=M)


def run(graph: Graph, seed: int = 0, batch: int = 2) -> list[torch.Tensor]:
    """Outputs, in order."""
    with np.errstate(over="ignore"):
        return _run(graph, seed, batch)


def _run(graph: Graph, seed: int, batch: int) -> list[torch.Tensor]:
    place = {path: mix(M(number + 1) + M(1000003) * M(seed + 1)) for number, path in enumerate(weight_order(graph))}
    unused = mix(M(12345))
    values: list[torch.Tensor] = []
    names: list[np.ndarray] = []
    stamps: list[object] = []
    inputs = 0
    for node in graph.nodes:
        op = node.operation
        xs = [values[i] for i in node.inputs]
        ids = [names[i] for i in node.inputs]
        at = place.get(node.path, unused)
        label = tag(repr(ops.GlobalPool("avg") if op == ops.AdaptiveAvgPool((1, 1)) else op))
        if op in (ops.Dropout(0.0), ops.Pad((0, 0, 0, 0))):  # idle
            values.append(xs[0])
            names.append(ids[0])
            stamps.append(stamps[node.inputs[0]])
            continue
        match op:
            case ops.Input():
                key = mix(M(inputs + 77) + M(seed))
                inputs += 1
                y = uniform(key + np.arange(batch * int(np.prod(node.shape)), dtype=M)).reshape(batch, *node.shape)
                name = mix(key + np.arange(node.shape[0], dtype=M))
            case ops.Conv():
                y, name = _conv(op, xs[0], ids[0], at)
            case ops.Linear():
                known = mix(occurrences(ids[0]))
                rows = mix(at + np.arange(op.features, dtype=M))
                y = xs[0] @ uniform(mix(rows[:, None] ^ known[None])).T
                if op.bias:
                    y = y + uniform(rows + M(5))
                name = rows
            case ops.BatchNorm():
                y, name = _norm(op, xs[0], ids[0], at)
            case ops.Activation():
                y = FUNCTIONS[op.function](xs[0])
                idempotent = op.function in ("relu", "relu6") and stamps[node.inputs[0]] == op
                name = ids[0] if idempotent else mix(ids[0] + label)
            case ops.MaxPool():
                y = F.max_pool2d(xs[0], op.kernel, op.stride, op.padding, ceil_mode=op.ceil_mode)
                name = mix(ids[0] + label)
            case ops.AvgPool():
                y = F.avg_pool2d(
                    xs[0], op.kernel, op.stride, op.padding, op.ceil_mode, count_include_pad=op.count_include_pad
                )
                name = mix(ids[0] + label)
            case ops.GlobalPool(function="avg") | ops.AdaptiveAvgPool(size=(1, 1)):
                y, name = xs[0].mean((2, 3), keepdim=True), mix(ids[0] + label)
            case ops.Flatten():
                y = xs[0].flatten(1)
                spots = y.shape[1] // len(ids[0])
                name = mix(np.repeat(ids[0], spots) + np.tile(np.arange(spots, dtype=M), len(ids[0])))
            case ops.Add():
                y, name = sum(xs), sum(ids, np.zeros(1, dtype=M))
            case ops.Multiply():
                y, name = xs[0] * xs[1], mix(ids[0] + ids[1])
            case ops.Concat():
                y, name = torch.cat(xs, 1), np.concatenate(ids)
            case ops.Slice(start=start, stop=stop):
                y, name = xs[0][:, start:stop], mix(ids[0][start:stop] + label)
            case ops.Shuffle(groups=groups):
                order = np.arange(len(ids[0])).reshape(groups, -1).T.ravel()
                y, name = xs[0][:, order], mix(ids[0][order] + label)
            case ops.Pad(padding=(top, bottom, left, right)):
                y, name = F.pad(xs[0], (left, right, top, bottom)), mix(ids[0] + label)
            case ops.Dropout() | ops.DropPath() | ops.TrainingOnly():
                y, name = xs[0], mix(ids[0] + at)
            case ops.Zero():
                y, name = torch.zeros(batch, *node.shape, dtype=torch.float64), np.zeros(node.shape[0], dtype=M)
            case _:
                raise NotImplementedError(op)
        if not torch.any(y):
            name = np.zeros_like(name)
        assert tuple(y.shape[1:]) == node.shape
        values.append(y)
        names.append(name)
        stamps.append(op)
    return [values[o.node] for o in graph.outputs]


def _conv(op: ops.Conv, x: torch.Tensor, names: np.ndarray, at: np.uint64):
    top, bottom, left, right = op.padding
    x = F.pad(x, (left, right, top, bottom))
    taps = mix(np.arange(op.kernel[0] * op.kernel[1], dtype=M) + at)
    if op.groups == op.channels == x.shape[1] > 1:
        rows = mix(names ^ at)  # a channel's filter belongs to what the channel is
        weight = uniform(mix(rows[:, None] + taps[None]))
    else:
        rows = mix(at + np.arange(op.channels, dtype=M))
        known = mix(occurrences(names)).reshape(op.groups, -1)
        known = np.repeat(known, op.channels // op.groups, axis=0)
        weight = uniform(mix(mix(rows[:, None] ^ known)[..., None] + taps[None, None]))
    weight = weight.reshape(op.channels, -1, *op.kernel)
    bias = uniform(rows + M(3)) if op.bias else None
    return F.conv2d(x, weight, bias, op.stride, 0, op.dilation, op.groups), rows


def _norm(op: ops.BatchNorm, x: torch.Tensor, names: np.ndarray, at: np.uint64):
    keys = mix(names ^ at)
    mean, variance = uniform(keys + M(1)), uniform(keys + M(2)) + 1.5
    gain, shift = (uniform(keys + M(3)) + 1.2, uniform(keys + M(4))) if op.affine else (None, None)
    return F.batch_norm(x, mean, variance, gain, shift, False, 0.0, op.eps), mix(keys)
