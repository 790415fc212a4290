"""The tasks that go by a name, on their real files and on damaged ones."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nasturtium import tasks
from nasturtium.errors import DataError, UnknownNameError
from nasturtium.tasks import cifar, idx


def rows(split):
    return {(x.tobytes(), int(y)) for x, y in zip(split.images, split.labels, strict=True)}


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    task = tasks.load("digits")
    splits = [task.split(name) for name in ("train", "validation", "test")]
    assert sum(map(len, splits)) == 1797
    images, labels = load_digits(return_X_y=True)
    expected = {(np.rint(x * 255 / 16).astype(np.uint8).tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}
    assert rows(splits[0]) | rows(splits[1]) | rows(splits[2]) == expected
    assert task.input_shape == (1, 8, 8)
    assert task.context == {"classes": 10}


def test_splits_are_disjoint_stratified_and_seeded():
    a, b, c = tasks.load("digits"), tasks.load("digits"), tasks.load("digits", seed=1)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    parts = [rows(a.split(name)) for name in ("train", "validation", "test")]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    counts = np.bincount(a.split("validation").labels)
    assert counts.max() - counts.min() <= 3
    assert len(tasks.load("digits", validation=100, test=50).split("validation")) == 100
    assert len(tasks.load("digits", validation=0.5).split("validation")) == round(0.5 * 1797)


def test_statistics_are_of_train_only():
    task = tasks.load("digits")
    train = task.split("train").images / 255.0
    assert task.mean[0] == pytest.approx(train.mean())
    assert task.std[0] == pytest.approx(train.std())
    assert "1x8x8" in task.describe()


def test_no_torch_is_loaded():
    code = "import sys; from nasturtium import tasks; tasks.load('digits').describe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'digits'"):
        tasks.load("digit")
    with pytest.raises(UnknownNameError, match="split"):
        tasks.load("digits").split("tets")
    with pytest.raises(DataError, match="no folder"):
        tasks.load("no/such/folder")


def test_a_reference_opens_the_same_task_and_refuses_other_data():
    task = tasks.load("digits", seed=3)
    stored = json.loads(json.dumps(task.reference.to_dict()))
    assert tasks.open(stored).fingerprint == task.fingerprint
    with pytest.raises(DataError, match="not what they were"):
        tasks.open({**stored, "fingerprint": "0" * 64})
    with pytest.raises(DataError, match="version"):
        tasks.open({**stored, "version": 99})


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, 1797, True])
def test_impossible_shares(share):
    with pytest.raises(DataError, match=r"`validation` must be|Validation and the rest"):
        tasks.load("digits", validation=share)


def test_fashion_mnist_is_the_original(data_root):
    task = tasks.load("fashion-mnist", data_root=data_root)
    assert [len(task.split(s)) for s in ("train", "validation", "test")] == [50_000, 10_000, 10_000]
    everything = np.concatenate([task.split("train").images, task.split("validation").images]) / 255.0
    # Mean and deviation of all 60,000 train images as published (0.2860, 0.3530).
    assert everything.mean() == pytest.approx(0.2860, abs=1e-4)
    assert everything.std() == pytest.approx(0.3530, abs=1e-4)
    assert task.split("test").labels[:5].tolist() == [9, 2, 1, 1, 6]


def test_cifar10_jpeg_layout_and_cache(data_root, tmp_path):
    task = tasks.load("cifar10", data_root=data_root, cache=tmp_path / "cache")
    assert [len(task.split(s)) for s in ("train", "validation", "test")] == [40_000, 10_000, 10_000]
    assert task.class_names[0] == "airplane"
    assert task.mean == pytest.approx((0.4913, 0.4821, 0.4465), abs=2e-3)
    again = tasks.open(task.reference)
    assert again.fingerprint == task.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def make_idx(folder, n=40, compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for stem, array in {
        "train-images-idx3-ubyte": rng.integers(0, 256, (n, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(n) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (n, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(n) % 10,
    }.items():
        raw = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
        path = folder / (stem + (".gz" if compressed else ""))
        path.write_bytes(gzip.compress(raw) if compressed else raw)


@pytest.mark.parametrize("where", idx.FOLDERS)
@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist_layouts(tmp_path, where, compressed):
    make_idx(tmp_path / where, compressed=compressed)
    assert len(tasks.load("fashion-mnist", data_root=tmp_path).split("test")) == 40


def test_fashion_mnist_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.delenv("NASTURTIUM_DATA", raising=False)
    with pytest.raises(DataError, match="data_root"):
        tasks.load("fashion-mnist")
    with pytest.raises(DataError, match="FashionMNIST/raw"):
        tasks.load("fashion-mnist", data_root=tmp_path)
    make_idx(tmp_path, compressed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, reason in ((whole[:-5], "cut short"), (b"PNG!" + whole, "begins with"), (b"", "begins with nothing")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            tasks.load("fashion-mnist", data_root=tmp_path)
    path.write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(DataError, match="Cannot read"):
        tasks.load("fashion-mnist", data_root=tmp_path)
    make_idx(tmp_path, compressed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    raw = bytearray(labels.read_bytes())
    raw[-1] = 10
    labels.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="below the number of classes"):
        tasks.load("fashion-mnist", data_root=tmp_path)


def cifar_arrays(n=60):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), np.arange(n) % 10


def write_cifar_pickles(root, images, labels):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for names in cifar.PICKLE_FILES.values():
        for name in names:
            batch = {
                "data": images.reshape(len(images), -1),
                "labels": labels.tolist(),
                "filenames": ["a"] * len(labels),
            }
            (root / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_cifar_binary(root, images, labels):
    (root / "cifar-10-batches-bin").mkdir(parents=True)
    records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], axis=1)
    for names in cifar.BINARY_FILES.values():
        for name in names:
            (root / name).write_bytes(records.tobytes())


@pytest.mark.parametrize("write", [write_cifar_pickles, write_cifar_binary])
@pytest.mark.parametrize("where", ["", "cifar10"])
def test_cifar_layouts(tmp_path, write, where):
    images, labels = cifar_arrays()
    write(tmp_path / where, images, labels)
    task = tasks.load("cifar10", data_root=tmp_path)
    assert np.array_equal(task.split("test").images, images)
    assert task.split("test").labels.tolist() == labels.tolist()


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/never",)


def test_a_pickle_cannot_run_code(tmp_path):
    images, labels = cifar_arrays()
    write_cifar_pickles(tmp_path, images, labels)
    path = tmp_path / "cifar-10-batches-py/data_batch_1"
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": []}, protocol=2))
    with pytest.raises(DataError, match="not allowed"):
        tasks.load("cifar10", data_root=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"incomplete.*data_batch_1"):
        tasks.load("cifar10", data_root=tmp_path)


def test_cifar_damage(tmp_path):
    with pytest.raises(DataError, match="cifar-10-batches-py"):
        tasks.load("cifar10", data_root=tmp_path)
    images, labels = cifar_arrays()
    write_cifar_binary(tmp_path, images, labels)
    path = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="3,073"):
        tasks.load("cifar10", data_root=tmp_path)


def test_named_tasks_are_not_resized(tmp_path):
    with pytest.raises(DataError, match="image_size"):
        tasks.load("digits", image_size=16)


def test_pillow_is_installed():
    assert Image.new("L", (2, 2)).size == (2, 2)
