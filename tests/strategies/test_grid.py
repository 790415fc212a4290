"""Grid search on axes, coarse to fine on them, and the map of what meets the constraints."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nasturtium as nas
from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.graph import CostModel
from nasturtium.graph import tensor as ops
from nasturtium.space import Architecture, Block, Space, int_range, one_of
from nasturtium.strategies import Grid, grid
from nasturtium.strategies.feasibility import constraint_map
from nasturtium.study.codec import describe, restore
from nasturtium.testing import check_strategy, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most
from nasturtium.trial import Constraint, Exhausted, Proposal, Trial
from nasturtium.zoo.mobilenetv1 import mobilenetv1


class Scaled(Block):
    """MobileNet with its two hyper-parameters open."""

    width: Any
    resolution: Any
    act: Any = "relu6"

    def forward(self, x: Any) -> Any:
        return mobilenetv1(self.width)(ops.resize(x, (self.resolution, self.resolution), "bilinear"))


WIDTHS, RESOLUTIONS = (0.25, 0.5, 0.75, 1.0), (128, 160, 192, 224)
SPACE = Space(Scaled(one_of(*WIDTHS, name="width"), one_of(*range(48, 225, 16), name="resolution")))
ACTS = Space(Scaled(one_of(*WIDTHS, name="width"), int_range(48, 224, step=16, name="resolution"), one_of("a", "b")))


def plain(architecture: Architecture) -> tuple[Any, ...]:
    return tuple(d.value(architecture.decisions[d.name]) for d in ACTS.decisions)


def top_at(width: float, resolution: int) -> Any:
    return lambda a: {"accuracy": -abs(plain(a)[0] - width) - abs(plain(a)[1] - resolution) / 1000, "params": 1.0}


def problem_of(space: Space = ACTS, **changes: Any) -> Any:
    return toy_problem(space, **{"cheap_metrics": lambda _: {}, "trials": None, **changes})


def test_axes_restrict_the_grid() -> None:
    """Two widths by three resolutions by the two others, the last fastest; values as given, lists or ranges."""
    axes = {"width": [1.0, 0.5], "resolution": range(64, 129, 32)}
    run = drive(Grid(axes=axes), problem_of(), 100)
    expected = [(w, r, a) for w in (1.0, 0.5) for r in (64, 96, 128) for a in ("a", "b")]
    assert [plain(p.architecture) for p in run.proposals] == expected
    assert run.exhausted
    fixed = drive(Grid(axes={**axes, "act": ["b"]}), problem_of(), 100)
    assert [plain(p.architecture) for p in fixed.proposals] == [e for e in expected if e[2] == "b"]


def test_a_pattern_names_several_decisions() -> None:
    block = nas.repeat(nas.MBConv(8, kernel=one_of(3, 5, 7)), times=2)
    space = Space(nas.Sequential(block, block))
    names = [d.name for d in space.decisions]
    run = drive(Grid(axes={"*.kernel": [3, 7]}), problem_of(space), 100)
    assert len(run.proposals) == 2 ** len(names)
    assert {i for p in run.proposals for i in p.architecture.decisions.values()} == {0, 2}


def test_a_wide_range_with_a_large_step_is_narrowed() -> None:
    """From 48, 144, 224 by 3 widths, then around the best in halved steps: the top at (0.75, 80) is found."""
    axes = {"resolution": range(48, 225, 16), "act": ["a"]}
    strategy = Grid(points=3, best=1, axes=axes)
    run = drive(strategy, problem_of(), 100, outcome=top_at(0.75, 80))
    first = [plain(p.architecture) for p in run.proposals if p.origin == "grid 0"]
    assert {r for _, r, _ in first} == {48, 144, 224}
    best = max(run.trials, key=lambda t: t.metrics["accuracy"])
    assert plain(best.architecture) == (0.75, 80, "a")
    assert {plain(p.architecture)[2] for p in run.proposals} == {"a"}
    assert len(run.proposals) < 4 * 12
    for cut in range(0, len(run.log), 5):
        again = drive(
            Grid(points=3, best=1, axes=axes), problem_of(), 100, outcome=top_at(0.75, 80), replay=run.log[:cut]
        )
        assert again.keys == run.keys


def test_laws() -> None:
    """On the toy spaces' first axis, restricted to values that all of them have."""
    names = ("infeasible", "constraints_kept", "one_network", "finite")
    check_strategy(lambda: Grid(axes={"*0.a": [0, 1]}), skip=[*names, "fresh_process", "replayed"])


