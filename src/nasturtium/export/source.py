"""Readable PyTorch source of a graph: equal parts become one class, and what differs between them its arguments."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nasturtium.export.constructors import DROP_PATH, HALF_KERNEL, Argument, Constructor, Expression
from nasturtium.export.parts import Parts, Step
from nasturtium.graph.graph import Graph
from nasturtium.model.build import evaluation_structure

Path = tuple[str, ...]
WIDTH = 110
"""Longest line that is not broken."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a class's constructor where a number stands: in which child, as which argument, of what kind."""

    child: str
    argument: str
    kind: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a generated class; the slots at `positions` take it."""

    name: str
    kind: str
    positions: tuple[int, ...]
    default: object = None


@dataclass(slots=True)
class Member:
    """A child: a layer, a generated class, or a container of children."""

    kind: str
    """"layer", "class", "wrapper" (a class that is given its layers), or the name of a container of PyTorch."""
    path: Path
    constructor: Constructor | None = None
    children: dict[str, Member] = field(default_factory=dict)
    number: int = -1
    """Of the class."""


@dataclass(slots=True)
class Kind:
    """A class to be written, with all parts that are of it."""

    number: int
    first: Path
    members: dict[str, Member]
    lines: list[str]
    inputs: list[str]
    instances: list[dict[str, Member]] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    values: list[list[object]] = field(default_factory=list)
    """Values at the slots, for each instance."""
    parameters: list[Parameter] = field(default_factory=list)
    name: str = ""
    residual: bool = False
    wraps: str = ""
    """Name of the `nn.Sequential` that is all it has; its instances are given their layers."""


class Source:
    """Writes the classes of a network.

    Args:
        graph: What to write.
        names: Type name of the block at each path ("layers.2" -> "MBConv"), where known.
    """

    def __init__(self, graph: Graph, names: Mapping[str, str]) -> None:
        self.graph = graph
        self.parts = Parts(graph)
        self.names = names
        self.kinds: list[Kind] = []
        self._by_key: dict[object, Kind] = {}
        self._class(())
        for kind in self.kinds:
            self._parametrise(kind)
            kind.name = self._class_name(kind)

    def helpers(self) -> list[str]:
        """Definitions that the classes need."""
        texts = [t for t in self.parts.texts.values() if isinstance(t, Expression) and t.helper]
        found = {t.helper for t in texts if isinstance(t, Expression)}
        if any(isinstance(t, Constructor) and t.name == "DropPath" for t in self.parts.texts.values()):
            found.add(DROP_PATH)
        return sorted(found)

    def classes(self) -> list[str]:
        """Source of each class, inner ones first."""
        return [self._text(kind) for kind in self.kinds]

    # What each part is

    def _class(self, path: Path) -> tuple[Kind, dict[str, Member]]:
        """The class of a part, which equal parts share, and the part's own children."""
        nodes = self.parts.occurrences[path][0] if path else tuple(self.parts.nodes)
        members = {name: self._member((*path, name), children) for name, children in self.parts.children(path).items()}
        inputs, lines, residual = self._forward(path, nodes)
        wraps = next(iter(members), "") if path and len(members) == 1 else ""
        if wraps and members[wraps].kind == "nn.Sequential" and lines == [f"return self.{wraps}(x)"]:
            return self._wrapper(path, wraps), members
        key = (tuple((n, self._key(m)) for n, m in members.items()), tuple(lines), tuple(inputs))
        kind = self._by_key.get(key)
        if kind is None:
            kind = Kind(len(self.kinds), path, members, lines, inputs, residual=residual)
            self._by_key[key] = kind
            self.kinds.append(kind)
        kind.instances.append(members)
        return kind, members

    def _wrapper(self, path: Path, child: str) -> Kind:
        """The class of parts that are one chain of layers, whatever layers."""
        kind = self._by_key.get(child)
        if kind is None:
            kind = Kind(len(self.kinds), path, {}, [f"return self.{child}(x)"], ["x"], wraps=child)
            self._by_key[child] = kind
            self.kinds.append(kind)
        return kind

    def _member(self, path: Path, nodes: tuple[int, ...]) -> Member:
        if self.parts.names[nodes[0]] == path:
            text = self.parts.texts[nodes[0]]
            assert isinstance(text, Constructor)
            return Member("layer", path, constructor=text)
        if self.parts.is_module(path) and path not in self.parts.sequential:
            kind, members = self._class(path)
            if kind.wraps:
                return Member("wrapper", path, children=members[kind.wraps].children, number=kind.number)
            return Member("class", path, number=kind.number)
        children = {n: self._member((*path, n), inside) for n, inside in self.parts.children(path).items()}
        if path not in self.parts.numbered:
            return Member("nn.ModuleDict", path, children=children)
        holder = "nn.Sequential" if path in self.parts.sequential else "nn.ModuleList"
        empty = Constructor("nn.Identity")  # a block that adds nothing keeps its number
        count = max(map(int, children), default=-1) + 1
        numbered = {
            str(i): children.get(str(i)) or Member("layer", (*path, str(i)), constructor=empty) for i in range(count)
        }
        return Member(holder, path, children=numbered)

    def _key(self, member: Member) -> object:
        """Equal for members that differ in numbers only."""
        if member.constructor is not None:
            made = member.constructor
            shape = [(a.name, a.value if a.value == HALF_KERNEL or _is_word(a.value) else None) for a in made.arguments]
            return made.name, tuple(shape), made.padded
        return member.kind, member.number, tuple((n, self._key(m)) for n, m in member.children.items())

    # What varies

    def _slots(self, member: Member, child: str) -> Iterator[tuple[Slot, object]]:
        """Numbers in a member, in the order in which it is written."""
        if member.constructor is not None:
            for argument in member.constructor.arguments:
                yield Slot(child, argument.name, argument.kind), argument.value
        elif member.kind == "class":
            kind = self.kinds[member.number]
            values = kind.values[self._instance(kind, member.path)]
            for parameter in kind.parameters:
                yield Slot(child, parameter.name, parameter.kind), values[parameter.positions[0]]
        else:
            for name, inner in member.children.items():
                yield from self._slots(inner, f"{child}_{name}")

    def _instance(self, kind: Kind, path: Path) -> int:
        for number, members in enumerate(kind.instances):
            if all(m.path[:-1] == path for m in members.values()):
                return number
        raise AssertionError(path)

    def _parametrise(self, kind: Kind) -> None:
        """Find which numbers differ between the instances of a class, and name them."""
        for members in kind.instances:
            pairs = [pair for name, member in members.items() for pair in self._slots(member, name)]
            kind.slots = [slot for slot, _ in pairs]
            kind.values.append([value for _, value in pairs])
        groups: dict[object, list[int]] = {}
        for position, slot in enumerate(kind.slots):
            column = tuple(repr(values[position]) for values in kind.values)
            if len(set(column)) > 1:
                groups.setdefault((slot.kind, column), []).append(position)
        names: Counter[str] = Counter()
        for positions in sorted(groups.values(), key=lambda p: _rank(self._wish(kind, p))):
            name = self._wish(kind, positions)
            if names[name]:
                name = f"{_identifier(kind.slots[positions[0]].child)}_{kind.slots[positions[0]].argument}"
            names[name] += 1
            name = f"{name}_{names[name]}" if names[name] > 1 else name
            column_values = [values[positions[0]] for values in kind.values]
            common, count = Counter(map(repr, column_values)).most_common(1)[0]
            default = next(v for v in column_values if repr(v) == common)
            usual = count * 2 > len(column_values) and kind.slots[positions[0]].kind != "channels"
            if name == "groups" and 1 in column_values:
                default, usual = 1, True
            kind.parameters.append(
                Parameter(name, kind.slots[positions[0]].kind, tuple(positions), default if usual else None)
            )
        kind.parameters.sort(key=lambda p: p.default is not None)

    @staticmethod
    def _wish(kind: Kind, positions: list[int]) -> str:
        """The best name for the slots at these positions."""
        into = [i for i, s in enumerate(kind.slots) if s.argument in ("in_channels", "in_features", "channels")]
        out = [i for i, s in enumerate(kind.slots) if s.argument in ("out_channels", "out_features", "channels")]
        first = kind.slots[positions[0]]
        if first.kind != "channels":
            return first.argument
        takes, gives = bool(into) and into[0] in positions, bool(out) and out[-1] in positions
        if takes or gives:
            return "channels" if takes and gives else "in_channels" if takes else "out_channels"
        makes = next((kind.slots[p] for p in positions if p in out), None)
        if makes is not None:
            return f"{_identifier(makes.child)}_channels"
        return "channels" if first.argument.startswith("num_") and not into else first.argument

    def _class_name(self, kind: Kind) -> str:
        taken = {k.name for k in self.kinds if k is not kind}
        if not kind.first:
            return "Network"
        base = self.names.get(".".join(kind.first), "")
        if not base and all(m.kind == "layer" for m in kind.members.values()) and 0 < len(kind.members) <= 4:
            kinds = [m.constructor.name for m in kind.members.values() if m.constructor is not None]
            base = "".join(_SHORT.get(k, k.rpartition(".")[2]) for k in kinds)
        if not base:
            words = [w for w in kind.first if not w.isdecimal()]
            base = "".join(w.capitalize() for w in re.split(r"[_\W\d]+", words[-1] if words else "part")) or "Part"
        if base in taken and kind.residual:
            base = f"{base}Residual"
        return _free(base, taken | _RESERVED)

    # Text

    def _text(self, kind: Kind) -> str:
        values = kind.values[0] if kind.values else []
        texts: list[str] = [literal(value) for value in values]
        for parameter in kind.parameters:
            for position in parameter.positions:
                texts[position] = parameter.name
        rest = iter(zip(texts, values, strict=True))
        body: list[str] = []
        for name, member in kind.members.items():
            body += _assignment(f"self.{name}", self._written(member, rest))
        if kind.wraps:
            body = [f"self.{kind.wraps} = nn.Sequential(*{kind.wraps})"]
        lines = [f"class {kind.name}(nn.Module):"]
        if body:
            signature = ["self", *([f"*{kind.wraps}"] if kind.wraps else [])]
            signature += [p.name if p.default is None else f"{p.name}={literal(p.default)}" for p in kind.parameters]
            *opened, last = broken(f"def __init__({', '.join(signature)})")
            lines += ["    " + line for line in (*opened, last + ":", "    super().__init__()")]
            lines += ["        " + line for line in body]
            lines.append("")
        lines.append(f"    def forward(self, {', '.join(kind.inputs)}):")
        lines += ["        " + line for line in kind.lines]
        return "\n".join(lines) + "\n"

    def _written(self, member: Member, rest: Iterator[tuple[str, object]]) -> str | list[str]:
        """Text of a member; of a container, its lines."""
        if member.constructor is not None:
            return _call(member.constructor.name, [(a, *next(rest)) for a in member.constructor.arguments])
        if member.kind == "class":
            kind = self.kinds[member.number]
            arguments = [
                (Argument(p.name, None, p.kind, p.default, positional=p.default is None), *next(rest))
                for p in kind.parameters
            ]
            return _call(kind.name, arguments, named=len(arguments) > 3)
        name = self.kinds[member.number].name if member.kind == "wrapper" else member.kind
        lines = [f"{name}({'{' if member.kind == 'nn.ModuleDict' else '' if _starred(member) else '['}"]
        for name, child in member.children.items():
            text = self._written(child, rest)
            first, *others = broken(text) if isinstance(text, str) else text
            key = f'"{name}": ' if member.kind == "nn.ModuleDict" else ""
            lines += [f"    {key}{first}", *[f"    {line}" for line in others]]
            lines[-1] += ","
        lines.append("})" if member.kind == "nn.ModuleDict" else ")" if _starred(member) else "])")
        return lines

    # What runs

    def _forward(self, path: Path, nodes: tuple[int, ...]) -> tuple[list[str], list[str], bool]:
        """Input names, lines, and whether the input is added to the result."""
        parts = self.parts
        reads = tuple(range(len(self.graph.inputs))) if not path else parts.reads(nodes)
        inputs = self._input_names(path, reads)
        local = dict(zip(reads, inputs, strict=True))
        steps = list(parts.flow(path, nodes))
        results = tuple(sorted(parts.outputs)) if not path else parts.writes(nodes)
        last: dict[int, int] = {r: len(steps) for r in results}
        for number, step in enumerate(steps):
            for read in step.reads:
                last[read] = max(last.get(read, -1), number)
        lines: list[str] = []
        residual = False
        for number, step in enumerate(steps):
            text = self._call_text(step, local)
            residual |= not step.access and " + " in text and any(r in reads for r in step.reads)
            dying = [r for r in dict.fromkeys(step.reads) if last[r] == number]
            if number == len(steps) - 1 and step.writes == results and (path or self._structure() == 0):
                lines += broken(f"return {text}")
                return inputs, lines, residual
            names = self._targets(step, local, dying, last)
            for read in dying:
                local.pop(read)
            local.update(zip(step.writes, names, strict=True))
            lines += _assignment(", ".join(names), text) if names else [text]
        if path:
            lines.append(f"return {', '.join(local[r] for r in results)}")
        else:
            lines.append(f"return {self._nested(self._structure(), local)}")
        return inputs, lines, residual

    def _input_names(self, path: Path, reads: tuple[int, ...]) -> list[str]:
        if not path:
            wished = ["x"] if len(reads) == 1 else [_identifier(name) for name in self.graph.inputs]
        else:
            wished = ["x"] if len(reads) == 1 else [f"x{i}" for i in range(1, len(reads) + 1)]
        names: list[str] = []
        for name in wished:
            names.append(_free(name, set(names)))
        return names

    def _targets(self, step: Step, local: dict[int, str], dying: list[int], last: dict[int, int]) -> list[str]:
        """Names for what a step writes: that of an operand which is not needed any more, or a new one."""
        free = [local[r] for r in dying]
        used = {name for r, name in local.items() if r not in dying}
        names: list[str] = []
        for value in step.writes:
            if value not in last:
                name = "_"
            elif free:
                name = free.pop(0)
            else:
                name = next(n for n in (*"yzuvw", *(f"y{i}" for i in range(2, 10_000))) if n not in used)
            used.add(name)
            names.append(name)
        return names

    def _call_text(self, step: Step, local: dict[int, str]) -> str:
        node = step.nodes[0]
        text = self.parts.texts[node]
        operands = [local[r] for r in step.reads]
        if not step.access:
            assert isinstance(text, Expression)
            return text.write(*operands)
        if len(step.nodes) == 1 and isinstance(text, Constructor) and text.padded and self._is_leaf(step):
            operands = [f"F.pad({operands[0]}, {text.padded})"]
        return f"{step.access}({', '.join(operands)})"

    def _is_leaf(self, step: Step) -> bool:
        name = self.parts.names[step.nodes[0]][-1]
        return step.access.endswith((f".{name}", f"[{name}]", f'["{name}"]'))

    def _structure(self) -> object:
        """Nesting of the outputs that remain in evaluation mode."""
        return evaluation_structure(self.graph)

    def _nested(self, structure: object, local: dict[int, str]) -> str:
        if isinstance(structure, int):
            return local[self.graph.outputs[structure].node]
        if isinstance(structure, dict):
            return "{" + ", ".join(f"{key!r}: {self._nested(v, local)}" for key, v in structure.items()) + "}"
        assert isinstance(structure, tuple)
        inside = ", ".join(self._nested(v, local) for v in structure)
        return f"({inside},)" if len(structure) == 1 else f"({inside})"


