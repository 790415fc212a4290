"""`nas.Module`: any PyTorch module as a block."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph.operations import Opaque, Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.model import opaque
from nasturtium.space.block import Block, Open

INPUT_CHANNELS = "$input_channels"
"""Stands for the channels (or features) of the first input, as an argument of `nas.Module`."""

_CHANNEL_ARGUMENTS = ("in_channels", "in_features")

Arguments = tuple[tuple[str, object], ...]


class Module(Block):
    """A user's PyTorch module in a space.

    Arguments may be choices, so the module is searched like any block. `in_channels` (or `in_features`) is filled in
    where the constructor has it and it is not given; elsewhere `nas.INPUT_CHANNELS` stands for it. The module takes
    and returns tensors with a batch, one tensor out. Its output shape, parameters and MACs are measured on PyTorch's
    meta device, which computes no numbers; what fails there can be stated instead.

    It is stored as its import path and JSON arguments, never pickled; its identity is these and the digest of the
    source file that defines the class. A stored module whose source has changed since is refused.

    Args:
        target: The class, or "package.module:Class".
        arguments: Arguments whose names are taken by the ones below; a mapping or pairs.
        output: Output shape without the batch, instead of measuring.
        params: Trainable parameters, instead of counting; needed with `output`.
        macs: Multiply-accumulates for one sample, instead of counting; needed with `output`.
        digest: Of the source file, as stored; None takes that of the class, or none where it is not imported yet.
        **keywords: Arguments of the class: JSON values, tuples, or choices among them.

    Raises:
        InvalidInputError: the class cannot be imported by another process, an argument is no JSON value, or `output`,
            `params` and `macs` are not given together.

    Example:
        >>> import nasturtium as nas, torch
        >>> block = nas.Module("torch.nn:Conv2d", out_channels=8, kernel_size=3, bias=False)
        >>> graph = nas.trace(block, (3, 10, 10))
        >>> graph.params, graph.macs, graph.nodes[-1].shape
        (216, 13824, (8, 8, 8))
    """

    target: str
    arguments: Arguments = ()
    output: Shape | None = None
    params: int | None = None
    macs: int | None = None
    digest: str = ""

    def __init__(
        self,
        target: type[nn.Module] | str,
        arguments: Mapping[str, object] | Iterable[tuple[str, object]] = (),
        output: Iterable[int] | None = None,
        params: int | None = None,
        macs: int | None = None,
        digest: str | None = None,
        **keywords: object,
    ) -> None:
        path = target if isinstance(target, str) else opaque.import_path(target)
        pairs = dict(arguments.items() if isinstance(arguments, Mapping) else [(name, v) for name, v in arguments])
        repeated = sorted(set(pairs) & set(keywords))
        if repeated:
            raise InvalidInputError(f"Arguments {repeated} of {path!r} were given twice.")
        frozen = tuple((name, _plain(path, name, value)) for name, value in sorted({**pairs, **keywords}.items()))
        if len({output is None, params is None, macs is None}) != 1:
            raise InvalidInputError(
                "`output`, `params` and `macs` state what the meta device cannot measure: give all three or none, "
                f"got output={output!r}, params={params!r}, macs={macs!r}."
            )
        fields: dict[str, Any] = {"target": path, "arguments": frozen, "params": params, "macs": macs}
        fields["output"] = None if output is None else tuple(output)
        if digest is None:
            digest = opaque.source_digest(path) if path.partition(":")[0] in sys.modules else ""
        fields["digest"] = digest
        for name in self._field_names:
            object.__setattr__(self, name, fields[name])

    @property
    def foreign_modules(self) -> tuple[str, ...]:
        """The Python module that defines the target."""
        return (self.target.partition(":")[0],)

    def forward(self, *xs: Tensor) -> Tensor:
        """Add the module as one operation."""
        values = {name: xs[0].channels if value == INPUT_CHANNELS else value for name, value in self.arguments}
        accepted = opaque.parameters_of(self.target)
        for name in _CHANNEL_ARGUMENTS:
            if name in accepted and name not in values:
                values[name] = xs[0].channels
        text = json.dumps(values, sort_keys=True)
        digest = opaque.source_digest(self.target)
        if self.digest not in ("", digest):
            raise TraceError(
                f"The source of {self.target!r} ({opaque.source_file(self.target)}) has changed since this block was "
                f"made (digest {self.digest}, now {digest}), so it may be another network. Bring that source back, or "
                "make the space anew."
            )
        if self.output is None:
            measured = opaque.measure(self.target, text, tuple([x.shape for x in xs]))
        elif self.params is None or self.macs is None:
            raise TraceError(f"{self!r} states its output shape, so it must state `params` and `macs`.")
        else:
            measured = opaque.Measurement(output=self.output, params=self.params, macs=self.macs, activations=0)
        operation = Opaque(
            target=self.target,
            arguments=text,
            digest=digest,
            output=measured.output,
            parameters=measured.params,
            multiply_accumulates=measured.macs,
            convolution_outputs=measured.activations,
        )
        return xs[0].tracer.apply(operation, xs, "module")


def _plain(target: str, name: str, value: object) -> object:
    """A JSON value with tuples for lists, or a choice.

    Raises:
        InvalidInputError: the value cannot be stored.
    """
    if isinstance(value, Open):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain(target, name, item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidInputError(
        f"Argument {name!r} of {target!r} must be a JSON value (None, bool, int, float, str, list) or a choice among "
        f"such, got {value!r}: nothing is pickled, so pass a name or a number and make the object in the module."
    )
