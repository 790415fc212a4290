"""Laws of training: learns, is deterministic, resumes exactly, notices divergence."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nasturtium import tasks
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.training import Recipe, evaluate, fit, resolve_device, seconds_per_epoch

sys.path.insert(0, str(Path(__file__).parent))

from small_networks import small


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    return tasks.load("digits")


def weights_of(model):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(optimizer="adamw", ema=0.9)], ids=["sgd", "adamw-ema"])
def test_real_digits_are_learned(digits, recipe):
    # 3,154 weights; the estimator's tests hold networks of the usual size to more.
    model = small()
    result = fit(model, digits, recipe, epochs=15, seed=0)
    assert result.epochs == 15
    assert result.history[-1]["loss"] < result.history[0]["loss"] / 2
    assert evaluate(model, digits).accuracy >= 0.92
    assert not model.training


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(digits):
    hashes = []
    for seed in (0, 0, 1):
        model = small(dropout=0.2)
        fit(model, digits, epochs=2, seed=seed)
        hashes.append(weights_of(model))
    assert hashes[0] == hashes[1] != hashes[2]


def test_global_randomness_neither_matters_nor_changes(digits):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    model = small(dropout=0.5)
    fit(model, digits, epochs=1, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    other = small(dropout=0.5)
    fit(other, digits, epochs=1, seed=0)
    assert weights_of(model) == weights_of(other)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("killed_at", [1, 2, 3])
@pytest.mark.parametrize(
    "recipe",
    [Recipe(), Recipe(optimizer="adamw", ema=0.9, clip=1.0), Recipe(memory_format="contiguous")],
    ids=["sgd", "adamw-ema-clip", "contiguous"],
)
def test_an_interrupted_training_ends_with_the_same_bits(digits, tmp_path, killed_at, recipe):
    whole = small(dropout=0.2)
    complete = fit(whole, digits, recipe, epochs=4, seed=5, validate=True)

    def kill(epoch):
        if epoch["epoch"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        fit(small(dropout=0.2), digits, recipe, epochs=4, seed=5, directory=tmp_path, on_epoch=kill, validate=True)
    again = small(seed=77, dropout=0.2)
    seen = []
    result = fit(
        again, digits, recipe, epochs=4, seed=5, directory=tmp_path, on_epoch=lambda e: seen.append(e["epoch"]),
        validate=True,
    )  # fmt: skip
    assert result.resumed == killed_at
    assert seen == list(range(killed_at + 1, 5))
    assert weights_of(again) == weights_of(whole)
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in r.history] for r in (result, complete)]
    assert timeless[0] == timeless[1]
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from nasturtium import tasks
from nasturtium.training import fit
from small_networks import small
from test_fit import weights_of
model = small(dropout=0.1)
result = fit(model, tasks.load("digits"), epochs=12, seed=3, directory=Path(sys.argv[2]),
             on_epoch=lambda e: print(int(e["epoch"]), flush=True))
print("resumed", result.resumed, weights_of(model))
"""


def run(folder, **kwargs):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **kwargs)


def test_kill_minus_nine_then_the_same_bits_in_another_process(digits, tmp_path):
    model = small(dropout=0.1)
    fit(model, digits, epochs=12, seed=3)
    process = run(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 3:
            time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    done = run(tmp_path)
    out, _ = done.communicate()
    last = out.strip().splitlines()[-1].split()
    assert int(last[1]) >= 3
    assert last[2] == weights_of(model)


def test_a_checkpoint_of_another_training_is_refused(digits, tmp_path):
    fit(small(), digits, epochs=1, seed=0, directory=tmp_path, keep_checkpoint=True)
    for change in ({"seed": 1}, {"epochs": 2}, {"recipe": Recipe(label_smoothing=0.2)}, {"share": 0.5}):
        arguments = {"epochs": 1, "seed": 0, **change}
        with pytest.raises(InvalidInputError, match="belongs to a training with another"):
            fit(small(), digits, directory=tmp_path, **arguments)
    assert fit(small(), digits, epochs=1, seed=0, directory=tmp_path).resumed == 1


def test_a_damaged_checkpoint_is_named(digits, tmp_path):
    fit(small(), digits, epochs=1, seed=0, directory=tmp_path, keep_checkpoint=True)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"checkpoint\.pt.*Delete it"):
        fit(small(), digits, epochs=1, seed=0, directory=tmp_path)


