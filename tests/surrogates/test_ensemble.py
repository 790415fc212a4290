"""The ensemble learns, disagrees where it does not know, repeats itself, and leaves global state alone."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.surrogates.ensemble import Ensemble, _per_member, _Training
from nasturtium.surrogates.regressors import REGRESSORS, describe_regressor, make_regressor


def data(count: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """Eight one-hot decisions of five options, each worth something of its own."""
    rng = np.random.default_rng(seed)
    worth = np.random.default_rng(99).standard_normal((8, 5))
    chosen = rng.integers(5, size=(count, 8))
    rows = np.eye(5)[chosen].reshape(count, 40)
    return rows, 0.9 + 0.01 * worth[np.arange(8), chosen].sum(axis=1)


@pytest.mark.parametrize("loss", ["mae", "mape", "rank"])
def test_it_ranks_what_it_has_not_seen(loss: Any) -> None:
    model = Ensemble(loss=loss).fit(*data())
    rows, targets = data(200, seed=1)
    assert spearmanr(model.predict(rows), targets)[0] > 0.75
    mean, std = model.mean_and_std(rows)
    assert mean.shape == std.shape == (200,)
    _, seen = model.mean_and_std(data()[0])
    assert std.mean() > 1.15 * seen.mean()


def test_mean_and_std_are_of_the_members() -> None:
    rows, targets = data(40)
    model = Ensemble(epochs=5).fit(rows, targets)
    said = model.predict_members(rows)
    assert said.shape == (5, 40)
    mean, std = model.mean_and_std(rows)
    assert mean == pytest.approx(said.sum(axis=0) / 5)
    assert std == pytest.approx(np.sqrt(((said - mean) ** 2).sum(axis=0) / 5))


@pytest.mark.parametrize("loss", ["mae", "rank"])
def test_predictions_are_in_the_targets_units(loss: Any) -> None:
    """Targets far from 0 and of a large scale are met as well as others."""
    rows, targets = data(60)
    model = Ensemble(loss=loss).fit(rows, 1e6 + 1e4 * targets)
    assert np.abs(model.predict(rows) - (1e6 + 1e4 * targets)).mean() < 0.3 * 1e4 * targets.std()


def test_several_outputs_have_members_of_their_own() -> None:
    rows, targets = data()
    both = np.stack([targets, -5 * targets], axis=1)
    said = Ensemble().fit(rows, both).predict_members(rows)
    assert said.shape == (5, 120, 2)
    for place, sign in enumerate((1, -1)):
        assert spearmanr(said[:, :, place].mean(axis=0), sign * targets)[0] > 0.95


def test_the_same_seed_gives_the_same_digits() -> None:
    rows, targets = data(30)
    first, again, other = (Ensemble(epochs=20, seed=s).fit(rows, targets).predict_members(rows) for s in (4, 4, 5))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_global_state_is_left_alone() -> None:
    """Neither generator moves, and torch is not even loaded."""
    code = (
        "import random, sys, numpy as np; from nasturtium.surrogates.ensemble import Ensemble; "
        "random.seed(1); np.random.seed(1); a = random.getstate(), np.random.get_state()[1].tolist(); "
        "Ensemble(epochs=2).fit(np.eye(4), [1.0, 2.0, 3.0, 4.0]); "
        "assert a == (random.getstate(), np.random.get_state()[1].tolist()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("loss", ["mae", "mape", "rank"])
def test_slopes_against_differences(loss: Any) -> None:
    """Backpropagation, in a smooth place of the loss, against central differences."""
    rng = np.random.default_rng(2)
    x = rng.random((6, 4), dtype=np.float32)
    y = _per_member(rng.standard_normal((6, 1)), 2)
    weigh = np.ones_like(y) if loss == "mae" else rng.uniform(0.5, 2, y.shape).astype(np.float32)
    training = _Training(Ensemble(members=2, layers=2, width=3, loss=loss, batch=6), x, y, weigh)
    for name in ("x", "flat", "slope"):
        setattr(training, name, getattr(training, name).astype(np.float64))
    training._adam = lambda number: None  # type: ignore[method-assign]  # weights stay
    shapes = [w.shape for w in training.weights]
    training.weights, training.slopes = split(training.flat, shapes), split(training.slope, shapes)
    inputs = np.broadcast_to(training.x, (2, 6, 5))

    def value() -> float:
        hidden = inputs
        for w in training.weights[:-1]:
            out = np.maximum(hidden @ w, 0)
            hidden = np.concatenate([out, np.ones((2, 6, 1))], axis=2)
        said = (hidden @ training.weights[-1])[:, :, 0]
        if loss != "rank":
            return float((np.abs(said - y) * weigh).mean(axis=1).sum())
        better = y[:, :, None] > y[:, None, :]
        hinge = np.maximum(0.1 - (said[:, :, None] - said[:, None, :]), 0)
        return float(((better * hinge).sum(axis=(1, 2)) / better.sum(axis=(1, 2))).sum())

    training._step(inputs, y, weigh, 1)
    found = training.slope.copy()
    for i in rng.permutation(len(found))[:40]:
        kept = training.flat[i]
        training.flat[i] = kept + 1e-5
        above = value()
        training.flat[i] = kept - 1e-5
        below = value()
        training.flat[i] = kept
        assert found[i] == pytest.approx((above - below) / 2e-5, abs=2e-4)


def split(flat: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    places = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, places), shapes, strict=True)]


def test_one_row_and_equal_targets_are_survived() -> None:
    model = Ensemble(epochs=3).fit(np.eye(3), [0.5, 0.5, 0.5])
    assert np.isfinite(model.predict(np.eye(3))).all()
    assert np.isfinite(Ensemble(epochs=3, loss="rank").fit([[1.0]], [2.0]).predict([[1.0]])).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble(members=0), "`members` must be an integer of 1 or more, got 0"),
        (lambda: Ensemble(loss="mse"), "'mae', 'mape' or 'rank', got 'mse'"),  # type: ignore[arg-type]
        (lambda: Ensemble(rate=0.0), "`rate` must be above 0"),
        (lambda: Ensemble().fit([1.0], [1.0]), "must be"),
        (lambda: Ensemble().fit([[1.0]], [float("nan")]), "finite"),
        (lambda: Ensemble(loss="mape", bound=0.5).fit([[1.0]], [0.7]), "`bound` must be above every target"),
    ],
)
def test_bad_input_is_named(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_by_name_learn_and_repeat_themselves(name: str) -> None:
    rows, targets = data()
    y = (targets - targets.mean()) / targets.std()
    unseen, truth = data(200, seed=1)
    make_regressor(name, {}, seed=3)  # scikit-learn's import draws from the global generator
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    said = []
    for _ in range(2):
        model = make_regressor(name, {}, seed=3)
        model.fit(rows, y)
        said.append(model.predict(unseen).tolist())
    assert said[0] == said[1]
    assert spearmanr(said[0], truth)[0] > 0.6
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002


def test_regressors_from_objects_and_paths() -> None:
    path = "sklearn.neighbors:KNeighborsRegressor"
    given: Any = make_regressor(path, {"n_neighbors": 3}, seed=0)
    assert given.n_neighbors == 3
    stored = describe_regressor(given)
    assert isinstance(stored, dict)
    assert stored["arguments"]["n_neighbors"] == 3
    again: Any = make_regressor(stored, {}, seed=0)
    assert again.get_params() == given.get_params()
    copied = make_regressor(given, {}, seed=0)
    assert copied is not given
    assert describe_regressor(Ensemble(width=7))["arguments"]["width"] == 7  # type: ignore[index]


@pytest.mark.parametrize(
    ("regressor", "options", "error", "message"),
    [
        ("forrest", {}, UnknownNameError, "Did you mean 'forest'"),
        ("forest", {"trees": 3}, InvalidInputError, "cannot be made with"),
        ("no_such_package:Class", {}, InvalidInputError, "import no_such_package"),
        ("sklearn.svm:Nothing", {}, InvalidInputError, "cannot be made"),
        ("sklearn.metrics:r2_score", {"y_true": [1, 2], "y_pred": [1, 2]}, InvalidInputError, "`fit` and `predict`"),
        (Ensemble(), {"width": 3}, InvalidInputError, "`options` are of a regressor given by name"),
    ],
)
def test_bad_regressors_are_named(regressor: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make_regressor(regressor, options, seed=0)
