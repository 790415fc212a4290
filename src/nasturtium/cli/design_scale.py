"""`nasturtium design scale`: a network scaled to several budgets, with what that costs and, on data, what it gives."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import data_options, import_from_here, imported, load_network, load_task, parse_shape
from nasturtium.cli.output import emit_json, format_option, note, table
from nasturtium.design.coefficients import KINDS, STEP, Coefficients, Grid, ScaledBy, find_coefficients, scaled_family
from nasturtium.design.multipliers import ALPHA, BETA, GAMMA, Multipliers
from nasturtium.design.scaling import ENDS, Scaled
from nasturtium.errors import InvalidInputError

CONFIDENCE = 0.95


@click.command(
    epilog="Example: nasturtium design scale efficientnet_b0 --factor 2 4 8, or measured, nasturtium design scale "
    "net.json --factor 2 4 --data digits --epochs 5 -o runs/scale"
)
@click.argument("words", nargs=-1, required=True, metavar="ARCH")
@click.option("--factor", "factors", type=float, multiple=True, help="By how much the MACs grow: --factor 2 4 8.")
@click.option(
    "--input", "shape", help="Input at factor 1, channels x height x width.  [default: the data's, or 3x224x224]"
)
@click.option("--alpha", type=float, help=f"Depth at phi = 1.  [default: searched with --data, else {ALPHA}]")
@click.option("--beta", type=float, help=f"Width at phi = 1.  [default: searched with --data, else {BETA}]")
@click.option("--gamma", type=float, help=f"Resolution at phi = 1.  [default: searched with --data, else {GAMMA}]")
@click.option("--divisor", type=click.IntRange(1), default=8, show_default=True, help="Of which widths are multiples.")
@click.option("--keep", type=click.Choice(ENDS), multiple=True, help="Part that is not scaled; repeatable.")
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Ways to scale; repeatable.  [default: all]"
)
@click.option("--data", help="Measure on these images; as in `nasturtium search`.")
@data_options
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of each training.")
@click.option("--estimator", "estimator_name", help="In place of training: module:name of an estimator of accuracy.")
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True,
    help="Trainings of each network; from 2 on each accuracy has an interval.",
)  # fmt: skip
@click.option("--noise-repeats", type=click.IntRange(2), default=3, show_default=True, help="Of the small network.")
@click.option("--step", type=float, default=STEP, show_default=True, help="Of the grid of alpha, beta and gamma.")
@click.option("--tolerance", type=float, default=0.1, show_default=True, help="Of alpha * beta^2 * gamma^2 = 2.")
@click.option("--levels", type=click.IntRange(1), default=1, show_default=True, help="2 and more: coarse to fine.")
@click.option("--keep-points", type=click.IntRange(1), default=2, show_default=True, help="Around which a level looks.")
@click.option("--realised", type=float, default=1.25, show_default=True, help="By which factor rounding may miss 2.")
@click.option("--classes", type=int, default=None, help="Without --data, for a network that leaves them to the task.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the trainings.")
@click.option("--trust", is_flag=True, help="Import the classes that a file of your own names.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of measurements, figure and numbers.")
@format_option
def scale(words: Sequence[str], **given: Any) -> int:
    """Scale a network by depth, width and resolution alone and by all three together (compound).

    ARCH is a published network, an architecture.json, the folder of an export, or `module:function`. With --data a grid
    search finds the shares of depth, width and resolution (alpha, beta, gamma), and every scaled network is trained.
    What is shown is accuracy on validation of trainings with other seeds than the grid's, so the network that won there
    has no head start by its luck in training; the images are the same that the shares were chosen on.

    Run the same command again after any stop and it goes on.
    """
    name, factors = _words(words, given["factors"])
    import_from_here()
    network = load_network(name, trust=given["trust"])
    task = _task(given)
    shape = parse_shape(given["shape"]) if given["shape"] else (3, 224, 224) if task is None else task.input_shape
    scaling = {"divisor": given["divisor"], "keep": given["keep"]}
    context = (
        dict(task.context) if task is not None else {} if given["classes"] is None else {"classes": given["classes"]}
    )
    score = None if task is None else _score(task, given)
    found = None
    coefficients = _given_coefficients(given)
    if coefficients is None and score is not None:
        found = _searched(network, score, tuple(shape), context, scaling, given)
        coefficients = found.best.multipliers
    coefficients = coefficients or Multipliers(ALPHA, BETA, GAMMA)
    family = scaled_family(
        network, factors, coefficients, input_shape=tuple(shape), kinds=given["kinds"] or KINDS, **scaling
    )  # fmt: skip
    base = ScaledBy("base", 1.0, Multipliers(1.0, 1.0, 1.0), Scaled(network, tuple(shape)))
    rows = [_row(one, score, context) for one in (base, *family)]  # with seeds that the grid did not see
    facts = {
        "version": 2, "network": name, "input": list(shape), "data": given["data"],
        "estimator": given["estimator_name"] or f"trained, {given['epochs']} epochs", "split": "validation",
        "confidence": CONFIDENCE,
        "coefficients": dict(zip(("alpha", "beta", "gamma"), coefficients, strict=True)),
        "product": coefficients.cost, "search": None if found is None else found.to_dict(), "rows": rows,
    }  # fmt: skip
    if given["output"] is not None:
        _write(rows, facts, given)
    if given["style"] == "json":
        emit_json(facts)
    else:
        _print(rows, coefficients, found)
    return 0


def _words(words: Sequence[str], factors: Sequence[float]) -> tuple[str, list[float]]:
    """The network's name, and the factors: `--factor 2 4 8` gives the first as an option and the others as words."""
    names, more = [], []
    for word in words:
        try:
            more.append(float(word))
        except ValueError:
            names.append(word)
    if len(names) != 1:
        raise InvalidInputError(f"Give one network to scale, got {', '.join(names) or 'none'}.")
    found = [*factors, *more]
    if not found or any(not (math.isfinite(f) and f > 0) for f in found):
        raise InvalidInputError(f"Give positive factors, like `--factor 2 4 8`, got {found or 'none'}.")
    return names[0], list(dict.fromkeys(found))


