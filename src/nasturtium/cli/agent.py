"""`nasturtium agent`: measure for another machine."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import click

from nasturtium.cli.output import note
from nasturtium.errors import InvalidInputError
from nasturtium.hardware import agent as standalone


@click.group(epilog="Example: nasturtium agent serve --host 127.0.0.1 --port 8420")
def agent() -> None:
    """Measure latencies for another machine, over a connection that a shared token authenticates.

    \b
    nasturtium agent token                          # a secret, for both machines
    export NASTURTIUM_AGENT_TOKEN=...
    nasturtium agent serve --host 0.0.0.0           # on the device
    nasturtium device add pi4 --address http://DEVICE:8420      # here

    A device without this library needs one file only: nasturtium agent file DIRECTORY, then python agent.py serve.
    """  # noqa: D301  (click wants a real backspace)


@agent.command()
def token() -> None:
    """Print a fresh secret."""
    click.echo(secrets.token_urlsafe(32))


@agent.command()
@click.argument("directory", type=click.Path(file_okay=False, exists=True))
def file(directory: str) -> None:
    """Write `agent.py` into DIRECTORY; it needs Python, numpy and ONNX Runtime only."""
    target = Path(directory) / "agent.py"
    if target.exists():
        raise InvalidInputError(f"{str(target)!r} exists already; remove it first.")
    shutil.copyfile(standalone.__file__, target)
    note(f"Written to {target}.")


@agent.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=int, default=standalone.PORT, show_default=True, help="0 for any free one.")
@click.option("--token-variable", default=standalone.TOKEN_VARIABLE, show_default=True, help="Where the token is.")
def serve(host: str, port: int, token_variable: str) -> None:
    """Answer until interrupted. One measurement at a time."""
    secret = os.environ.get(token_variable, "")
    if len(secret) < standalone.SHORTEST_TOKEN:
        raise InvalidInputError(
            f"Set {token_variable} to a secret of at least {standalone.SHORTEST_TOKEN} characters; "
            "`nasturtium agent token` makes one."
        )
    try:
        standalone.serve(host, port, secret, ready=lambda found: click.echo(f"Listening on {host}:{found}."))
    except OSError as error:
        raise InvalidInputError(f"Cannot listen on {host}:{port}: {error}.") from error
