"""Tables as estimators: what a search may read, missing entries, the plain format, replaying."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import DataError, InvalidInputError, MissingExtraError, StoreError, TrialError, UnknownNameError
from nasturtium.estimators import Column, Described, Estimator, Tabular, from_dict, make_table, merge_repeats, table
from nasturtium.space import Architecture, Space
from nasturtium.strategies import Candidates, load
from nasturtium.testing import check_estimator, drive
from nasturtium.trial import FULL, Fidelity, Metric, Objective

LOW = Fidelity(epochs=0.1)
CELLS = [
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|",
]
"""The best cell of CIFAR-10's validation accuracy and two others."""


def conv_space() -> Space:
    return Space(
        nas.Sequential(
            nas.Conv(nas.one_of(8, 16, 32, name="width"), kernel=nas.one_of(3, 5, name="kernel")), nas.Classifier()
        )
    )


def small(**changes) -> Tabular:
    """Six rows in the order of the space; numbers that can be told apart."""
    space = conv_space()
    columns = [
        Column(metric="accuracy", values=[0.5, 0.6, 0.7, 0.8, 0.9, 0.4]),
        Column(metric="accuracy", values=[0.3, 0.2, 0.35, 0.3, np.nan, 0.25], fidelity=LOW, missing=True),
        Column(metric="size", values=[1, 2, 3, 4, 5, 6], role="cheap"),
        Column(metric="score", values=[1.5, np.nan, 0, 0, 0, 0], role="cheap", missing=True),
        Column(metric="test_accuracy", values=[0.51, 0.61, 0.71, 0.81, 0.91, 0.41], role="test"),
        Column(metric="train_seconds", values=[10, 20, 30, 40, 50, 60], role="seconds"),
    ]
    return make_table("small", space, list(space.enumerate()), columns, **({"classes": 3} | changes))


# -- looking up ------------------------------------------------------------------------------------------------------


def test_a_search_reads_validation_and_never_test():
    made = small()
    a = made.architecture(1)
    assert isinstance(made, Estimator)
    assert isinstance(made, Described)
    assert made.metrics == ("accuracy",)
    assert made.cheap == ("size", "score")
    assert made.estimate(a) == {"accuracy": 0.6, "train_seconds": 20.0}
    assert made.report(a) == {"test_accuracy": 0.61}
    assert not any("test" in name for name in {**made.estimate(a), **made.cheap_metrics(a), **made.known_metrics})
    assert made.best() == (0.9, made.architecture(4))
    assert made.best("size", "minimize") == (1.0, made.architecture(0))
    with pytest.raises(UnknownNameError, match="test_accuracy"):
        made.best("test_accuracy")
    assert made.cheap_metrics(made.architecture(0)) == {"size": 1.0, "score": 1.5}
    assert np.isnan(made.cheap_metrics(a)["score"])


@pytest.mark.parametrize("name", ["random", "evolution", "auto"])
def test_a_half_filled_table_is_searched_under_a_limit(name):
    """Of what has no row nothing is known, so it meets no limit; rows 0, 2 and 4 are left, two of them of size <= 3."""
    space = conv_space()
    columns = [
        Column(metric="accuracy", values=[0.5, 0.7, 0.9]),
        Column(metric="size", values=[1, 3, 5], role="cheap"),
    ]
    made = make_table("half", space, [space.at(i) for i in (0, 2, 4)], columns, classes=3)
    assert np.isnan(made.cheap_metrics(space.at(1))["size"])
    limited = made.problem(constraints="size <= 3")
    assert Candidates(limited).violation(space.at(1)) == np.inf
    run = drive(load(name), limited, 6, outcome=lambda a: {**made.estimate(a), **made.cheap_metrics(a)})
    assert sorted(run.keys) == sorted([space.at(0).key, space.at(2).key])


def test_fidelities_and_the_simulated_clock():
    made = small()
    assert made.fidelities == (LOW, FULL)
    a = made.architecture(2)
    # no time is known at a tenth of the epochs: a tenth of the full one
    assert made.estimate(a, LOW) == {"accuracy": 0.35, "train_seconds": pytest.approx(3.0)}
    assert made.estimate(a, Fidelity(epochs=0.3 / 3))["accuracy"] == 0.35  # 0.3 / 3 is not 0.1 in binary
    assert made.seconds(a, Fidelity(epochs=0.5, data=0.5)) == pytest.approx(7.5)
    with pytest.raises(InvalidInputError, match=r"no validation columns at fidelity epochs=0.5; it has results at "):
        made.estimate(a, Fidelity(epochs=0.5))
    with pytest.raises(TrialError, match="was not measured there, or failed") as error:
        made.estimate(made.architecture(4), LOW)
    assert error.value.kind == "missing"


