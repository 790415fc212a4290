"""The arena and the file of int8 networks on a microcontroller: predicted from the graph, and really allocated.

Every network is written as int8 `.tflite` (random weights, which do not change its memory), run in TensorFlow Lite
Micro, and its arena read from the recording allocator. Needs the extra `tinyml`; some seconds of CPU a network.

    python benchmarks/arena.py [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import nasturtium as nas
from nasturtium.graph import Graph, trace
from nasturtium.graph import tensor as T
from nasturtium.hardware import (
    measure_arena,
    predict_arena,
    predict_file,
    predict_flash,
    quantize_tflite,
    write_tflite,
)
from nasturtium.zoo.mcunet import mcunet

Conv, MBConv, Classifier, Sequential = nas.Conv, nas.MBConv, nas.Classifier, nas.Sequential


class Residual(nas.Block):
    """Two 3x3 convolutions around a sum."""

    width: int

    def forward(self, x):
        y = T.activation(T.batch_norm(T.conv(x, self.width, 3)), "relu")
        return T.activation(x + T.batch_norm(T.conv(y, self.width, 3)), "relu")


class Branches(nas.Block):
    """Three branches of different kernels, concatenated."""

    width: int

    def forward(self, x):
        parts = [T.activation(T.batch_norm(T.conv(x, self.width, k)), "relu") for k in (1, 3, 5)]
        return T.concat(*parts, T.max_pool(x, 3))


def mobile(*widths: int, act: str = "relu6", stem: int = 8) -> nas.Block:
    """A small mobile network: each width opens with stride 2 and continues once."""
    blocks = [b for w in widths for b in (MBConv(w, expand=3, stride=2, act=act), MBConv(w, expand=3, act=act))]
    return Sequential(Conv(stem, stride=2, act=act), *blocks, Classifier())


def tiny(width: float, seed: int) -> nas.Block:
    """A network of a TinyNAS space."""
    return mcunet(width=width).sample(random.Random(seed)).block


NETWORKS: dict[str, tuple[nas.Block, tuple[int, int, int]]] = {
    "plain, 1x28x28": (Sequential(Conv(8), Conv(16, stride=2), Conv(32, stride=2), Classifier()), (1, 28, 28)),
    "plain, 1x8x8": (Sequential(Conv(8), Conv(16, stride=2), Classifier()), (1, 8, 8)),
    "residual, 3x32x32": (
        Sequential(Conv(8), Residual(8), Conv(16, stride=2), Residual(16), Classifier()),
        (3, 32, 32),
    ),
    "branches, 3x32x32": (Sequential(Conv(8, stride=2), Branches(8), Conv(16, stride=2), Classifier()), (3, 32, 32)),
    "mobile 16, 3x32x32": (mobile(16), (3, 32, 32)),
    "mobile 16 24, 3x48x48": (mobile(16, 24), (3, 48, 48)),
    "mobile 16 24, 3x49x49": (mobile(16, 24), (3, 49, 49)),
    "mobile 16 24 40, 3x64x64": (mobile(16, 24, 40), (3, 64, 64)),
    "mobile 16 hardswish, 3x32x32": (mobile(16, act="hardswish"), (3, 32, 32)),
    "tinynas w0.2 a, 3x48x48": (tiny(0.2, 0), (3, 48, 48)),
    "tinynas w0.3 b, 3x64x64": (tiny(0.3, 1), (3, 64, 64)),
    "tinynas w0.5 c, 3x48x48": (tiny(0.5, 2), (3, 48, 48)),
}


def row(name: str, graph: Graph, folder: Path) -> dict[str, object]:
    start = time.process_time()
    model = nas.build(graph, seed=0)
    shape = graph.nodes[0].shape
    float_file, int8_file = folder / "float.tflite", folder / "int8.tflite"
    write_tflite(model, float_file, shape)
    images = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    made = quantize_tflite(float_file, [images], int8_file)
    arena, predicted, flash = measure_arena(int8_file), predict_arena(graph), predict_flash(graph)
    return {
        "name": name,
        "params": graph.params,
        "macs": graph.macs,
        "peak_memory": graph.peak_memory(),
        "predicted": {**asdict(predicted), "total": predicted.total},
        "allocated": {"head": arena.head, "tail": arena.tail, "total": arena.total},
        "flash": {**asdict(flash), "total": flash.total},
        "file": made.bytes,
        "predicted_file": predict_file(graph),
        "cpu_seconds": time.process_time() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=(), help="names of networks")
    parser.add_argument("--json", type=Path, help="file for the rows, one a line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':30} {'liveness':>9} {'head: predicted':>16} {'allocated':>10} {'tail: predicted':>16}"
          f" {'allocated':>10} {'total':>7} {'flash: parts':>13} {'file: predicted':>16} {'written':>9}")  # fmt: skip
    errors, files = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, (block, shape) in NETWORKS.items():
            if options.only and name not in options.only:
                continue
            found = row(name, trace(block, shape, classes=10), Path(folder))
            predicted, allocated = found["predicted"], found["allocated"]
            errors.append(predicted["total"] / allocated["total"] - 1)
            files.append(found["predicted_file"] / found["file"] - 1)
            print(f"{name:30} {found['peak_memory']:9,} {predicted['head']:16,} {allocated['head']:10,}"
                  f" {predicted['tail']:16,} {allocated['tail']:10,} {errors[-1]:+7.1%} {found['flash']['total']:13,}"
                  f" {found['predicted_file']:16,} {found['file']:9,}", flush=True)  # fmt: skip
            if options.json:
                with options.json.open("a") as lines:
                    lines.write(json.dumps(found) + "\n")
    print(f"{len(errors)} networks; total arena predicted within {max(map(abs, errors)):.1%} of the allocated one, "
          f"file within {max(map(abs, files)):.1%} of the written one")  # fmt: skip


if __name__ == "__main__":
    main()
