"""The adapters of published tables, against the figures that their papers and README files print."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

import nasturtium as nas
from nasturtium.errors import DataError, InvalidInputError, TrialError
from nasturtium.estimators import table
from nasturtium.testing import check_estimator, check_space
from nasturtium.trial import FULL, Fidelity
from nasturtium.zoo import nasbench101, nasbench201


@pytest.fixture(scope="module")
def cells(data_root):
    return table("nasbench101", data_root)


@pytest.fixture(scope="module")
def cifar10(data_root):
    return table("nasbench201/cifar10", data_root)


# -- NAS-Bench-201 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "valid", "test", "index"),
    [("cifar10", 0.9161, 0.9437, 6111), ("cifar100", 0.7349, 0.7351, 9930), ("imagenet16", 0.4673, 0.4731, None)],
)
def test_the_published_optima(data_root, part, valid, test, index):
    """Best of the space after 200 epochs: the figures of the table's README, from the NAS-Bench-201 paper."""
    made = table(f"nasbench201/{part}", data_root)
    assert len(made) == made.space.size == 15_625
    value, best = made.best()
    assert value == pytest.approx(valid, abs=5e-5)
    assert made.column("test_accuracy", role="test").max() == pytest.approx(test, abs=5e-5)
    if index is not None:
        assert made.row(best) == index


def test_rows_are_those_of_the_official_strings(data_root, cifar10):
    with np.load(data_root / "nasbench201/nasbench201.npz", allow_pickle=False) as file:
        texts, codes = file["arch_str"], file["valid_acc_12"][:, 0]
    for row in range(0, 15_625, 97):
        architecture = nasbench201.architecture(str(texts[row]), cifar10.space)
        assert cifar10.row(architecture) == row
        assert nasbench201.to_string(cifar10.architecture(row)) == texts[row]
        assert cifar10.estimate(architecture, Fidelity(epochs=0.06))["accuracy"] == pytest.approx(codes[row] / 100)


@pytest.mark.parametrize("part", ["cifar10", "cifar100", "imagenet16"])
def test_parameters_are_those_of_the_graph(data_root, part):
    made = table(f"nasbench201/{part}", data_root)
    for row in random.Random(part).sample(range(15_625), 12):
        architecture = made.architecture(row)
        cost = nas.cost(architecture, made.task.input_shape, **made.task.context)
        assert cost.params == made.cheap_metrics(architecture)["params"]


def test_latencies_are_in_seconds(data_root):
    """HELP, table 4: latencies of the networks that it found, in ms; here the best cell of CIFAR-100's test column."""
    made = table("nasbench201/cifar100", data_root)
    assert len([name for name in made.cheap if name.startswith("latency_")]) == 27
    seconds = made.column("latency_pixel2", role="cheap")
    assert 0.001 < seconds.min() < seconds.max() < 1.0
    assert np.allclose(seconds * 1000, np.round(seconds * 1000), atol=1e-4)  # phones: whole milliseconds


def test_only_validation_is_observed_and_one_seed_is_the_noisy_variant(data_root, cifar10):
    noisy = table("nasbench201/cifar10", data_root, observed="one_seed")
    best = cifar10.architecture(6111)
    assert set(cifar10.estimate(best)) == {"accuracy"}
    assert cifar10.report(best)["mean_accuracy"] == cifar10.estimate(best)["accuracy"]
    assert noisy.report(best)["mean_accuracy"] == cifar10.estimate(best)["accuracy"]
    difference = noisy.column("accuracy") - cifar10.column("accuracy")
    assert 0.0005 < np.median(np.abs(difference)) < 0.01
    assert noisy.fingerprint != cifar10.fingerprint
    assert cifar10.fidelities == (Fidelity(epochs=0.06), FULL)
    assert cifar10.seconds(best) == 1.0
    assert cifar10.seconds(best, Fidelity(epochs=0.06)) == pytest.approx(0.06)
    with pytest.raises(InvalidInputError, match="one_seed"):
        table("nasbench201/cifar10", data_root, observed="two_seeds")
    with pytest.raises(InvalidInputError, match="does not take the options"):
        table("nasbench201/cifar10", data_root, seen="mean")


