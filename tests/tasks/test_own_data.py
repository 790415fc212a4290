"""The user's own data: folders, arrays, files, factories; and every way in which they can be wrong."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasturtium import tasks
from nasturtium.errors import DataError
from nasturtium.tasks.splitting import carve


def save(path, seed=0, size=(12, 10), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode if mode != "L" else None).save(path)


@pytest.fixture
def pets(tmp_path):
    for k, name in enumerate(("cats", "dogs", "eels")):
        for i in range(10):
            save(tmp_path / "pets" / name / f"{i}.png", seed=100 * k + i)
    return tmp_path / "pets"


def test_a_folder_with_one_sub_folder_a_class(pets):
    (pets / "cats" / "notes.txt").write_text("not an image")
    (pets / ".hidden").mkdir()
    task = tasks.load(pets)
    assert task.class_names == ("cats", "dogs", "eels")
    assert task.input_shape == (3, 10, 12)
    assert [len(task.split(s)) for s in ("train", "validation", "test")] == [18, 6, 6]
    assert np.bincount(task.split("test").labels).tolist() == [2, 2, 2]
    assert tasks.open(task.reference).fingerprint == task.fingerprint
    before = task.fingerprint
    save(pets / "cats" / "3.png", seed=999)
    assert tasks.load(pets).fingerprint != before


def test_lossless_pixels_survive(pets):
    pixels = np.asarray(Image.open(pets / "dogs" / "4.png"))
    task = tasks.load(str(pets))
    every = np.concatenate([task.split(s).images for s in ("train", "validation", "test")])
    assert any(np.array_equal(image, pixels.transpose(2, 0, 1)) for image in every)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", None])
def test_a_folder_with_split_folders(tmp_path, validation):
    for part in filter(None, ("train", validation, "test")):
        for name in ("a", "b"):
            for i in range(6):
                save(tmp_path / part / name / f"{i}.jpg", seed=i, mode="L")
    task = tasks.load(tmp_path)
    assert task.input_shape == (1, 10, 12)
    assert len(task.split("test")) == 12
    assert len(task.split("validation")) == (12 if validation else 2)
    (tmp_path / "extra").mkdir()
    with pytest.raises(DataError, match="'extra'"):
        tasks.load(tmp_path)


def test_test_folders_may_not_have_new_classes(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        for i in range(4):
            save(tmp_path / part / name / f"{i}.png")
    with pytest.raises(DataError, match="lacks: 'c'"):
        tasks.load(tmp_path)


def test_sizes_and_colours(pets):
    save(pets / "cats" / "wide.png", size=(40, 10))
    with pytest.raises(DataError, match=r"different sizes.*image_size"):
        tasks.load(pets)
    assert tasks.load(pets, image_size=8).input_shape == (3, 8, 8)
    assert tasks.load(pets, image_size=(6, 9), channels=1).input_shape == (1, 6, 9)
    save(pets / "cats" / "clear.png", mode="RGBA")
    assert tasks.load(pets, image_size=8).input_shape == (3, 8, 8)
    for wrong in (0, (3,), "8"):
        with pytest.raises(DataError, match="image_size"):
            tasks.load(pets, image_size=wrong)
    with pytest.raises(DataError, match="channels"):
        tasks.load(pets, image_size=8, channels=2)


def test_sixteen_bit_grey(tmp_path):
    for name in ("a", "b"):
        for i in range(4):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((5, 5), 1000 * (i + 1) + 256, dtype=np.uint16)).save(tmp_path / name / f"{i}.png")
    task = tasks.load(tmp_path)
    assert task.input_shape == (1, 5, 5)
    values = {int(v) for s in ("train", "validation", "test") for v in np.unique(task.split(s).images)}
    assert values == {(1000 * i + 256) >> 8 for i in (1, 2, 3, 4)}


def test_an_unreadable_image_is_named(pets):
    (pets / "dogs" / "7.png").write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"dogs/7\.png.*Repair or delete"):
        tasks.load(pets)
    whole = io.BytesIO()
    Image.open(pets / "dogs" / "6.png").save(whole, "png")
    (pets / "dogs" / "7.png").write_bytes(whole.getvalue()[:200])
    with pytest.raises(DataError, match=r"dogs/7\.png"):
        tasks.load(pets)


def test_folders_that_are_no_task(tmp_path):
    with pytest.raises(DataError, match="must hold images, got none"):
        tasks.load(tmp_path)
    save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="1 images directly in it"):
        tasks.load(tmp_path)
    for i in range(5):
        save(tmp_path / "only" / f"{i}.png", seed=i)
    with pytest.raises(DataError, match=r"two classes.*'only'"):
        tasks.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"'.*empty' has none"):
        tasks.load(tmp_path)
    save(tmp_path / "empty" / "one.png")
    with pytest.raises(DataError, match="'empty' has 1 left"):
        tasks.load(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        tasks.load(tmp_path / "loose.png")


def test_a_cache_is_used_and_noticed_when_stale(pets, tmp_path):
    cache = tmp_path / "cache"
    first = tasks.load(pets, cache=cache)
    made = list(cache.iterdir())
    assert len(made) == 1
    assert tasks.load(pets, cache=cache).fingerprint == first.fingerprint == tasks.load(pets).fingerprint
    save(pets / "cats" / "new.png", seed=5)
    assert tasks.load(pets, cache=cache).fingerprint != first.fingerprint
    assert len(list(cache.iterdir())) == 2
    next(made[0].glob("train_images.npy")).write_bytes(b"junk")
    (pets / "cats" / "new.png").unlink()
    with pytest.raises(DataError, match="cache of decoded images"):
        tasks.load(pets, cache=cache)


ARRAYS = np.random.default_rng(0).integers(0, 256, (60, 9, 9), dtype=np.uint8), np.arange(60) % 3


def test_arrays_of_all_shapes():
    x, y = ARRAYS
    assert tasks.from_arrays((x, y)).input_shape == (1, 9, 9)
    assert tasks.from_arrays((x[..., None], y)).input_shape == (1, 9, 9)
    assert tasks.from_arrays((np.stack([x] * 3, 1), y)).input_shape == (3, 9, 9)
    assert tasks.from_arrays((np.stack([x] * 3, -1), y)).input_shape == (3, 9, 9)
    assert tasks.from_arrays((x.reshape(60, 81) / 255.0, y)).input_shape == (81,)
    floats = tasks.from_arrays((x / 255.0, y.astype(float)))
    assert floats.split("train").images.dtype == np.float32
    assert floats.scale == 1.0
    assert tasks.from_arrays((x.astype(np.int64), y)).split("train").images.dtype == np.uint8
    assert tasks.from_arrays((x, y), validation=(x, y), test=(x[:10], y[:10])).split("test").images.shape == (
        10,
        1,
        9,
        9,
    )
    assert tasks.from_arrays((x, y)).reference is None


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (ARRAYS[0], ARRAYS[1] - 1, "0 or larger, got -1 at row 0"),
        (ARRAYS[0], ARRAYS[1] + 0.5, "integers"),
        (ARRAYS[0], [f"c{i}" for i in ARRAYS[1]], "integers"),
        (ARRAYS[0], np.eye(3)[ARRAYS[1]], "argmax"),
        (ARRAYS[0], ARRAYS[1][:-1], "one label"),
        (ARRAYS[0], ARRAYS[1] * 2, "has none of '1', '3'"),
        (ARRAYS[0], ARRAYS[1] * 0, "two classes"),
        (ARRAYS[0][:0], ARRAYS[1][:0], "empty"),
        (np.where(np.arange(60)[:, None, None] == 7, np.nan, ARRAYS[0]), ARRAYS[1], "row 7 holds NaN"),
        (ARRAYS[0][:, 0, 0], ARRAYS[1], "shape"),
        (np.array([np.zeros((2, 2)), np.zeros((3, 3))], dtype=object), [0, 1], "one size"),
        (np.zeros((60, 3, 9, 3), np.uint8), ARRAYS[1], "layout"),
        (np.zeros((60, 7, 9, 8), np.uint8), ARRAYS[1], "layout"),
        (ARRAYS[0][:4], np.array([0, 1, 2, 0]), "at least one image"),
    ],
)
def test_arrays_that_do_not_fit(x, y, message):
    with pytest.raises(DataError, match=message):
        tasks.from_arrays((x, y))


def test_splits_that_contradict_each_other():
    x, y = ARRAYS
    with pytest.raises(DataError, match="shape of the train images"):
        tasks.from_arrays((x, y), validation=(x[:, :8], y))
    with pytest.raises(DataError, match="stored like"):
        tasks.from_arrays((x, y), test=(x / 255.0, y))
    with pytest.raises(DataError, match="below the number of classes, 3"):
        tasks.from_arrays((x, y), test=(x, y + 1), class_names=["a", "b", "c"])
    with pytest.raises(DataError, match="none of '3'"):
        tasks.from_arrays((x, y), test=(x, y + 1))
    with pytest.raises(DataError, match="pair"):
        tasks.from_arrays(x)


def test_npy_files_are_shared_by_memory_map(tmp_path):
    x, y = ARRAYS
    np.save(tmp_path / "x.npy", x[:, None])
    np.save(tmp_path / "y.npy", y)
    pair = (tmp_path / "x.npy", str(tmp_path / "y.npy"))
    task = tasks.from_arrays(pair, validation=pair, test=pair, augmentation=tasks.Augmentation(shift=1))
    assert isinstance(task.split("train").images, np.memmap)
    again = tasks.open(task.reference.to_dict())
    assert again.fingerprint == task.fingerprint
    assert again.augmentation == task.augmentation
    assert tasks.from_arrays(pair, validation=(x, y)).reference is None
    (tmp_path / "bad.npy").write_bytes(b"junk")
    with pytest.raises(DataError, match="npy file"):
        tasks.from_arrays((tmp_path / "bad.npy", tmp_path / "y.npy"))


FACTORY = """
import numpy as np
class Images:
    classes = ["even", "odd"]
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        return rng.random((1, 6, 6), dtype=np.float32) + i % 2, i % 2
def dataset(n=40): return Images(n)
def splits(): return {"train": Images(30), "test": Images(10)}
def arrays(): return np.zeros((40, 6, 6), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None], np.arange(40) % 2
def unstable():
    return np.random.default_rng().integers(0, 256, (40, 6, 6), dtype=np.uint8), np.arange(40) % 2
