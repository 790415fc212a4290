"""Images a second of `nas.training.fit` against a plain reference loop (DataLoader, foreach SGD), in one run.

Both train the same network on the same digits for the same epochs on one thread; CPU time, best of the repetitions,
taken in turns. Run: `python benchmarks/training.py`.
"""

from __future__ import annotations

import argparse
import random
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nasturtium import tasks, zoo
from nasturtium.graph import trace
from nasturtium.model import build
from nasturtium.training import Recipe, fit


def reference(model: nn.Module, task: tasks.Task, *, epochs: int, batch: int) -> None:
    """The loop that one writes first: random crops by the image, a DataLoader, SGD as it comes."""
    split = task.split("train")
    images = (torch.from_numpy(split.images).float() / 255.0 - task.mean[0]) / task.std[0]
    loader = DataLoader(TensorDataset(images, torch.from_numpy(split.labels)), batch, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            dy, dx = random.randint(-1, 1), random.randint(-1, 1)
            shifted = torch.roll(x, (dy, dx), (2, 3))
            loss = loss_of(model(shifted), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            loss.item()


def networks(task: tasks.Task) -> dict[str, object]:
    """A tiny chain, and the smallest and a middling of 30 random networks of the `mobile` space."""
    space, rng = zoo.space("mobile"), random.Random(3)
    graphs = sorted(
        (trace(space.sample(rng), task.input_shape, **task.context) for _ in range(30)), key=lambda g: g.params
    )
    return {"mobile, small": graphs[0], "mobile, middling": graphs[15]}


def tiny() -> nn.Module:
    """3,154 weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, bias=False, groups=12), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = tasks.load("digits")
    batch = Recipe().batch_for(len(task.split("train")))
    images = given.epochs * (len(task.split("train")) // batch * batch)
    makers = {"tiny": tiny} | {name: lambda g=graph: build(g, seed=0) for name, graph in networks(task).items()}
    print(f"{'network':<18}{'weights':>10}{'fit, images/s':>16}{'reference':>12}{'ratio':>8}")
    for name, make in makers.items():
        best = [float("inf"), float("inf")]
        for _ in range(given.repetitions):
            for i in range(2):
                model = make()
                begin = time.process_time()
                if i:
                    reference(model, task, epochs=given.epochs, batch=batch)
                else:
                    fit(model, task, epochs=given.epochs, seed=0)
                best[i] = min(best[i], time.process_time() - begin)
        weights = sum(p.numel() for p in make().parameters())
        ours, theirs = images / best[0], images / best[1]
        print(f"{name:<18}{weights:>10,}{ours:>16,.0f}{theirs:>12,.0f}{ours / theirs:>8.2f}")


if __name__ == "__main__":
    main()