def test_a_folder_that_cannot_be_written(digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write the checkpoint"):
        fit(small(), digits, epochs=1, seed=0, directory=tmp_path / "file" / "below")


def test_divergence_is_noticed_at_once(digits):
    with pytest.raises(TrialError, match="diverged") as caught:
        fit(small(depthwise=False), digits, Recipe(learning_rate=1e6, warmup=0.0), epochs=3, seed=0)
    assert caught.value.kind == "diverged"


class Poisoned(nn.Module):
    """Gives NaN from its 20th step on."""

    def __init__(self):
        super().__init__()
        self.inner = small()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (float("nan") if self.calls > 20 else 1.0)


def test_nan_is_divergence(digits):
    model = Poisoned()
    with pytest.raises(TrialError, match="the loss is nan") as caught:
        fit(model, digits, epochs=5, seed=0)
    assert caught.value.kind == "diverged"
    assert model.calls <= 36
    assert np.isnan(evaluate(model, digits).loss)
    assert evaluate(model, digits).accuracy == 0.0


def test_stop_and_shares(digits):
    result = fit(small(), digits, epochs=9, seed=0, stop=lambda history: len(history) == 2, share=0.5, size=(6, 6))
    assert result.stopped
    assert result.epochs == 2
    assert result.images == 2 * (540 // 64 * 64)


def test_evaluation_tells_which_images_were_right(digits):
    model = small()
    model.train()
    result = evaluate(model, digits, "validation", batch_size=100)
    assert model.training
    assert result.correct.shape == (359,)
    assert result.accuracy == pytest.approx(result.correct.mean())
    split = digits.split("validation")
    x = (torch.from_numpy(split.images / 255.0).float() - digits.mean[0]) / digits.std[0]
    with torch.inference_mode():
        logits = model.eval()(x)
    assert result.correct.tolist() == (logits.argmax(1).numpy() == split.labels).tolist()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(split.labels))
    assert result.loss == pytest.approx(float(loss), rel=1e-5)


def test_training_only_outputs_train(digits):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.extra = small(0), small(1)

        def forward(self, x):
            return (self.main(x), self.extra(x)) if self.training else self.main(x)

    model = Two()
    before = weights_of(model.extra)
    fit(model, digits, epochs=1, seed=0)
    assert weights_of(model.extra) != before


def test_wrong_networks_and_arguments(digits):
    with pytest.raises(InvalidInputError, match=r"shape \(batch, 10\)"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), digits, epochs=1, seed=0)
    with pytest.raises(InvalidInputError, match="no weights"):
        fit(nn.Flatten(), digits, epochs=1, seed=0)
    with pytest.raises(InvalidInputError, match="epochs"):
        fit(small(), digits, epochs=0, seed=0)
    with pytest.raises(InvalidInputError, match="share"):
        fit(small(), digits, epochs=1, seed=0, share=0.0)
    with pytest.raises(InvalidInputError, match="device"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="not there"):
            resolve_device("cuda")


def test_fewer_images_than_a_batch():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8), np.arange(30) % 10
    task = tasks.from_arrays((x, y), validation=(x, y), test=(x, y))
    assert fit(small(), task, epochs=1, seed=0).images == 30


def test_vectors_train():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.normal(size=(200, 5)) + 3 * y[:, None]
    task = tasks.from_arrays((x, y))
    model = nn.Linear(5, 2)
    fit(model, task, epochs=5, seed=0)
    assert evaluate(model, task).accuracy > 0.9


def test_forecast_of_an_epoch(digits):
    model = small()
    before = weights_of(model)
    assert 0.0 < seconds_per_epoch(model, digits) < 60.0
    assert weights_of(model) == before


@pytest.mark.parametrize("name", ["fashion-mnist", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_real_images_are_learned(data_root, name):
    task = tasks.load(name, data_root=data_root)
    model = small(channels=task.input_shape[0])
    fit(model, task, epochs=3, seed=0, share=0.02)
    assert evaluate(model, task).accuracy > (0.25 if name == "fashion-mnist" else 0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu(digits):
    hashes = []
    for _ in range(2):
        model = small()
        result = fit(model, digits, epochs=10, seed=0, device="cuda")
        assert evaluate(model, digits).accuracy > 0.9
        hashes.append(weights_of(model.cpu()))
    assert hashes[0] == hashes[1]
    assert result.channels_last
