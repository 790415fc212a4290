"""The search for the order of least peak between two sets of steps that every order passes through.

Four things keep it small, and none gives up exactness:

1. While a step runs, what earlier steps made for it and for later ones is alive: a lower bound (`Span.floor`). An order
   that reaches it is optimal, and moments below it are all alike.
2. Sets are visited in the order of the largest moment that leads to them, so the first way through is optimal.
3. Steps that end with no more alive than at any point since they began, and that stay under what was paid already, run
   at once (`Span._settle`). That loses nothing: what is alive is a submodular function of the set of steps that ran,
   so running them earlier makes no later moment worse.
4. A step that frees nothing only adds its result. It may as well run later, until right before the step that reads
   that result, or that frees what both read: swapping it with any other step that follows makes no moment worse. So
   such steps run only together with the one that they are for (`Span._moves`).

Where the search would take too many sets, a beam gives an order, and the sets visited so far a proven lower bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, count

BEAM = 64
"""Sets of each size that are kept where the exact search is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, as far as memory is concerned."""

    size: int
    """Bytes of its result."""
    reads: tuple[int, ...]
    """Numbers of the steps whose results it reads; each below its own."""
    over: tuple[int, ...] = ()
    """Those of `reads` that it may write its result over where nobody reads them later."""
    beside: tuple[int, int] | None = None
    """`(read, bytes)`: beside this read, if nobody reads it later, it needs only so many bytes while it runs."""
    kept: bool = False
    """Whether its result lives to the end."""
    first: bool = False
    """Whether it is an input, which is there from the start."""


class Network:
    """What is alive after which steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.needs = [sum(1 << j for j in set(step.reads)) for step in steps]
        self.readers = [0] * len(steps)
        for i, step in enumerate(steps):
            for j in step.reads:
                self.readers[j] |= 1 << i
        self.next = [tuple(_members(mask)) for mask in self.readers]
        self.frees = [tuple(j for j in dict.fromkeys(step.reads) if not steps[j].kept) for step in steps]

    def run(self, done: int, live: int, i: int) -> tuple[int, int]:
        """Bytes while step `i` runs after the steps `done`, with `live` bytes alive, and bytes after it."""
        step = self.steps[i]
        done |= 1 << i
        extra = step.size
        freed = [j for j in self.frees[i] if not self.readers[j] & ~done]
        for j in freed:
            if j in step.over:
                extra = 0
        if extra and step.beside is not None and step.beside[0] in freed:
            extra = step.beside[1]
        stays = step.size if self.readers[i] or step.kept else 0
        return live + extra, live + stays - sum([self.steps[j].size for j in freed])

    def live(self, done: int) -> int:
        """Bytes alive after the steps `done`."""
        return sum(self.steps[j].size for j in _members(done) if self.readers[j] & ~done or self.steps[j].kept)

    def peak(self, order: Sequence[int]) -> int:
        """Bytes alive at the worst moment of an order."""
        done = live = peak = 0
        for i in order:
            moment, live = self.run(done, live, i)
            done |= 1 << i
            peak = max(peak, moment)
        return peak


@dataclass(frozen=True, slots=True)
class _State:
    """Steps that ran, what is alive, and what may run next."""

    done: int
    live: int
    ready: tuple[int, ...]