def test_without_times_an_evaluation_is_a_second():
    made = make_table("t", conv_space(), np.array([[0, 0]]), [Column(metric="accuracy", values=[0.5])])
    a = made.architecture(0)
    assert not made.timed
    assert made.estimate(a) == {"accuracy": 0.5}
    assert made.seconds(a) == 1.0
    assert made.seconds(a, Fidelity(epochs=0.25)) == 0.25


def test_times_of_a_fidelity_are_used_where_they_are_known():
    columns = [
        Column(metric="accuracy", values=[0.5]),
        Column(metric="train_seconds", values=[100.0], role="seconds"),
        Column(metric="train_seconds", values=[17.0], role="seconds", fidelity=LOW),
    ]
    made = make_table("t", conv_space(), np.array([[0, 0]]), columns)
    assert made.seconds(made.architecture(0), LOW) == 17.0
    assert made.seconds(made.architecture(0), Fidelity(epochs=0.5)) == 50.0


def test_a_missing_row_is_a_failed_trial_with_advice():
    space = conv_space()
    made = make_table("part", space, [space.at(0)], [Column(metric="accuracy", values=[0.5])], listed=False)
    other = space.at(3)
    assert made.row(other) is None
    with pytest.raises(TrialError, match=r"no row for architecture 11: it holds 1 .*Space\.from_table") as error:
        made.estimate(other)
    assert error.value.kind == "missing"
    study = nas.search(
        space, made.task, estimator=made, maximize="accuracy", strategy="grid", trials=6, failures=0
    )  # fmt: skip
    assert [t.error_kind for t in study.trials].count("missing") == 5


def test_rows_are_told_apart_even_where_they_compute_the_same():
    """A skip beside a skip or a zero edge leaves the function as it is; the two cells were trained apart."""
    texts = [
        "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
        "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|",
    ]
    made = make_table("two", "nasbench201", texts, [Column(metric="accuracy", values=[0.1, 0.2])])
    a, b = made.architecture(0), made.architecture(1)
    traced = [nas.trace(x, (3, 32, 32), classes=10).canonical_hash for x in (a, b)]
    assert traced[0] == traced[1]
    assert made.key(a) != made.key(b)
    study = nas.search(made.space, made.task, estimator=made, maximize="accuracy", strategy="random", trials=5)
    assert sorted(t.metrics["accuracy"] for t in study.trials) == [0.1, 0.2]


def test_architectures_read_from_json_are_found():
    made = small()
    stored = Architecture.from_dict(json.loads(json.dumps(made.architecture(3).to_dict())))
    assert made.row(stored) == 3
    assert made.key(stored) == made.key(made.architecture(3)) == "row 3"


def test_the_task_has_no_images():
    task = small().task
    assert task.input_shape == (3, 32, 32)
    assert task.classes == 3
    assert task.context == {"classes": 3}
    with pytest.raises(DataError, match="holds no images"):
        task.split("train")
    with pytest.raises(DataError, match="holds no images"):
        _ = task.mean
    again = nas.tasks.open(task.reference)
    assert again.fingerprint == task.fingerprint


def test_the_contract_and_the_registry():
    made = small()
    check_estimator(made, made.architecture(0), made.task)
    assert from_dict(made.to_dict()).fingerprint == made.fingerprint
    assert made.expected_seconds(made.task, 1e6) == 0.0
    changed = made.to_dict() | {"fingerprint": "0" * 64}
    with pytest.raises(DataError, match="not what it was"):
        from_dict(changed)
    with pytest.raises(InvalidInputError, match="version"):
        Tabular.from_dict({"type": "tabular", "version": 99})