def nothing(): return None
def broken(): raise KeyError("oops")
def task():
    from nasturtium import tasks
    return tasks.load("digits")
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "mydata.py"
    path.write_text(FACTORY)
    return str(path)


def test_factories(factory):
    task = tasks.from_factory(f"{factory}:dataset", n=50)
    assert (task.input_shape, task.class_names) == ((1, 6, 6), ("even", "odd"))
    assert len(task.split("train")) == 30
    assert tasks.open(task.reference.to_dict()).fingerprint == task.fingerprint
    assert len(tasks.from_factory(f"{factory}:splits").split("test")) == 10
    assert tasks.load(f"{factory}:arrays").classes == 2
    assert tasks.from_factory(f"{factory}:task").reference.kind == "factory"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "must return a Task"), ("broken", "failed with KeyError"), ("absent", "no function 'absent'")],
)
def test_factories_that_fail(factory, name, message):
    with pytest.raises(DataError, match=message):
        tasks.from_factory(f"{factory}:{name}")


def test_factories_that_cannot_be_found(tmp_path):
    for where in ("no_such_module_at_all:make", f"{tmp_path}/absent.py:make"):
        with pytest.raises(DataError, match="cannot be imported"):
            tasks.from_factory(where)
    with pytest.raises(DataError, match="module:function"):
        tasks.from_factory("justaname")


