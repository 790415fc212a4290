"""A small space of a subset and choices, and a small task, for tests of mixtures."""

from typing import Any

import numpy as np

import nasturtium as nas
from nasturtium.blocks.darts_cell import Pool, SepConv, Skip
from nasturtium.tasks import Task


class Sum(nas.Block):
    """Adds up what its edges make of one input."""

    edges: Any

    def forward(self, x):
        return nas.ops.add(*[edge(x) for edge in self.edges])


class Joined(nas.Block):
    """Concatenates what its edges make of one input."""

    edges: Any

    def forward(self, x):
        return nas.ops.concat(*[edge(x) for edge in self.edges])


def edge(name: str) -> Any:
    return nas.one_of(Skip(affine=False), Pool("avg", norm=True), SepConv(3, affine=False), name=name)


def network(*blocks: Any, width: int = 4) -> nas.Space:
    return nas.Space(nas.Sequential(nas.Conv(width, stride=2), *blocks, nas.Classifier()))


def space(width: int = 4) -> nas.Space:
    """Two of three edges of three operations each: 3 x 9 = 27 architectures."""
    return network(Sum(nas.subset([edge(f"op_{i}") for i in range(3)], 2, name="inputs")), width=width)


def task(images: int = 48) -> Task:
    """Random images of three classes that a mean tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 3
    x = (rng.normal(size=(images, 1, 8, 8)) + labels[:, None, None, None]).astype(np.float32)
    return nas.tasks.from_arrays((x, labels), validation=(x[:12], labels[:12]), test=(x[:6], labels[:6]))
