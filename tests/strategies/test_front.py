"""Expected gain of hypervolume against hand-worked areas and BoTorch's analytic formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.models.deterministic import GenericDeterministicModel
from botorch.posteriors import GPyTorchPosterior
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from gpytorch.distributions import MultitaskMultivariateNormal

from nasturtium.strategies.learned.front import Front
from nasturtium.testing import toy_space
from nasturtium.trial import Objective, Trial

OBJECTIVES = (Objective(metric="accuracy", direction="maximize"), Objective(metric="macs", direction="minimize"))


def front(*points: tuple[float, float]) -> Front:
    drawn = list(toy_space(1, 3).enumerate())
    trials = [
        Trial(number=i, architecture=drawn[i], metrics={"accuracy": a, "macs": m}) for i, (a, m) in enumerate(points)
    ]
    return Front(OBJECTIVES, trials)


def certain(made: Front, accuracy: float, macs: float) -> float:
    return float(made.gain(np.tile(np.array([[[accuracy, -macs]]]), (made.draws, 1, 1)))[0])


def test_gain_of_a_certain_point_is_its_area() -> None:
    # Front (0, 10) and (1, 20), extents 1 and 10: in its units (0, 1) and (1, 0), reference (-0.1, -0.1).
    made = front((0.0, 10.0), (1.0, 20.0), (0.0, 30.0))
    assert certain(made, 0.5, 15.0) == pytest.approx(0.5 * 0.5)
    assert certain(made, 1.5, 20.0) == pytest.approx(0.5 * 0.1)
    assert certain(made, 1.0, 10.0) == pytest.approx(1.0)
    assert certain(made, 0.0, 10.0) == pytest.approx(0.0)
    assert certain(made, -0.5, 40.0) == pytest.approx(0.0)


def test_gain_of_an_uncertain_point_is_botorchs() -> None:
    made = front((0.0, 10.0), (1.0, 20.0), (0.7, 13.0))
    means, stds = np.array([[0.8, -12.0], [0.2, -30.0], [1.1, -15.0]]), np.array([[0.2, 2.0], [0.4, 8.0], [0.1, 1.0]])
    normal = np.stack([made.normal(i, seed=0, number=7) for i in range(2)], axis=-1)
    assert not np.array_equal(normal[:, 0], normal[:, 1])
    found = made.gain(means[None] + stds[None] * normal[:, None, :])
    low, extent = np.array([0.0, -20.0]), np.array([1.0, 10.0])
    points = torch.from_numpy((np.array([[0.0, -10.0], [1.0, -20.0], [0.7, -13.0]]) - low) / extent)
    reference = torch.full((2,), -0.1, dtype=torch.float64)

    class Known(GenericDeterministicModel):
        def posterior(self, X, *args, **kwargs):
            i = int(X.flatten()[0])
            mean = torch.from_numpy((means[i] - low) / extent).reshape(1, 1, 2)
            covariance = torch.diag(torch.from_numpy((stds[i] / extent) ** 2))[None]
            return GPyTorchPosterior(MultitaskMultivariateNormal(mean, covariance))

    theirs = ExpectedHypervolumeImprovement(
        Known(lambda x: x, num_outputs=2), reference.tolist(), FastNondominatedPartitioning(reference, Y=points)
    )
    expected = [theirs(torch.full((1, 1, 1), float(i), dtype=torch.float64)).item() for i in range(3)]
    assert found == pytest.approx(expected, rel=0.1, abs=0.005)


def test_equal_points_count_once() -> None:
    assert certain(front((1.0, 10.0), (1.0, 10.0)), 2.0, 10.0) > 0
