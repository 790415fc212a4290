"""A measurement as a value: its interval, verdicts, JSON."""

import json

import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.hardware import BUILT_IN, Conditions, Measurement

CONDITIONS = Conditions(device=BUILT_IN["cpu"], machine="x", cores=(0, 1), load=0.5, versions=(("onnxruntime", "1"),))


def measured(**changes):
    fields = {"seconds": 2e-3, "low": 1.9e-3, "high": 2.2e-3, "conditions": CONDITIONS, "precision": 0.02}
    return Measurement(**{**fields, **changes})


def test_it_survives_json():
    found = measured(processes=(2e-3, 2.1e-3), samples=(10, 20), warnings=("busy",))
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_half_width_is_relative_and_compared_with_what_was_asked():
    assert measured().half_width == pytest.approx(0.075)
    assert not measured().is_precise
    assert measured(precision=0.08).is_precise
    assert measured(precision=None).is_precise


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(2.2e-3, "met"), (3e-3, "met"), (2.1e-3, "undecided"), (1.9e-3, "undecided"), (1.89e-3, "missed")],
)
def test_a_limit_is_met_only_by_the_whole_interval(limit, verdict):
    assert measured().verdict(limit) == verdict


def test_the_text_says_device_runtime_dtype_batch_and_threads():
    text = measured(processes=(2e-3, 2e-3), samples=(10, 20)).text
    for part in ("2 ms", "95 % interval 1.9 ms to 2.2 ms", "2 processes, 30 runs", "cpu: ONNX Runtime, 1 thread",
                 "float32", "batch 1"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    "changes",
    [{"low": 2.1e-3}, {"high": 1.9e-3}, {"seconds": float("nan")}, {"confidence": 95}, {"precision": 0.0},
     {"processes": (1.0,)}],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes):
    with pytest.raises(InvalidInputError):
        measured(**changes)


def test_other_versions_and_fields_are_refused():
    with pytest.raises(InvalidInputError, match="version 7"):
        Measurement.from_dict({**measured().to_dict(), "version": 7})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Measurement.from_dict({**measured().to_dict(), "millis": 7})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Measurement.from_dict({"version": 1})
