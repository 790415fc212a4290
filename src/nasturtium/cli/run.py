"""`nasturtium search` and `nasturtium resume`: the main job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import (
    data_options,
    finalist_options,
    import_from_here,
    load_space,
    load_task,
    parse_latency,
    read_finalists,
)
from nasturtium.cli.output import emit_json, format_option, is_terminal, note
from nasturtium.cli.progress import Progress
from nasturtium.cli.results import print_result, result_of
from nasturtium.errors import InvalidInputError
from nasturtium.trial import format_bytes, parse_value, train_seconds
from nasturtium.trial import peak_memory as memory_metric

INTERRUPTED = 130
NOTHING_FEASIBLE = 3


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of how to run that never change the result."""
    for option in (
        click.option("--workers", type=int, default=None, help="Processes that train at the same time.  [default: 1]"),
        click.option("--time-limit", help="Of one trial, like 10min or 600s; a longer one fails."),
        click.option(
            "--memory-limit", help="Of one trial's process with its libraries, like 4GiB; a larger one fails."
        ),
        click.option("--stop-after", help="Wall time, like 2h, after which nothing new is started."),
        click.option("--quiet", is_flag=True, help="No progress."),
    ):
        command = option(command)
    return command


@click.command(
    epilog="Example: nasturtium search digits --space mobile --trials 40 --epochs 15 --maximize accuracy "
    '--minimize macs --constraint "params <= 60k" --constraint "peak_memory <= 64KiB" --workers 2 --baseline random '
    '--study runs/digits.db; or, within 2 ms on this CPU, --constraint "latency(cpu) <= 2ms" --latency cpu=cpu.jsonl'
)
@click.argument("data")
@data_options
@click.option("--space", "space_name", default="mobile", show_default=True, help="A space's name, or module:function.")
@click.option(
    "--strategy",
    default=None,
    help=f"[default: auto]  {', '.join(nas.strategies.STRATEGIES)}, or module:function; with settings, like "
    '"evolution(population=20, sample=5)" or "hyperband(strategy=evolution, minimum=0.1)".',
)
@click.option(
    "--method",
    default=None,
    help=f"In place of a strategy, one that learns architecture and weights together: {', '.join(nas.study.METHODS)}; "
    'with settings, like "darts(epochs=20)". What it finds is then trained.',
)
@click.option("--trials", type=int, default=40, show_default=True, help="Architectures to train.")
@click.option("--epochs", type=int, default=15, show_default=True, help="Epochs of each training.")
@click.option("--maximize", multiple=True, help="Metric to make large; repeatable.  [default: accuracy]")
@click.option("--minimize", multiple=True, help="Metric to make small; repeatable.")
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    help='A hard limit, like "params <= 60k" or "latency(cpu) <= 2ms"; repeatable.',
)
@click.option(
    "--latency",
    "latency",
    multiple=True,
    metavar="DEVICE=FILE",
    help="Where a device's latency comes from: a file of `nasturtium profile`, or `measure`, which measures every "
    "trial; repeatable.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Measure the finalists on their devices, and correct the model with them.",
)
@click.option("--rounds", type=click.IntRange(1), help="How often the model is corrected.  [default: 2]")
@finalist_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of the strategy and of every training.")
@click.option(
    "--concurrency", type=int, default=4, show_default=True, help="Trials under way that do not know of each other."
)
@click.option(
    "--schedule", type=click.Choice(["deterministic", "asynchronous"]), default="deterministic", show_default=True
)
@click.option("--threads", type=int, default=1, show_default=True, help="PyTorch's threads in each trial.")
@click.option("--device", default=None, help="cpu, cuda, cuda:1 …  [default: a GPU where there is one]")
@click.option(
    "--baseline", type=click.Choice(["random"]), help="Also run random search at the same budget, to compare."
)
@click.option("--references", is_flag=True, help="Also train hand-designed networks, to compare.")
@click.option(
    "--study", "study_path", required=False, help="File of the study (or a database URL); run again to go on."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@limit_options
@format_option
def search(**given: Any) -> int:
    """Search a space for networks that are good at DATA and keep the limits.

    DATA is `digits` (shipped), `fashion-mnist` or `cifar10` (files under --data-root), a folder of images with one
    sub-folder a class (or train/val/test folders of such), or `module:function` that returns a task.

    Run the same command again after any stop and it goes on as if nothing had happened.
    """
    if given["study_path"] is None and not given["dry_run"]:
        raise InvalidInputError("A search needs a place to keep its results: give `--study runs/NAME.db`.")
    import_from_here()
    task = load_task(
        given["data"], data_root=given["data_root"], image_size=given["image_size"], validation=given["validation"],
        split_seed=given["split_seed"],
    )  # fmt: skip
    space = load_space(given["space_name"], task.input_shape)
    settings = dict(
        maximize=given["maximize"] or (() if given["minimize"] else ("accuracy",)), minimize=given["minimize"],
        constraints=given["constraints"], strategy=given["strategy"], method=given["method"],
        estimator=nas.estimators.Trained(epochs=given["epochs"]), trials=given["trials"], seed=given["seed"],
        concurrency=given["concurrency"], schedule=given["schedule"], threads=given["threads"], device=given["device"],
        workers=given["workers"] or 1, baseline=given["baseline"],
        references=nas.zoo.references(task.input_shape) if given["references"] else (),
        latency=parse_latency(given["latency"]) or None, verify=_verify(given),
        **_limits(given),
    )  # fmt: skip
    plan = nas.study.plan(space, task, **settings)
    if given["dry_run"]:
        emit_json(plan.to_dict()) if given["style"] == "json" else click.echo(plan.text)
        return 0
    if not given["quiet"]:
        note(plan.text + "\n")

    def run(listener: Progress) -> nas.Study:
        return nas.search(space, task, study=given["study_path"], listeners=[listener], **settings)

    return _follow(run, plan.objectives, plan.constraints, given)


@click.command(epilog="Example: nasturtium resume runs/digits.db --trials 80 --workers 2")
@click.argument("study_path", metavar="STUDY")
@click.option("--trials", type=int, help="A larger budget than the study had.")
@click.option("--baseline", type=click.Choice(["random"]), help="Also run random search at the same budget.")
@click.option("--no-verify", is_flag=True, help="Measure no finalists on their devices, where the search would.")
@click.option("--trust", is_flag=True, help="Import the classes of your own that the study names.")
@limit_options
@format_option
def resume(**given: Any) -> int:
    """Go on with a study that was stopped, or give it more trials."""
    stored = nas.Study.open(given["study_path"], trust=given["trust"])
    return _follow(
        lambda listener: nas.resume(
            given["study_path"], trials=given["trials"], workers=given["workers"], baseline=given["baseline"],
            trust=given["trust"], listeners=[listener], verify=False if given["no_verify"] else None, **_limits(given),
        ),
        stored.objectives, stored.constraints, given,
    )  # fmt: skip


def _verify(given: dict[str, Any]) -> nas.study.Verify | bool:
    if not given["verify"]:
        return False
    return read_finalists(given, **({} if given["rounds"] is None else {"rounds": given["rounds"]}))


def _follow(
    run: Callable[[Progress], nas.Study], objectives: Sequence[Any], constraints: Sequence[Any], given: dict[str, Any]
) -> int:
    """Run under a live display, then print what came of it."""
    try:
        with Progress(objectives, constraints, live=is_terminal(), quiet=given["quiet"]) as progress:
            study = run(progress)
    except nas.study.StudyInterrupted as stop:
        note(str(stop))
        return INTERRUPTED
    if given["style"] == "json":
        emit_json(result_of(study))
    else:
        print_result(study)
    return 0 if study.front else NOTHING_FEASIBLE


def _limits(given: dict[str, Any]) -> dict[str, Any]:
    def seconds(option: str) -> float | None:
        return None if given[option] is None else parse_value(given[option], train_seconds)

    memory = None if given["memory_limit"] is None else int(parse_value(given["memory_limit"], memory_metric))
    if memory is not None and memory < 2**28:
        raise InvalidInputError(
            f"`--memory-limit` counts the whole process with PyTorch (about 300 MiB), got {format_bytes(memory)}."
        )
    return {"time_limit": seconds("time_limit"), "memory_limit": memory, "seconds": seconds("stop_after")}
