"""The sketch of a network: each operation of a cell is there, equal parts are one, nothing overlaps or is cut."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest

import nasturtium as nas
from nasturtium.graph.layout import Spot, layered
from nasturtium.graph.levels import record
from nasturtium.graph.outline import outline
from nasturtium.graph.sketch import sketch
from nasturtium.graph.svg import text_width
from nasturtium.zoo import nasbench201

SVG = "{http://www.w3.org/2000/svg}"
TEXT = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
SHAPES = {"autodeeplab": (3, 128, 128), "nasfpn": (3, 256, 256)}


def drawn(block, shape=(3, 32, 32), **context):
    svg = sketch(block, shape, **({"classes": 10} | context))
    root = ET.fromstring(svg)
    assert "<script" not in svg
    assert "href" not in svg
    return svg, root


def texts(root):
    return [t.text for t in root.iter(f"{SVG}text")]


def boxes(root):
    """(x, y, width, height, texts) of every drawn part, in the picture's coordinates."""
    found = []

    def walk(element, dx, dy):
        move = re.match(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
        if move:
            dx, dy = dx + float(move[1]), dy + float(move[2])
        if element.tag == f"{SVG}g" and element.find(f"{SVG}title") is not None:
            rects = [r for r in element.findall(f"{SVG}rect") if r.get("fill") != "none"]
            if rects:
                wide = max(rects, key=lambda r: float(r.get("width")) * float(r.get("height")))
                x, y, w, h = (float(wide.get(k)) for k in ("x", "y", "width", "height"))
            else:
                circle = element.find(f"{SVG}circle")
                r = float(circle.get("r"))
                x, y, w, h = float(circle.get("cx")) - r, float(circle.get("cy")) - r, 2 * r, 2 * r
            own = [(t.text, t) for t in element.findall(f"{SVG}text")]
            found.append((x + dx, y + dy, w, h, [(text, float(t.get("x")) + dx, t) for text, t in own]))
        for child in element:
            walk(child, dx, dy)

    walk(root, 0.0, 0.0)
    return found


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_every_space_is_drawn_without_overlaps_and_within_the_picture(name):
    space = nas.zoo.space(name)
    default = nas.zoo.SPACES[name].__defaults__[0]
    architecture = space.sample(random.Random(1))
    shape = SHAPES.get(name, default or (3, 32, 32))
    svg, root = drawn(architecture, shape)
    assert svg == sketch(architecture, shape, classes=10)
    width, height = float(root.get("width")), float(root.get("height"))
    found = boxes(root)
    for x, y, w, h, lines in found:
        assert min(x, y, width - x - w, height - y - h) >= 0
        for text, at, element in lines:
            size = text_width(text, float(element.get("font-size")), bold=element.get("font-weight") is not None)
            anchor = {"middle": 0.5, "end": 1.0}.get(element.get("text-anchor"), 0.0)
            left = at - anchor * size
            assert min(left - x, x + w - left - size) > -0.1, text
    for (ax, ay, aw, ah, _), (bx, by, bw, bh, _) in combinations(found, 2):
        apart = ax + aw <= bx + 0.1 or bx + bw <= ax + 0.1 or ay + ah <= by + 0.1 or by + bh <= ay + 0.1
        assert apart, ((ax, ay, aw, ah), (bx, by, bw, bh))


def test_a_cell_is_drawn_once_with_all_its_operations_and_its_places():
    _, root = drawn(nasbench201.network(TEXT))
    found = texts(root)
    assert {"conv 3×3", "none", "skip", "avg pool 3×3", "conv 1×1"} <= set(found)
    assert found.count("avg pool 3×3") == found.count("skip") == 1
    assert found.count("Cell") == 3 + 1
    assert found.count("×5") == 3
    assert "15 places" in found
    assert {"16×32×32", "64×8×8"} <= set(found)


def test_equal_neighbours_of_a_chain_are_one_box_with_their_number():
    block = nas.Sequential(nas.Conv(8), nas.repeat(nas.MBConv(8, expand=3), 4), nas.Classifier())
    run = record(block, (3, 16, 16), {"classes": 10})
    units = outline(run).units
    assert [(u.title, u.count) for u in units] == [("conv 3×3", 1), ("MBConv 3×3, expand 3", 4), ("Classifier", 1)]
    assert [u.is_residual for u in units] == [False, True, False]
    assert outline(run).cells == []


def test_widths_and_shapes_do_not_make_two_cells_of_one():
    run = record(nasbench201.network(TEXT), (3, 32, 32), {"classes": 10})
    cells = outline(run).cells
    assert [(c.title, c.places) for c in cells] == [("Cell", 15), ("Reduction", 2)]
    assert len([p for p in cells[0].parts if not p.join]) == 6


def test_inputs_of_a_cell_are_named_by_what_makes_them():
    class Pair(nas.Block):
        first: object
        second: object

        def forward(self, before, x):
            return self.first(before) + self.second(x)

    class Net(nas.Block):
        cell: object

        def forward(self, x):
            with x.scope("stem"):
                before = x = nas.ops.conv(x, 4)
            for number in range(4):
                with x.scope(f"cells.{number}"):
                    before, x = x, self.cell(before, x)
            return x

    block = Net(Pair(nas.Conv(kernel=3), nas.Conv(kernel=5)))
    (cell,) = outline(record(block, (3, 8, 8), {})).cells
    assert cell.inputs == ["cell before", "previous cell"]
    assert (cell.title, cell.places) == ("Cell", 4)
    assert [p.caption.text for p in cell.parts if not p.join] == ["conv 3×3", "conv 5×5"]


def test_a_block_may_name_itself():
    class Named(nas.Block):
        label = "my <own> block"

        def forward(self, x):
            return nas.ops.conv(nas.ops.conv(x, 4, name="first"), 4, name="second")

    _, root = drawn(nas.Sequential(nas.Conv(4), Named()), (3, 8, 8))
    assert "my <own> block" in texts(root)


def test_scopes_are_parts_of_the_outline():
    class Net(nas.Block):
        def forward(self, x):
            for number in range(3):
                with x.scope(f"module.{number}"):
                    ys = [nas.ops.conv(x, 4, k, name=f"conv_{k}") for k in (1, 3, 5)]
                    x = nas.ops.concat(*ys)
            return x

    drawing = outline(record(Net(), (12, 8, 8), {}))
    assert [(u.title, u.count) for u in drawing.units] == [("Module", 3)]
    assert drawing.cells[0].places == 3


def test_a_block_alone_is_drawn_from_the_inside():
    _, root = drawn(nas.MBConv(8, expand=3, se=0.25), (8, 8, 8))
    assert {"input", "output", "conv 1×1", "+"} <= set(texts(root))
    _, root = drawn(nasbench201.network(TEXT).cell, (16, 8, 8))
    assert {"conv 3×3", "none", "skip", "avg pool 3×3", "conv 1×1"} <= set(texts(root))


@pytest.mark.parametrize("pack", [lambda x: (x, x), lambda x: {"a": x, "b": x}], ids=["tuple", "dict"])
def test_a_block_that_only_hands_on_its_inputs_is_not_drawn(pack):
    class Pair(nas.Block):
        def forward(self, x):
            return pack(x)

    class Squared(nas.Block):
        def forward(self, x):
            made = Pair()(x)
            a, b = made.values() if isinstance(made, dict) else made
            return a * b

    class Inside(nas.Block):
        def forward(self, x):
            with x.scope("part"):
                made = Pair()(x)
                a, _ = made.values() if isinstance(made, dict) else made
                return nas.ops.conv(a, 4, 3)

    for block, found in ((Squared(), "gate"), (Inside(), "conv 3×3")):
        _, root = drawn(block, (8, 8, 8))
        assert any(found in text for text in texts(root)), texts(root)


@pytest.mark.parametrize(
    "pool",
    [
        nas.ops.global_pool,
        lambda x: nas.ops.global_pool(x, "max"),
        lambda x: nas.ops.adaptive_avg_pool(x, 1),
        lambda x: nas.ops.avg_pool(x, 8),
    ],
    ids=["global avg", "global max", "adaptive", "window"],
)
def test_a_head_written_by_hand_is_a_classifier(pool):
    class Net(nas.Block):
        def forward(self, x):
            x = nas.ops.activation(nas.ops.batch_norm(nas.ops.conv(x, 8, 3)))
            return nas.ops.linear(nas.ops.flatten(pool(x)), 10)

    units = outline(record(Net(), (3, 8, 8), {})).units
    assert [u.title for u in units] == ["conv 3×3", "Classifier"]


def test_texts_are_valid_xml_whatever_they_hold():
    class Named(nas.Block):
        label = "nul \x00, <tag>, lone \ud800"

        def forward(self, x):
            return nas.ops.conv(nas.ops.conv(x, 4, name="first"), 4, name="second")

    _, root = drawn(nas.Sequential(nas.Conv(4), Named()), (3, 8, 8), title="a\x01 & \uffff")
    assert "nul \ufffd, <tag>, lone \ufffd" in texts(root)
    assert "a\ufffd & \ufffd" in texts(root)
    assert root.find(f"{SVG}title").text == "a\ufffd & \ufffd"


def test_a_title_must_be_a_text():
    with pytest.raises(nas.errors.InvalidInputError, match=r"`title` must be a text or None, got 3 of type int"):
        sketch(nas.Conv(4), (3, 8, 8), title=3)


def test_bottlenecks_are_told_by_their_operations():
    run = record(nas.zoo.regnet.RegNet(13, 24, 36.44, 2.49, 8, se=0.25), (3, 64, 64), {"classes": 10})
    titles = [u.title for u in outline(run).units]
    assert titles[1] == "Bottleneck 3×3, 3 groups, SE /2"
    assert not any(title.startswith("Stage") for title in titles)


@pytest.mark.parametrize(
    ("hidden", "groups", "text"),
    [(4, 1, "Bottleneck 3×3"), (4, 4, "Bottleneck 3×3, depthwise"), (16, 16, "MBConv 3×3, expand 2")],
)
def test_a_bottleneck_is_narrow_in_the_middle(hidden, groups, text):
    class Residual(nas.Block):
        def forward(self, x):
            y = nas.ops.conv(x, hidden, 1, name="reduce")
            y = nas.ops.conv(y, hidden, 3, groups=groups, name="window")
            return x + nas.ops.conv(y, x.channels, 1, name="expand")

    run = record(nas.Sequential(Residual(), Residual()), (8, 8, 8), {})
    assert [(u.title, u.count, u.is_residual) for u in outline(run).units] == [(text, 2, True)]


def test_what_is_no_bottleneck_is_not_called_one():
    class Crossed(nas.Block):
        """As many operations, but the sum does not take the input."""

        def forward(self, x):
            y = nas.ops.conv(x, 4, 1, name="first")
            z = nas.ops.conv(nas.ops.conv(y, 4, 3, name="window"), 8, 1, name="last")
            return z + nas.ops.conv(y, 8, 1, name="side")

    run = record(nas.Sequential(Crossed(), Crossed()), (8, 8, 8), {})
    assert not any("Bottleneck" in u.title for u in outline(run).units)


def levels_of(root):
    """Strides of the rows with their heights in the picture, from above."""
    marks = [t for t in root.iter(f"{SVG}text") if t.text.startswith("stride ")]
    rows = [(float(t.get("y")), int(t.text.split()[1])) for t in marks]
    return [stride for _, stride in sorted(rows)]


def test_rows_of_a_trellis_are_ordered_by_resolution():
    space = nas.zoo.space("autodeeplab")
    samples = (space.sample(random.Random(seed)) for seed in range(50))
    _, root = drawn(next(a for a in samples if len(set(a.choices["path"])) == 4), (3, 128, 128))
    assert levels_of(root) == [1, 4, 8, 16, 32]
    assert {f"cell {i}" for i in range(1, 13)} <= set(texts(root))


def test_a_pyramid_stands_on_a_grid_with_its_levels():
    architecture = nas.zoo.space("nasfpn").sample(random.Random(2))
    _, root = drawn(architecture, (3, 256, 256))
    assert levels_of(root) == [8, 16, 32, 64, 128]
    assert {"P3", "P4", "P5", "P6", "P7"} <= set(texts(root))


def test_what_serves_training_only_stands_aside():
    block = nas.zoo.darts.network("DARTS_V2", layers=8, width=8, auxiliary=True)
    _, root = drawn(block)
    assert sum("training only" in text for text in texts(root)) == 1


def test_errors_are_those_of_trace():
    with pytest.raises(nas.errors.TraceError, match="open choices"):
        sketch(nas.Conv(nas.one_of(4, 8)), (3, 8, 8))
    with pytest.raises(nas.errors.ShapeError):
        sketch(nas.Conv(4, kernel=9, padding="valid"), (3, 4, 4))


def test_an_architecture_draws_itself_in_a_notebook():
    architecture = nas.zoo.space("nasbench201").sample(random.Random(0))
    ET.fromstring(architecture._repr_svg_())
    assert "input 3×224×224, 10 classes" in architecture._repr_svg_()
    flat = nas.space.Architecture.of(nas.Conv(4, kernel=3))
    assert flat._repr_svg_() is not None

    class Vectors(nas.Block):
        def forward(self, x):
            return nas.ops.linear(x, 3)

    assert nas.space.Architecture.of(Vectors())._repr_svg_() is None


def test_layout_keeps_columns_and_distances():
    rng = random.Random(3)
    for _ in range(20):
        spots = [Spot(20 + rng.random() * 50, 10 + rng.random() * 20, []) for _ in range(3)]
        for n in range(3, 25):
            sources = sorted(rng.sample(range(n), rng.randint(1, 3)))
            spots.append(Spot(20 + rng.random() * 50, 10 + rng.random() * 20, sources))
        layout = layered(spots, last=[24])
        for column in layout.columns:
            for a, b in pairwise(column):
                upper, lower = layout.spots[a], layout.spots[b]
                assert upper.y + upper.height / 2 < lower.y - lower.height / 2
        for spot in layout.spots:
            assert all(layout.spots[s].layer == spot.layer - 1 for s in spot.sources)
        assert len({s.layer for s in layout.spots if not s.is_lane}) > 1