def test_problem_uses_the_tables_costs_and_identity():
    made = small()
    problem = made.problem(
        objectives=[Objective(metric="accuracy", direction="maximize")], constraints="size <= 4", seed=3, trials=10
    )
    assert (problem.seed, problem.trials) == (3, 10)
    assert problem.key(made.architecture(2)) == "row 2"
    assert problem.cheap_metrics(made.architecture(2))["size"] == 3.0
    with pytest.raises(UnknownNameError, match="macs"):
        made.problem(constraints="macs <= 1k")


# -- in a search -----------------------------------------------------------------------------------------------------


def test_a_search_on_a_table_with_workers_resume_and_its_own_metrics(tmp_path):
    made = small()
    path = tmp_path / "study.db"
    wishes = {"maximize": "accuracy", "minimize": "size", "constraints": "size <= 5"}
    first = nas.search(
        made.space, made.task, estimator=made, strategy="random", trials=3, workers=2, study=path, **wishes
    )
    assert len(first.trials) == 3
    again = nas.resume(path, trials=6, workers=1)
    assert {t.architecture.key for t in again.trials} == {made.architecture(i).key for i in range(5)}
    assert again.best.metrics["accuracy"] == 0.9
    assert "test_accuracy" not in {name for t in again.trials for name in t.metrics}
    assert [o.metric for o in again.objectives] == ["accuracy", "size"]
    assert len(again.front) == 5  # size and accuracy rise together in the first five rows


def test_an_unknown_metric_of_a_table_is_refused():
    made = small()
    with pytest.raises(UnknownNameError, match="size"):
        nas.search(made.space, made.task, estimator=made, maximize="acuracy")


# -- making and storing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_written_and_read_back(tmp_path, suffix):
    made = small()
    path = made.save(tmp_path / f"t.{suffix}")
    read = table(path)
    assert read.fingerprint == made.fingerprint
    assert read.name == "small"
    assert read.fidelities == made.fidelities
    assert read.report(read.architecture(1)) == {"test_accuracy": 0.61}
    copy = from_dict(json.loads(json.dumps(read.to_dict())))
    assert copy.fingerprint == made.fingerprint
    assert str(path.resolve()) in json.dumps(read.to_dict())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


def test_a_listed_space_is_read_back(tmp_path):
    space = conv_space()
    made = make_table("part", space, [space.at(4), space.at(1)], [Column(metric="accuracy", values=[0.5, 0.25])])
    assert made.space.is_table
    assert made.space.size == 2
    read = table(made.save(tmp_path / "t.npz"))
    assert read.space.fingerprint == made.space.fingerprint
    assert read.estimate(space.at(1)) == {"accuracy": 0.25}


def plain(path, **changes) -> dict:
    """A file as another program would write it; `changes` replace arrays, or keys of the header."""
    header = {
        "format": "nasturtium table", "version": 1, "name": "mine", "space": "nasbench201",
        "columns": {"valid": {"metric": "accuracy", "role": "validation"}, "test_accuracy": {"role": "test"}},
    }  # fmt: skip
    arrays = {
        "architecture": np.array(CELLS), "valid": np.array([0.9, 0.8, 0.1]), "test_accuracy": np.array([0.9, 0.7, 0.2]),
    }  # fmt: skip
    header |= {k: v for k, v in changes.items() if k in ("space", "version", "columns", "format")}
    arrays |= {k: v for k, v in changes.items() if k not in header}
    np.savez(path, header=json.dumps(header), **{k: v for k, v in arrays.items() if v is not None})
    return header


def test_a_file_of_official_strings(tmp_path):
    plain(tmp_path / "t.npz")
    read = table(tmp_path / "t.npz")
    assert [nas.zoo.nasbench201.to_string(read.architecture(i)) for i in range(3)] == CELLS
    assert read.estimate(read.architecture(1)) == {"accuracy": 0.8}
    assert read.report(read.architecture(1)) == {"test_accuracy": 0.7}


