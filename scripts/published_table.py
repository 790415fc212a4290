"""Write docs/reference/published.md: every network of tests/golden/published.json, expected and counted now.

python scripts/published_table.py
python scripts/published_table.py --reference ../shared/reference_values.json    renews the golden rows first
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import nasturtium as nas

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "published.json"
PAGE = ROOT / "docs" / "reference" / "published.md"
PICTURES = ROOT / "docs" / "images" / "spaces"
DRAWN = ("nasnet", "darts", "autodeeplab", "nasfpn", "ofa_mobilenetv3")
"""Spaces of which a sample is drawn."""
IMAGENET = [3, 224, 224]
KEPT = ("name", "space", "config", "params", "macs", "input_size", "source", "kind")
"""What a golden row takes over from a reference row, beside further oracles."""
ORACLES = (
    "params_with_aux_head", "penultimate", "activations", "timm_computed", "int8_weight_bytes",
    "int8_weight_plus_int32_bias_bytes", "peak_activation_bytes_inout_residual", "peak_activation_bytes_inplace_dw",
)  # fmt: skip
HEAD = """# Published spaces and networks

Made by `python scripts/published_table.py`; a test checks every row and every size.

Names of timm and torchvision are read by rule, so further multipliers and variants of these families work too:
`nas.zoo.by_name("mobilenetv2_075")`. `nas.zoo.published(row)` takes a whole row of a reference file.
`nasturtium zoo` lists the families, `nasturtium space NAME` shows a space.

## Spaces

Sizes are exact, for the space's own input; "not counted" where conditions make counting infeasible.

| name | what | level | task | size | the paper's figure | paper |
| --- | --- | --- | --- | ---: | --- | --- |
"""
NETWORKS = """
## Networks

Parameters and multiply-accumulates (MACs), expected and counted. Expected values come from official code that was run
and counted by hooks, as the source says; "quoted" ones are printed by their authors.
A MAC is one multiply-accumulate of a convolution or linear weight. pycls prints "flops" that count the biases of the
classifier and of squeeze-and-excitation too; for its rows the expected MACs are those of timm's build of the network.
A dash: no value was given.
"""


def is_golden(row: dict) -> bool:
    """Whether a row states a network that can be built: computed, or printed with its whole configuration."""
    return row["kind"] == "computed" or row["space"] in ("RegNet", "pycls")


def renew(reference: Path) -> None:
    """Take the rows of a reference file into the golden file; networks of libraries that were counted here stay."""
    golden = json.loads(GOLDEN.read_text())
    rows = [row for row in json.loads(reference.read_text())["values"] if is_golden(row)]
    golden["rows"] = [{key: row[key] for key in KEPT + ORACLES if key in row} for row in rows]
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


def expected_macs(row: dict) -> int | None:
    """MACs of a row in our convention, or None."""
    if row["space"] == "RegNet":
        return int(row["timm_computed"]["macs"])
    if row["space"] == "pycls":
        return int(row["macs"]) - 10  # the classifier's biases
    return row["macs"]


def line(row: dict) -> str:
    """One row of the table."""
    size = row["input_size"] or IMAGENET
    graph = nas.trace(nas.zoo.published(row), size)
    macs = expected_macs(row)
    agrees = graph.params == row["params"] and macs in (None, graph.macs)
    library = row["config"]["library"] if row["space"] == "reference-model" else ""
    cells = (
        f"{row['name']} ({library})" if library else row["name"],
        "×".join(map(str, size)) if row["input_size"] else "–",
        f"{row['params']:,}",
        f"{graph.params:,}",
        "–" if macs is None else f"{macs:,}",
        f"{graph.macs:,}",
        row["source"].replace("|", "/") + (" (quoted)" if row.get("kind") == "quoted" else ""),
        "yes" if agrees else "NO",
    )
    return f"| {' | '.join(cells)} |"


def draw(name: str) -> str:
    """Draw a sample of a space; returns its line of the page."""
    shape = nas.zoo.family(name).input_shape
    sample = nas.zoo.space(name).sample(random.Random(0))
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(nas.sketch(sample, shape, title=f"{name}, sample of seed 0", classes=10))
    return f"\n![A sample of {name}](../images/spaces/{name}.svg)"


def size_of(family: nas.zoo.Family) -> str:
    """Exact size of a family's space, as text."""
    return "not counted" if family.size is None else f"{family.size:,}"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", type=Path, help="renew the golden rows from this file first")
    reference = parser.parse_args().reference
    if reference is not None:
        renew(reference)
    golden = json.loads(GOLDEN.read_text())
    groups: dict[str, list[dict]] = defaultdict(list)
    for row in golden["rows"] + golden["unseen"]:
        groups["By name" if row["space"] == "reference-model" else row["space"]].append(row)
    spaces = [
        f"| `{f.name}` | {f.title} | {f.level} | {f.task} | {size_of(f)} | {f.quoted_size or '–'} | {f.paper} |"
        for f in nas.zoo.FAMILIES
        if f.space is not None
    ]
    drawings = ["\nSamples, drawn as `nasturtium space NAME --svg FILE` draws them:", *map(draw, DRAWN)]
    parts = [HEAD + "\n".join(spaces), *drawings, NETWORKS]
    matched = 0
    for title, rows in groups.items():
        lines = [line(row) for row in rows]
        agree = sum(text.endswith("yes |") for text in lines)
        matched += agree
        print(f"{title}: {agree} of {len(lines)}")
        parts.append(f"\n### {title}\n\n{agree} of {len(lines)} agree.\n")
        parts.append("| network | input | parameters, expected | got | MACs, expected | got | source | agrees |")
        parts.append("| --- | --- | ---: | ---: | ---: | ---: | --- | --- |")
        parts += lines
    PAGE.write_text("\n".join(parts) + "\n")
    print(f"{PAGE.relative_to(ROOT)}: {matched} of {sum(map(len, groups.values()))} networks agree")


if __name__ == "__main__":
    main()