def test_settings_are_plain_json() -> None:
    strategy = Grid(axes={"width": (0.5, 1.0), "resolution": range(64, 129, 32)})
    stored = json.loads(json.dumps(describe(strategy, "strategy")))
    assert stored["arguments"]["axes"] == {"width": [0.5, 1.0], "resolution": [64, 96, 128]}
    assert restore(stored, "strategy") == strategy


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"widht": [1.0]}, "Unknown decision 'widht'.*Did you mean 'width'"),
        ({"width": []}, "not empty"),
        ({"width": "0.5"}, "a list or a range"),
        ({"width": [0.5, 0.6]}, r"'width' has no value 0\.6\. It has 0\.25, 0\.5, 0\.75, 1\.0\. The nearest is 0\.5"),
        ({"width": [0.5, 0.5]}, "twice"),
        ({"width": [0.5], "wid*": [1.0]}, "'width' and 'wid\\*' both give values to 'width'"),
        ({"act": ["c"]}, r"'act' has no value 'c'\. It has a, b\."),
    ],
)
def test_axes_are_checked(axes: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, InvalidInputError), match=message):
        Grid(axes=axes).setup(problem_of())


def test_axes_that_break_every_constraint_are_exhausted_or_infeasible() -> None:
    cheap = lambda a: {"params": 1000 * WIDTHS[a.decisions["width"]]}  # noqa: E731
    problem = problem_of(constraints=at_most(300), cheap_metrics=cheap)
    assert drive(Grid(axes={"width": [0.5, 1.0]}), problem, 100).exhausted == "every point of the grid was proposed"
    with pytest.raises(InfeasibleError):
        drive(Grid(axes={"width": [0.5]}), problem_of(constraints=at_most(30), cheap_metrics=cheap), 100)


# MobileNets (arXiv 1704.04861): mult-adds in millions, of table 6 (width at 224) and table 7 (resolution at width 1.0).
BY_WIDTH = {1.0: 569, 0.75: 325, 0.5: 149, 0.25: 41}
BY_RESOLUTION = {224: 569, 192: 418, 160: 290, 128: 186}


def costs(architecture: Architecture) -> dict[str, float]:
    cost = COST(architecture.block)
    return {"macs": float(cost.macs), "params": float(cost.params), "peak_memory": float(cost.peak_memory)}


COST = CostModel((3, 224, 224), classes=1000)


def test_map_of_mobilenets() -> None:
    """The paper's multiply-accumulates, and so which of its points meet a limit."""
    axes = {"width": WIDTHS, "resolution": RESOLUTIONS}
    found = constraint_map(SPACE, axes, ["macs <= 200M"], costs)
    macs = found.metrics["macs"]
    assert {w: round(macs[i][-1] / 1e6) for i, w in enumerate(WIDTHS)} == BY_WIDTH
    for j, resolution in enumerate(RESOLUTIONS):  # 290.7 by its own layers where the paper prints 290
        assert abs(macs[-1][j] / 1e6 - BY_RESOLUTION[resolution]) < 1
    assert found.feasible[-1] == (True, False, False, False)
    assert found.feasible[0] == found.feasible[1] == (True,) * 4
    assert found.count == 11
    assert found.boundary == ((0, 3), (1, 3), (2, 1), (3, 0))
    assert found.architectures[3][0] in SPACE
    text = str(found)
    assert text.startswith("11 of 16 points of width x resolution meet macs <= 200M")
    assert ["1.0", "●", "·", "·", "·"] in [line.split() for line in text.splitlines()]
    assert ["1.0", "186.4M", "290.7M", "418.1M", "568.7M"] in [line.split() for line in text.splitlines()]