def test_a_factory_that_is_not_stable_is_refused(factory):
    task = tasks.from_factory(f"{factory}:unstable")
    with pytest.raises(DataError, match="same data at each call"):
        tasks.open(task.reference)
    with pytest.raises(DataError, match="plain JSON"):
        tasks.from_factory(f"{factory}:dataset", n=object())


def test_another_process_opens_a_factory(factory):
    import json

    task = tasks.from_factory(f"{factory}:dataset")
    code = "import json, sys; from nasturtium import tasks; print(tasks.open(json.loads(sys.argv[1])).fingerprint)"
    reference = json.dumps(task.reference.to_dict())
    done = subprocess.run([sys.executable, "-c", code, reference], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == task.fingerprint


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.floats(0.05, 0.95), st.integers(0, 5))
def test_carving_is_a_stratified_partition(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = round(share * len(labels))
    if not len(sizes) <= count <= len(labels) - len(sizes):
        with pytest.raises(DataError, match="must each hold one image"):
            carve(labels, count, seed, "test")
        return
    rest, taken = carve(labels, count, seed, "test")
    assert sorted([*rest, *taken]) == list(range(len(labels)))
    assert len(taken) == count
    given = np.bincount(labels[taken], minlength=len(sizes))
    for n, size in zip(given, sizes, strict=True):
        assert 1 <= n <= size - 1
    again = carve(labels, count, seed, "test")
    assert np.array_equal(again[1], taken)
