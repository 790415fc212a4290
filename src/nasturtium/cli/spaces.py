"""`nasturtium space` and `nasturtium cost`: what things hold and cost, before anything is trained."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import load_network, load_space, parse_shape
from nasturtium.cli.output import big, check_drawing, emit_json, format_option, pairs, shown, table, write_drawing
from nasturtium.errors import SizeUnknownError
from nasturtium.graph.sketch import sketch

COSTS = ("params", "macs", "activations", "peak_memory", "irregularity", "kernels")
CIFAR = (3, 32, 32)
"""Input of users' own spaces, where none is given."""
SAMPLES, SECONDS = 500, 1.0
"""Architectures drawn where no number is given: so many, or what this time allows."""
LISTED, LABELLED = 60, 12
"""Choices, and values of each, that are printed for people."""
SPARKS = "▁▂▃▄▅▆▇█"


@click.command(
    epilog='Example: nasturtium space mobile --input 1x28x28 --classes 10 --constraint "params <= 60k"',
)
@click.argument("name")
@click.option("--input", "shape", default=None, help="Input, channels x height x width; the space's own by default.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes of the task.")
@click.option("--constraint", "constraints", multiple=True, help='A limit, like "params <= 60k"; repeatable.')
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help=f"Architectures drawn for the distribution; by default {SAMPLES}, or what {SECONDS:g} s allow.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw a sample into this file.")
@format_option
def space(
    name: str,
    shape: str | None,
    classes: int,
    constraints: Sequence[str],
    samples: int | None,
    seed: int,
    svg: Path | None,
    style: str,
) -> None:
    """Print the size, the choices and the distribution of costs of a search space.

    NAME is a space of the library or `module:function` of your own.
    """
    if svg is not None:
        check_drawing(svg)
    given = parse_shape(shape) if shape else None
    family = nas.zoo.family(name) if name in nas.zoo.SPACES else None
    found = load_space(name, given)
    inputs = given or (family.input_shape if family else CIFAR)
    limits = nas.trial.constraints(constraints)
    model = nas.graph.CostModel(inputs, classes=classes)
    costs = _sampled(found, model, random.Random(seed), samples)
    rows = {metric: sorted(cost[metric] for cost in costs) for metric in COSTS}
    if svg is not None:
        drawn = found.sample(random.Random(seed))
        write_drawing(svg, sketch(drawn, inputs, title=f"{name}, sample of seed {seed}", classes=classes))
    good = sum(nas.trial.violation(cost, limits) == 0 for cost in costs)
    try:
        size: int | None = found.size
    except SizeUnknownError:
        size = family.size if family else None
    facts = {
        "what": family.title if family else None, "paper": family.paper if family else None, "size": size,
        "quoted_size": (family.quoted_size if family else None) or found.quoted_size,
        "input": list(inputs), "classes": classes, "samples": len(costs),
        "seed": seed, "constraints": list(constraints), "share_feasible": good / len(costs) if limits else None,
        "decisions": [_decision(found, d) for d in found.decisions],
        "costs": {m: _summary(values) for m, values in rows.items()},
    }  # fmt: skip
    if style == "json":
        emit_json({"space": name, **facts})
        return
    _print_space(name, facts, rows)


def _sampled(space: nas.Space, model: nas.CostModel, rng: random.Random, number: int | None) -> list[dict[str, float]]:
    """Costs of uniform samples: of a number of them, or of as many as time allows."""
    costs: list[dict[str, float]] = []
    end = time.perf_counter() + SECONDS
    while len(costs) < (number or SAMPLES) and (number or not costs or time.perf_counter() < end):
        cost = model(space.sample(rng))
        costs.append({metric: float(getattr(cost, metric)) for metric in COSTS})
    return costs


def _decision(space: nas.Space, decision: nas.space.Decision) -> dict[str, Any]:
    """What is said of one choice: its name, its first values, and when it is active."""
    labels = [decision.label(i) for i in range(min(decision.count, 1000))]
    active = [{"decision": way.decision.name, "text": str(way)} for way in space.activation(decision.name)]
    return {"name": decision.name, "count": decision.count, "options": labels, "active_when": active}


def _summary(values: list[float]) -> dict[str, float]:
    deciles = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
    return {"min": values[0], "p10": deciles[0], "median": deciles[4], "p90": deciles[8], "max": values[-1]}