def test_a_file_of_decisions_as_json_or_as_a_matrix(tmp_path):
    space = conv_space()
    texts = np.array([json.dumps({"width": 16, "kernel": 5}), json.dumps({"width": 8, "kernel": 3})])
    columns = {"accuracy": {"role": "validation"}}
    common = {"space": space.to_dict(), "columns": columns, "valid": None, "test_accuracy": None}
    values = np.array([0.25, 0.5])
    plain(tmp_path / "a.npz", **common, architecture=texts, accuracy=values)
    matrix = np.array([space.indices(space.architecture(json.loads(t))) for t in texts])
    plain(tmp_path / "b.npz", **common, architecture=None, decisions=matrix, accuracy=values)
    a, b = table(tmp_path / "a.npz"), table(tmp_path / "b.npz")
    assert a.architecture(0).choices == {"width": 16, "kernel": 5}
    assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": None}, "must have an array 'valid'"),
        ({"architecture": np.array(["|what~0|", *CELLS[1:]])}, "Row 0.*is no architecture"),
        ({"architecture": np.array([CELLS[0], CELLS[1], CELLS[0]])}, "0 and 2 .*same architecture"),
        ({"architecture": None}, "either 'architecture'.*got neither"),
        ({"architecture": np.arange(3)}, "one text a row"),
        ({"valid": np.array([0.9, np.nan, 0.1])}, "is nan in row 1"),
        ({"valid": np.array([90.0, 80.0, 10.0])}, "fraction in .* divide percentages by 100, got 90.0 in row 0"),
        ({"valid": np.array([0.9, 0.1])}, "one number for each of 3 rows, got 2"),
        ({"valid": np.array(["a", "b", "c"])}, "must hold numbers"),
        ({"space": "nasbench2001"}, "Unknown space"),
        ({"version": 7}, '"version": 1'),
        ({"format": "other"}, '"format"'),
        ({"columns": {"valid": {"metric": "accuracy", "role": "train"}}}, "role of a column"),
        ({"columns": {"valid": {"metric": "accuracy"}}}, "must have a role"),
        ({"columns": {"valid": {"role": "validation", "fidelity": {"epoch": 1}}}}, "epoch"),
        ({"columns": {"valid": {"metric": "accuracy", "role": "test"}}}, "needs a validation column"),
        ({"columns": ["valid"]}, "an object of columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said(tmp_path, changes, message):
    path = tmp_path / "t.npz"
    plain(path, **changes)
    with pytest.raises(DataError, match=f"(?s){message}"):
        table(path)


def test_damaged_and_absent_files(tmp_path):
    path = tmp_path / "t.npz"
    with pytest.raises(DataError, match="no file"):
        table(path)
    plain(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read"):
        table(path)
    np.savez(path, header=np.array({"code": print}, dtype=object))
    with pytest.raises(DataError, match="cannot be read"):  # nothing is unpickled
        table(path)
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.npy").rename(path)
    with pytest.raises(DataError, match="cannot be read"):
        table(path)
    other = tmp_path / "t.parquet"
    other.write_text("no parquet")
    with pytest.raises(DataError, match="must be a parquet file"):
        table(other)
    with pytest.raises(InvalidInputError, match=r"ends in \.npz or \.parquet"):
        small().save(tmp_path / "t.csv")
    with pytest.raises(InvalidInputError, match="option `trust` only"):
        table(path, observed="mean")


def test_parquet_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"nasturtium\[parquet\]"):
        small().save(tmp_path / "t.parquet")


def test_a_large_table_in_memory_must_be_saved(monkeypatch):
    monkeypatch.setattr("nasturtium.estimators.tables.plain.INLINE_LIMIT", 10)
    made = small()
    with pytest.raises(InvalidInputError, match="save it and search the file's"):
        nas.search(made.space, made.task, estimator=made, maximize="accuracy")


def test_names_of_tables_are_checked(tmp_path, monkeypatch):
    monkeypatch.delenv("NASTURTIUM_DATA", raising=False)
    with pytest.raises(UnknownNameError, match="nasbench201"):
        table("nasbench2001/cifar10")
    with pytest.raises(DataError, match="NASTURTIUM_DATA"):
        table("nasbench201/cifar10")
    with pytest.raises(DataError, match="no file"):
        table("nasbench201/cifar10", data_root=tmp_path)
    with pytest.raises(UnknownNameError, match="imagenet16"):
        table("nasbench201/imagenet", data_root=tmp_path)


def test_repeats_are_averaged():
    rows = np.array([[2, 0], [1, 1], [2, 0], [0, 0]])
    columns = [Column(metric="accuracy", values=[0.2, 0.5, 0.4, np.nan], missing=True)]
    merged, (column,) = merge_repeats(rows, columns)
    assert merged.tolist() == [[2, 0], [1, 1], [0, 0]]
    assert column.values[:2].tolist() == pytest.approx([0.3, 0.5])
    assert np.isnan(column.values[2])


def test_columns_are_checked():
    with pytest.raises(InvalidInputError, match="has no fidelity"):
        Column(metric="size", values=[1.0], role="cheap", fidelity=LOW)
    with pytest.raises(InvalidInputError, match="0 s or more"):
        Column(metric="t", values=[-1.0], role="seconds")
    with pytest.raises(InvalidInputError, match="one number a row"):
        Column(metric="accuracy", values=np.zeros((2, 2)))
    with pytest.raises(InvalidInputError, match="two columns 'accuracy'"):
        make_table("t", conv_space(), np.array([[0, 0]]), [Column(metric="accuracy", values=[0.5])] * 2)


# -- a study as a table ----------------------------------------------------------------------------------------------


def test_a_study_becomes_a_table_on_which_strategies_are_replayed(tmp_path):
    made = small()
    study = nas.search(
        made.space, made.task, estimator=made, maximize="accuracy", strategy="random", trials=4, baseline="random"
    )
    replayed = table(study.tabular().save(tmp_path / "study.npz"))
    tried = {t.architecture.key: t for t in (*study.trials, *study.baseline)}
    assert replayed.space.is_table
    assert {a.key for a in replayed.space.enumerate()} == set(tried)
    for key, trial in tried.items():
        found = replayed.estimate(trial.architecture)
        assert found["accuracy"] == trial.metrics["accuracy"], key
        assert found["train_seconds"] == trial.metrics["train_seconds"]
    best = max(t.metrics["accuracy"] for t in tried.values())
    for strategy in ("random", "evolution", "local", "grid"):
        again = nas.search(
            replayed.space, replayed.task, estimator=replayed, maximize="accuracy", strategy=strategy, trials=6
        )
        assert len(again.trials) == len(tried)
        assert again.best.metrics["accuracy"] == best


def test_failures_and_low_fidelities_of_a_study_stay_what_they_are():
    """Trials as they stand in a study: one at a tenth of the epochs, one failed, one measured twice."""
    from types import SimpleNamespace

    from nasturtium.study.tabulate import tabulate
    from nasturtium.trial import Trial

    space = conv_space()
    told = [
        Trial(number=0, architecture=space.at(0), metrics={"accuracy": 0.5, "params": 7.0}, seconds=3.0),
        Trial(number=1, architecture=space.at(0), metrics={"accuracy": 0.7, "params": 7.0}, seconds=5.0),
        Trial(number=2, architecture=space.at(1), fidelity=LOW, metrics={"accuracy": 0.25, "params": 9.0}, seconds=1.0),
        Trial(number=3, architecture=space.at(2), state="failed", error="boom", error_kind="crashed", seconds=2.0),
        Trial(number=4, architecture=Architecture.of(nas.Conv(3)), metrics={"accuracy": 0.9}, origin="by hand"),
    ]
    members = [SimpleNamespace(trial=t, architecture=t.architecture, test_metrics=None) for t in told]
    made = tabulate("mine", space, members, (1, 8, 8), 10)
    assert len(made) == 3
    assert made.estimate(space.at(0)) == {"accuracy": pytest.approx(0.6), "train_seconds": 4.0}
    assert made.estimate(space.at(1), LOW) == {"accuracy": 0.25, "train_seconds": 1.0}
    assert made.cheap_metrics(space.at(1)) == {"params": 9.0}
    for architecture in (space.at(1), space.at(2)):
        with pytest.raises(TrialError, match="not measured there, or failed"):
            made.estimate(architecture)
    with pytest.raises(StoreError, match="no completed trial at full fidelity"):
        tabulate("mine", space, members[2:4], (1, 8, 8), 10)


def test_metrics_of_tables_have_units():
    columns = [
        Column(metric="accuracy", values=[0.5]),
        Column(metric="latency_phone", values=[0.01], role="cheap"),
        Column(metric="top5_accuracy", values=[0.9]),
    ]
    made = make_table("t", conv_space(), np.array([[0, 0]]), columns)
    assert made.known_metrics["latency_phone"] == Metric(name="latency_phone", unit="seconds", cheap=True)
    assert made.known_metrics["top5_accuracy"].unit == "fraction"
    assert made.problem(constraints="latency_phone <= 10ms").constraints[0].limit == 0.01
