"""The Gaussian process against GPyTorch, hand-worked posteriors, and its own laws."""

from __future__ import annotations

import random

import gpytorch
import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.surrogates.encodings import Encoder
from nasturtium.surrogates.gaussian_process import Averaged, Conditioned, Parameters, Rows, _process, fit
from nasturtium.surrogates.kernels import Kernels, Processes
from nasturtium.surrogates.warping import LowerLog


def rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(n, 4))
    return Rows(squared=(rng.normal(size=(n, 3)),), linear=(linear / np.linalg.norm(linear, axis=1, keepdims=True),))


GIVEN = Parameters((0.3, -0.7), (0.2,), 0.05)


def test_one_measurement_by_hand() -> None:
    # k(x, x) = 1, k(x, z) = exp(-1/2): mean = k y / (1 + noise), variance = 1 - k^2 / (1 + noise)
    one, other = Rows(squared=(np.zeros((1, 1)),)), Rows(squared=(np.ones((1, 1)),))
    found = Conditioned(Parameters((0.0,), (0.0,), 0.25), one, np.array([2.0])).posterior(other)
    assert found.mean[0] == pytest.approx(np.exp(-0.5) * 2 / 1.25, rel=1e-5)
    assert found.std[0] ** 2 == pytest.approx(1 - np.exp(-1.0) / 1.25, rel=1e-5)


def test_posterior_is_gpytorchs() -> None:
    both, targets = rows(30), np.random.default_rng(1).normal(size=20)
    known, asked = both.take(range(20)), both.take(range(20, 30))
    given = Conditioned(GIVEN, known, targets)
    found = given.posterior(asked)
    process = _process(both, targets, GIVEN)
    process.eval()
    x = torch.arange(20, 30, dtype=torch.float64)[:, None]
    with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
        theirs = process(x)
        assert np.allclose(found.mean, theirs.mean.numpy(), atol=1e-4)
        assert np.allclose(found.std**2, theirs.variance.numpy(), atol=1e-4)
        joint = given.covariance(asked)
        assert np.allclose(joint, theirs.covariance_matrix.numpy(), atol=1e-4)
    assert np.allclose(np.diag(joint), found.std**2)


def test_what_is_under_way_lowers_the_deviation_and_leaves_the_mean() -> None:
    both, targets = rows(24), np.random.default_rng(2).normal(size=12)
    known, pending, asked = both.take(range(12)), both.take(range(12, 14)), both.take(range(12, 24))
    before = Conditioned(GIVEN, known, targets).posterior(asked)
    after = Conditioned(GIVEN, known, targets, pending=pending).posterior(asked)
    assert np.allclose(before.mean, after.mean)
    assert (after.std <= before.std + 1e-9).all()
    assert (after.std[:2] < 0.8 * before.std[:2]).all()


def test_a_fit_has_a_larger_density_than_its_start_and_is_the_same_twice() -> None:
    known = rows(40)
    targets = np.sin(known.squared[0][:, 0]) + 2 * known.linear[0][:, 1]
    targets = (targets - targets.mean()) / targets.std()
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    found = fit(known, targets)
    assert found == fit(known, targets)
    assert torch.equal(state, torch.random.get_rng_state())
    assert threads == torch.get_num_threads()

    def density(parameters: Parameters) -> float:
        process = _process(known, targets, parameters)
        process.train()
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
        with gpytorch.settings.fast_computations(False, False, False):
            return likelihood(process(*process.train_inputs), process.train_targets).item()

    assert density(found) > density(Parameters((-0.69, -0.69), (0.5,), 1e-2))
    asked = rows(200, seed=5)
    truth = np.sin(asked.squared[0][:, 0]) + 2 * asked.linear[0][:, 1]
    assert np.corrcoef(Conditioned(found, known, targets).posterior(asked).mean, truth)[0, 1] > 0.9


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 or more rows, got 1"):
        fit(rows(1), np.zeros(1))


def test_equal_targets_are_survived() -> None:
    found = Conditioned(fit(rows(6), np.zeros(6)), rows(6), np.zeros(6)).posterior(rows(3, seed=2))
    assert np.allclose(found.mean, 0.0)
    assert np.isfinite(found.std).all()


def test_kernels_of_a_space() -> None:
    cells, layers = nas.zoo.space("nasbench201"), nas.zoo.space("mobile")
    assert Kernels(cells).names == ("decisions", "wl")
    assert Kernels(layers).names == ("decisions", "additive", "ordered")
    with pytest.raises(UnknownNameError, match="kernel"):
        Kernels(cells, "wll")
    with pytest.raises(InvalidInputError, match="has none"):
        Kernels(cells, "ordered")


