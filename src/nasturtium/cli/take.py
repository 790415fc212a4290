"""`nasturtium report`, `export` and `train`: what a user takes home."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.look import ROLES, find_member, study_argument, trust_option
from nasturtium.cli.options import data_options, load_network, load_task
from nasturtium.cli.output import emit_json, format_option, note, pairs, shown
from nasturtium.space import Architecture


@click.command(epilog="Example: nasturtium report runs/digits.db -o report.html")
@study_argument
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: STUDY.html]"
)
@trust_option
@format_option
def report(study_path: str, output: Path | None, style: str, *, trust: bool) -> None:
    """Write a study as one HTML file that needs nothing else."""
    study = nas.Study.open(study_path, trust=trust)
    target = output or Path(study_path).with_suffix(".html")
    nas.report.write(study, target)
    if style == "json":
        emit_json({"report": str(target), "bytes": target.stat().st_size})
    else:
        click.echo(f"Report: {target}")


@click.command(epilog="Example: nasturtium export runs/digits.db -o best/")
@study_argument
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--trial", type=int, help="Number of the trial; the best one by default.")
@click.option("--of", "role", type=click.Choice(list(ROLES)), default="search", show_default=True, help="Which run.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it was written by an export before.")
@click.option("--data-root", type=click.Path(), help="Folder of the data, if it moved.")
@trust_option
@format_option
def export(
    study_path: str,
    output: Path,
    trial: int | None,
    role: str,
    data_root: str | None,
    style: str,
    *,
    overwrite: bool,
    trust: bool,
) -> None:
    """Write a trained network that works without nasturtium: model.py, weights, ONNX, model card.

    The test images are read here, once: the figure is stored with the study and not measured again.
    """
    study = nas.Study.open(study_path, trust=trust)
    member = find_member(study, trial, role)
    folder = study.export(output, member, data_root=data_root, overwrite=overwrite)
    after = find_member(nas.Study.open(study_path, trust=trust), member.number, role)
    tested = {f"test {name}": shown(name, value) for name, value in (after.test_metrics or {}).items()}
    files = sorted(p.name for p in folder.iterdir())
    if style == "json":
        emit_json({"folder": str(folder), "files": files, "trial": member.number, "metrics": dict(member.metrics),
                   "test_metrics": after.test_metrics})  # fmt: skip
        return
    first = study.objectives[0].metric
    click.echo(
        pairs(
            {
                "exported": f"trial {member.number} to {folder}",
                f"validation {first}": shown(first, member.metrics.get(first)),
                **tested,
                "files": ", ".join(files),
            }
        )
    )


@click.command(epilog="Example: nasturtium train best/architecture.json digits --epochs 60 --seed 1 -o trained/")
@click.argument("network")
@click.argument("data")
@data_options
@click.option("--epochs", type=int, default=60, show_default=True, help="Passes over the training images.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--threads", type=int, default=1, show_default=True, help="PyTorch's threads.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda … or auto.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for weights and history; run again to go on."
)
@click.option("--test", "with_test", is_flag=True, help="Measure on the test images at the end.")
@click.option("--trust", is_flag=True, help="Import the classes that a file of your own names.")
@format_option
def train(**given: Any) -> None:
    """Train one architecture from scratch.

    NETWORK is an architecture.json, the folder of an export, a published network's name, or `module:function`.
    DATA is as for `nasturtium search`.
    """
    network = load_network(given["network"], trust=given["trust"])
    architecture = network if isinstance(network, Architecture) else Architecture.of(network)
    task = load_task(
        given["data"], data_root=given["data_root"], image_size=given["image_size"], validation=given["validation"],
        split_seed=given["split_seed"],
    )  # fmt: skip

    def tell(record: Any) -> None:
        note("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items()))

    estimator = nas.estimators.Trained(epochs=given["epochs"], device=given["device"], report_validation=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given["output"] or Path(temporary)
        job = nas.estimators.Job(task=task, seed=given["seed"], directory=folder, threads=given["threads"], report=tell)
        metrics: dict[str, float] = dict(estimator.estimate(architecture, nas.trial.FULL, job))
        if given["with_test"]:
            metrics["test_accuracy"] = nas.estimators.measure_test(architecture, task, weights=folder).accuracy
    graph = nas.trace(architecture, task.input_shape, **task.context)
    metrics |= {"params": graph.params, "macs": graph.macs, "peak_memory": graph.peak_memory()}
    if given["style"] == "json":
        emit_json({"network": given["network"], "task": task.name, "seed": given["seed"], "metrics": metrics})
    else:
        click.echo(pairs({name: shown(name.removeprefix("test_"), value) for name, value in metrics.items()}))
