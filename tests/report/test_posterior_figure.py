"""The figures of Bayesian optimisation show what the model itself says, and what the strategy really proposes."""

from __future__ import annotations

import numpy as np
import pytest

from nasturtium.errors import InvalidInputError
from nasturtium.report.posterior_figure import (
    PLACES,
    Line,
    acquisition_figure,
    along_one_decision,
    posterior_figure,
    search_one_decision,
    two_hills,
    weighed,
)
from nasturtium.strategies.learned.auto import Auto
from nasturtium.strategies.learned.bayesian import BayesianOptimization
from nasturtium.surrogates import gaussian_process
from nasturtium.surrogates.gaussian_process import Rows
from nasturtium.surrogates.warping import LowerLog
from nasturtium.testing import drive, toy_problem


@pytest.fixture(scope="module")
def found():
    return search_one_decision("ucb", steps=(3, 5, 8), seed=1)


def test_beliefs_are_the_gaussian_process_by_itself(found):
    """The same process, fitted here to the first trials of the same rows, without the strategy."""
    x = np.linspace(0, 1, PLACES)[:, None]
    response = two_hills(1)
    belief = found.beliefs[0]
    known = Rows(squared=(x[list(belief.measured)],))
    warp = LowerLog(response[list(belief.measured)])
    process = gaussian_process.Conditioned(gaussian_process.fit(known, warp.values), known, warp.values)
    said = process.posterior(Rows(squared=(x,)))
    assert belief.mean == pytest.approx(said.mean)
    assert belief.std == pytest.approx(said.std)
    assert belief.scores == pytest.approx(said.mean + 1.8 * said.std)
    assert belief.response == pytest.approx(warp.forward(response))


def test_the_chosen_place_is_the_best_that_was_not_measured(found):
    for belief in found.beliefs:
        left = [i for i in range(PLACES) if i not in belief.measured]
        assert belief.chosen == max(left, key=lambda i: belief.scores[i])
    measured = [b.measured for b in found.beliefs]
    assert [len(m) for m in measured] == [3, 5, 8]
    assert measured[1][:4] == (*measured[0], found.beliefs[0].chosen)


def test_the_search_explores_and_exploits():
    kinds = {b.exploits for seed in range(4) for b in search_one_decision(seed=seed, steps=(3, 5, 8)).beliefs}
    assert kinds == {True, False}


def test_posterior_figure_shows_the_beliefs(found):
    figure = posterior_figure(found)
    assert [a.text.split(":")[0] for a in figure.layout.annotations] == ["3 trials", "5 trials", "8 trials"]
    for column, belief in enumerate(found.beliefs):
        traces = figure.data[6 * column : 6 * column + 6]
        band, response, mean, points, scores, chosen = traces
        assert band.y[:PLACES] == pytest.approx(belief.mean + 1.96 * belief.std)
        assert band.y[PLACES:][::-1] == pytest.approx(belief.mean - 1.96 * belief.std)
        assert response.y == pytest.approx(belief.response)
        assert mean.y == pytest.approx(belief.mean)
        assert points.x == belief.measured
        assert scores.y == pytest.approx(belief.scores)
        assert (chosen.x[0], chosen.y[0]) == (belief.chosen, belief.scores[belief.chosen])


def test_expected_improvement_is_drawn_without_its_logarithm():
    found = search_one_decision("ei", steps=(4,))
    assert posterior_figure(found).data[4].y == pytest.approx(np.exp(found.beliefs[0].scores))


def test_every_acquisition_function_goes_along_one_decision():
    for name in ("ei", "pi", "its", "thompson"):
        line = Line(along_one_decision(name), 0)
        assert len({line.step() for _ in range(6)}) == 6


def test_steps_that_cannot_be_are_refused():
    for steps in ((), (2, 5), (5, 4), (51,)):
        with pytest.raises(InvalidInputError, match="rising `steps` in \\[3, 50\\]"):
            search_one_decision(steps=steps)


def told(strategy, trials=12):
    drive(strategy, toy_problem(), trials)  # the last one is under way
    return strategy


@pytest.mark.parametrize("make", [lambda: BayesianOptimization(), lambda: Auto()])
def test_the_weighed_choice_is_what_the_strategy_proposes_then(make):
    strategy = told(make())
    found = weighed(strategy, 12)
    assert found.scores.argmax() == len(found.scores) - 1
    assert found.scores == pytest.approx(BayesianOptimization().kappa * found.std + warped_mean(strategy, found))
    assert "random" in found.origins[:-1]
    assert "neighbour" in found.origins[:-1]
    proposal = strategy.ask(12)  # looking changed nothing
    assert proposal.origin == found.origins[-1]
    assert proposal == told(make()).ask(12)


def warped_mean(strategy, found):
    """The mean in the model's scale."""
    trials = getattr(strategy, "_model", strategy)._told
    return LowerLog(np.array([t.metrics["accuracy"] for t in trials])).forward(found.mean)


def test_acquisition_figure_shows_what_was_weighed():
    found = weighed(told(BayesianOptimization()), 12)
    figure = acquisition_figure(found)
    random, near, chosen = figure.data
    assert len(random.x) + len(near.x) + 1 == len(found.mean)
    for trace, kind in ((random, "random"), (near, "neighbour")):
        places = [i for i, origin in enumerate(found.origins[:-1]) if origin == kind]
        assert trace.x == pytest.approx(found.mean[places])
        assert trace.y == pytest.approx(found.std[places])
        assert trace.marker.color == pytest.approx(found.scores[places])
    assert (chosen.x[0], chosen.y[0]) == (found.mean[-1], found.std[-1])
    assert figure.layout.shapes[0].x0 == found.best


def test_only_a_models_choice_is_weighed():
    with pytest.raises(InvalidInputError, match="is not a model's choice"):
        weighed(told(BayesianOptimization(), 2), 2)
    with pytest.raises(InvalidInputError, match="is not a model's choice"):
        weighed(told(Auto(switch=8)), 12)
