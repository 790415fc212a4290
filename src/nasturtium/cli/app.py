"""The group of commands, loaded one by one on use, and what becomes of errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from nasturtium import __version__
from nasturtium.cli.lazy import LazyGroup
from nasturtium.errors import InfeasibleError, NasturtiumError

COMMANDS = {
    "search": ("run:search", "Search a space on your data, from nothing to a Pareto front."),
    "resume": ("run:resume", "Go on with a study that was stopped, or give it more trials."),
    "status": ("look:status", "How far a study is: trials, failures, best so far, time."),
    "front": ("look:front", "The Pareto front of a study as a table."),
    "show": ("look:show", "One network of a study: choices, costs, drawing."),
    "verify": ("verify:verify", "Measure the finalists of a study on their devices: which meet their limits."),
    "report": ("take:report", "Write a study as one self-contained HTML file."),
    "export": ("take:export", "Take a network home: model.py, weights, ONNX, model card."),
    "train": ("take:train", "Train one architecture from scratch on your data."),
    "zoo": ("zoo:zoo", "The published search spaces and networks: size, task, paper."),
    "space": ("spaces:space", "What a search space holds: size, choices, distribution of costs."),
    "cost": ("spaces:cost", "Parameters, MACs, activations, peak memory of a network."),
    "design": ("design:design", "Which space to search, and how to scale a network: TinyNAS, error distributions."),
    "profile": ("profile:profile", "Measure the kernels of a space on a device: its latency table."),
    "proxies": ("proxies:proxies", "How far zero-cost proxies can be trusted on a space and your data."),
    "compat": ("compat:compat", "Which method that shares weights goes with which space, and why not."),
    "device": ("device:device", "Devices: list, describe your own, measure a network on one."),
    "agent": ("agent:agent", "Measure latencies for another machine."),
    "bench": ("bench:bench", "Compare search strategies on tables of known results, over many seeds."),
}
INTERRUPTED = 130


@click.group(
    cls=LazyGroup,
    commands_of=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="nasturtium")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(*, debug: bool) -> None:
    """Neural architecture search for PyTorch: your data and budget in, a network that fits out.

    \b
    nasturtium search digits --space mobile --trials 40 --epochs 15 \\
        --maximize accuracy --minimize macs --constraint "params <= 60k" --study runs/digits.db
    nasturtium report runs/digits.db
    nasturtium export runs/digits.db -o best/

    Exit codes: 0 done, 1 internal error, 2 unusable input, 3 no network meets the constraints, 130 interrupted.
    """  # noqa: D301  (click wants a real backspace)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (see the package's docstring).

    Args:
        argv: Arguments without the program's name; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    try:
        result = app.main(args=arguments, prog_name="nasturtium", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NasturtiumError as error:
        return _failed(error, debug=debug, code=3 if isinstance(error, InfeasibleError) else 2)
    except Exception as error:  # noqa: BLE001
        return _failed(error, debug=debug, code=1)
    return result if isinstance(result, int) else 0


def _failed(error: Exception, *, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    elif code == 1:
        text = str(error) or "no message"
        click.echo(
            f"Internal error ({type(error).__name__}): {text}\nRun again with --debug for the traceback.", err=True
        )
    else:
        click.echo(f"Error: {error}", err=True)
    return code
