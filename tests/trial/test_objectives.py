"""Metrics, constraints and objectives: what is read, what is written, what is refused and how."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial import (
    METRICS,
    Constraint,
    Metric,
    Objective,
    accuracy,
    constraints,
    excess,
    format_constraint,
    loss,
    macs,
    metric,
    objectives,
    params,
    parse_constraint,
    parse_objective,
    peak_memory,
    train_seconds,
    violation,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("peak_memory <= 64KiB", peak_memory <= 65536),
        ("peak_memory<=64 KiB", peak_memory <= 65536),
        ("peak_memory <= 1MB", peak_memory <= 1_000_000),
        ("peak_memory >= 100B", peak_memory >= 100),
        ("params<=60k", params <= 60_000),
        ("  params ≤ 60_000 ", params <= 60_000),
        ("params <= 1.1k", params <= 1100),
        ("macs <= 1.5M", macs <= 1_500_000),
        ("macs <= 1e9", macs <= 10**9),
        ("accuracy >= 90%", accuracy >= 0.9),
        ("accuracy >= .9", accuracy >= 0.9),
        ("train_seconds <= 2min", train_seconds <= 120),
        ("train_seconds <= 5 ms", train_seconds <= 0.005),
        ("loss <= -1.5", loss <= -1.5),
    ],
)
def test_constraints_are_read(text: str, expected: Constraint) -> None:
    assert parse_constraint(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params < 1e5", r"Limits are inclusive; write 'params <= 1e5'"),
        ("params > 1e5", r"write 'params >= 1e5'"),
        ("params == 5", "expected `<=` or `>=`, got `==`"),
        ("params", "expected `metric <= number`"),
        ("60k >= params", "expected `metric <= number`"),
        ("params <=", "expected a number with a unit such as '60k', got ''"),
        ("params <= many", "got 'many'"),
        ("params <= nan", "got 'nan'"),
        ("params <= 60,000", "unit ',000' does not fit"),
        ("params <= 64KiB", "unit 'KiB' does not fit `params`"),
        ("peak_memory <= 64k", "kB .* or KiB"),
        ("peak_memory <= 64kib", "Did you mean 'KiB'"),
        ("accuracy >= 90", r"fraction in \[0, 1\], got 90.0; write 0.9 or '90%'"),
        ("accuracy >= 150%", "at most 1"),
        ("params <= -3", "at least 0"),
        ("loss <= 2k", "it has none"),
        ("flops <= 3", "multiply-accumulates"),
        ("", "expected `metric <= number`"),
    ],
)
def test_malformed_constraints_say_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_constraint(text)


def test_unknown_metrics_list_the_known() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'params'"):
        parse_constraint("param <= 3")
    latency = Metric(name="latency_cpu", unit="seconds", cheap=True)
    extra = {"latency_cpu": latency}
    assert parse_constraint("latency_cpu <= 2ms", extra=extra) == (latency <= 0.002)
    assert metric("latency_cpu", extra=extra) is latency


@given(st.sampled_from(sorted(METRICS)), st.floats(0, 1) | st.integers(0, 10**12), st.sampled_from(["<=", ">="]))
def test_a_written_constraint_reads_back_exactly(name: str, limit: float, relation: str) -> None:
    limit = max(min(limit, METRICS[name].highest), METRICS[name].lowest)
    constraint = Constraint(metric=name, relation=relation, limit=float(limit))  # type: ignore[arg-type]
    assert parse_constraint(format_constraint(constraint)) == constraint


def test_metrics_compare_as_values() -> None:
    assert params == METRICS["params"]
    assert len({params, macs, metric("params")}) == 2
    with pytest.raises(InvalidInputError, match="write `params <= 5`"):
        _ = params < 5
    for bad in (math.nan, math.inf, True, "60k"):
        with pytest.raises(InvalidInputError, match="finite number"):
            _ = params <= bad  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (params.format(60_000), "60k"),
        (params.format(999), "999"),
        (params.format(999_960), "1M"),
        (macs.format(300_774_272), "300.8M"),
        (peak_memory.format(65_536), "64 KiB"),
        (peak_memory.format(100), "100 B"),
        (accuracy.format(0.973), "97.3 %"),
        (loss.format(0.34119), "0.3412"),
        (train_seconds.format(0.0021), "2.1 ms"),
        (train_seconds.format(125), "2 min 5 s"),
        (train_seconds.format(12_345), "3 h 26 min"),
        (accuracy.format(math.nan), "nan"),
    ],
)
def test_values_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_objectives() -> None:
    assert objectives("accuracy", ["macs", params]) == (
        Objective(metric="accuracy", direction="maximize"),
        Objective(metric="macs", direction="minimize"),
        Objective(metric="params", direction="minimize"),
    )
    assert parse_objective("maximise accuracy") == Objective(metric="accuracy", direction="maximize")
    for arguments, message in (
        ((), "needs an objective"),
        (("macs", "macs"), "both maximised and minimised"),
        ((["macs", "macs"],), "given twice"),
        (("acuracy",), "Did you mean 'accuracy'"),
        (("flops",), "macs"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            objectives(*arguments)
    for text, message in (("accuracy", "lacks its direction"), ("up accuracy", "expected 'maximize")):
        with pytest.raises(InvalidInputError, match=message):
            parse_objective(text)


def test_constraints_that_leave_nothing_are_refused() -> None:
    assert constraints("params <= 5k") == constraints([params <= 5000, "params <= 5k"])
    with pytest.raises(InvalidInputError, match="leave no value"):
        constraints(["params <= 1k", "params >= 2k"])
    with pytest.raises(InvalidInputError, match="must be text"):
        constraints([3])  # type: ignore[list-item]
    assert len(constraints(["params <= 2k", "params >= 2k"])) == 2


def test_violation_is_relative_to_the_limit() -> None:
    limits = constraints(["params <= 100", "accuracy >= 0.8"])
    assert violation({"params": 125, "accuracy": 0.6}, limits) == pytest.approx(0.5)
    assert violation({"params": 100, "accuracy": 0.8}, limits) == 0
    assert violation({"params": 100}, limits) == math.inf
    assert violation({"params": 100, "accuracy": math.nan}, limits) == math.inf
    assert excess(3, params <= 0) == 3


def test_metrics_of_a_device_are_named_by_kind_and_device():
    assert (nas.latency("cpu") <= 2e-3) == Constraint(metric="latency(cpu)", relation="<=", limit=2e-3)
    limit = parse_constraint("latency( cpu-int8 ) <= 2.5 ms")
    assert limit == Constraint(metric="latency(cpu-int8)", relation="<=", limit=2.5e-3)
    assert parse_constraint(format_constraint(limit)) == limit
    assert parse_objective("minimize energy(cpu)").metric == "energy(cpu)"
    assert (nas.flash("mcu-256k") <= 2**20).metric == "flash(mcu-256k)"
    assert METRICS["latency(cpu)"].format(2.5e-3) == "2.5 ms"
    assert METRICS["energy(cpu)"].format(2.5e-3) == "2.5 mJ"
    assert "latency(cpu)" not in list(METRICS)
    with pytest.raises(InvalidInputError, match=r"write `latency\(DEVICE\)`"):
        parse_constraint("latency <= 2ms")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'latency\(DEVICE\)'"):
        parse_constraint("latenc(cpu) <= 2ms")
    with pytest.raises(InvalidInputError, match="unit 'MB' does not fit"):
        parse_constraint("latency(cpu) <= 2MB")