_SHORT = {
    "nn.Conv2d": "Conv",
    "nn.BatchNorm2d": "Norm",
    "nn.BatchNorm1d": "Norm",
    "nn.GroupNorm": "GroupNorm",
    "nn.AdaptiveAvgPool2d": "Pool",
    "nn.MaxPool2d": "MaxPool",
    "nn.AvgPool2d": "AvgPool",
}
_RESERVED = {"Path", "Image", "DropPath", "Network", "F"}
_ORDER = ("in_channels", "channels", "out_channels")


def _rank(name: str) -> tuple[int, str]:
    if name in _ORDER:
        return _ORDER.index(name), name
    return (3 if name.endswith("_channels") else 4), name


def _starred(member: Member) -> bool:
    return member.kind in ("nn.Sequential", "wrapper")


def _is_word(value: object) -> bool:
    return isinstance(value, (bool, str)) or value is None


def literal(value: object) -> str:
    """A value as Python text, strings in double quotes."""
    if isinstance(value, str):
        return value if value == HALF_KERNEL else '"' + repr(value)[1:-1].replace('"', '\\"') + '"'
    return repr(value)


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text)
    return (
        f"{name}_" if keyword.iskeyword(name) or name in ("self", "_") else f"_{name}" if name[:1].isdigit() else name
    )