def _task(given: dict[str, Any]) -> Any:
    if given["data"] is None:
        return None
    if given["output"] is None:
        raise InvalidInputError("Measurements need a place to be kept: give `-o runs/scale`.")
    return load_task(
        given["data"], data_root=given["data_root"], image_size=given["image_size"], validation=given["validation"],
        split_seed=given["split_seed"],
    )  # fmt: skip


def _given_coefficients(given: dict[str, Any]) -> Multipliers | None:
    values = [given[name] for name in ("alpha", "beta", "gamma")]
    if all(v is None for v in values):
        return None
    if any(v is None for v in values):
        raise InvalidInputError("Give --alpha, --beta and --gamma together, or none of them.")
    return Multipliers(*values)


def _score(task: Any, given: dict[str, Any]) -> Any:
    from nasturtium.estimators import Trained  # noqa: PLC0415  (PyTorch)
    from nasturtium.study.designing import ScaledAccuracy  # noqa: PLC0415

    path = given["output"] / "trainings.jsonl"
    estimator = Trained(epochs=given["epochs"])
    if given["estimator_name"] is not None:
        estimator = imported(given["estimator_name"], "estimator")
        estimator = estimator() if isinstance(estimator, type) else estimator
        if not isinstance(estimator, nas.estimators.Estimator):
            raise InvalidInputError(f"{given['estimator_name']!r} must be an estimator, got {estimator!r}.")
    return ScaledAccuracy(task, estimator, seed=given["seed"], repeats=given["repeats"], path=path)


def _searched(
    network: Any, score: Any, shape: tuple[int, ...], context: dict[str, Any], scaling: dict[str, Any],
    given: dict[str, Any],
) -> Coefficients:  # fmt: skip
    """Alpha, beta and gamma by the grid, and what is said of them."""
    grid = Grid(
        step=given["step"], tolerance=given["tolerance"], levels=given["levels"], keep=given["keep_points"],
        realised=given["realised"],
    )  # fmt: skip
    noise = score.noise(Scaled(network, shape), given["noise_repeats"])

    def report(tried: Any, left: int) -> None:
        a, b, g = tried.multipliers
        note(f"alpha {a:g}, beta {b:g}, gamma {g:g}: {tried.score:.2%}, MACs x{tried.cost:.2f}; {left} left in level")

    return find_coefficients(
        network, score, lambda s: float(nas.cost(s.network, s.input_shape or (), **context).macs), input_shape=shape,
        grid=grid, noise=noise, report=report, **scaling,
    )  # fmt: skip


