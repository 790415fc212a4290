"""What examples of searchers share: random search at the same total cost, and networks trained from scratch.

For each seed: the method searches; random search trains networks alone for as many seconds as that took, supernet
included; the two networks are trained from scratch alike and measured once on test. Every part is kept in `--out`:
run the same command again after any stop and it goes on. With `--show` nothing is run: what is kept there is printed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nasturtium as nas
from nasturtium.estimators import Job, Trained, measure_test
from nasturtium.supernets.searcher import Run, Searcher
from nasturtium.tasks import Task
from nasturtium.trial import FULL


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-root")
    made.add_argument("--out", type=Path, required=True, help="folder of all results; run again to go on")
    made.add_argument("--images", type=int, default=4000, help="train images, everywhere")
    made.add_argument("--validation", type=int, default=1000)
    made.add_argument("--alone", type=int, default=3, help="epochs of networks that random search trains alone")
    made.add_argument("--final", type=int, default=8, help="epochs of the final trainings")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    made.add_argument("--show", action="store_true", help="only print the summary of what is in --out; runs nothing")
    return made


def small(given: argparse.Namespace, **changes: object) -> None:
    """Sizes that only show that it runs."""
    vars(given).update({"images": 256, "validation": 100, "alone": 1, "final": 1, "seeds": 1, "threads": 1, **changes})


def load(given: argparse.Namespace) -> Task:
    """Fashion-MNIST with its first train and validation images; test stays whole, but for a smoke run."""
    task = nas.tasks.load("fashion-mnist", data_root=given.data_root)
    splits = dict(task.splits)
    parts = [("train", given.images), ("validation", given.validation), ("test", 100 if given.smoke else 10_000)]
    for name, count in parts:
        splits[name] = task.split(name).take(np.arange(min(count, len(task.split(name)))))
    return replace(task, splits=splits, loader=None)


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds, made and written where it is missing."""
    if not path.is_file():
        write(path, make())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write(path: Path, said: dict[str, Any]) -> None:
    """Write JSON at once or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(said, indent=1))
    partial.replace(path)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation (of a sample: n - 1) with n."""
    n = len(values)
    if n < 2:
        return f"{np.mean(values):,.{digits}f} (n = 1)"
    return f"{np.mean(values):,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f} (n = {n})"


def searched(method: Searcher, space: nas.Space, task: Task, seed: int, out: Path) -> dict[str, Any]:
    """One search by the method."""

    def report(record: Any) -> None:
        print("  " + ", ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)

    def make() -> dict[str, Any]:
        result = method.search(space, Run(task=task, seed=seed, directory=out / f"search-{seed}", report=report))
        best = result.found[0]
        return {
            "architecture": best.architecture.to_dict(), "evidence": dict(best.evidence), "seconds": result.seconds,
            "steps": result.steps, "notes": result.notes, "history": [dict(record) for record in result.history],
        }  # fmt: skip

    return kept(out / f"search-{seed}.json", make)


def at_random(
    space: nas.Space, task: Task, seconds: float, seed: int, macs: int | None, given: argparse.Namespace
) -> dict[str, Any]:
    """Random search that trains each network alone, within the seconds, and within the MACs where they are limited."""

    def make() -> dict[str, Any]:
        enough = min(seconds, 10.0) if given.smoke else seconds
        study = nas.search(
            space, task, maximize="accuracy", strategy="random", estimator=Trained(epochs=given.alone), trials=10_000,
            constraints=[] if macs is None else [nas.macs <= macs], seed=seed, seconds=enough, threads=given.threads,
            concurrency=1, study=given.out / f"random-{seed}.db",
        )  # fmt: skip
        return {"architecture": study.best.architecture.to_dict(), "networks": len(study.trials)}

    return kept(given.out / f"random-{seed}.json", make)


def final(name: str, stored: Any, task: Task, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train from scratch, measure once on test."""
    architecture = nas.Architecture.from_dict(stored)
    folder = given.out / f"final-{name}-{seed}"

    def make() -> dict[str, Any]:
        graph = nas.trace(architecture, task.input_shape, **task.context)
        job = Job(task=task, seed=seed, directory=folder, threads=given.threads)
        seconds = Trained(epochs=given.final).estimate(architecture, FULL, job)["train_seconds"]
        test = measure_test(architecture, task, weights=folder).accuracy
        return {"test": test, "macs": graph.macs, "params": graph.params, "train_seconds": seconds}

    return kept(given.out / f"final-{name}-{seed}.json", make)


def compare(
    name: str, method: Searcher, space: nas.Space, task: Task, given: argparse.Namespace, *, within: bool
) -> dict[str, list[dict[str, Any]]]:
    """Search, search at random, train both from scratch; print and keep a table.

    Args:
        name: Of the method.
        method: It.
        space: That is searched.
        task: The task.
        given: Options of `parser`.
        within: Whether random search is held to the MACs of the method's network, as is fair where that pays for them.
    """
    torch.set_num_threads(given.threads)
    method.check(space, task)
    for seed in range(given.seeds):
        print(f"seed {seed}: {name} searches", flush=True)
        one = searched(method, space, task, seed, given.out)
        ours = final(name, one["architecture"], task, seed, given)
        other = at_random(space, task, one["seconds"], seed, ours["macs"] if within else None, given)
        final("random", other["architecture"], task, seed, given)
    rows = kept_rows(name, given.out, given.seeds)
    protocol = {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items()}
    write(given.out / "results.json", {"protocol": protocol, "rows": rows})
    show(name, given.out)
    return rows


def kept_rows(name: str, out: Path, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """What a folder holds of the first seeds, up to the first that is not complete."""
    rows: dict[str, list[dict[str, Any]]] = {name: [], "random": []}
    for seed in range(seeds):
        parts = [out / f"{part}-{seed}.json" for part in ("search", f"final-{name}", "random", "final-random")]
        if not all(part.is_file() for part in parts):
            break
        one, ours, other, theirs = (json.loads(part.read_text()) for part in parts)
        rows[name].append({**ours, "seconds": one["seconds"], "shared": one["evidence"]["shared_accuracy"]})
        rows["random"].append({**theirs, "seconds": one["seconds"], "networks": other["networks"]})
    return rows


def show(name: str, out: Path) -> None:
    """Print what `results.json` holds; where the run is not finished, what its complete seeds came to."""
    path = out / "results.json"
    if path.is_file():
        rows = json.loads(path.read_text())["rows"]
    else:
        rows = kept_rows(name, out, len(list(out.glob("search-*.json"))))
        print(f"Not finished: complete are {len(rows[name])} seeds.")
    count = len(rows[name])
    for seed in range(count):
        print(f"seed {seed}")
        for key, found in rows.items():
            row = found[seed]
            print(f"  {key}: test accuracy {row['test']:.4f}, {row['macs']:,} MACs, {row['params']:,} params")
        part = out / f"search-{seed}.json"
        for note in json.loads(part.read_text())["notes"] if part.is_file() else ():
            print(f"  {note}")
    if not count:
        return
    print(f"\nmean ± standard deviation over {count} seeds (0 to {count - 1}); search seconds with supernet")
    for key, found in rows.items():
        print(f"{key:>12}: " + ", ".join(
            f"{label} {spread([r[field] for r in found], digits)}"
            for label, field, digits in (
                ("test accuracy", "test", 4), ("MACs", "macs", 0), ("params", "params", 0), ("seconds", "seconds", 0),
            )
        ))  # fmt: skip
    print(f"random search trained {np.mean([row['networks'] for row in rows['random']]):.1f} networks a seed")