def test_scores_that_failed_are_nan_and_absent_ones_have_no_column(data_root, cifar10):
    assert {"naswot", "ntk", "nasi", "zen", "params", "mflops"} <= set(cifar10.cheap)
    assert "nasi" not in table("nasbench201/imagenet16", data_root).cheap
    row = int(np.argmax(np.isnan(cifar10.column("naswot", role="cheap"))))
    assert np.isnan(cifar10.cheap_metrics(cifar10.architecture(row))["naswot"])
    found = nas.strategies.Candidates(cifar10.problem(constraints="naswot >= 0"))
    assert found.violation(cifar10.architecture(row)) == float("inf")


def test_loading_and_looking_up_are_fast(data_root):
    """A second and ten microseconds are asked; the bounds leave room for a busy machine."""
    start = time.process_time()
    made = table("nasbench201/cifar10", data_root)
    assert time.process_time() - start < 1.0
    drawn = [made.space.sample(random.Random(i)) for i in range(2000)]
    fastest = []
    for look_up in (made.row, made.estimate):
        look_up(drawn[0])
        start = time.process_time()
        for architecture in drawn:
            look_up(architecture)
        fastest.append((time.process_time() - start) / len(drawn))
    assert max(fastest) < 50e-6


def test_contract_on_a_published_table(cifar10):
    check_estimator(cifar10, cifar10.architecture(17), cifar10.task)


# -- NAS-Bench-101 ---------------------------------------------------------------------------------------------------


def test_cells_fidelities_and_times(cells):
    """The README of the sample: 20,001 cells, best one-repeat validation accuracy 94.91, rank correlations."""
    assert len(cells) == cells.space.size == 20_001
    assert cells.best()[0] == pytest.approx(0.9491, abs=5e-5)
    assert [round(f.epochs * 108) for f in cells.fidelities] == [4, 12, 36, 108]
    final = np.argsort(np.argsort(cells.column("accuracy")))
    for fidelity, expected in zip(cells.fidelities, (0.456, 0.620, 0.879), strict=False):
        ranks = np.argsort(np.argsort(cells.column("accuracy", fidelity)))
        assert np.corrcoef(final, ranks)[0, 1] == pytest.approx(expected, abs=2e-3)
    a = cells.architecture(0)
    assert cells.seconds(a) == pytest.approx(1768.976, abs=1e-3)
    assert cells.estimate(a, Fidelity(epochs=12 / 108))["train_seconds"] == pytest.approx(1768.976 / 9, abs=1e-3)


def test_rows_are_the_cells_of_the_official_hashes(data_root, cells):
    with np.load(data_root / "nasbench101/nasbench101_20k.npz", allow_pickle=False) as file:
        hashes, params, vertices = file["module_hash"], file["params"], file["n_vertices"]
    small = [int(np.argmax(vertices == n)) for n in sorted(set(vertices.tolist()))]
    for row in [*small, *range(0, 20_001, 1500)]:
        architecture = cells.architecture(row)
        assert cells.equal(architecture) == (hashes[row], row)
        cost = nas.cost(architecture, cells.task.input_shape, **cells.task.context)
        assert cost.params == cells.cheap_metrics(architecture)["params"] == params[row]


def test_any_encoding_of_a_cell_finds_its_row(data_root):
    whole = table("nasbench101", data_root, space="whole")
    rows = [row for row in range(40) if _relabelled(whole.architecture(row), whole.space) is not None]
    assert len(rows) > 10
    for row in rows:
        other = _relabelled(whole.architecture(row), whole.space)
        assert whole.space.indices(other) != whole.space.indices(whole.architecture(row))
        assert whole.row(other) == row
        assert whole.key(other) == whole.key(whole.architecture(row)) == f"row {row}"


def _relabelled(architecture, space):
    """The same cell with two neighbouring vertices exchanged, where no edge joins them; None where there are none."""
    chosen = dict(architecture.choices)
    for v in range(1, 5):
        if chosen[f"edge_{v}_{v + 1}"]:
            continue
        swap = {v: v + 1, v + 1: v}
        other = {}
        for name, value in chosen.items():
            kind, *numbers = name.split("_")
            moved = sorted(swap.get(int(n), int(n)) for n in numbers)
            other["_".join([kind, *map(str, moved)])] = value
        if other != chosen:
            return space.architecture(other)
    return None


def test_a_cell_outside_the_sample_is_a_failed_trial(data_root):
    whole = table("nasbench101", data_root, space="whole")
    assert not whole.space.is_table
    rng = random.Random(1)
    absent = next(a for a in (whole.space.sample(rng) for _ in range(100)) if whole.row(a) is None)
    matrix = nasbench101.matrix_of([absent.choices[f"edge_{u}_{v}"] for u in range(7) for v in range(u + 1, 7)])
    official = nasbench101.module_hash(matrix, [absent.choices[f"op_{v}"] for v in range(1, 6)])
    assert whole.key(absent) == f"no row {official}"
    with pytest.raises(TrialError, match=r"no row for architecture .*Space\.from_table") as error:
        whole.estimate(absent)
    assert error.value.kind == "missing"