def _row(one: ScaledBy[Any], score: Any, context: dict[str, Any]) -> dict[str, Any]:
    cost = nas.cost(one.scaled.network, one.scaled.input_shape or (), **context)
    return {
        "kind": one.kind, "factor": one.factor, **one.multipliers._asdict(),
        "input": list(one.scaled.input_shape or ()),
        "params": cost.params, "macs": cost.macs, "activations": cost.activations, "peak_memory": cost.peak_memory,
        **_accuracy([] if score is None else score.values(one.scaled, fresh=True)),
    }  # fmt: skip


def _accuracy(values: Sequence[float]) -> dict[str, Any]:
    """Mean of the trainings that did not diverge, and from two on its interval by Student's t."""
    kept = [x for x in values if not math.isnan(x)]
    found: dict[str, Any] = {"trainings": len(values), "diverged": len(values) - len(kept), "accuracy": None}
    low = high = None
    if kept:
        found["accuracy"] = statistics.fmean(kept)
    if len(kept) > 1:
        from scipy.stats import t  # noqa: PLC0415  (takes a second to load)

        half = float(t.ppf((1 + CONFIDENCE) / 2, len(kept) - 1)) * statistics.stdev(kept) / math.sqrt(len(kept))
        low, high = found["accuracy"] - half, found["accuracy"] + half
    return found | {"accuracy_low": low, "accuracy_high": high}


def _write(rows: Sequence[dict[str, Any]], facts: dict[str, Any], given: dict[str, Any]) -> None:
    folder: Path = given["output"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(facts, indent=1))
    if given["data"] is None:
        return
    from nasturtium.report.design_figures import ScalingPoint, scaling_figure, write_page  # noqa: PLC0415  (plotly)

    measured = [r for r in rows if r["accuracy"] is not None]
    points = [ScalingPoint(r["kind"], r["factor"], r["macs"], r["accuracy"], _size(r)) for r in measured]
    lead = (
        f"{facts['network']} on {given['data']}, {facts['estimator']}; accuracy on validation, mean of "
        f"{given['repeats']} trainings of each with other seeds than the grid's."
    )
    text = "Each point is a network that was trained; all begin at the small one."
    page = write_page(folder / "scale.html", "Scaling", lead, {"Accuracy against MACs": (text, scaling_figure(points))})
    note(f"Figure: {page}")


def _size(row: dict[str, Any]) -> str:
    return f"x{row['factor']:g}: depth {row['depth']:.2f}, width {row['width']:.2f}, resolution {row['resolution']:.2f}"


def _print(rows: Sequence[dict[str, Any]], coefficients: Multipliers, found: Coefficients | None) -> None:
    a, b, g = coefficients
    click.echo(f"alpha {a:g}, beta {b:g}, gamma {g:g}: alpha * beta^2 * gamma^2 = {coefficients.cost:.3f}")
    if found is not None:
        click.echo(
            f"Best of {len(found.tried)} networks ({sum(len(t.points) for t in found.tried)} points, {found.left_out} "
            f"left out: rounding made their MACs too many or few); {found.stopped}. Noise of a score "
            f"{found.noise:.2%}: {len(found.alike)} networks lie within {found.margin:.2%} of the best, and "
            "are not told from it."
        )
    base = rows[0]["macs"]
    body = [
        [
            r["kind"], f"x{r['factor']:g}", f"{r['depth']:.2f}", f"{r['width']:.2f}", f"{r['resolution']:.2f}",
            "x".join(map(str, r["input"])), f"{r['params']:,}", f"{r['macs']:,}", f"x{r['macs'] / base:.2f}",
            *_shown(r),
        ]
        for r in rows
    ]  # fmt: skip
    head = ["", "asked", "depth", "width", "resolution", "input", "params", "MACs", "really", "accuracy", "95 %", "n"]
    if not any(r["trainings"] for r in rows):
        head, body = head[:-3], [line[:-3] for line in body]
    click.echo(table(head, body, right=range(1, len(head))))
    if any(r["trainings"] for r in rows):
        click.echo(
            "Accuracy on validation, with seeds that the grid did not use; the interval is of the mean over "
            "trainings (--repeats 2 or more)."
        )


def _shown(row: dict[str, Any]) -> tuple[str, str, str]:
    """Accuracy, interval and number of trainings."""
    accuracy, low, high = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
    kept = row["trainings"] - row["diverged"]
    return (
        "–" if accuracy is None else f"{accuracy:.1%}",
        "–" if low is None else f"{low:.1%} to {high:.1%}",
        f"{kept} of {row['trainings']}" if row["diverged"] else str(kept),
    )
