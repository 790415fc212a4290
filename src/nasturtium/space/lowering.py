"""Lowering of an open block to an open graph: weight sharing is tracing with the fields left open.

`forward` runs once for each assignment of what it really reads: its open fields, and the shapes of its inputs where
they differ. A run is a constraint on decisions. Reading something that the constraint leaves open narrows it to the
first possibility and puts the others aside for further runs; so only consistent combinations are considered, and never
the product of the whole network: a child block is lowered on its own, under what the constraint says of the child's
decisions and inputs, and once for all runs that agree on that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Self

from nasturtium.errors import InvalidInputError, NasturtiumError, ShapeError, TraceError
from nasturtium.graph.operations import Input, Opaque, Operation, Shape
from nasturtium.graph.tensor import Context, Tensor, tensors
from nasturtium.graph.trace import Inputs, named_outputs, named_shapes, snake_case, structure_of
from nasturtium.space.block import Block
from nasturtium.space.choice import Choice, OneOf, Prefix
from nasturtium.space.diagram import UNDEFINED, Diagram, Diagrams
from nasturtium.space.open_graph import Failed, Form, OpenGraph, OpenNode
from nasturtium.space.stated import Ran, Record
from nasturtium.space.structure import Structure
from nasturtium.space.views import Branches, Mover, Place, raw, resolve, view

LIMIT = 400
"""Most variants of one `forward`."""


def lower(block: object, inputs: Inputs, *, limit: int = LIMIT, **context: object) -> OpenGraph:
    """Lower an open block, or a space, to the graph of all its architectures.

    Operations of one path that read the same and differ in numbers only (width, kernel, stride …) are one node with
    several forms; where `forward` takes different ways, what follows reads a function from decisions to nodes. Taking
    the architecture's decisions gives exactly the graph that `trace` gives for it.

    Args:
        block: An open (or closed) block, or a `Space`.
        inputs: Shape of the input without the batch, or several; as for `trace`.
        limit: Most variants of one block's `forward`.
        **context: What the task tells the network, for example `classes=10`.

    Returns:
        The open graph.

    Raises:
        TraceError: a `forward` has more than `limit` variants, returns differently nested outputs at different
            decisions, or fails otherwise than on shapes; the message names the block and its choices.
        ShapeError: no architecture admits these inputs.
    """
    block = getattr(block, "block", block)
    if not isinstance(block, Block):
        raise InvalidInputError(f"A supernet is made of an open block or a `Space`, got {block!r}.")
    if limit < 1:
        raise InvalidInputError(f"`limit` must be at least 1 variant, got {limit!r}.")
    shapes = named_shapes(inputs)
    tracer = OpenTracer(Structure(block), Context(**context), limit)
    return tracer.run(block, shapes)


class RefusedError(TraceError):
    """An open block that cannot be lowered, whatever is decided (other errors concern some architectures only)."""


class OpenTensor(Tensor):
    """A symbolic tensor that differs with decisions; reading its shape decides what the shape depends on."""

    __slots__ = ("value",)
    value: Diagram
    """Function from decisions to node numbers."""

    def __init__(self, tracer: OpenTracer, value: Diagram) -> None:
        self.tracer = tracer
        self.value = value
        self.index = -1

    @property
    def shape(self) -> Shape:
        return self.tracer.shape(self.value)  # type: ignore[attr-defined]

    def __copy__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"OpenTensor({self.value.leaves()})"


class _Scope:
    """One level of names, as in `graph.trace`, for both paths."""

    __slots__ = ("calls", "frame", "names", "place")

    def __init__(self, frame: _Frame, place: Place) -> None:
        self.frame = frame
        self.place = place
        self.names: dict[str, int] = {}
        self.calls: dict[int, int] = {}

    def path(self, name: str) -> Place:
        count = self.names.get(name, 0)
        self.names[name] = count + 1
        return self.join(f"{name}_{count}" if count else name)

    def join(self, closed: str, shared: str | None = None, movers: tuple[Mover, ...] = ()) -> Place:
        shared = closed if shared is None else shared
        prefixes = self.place
        return Place(
            f"{prefixes.closed}.{closed}" if prefixes.closed else closed,
            f"{prefixes.shared}.{shared}" if prefixes.shared else shared,
            prefixes.movers + movers,
        )

    def __enter__(self) -> None:
        self.frame.scopes.append(self)

    def __exit__(self, *exception: object) -> None:
        self.frame.scopes.pop()


class _Frame:
    """One run of one `forward`."""

    def __init__(self, owner: Block | None, place: Place, constraint: Diagram, pending: list[Diagram]) -> None:
        self.owner = owner
        self.constraint = constraint
        self.pending = pending
        self.scopes: list[_Scope] = [_Scope(self, place)]
        self.fields: dict[tuple[int, str], Any] = {}
        self.places: dict[int, list[Place]] = {}
        self.stated: list[tuple[OpenNode, Form]] = []
        self.called: list[list[Ran]] = []


class OpenTracer:
    """Lowers open blocks; see `lower`."""

    def __init__(self, structure: Structure, context: Context, limit: int) -> None:
        self.structure = structure
        self.context = context
        self.limit = limit
        self.diagrams = Diagrams([d.count for d in structure.decisions])
        self.nodes: list[OpenNode] = []
        self.frames: list[_Frame] = []
        self._by_key: dict[tuple[Any, ...], OpenNode] = {}
        self._lowered: dict[tuple[Any, ...], Any] = {}
        self._ran: dict[tuple[Any, ...], list[Ran]] = {}
        self._outermost: list[Ran] = []
        self._under: dict[int, frozenset[int]] = {}
        self._keep: list[object] = []
        self._opaque: dict[str, list[Opaque]] = {}
        self._calls: dict[tuple[Any, ...], object] = {}
        self._varying: set[tuple[Any, ...]] = set()
        self._shape_of: dict[int, Diagram] = {}

    def run(self, block: Block, shapes: dict[str, Shape]) -> OpenGraph:
        """Lower the outermost block."""
        arguments = []
        for name, shape in shapes.items():
            form = Form(Input(shape), (), shape, name)
            node = self._node((name, Input), name, Input, (), form, self.diagrams.true)
            arguments.append(OpenTensor(self, self.diagrams.leaf(node.number)))
        empty = Place("", "")
        result = self._lower(block, lambda shown: shown.forward(*arguments), empty, self.diagrams.true, block)
        for number, tensor in enumerate(tensors(result)):
            tensor.index = number
        ordered = list(tensors(result))
        names = named_outputs(result)
        return OpenGraph(
            nodes=tuple(self.nodes),
            inputs=tuple(shapes),
            input_shapes=tuple(shapes.values()),
            outputs=tuple([(o.name, t.value) for o, t in zip(names, ordered, strict=True)]),  # type: ignore[attr-defined]
            structure=structure_of(result),
            decisions=tuple(self.structure.decisions),
            context=self.context,
            record=Record(self.diagrams, self._outermost),
        )

    # Reading: everything that a run depends on passes through `choose`.

    def choose(self, function: Diagram) -> Any:
        """The value of a function in this run; narrows the run's constraint to one where it is open."""
        frame = self.frames[-1]
        values = self.diagrams.possible(function, frame.constraint)
        if len(values) > 1:
            for value in reversed(values[1:]):
                frame.pending.append(self.diagrams.both(frame.constraint, self.diagrams.equals(function, value)))
            frame.constraint = self.diagrams.both(frame.constraint, self.diagrams.equals(function, values[0]))
        return values[0]

    def decide(self, choice: Choice) -> int:
        """Index of a choice in this run."""
        decision = self.structure.by_choice.get(choice)
        if decision is None:
            raise RefusedError(
                f"{choice!r} was read, but it is not in a field of the space's blocks: choices are made where the "
                "space is described, not inside `forward`."
            )
        return int(self.choose(self.diagrams.selector(decision.position)))

    def shape(self, value: Diagram) -> Shape:
        """Shape of a value in this run.

        Raises:
            TraceError: the value cannot be computed at these decisions.
        """
        found = self.choose(self._shapes(value))
        if isinstance(found, Failed):
            raise found.error(found.message)
        return found

    def _shapes(self, value: Diagram) -> Diagram:
        if not value.children:
            node = value.value
            return self.nodes[node].shapes if isinstance(node, int) else self.diagrams.undefined
        found = self._shape_of.get(value.number)
        if found is None:
            found = self._shape_of[value.number] = self.diagrams.simplify(self._selected_shapes(value))
        return found

    def _selected_shapes(self, value: Diagram) -> Diagram:
        shapes = {node: self.nodes[node].shapes for node in value.leaves() if isinstance(node, int)}
        if len({shape.number for shape in shapes.values()}) == 1:  # most often, whatever is selected
            return next(iter(shapes.values()))
        if all(shape.is_leaf for shape in shapes.values()):
            constant = {node: shape.value for node, shape in shapes.items()}
            return self.diagrams.combine(lambda node: constant.get(node, UNDEFINED), value)
        return self.diagrams.switch(value.variable, [self._shapes(child) for child in value.children])

    def field(self, block: Block, name: str) -> Any:
        """Value of an open block's field in this run."""
        frame = self.frames[-1]
        key = (id(block), name)
        if key not in frame.fields:
            place = Place(name, name) if block is frame.owner else None
            frame.fields[key] = resolve(block.__dict__[name], self, place)
        return frame.fields[key]

    def place(self, value: object, place: Place) -> None:
        """Take note of where a child of the running block stands."""
        places = self.frames[-1].places.setdefault(id(value), [])
        if all(place.shared != other.shared for other in places):
            places.append(place)

    # The tracer's protocol.

    def scope(self, name: str) -> _Scope:
        """Open a named part of the network."""
        frame = self.frames[-1]
        return _Scope(frame, frame.scopes[-1].path(name))

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], name: str) -> OpenTensor:
        """Add one form of one operation."""
        frame = self.frames[-1]
        shapes = tuple([x.shape for x in inputs])
        try:
            shape = operation.shape(*shapes)
        except ShapeError as error:
            raise ShapeError(f"{error} (at `{frame.scopes[-1].join(name).closed}`)") from None
        place = frame.scopes[-1].path(name)
        kind = type(operation)
        path = self._opaque_path(place.shared, operation) if isinstance(operation, Opaque) else place.shared
        values = tuple([x.value for x in inputs])  # type: ignore[attr-defined]
        key = (path, kind, *[v.number for v in values])
        form = Form(operation, shapes, shape, place.closed)
        node = self._node(key, path, kind, values, form, frame.constraint)
        frame.stated.append((node, form))
        return OpenTensor(self, self.diagrams.leaf(node.number))

    def call(self, block: object, arguments: tuple[object, ...]) -> object:
        """Lower a child block, once for all runs that agree on what it depends on."""
        frame = self.frames[-1]
        scope = frame.scopes[-1]
        shown, block = block, raw(block)
        if isinstance(block, OneOf) and isinstance(shown, Branches):
            at = self._child(block)
            if at is not None:
                return self._branches(block, at, arguments)
            return self.call(resolve(block.options[self.decide(block)], self, None), arguments)
        assert isinstance(block, Block)
        place = self._child(block)
        if place is None:
            place = scope.path(snake_case(type(block).__name__))
        return self._lower(block, lambda own: own.forward(*arguments), place, frame.constraint, block, arguments)

    def _child(self, value: object) -> Place | None:
        """Place of a child in the running block's fields: the k-th call takes the k-th place."""
        frame = self.frames[-1]
        scope = frame.scopes[-1]
        if frame.owner is not None and not frame.owner.is_open and not frame.places:
            for key, paths in frame.owner.child_paths().items():
                frame.places[key] = [Place(path, path) for path in paths]
        places = frame.places.get(id(value))
        if places is None:
            return None
        turn = scope.calls.get(id(value), 0)
        scope.calls[id(value)] = turn + 1
        place = places[min(turn, len(places) - 1)]
        return scope.join(place.closed, place.shared, place.movers)

    def _branches(self, choice: OneOf, place: Place, arguments: tuple[object, ...]) -> object:
        """Lower a call of a choice between blocks: every branch, and the function that selects."""

        def forward(_: object) -> object:
            index = self.decide(choice)
            option, at = choice.options[index], place.option(index)
            if isinstance(option, OneOf):
                return self._branches(option, at, arguments)
            assert isinstance(option, Block)
            constraint = self.frames[-1].constraint
            return self._lower(option, lambda own: own.forward(*arguments), at, constraint, option, arguments)

        return self._lower(choice, forward, place, self.frames[-1].constraint, None, arguments)

    # Lowering of one block.

    def _lower(
        self,
        subject: Any,
        forward: Callable[[Any], object],
        place: Place,
        constraint: Diagram,
        owner: Block | None,
        arguments: tuple[object, ...] = (),
    ) -> Any:
        """Run `forward` for everything that it reads under a constraint, and merge what the runs return."""
        values = [x.value for x in tensors(arguments)]  # type: ignore[attr-defined]
        relevant = self._decisions(subject).union(*[v.support | self._shapes(v).support for v in values])
        if self._varies(subject, place, arguments):
            relevant |= constraint.support
        constraint = self.diagrams.project(constraint, relevant)
        for subset, indices in place.movers:  # forms of one node differ in their closed path
            index = self.diagrams.selector(self.structure.by_choice[subset].position)
            constraint = self.diagrams.both(constraint, self.diagrams.combine(indices.__contains__, index))
        key = (subject, place.closed, place.shared, _key(arguments), constraint.number)
        ran = self._ran.setdefault(key, []) if arguments else []
        if self.frames:
            self.frames[-1].called.append(ran)
        else:
            self._outermost = ran
        if arguments and key in self._lowered:
            return self._lowered[key]
        pending = [constraint]
        runs: list[tuple[Diagram, object]] = []
        failures: list[tuple[Diagram, TraceError]] = []
        while pending:
            if len(runs) + len(failures) + len(pending) > self.limit:
                raise RefusedError(self._too_many(subject, place, constraint, [c for c, _ in runs] + pending))
            frame = _Frame(owner, place, pending.pop(), pending)
            self.frames.append(frame)
            try:
                shown = view(owner, self) if owner is not None and owner.is_open else owner
                result = forward(shown)
            except RefusedError:
                raise
            except TraceError as error:
                failures.append((frame.constraint, error))
                ran.append(Ran(frame.constraint, (), (), error))
            except (NasturtiumError, RecursionError):
                raise
            except Exception as error:
                raise RefusedError(
                    f"`forward` of {type(subject).__name__} failed at {place.closed or 'the outermost block'!r} with "
                    f"{type(error).__name__}: {error}. (Decisions: {self._describe(frame.constraint)}.)"
                ) from error
            else:
                runs.append((frame.constraint, result))
                ran.append(Ran(frame.constraint, tuple(frame.stated), tuple(frame.called)))
            finally:
                self.frames.pop()
        if not runs:
            raise failures[0][1]
        runs += [(c, self._failed(runs[0][1], place, error)) for c, error in failures]
        merged = self._merge(runs, subject, place)
        if arguments:
            self._lowered[key] = merged
        return merged

    def _varies(self, subject: object, place: Place, arguments: tuple[object, ...]) -> bool:
        """Whether another block than before is called at a place, or with other plain arguments, on the same tensors.

        What is called then depends on what the calling run has read, and what is lowered holds for that run only. (What
        the first call gave for all runs is overwritten where other runs call differently.)
        """
        site = (place.closed, place.shared, _key(tuple(tensors(arguments))))
        key = (subject, _key(arguments))
        if self._calls.setdefault(site, key) != key:
            self._varying.add(site)
        return site in self._varying

    def _merge(self, runs: list[tuple[Diagram, object]], subject: object, place: Place) -> Any:
        """One result of several runs: each tensor is the function that takes the run's."""
        shape = _nesting(runs[0][1])
        for condition, result in runs:
            if _nesting(result) != shape:
                raise RefusedError(
                    f"`forward` of {type(subject).__name__} at {place.closed or 'the outermost block'!r} returns "
                    f"{_nesting(result)} where {self._describe(condition)}, and {shape} elsewhere: the outputs of an "
                    "open block must be nested alike whatever is decided."
                )
        leaves = [list(tensors(result)) for _, result in runs]
        merged = []
        for position in range(len(leaves[0])):
            value = self.diagrams.undefined
            for (condition, _), row in zip(runs, leaves, strict=True):
                value = self.diagrams.where(condition, row[position].value, value)  # type: ignore[attr-defined]
            merged.append(OpenTensor(self, self.diagrams.simplify(value)))
        return _rebuild(runs[0][1], iter(merged))

    def _node(
        self,
        key: tuple[Any, ...],
        path: str,
        kind: type[Operation],
        inputs: tuple[Diagram, ...],
        form: Form,
        constraint: Diagram,
    ) -> OpenNode:
        """The node of a key, which has a form where the constraint holds."""
        diagrams = self.diagrams
        node = self._by_key.get(key)
        if node is None:
            undefined = diagrams.undefined
            node = OpenNode(len(self.nodes), path, kind, inputs, undefined, undefined)
            self._by_key[key] = node
            self.nodes.append(node)
        shape = form.operation if isinstance(form.operation, Failed) else form.shape
        node.forms = diagrams.simplify(diagrams.where(constraint, diagrams.leaf(form), node.forms))
        shapes = diagrams.simplify(diagrams.where(constraint, diagrams.leaf(shape), node.shapes))
        if shapes is not node.shapes:
            node.shapes = shapes
            self._shape_of.clear()
        return node

    def _failed(self, like: object, place: Place, error: TraceError) -> object:
        """A result that cannot be computed, nested like another."""
        failed = Failed(str(error), type(error))
        form = Form(failed, (), (), place.closed)
        node = self._node((place.shared, failed), place.shared, Failed, (), form, self.diagrams.true)
        tensor = OpenTensor(self, self.diagrams.leaf(node.number))
        return _rebuild(like, iter([tensor] * len(list(tensors(like)))))

    def _opaque_path(self, path: str, operation: Opaque) -> str:
        """Users' modules have no slices to share: each different one at a path has weights of its own."""
        variants = self._opaque.setdefault(path, [])
        target = (operation.target, operation.arguments, operation.digest)
        same = [i for i, v in enumerate(variants) if (v.target, v.arguments, v.digest) == target]
        if not same:
            variants.append(operation)
        number = same[0] if same else len(variants) - 1
        return f"{path}_variant{number}" if number else path

    def _decisions(self, value: object) -> frozenset[int]:
        """Positions of the decisions that a value holds, however deep."""
        found = self._under.get(id(value))
        if found is None:
            self._keep.append(value)
            parts: list[object] = []
            own: frozenset[int] = frozenset()
            if isinstance(value, Block):
                parts = list(value.values)
            elif isinstance(value, tuple):
                parts = list(value)
            elif isinstance(value, Prefix):
                parts = [value.length, *value.items]
            elif isinstance(value, Choice):
                parts = list(value.choices)
                decision = self.structure.by_choice.get(value)
                own = frozenset() if decision is None else frozenset({decision.position})
            found = self._under[id(value)] = own.union(*[self._decisions(p) for p in parts])
        return found

    def _describe(self, condition: Diagram) -> str:
        """One assignment that meets a condition, in words."""
        words = []
        while condition.children:
            decision = self.structure.decisions[condition.variable]
            index = next(i for i, c in enumerate(condition.children) if c is not self.diagrams.false)
            words.append(f"{decision.name} = {decision.label(index)}")
            condition = condition.children[index]
        return ", ".join(words) or "any"

    def _too_many(self, subject: object, place: Place, given: Diagram, conditions: list[Diagram]) -> str:
        read = Counter(p for c in conditions for p in c.support - given.support)
        names = [self.structure.decisions[position] for position, _ in read.most_common()]
        listed = ", ".join(f"{d.name} ({d.count} options)" for d in sorted(names, key=lambda d: -d.count))
        return (
            f"`forward` of {type(subject).__name__} at {place.closed or 'the outermost block'!r} has more than "
            f"{self.limit} variants, because it reads the choices {listed}: let child blocks read them (a choice "
            "between blocks that is called is not read), or raise `limit`."
        )


def _key(arguments: object) -> object:
    if isinstance(arguments, OpenTensor):
        return arguments.value.number
    if isinstance(arguments, (tuple, list)):
        return (type(arguments), *map(_key, arguments))
    if isinstance(arguments, Mapping):
        return tuple([(k, _key(v)) for k, v in arguments.items()])
    return (type(arguments), arguments)


def _nesting(value: object) -> object:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, dict):
        return {k: _nesting(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_nesting, value))
    raise RefusedError(f"`forward` must return tensors, tuples or dicts of them, got {value!r}.")


def _rebuild(like: object, leaves: Any) -> Any:
    if isinstance(like, Tensor):
        return next(leaves)
    if isinstance(like, dict):
        return {k: _rebuild(v, leaves) for k, v in like.items()}
    return type(like)([_rebuild(v, leaves) for v in like])  # type: ignore[attr-defined, call-arg]
