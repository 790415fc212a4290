"""`nasturtium space` and `nasturtium cost`: what things hold and cost, before anything is trained."""

from __future__ import annotations

import inspect
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import load_network, load_space, parse_shape
from nasturtium.cli.output import big, emit_json, format_option, note, pairs, shown, table
from nasturtium.errors import SizeUnknownError
from nasturtium.graph.sketch import sketch

COSTS = ("params", "macs", "activations", "peak_memory", "irregularity", "kernels")
CIFAR = (3, 32, 32)
"""Input of spaces that state none: that of the tables they come from."""
SPARKS = "▁▂▃▄▅▆▇█"


@click.command(
    epilog='Example: nasturtium space mobile --input 1x28x28 --classes 10 --constraint "params <= 60k"',
)
@click.argument("name")
@click.option("--input", "shape", default=None, help="Input, channels x height x width; the space's own by default.")
@click.option("--classes", type=int, default=10, show_default=True, help="Classes of the task.")
@click.option("--constraint", "constraints", multiple=True, help='A limit, like "params <= 60k"; repeatable.')
@click.option("--samples", type=int, default=500, show_default=True, help="Architectures drawn for the distribution.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw a sample into this file.")
@format_option
def space(
    name: str,
    shape: str | None,
    classes: int,
    constraints: Sequence[str],
    samples: int,
    seed: int,
    svg: Path | None,
    style: str,
) -> None:
    """Print the size, the choices and the distribution of costs of a search space.

    NAME is a space of the library or `module:function` of your own.
    """
    given = parse_shape(shape) if shape else None
    found = load_space(name, given)
    inputs = given or _own_input(name)
    limits = nas.trial.constraints(constraints)
    model = nas.graph.CostModel(inputs, classes=classes)
    rng = random.Random(seed)
    costs = [model(found.sample(rng)) for _ in range(samples)]
    rows = {metric: sorted(float(getattr(cost, metric)) for cost in costs) for metric in COSTS}
    if svg is not None:
        drawn = found.sample(random.Random(seed))
        svg.write_text(sketch(drawn, inputs, title=f"{name}, sample of seed {seed}", classes=classes), encoding="utf-8")
        note(f"Drawn into {svg}.")
    good = sum(nas.trial.violation({m: float(getattr(c, m)) for m in COSTS}, limits) == 0 for c in costs)
    try:
        size: int | None = found.size
    except SizeUnknownError:
        size = None
    facts = {
        "size": size, "quoted_size": found.quoted_size, "input": list(inputs), "classes": classes, "samples": samples,
        "seed": seed, "constraints": list(constraints), "share_feasible": good / samples if limits else None,
        "decisions": [{"name": d.name, "options": [str(o) for o in d.options]} for d in found.decisions],
        "costs": {m: _summary(values) for m, values in rows.items()},
    }  # fmt: skip
    if style == "json":
        emit_json({"space": name, **facts})
        return
    _print_space(name, facts, rows)


def _own_input(name: str) -> tuple[int, ...]:
    """The input that a space of the library is made for."""
    maker = nas.zoo.SPACES.get(name)
    own = inspect.signature(maker).parameters["input_shape"].default if maker else None
    return own or CIFAR


def _summary(values: list[float]) -> dict[str, float]:
    deciles = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
    return {"min": values[0], "p10": deciles[0], "median": deciles[4], "p90": deciles[8], "max": values[-1]}


def _print_space(name: str, facts: dict[str, Any], rows: dict[str, list[float]]) -> None:
    size = "not feasible to count" if facts["size"] is None else big(facts["size"])
    head = {"space": name, "architectures": size}
    if facts["quoted_size"]:
        head["paper's figure"] = f"{facts['quoted_size']:.3g}"
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
        [d["name"], str(len(d["options"])), " ".join(_short(o) for o in d["options"][:12])] for d in facts["decisions"]
    ]
    click.echo(table(["choice", "options", ""], choices, right=[1]))


def _short(option: str) -> str:
    return option if len(option) <= 24 else option[:21] + "…"


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