def test_the_laws_hold_and_varying_is_fast(cells):
    check_space(cells.space, samples=4)
    rng = random.Random(0)
    drawn = [cells.space.sample(rng) for _ in range(200)]
    start = time.process_time()
    for architecture in drawn:
        cells.space.mutate(architecture, rng)
    assert (time.process_time() - start) / len(drawn) < 2e-3


def test_every_row_of_a_sample_can_be_reached_by_mutations(data_root):
    """Where each row led only to its very nearest, the rows of Accel-NASBench fell into small circles."""
    made = table("accel_nasbench", data_root)
    listed = made.space._listed
    seen = np.zeros(len(made), dtype=bool)
    seen[0] = True
    ahead = [0]
    for _ in range(len(made)):
        if not ahead:
            break
        near = listed.nearest(listed.kept.row(ahead.pop()))
        ahead += near[~seen[near]].tolist()
        seen[near] = True
    assert seen.all()


def test_evolution_runs_on_the_sample(cells):
    study = nas.search(cells.space, cells.task, estimator=cells, maximize="accuracy", trials=60, strategy="evolution")
    assert not study.failures
    assert study.best.metrics["accuracy"] > 0.93


# -- the others ------------------------------------------------------------------------------------------------------


def test_accel_nasbench(data_root):
    """Its README: 5,138 networks, top-1 of 42.9 to 67.1; 13 are there twice, and 92 measurements are missing."""
    made = table("accel_nasbench", data_root)
    assert len(made) == 5_138 - 13
    values = made.column("accuracy")
    assert (values.min(), values.max()) == (pytest.approx(0.4285, abs=1e-3), pytest.approx(0.6705, abs=1e-3))
    with np.load(data_root / "accel_nasbench/accel_nasbench.npz", allow_pickle=False) as file:
        codes, top1, seconds = file["arch"], file["val_top1"], file["train_time_s"]
    first = made.architecture(0)
    names = ("expansion", "kernel", "layers")
    assert [[first.choices[f"block_{b}.{n}"] for n in names] for b in range(7)] == codes[0][:, :3].tolist()
    assert [first.choices[f"block_{b}.squeeze_excite"] is not None for b in range(7)] == codes[0][:, 3].tolist()
    measured = made.estimate(first)
    twice = (codes == codes[0]).all(axis=(1, 2))  # the first network is one of those that were trained twice
    assert twice.sum() == 2
    assert measured["accuracy"] == pytest.approx(top1[twice].mean() / 100)
    assert measured["train_seconds"] == pytest.approx(seconds[twice].mean())
    assert made.estimate(made.architecture(9))["accuracy"] == pytest.approx(top1[9] / 100)
    assert 1e-4 < np.nanmedian(made.column("latency_zcu102", role="cheap")) < 1.0
    check_estimator(made, first, made.task)


def test_latency_fbnet(data_root):
    made = table("latency_fbnet", data_root)
    assert len(made) == 5_000
    assert len(made.metrics) == 27
    with np.load(data_root / "latency_fbnet/fbnet_latency.npz", allow_pickle=False) as file:
        codes, latency = file["arch"], file["latency_ms"]
    for row in (0, 4999):
        architecture = made.architecture(row)
        assert [architecture.decisions[f"layer_{i}"] for i in range(22)] == codes[row].tolist()
        assert made.estimate(architecture)["latency_1080ti_1"] == pytest.approx(latency[row, 0] / 1000)
    study = nas.search(
        made.space, made.task, estimator=made, minimize=("latency_raspi4", "latency_pixel3"), trials=20
    )  # fmt: skip
    assert len(study.front) >= 1
    with pytest.raises(InvalidInputError, match="no parts"):
        table("latency_fbnet/raspi4", data_root)


def test_a_damaged_file_is_named(tmp_path):
    folder = tmp_path / "nasbench101"
    folder.mkdir()
    np.savez(folder / "nasbench101_20k.npz", epochs=np.array([4, 108]))
    with pytest.raises(DataError, match=r"nasbench101_20k\.npz' must have an array 'valid_acc'; it has epochs"):
        table("nasbench101", tmp_path)
