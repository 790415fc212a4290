"""ENAS on Fashion-MNIST, beside random search at equal total cost.

Space: ENAS micro with cells of three nodes, three normal cells and two reductions of 8 to 32 channels, 28x28 images;
or with --macro ENAS macro with six layers of 16 channels.

Protocol (the defaults; at most 30 minutes on 2 CPU threads): for each of --seeds seeds
  1. ENAS: --epochs times an epoch of the shared weights on --images train images, a fifth of which are held out for the
     controller, and --steps steps of the controller with --samples samples each; then the best of ten children by
     shared accuracy on validation; besides, five random networks are trained alone for --alone epochs, to check that
     ranking;
  2. random search, which trains networks alone for --alone epochs each, for as many seconds as the search took,
     supernet included;
  3. both networks are trained from scratch for --final epochs on the same images and measured once on test.

    python examples/enas.py --data-root ../shared/data --out runs/enas
    python examples/enas.py --data-root ../shared/data --out runs/enas-smoke --smoke
"""

from __future__ import annotations

from against_random import compare, load, parser, show, small

from nasturtium.supernets import ENAS, Alone
from nasturtium.supernets.enas_controller import Skips, Teaching
from nasturtium.training import Recipe
from nasturtium.zoo import enas, enas_macro


def main() -> int:
    """Run and print."""
    options = parser(__doc__)
    options.add_argument("--macro", action="store_true", help="the macro space")
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=10, help="of the controller after each epoch")
    options.add_argument("--samples", type=int, default=5)
    options.add_argument("--rate", type=float, default=0.0035, help="learning rate of the controller")
    options.set_defaults(images=3000)
    given = options.parse_args()
    if given.show:
        show("enas", given.out)
        return 0
    if given.smoke:
        small(given, epochs=1, steps=2, samples=2)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.macro:
        space = enas_macro.space(width=16, layers=6)
        teaching = Teaching(learning_rate=given.rate, tanh_constant=1.5, skips=Skips(pattern="*_skip_*"))
    else:
        space = enas.space(width=8, layers=3, nodes=3)
        teaching = Teaching(learning_rate=given.rate)
    method = ENAS(
        epochs=given.epochs,
        recipe=Recipe(
            learning_rate=0.05, weight_decay=1e-4, batch_size=given.batch, warmup=0.0, label_smoothing=0.0, clip=5.0
        ),
        restart=None,
        share=0.2,
        steps=given.steps,
        samples=given.samples,
        teaching=teaching,
        sample=5,
        alone=Alone(epochs=given.alone),
    )
    compare("enas", method, space, load(given), given, within=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