class Span:
    """The steps between two sets that every order passes through."""

    def __init__(self, network: Network, start: int, end: int) -> None:
        self.network = network
        self.end = end
        self.own = list(_members(end & ~start))
        self.held = list(_members(start))
        ready = tuple(i for i in self.own if not network.needs[i] & ~start)
        self.start = _State(start, network.live(start), ready)

    def floor(self) -> int:
        """Bytes that every order needs at some step of this span.

        While a step runs, alive is all that steps before it made and steps after it, or itself, read.
        """
        network, steps = self.network, self.network.steps
        place = {i: k for k, i in enumerate(self.own)}
        before = [0] * len(self.own)
        after = [0] * len(self.own)
        own = self.end & ~self.start.done
        for k, i in enumerate(self.own):
            for j in _members(network.needs[i] & own):
                before[k] |= before[place[j]] | 1 << j
        for k in reversed(range(len(self.own))):
            for j in _members(network.readers[self.own[k]] & own):
                after[k] |= after[place[j]] | 1 << j
        held = [j for j in self.held if steps[j].kept or network.readers[j] & ~self.start.done]
        worst = 0
        for k, i in enumerate(self.own):
            later = ~self.end | after[k] | 1 << i
            sources = [*held, *_members(before[k])]
            alive = sum([steps[j].size for j in sources if steps[j].kept or network.readers[j] & later])
            least, _ = network.run(self.end & ~after[k] & ~(1 << i), 0, i)
            worst = max(worst, alive + least)
        return worst

    def solve(self, floor: int, states: int) -> tuple[list[int], int, int]:
        """An order of the span, a lower bound of its peak (or of `floor`), and the number of sets looked at."""
        if self._moment(self.own) <= floor:
            return self.own, floor, 0
        queue = [(floor, 0, 0, self.start)]
        came: dict[int, tuple[int, list[int]]] = {}
        best: dict[int, int] = {self.start.done: floor}
        closed: set[int] = set()
        number = count(1)
        bound = floor
        while queue:
            bound, _, _, state = heapq.heappop(queue)
            if state.done in closed:
                continue
            closed.add(state.done)
            settled, ran = self._settle(state, bound)
            if settled.done != state.done:
                if settled.done in closed:
                    continue
                closed.add(settled.done)
                came[settled.done] = (state.done, ran)
            if settled.done == self.end:
                return self._trace(came, settled.done), bound, len(closed)
            if len(closed) > states:
                return self._beam(floor), bound, len(closed)
            for moment, after, run in self._moves(settled):
                largest = max(moment, bound)
                if after.done in closed or best.get(after.done, largest + 1) <= largest:
                    continue
                best[after.done] = largest
                came[after.done] = (settled.done, run)
                heapq.heappush(queue, (largest, -after.done.bit_count(), next(number), after))
        raise AssertionError("every order of a span ends")

    def _moves(self, state: _State) -> Iterator[tuple[int, _State, list[int]]]:
        """What may run next: a step that frees something, after those that only add, and that it is for.

        The last steps of a span may all only add: then they run together.
        """
        network = self.network
        candidates = list(state.ready)
        seen = set(candidates)
        found = False
        for i in candidates:
            asked = self._missing(state.done, 1 << i)
            for also in self._others(state, i):
                moved = self._together(state, asked | also, i)
                if moved is None:
                    continue
                if moved[3]:
                    found = True
                    yield moved[:3]
                elif not also:
                    new = [j for j in network.next[i] if self.end >> j & 1 and j not in seen]
                    seen.update(new)
                    candidates.extend(new)
        if not found:
            rest = list(_members(self.end & ~state.done))
            moment, live = self._through(state, rest)
            yield moment, _State(self.end, live, ()), rest

    def _missing(self, done: int, wanted: int) -> int:
        """What must still run before some steps."""
        found, new = 0, wanted
        while new:
            needs = 0
            for j in _members(new):
                needs |= self.network.needs[j]
            new = needs & ~done & ~found
            found |= new
        return found

    def _others(self, state: _State, i: int) -> list[int]:
        """Sets of steps that only add, after which step `i` is the last reader of some of its inputs."""
        network, done = self.network, state.done
        choices = []
        for j in network.frees[i]:
            others = network.readers[j] & ~done & ~(1 << i)
            if others and not others & ~self.end:
                others |= self._missing(done, others)
                if not others >> i & 1 and self._only_add(state, others):
                    choices.append(others)
        subsets = chain.from_iterable(combinations(choices, k) for k in range(len(choices) + 1))
        return list(dict.fromkeys(_union(subset) for subset in subsets))

    def _only_add(self, state: _State, steps: int) -> bool:
        """Whether some steps, in the given order, do nothing but add their results."""
        done, live = state.done, state.live
        for j in _members(steps):
            moment, after = self.network.run(done, live, j)
            if not moment == after == live + self.network.steps[j].size:
                return False
            done |= 1 << j
            live = after
        return True

    def _together(self, state: _State, before: int, i: int) -> tuple[int, _State, list[int], bool] | None:
        """Run steps that only add, then step `i`: the largest moment, the state, the steps, whether `i` frees.

        None where one of the steps before does more than add.
        """
        network, done, live, peak = self.network, state.done, state.live, 0
        run = [*_members(before), i]
        for j in run:
            moment, after = network.run(done, live, j)
            adds = moment == after == live + network.steps[j].size
            if not adds and j != i:
                return None
            done |= 1 << j
            live = after
            peak = max(peak, moment)
        return peak, _State(done, live, self._ready(state, done, run)), run, not adds

    def _ready(self, state: _State, done: int, run: Sequence[int]) -> tuple[int, ...]:
        """What may run after some steps more."""
        needs = self.network.needs
        new = dict.fromkeys(j for i in run for j in self.network.next[i])
        held = [j for j in state.ready if not done >> j & 1]
        return (*held, *[j for j in new if self.end >> j & 1 and not needs[j] & ~done and not done >> j & 1])

    def _through(self, state: _State, run: Sequence[int]) -> tuple[int, int]:
        """The largest moment of some steps, and what is alive after them."""
        done, live, peak = state.done, state.live, 0
        for i in run:
            moment, live = self.network.run(done, live, i)
            done |= 1 << i
            peak = max(peak, moment)
        return peak, live

    def _after(self, state: _State, i: int) -> tuple[int, _State]:
        """Bytes while step `i` runs, and what comes after it."""
        moment, live = self.network.run(state.done, state.live, i)
        done = state.done | 1 << i
        needs = self.network.needs
        new = [j for j in self.network.next[i] if self.end >> j & 1 and not needs[j] & ~done]
        return moment, _State(done, live, (*[j for j in state.ready if j != i], *new))

    def _settle(self, state: _State, bound: int) -> tuple[_State, list[int]]:
        """Run whatever can run without loss; see the third rule above."""
        ran: list[int] = []
        while True:
            for i in state.ready:
                found = self._descent(state, i, bound)
                if found is not None:
                    state, chain = found
                    ran.extend(chain)
                    break
            else:
                return state, ran

    def _descent(self, start: _State, i: int, bound: int) -> tuple[_State, list[int]] | None:
        """A chain of steps from `i` that ends with no more alive than anywhere on it, under the bound."""
        state, chain = start, [i]
        least = start.live
        while True:
            moment, after = self._after(state, chain[-1])
            if moment > bound:
                return None
            if after.live <= least:
                return after, chain
            new = after.ready[len(state.ready) - 1 :]
            if not new:
                return None
            state = after
            chain.append(new[0])

    def _beam(self, floor: int) -> list[int]:
        """A good order: of the sets of each size, those that were reached best are kept."""
        beam: dict[int, tuple[int, _State, tuple[int, ...]]] = {self.start.done: (floor, self.start, ())}
        while self.end not in beam:
            after: dict[int, tuple[int, _State, tuple[int, ...]]] = {}
            for largest, state, order in beam.values():
                for i in state.ready:
                    moment, then = self._after(state, i)
                    reached = max(moment, largest)
                    if then.done not in after or reached < after[then.done][0]:
                        after[then.done] = (reached, then, (*order, i))
            ranked = sorted(after.values(), key=lambda entry: (entry[0], entry[1].live, entry[1].done))
            beam = {entry[1].done: entry for entry in ranked[:BEAM]}
        found = list(beam[self.end][2])
        return min(found, self.own, key=self._moment)

    def _moment(self, order: Sequence[int]) -> int:
        """Bytes alive at the worst moment of the span in an order."""
        return self._through(self.start, order)[0]

    def _trace(self, came: dict[int, tuple[int, list[int]]], done: int) -> list[int]:
        """The order that led to a set."""
        runs = []
        while done != self.start.done:
            done, ran = came[done]
            runs.append(ran)
        return [i for ran in reversed(runs) for i in ran]


def _members(mask: int) -> Iterator[int]:
    """The numbers in a set."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _union(sets: Sequence[int]) -> int:
    """All that is in some of the sets."""
    found = 0
    for each in sets:
        found |= each
    return found
