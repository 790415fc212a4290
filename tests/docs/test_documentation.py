"""Every code block of the documentation runs, page by page, in order, in an empty folder.

```python blocks of a page share one interpreter; ```bash blocks run under `bash -e` with this environment's commands.
A block whose fence says `no-run` is not run and must say why on the line before; one whose fence says
`title="NAME"` is a file: it is written there before the others run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
LONG = {
    "docs/explanation/strategies.md", "docs/how-to/compare-strategies.md", "docs/how-to/low-fidelity.md",
    "docs/how-to/own-block.md", "docs/how-to/own-space.md", "docs/how-to/own-strategy.md",
    "docs/tutorials/first-search.md", "docs/how-to/search-under-latency.md", "docs/how-to/rewards.md",
    "docs/how-to/share-weights.md", "docs/how-to/zero-cost.md", "docs/how-to/own-data.md", "docs/how-to/own-table.md",
    "docs/how-to/weight-inheritance.md",
}  # fmt: skip
"""Pages whose blocks take long; `make test-slow` runs them."""
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUNNER = """
import json, sys
namespace = {"__name__": "__page__"}
for number, (line, code) in enumerate(json.load(sys.stdin)):
    source = "\\n" * line + code
    exec(compile(source, sys.argv[1], "exec"), namespace)
"""


def blocks(page: Path, language: str):
    text = page.read_text()
    for match in FENCE.finditer(text):
        if match[1] == language and "no-run" not in match[2] and "title=" not in match[2]:
            yield text[: match.start()].count("\n") + 1, match[3]


def files(page: Path):
    for match in FENCE.finditer(page.read_text()):
        title = re.search(r'title="([\w.]+)"', match[2])
        if title:
            yield title[1], match[3]


def environment() -> dict[str, str]:
    binaries = Path(sys.executable).parent
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "110"}


def marked(page: Path):
    name = str(page.relative_to(ROOT))
    return pytest.param(page, id=name, marks=[pytest.mark.slow] if name in LONG else [])


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_code_blocks_run(page: Path, tmp_path: Path):
    import json

    for name, text in files(page):
        (tmp_path / name).write_text(text)
    for line, code in blocks(page, "bash"):
        if code.lstrip().startswith(("make ", "git clone", "pip ")):
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{page.name}:{line}\n{code}\n{done.stdout}\n{done.stderr}"
    python = list(blocks(page, "python"))
    if python:
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(page)], input=json.dumps(python), cwd=tmp_path, env=environment(),
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}\n{done.stdout}\n{done.stderr}"


def test_links_inside_the_documentation_exist():
    links = [(p, target) for p in PAGES for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", p.read_text())]
    assert not [f"{p.relative_to(ROOT)} -> {target}" for p, target in links if not (p.parent / target).exists()]


def test_lecture_map_names_symbols_and_commands_that_exist():
    import importlib

    import nasturtium as nas
    from nasturtium.cli.app import COMMANDS

    text = (ROOT / "docs/lecture.md").read_text()
    symbols = re.findall(r"`nas\.([A-Za-z_.0-9]+)", text)
    assert symbols
    for symbol in symbols:
        value: object = nas
        path = "nasturtium"
        for part in symbol.rstrip(".").split("."):
            path += f".{part}"
            try:
                value = getattr(value, part)
            except AttributeError:
                value = importlib.import_module(path)
    commands = re.findall(r"`nasturtium (\w+)", text)
    assert commands
    assert set(commands) <= set(COMMANDS)
