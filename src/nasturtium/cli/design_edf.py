"""`nasturtium design edf`: spaces compared by the distributions of their networks' errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import nasturtium as nas
from nasturtium.cli.options import data_options, import_from_here, imported, load_space, load_task, parse_shape
from nasturtium.cli.output import emit_json, format_option, is_terminal, note, table
from nasturtium.cli.progress import Progress
from nasturtium.design.comparing import SpaceComparison, compare_spaces
from nasturtium.design.edf import BINS, Distribution, ErrorSample, normalized
from nasturtium.design.lines import append_line, read_lines
from nasturtium.design.sampling import sample_errors
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.trial import METRICS, parse_value

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
COSTS = ("macs", "params", "activations", "peak_memory")


@click.command(
    epilog="Example: nasturtium design edf mobile chain --data digits --networks 40 --epochs 5 --bins 4 -o runs/edf"
)
@click.argument("spaces", nargs=-1, required=True, metavar="SPACE_A SPACE_B …")
@click.option("--data", default="digits", show_default=True, help="As in `nasturtium search`.")
@data_options
@click.option("--networks", type=click.IntRange(2), default=100, show_default=True, help="Drawn of each space.")
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Of each training.")
@click.option(
    "--estimator", "estimator_name",
    help="In place of training: module:name of an estimator, or of a function of a network and its number that returns "
    "its error (shown in per cent where all errors lie in [0, 1]).",
)  # fmt: skip
@click.option("--input", "shape", help="With a function: input of the networks, channels x height x width.")
@click.option("--classes", type=int, default=10, show_default=True, help="With a function.")
@click.option("--complexity", type=click.Choice(COSTS), default="macs", show_default=True, help="To normalise for.")
@click.option("--range", "limits", nargs=2, help="Least and greatest complexity.  [default: what all spaces share]")
@click.option(
    "--bins", type=click.IntRange(0), default=BINS, show_default=True, help="Of complexity; 0 for equal weights."
)
@click.option(
    "--above", type=float, multiple=True, help="Print the share of networks with a greater error; repeatable."
)
@click.option("--permutations", type=click.IntRange(1), default=2000, show_default=True, help="Of the test, with bins.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws, the trainings and the test.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that train.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of trainings, figures and numbers.")
@click.option("--quiet", is_flag=True, help="No progress.")
@format_option
def edf(spaces: Sequence[str], **given: Any) -> int:
    """Draw networks of spaces, measure their errors, and compare the distributions.

    Each space is a name of the library or `module:function`. Errors are on validation. Run the same command again after
    any stop and it goes on.
    """
    if len(spaces) != len(set(spaces)):
        raise InvalidInputError(f"Each space is to be given once, got {', '.join(spaces)}.")
    if given["output"] is None:
        raise InvalidInputError("A comparison needs a place to keep its trainings: give `-o runs/edf`.")
    import_from_here()
    samples, low, high = _samples(spaces, given)
    fraction = all(s.in_per_cent for s in samples)
    samples = [replace(s, fraction=fraction) for s in samples]
    kept, edges, curves = _on_one_footing(samples, given["bins"], low, high)
    against = [
        compare_spaces(kept[0], other, edges=edges, permutations=given["permutations"], seed=given["seed"])
        for other in kept[1:]
    ]
    levels = given["above"] or [float(np.quantile(np.concatenate([c.errors for c in curves]), q)) for q in LEVELS]
    facts = _facts(samples, curves, against, levels, edges, given)
    _write(curves, against, facts, given)
    if given["style"] == "json":
        emit_json(facts)
    else:
        _print(facts, curves, against, levels)
    return 0


def _samples(spaces: Sequence[str], given: dict[str, Any]) -> tuple[list[ErrorSample], float, float]:
    """A sample of each space, in the range of complexity that is given or that all share, and that range."""
    from nasturtium.study.designing import common_range  # noqa: PLC0415  (PyTorch)

    measure = None if given["estimator_name"] is None else imported(given["estimator_name"], "estimator")
    measure = measure() if isinstance(measure, type) else measure
    plain = callable(measure) and not isinstance(measure, nas.estimators.Estimator)
    if measure is not None and not (plain or isinstance(measure, nas.estimators.Estimator)):
        raise InvalidInputError(
            f"The estimator {given['estimator_name']!r} must be an estimator, or a function of a network and its "
            f"number, got {measure!r}."
        )
    task = None if plain else _load(given)
    shape = parse_shape(given["shape"] or "3x32x32") if task is None else tuple(task.input_shape)
    context = {"classes": given["classes"]} if task is None else dict(task.context)
    found = {name: load_space(name, shape) for name in spaces}
    if given["limits"]:
        low, high = (parse_value(text, METRICS[given["complexity"]]) for text in given["limits"])
    else:
        low, high = common_range(
            found.values(), shape, metric=given["complexity"], seed=given["seed"], **context
        )  # fmt: skip
    if task is None and callable(measure):
        cost = nas.CostModel(shape, **context)

        def complexity(architecture: nas.Architecture) -> float:
            return float(getattr(cost(architecture), given["complexity"]))

        samples = [_asked(name, space, measure, complexity, low, high, given) for name, space in found.items()]
    else:
        samples = [_trained(name, space, task, measure, low, high, given) for name, space in found.items()]
    return samples, low, high


def _load(given: dict[str, Any]) -> Any:
    return load_task(
        given["data"], data_root=given["data_root"], image_size=given["image_size"], validation=given["validation"],
        split_seed=given["split_seed"],
    )  # fmt: skip


def _trained(
    name: str, space: nas.Space, task: Any, measure: Any, low: float, high: float, given: dict[str, Any]
) -> ErrorSample:
    from nasturtium.study.designing import measured_sample  # noqa: PLC0415
    from nasturtium.trial import constraints, objectives  # noqa: PLC0415

    if not given["quiet"]:
        note(f"{name}: {given['networks']} networks of {low:.4g} to {high:.4g} {given['complexity']}")
    with Progress(objectives("accuracy"), constraints(()), live=is_terminal(), quiet=given["quiet"]) as progress:
        return measured_sample(
            space, task, name=name, n=given["networks"],
            estimator=measure or nas.estimators.Trained(epochs=given["epochs"]), low=low, high=high,
            complexity=given["complexity"], seed=given["seed"], study=given["output"] / f"{_file(name)}.db",
            workers=given["workers"], listeners=[progress],
        )  # fmt: skip


def _asked(
    name: str,
    space: nas.Space,
    measure: Callable[[nas.Architecture, int], float],
    complexity: Callable[[nas.Architecture], float],
    low: float,
    high: float,
    given: dict[str, Any],
) -> ErrorSample:
    """A sample by a function, whose answers are kept in a file of JSON lines."""
    path: Path = given["output"] / f"{_file(name)}.jsonl"
    settings = {
        "space": space.fingerprint, "estimator": given["estimator_name"], "seed": given["seed"], "low": low,
        "high": high, "complexity": given["complexity"],
    }  # fmt: skip
    known = _known(path, settings)
    passing: set[int] = set()

    def asked(architecture: nas.Architecture, number: int) -> float:
        try:
            return measure(architecture, number)
        except TrialError as error:
            if error.kind != "diverged":
                passing.add(number)
                note(f"{name}: network {number} failed and is asked again by the next run: {error}")
            return float("nan")

    def report(number: int, error: float, _size: float) -> None:
        if number not in passing:
            append_line(path, {"number": number, "error": None if error != error else error})

    return sample_errors(
        space, asked, given["networks"], given["seed"], complexity=complexity, name=name, low=low, high=high,
        known=known, report=report,
    )  # fmt: skip


def _known(path: Path, settings: dict[str, Any]) -> dict[int, float]:
    """Answers that an earlier run kept; the first line says of which settings they are."""
    lines = read_lines(path)
    if not lines:
        append_line(path, settings)
        return {}
    if lines[0] != json.loads(json.dumps(settings)):
        raise StoreError(f"{str(path)!r} holds answers of other settings: {lines[0]}. Give another folder.")
    found = {}
    for number, record in enumerate(lines[1:], 2):
        try:
            error = record["error"]
            found[int(record["number"])] = float("nan") if error is None else float(error)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"Line {number} of {str(path)!r} is no answer: {error!r}.") from error
    return found


def _file(name: str) -> str:
    return name.replace(":", "-").replace("/", "-")


def _on_one_footing(
    samples: Sequence[ErrorSample], bins: int, low: float, high: float
) -> tuple[tuple[ErrorSample, ...], Any, tuple[Distribution, ...]]:
    if bins == 0:
        curves = tuple(Distribution(s.errors, name=s.name, fraction=s.in_per_cent) for s in samples)
        return tuple(samples), None, curves
    return normalized(samples, bins=bins, low=low, high=high)


def _facts(
    samples: Sequence[ErrorSample],
    curves: Sequence[Distribution],
    against: Sequence[SpaceComparison],
    levels: Sequence[float],
    edges: Any,
    given: dict[str, Any],
) -> dict[str, Any]:
    return {
        "version": 1, "data": given["data"],
        "estimator": given["estimator_name"] or f"trained, {given['epochs']} epochs",
        "complexity": given["complexity"], "bins": None if edges is None else [float(x) for x in edges],
        "seed": given["seed"], "samples": [s.to_dict() for s in samples],
        "spaces": [
            {
                "name": c.name, "networks": len(c.errors), "failed": s.failed, "minimum": c.minimum, "mean": c.mean,
                "above": {f"{e:.6g}": c.above(e) for e in levels},
            }
            for c, s in zip(curves, samples, strict=True)
        ],
        "comparisons": [c.to_dict() for c in against],
    }  # fmt: skip


def _write(
    curves: Sequence[Distribution], against: Sequence[SpaceComparison], facts: dict[str, Any], given: dict[str, Any]
) -> None:
    from nasturtium.report.design_figures import (  # noqa: PLC0415  (plotly)
        LEGEND_NOTE,
        best_of_figure,
        edf_figure,
        write_page,
    )

    folder: Path = given["output"]
    (folder / "edf.json").write_text(json.dumps(facts, indent=1))
    weights = f"weighted by {given['bins']} bins of {given['complexity']}" if given["bins"] else "with equal weights"
    lead = " ".join([f"Errors {weights}; {facts['estimator']}, {given['data']}.", *[c.sentence for c in against]])
    few = "Expected smallest error of k networks drawn: what a random search of k networks reaches."
    page = write_page(
        folder / "edf.html", " against ".join(c.name for c in curves), lead,
        {
            "Error distributions": (LEGEND_NOTE, edf_figure(curves, against[0] if len(curves) == 2 else None)),
            "The best of k": (few, best_of_figure(curves)),
        },
    )  # fmt: skip
    note(f"Figures: {page}")


def _print(
    facts: dict[str, Any],
    curves: Sequence[Distribution],
    against: Sequence[SpaceComparison],
    levels: Sequence[float],
) -> None:
    per_cent = curves[0].in_per_cent

    def error(value: float) -> str:
        return f"{100 * value:.1f} %" if per_cent else f"{value:.4g}"

    head = ["space", "networks", "failed", "least error", "mean error", *(f"> {error(e)}" for e in levels)]
    body = [
        [
            row["name"], str(row["networks"]), str(row["failed"]), error(row["minimum"]), error(row["mean"]),
            *(f"{curve.above(e):.0%}" for e in levels),
        ]
        for row, curve in zip(facts["spaces"], curves, strict=True)
    ]  # fmt: skip
    click.echo("Errors, and the share of networks with a greater error than each level")
    click.echo(table(head, body, right=range(1, len(head))))
    click.echo()
    for comparison in against:
        click.echo(comparison.sentence)
