"""Features of decisions and graphs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.hardware import CategoryFeatures, GraphFeatures


def test_categories_by_hand() -> None:
    """Two like decisions of two options and one of three that is not active."""
    features = CategoryFeatures(counts=(2, 2, 3), groups=(0, 0, 1))
    row = features.of_indices([[0, 0, -1]])[0]
    one_hot, counts = [1, 0, 1, 0, 0, 0, 0], [2, 0, 0, 0, 0]
    products = [4, *[0] * 14]
    assert row.tolist() == [*one_hot, *counts, *products]
    assert CategoryFeatures(counts=(2, 2), groups=(0, 1), products=False).of_indices([[1, 0]]).shape == (1, 8)


@pytest.mark.parametrize("matrix", [[[0]], [[0, 2]], [[0, -2]]])
def test_wrong_decisions_are_refused(matrix: list[list[int]]) -> None:
    with pytest.raises(InvalidInputError, match="ecision"):
        CategoryFeatures(counts=(2, 2), groups=(0, 0)).of_indices(matrix)
    with pytest.raises(InvalidInputError, match="2 and 3 options"):
        CategoryFeatures(counts=(2, 3), groups=(0, 0))


def test_graph_features_by_hand() -> None:
    """Two pointwise convolutions: 2 kernels, 2 * 36 * 64 MACs, inputs and outputs, weights with norms."""
    graph = nas.trace(nas.Sequential(nas.Conv(8, kernel=1), nas.Conv(8, kernel=1)), (8, 6, 6))
    features = GraphFeatures.fitted([graph])
    assert features.kinds == ("conv 1x1, batch norm, relu",)
    own = [2, 2 * 36 * 64, 2 * (288 + 288), 2 * (64 + 16)]
    assert features([graph])[0].tolist() == [*own, *own]
    grown = GraphFeatures(["add", *features.kinds])
    assert features.moved(np.array([[*own, *own]]), grown).tolist() == [[0, 0, 0, 0, *own, *own]]
