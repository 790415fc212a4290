"""AnyNet A to E on Fashion-MNIST: does each restriction of the space move its error distribution?

A: four stages with depth, width, bottleneck ratio and group width of their own. B: one bottleneck ratio. C: one group
width too. D: widths do not decrease. E: depths do not decrease either.

Protocol (the defaults; 2 processes of one thread; at most 30 minutes):
  1. Spaces: AnyNetX_A to E with stages of at most --max-depth blocks and --max-width channels, 28x28 images.
  2. Sample: --networks of each, uniform over the architectures of --low to --high MACs, without repetition. That range
     is fixed before anything is trained, and the same for all.
  3. Training: --epochs epochs from scratch on the first --images train images, the library's recipe; one training of
     each network. Error: 1 - accuracy on the first --validation validation images. Test stays unseen.
  4. Distributions: weights give each of --bins bins of MACs the same mass in every space.
  5. Comparison: each space with the one before (A-B, B-C, C-D, D-E) and E with A: the distance D of Kolmogorov and
     Smirnov, its p-value by permutation of the labels within the bins (exact where error and complexity are alike
     within each bin), and after Holm's correction over the five; the probability that a network of the later space
     beats one of the earlier, and the difference of mean errors, with
     95 % bootstrap intervals. A difference is claimed where the corrected p-value is below 0.05, and not otherwise.

Differs from the paper: ImageNet there, 500 networks of 360 to 400 MF a space, 10 epochs; widths and depths are drawn
log-uniformly there; widths reach 1024 and depths 16.

Everything is kept in --out; run the same command again after any stop and it goes on.

    python examples/anynet.py --data-root ../shared/data --out runs/anynet
    python examples/anynet.py --data-root ../shared/data --out runs/anynet-smoke --smoke

Reference: Radosavovic et al. (2020), "Designing Network Design Spaces", arXiv 2003.13678, section 3.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

import nasturtium as nas
from nasturtium.design import ErrorSample, compare_spaces, normalized
from nasturtium.design.comparing import SpaceComparison
from nasturtium.report.design_figures import LEGEND_NOTE, best_of_figure, edf_figure, write_page
from nasturtium.study.designing import measured_sample
from nasturtium.tasks import Task
from nasturtium.zoo import anynet

SPACES = {
    "A": anynet.anynet_a,
    "B": anynet.anynet_b,
    "C": anynet.anynet_c,
    "D": anynet.anynet_d,
    "E": anynet.anynet_e,
}


def options() -> argparse.Namespace:
    """The protocol's sizes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-root")
    made.add_argument("--out", type=Path, required=True, help="folder of all results; run again to go on")
    made.add_argument("--networks", type=int, default=60, help="of each space")
    made.add_argument("--images", type=int, default=600)
    made.add_argument("--validation", type=int, default=1000)
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--max-depth", type=int, default=4)
    made.add_argument("--max-width", type=int, default=64)
    made.add_argument("--low", type=float, default=1e6, help="MACs")
    made.add_argument("--high", type=float, default=4e6)
    made.add_argument("--bins", type=int, default=5)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    given = made.parse_args()
    if given.smoke:
        vars(given).update(
            {"networks": 3, "images": 64, "validation": 64, "epochs": 1, "bins": 1, "workers": 1, "max_width": 32,
             "low": 1e5, "high": 1e6}
        )  # fmt: skip
    return given


def few(images: int, validation: int, data_root: str | None) -> Task:
    """Fashion-MNIST with its first train and validation images; no test image is looked at."""
    task = nas.tasks.load("fashion-mnist", data_root=data_root)
    splits = dict(task.splits)
    splits["train"] = task.split("train").take(np.arange(images))
    splits["validation"] = task.split("validation").take(np.arange(validation))
    return replace(task, splits=splits, loader=None)


def holm(values: list[float]) -> list[float]:
    """P-values after Holm's correction."""
    found, last = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        last = max(last, min(1.0, (len(values) - rank) * values[place]))
        found[place] = last
    return found


def samples(given: argparse.Namespace) -> list[ErrorSample]:
    """Errors of each space's networks; each space's trainings are a study in the folder."""
    data_root = None if given.data_root is None else str(Path(given.data_root).resolve())
    task = nas.tasks.from_factory(
        f"{Path(__file__).resolve()}:few", images=given.images, validation=given.validation, data_root=data_root
    )  # each process makes it anew
    found = []
    for letter, make in SPACES.items():
        space = make(task.input_shape, max_depth=given.max_depth, max_width=given.max_width)
        found.append(
            measured_sample(
                space, task, name=f"AnyNet {letter}", n=given.networks, low=given.low, high=given.high,
                estimator=nas.estimators.Trained(epochs=given.epochs), seed=given.seed, workers=given.workers,
                study=given.out / f"anynet_{letter.lower()}.db",
            )
        )  # fmt: skip
        best, mean = min(found[-1].errors), float(np.mean(found[-1].errors))
        print(
            f"{found[-1].name}: {len(found[-1].errors)} networks, errors from {best:.3f}, mean {mean:.3f}", flush=True
        )
    return found


def main() -> int:
    """Run and print."""
    given = options()
    given.out.mkdir(parents=True, exist_ok=True)
    kept, edges, curves = normalized(samples(given), bins=given.bins, low=given.low, high=given.high)
    pairs = [*zip(kept[1:], kept[:-1], strict=True), (kept[-1], kept[0])]
    found: list[SpaceComparison] = [compare_spaces(a, b, edges=edges, seed=given.seed) for a, b in pairs]
    corrected = holm([c.p_value for c in found])
    print()
    for comparison, p in zip(found, corrected, strict=True):
        verdict = "" if p >= 0.05 else f" {comparison.first if comparison.effect > 0 else comparison.second} is better."
        print(f"{comparison.sentence} After Holm p = {p:.2g}.{verdict}")
    protocol = {k: v for k, v in vars(given).items() if k not in ("data_root", "out", "workers")}
    facts = {
        "protocol": protocol, "bins": edges.tolist(), "samples": [s.to_dict() for s in kept],
        "spaces": [{"name": c.name, "minimum": c.minimum, "mean": c.mean} for c in curves],
        "comparisons": [{**c.to_dict(), "p_holm": p} for c, p in zip(found, corrected, strict=True)],
    }  # fmt: skip
    (given.out / "anynet.json").write_text(json.dumps(facts, indent=1))
    page = write_page(
        given.out / "anynet.html", "AnyNet A to E", " ".join(c.sentence for c in found),
        {
            "Error distributions": (LEGEND_NOTE, edf_figure(curves)),
            "The best of k": ("Expected smallest error of k networks.", best_of_figure(curves, given.networks)),
        },
    )  # fmt: skip
    print(f"\nFigures: {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
