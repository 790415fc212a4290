"""Write a trained network for its user: everything checked before the directory appears."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nasturtium.errors import ExportError
from nasturtium.export.card import Card, Proof
from nasturtium.export.onnx import Agreement, flat, write_onnx
from nasturtium.export.script import needed_packages, script, takes_pictures
from nasturtium.graph.graph import Graph
from nasturtium.model import build
from nasturtium.space import Architecture, Block
from nasturtium.tasks import Interval, Task
from nasturtium.trial import Constraint

VERSION = 1
"""Of `architecture.json`."""

FILES = ("model.py", "weights.safetensors", "model.onnx", "architecture.json", "README.md")
"""What every export holds; users' own source files may lie beside them."""

SAMPLES = 16
_counter = itertools.count()


def write(
    directory: str | Path,
    *,
    graph: Graph,
    weights: nn.Module | Mapping[str, Tensor],
    architecture: Architecture | Block,
    task: Task | None = None,
    metrics: Mapping[str, float | Interval] | None = None,
    costs: Mapping[str, float] | None = None,
    constraints: Sequence[Constraint] = (),
    proofs: Sequence[Proof] = (),
    provenance: Mapping[str, object] | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `model.py`, `weights.safetensors`, `model.onnx`, `architecture.json` and the model card `README.md`.

    Everything is made in a temporary directory beside the target, checked there, and renamed: the directory appears
    whole or not at all. Checked: `model.py` loads its weights and computes what `build(graph)` computes with the same
    weights; ONNX computes what PyTorch computes (`export.onnx`: the tolerance), on real images where a task is given.
    Weights are written as float32. Outputs marked training-only, and operations that reach no output, stay behind.

    Args:
        directory: Where; parents are made.
        graph: The network.
        weights: The trained network made by `build(graph)`, or its `state_dict()`.
        architecture: What the graph was traced from.
        task: Gives class names, normalisation and images to check with (validation, never test).
        metrics: Measured values by name; an `Interval` where there is one ("test_accuracy").
        costs: Further costs, for example a measured latency; params, macs, activations, peak_memory, irregularity and
            kernels are the graph's.
        constraints: Stated in the card with the verdict.
        proofs: What was measured on devices, with intervals; a limit on such a metric is met by its whole interval.
        provenance: Facts for "How it was made", in order: seed, epochs, versions, date …; "command" makes it again.
        title: First line of the card.
        overwrite: Whether to replace an earlier export. What is no export is never replaced.

    Returns:
        The directory.

    Raises:
        ExportError: the directory is not free or cannot be written, weights do not fit, a user's module cannot leave,
            or what was written computes something else. Nothing is left behind.
    """
    target = Path(directory)
    _check_free(target, overwrite=overwrite)
    block = architecture.block if isinstance(architecture, Architecture) else architecture
    described = architecture if isinstance(architecture, Architecture) else Architecture.of(architecture)
    title = title or f"A network for {task.name if task else 'inputs of ' + _shapes(graph)}"
    own, state = _states(graph, weights)
    inputs = _samples(graph, task)
    pictures = takes_pictures(graph, task)
    all_costs = {**_costs(graph), **(costs or {})}
    facts = {**(provenance or {})}
    facts.setdefault("versions", {"nasturtium": version("nasturtium"), "torch": torch.__version__})
    with _replacing(target) as folder:
        text, files = script(graph, block=block, task=task, title=title)
        (folder / "model.py").write_text(text, encoding="utf-8")
        for name, source in files.items():
            (folder / f"{name}.py").write_text(source, encoding="utf-8")
        standalone = _load(folder, state)
        _check_equal(own, standalone, inputs)
        outputs = [o.name for o in graph.outputs if o.node not in graph.training_only]
        agreement = write_onnx(
            folder / "model.onnx",
            standalone,
            inputs,
            input_names=graph.inputs,
            output_names=outputs,
            metadata=_metadata(title, task),
        )
        card = Card(
            title=title,
            architecture=_readable(described),
            inputs={name: graph.nodes[i].shape for i, name in enumerate(graph.inputs)},
            outputs=outputs,
            costs=all_costs,
            agreement=agreement,
            metrics=metrics or {},
            constraints=constraints,
            proofs=proofs,
            provenance=facts,
            task=task,
            pictures=pictures,
            needs=needed_packages(graph),
        )
        (folder / "README.md").write_text(card.text(), encoding="utf-8")
        stored = _stored(card, graph, described, agreement)
        (folder / "architecture.json").write_text(json.dumps(stored, indent=2, default=str) + "\n", encoding="utf-8")
    return target


def _check_free(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"An export is a directory, but {str(target)!r} is a file. Give another path.")
    held = sorted(path.name for path in target.iterdir())
    if not held:
        return
    if not overwrite:
        raise ExportError(
            f"The directory {str(target)!r} is not empty (it holds {', '.join(held[:5])}{' …' if held[5:] else ''}). "
            "Give another path, or allow overwriting an earlier export."
        )
    if not {"model.py", "architecture.json"} <= set(held):
        raise ExportError(
            f"The directory {str(target)!r} is no earlier export (it has no model.py and architecture.json), so it is "
            "not overwritten. Give another path."
        )


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A temporary directory beside the target that takes its place at the end."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OSError as error:
        raise ExportError(f"Nothing can be written in {str(target.parent)!r}: {error}.") from error
    try:
        yield folder
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        folder.chmod(0o755)
        if target.exists():
            old = folder.with_name(folder.name.replace("partial", "old"))
            target.rename(old)
            folder.rename(target)
            shutil.rmtree(old)
        else:
            folder.rename(target)
    except OSError as error:
        raise ExportError(f"The export cannot be written to {str(target)!r}: {error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _states(graph: Graph, weights: nn.Module | Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """The house's own module with the weights, and the weights as float32 on the CPU."""
    given = weights.state_dict() if isinstance(weights, nn.Module) else weights
    state = {
        name: (w.detach().to("cpu", torch.float32) if w.is_floating_point() else w.detach().cpu()).contiguous().clone()
        for name, w in given.items()
    }
    own = build(graph, seed=0)
    try:
        own.load_state_dict(state)
    except RuntimeError as error:
        raise ExportError(f"The weights do not fit the network: {error}") from error
    return own.float().eval(), state


def _load(folder: Path, state: dict[str, Tensor]) -> nn.Module:
    """Write the weights that `model.py` asks for, and load it as its user will."""
    name = f"_nasturtium_export_{next(_counter)}"
    spec = importlib.util.spec_from_file_location(name, folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng(devices=[]):
        wanted = module.Network().state_dict()
    missing = [key for key, w in wanted.items() if key not in state or state[key].shape != w.shape]
    if missing:
        raise ExportError(f"`model.py` has weights that the network has not: {', '.join(missing[:5])}.")
    save_file({key: state[key] for key in wanted}, folder / "weights.safetensors", metadata={"format": "pt"})
    with torch.random.fork_rng(devices=[]):
        loaded: nn.Module = module.load()
    return loaded


def _check_equal(own: nn.Module, standalone: nn.Module, inputs: Sequence[Tensor]) -> None:
    with torch.inference_mode():
        pairs = zip(flat(own(*inputs)), flat(standalone(*inputs)), strict=True)
        difference = max(float((a - b).abs().max() / (1 + a.abs().max())) for a, b in pairs)
    if not difference <= 1e-5:
        raise ExportError(
            f"`model.py` computes something else than the network that was trained: outputs differ by {difference:.3g} "
            "of their range, more than the tolerance of 1e-05; nothing was exported."
        )


def _samples(graph: Graph, task: Task | None) -> list[Tensor]:
    """Real inputs from validation where they fit, otherwise normal noise."""
    shapes = [graph.nodes[i].shape for i in range(len(graph.inputs))]
    if task is not None and len(shapes) == 1 and shapes[0] == task.input_shape:
        images = torch.from_numpy(task.split("validation").images[:SAMPLES].copy()).float() * task.scale
        view = (-1,) + (1,) * (len(shapes[0]) - 1)
        mean, std = torch.tensor(task.mean).view(view), torch.tensor(task.std).view(view)
        if len(images) >= 3:
            return [(images - mean) / std]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SAMPLES, *shape, generator=generator) for shape in shapes]


