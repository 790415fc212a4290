"""ProxylessNAS on Fashion-MNIST, beside random search at equal total cost.

Space: six inverted residuals after a stem, each with kernel 3, 5 or 7 and expansion 3 or 6; those that keep the shape
may be left out: 6^3 x 7^3 = 74,088 networks for 28x28 images.

Protocol (the defaults; at most 30 minutes on 2 CPU threads): for each of --seeds seeds
  1. ProxylessNAS: --warmup epochs of warm-up and --epochs of search on --images train images, a third of which are held
     out for the logits; the loss pays for MACs by the form --penalty against --reference MACs;
  2. random search, which trains networks alone for --alone epochs each, for as many seconds as the search took,
     supernet included, and within the MACs of the network that it found;
  3. both networks are trained from scratch for --final epochs on the same images and measured once on test.

    python examples/proxyless.py --data-root ../shared/data --out runs/proxyless
    python examples/proxyless.py --data-root ../shared/data --out runs/proxyless-smoke --smoke
"""

from __future__ import annotations

from against_random import compare, load, parser, show, small

import nasturtium as nas
from nasturtium.blocks import Repeat
from nasturtium.supernets.proxyless import ProxylessNAS
from nasturtium.supernets.proxyless_cost import AddedLinear, MultipliedLog
from nasturtium.training import Recipe

STAGES = ((16, 2), (32, 2), (64, 2))
"""Channels and blocks of each stage; the first block of each halves the image."""


def make_space() -> nas.Space:
    """The chain of open blocks."""
    stages = []
    for width, count in STAGES:
        blocks = []
        for i in range(count):
            block = nas.MBConv(width, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(3, 6), stride=1 if i else 2)
            blocks.append(nas.one_of(block, nas.Identity()) if i else block)
        stages.append(Repeat(tuple(blocks)))
    return nas.Space(nas.Sequential(nas.Conv(8), *stages, nas.Conv(128, kernel=1), nas.Classifier()))


def main() -> int:
    """Run and print."""
    options = parser(__doc__)
    options.add_argument("--warmup", type=int, default=3)
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--every", type=int, default=2, help="steps of the weights for one of the logits")
    options.add_argument("--rate", type=float, default=0.02, help="learning rate of the logits")
    options.add_argument("--variant", choices=("gradient", "reinforce"), default="gradient")
    options.add_argument("--paths", choices=("all", "two"), default="all")
    options.add_argument("--penalty", choices=("mul#log", "add#linear"), default="mul#log")
    options.add_argument("--reference", type=float, default=2e6, help="MACs that are aimed at; 3.5 million is the mean")
    given = options.parse_args()
    if given.show:
        show("proxyless", given.out)
        return 0
    if given.smoke:
        small(given, warmup=1, epochs=2)
    given.out.mkdir(parents=True, exist_ok=True)
    method = ProxylessNAS(
        epochs=given.epochs,
        warmup=given.warmup,
        recipe=Recipe(learning_rate=0.05, weight_decay=4e-5, batch_size=given.batch, warmup=0.0, label_smoothing=0.1),
        share=1 / 3,
        every=given.every,
        learning_rate=given.rate,
        variant=given.variant,
        paths=given.paths,
        cost="macs",
        reference=given.reference,
        penalty=MultipliedLog() if given.penalty == "mul#log" else AddedLinear(),
    )
    compare("proxyless", method, make_space(), load(given), given, within=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