def test_costs_are_standardised_in_logarithms_and_what_is_unknown_stands_in_the_middle() -> None:
    space = nas.testing.toy_space(2, 3)
    drawn = list(space.enumerate())[:4]
    costs = {a.key: {"params": value} for a, value in zip(drawn, (1.0, 100.0, 10.0, float("nan")), strict=True)}
    kernels = Kernels(space, "decisions", costs=lambda a: costs[a.key], features=("params",))
    column = kernels.rows(drawn, drawn[:2]).squared[1][:, 0]
    assert column.tolist() == pytest.approx([-1.0, 1.0, 0.0, 0.0])
    with pytest.raises(UnknownNameError, match="cheap metric"):
        Kernels(space, "decisions", costs=lambda a: costs[a.key], features=("macs",)).rows(drawn, drawn)


def test_the_bad_half_is_drawn_together_and_back() -> None:
    values = np.array([0.0, 50.0, 90.0, 91.0, 92.0, 93.0, 94.0])
    warp = LowerLog(values)
    spread = np.quantile(values, 0.9) - 91.0
    drawn = np.where(values < 91, 91 - spread * np.log1p(np.maximum(91 - values, 0) / spread), values)
    assert np.allclose(warp.values, (drawn - drawn.mean()) / drawn.std())
    assert np.allclose(warp.forward(values), warp.values)
    asked = np.linspace(-20, 120, 29)
    assert np.allclose(warp.inverse(warp.forward(asked)), asked)
    assert (np.diff(warp.forward(asked)) > 0).all()
    flat = LowerLog(np.array([1.0, 2.0, 2.0, 2.0]))
    assert np.isfinite(flat.values).all()
    assert flat.inverse(flat.values) == pytest.approx([1.0, 2.0, 2.0, 2.0])


def test_mixture_of_processes_has_the_moments_of_draws_from_either() -> None:
    known, asked = rows(6), rows(4, seed=2)
    targets = np.linspace(-1.0, 1.0, 6)
    others = Parameters((0.5, 0.1), (1.0,), 0.1)
    first, second = Conditioned(GIVEN, known, targets), Conditioned(others, known, targets)
    mixture = Averaged([first, second])
    said, covariance = mixture.posterior([asked, asked]), mixture.covariance([asked, asked])
    assert np.sqrt(np.diag(covariance)) == pytest.approx(said.std, rel=1e-9)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([
        rng.multivariate_normal(p.posterior(asked).mean, p.covariance(asked) + 1e-12 * np.eye(4), size=200_000)
        for p in (first, second)
    ])  # fmt: skip
    assert said.mean == pytest.approx(drawn.mean(axis=0), abs=0.01)
    assert covariance == pytest.approx(np.cov(drawn.T), abs=0.01)
    alone = Averaged([first]).posterior([asked])
    assert alone.mean == pytest.approx(first.posterior(asked).mean)
    assert alone.std == pytest.approx(first.posterior(asked).std)


def test_processes_by_default_and_by_name() -> None:
    cells, layers = nas.zoo.space("nasbench201"), nas.zoo.space("mobile")
    assert Processes(cells).names == (("decisions", "wl"), ("paths",), ("decisions", "wl", "paths"))
    assert Processes(layers).names == (Kernels(layers).names,)
    assert Processes(cells, "paths").names == (("paths",),)
    assert Processes(cells, ["wl", "paths"]).names == (("wl", "paths"),)
    assert Processes(cells, [["wl"], "paths"]).names == (("wl",), ("paths",))
    drawn = [cells.sample(random.Random(i)) for i in range(4)]
    both, alone = (
        Processes(cells, [["wl"], ["paths", "wl"]]).rows(drawn, drawn),
        Kernels(cells, "wl").rows(drawn, drawn),
    )
    assert [(len(r.squared), len(r.linear)) for r in both] == [(0, 1), (1, 1)]
    assert np.array_equal(both[1].linear[0], alone.linear[0])
    with pytest.raises(InvalidInputError, match="at least one kernel"):
        Processes(cells, [["wl"], []])
    with pytest.raises(UnknownNameError, match="wll"):
        Processes(cells, [["wll"], ["paths"]])


def test_paths_that_are_not_known_lead_away() -> None:
    """The squared distance of a candidate to what is known counts every path that only one of the two has."""
    cells = nas.zoo.space("nasbench201")
    drawn = [cells.sample(random.Random(i)) for i in range(12)]
    known, asked = drawn[:3], drawn[3:]
    kernels, every = Kernels(cells, "paths"), Encoder(cells, "paths")
    there = np.minimum(every.encode(drawn), 1.0)
    wanted = np.abs(there[3:, None] - there[None, :3]).sum(axis=2)
    a, b = kernels.rows(asked, known).squared[0], kernels.rows(known, known).squared[0]
    assert np.square(a[:, None] - b[None]).sum(axis=2) == pytest.approx(wanted)
