"""Shared weights in files, and weights that a supernet starts from."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.graph.operations import Input
from nasturtium.model import Supernet
from nasturtium.space import Architecture
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import Form

VERSION = 2


def save(supernet: Supernet, path: str | Path) -> None:
    """Write the shared weights as safetensors, at once or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    target = Path(path)
    header = {"decisions": decisions_of(supernet), "graph": fingerprint_of(supernet)}
    text = json.dumps({"version": VERSION, "kind": "supernet", **header})
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in supernet.state_dict().items()}
    replace_file(target, safetensors_bytes(state, metadata={"nasturtium": text}))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: at any instant it is the old one or the new one, whole. Makes its folder.

    Raises:
        StoreError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(f"{str(path)!r} cannot be written: {error}.") from error


def load(supernet: Supernet, path: str | Path) -> None:
    """Read shared weights into a supernet of the same space.

    Raises:
        StoreError: the file cannot be read, or is of another space.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("nasturtium", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:  # the reader raises its own types
        raise StoreError(f"The supernet cannot be read from {str(path)!r}: {error}.") from error
    own = supernet.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if header.get("version") != VERSION or header.get("decisions") != decisions_of(supernet):
        raise StoreError(f"{str(path)!r} holds the weights of another space, or no supernet of version {VERSION}.")
    if {name: tuple(tensor.shape) for name, tensor in state.items()} != shapes:
        raise StoreError(f"The weights in {str(path)!r} have other shapes: the supernet's inputs or classes differ.")
    if header.get("graph") != fingerprint_of(supernet):
        raise StoreError(
            f"{str(path)!r} holds the weights of another space: its decisions have the same names and its weights the "
            "same shapes, but its operations differ. Make the supernet from the space that the weights were trained in."
        )
    supernet.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name: of safetensors, or of a state dict of PyTorch (".pt", ".pth").

    Raises:
        StoreError: the file cannot be read, or holds something else.
    """
    try:
        if path.suffix in (".pt", ".pth"):
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = load_file(path)
    except Exception as error:  # the readers raise their own types
        raise StoreError(f"Weights cannot be read from {str(path)!r}: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise StoreError(f"{str(path)!r} holds no state dict: tensors by name.")
    return found


def file_digest(path: Path, expected: str | None) -> str:
    """SHA-256 of a file.

    Raises:
        InvalidInputError: it cannot be read, or is not the expected one.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError(f"The weights {str(path)!r} cannot be read: {error}.") from error
    if expected not in (None, found):
        raise InvalidInputError(
            f"The weights {str(path)!r} have changed since they were first used: what was measured with the old ones "
            "cannot be mixed with these."
        )
    return found


def decisions_of(supernet: Supernet) -> dict[str, list[str]]:
    """What the supernet decides: the labels of each decision's options, by its name."""
    return {d.name: list(d.labels) for d in supernet.graph.decisions}


def fingerprint_of(supernet: Supernet) -> str:
    """SHA-256 of the operations of the supernet, and of what each reads in which architectures.

    The size of the images does not count, but where an operation states it.
    """
    graph = supernet.graph
    known: dict[int, str] = {}

    def digest(diagram: Diagram) -> str:
        if diagram.number not in known:
            if diagram.is_leaf:
                value = diagram.value
                said = _said((value.operation, value.path)) if isinstance(value, Form) else _said(value)
            else:
                said = f"{diagram.variable}({','.join(map(digest, diagram.children))})"
            known[diagram.number] = hashlib.sha256(said.encode()).hexdigest()
        return known[diagram.number]

    nodes = [
        [n.path, n.kind.__name__, *map(digest, n.inputs), "" if issubclass(n.kind, Input) else digest(n.forms)]
        for n in graph.nodes
    ]
    outputs = [[name, digest(value)] for name, value in graph.outputs]
    facts = [nodes, outputs, _said(graph.structure), decisions_of(supernet)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _said(value: object) -> str:
    """Its `repr`, without addresses in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def digest_of(state: object) -> str:
    """SHA-256 of tensors and plain values in mappings and sequences."""
    found = hashlib.sha256()

    def take(value: object) -> None:
        if isinstance(value, Tensor):
            found.update(f"{value.dtype}{tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            for key, item in value.items():
                found.update(repr(key).encode())
                take(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                take(item)
        else:
            found.update(repr(value).encode())

    take(state)
    return found.hexdigest()


def require_known(values: Iterable[str], known: Sequence[str], what: str) -> None:
    """Refuse a key that settings do not have.

    Raises:
        InvalidInputError: names the key, and the nearest that there is.
    """
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(known)}."
            raise InvalidInputError(f"{what} has no setting {key!r}.{hint}")


@torch.no_grad()
def start_from(supernet: Supernet, initial: Mapping[str, Tensor]) -> None:
    """Copy given weights into a supernet; names that are missing keep what they have.

    Args:
        supernet: Changed in place.
        initial: Weights and running statistics by the supernet's own names, each of its shape.

    Raises:
        InvalidInputError: a name that the supernet does not have (the nearest is named), or another shape.
    """
    own = supernet.state_dict()
    for name, tensor in initial.items():
        if name not in own:
            close = difflib.get_close_matches(name, list(own), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InvalidInputError(
                f"The supernet has no weight {name!r} to start from given weights.{hint} Names are those of "
                "`supernet.state_dict()`; for the weights of a closed network see `nas.supernets.insert`."
            )
        if own[name].shape != tensor.shape:
            raise InvalidInputError(
                f"The weight {name!r} of the supernet has shape {tuple(own[name].shape)}, given {tuple(tensor.shape)}."
            )
    for name, tensor in initial.items():
        own[name].copy_(tensor)


@torch.no_grad()
def insert(supernet: Supernet, architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights of a closed network to where an architecture uses them: the inverse of `extract`.

    Args:
        supernet: Changed in place; what the architecture does not use stays as it is.
        architecture: Of its space.
        weights: By the names of the closed network, as its `state_dict` has them; names that are missing are left.

    Raises:
        InvalidInputError: a name that the architecture does not have, or another shape.
    """
    places, own = supernet.shared_weights(architecture), supernet.state_dict()
    for name, value in weights.items():
        if name not in places:
            close = difflib.get_close_matches(name, list(places), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InvalidInputError(f"The architecture has no weight {name!r} in the supernet.{hint}")
        where = places[name]
        if where.steps:
            raise InvalidInputError(
                f"The weight {name!r} is made of a larger kernel by matrices, so it has no place of its own in the "
                "supernet: insert an architecture with the largest kernels, or make the supernet without "
                "`kernel_transform`."
            )
        shared = own[where.name]
        grid = [
            (torch.arange(size, device=shared.device)[part] if isinstance(part, slice) else part.to(shared.device))
            for size, part in zip(shared.shape, where.cut, strict=True)
        ] if where.cut else []  # fmt: skip
        shape = tuple(map(len, grid)) if grid else tuple(shared.shape)
        if tuple(value.shape) != shape:
            raise InvalidInputError(f"The weight {name!r} has shape {shape}, given {tuple(value.shape)}.")
        if grid:
            shared[torch.meshgrid(*grid, indexing="ij")] = value.to(shared)
        else:
            shared.copy_(value)
