"""`nasturtium design tiny`: TinyNAS, from a memory to a space, and on real images to an int8 file that fits."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.cli.options import data_options, import_from_here, load_task
from nasturtium.cli.output import emit_json, format_option, is_terminal, note, pairs, table
from nasturtium.cli.progress import Progress
from nasturtium.design.footprint import ENGINES, Footprints
from nasturtium.design.tiny import CRITERIA, LEAST, LEVEL, SAMPLES, Limits, Scan, rows, sample_footprints, scan
from nasturtium.errors import InvalidInputError
from nasturtium.trial import parse_value, peak_memory
from nasturtium.zoo import mcunet

ROWS = 10
UNITS = "kB and MB are 1,000 and 1,000,000 bytes, as in every limit here; KiB and MiB are 1,024 and 1,048,576"
TIGHT = (
    "A chip sold with 256 kB has 256 KiB = 262,144 bytes: what fits 256kB fits it too. Write 256KiB to use all of it; "
    "the paper's figures are in KiB."
)


@click.command(
    epilog="Example: nasturtium design tiny --sram 256kB --flash 1MB -o runs/tiny, or on real images, nasturtium "
    "design tiny --sram 128KiB --flash 256KiB --data fashion-mnist --width 0.2 --width 0.3 --resolution 48 --trials 12 "
    "-o runs/tiny"
)
@click.option("--sram", help=f"Like 256kB or 256KiB. {UNITS}.")
@click.option("--flash", help="Like 1MB or 1MiB.")
@click.option("--sram-reserve", default="0", help="Of SRAM, for what the memory model leaves out.")
@click.option(
    "--margin", default="0", help="With --data: of SRAM, kept free beside the arena for scratch of optimised kernels."
)
@click.option("--flash-reserve", default="0", help="Of flash, for code and what else is left out.")
@click.option(
    "--engine", type=click.Choice(list(ENGINES)), default=None,
    help="How memory is used.  [default: tinyengine, the paper's; with --data tflm, the arena that the file needs]",
)  # fmt: skip
@click.option(
    "--width", "widths", type=float, multiple=True, help="Multipliers to scan; repeatable.  [default: 0.2 … 1.0]"
)
@click.option(
    "--resolution", "resolutions", type=int, multiple=True, help="Pixels; repeatable.  [default: 48, 64 … 224]"
)
@click.option("--channels", type=int, default=3, show_default=True, help="Of the images, without --data.")
@click.option("--classes", type=int, default=1000, show_default=True, help="Without --data.")
@click.option("--samples", type=click.IntRange(1), default=SAMPLES, show_default=True, help="Networks of each space.")
@click.option("--by", type=click.Choice(CRITERIA), default="mean", show_default=True, help="Of the MACs of what fits.")
@click.option("--level", type=float, default=LEVEL, show_default=True, help="Where the quantile is read.")
@click.option("--least", type=float, default=LEAST, show_default=True, help="Share of a space that must fit.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples, the search and every training.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the figure, the numbers, the network.")
@click.option("--data", help="Search the picked space on these images; as in `nasturtium search`.")
@data_options
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="With --data: networks trained.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="With --data: of each.")
@click.option("--strategy", default="evolution", show_default=True, help="With --data.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="With --data: processes.")
@click.option("--quiet", is_flag=True, help="No progress.")
@format_option
def tiny(**given: Any) -> int:
    """Scan spaces of MobileNet-like networks and pick the one whose networks compute most within SRAM and flash.

    Nothing is trained for that. With --data the picked space is then searched on real images, under the same limits,
    and the best network is written as an int8 .tflite file that fits, where the extra `tinyml` is installed.
    """
    limits, margin = _limits(given), int(parse_value(given["margin"], peak_memory))
    task = _task(given)
    if margin and task is None:
        raise InvalidInputError("`--margin` is kept beside the arena of the int8 file: give --data, or --sram-reserve.")
    engine = given["engine"] or ("tinyengine" if task is None else "tflm")
    held = replace(limits, sram_reserve=limits.sram_reserve + margin)
    found, spaces = _scanned(given, held, engine, task)
    best = found.best(given["by"], level=given["level"], least=given["least"])
    ranked = found.ranked(given["by"], level=given["level"], least=given["least"])
    facts: dict[str, Any] = {
        "sram": limits.sram, "flash": limits.flash, "sram_reserve": limits.sram_reserve,
        "flash_reserve": limits.flash_reserve, "margin": margin, "engine": engine,
        "model": ENGINES[engine].title, "units": UNITS,
        "spaces": len(spaces), "samples": given["samples"], "seed": given["seed"], "by": given["by"],
        "least": given["least"], "picked": {"width": best.key[0], "resolution": best.key[1]}, "ranked": rows(ranked),
    }  # fmt: skip
    if given["style"] == "text":
        _print_scan(facts, given)
    if given["output"] is not None:
        _write(found, facts, given)
    if task is not None:
        facts["search"] = _specialized(spaces[best.key], task, limits, margin, engine, given)
    if given["style"] == "json":
        emit_json(facts)
    return 0


def _limits(given: dict[str, Any]) -> Limits:
    def read(name: str) -> int | None:
        return None if given[name] is None else int(parse_value(given[name], peak_memory))

    if given["sram"] is None and given["flash"] is None:
        raise InvalidInputError("There is nothing to keep to: give --sram, --flash or both, like --sram 256kB.")
    return Limits(
        sram=read("sram"), flash=read("flash"), sram_reserve=read("sram_reserve") or 0,
        flash_reserve=read("flash_reserve") or 0,
    )  # fmt: skip


def _task(given: dict[str, Any]) -> Any:
    if given["data"] is None:
        return None
    if given["output"] is None:
        raise InvalidInputError("A search needs a place to keep its results: give `-o runs/tiny`.")
    import_from_here()
    return load_task(
        given["data"], data_root=given["data_root"], image_size=given["image_size"], validation=given["validation"],
        split_seed=given["split_seed"],
    )  # fmt: skip


def _scanned(
    given: dict[str, Any], limits: Limits, engine: str, task: Any
) -> tuple[Scan[tuple[float, int]], dict[tuple[float, int], nas.Space]]:
    """The spaces and what of them fits."""
    widths: Sequence[float] = given["widths"] or mcunet.WIDTHS
    resolutions: Sequence[int] = given["resolutions"] or mcunet.RESOLUTIONS
    spaces = {(w, r): mcunet.mcunet(width=w, resolutions=r) for w in widths for r in resolutions}
    made: dict[object, Footprints] = {}

    def footprints(key: tuple[float, int]) -> Footprints:
        if task is not None:
            return made.setdefault("task", Footprints(tuple(task.input_shape), engine, **task.context))
        if key[1] not in made:
            made[key[1]] = Footprints((given["channels"], key[1], key[1]), engine, classes=given["classes"])
        return made[key[1]]

    def report(done: int, of: int) -> None:
        if not given["quiet"] and is_terminal():
            click.echo(f"\r\x1b[2K{done} of {of} spaces" + ("\n" if done == of else ""), nl=False, err=True)

    sampled = sample_footprints(spaces, footprints, samples=given["samples"], seed=given["seed"], report=report)
    return scan(sampled, limits), spaces


def _print_scan(facts: dict[str, Any], given: dict[str, Any]) -> None:
    head = {
        "SRAM": _shown(given, "sram", facts), "flash": _shown(given, "flash", facts), "memory model": facts["model"],
        "spaces": f"{facts['spaces']}, {facts['samples']} networks drawn of each (seed {facts['seed']})",
    }  # fmt: skip
    click.echo(pairs(head))
    at = f"MACs at p = {given['level']:g}"
    body = [
        [
            f"{r['width']:g}", str(r["resolution"]), f"{r['mean_macs'] / 1e6:.1f}M", f"{r['quantile_macs'] / 1e6:.1f}M",
            f"{r['acceptance']:.1%}",
        ]
        for r in facts["ranked"][:ROWS]
    ]  # fmt: skip
    click.echo(f"\nBest by {facts['by']} MACs of what fits; at least {facts['least']:.0%} of a space must")
    click.echo(table(["width", "resolution", "mean MACs", at, "fit"], body, right=range(5)))
    picked = facts["picked"]
    click.echo(f"\nPicked: width {picked['width']:g}, {picked['resolution']} pixels.")
    if any(text and "B" in text and "iB" not in text for text in (given["sram"], given["flash"])):
        click.echo(TIGHT)


def _shown(given: dict[str, Any], name: str, facts: dict[str, Any]) -> str:
    if facts[name] is None:
        return "no limit"
    reserve = facts[f"{name}_reserve"]
    return f"{given[name]} = {facts[name]:,} B" + (f", of which {reserve:,} B are reserved" if reserve else "")


def _write(found: Scan[Any], facts: dict[str, Any], given: dict[str, Any]) -> None:
    from nasturtium.report.design_figures import macs_figure, write_page  # noqa: PLC0415  (plotly)

    folder: Path = given["output"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scan.json").write_text(json.dumps(facts, indent=1))
    figure = macs_figure(found, by=given["by"], level=given["level"], least=given["least"])
    lead = (
        f"{facts['spaces']} spaces of width and resolution, {facts['samples']} networks drawn of each; SRAM "
        f"{_shown(given, 'sram', facts)}, flash {_shown(given, 'flash', facts)}. {facts['model']}."
    )
    text = (
        "The farther right a curve, the more its networks compute within the memory. In the legend: mean MACs, share."
    )
    page = write_page(folder / "scan.html", "Which space fits", lead, {"MACs of what fits": (text, figure)})
    note(f"Figure: {page}")


def _specialized(
    space: nas.Space, task: Any, limits: Limits, margin: int, engine: str, given: dict[str, Any]
) -> dict[str, Any]:
    """Search the picked space, and write the int8 file of the best network that fits."""
    from nasturtium.estimators import Trained  # noqa: PLC0415  (PyTorch)
    from nasturtium.hardware.support import check  # noqa: PLC0415
    from nasturtium.study.designing import specialize  # noqa: PLC0415
    from nasturtium.trial import constraints, objectives  # noqa: PLC0415

    runs = "not asked: the engine is not TensorFlow Lite Micro"
    if engine == "tflm":
        with warnings.catch_warnings():  # what it warns of is said in the facts
            warnings.simplefilter("ignore")
            whole = check(space, "tflm", tuple(task.input_shape), **task.context)
        runs = (
            "every network of the space" if whole else "networks drawn of the space; it is too wide to judge as a whole"
        )
    held = replace(limits, sram_reserve=limits.sram_reserve + margin)
    folder: Path = given["output"]
    with Progress(objectives("accuracy"), constraints(()), live=is_terminal(), quiet=given["quiet"]) as progress:
        study = specialize(
            space, task, held, engine=engine, estimator=Trained(epochs=given["epochs"]), strategy=given["strategy"],
            trials=given["trials"], seed=given["seed"], workers=given["workers"], study=folder / "search.db",
            listeners=[progress],
        )  # fmt: skip
    best = study.best
    found: dict[str, Any] = {
        "study": str(folder / "search.db"), "trials": len(study.trials), "best": best.number,
        **{m: best.metrics[m] for m in ("accuracy", "macs", "params", "sram", "flash")}, "supported": runs,
    }  # fmt: skip
    if given["style"] == "text":
        facts = {
            "best": f"trial {best.number} of {len(study.trials)}",
            "accuracy": f"{best.metrics['accuracy']:.1%} (validation)",
            "MACs": f"{best.metrics['macs']:,.0f}", "SRAM, modelled": f"{best.metrics['sram']:,.0f} B",
            "flash, modelled": f"{best.metrics['flash']:,.0f} B", "operations run for": runs,
        }  # fmt: skip
        click.echo("\n" + pairs(facts))
    return found | {"int8": _int8(study, folder, task, limits, margin, given)}


def _int8(
    study: nas.Study, folder: Path, task: Any, limits: Limits, margin: int, given: dict[str, Any]
) -> dict[str, Any] | None:
    """The int8 file, where the extra is installed; None with a note where it is not."""
    from nasturtium.errors import MissingExtraError  # noqa: PLC0415
    from nasturtium.study.tiny_files import Int8File, write_fitting  # noqa: PLC0415

    def report(found: Int8File) -> None:
        verdict = "fits" if found.fits else "does not fit"
        note(f"Trial {found.trial}: arena {found.arena_bytes:,} B, file {found.file_bytes:,} B: {verdict}.")

    try:
        written = write_fitting(study, folder / "int8", task, limits, margin=margin, report=report)
    except MissingExtraError as error:
        note(f"No .tflite was written, so nothing proves yet that the network fits. {error}")
        return None
    if given["style"] == "text":
        click.echo(
            pairs(
                {
                    "int8 file": f"{written.path}, {written.file_bytes:,} B",
                    "arena": f"{written.arena_bytes:,} B allocated, {written.activation_bytes:,} B of it activations; "
                    f"the search's model said {written.modelled_bytes:,} B",
                    "int8 accuracy": f"{written.int8_accuracy:.1%} in LiteRT (validation)",
                    "it fits under": f"{written.assumption}; the code of the runtime comes on top of the file",
                }
            )
        )
    return written.to_dict()
