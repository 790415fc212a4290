"""ONNX, compared number by number with PyTorch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from nasturtium.errors import ExportError

ABSOLUTE = 1e-4
RELATIVE = 1e-3
"""Outputs may differ by `ABSOLUTE + RELATIVE * the largest output`: another order of summation in float32, no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far ONNX and PyTorch outputs differ."""

    samples: int
    largest_difference: float
    largest_output: float
    opset: int

    @property
    def tolerance(self) -> float:
        """The largest difference that is accepted."""
        return ABSOLUTE + RELATIVE * self.largest_output


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress, advice and deprecation notes of other packages off the terminal."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def write_onnx(
    path: Path,
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    metadata: Mapping[str, object],
) -> Agreement:
    """Write `model.onnx` with a free batch size, run it, and compare.

    Args:
        path: File to write.
        model: In evaluation mode, on the CPU, float32.
        inputs: Real or random inputs, `(batch, *shape)` with a batch of at least 3.
        input_names: Names in the file.
        output_names: Names in the file.
        metadata: Text or JSON values kept in the file.

    Raises:
        ExportError: the network cannot be exported, or the file computes something else.
    """
    few = tuple(x[:2] for x in inputs)
    batch = torch.export.Dim("batch", min=1)
    try:
        with quiet():
            program = torch.onnx.export(
                model,
                few,
                dynamo=True,
                verbose=False,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=tuple({0: batch} for _ in few),
            )
            assert program is not None
            program.model.metadata_props.update(
                {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
            )
            program.save(str(path), external_data=False)
    except Exception as error:
        raise ExportError(f"The network cannot be written as ONNX: {type(error).__name__}: {error}.") from error
    return compare(path, model, inputs, opset=int(program.model.opset_imports.get("", 0)))


def compare(path: Path, model: nn.Module, inputs: Sequence[Tensor], *, opset: int = 0) -> Agreement:
    """Run an ONNX file and the PyTorch model on the same inputs, all at once and the first alone.

    Raises:
        ExportError: they differ by more than the tolerance, or in shape.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    largest = difference = 0.0
    for part in (inputs, [x[:1] for x in inputs]):
        given = {spec.name: x.numpy() for spec, x in zip(session.get_inputs(), part, strict=True)}
        theirs = session.run(None, given)
        with torch.inference_mode():
            ours = [y.numpy() for y in flat(model(*part))]
        for mine, other in zip(ours, theirs, strict=True):
            if mine.shape != other.shape:
                raise ExportError(f"ONNX gives an output of shape {other.shape}, PyTorch {mine.shape}.")
            largest = max(largest, float(np.abs(mine).max(initial=0.0)))
            difference = max(difference, float(np.abs(mine - other).max(initial=0.0)))
            if np.isfinite(other).all() != np.isfinite(mine).all():
                difference = float("inf")
    agreement = Agreement(samples=len(inputs[0]), largest_difference=difference, largest_output=largest, opset=opset)
    if not difference <= agreement.tolerance:
        raise ExportError(
            f"ONNX and PyTorch differ by {difference:.3g}, more than the tolerance of {agreement.tolerance:.3g} "
            f"(outputs up to {largest:.3g}, {len(inputs[0])} inputs); nothing was exported."
        )
    return agreement


def flat(result: object) -> list[Tensor]:
    """The tensors of nested tuples and dicts, in order."""
    if isinstance(result, Tensor):
        return [result]
    items = result.values() if isinstance(result, dict) else result
    return [y for item in items for y in flat(item)]  # type: ignore[attr-defined]
