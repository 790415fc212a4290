"""Rates of the space room: draws, variation, closing. Run: python benchmarks/space.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from random import Random

import nasturtium.space as ns
from nasturtium.graph import CostModel
from nasturtium.zoo.mobile import mobile


class Leaf(ns.Block):
    width: int
    kernel: int


class Stack(ns.Block):
    layers: tuple[object, ...]


def rate(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Calls a second."""
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(100):
            call()
        calls += 100
    return calls / spent


def flat() -> ns.Space:
    """Twenty independent choices."""
    return ns.Space(Stack(tuple(Leaf(ns.one_of(8, 16, 24), ns.one_of(3, 5, 7, 9)) for _ in range(10))))


def chain(model: CostModel, space: ns.Space, rng: Random) -> Callable[[], object]:
    """Mutate the last child, close it and cost it."""
    state = [space.sample(rng)]

    def step() -> object:
        state[0] = space.mutate(state[0], rng)
        return model(state[0])

    return step


def main() -> None:
    """Print the rates as JSON."""
    rng = Random(0)
    found: dict[str, float] = {}
    for name, space in {"twenty": flat(), "mobile": mobile()}.items():
        a, b = space.sample(rng), space.sample(rng)
        found[f"{name}: uniform"] = rate(lambda s=space: s.sample(rng).key)
        found[f"{name}: hierarchical"] = rate(lambda s=space: s.sample(rng, "hierarchical").key)
        found[f"{name}: mutate"] = rate(lambda s=space, x=a: s.mutate(x, rng).key)
        found[f"{name}: mutate and close"] = rate(lambda s=space, x=a: s.mutate(x, rng).block)
        found[f"{name}: cross"] = rate(lambda s=space, x=a, y=b: s.cross(x, y, rng).key)
        found[f"{name}: encode"] = rate(lambda s=space, x=a: s.encode(x))
    model = CostModel((3, 32, 32), classes=10)
    found["mobile: mutate, close and cost"] = rate(chain(model, mobile(), rng), 4.0)
    print(json.dumps({k: round(v) for k, v in found.items()}, indent=2))


if __name__ == "__main__":
    main()
