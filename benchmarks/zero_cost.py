"""How well zero-cost proxies rank NAS-Bench-201, beside what is published.

Scores cells of NAS-Bench-201 at their start, on real CIFAR-10 images, and ranks them against their test accuracy after
200 epochs: Spearman and Kendall with a 95 % bootstrap interval over cells, beside the published value over the whole
space, and, where the authors' own measures were run on the same cells, Spearman with those scores.

    OMP_NUM_THREADS=1 python benchmarks/zero_cost.py --data-root ../shared/data --cache /tmp/zero_cost.json

Scores are worked out for 25 cells after the other, the cheap ones first, as far as the time goes (n says how far); they
are kept in the cache as they come, so that a run that was stopped goes on. `--minutes 0` only prints.

The last row is the vote of Abdelfattah et al.: the share of pairs that most of synflow, jacob_cov and snip order as the
accuracies do. It is no correlation: chance is 0.5.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

import nasturtium as nas
from nasturtium.errors import TrialError
from nasturtium.estimators import Job, ZeroCost
from nasturtium.estimators.zero_cost import vote
from nasturtium.supernets import measure_trust
from nasturtium.zoo import nasbench201

PUBLISHED = {
    "params": (0.753, "all cells, computed"),
    "macs": (0.753, "all cells, computed"),
    "naswot": (0.776, "Mellor et al., stored scores"),
    "synflow": (0.737, "Abdelfattah et al."),
    "jacob_cov": (0.731, "Abdelfattah et al."),
    "snip": (0.596, "Abdelfattah et al."),
    "grad_norm": (0.594, "Abdelfattah et al."),
    "grasp": (0.514, "Abdelfattah et al."),
    "fisher": (0.360, "Abdelfattah et al."),
    "zico": (0.80, "Li et al."),
    "zen_residual": (0.38, "Li et al."),
    "plain": (-0.26, "White et al."),
}
"""Spearman with CIFAR-10 accuracy over NAS-Bench-201."""
GROUPS = (("params", "macs"), ("l2_norm",), ("synflow",), ("naswot",), ("grad_norm", "plain", "snip", "fisher", "zico"),
          ("jacob_cov",), ("zen_residual",), ("zen",), ("grasp",))  # fmt: skip
"""Proxies that are worked out together; each is said to take the time of its group."""
RESAMPLES = 2_000
BLOCK = 25
"""Cells for which all scores are worked out before those of further cells."""
VOTERS = ("synflow", "jacob_cov", "snip")
VOTED = 0.817
"""Of the vote over all cells, Abdelfattah et al.; a share of pairs."""
FEWEST = 20
"""Cells below which a row is not printed: its interval would say nothing."""


def rhos(a, b):
    """Spearman of each row of two matrices."""
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(a, axis=1), rankdata(b, axis=1)))
    return (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))


def correlations(a, b):
    """Spearman and Kendall, each with the ends of its 95 % bootstrap interval over cells."""
    rows = np.random.default_rng(0).integers(0, len(a), (RESAMPLES, len(a)))
    low, high = np.nanquantile(rhos(a[rows], b[rows]), [0.025, 0.975])
    kendall = measure_trust(a, b, seed=0)
    return (rhos(a[None], b[None])[0], low, high), (kendall.tau, kendall.low, kendall.high)


def cells(root: Path, count: int, seed: int):
    """(official string, test accuracy, scores by the authors' code) of a sample."""
    reference = root.parent / "reference_values.json"
    if reference.is_file():
        return [(c["arch"], c["acc"] / 100, c) for c in json.loads(reference.read_text())["nb201_proxy_sample"][:count]]
    with np.load(root / "nasbench201" / "nasbench201.npz") as table:
        texts, accuracy = table["arch_str"], table["test_acc_200"][:, 0] / 100
    rows = random.Random(seed).sample(range(len(texts)), count)
    return [(str(texts[row]), float(accuracy[row]), {}) for row in rows]


def score(names: tuple[str, ...], cell: str, space, job: Job, given) -> dict:
    """Scores, NaN where not defined, and the seconds of all."""
    estimator = ZeroCost(names, images=given.images, repeats=given.repeats)
    architecture = nasbench201.architecture(cell, space)
    begin = time.process_time()
    try:
        values = estimator.estimate(architecture, job=job)
    except TrialError:
        values = dict.fromkeys(names, math.nan)
    return {"scores": values, "seconds": time.process_time() - begin}


def key_of(names: tuple[str, ...], cell: str, given) -> str:
    return f"{'+'.join(names)} {cell} {given.images} {given.repeats} {given.seed}"


def spent(known: dict[str, dict]) -> float:
    return sum(found["seconds"] for found in known.values())


def work(sample, known: dict[str, dict], given) -> None:
    """Score what is not known yet, until the time is spent."""
    job = Job(task=nas.tasks.load("cifar10", data_root=given.data_root), seed=given.seed, device="cpu")
    space = nasbench201.space()
    blocks = [sample[start : start + BLOCK] for start in range(0, len(sample), BLOCK)]
    for names, cell in [(names, cell) for block in blocks for names in GROUPS for cell, _, _ in block]:
        key = key_of(names, cell, given)
        if key in known:
            continue
        if spent(known) >= 60 * given.minutes:
            break
        known[key] = score(names, cell, space, job, given)
        if given.cache:
            given.cache.write_text(json.dumps(known))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=101)
    parser.add_argument("--images", type=int, default=32, help="of a batch")
    parser.add_argument("--repeats", type=int, default=2, help="draws of zen")
    parser.add_argument("--minutes", type=float, default=20.0, help="of one core, over all scores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sample = cells(given.data_root, given.cells, given.seed)
    known: dict[str, dict] = {}
    if given.cache and given.cache.is_file():
        known = json.loads(given.cache.read_text())
    if spent(known) < 60 * given.minutes:
        work(sample, known, given)
    report(sample, known, given)
    return 0


def report(sample, known, given) -> None:
    print(f"NAS-Bench-201, CIFAR-10, batch {given.images}, zen {given.repeats} draws, seed {given.seed}, one CPU core")
    print(f"{'proxy':<13}{'n':>4}{'undefined':>10}  {'Spearman':<24}{'Kendall':<24}{'published':<10}"
          f"{'with authors':>12}{'s/score':>9}")  # fmt: skip
    named = [(names, name) for names in GROUPS for name in names]
    for group, name in named:
        rows = [(known.get(key_of(group, cell, given)), acc, old) for cell, acc, old in sample]
        rows = [(found["scores"][name], found["seconds"], acc, old) for found, acc, old in rows if found is not None]
        if len(rows) < FEWEST:
            continue
        seconds = float(np.median([r[1] for r in rows]))
        good = [r for r in rows if not math.isnan(r[0])]
        a, b = np.array([r[0] for r in good]), np.array([r[2] for r in good])
        said = [f"{value:+.2f} ({low:+.2f} to {high:+.2f})" for value, low, high in correlations(a, b)]
        both = [(r[0], r[3][name]) for r in good if name in r[3]]
        authors = f"{spearmanr(*zip(*both, strict=True)).statistic:+.3f}" if both else ""
        told = f"{PUBLISHED[name][0]:+.2f}" if name in PUBLISHED else ""
        print(f"{name:<13}{len(good):>4}{len(rows) - len(good):>10}  {said[0]:<24}{said[1]:<24}{told:<10}"
              f"{authors:>12}{seconds:>9.2f}")  # fmt: skip
    report_vote(sample, known, given)


def report_vote(sample, known, given) -> None:
    group_of = {name: names for names in GROUPS for name in names}
    rows = [([known.get(key_of(group_of[name], cell, given)) for name in VOTERS], acc) for cell, acc, _ in sample]
    rows = [([f["scores"][n] for f, n in zip(found, VOTERS, strict=True)], acc) for found, acc in rows if all(found)]
    rows = [(scores, acc) for scores, acc in rows if not any(map(math.isnan, scores))]
    if len(rows) < FEWEST:
        return
    scores, accuracy = np.array([s for s, _ in rows]).T, np.array([acc for _, acc in rows])
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(rows), len(rows)) for _ in range(RESAMPLES)]
    low, high = np.quantile([vote(scores[:, r], accuracy[r]) for r in drawn], [0.025, 0.975])
    print(f"\nvote of {', '.join(VOTERS)}: {vote(scores, accuracy):.3f} ({low:.3f} to {high:.3f}) of pairs in order, "
          f"n {len(rows)}; published {VOTED:.3f}")  # fmt: skip
    for name, values in zip(VOTERS, scores, strict=True):
        print(f"  {name} alone: {vote([values], accuracy):.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