def _free(name: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it new."""
    return next(n for n in (name, *(f"{name}{i}" for i in range(2, 10_000))) if n not in taken)


def _call(name: str, arguments: list[tuple[Argument, str, object]], *, named: bool = False) -> str:
    """`name(…)` without the arguments that stand at their default; padding follows the kernel where it varies."""
    kernel = next((text for a, text, _ in arguments if a.name == "kernel_size"), "")
    written: list[str] = []
    for argument, text, value in arguments:
        if text == HALF_KERNEL and argument.name == "padding":
            text = str(int(kernel) // 2) if kernel.isdecimal() else f"{kernel} // 2"
            if text == "0":
                continue
        elif argument.default is not None and text == literal(value) and value == argument.default:
            continue
        plain = argument.positional and not (named and argument.kind != "channels")
        written.append(text if plain else f"{argument.name}={text}")
    plain_first = sorted(written, key=lambda t: bool(re.match(r"\w+=", t)))
    return f"{name}({', '.join(plain_first)})"


def _assignment(target: str, text: str | list[str]) -> list[str]:
    """`target = text`, broken at commas where it is long."""
    if isinstance(text, list):
        return [f"{target} = {text[0]}", *text[1:]]
    return broken(f"{target} = {text}")


def broken(line: str) -> list[str]:
    """A statement, its outermost call opened over several lines where it is long."""
    start = line.find("(")
    if len(line) <= WIDTH or start < 0 or not line.endswith(")"):
        return [line]
    inside = line[start + 1 : -1]
    if len(inside) <= WIDTH:
        return [line[: start + 1], f"    {inside}", ")"]
    items = [f"    {item.strip()}," for item in _split(inside)]
    return [line[: start + 1], *items, ")"]


def _split(text: str) -> list[str]:
    """Text between the commas that stand in no bracket and no quotes."""
    items, depth, quoted = [""], 0, False
    for c in text:
        quoted ^= c == '"'
        depth += 0 if quoted else (c in "([{") - (c in ")]}")
        if c == "," and depth == 0 and not quoted:
            items.append("")
        else:
            items[-1] += c
    return items
