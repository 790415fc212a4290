"""What people type of devices: where a latency comes from, and how finalists are measured."""

import pytest

from nasturtium.cli.options import parse_latency, read_finalists
from nasturtium.errors import InvalidInputError

NOTHING = dict.fromkeys(("finalists", "precision", "processes", "measure_for"))


def test_each_device_names_its_source() -> None:
    assert parse_latency(()) == {}
    assert parse_latency(("cpu=runs/a=b.jsonl", "cpu-int8 = measure")) == {
        "cpu": "runs/a=b.jsonl",
        "cpu-int8": "measure",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("cpu",), "DEVICE=FILE"),
        (("=file",), "DEVICE=FILE"),
        (("cpu=",), "DEVICE=FILE"),
        (("cpu=a", "cpu=b"), "given twice for 'cpu'"),
    ],
)
def test_other_forms_are_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_latency(given)


def test_finalists_are_measured_as_asked() -> None:
    assert read_finalists(NOTHING | {"measure_for": "2min", "finalists": 3}).seconds == 120
    assert read_finalists(NOTHING | {"precision": 0.01}, rounds=1, finalists=5).finalists == 5
    with pytest.raises(InvalidInputError, match="`processes`"):
        read_finalists(NOTHING | {"processes": (2, 1)})
    with pytest.raises(InvalidInputError, match="`precision`"):
        read_finalists(NOTHING | {"precision": 3.0})
