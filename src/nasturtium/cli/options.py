"""Reading what people type: shapes, sizes, `module:function`, spaces and networks by name or file."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.trial import parse_value, train_seconds


def parse_shape(text: str) -> tuple[int, ...]:
    """`3x224x224` to `(3, 224, 224)`.

    Raises:
        InvalidInputError: it is not made of positive integers.
    """
    try:
        shape = tuple(int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in {1, 3} or min(shape, default=0) < 1:
        raise InvalidInputError(f"An input must be written channels x height x width, like 3x224x224, got {text!r}.")
    return shape


def import_from_here() -> None:
    """Let modules of the working folder be imported."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def imported(reference: str, what: str) -> Any:
    """The object that `module:name` names; the working folder is searched too.

    Raises:
        InvalidInputError: there is no such module or name.
    """
    module, _, name = reference.partition(":")
    import_from_here()
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"The {what} {reference!r} names module {module!r}, but importing it failed: {error}. "
            "It is looked for in the working folder and among installed packages."
        ) from error
    except AttributeError as error:
        raise InvalidInputError(f"The {what} {reference!r} names {name!r}, which {module!r} does not have.") from error


def called(reference: str, what: str, kind: type, **arguments: object) -> Any:
    """The object at `module:name`, called where it is a function; must be of a kind."""
    value = imported(reference, what)
    if isinstance(value, Callable) and not isinstance(value, kind):  # type: ignore[arg-type]
        value = value(**arguments)
    if not isinstance(value, kind):
        raise InvalidInputError(f"The {what} {reference!r} must be or return a {kind.__name__}, got {value!r}.")
    return value


def load_space(name: str, input_shape: tuple[int, ...] | None = None) -> nas.Space:
    """A search space by registry name, or from `module:function`.

    Raises:
        UnknownNameError: neither.
    """
    if ":" in name:
        return called(name, "space", nas.Space)
    return nas.zoo.space(name, input_shape=input_shape)


def load_network(name: str, *, trust: bool = False) -> nas.Block | nas.Architecture:
    """A closed network: a published one by name, an `architecture.json`, or `module:function`.

    Raises:
        UnknownNameError: nothing goes by that name.
        InvalidInputError: the file cannot be read.
    """
    path = Path(name)
    if path.is_dir() and (path / "architecture.json").is_file():
        path = path / "architecture.json"
    if path.suffix == ".json" or path.is_file():
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{str(path)!r} cannot be read as an architecture: {error}.") from error
        inner = data.get("architecture", data) if isinstance(data, dict) else data  # an export says more around it
        return nas.Architecture.from_dict(inner, trust=trust)
    if ":" in name:
        return called(name, "network", nas.Block)
    return nas.zoo.by_name(name)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what the data is."""
    for option in (
        click.option("--data-root", type=click.Path(), help="Folder that holds fashion-mnist, cifar10 …"),
        click.option("--image-size", type=int, help="Side, in pixels, to which the images of a folder are resized."),
        click.option("--validation", type=float, help="Share of the training images kept for validation."),
        click.option("--split-seed", type=int, default=0, show_default=True, help="Seed of the splits."),
    ):
        command = option(command)
    return command


def load_task(
    data: str, *, data_root: str | None, image_size: int | None, validation: float | None, split_seed: int
) -> nas.tasks.Task:
    """A task by name, folder, or `module:function`."""
    if ":" in data and not Path(data).exists():
        return nas.tasks.from_factory(data)
    return nas.tasks.load(data, data_root=data_root, image_size=image_size, validation=validation, seed=split_seed)


def parse_latency(given: Sequence[str]) -> dict[str, str]:
    """`("cpu=cpu.jsonl", "cpu-int8=measure")` to what each device's latency comes from.

    Raises:
        InvalidInputError: one is not of this form, or a device is given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not (equals and name.strip() and source.strip()):
            raise InvalidInputError(
                f"`--latency` says where a device's latency comes from: DEVICE=FILE, or DEVICE=measure, got {text!r}."
            )
        if name.strip() in found:
            raise InvalidInputError(f"`--latency` is given twice for {name.strip()!r}; once is enough.")
        found[name.strip()] = source.strip()
    return found


def finalist_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of how finalists are measured."""
    for option in (
        click.option("--finalists", type=click.IntRange(1), help="Networks measured on each device, in each round."),
        click.option("--precision", type=float, help="Half width of a measurement's interval, like 0.01.  [0.02]"),
        click.option("--processes", type=(int, int), help="Fewest and most fresh processes of a measurement.  [6 18]"),
        click.option("--measure-for", help="Wall time, like 10min, after which no more finalists are measured."),
    ):
        command = option(command)
    return command


def read_finalists(given: Mapping[str, Any], **defaults: Any) -> nas.study.Verify:
    """How finalists are measured, of the options of `finalist_options`.

    Raises:
        InvalidInputError: a number is out of its range.
    """
    values = {name: given[name] for name in ("finalists", "precision", "processes") if given[name] is not None}
    if given["measure_for"] is not None:
        values["seconds"] = parse_value(given["measure_for"], train_seconds)
    return nas.study.Verify(**{**defaults, **values})
