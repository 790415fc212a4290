"""Write docs/reference/published.md: the networks of tests/golden/published.json, counted now.

python scripts/published_table.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import nasturtium as nas

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Published networks

Parameters and multiply-accumulates (MACs) that Nasturtium counts, against the published value or one counted by hooks
on the reference implementation. Made by `python scripts/published_table.py`; a test checks every row.

Names of timm and torchvision are read by rule, so further multipliers and variants of these families work too:
`nas.zoo.by_name("mobilenetv2_075")`. `nas.zoo.published(row)` takes a whole row of the reference file.
"""


def line(row: dict) -> str:
    """One row of the table."""
    size = row["input_size"] or [3, 224, 224]
    graph = nas.trace(nas.zoo.published(row), size)
    agrees = graph.params == row["params"] and row["macs"] in (None, graph.macs)
    library = row["config"]["library"] if row["space"] == "reference-model" else ""
    name = f"{row['name']} ({library})" if library else row["name"]
    macs = f"{graph.macs:,}" if row["macs"] is not None else "–"
    return f"| {name} | {'×'.join(map(str, size))} | {graph.params:,} | {macs} | {'yes' if agrees else 'NO'} |"


def main() -> None:
    """Write the page."""
    golden = json.loads((ROOT / "tests" / "golden" / "published.json").read_text())
    groups: dict[str, list[dict]] = defaultdict(list)
    for row in golden["rows"] + golden["unseen"]:
        groups["By name" if row["space"] == "reference-model" else row["space"]].append(row)
    parts = [HEAD]
    parts.append("## Spaces\n\n| name | what | level | size | paper |\n| --- | --- | --- | ---: | --- |")
    for family in nas.zoo.FAMILIES:
        if family.name in nas.zoo.SPACES:
            size = f"{family.size:,}" if family.size is not None else family.quoted_size
            parts.append(f"| `{family.name}` | {family.title} | {family.level} | {size} | {family.paper} |")
    for title, rows in groups.items():
        lines = [line(row) for row in rows]
        matched = sum(text.endswith("yes |") for text in lines)
        parts.append(f"\n## {title}\n\n{matched} of {len(lines)} agree.\n")
        parts.append("| network | input | parameters | MACs | agrees |\n| --- | --- | ---: | ---: | --- |")
        parts += lines
    path = ROOT / "docs" / "reference" / "published.md"
    path.write_text("\n".join(parts) + "\n")
    print(f"{path.relative_to(ROOT)}: {sum(map(len, groups.values()))} networks")


if __name__ == "__main__":
    main()