def _costs(graph: Graph) -> dict[str, float]:
    return {
        "params": graph.params,
        "macs": graph.macs,
        "activations": graph.activations,
        "peak_memory": graph.peak_memory(),
        "irregularity": graph.irregularity,
        "kernels": graph.kernels,
    }


def _readable(architecture: Architecture) -> str:
    """The choices, one a line."""
    if not architecture.choices:
        return str(architecture)
    width = max(map(len, architecture.choices))
    return "\n".join(f"{name:<{width}}  {value!r}" for name, value in architecture.choices.items())


def _shapes(graph: Graph) -> str:
    return ", ".join("x".join(map(str, graph.nodes[i].shape)) for i in range(len(graph.inputs)))


def _metadata(title: str, task: Task | None) -> dict[str, object]:
    if task is None:
        return {"title": title}
    return {"title": title, "classes": list(task.class_names), "mean": list(task.mean), "std": list(task.std)}


def _stored(card: Card, graph: Graph, architecture: Architecture, agreement: Agreement) -> dict[str, object]:
    """`architecture.json`."""
    metrics = {k: asdict(v) if isinstance(v, Interval) else v for k, v in card.metrics.items()}
    return {
        "version": VERSION,
        "kind": "export",
        "title": card.title,
        "architecture": architecture.to_dict(),
        "inputs": {name: list(shape) for name, shape in card.inputs.items()},
        "context": graph.context.to_dict(),
        "costs": dict(card.costs),
        "metrics": metrics,
        "constraints": [{**asdict(c), "verdict": card.verdict(c)} for c in card.constraints],
        "devices": [asdict(proof) for proof in card.proofs],
        "provenance": dict(card.provenance),
        "onnx": asdict(agreement) | {"tolerance": agreement.tolerance},
    }
