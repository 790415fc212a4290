"""The standalone `model.py`: the network's classes, its constants, `load`, and a small command."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from nasturtium.errors import ExportError
from nasturtium.export.constructors import is_installed, is_under_packages
from nasturtium.export.source import Source, broken, literal
from nasturtium.graph.graph import Graph
from nasturtium.graph.operations import Opaque
from nasturtium.model import opaque
from nasturtium.space.block import Block
from nasturtium.tasks import Task

LOAD = '''
def load(path=Path(__file__).with_name("weights.safetensors")):
    """The trained network, in evaluation mode."""
    model = Network()
    model.load_state_dict(load_file(path))
    return model.eval()
'''

PREDICT = '''
def preprocess(image):
    """A picture (PIL) as the network's input, `(1, channels, height, width)`."""
    channels, height, width = INPUT_SHAPE
    image = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32).view(1, height, width, channels)
    x = pixels.permute(0, 3, 1, 2) / 255
    mean = torch.tensor(MEAN).view(1, channels, 1, 1)
    std = torch.tensor(STD).view(1, channels, 1, 1)
    return (x - mean) / std


def main(paths):
    """Print the class of each picture, with its probability."""
    from PIL import Image  # only needed here: `pip install pillow`

    model = load()
    for path in paths:
        with torch.inference_mode():
            probabilities = model(preprocess(Image.open(path))).softmax(1)[0]
        best = int(probabilities.argmax())
        print(f"{path}: {CLASSES[best]} ({probabilities[best]:.1%})")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python model.py PICTURE...")
    main(sys.argv[1:])
'''

SOURCE_LOADER = '''
def _beside(name):
    """Import a file that lies beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
'''


def block_names(block: Block | None) -> dict[str, str]:
    """Type name of each block by its path: {"layers.2": "MBConv"}."""
    names: dict[str, str] = {}

    def visit(block: Block, prefix: str) -> None:
        places = block.child_paths()
        for value in block.values:
            for child in _blocks(value):
                for path in places.get(id(child), ()):
                    if prefix + path not in names:
                        names[prefix + path] = type(child).__name__
                        visit(child, f"{prefix}{path}.")

    if block is not None:
        visit(block, "")
    return names


def _blocks(value: object) -> list[Block]:
    if isinstance(value, Block):
        return [value]
    return [b for item in value for b in _blocks(item)] if isinstance(value, tuple) else []


def takes_pictures(graph: Graph, task: Task | None) -> bool:
    """Whether the script can classify a picture file."""
    shapes = [graph.nodes[i].shape for i in range(len(graph.inputs))]
    return (
        task is not None
        and graph.structure == 0
        and len(shapes) == 1
        and len(shapes[0]) == 3
        and shapes[0][0] in (1, 3)
    )


def script(graph: Graph, *, block: Block | None, task: Task | None, title: str) -> tuple[str, dict[str, str]]:
    """The text of `model.py`, and the texts of the users' files that it needs beside it.

    Args:
        graph: The network.
        block: What it was traced from; its types name the classes.
        task: Gives the classes' names and the normalisation.
        title: First line of the file.

    Raises:
        ExportError: an operation, or a user's module, cannot leave the house.
    """
    source = Source(graph, block_names(block))
    files = user_files(graph)
    body = "\n\n".join([*source.helpers(), *source.classes()])
    pictures = takes_pictures(graph, task)
    needs = " and ".join(["torch and safetensors", *needed_packages(graph)])
    lines = [f'"""{title}', "", f"Needs {needs}; not Nasturtium.", "", *_usage(pictures=pictures), '"""', ""]
    lines += _imports(graph, body, files, pictures=pictures)
    lines += [""] + [line for text in _constants(graph, task) for line in broken(text)]
    if files:
        lines += ["", SOURCE_LOADER, "", *[f'{name} = _beside("{name}")' for name in files]]
    text = "\n".join(lines) + "\n\n\n" + body + "\n" + LOAD + ("\n" + PREDICT if pictures else "")
    return text, files


def _usage(*, pictures: bool) -> list[str]:
    lines = ["    import model", "    network = model.load()"]
    return [*lines, "", "    python model.py picture.png"] if pictures else lines


def _imports(graph: Graph, body: str, files: Mapping[str, str], *, pictures: bool) -> list[str]:
    lines = ["import importlib.util"] if files else []
    lines += ["import sys"] if pictures else []
    lines += (
        ["from pathlib import Path", "", "import torch"]
        if "torch." in body or pictures
        else ["from pathlib import Path", ""]
    )
    lines += ["import torch.nn.functional as F"] if "F." in body else []
    outside = {
        n.operation.target.partition(":")[0]
        for n in graph.nodes
        if isinstance(n.operation, Opaque) and is_installed(n.operation.target)
    }
    lines += sorted(f"import {module}" for module in outside if module.split(".")[0] != "torch" or module.count("."))
    lines += ["from safetensors.torch import load_file", "from torch import nn"]
    return lines


def _constants(graph: Graph, task: Task | None) -> list[str]:
    shapes = [graph.nodes[i].shape for i in range(len(graph.inputs))]
    lines = [f"INPUT_SHAPE = {shapes[0]!r}" if len(shapes) == 1 else f"INPUT_SHAPES = {tuple(shapes)!r}"]
    if task is not None:
        lines.append(f"CLASSES = ({', '.join(map(literal, task.class_names))})")
        lines.append(f"MEAN = {tuple(round(float(v), 7) for v in task.mean)!r}")
        lines.append(f"STD = {tuple(round(float(v), 7) for v in task.std)!r}")
    return lines


def needed_packages(graph: Graph) -> list[str]:
    """Installed packages, other than PyTorch, that the users' modules in a network come from."""
    targets = {n.operation.target for n in graph.nodes if isinstance(n.operation, Opaque)}
    return sorted({t.split(":")[0].split(".")[0] for t in targets if is_installed(t)} - {"torch"})


def user_files(graph: Graph) -> dict[str, str]:
    """Source files of the users' modules in a network, by the name under which `model.py` imports them.

    Raises:
        ExportError: a file needs other files of the user, which are not copied, or Nasturtium itself.
    """
    files: dict[str, Path] = {}
    for target in dict.fromkeys(n.operation.target for n in graph.nodes if isinstance(n.operation, Opaque)):
        if is_installed(target):
            continue
        path = opaque.source_file(target)
        if files.setdefault(path.stem, path) != path or path.stem == "model":
            raise ExportError(f"{target!r} lies in {path}, whose name is taken in the export: rename that file.")
        _check_imports(target, path)
    return {name: path.read_text(encoding="utf-8") for name, path in files.items()}


def _check_imports(target: str, path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        for name in names:
            if not _is_available(name.split(".")[0]):
                raise ExportError(
                    f"{target!r} cannot be exported: its file {path} imports {name!r} (line {node.lineno}), which "
                    "would not be there. Keep the module in a file that imports only PyTorch, the standard library and "
                    "installed packages."
                )


def _is_available(package: str) -> bool:
    """Whether an import works on another machine with the packages installed."""
    if package in sys.stdlib_module_names or package == "torch":
        return True
    spec = find_spec(package) if package and package != "nasturtium" else None
    return spec is not None and spec.origin is not None and is_under_packages(Path(spec.origin))
