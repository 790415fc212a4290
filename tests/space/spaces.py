"""Random small spaces, nested, shared and conditional; and a brute-force oracle that knows only the open values."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from nasturtium.space import Block, Choice, OneOf, Prefix, Subset, fresh_copy, int_range, one_of, subset, walk


class Leaf(Block):
    width: int
    kernel: int = 3
    expand: int = 6

    def forward(self, x):
        return x


class Pair(Block):
    left: object
    right: object

    def forward(self, x):
        return x


class Stack(Block):
    layers: tuple

    def forward(self, x):
        return x


class Copies(Block):
    blocks: object

    def forward(self, x):
        return x


def repeat(block, times, *, shared=False):
    """What `blocks.repeat` does, without that room."""
    most = max(times.value_at(i) for i in range(times.count)) if isinstance(times, Choice) else times
    return Copies(Prefix([block if shared else fresh_copy(block) for _ in range(most)], times))


def once_for_all():
    """The layout of Once-for-All's MobileNetV3 space at one resolution."""
    stages = [
        repeat(Leaf(width, one_of(3, 5, 7), one_of(3, 4, 6)), one_of(2, 3, 4)) for width in (24, 40, 80, 112, 160)
    ]
    return Stack([Leaf(16), *stages])


def oracle(value, env: dict | None = None) -> Iterator[tuple[dict, object]]:
    """Every (assignment of active choices, closed value), straight from the meaning of open values."""
    env = env or {}
    if isinstance(value, Choice):
        for index in [env[value]] if value in env else range(value.count):
            yield from oracle(value.value_at(index), {**env, value: index})
    elif isinstance(value, Prefix):
        if isinstance(value.length, Choice):
            for inner, length in list(oracle(value.length, env)):
                yield from _all(value.items[:length], inner)
        else:
            yield from _all(value.items[: value.length], env)
    elif isinstance(value, Block):
        for inner, closed in _all(value.values, env):
            yield inner, type(value)(*closed)
    elif isinstance(value, tuple):
        yield from _all(value, env)
    else:
        yield env, value


def _all(values, env):
    if not values:
        yield env, ()
        return
    for inner, first in oracle(values[0], env):
        for last, rest in _all(values[1:], inner):
            yield last, (first, *rest)


@st.composite
def open_values(draw, depth=3, pool=None):
    """An open value in which choices and blocks of `pool` may stand at several places."""
    pool = [] if pool is None else pool
    kinds = ["const", "int", "one_of"] + (["block", "tuple", "nested", "prefix", "subset", "pair"] if depth else [])
    kind = draw(st.sampled_from(kinds + (["old"] * 3 if pool else [])))
    inner = open_values(depth=depth - 1, pool=pool)
    if kind == "old":
        return draw(st.sampled_from(pool))
    made = _make(draw, kind, inner, pool)
    if draw(st.booleans()) and not isinstance(made, (int, tuple)):
        pool.append(made)
    return made


def _make(draw, kind, inner, pool):
    if kind == "const":
        return draw(st.integers(0, 9))
    if kind == "int":
        return int_range(1, draw(st.integers(1, 3)))
    if kind == "one_of":
        return one_of(*range(10, 10 + draw(st.integers(1, 3))))
    if kind == "block":
        return Stack(tuple(draw(st.lists(inner, min_size=1, max_size=3))))
    if kind == "pair":
        return Pair(draw(inner), draw(inner))
    if kind == "tuple":
        return tuple(draw(st.lists(inner, min_size=0, max_size=2)))
    if kind == "prefix":
        items = draw(st.lists(inner, min_size=1, max_size=3))
        lengths = [c for c in pool if _counts(c) and max(c.options_()) <= len(items)]
        new = one_of(*range(draw(st.integers(0, 1)), len(items) + 1))
        length = draw(st.sampled_from([*[c.choice for c in lengths], new, len(items)]))
        if isinstance(length, Choice):
            pool.append(_Length(length))
        return Prefix(items, length)
    options = [draw(inner), 100, Stack((draw(inner), 5))][: draw(st.integers(2, 3))]
    unique = [o for i, o in enumerate(options) if not any(o is p or o == p for p in options[:i])]
    if kind == "subset":
        return subset(unique, draw(st.integers(1, len(unique))))
    return one_of(*unique)


class _Length:
    """Marks a choice in the pool that may be a length."""

    def __init__(self, choice):
        self.choice = choice

    def options_(self):
        return [self.choice.value_at(i) for i in range(self.choice.count)]


def _counts(value):
    return isinstance(value, _Length)


def _bare(value):
    return value.choice if isinstance(value, _Length) else value


def _strip(value):
    """Replace marks by their choices, keeping the identity of what holds none."""
    memo: dict[int, object] = {}

    def strip(v):
        if id(v) not in memo:
            memo[id(v)] = (_stripped(v), v)
        return memo[id(v)][0]

    def _stripped(v):
        v = _bare(v)
        if isinstance(v, Block):
            fields = [strip(x) for x in v.values]
            return v if all(a is b for a, b in zip(fields, v.values, strict=True)) else type(v)(*fields)
        if isinstance(v, tuple):
            items = tuple(map(strip, v))
            return v if all(a is b for a, b in zip(items, v, strict=True)) else items
        if isinstance(v, Prefix):
            items = tuple(map(strip, v.items))
            return v if all(a is b for a, b in zip(items, v.items, strict=True)) else Prefix(items, v.length)
        if isinstance(v, (OneOf, Subset)):
            options = tuple(map(strip, v.options))
            if all(a is b for a, b in zip(options, v.options, strict=True)):
                return v
            return OneOf(options, v.name) if isinstance(v, OneOf) else Subset(options, v.k, v.name)
        return v

    return strip(value)


def _small(block, limit=1500) -> bool:
    return sum(1 for _, __ in zip(oracle(block), range(limit + 1), strict=False)) <= limit


@st.composite
def blocks(draw):
    """An open block with at most 1,500 architectures."""
    pool: list[object] = []
    layers = draw(st.lists(open_values(depth=2, pool=pool), min_size=1, max_size=4))
    return _strip(Stack(tuple(layers)))


small_blocks = blocks().filter(_small)
__all__ = [
    "Copies",
    "Leaf",
    "Pair",
    "Stack",
    "blocks",
    "once_for_all",
    "oracle",
    "repeat",
    "small_blocks",
    "walk",
]