def _print_space(name: str, facts: dict[str, Any], rows: dict[str, list[float]]) -> None:
    size = "not feasible to count" if facts["size"] is None else big(facts["size"])
    head = {"space": name}
    if facts["what"]:
        head |= {"what": facts["what"], "paper": facts["paper"]}
    head["architectures"] = size
    if facts["quoted_size"]:
        head["paper's figure"] = str(facts["quoted_size"])
    head["input"] = "x".join(map(str, facts["input"])) + f", {facts['classes']} classes"
    if facts["share_feasible"] is not None:
        head["feasible"] = (
            f"{facts['share_feasible']:.1%} of {facts['samples']} samples ({', '.join(facts['constraints'])})"
        )
    click.echo(pairs(head))
    body = [[m, *[shown(m, s) for s in facts["costs"][m].values()], _spark(values)] for m, values in rows.items()]
    click.echo(f"\nCosts of {facts['samples']} uniform samples (seed {facts['seed']})")
    click.echo(table(["", "min", "10 %", "median", "90 %", "max", "distribution"], body, right=range(1, 6)))
    click.echo(f"\n{len(facts['decisions'])} choices")
    choices = [
        [
            d["name"],
            f"{d['count']:,}",
            _short(" ".join(_short(option, 24) for option in d["options"][:LABELLED]), 72),
            _short(" or ".join(way["text"] for way in d["active_when"]) or "always", 60),
        ]
        for d in facts["decisions"][:LISTED]
    ]
    click.echo(table(["choice", "options", "", "active when"], choices, right=[1]))
    if len(facts["decisions"]) > LISTED:
        click.echo(f"… and {len(facts['decisions']) - LISTED} more (--format json lists all)")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _spark(values: list[float]) -> str:
    low, high = values[0], values[-1]
    if high == low:
        return SPARKS[-1]
    bins = [0] * 24
    for value in values:
        bins[min(23, int(24 * (value - low) / (high - low)))] += 1
    top = max(bins)
    return "".join(SPARKS[min(7, int(8 * count / (top + 1e-9)))] if count else " " for count in bins)


@click.command(epilog="Example: nasturtium cost mobilenetv2_100 --input 3x224x224 --layers")
@click.argument("network")
@click.option("--input", "shape", default="3x224x224", show_default=True, help="Input, channels x height x width.")
@click.option("--classes", type=int, default=None, help="Classes, for a network that leaves them to the task.")
@click.option("--layers", is_flag=True, help="Print every layer too.")
@click.option("--trust", is_flag=True, help="Import the classes that a file of your own names.")
@format_option
def cost(network: str, shape: str, classes: int | None, style: str, *, layers: bool, trust: bool) -> None:
    """Print parameters, MACs, activations, peak memory and irregularity of a network.

    NETWORK is a published one (mobilenetv2_100, resnet50, efficientnet_b0 …), an architecture.json, the folder of an
    export, or `module:function` of your own.
    """
    context = {} if classes is None else {"classes": classes}
    graph = nas.trace(load_network(network, trust=trust), parse_shape(shape), **context)
    parts = nas.graph.irregularity(graph)
    facts = {
        "params": graph.params, "macs": graph.macs, "activations": graph.activations,
        "peak_memory": graph.peak_memory(), "peak_memory_float32": graph.peak_memory(dtype="float32"),
        "irregularity": graph.irregularity, "irregularity_parts": asdict(parts),
        "operations": len(graph.nodes), "canonical_hash": graph.canonical_hash,
    }  # fmt: skip
    rows = graph.layers() if layers else []
    if style == "json":
        emit_json(
            {"network": network, "input": shape, **facts, **({"layers": [asdict(r) for r in rows]} if layers else {})}
        )
        return
    name = Path(network).name
    click.echo(
        pairs(
            {
                "network": f"{name} on {shape}",
                "parameters": f"{graph.params:,}",
                "MACs": f"{graph.macs:,}",
                "activations": f"{graph.activations:,}",
                "peak memory": f"{facts['peak_memory']:,} B (int8, batch 1, the given order, liveness)",
                "": f"{facts['peak_memory_float32']:,} B (float32)",
                "irregularity": f"{graph.irregularity:.4g} tensors read per step ({parts.kernels:,} kernels in "
                f"{parts.depth:,} steps, at most {parts.branches:,} side by side)",
            }
        )
    )
    if layers:
        click.echo()
        body = [
            [r.path, r.kind, "x".join(map(str, r.shape)), f"{r.params:,}", f"{r.macs:,}", f"{r.activations:,}"]
            for r in rows
        ]
        click.echo(table(["layer", "kind", "output", "params", "MACs", "activations"], body, right=[3, 4, 5]))
