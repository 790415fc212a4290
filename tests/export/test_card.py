"""The model card of a network that was measured on a device."""

import pytest

from nasturtium.export.card import Card, Proof
from nasturtium.export.onnx import Agreement
from nasturtium.trial import Constraint

NAME = "latency(cpu)"


def card(proofs: tuple[Proof, ...], limit: float, **fields) -> Card:
    return Card(
        title="A network", architecture="kernel 3", inputs={"x": (1, 8, 8)}, outputs=["y"], costs={"params": 10.0},
        agreement=Agreement(opset=17, samples=16, largest_difference=1e-6, largest_output=1.0, **fields),
        constraints=[Constraint(metric=NAME, relation="<=", limit=limit)], proofs=proofs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "verdict"), [(2.2e-3, "met"), (2.1e-3, "met"), (2.0e-3, "not shown"), (1.8e-3, "missed")]
)
def test_the_card_states_value_interval_limit_verdict_prediction_and_conditions(limit: float, verdict: str) -> None:
    proof = Proof(
        metric=NAME, value=1.99e-3, low=1.9e-3, high=2.1e-3, predicted=1.87e-3, source="a table of 132 kernels",
        conditions={"machine": "a processor", "load": "0.5"}, warnings=["The machine was busy."],
    )  # fmt: skip
    made = card((proof,), limit)
    text = made.text()
    assert made.verdict(made.constraints[0]) == verdict
    marked = verdict if verdict == "met" else f"**{verdict}**"
    assert f"| latency(cpu) <= {1e3 * limit:g}ms | 1.99 ms | {marked} |" in text
    assert "| latency(cpu) | 1.99 ms | 1.9 ms to 2.1 ms (95%) | 1.87 ms |" in text
    for said in ("predicted by: a table of 132 kernels", "machine: a processor", "warning: The machine was busy."):
        assert said in text


def test_a_prediction_alone_shows_nothing() -> None:
    made = card((Proof(metric=NAME, value=None, predicted=1e-3, source="a table"),), 2e-3)
    assert made.verdict(made.constraints[0]) == "not measured"
    assert "| latency(cpu) <= 2ms | unknown | not measured |" in made.text()
    assert "| latency(cpu) | not measured | – | 1 ms |" in made.text()