def test_map_of_several_limits_and_a_latency_of_the_users_own() -> None:
    def measure(a: Architecture) -> dict[str, float]:
        return {**costs(a), "latency": costs(a)["macs"] / 1e11}

    limits = [Constraint(metric="latency", relation="<=", limit=2e-3), "peak_memory <= 400KiB"]
    found = constraint_map(SPACE, {"resolution": RESOLUTIONS, "width": WIDTHS}, limits, measure)
    both = [
        [m / 1e11 <= 2e-3 and p <= 400 * 1024 for m, p in zip(line, peaks, strict=True)]
        for line, peaks in zip(
            [[costs(a)["macs"] for a in line] for line in found.architectures],  # type: ignore[arg-type]
            found.metrics["peak_memory"],
            strict=True,
        )
    ]
    assert [list(line) for line in found.feasible] == both
    assert 0 < found.count < 16
    assert set(found.metrics) == {"latency", "peak_memory"}


def test_map_with_other_decisions_needs_a_base() -> None:
    axes = {"width": WIDTHS[:2], "resolution": RESOLUTIONS[:2]}
    with pytest.raises(InvalidInputError, match="Besides the axes, act must be decided"):
        constraint_map(ACTS, axes, ["macs <= 1G"], costs)
    base = ACTS.architecture({"width": 1.0, "resolution": 224, "act": "b"})
    found = constraint_map(ACTS, axes, ["macs <= 1G"], costs, base=base)
    assert (
        [plain(a) for line in found.architectures for a in line if a]
        == [  # type: ignore[arg-type]
            (w, r, "b") for w in WIDTHS[:2] for r in RESOLUTIONS[:2]
        ]
    )
    halved = SPACE.where(lambda a: not a.decisions["width"])
    assert constraint_map(halved, axes, ["macs <= 1G"], costs).feasible == ((True, True), (False, False))


@pytest.mark.parametrize(
    ("axes", "limits", "message"),
    [
        ({"width": WIDTHS}, ["macs <= 1G"], "two axes, got 1"),
        ({"width": WIDTHS, "resolution": RESOLUTIONS}, [], "At least one constraint"),
        ({"width": WIDTHS, "resolution": RESOLUTIONS}, ["activations <= 1M"], "gives no 'activations'"),
        ({"width": WIDTHS, "depth": [1]}, ["macs <= 1G"], "depth"),
    ],
)
def test_maps_are_checked(axes: Any, limits: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        constraint_map(SPACE, axes, limits, costs)


# -- logs ------------------------------------------------------------------------------------------------------------


def test_a_barren_grid_is_barren_whenever_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points 0 and 25 of 32 meet the limit, with 24 between: asked again, it does not go on to the second."""
    monkeypatch.setattr(grid, "BARREN", 20)
    space = toy_space(5, 2)
    order = [a.key for a in space.enumerate()]
    problem = problem_of(
        space, constraints=at_most(1), cheap_metrics=lambda a: {"params": float(order.index(a.key) not in (0, 25)) * 2}
    )
    live, resumed = Grid(), Grid()
    live.setup(problem)
    first = live.ask(0)
    assert isinstance(first, Proposal)
    answers = [live.ask(1), live.ask(1)]
    resumed.setup(problem)
    resumed.recall(first)
    assert all(isinstance(a, Exhausted) and "20 points" in a.reason for a in [*answers, resumed.ask(1)])


def test_a_best_point_beside_the_axes_is_no_centre() -> None:
    """Another's best network has a width that is on no axis: the grid is narrowed around its own best."""
    foreign = Proposal(number=0, architecture=ACTS.at(0), origin="round 7")
    best = Trial(number=0, architecture=ACTS.at(0), state="completed", metrics={"accuracy": 9.0, "params": 1.0})
    axes = {"width": [0.75, 1.0], "resolution": range(48, 225, 16), "act": ["b"]}
    strategy = Grid(points=2, best=1, axes=axes)
    run = drive(strategy, problem_of(), 60, outcome=top_at(1.0, 128), replay=[foreign, best])
    assert any(p.origin == "grid 1" for p in run.proposals)
    assert all(plain(p.architecture)[0] >= 0.75 for p in run.proposals if p.number)
