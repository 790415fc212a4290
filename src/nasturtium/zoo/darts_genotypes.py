"""Genotypes of DARTS-like cells in the official form, and the published ones by name.

A genotype lists, for the normal and for the reduction cell, two operations a node, each with the number of the state
that it reads: 0 is the output of the cell *two cells back*, 1 that of the previous cell, 2 the first node, and so on;
`concat` numbers the states of the output.

The official codes of NASNet and AmoebaNet number the states otherwise: there 0 is the *current* input (the previous
cell) and 1 the one before it. `from_nasnet_indices` converts. The genotypes that DARTS's authors call "NASNet" and
"AmoebaNet" are not the cells of `zoo.nasnet`: other inputs in the concatenation, the 7x1 convolution without
bottleneck, preprocessing as in DARTS, other counts of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasturtium.blocks.darts_cell import INPUTS, CrossConv, DilConv, Pool, SepConv, Skip
from nasturtium.errors import InvalidArchitectureError, UnknownNameError
from nasturtium.space import Block

SEARCHED = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
"""The operations of the DARTS space, in the official order (`PRIMITIVES` without "none")."""


def operations(*, affine: bool = True) -> dict[str, Block]:
    """The candidate operations by their official names.

    Args:
        affine: Whether norms have weights; without, a norm follows each pooling, as in the networks of a search.
    """
    return {
        "max_pool_3x3": Pool("max", norm=not affine),
        "avg_pool_3x3": Pool("avg", norm=not affine),
        "skip_connect": Skip(affine),
        "sep_conv_3x3": SepConv(3, affine),
        "sep_conv_5x5": SepConv(5, affine),
        "dil_conv_3x3": DilConv(3, affine=affine),
        "dil_conv_5x5": DilConv(5, affine=affine),
        "sep_conv_7x7": SepConv(7, affine),
        "conv_7x1_1x7": CrossConv(7, affine),
    }


OPERATIONS = tuple(operations())
"""Every operation that a genotype may name: those of the space, and "sep_conv_7x7" and "conv_7x1_1x7"."""

Genes = tuple[tuple[str, int], ...]
"""(operation, state) of each edge, two a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genotype:
    """A normal and a reduction cell in the official form. Lists become tuples.

    Args:
        normal: (operation, state) of each edge of the normal cell, two a node, node by node.
        normal_concat: Numbers of the states whose concatenation is its output.
        reduce: The same of the reduction cell.
        reduce_concat: Its output.

    Raises:
        InvalidArchitectureError: an odd number of edges, an edge that reads no earlier state, or a concatenation of
            what is no state.
        UnknownNameError: it names an unknown operation.
    """

    normal: Genes
    normal_concat: tuple[int, ...] = (2, 3, 4, 5)
    reduce: Genes
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5)

    def __post_init__(self) -> None:
        for kind, first in (("normal", 0), ("reduce", INPUTS)):
            genes = _genes(kind, getattr(self, kind))
            concat = tuple(getattr(self, f"{kind}_concat"))
            states = range(first, len(genes) // 2 + INPUTS)
            if not concat or any(i not in states for i in concat):
                raise InvalidArchitectureError(
                    f"`{kind}_concat` of a genotype must hold numbers of states from {states.start} to "
                    f"{states.stop - 1}, at least one, got {concat!r}."
                )
            object.__setattr__(self, kind, genes)
            object.__setattr__(self, f"{kind}_concat", concat)

    @classmethod
    def of(cls, genotype: Genotype | Mapping[str, Any]) -> Genotype:
        """The genotype itself, or that of a mapping with the fields' names, for example from JSON.

        Raises:
            InvalidArchitectureError: a field is missing, or it has another.
        """
        if isinstance(genotype, Genotype):
            return genotype
        fields = ("normal", "normal_concat", "reduce", "reduce_concat")
        if not isinstance(genotype, Mapping) or set(genotype) != set(fields):
            got = sorted(genotype) if isinstance(genotype, Mapping) else genotype
            raise InvalidArchitectureError(f"A genotype has the fields {', '.join(fields)}, got {got!r}.")
        return cls(**genotype)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: {"normal": [["sep_conv_3x3", 1], …], "normal_concat": [2, 3, 4, 5], …}."""
        return {
            "normal": [list(gene) for gene in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [list(gene) for gene in self.reduce],
            "reduce_concat": list(self.reduce_concat),
        }


def _genes(kind: str, given: Iterable[Sequence[Any]]) -> Genes:
    try:
        genes = tuple([(name, source) for name, source in given])
    except (TypeError, ValueError):
        genes = ()
    if not genes or len(genes) % 2:
        raise InvalidArchitectureError(
            f"`{kind}` of a genotype must be a list of [operation, state], two a node, got {given!r}."
        )
    for number, (name, source) in enumerate(genes):
        if name not in OPERATIONS:
            raise UnknownNameError("DARTS operation", str(name), OPERATIONS)
        known = number // 2 + INPUTS
        if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < known:
            raise InvalidArchitectureError(
                f"Edge {number} ({name!r}) of `{kind}` belongs to node {number // 2}, which may read the states 0 to "
                f"{known - 1}, got {source!r}."
            )
    return genes


NASNET_OPERATIONS = {
    "none": "skip_connect",
    "avg_pool_3x3": "avg_pool_3x3",
    "max_pool_3x3": "max_pool_3x3",
    "separable_3x3_2": "sep_conv_3x3",
    "separable_5x5_2": "sep_conv_5x5",
    "separable_7x7_2": "sep_conv_7x7",
    "1x7_7x1": "conv_7x1_1x7",
}
"""Operations in the official codes of NASNet and AmoebaNet, where "none" is the identity, and here."""


def from_nasnet_indices(normal: Mapping[str, Any], reduce: Mapping[str, Any]) -> Genotype:
    """The genotype of cells that are written as in the official code of NASNet.

    States 0 and 1 change places. The networks still differ from the official ones; see the module's docstring. States
    of the inputs in the concatenation of a reduction cell, which DARTS's cells cannot concatenate, are left out.

    Args:
        normal: "operations" (two a block), "hiddenstate_indices" (0 is the current input, 1 the previous one, 2 the
            first block) and "used_hiddenstates" (0 for the states of the output).
        reduce: The same.

    Raises:
        UnknownNameError: an operation that DARTS's cells do not have.
        InvalidArchitectureError: a key is missing, or the lists do not fit together.
    """
    found: dict[str, Any] = {}
    for kind, cell in (("normal", normal), ("reduce", reduce)):
        try:
            names, sources, used = (cell[k] for k in ("operations", "hiddenstate_indices", "used_hiddenstates"))
            pairs = list(zip(names, sources, strict=True))
        except (KeyError, ValueError) as error:
            raise InvalidArchitectureError(
                f"The {kind} cell must have `operations`, `hiddenstate_indices` of the same length, and "
                f"`used_hiddenstates`, got {cell!r}."
            ) from error
        for name in names:
            if name not in NASNET_OPERATIONS:
                raise UnknownNameError("NASNet operation", name, NASNET_OPERATIONS)
        found[kind] = [(NASNET_OPERATIONS[name], _swapped(source)) for name, source in pairs]
        free = sorted(_swapped(state) for state, flag in enumerate(used) if not flag)
        found[f"{kind}_concat"] = [state for state in free if kind == "normal" or state >= INPUTS]
    return Genotype(**found)


def _swapped(state: int) -> int:
    return 1 - state if state < INPUTS else state


_SHORT = {
    "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "7x1": "conv_7x1_1x7",
}


def _read(normal: str, reduce: str, *concat: Sequence[int]) -> Genotype:
    """A genotype from "sep3 1, sep3 0; skip 0, sep3 1; …" for each cell."""
    parts = [[part.split() for part in text.replace(";", ",").split(",")] for text in (normal, reduce)]
    genes = [tuple([(_SHORT[name], int(source)) for name, source in part]) for part in parts]
    default = tuple(range(INPUTS, len(genes[0]) // 2 + INPUTS))
    normal_concat, reduce_concat = concat or (default, default)
    return Genotype(
        normal=genes[0], normal_concat=tuple(normal_concat), reduce=genes[1], reduce_concat=tuple(reduce_concat)
    )


GENOTYPES: dict[str, Genotype] = {
    # quark0/darts, genotypes.py
    "NASNet": _read(
        "sep5 1, sep3 0; sep5 0, sep3 0; avg3 1, skip 0; avg3 0, avg3 0; sep3 1, skip 1",
        "sep5 1, sep7 0; max3 1, sep7 0; avg3 1, sep5 0; skip 3, avg3 2; sep3 2, max3 1",
        (2, 3, 4, 5, 6),
        (4, 5, 6),
    ),
    "AmoebaNet": _read(
        "avg3 0, max3 1; sep3 0, sep5 2; sep3 0, avg3 3; sep3 1, skip 1; skip 0, avg3 1",
        "avg3 0, sep3 1; max3 0, sep7 2; sep7 0, avg3 1; max3 0, max3 1; 7x1 0, sep3 5",
        (4, 5, 6),
        (3, 4, 6),
    ),
    "DARTS_V1": _read(
        "sep3 1, sep3 0; skip 0, sep3 1; skip 0, sep3 1; sep3 0, skip 2",
        "max3 0, max3 1; skip 2, max3 0; max3 0, skip 2; skip 2, avg3 0",
    ),
    "DARTS_V2": _read(
        "sep3 0, sep3 1; sep3 0, sep3 1; sep3 1, skip 0; skip 0, dil3 2",
        "max3 0, max3 1; skip 2, max3 1; max3 0, skip 2; skip 2, max3 1",
    ),
    # yuhuixu1993/PC-DARTS, genotypes.py
    "PC_DARTS_cifar": _read(
        "sep3 1, skip 0; sep3 0, dil3 1; sep5 0, sep3 1; avg3 0, dil3 1",
        "sep5 1, max3 0; sep5 1, sep5 2; sep3 0, sep3 3; sep3 1, sep3 2",
    ),
    "PC_DARTS_image": _read(
        "skip 1, sep3 0; sep3 0, skip 1; sep3 1, sep3 3; sep3 1, dil5 4",
        "sep3 0, skip 1; dil5 2, max3 1; sep3 2, sep3 1; sep5 0, sep3 3",
    ),
    # chenxin061/pdarts, genotypes.py
    "PDARTS": _read(
        "skip 0, dil3 1; skip 0, sep3 1; sep3 1, sep3 3; sep3 0, dil5 4",
        "avg3 0, sep5 1; sep3 0, dil5 2; max3 0, dil3 1; dil3 1, dil5 3",
    ),
    # Xie et al. 2019, arXiv 1812.09926, moderate constraint
    "SNAS": _read(
        "sep3 0, sep3 1; skip 0, dil3 1; skip 1, skip 0; skip 0, sep3 1",
        "max3 0, max3 1; max3 1, skip 2; skip 2, max3 1; max3 0, dil5 2",
    ),
    # Dong, Yang 2019, arXiv 1910.04465, as in FairDARTS's list; AutoDL-Projects has "sep5 1" for the last edge
    "GDAS_V1": _read(
        "skip 0, skip 1; skip 0, sep5 2; sep3 3, skip 0; sep5 4, sep3 3",
        "sep5 0, sep3 1; sep5 2, sep5 1; dil5 2, sep3 1; sep5 0, sep5 2",
    ),
    # xiaomi-automl/FairDARTS, genotypes.py
    "PNASNet": _read(
        "sep5 0, max3 0; sep7 1, max3 1; sep5 1, sep3 1; sep3 4, max3 1; sep3 0, skip 1",
        "sep5 0, max3 0; sep7 1, max3 1; sep5 1, sep3 1; sep3 4, max3 1; sep3 0, skip 1",
    ),
    "ENASNet": _read(
        "sep3 1, skip 1; sep5 1, skip 0; avg3 0, sep3 1; sep3 0, avg3 1; sep5 1, avg3 0",
        "sep5 0, sep3 1; sep3 1, avg3 1; sep3 1, avg3 1; avg3 1, sep5 4; sep3 5, sep5 0",
    ),
    # tanglang96/MDENAS, genotypes.py
    "MdeNAS": _read(
        "sep5 1, sep3 0; skip 0, sep5 1; sep5 3, sep3 1; dil5 3, max3 4",
        "max3 0, sep5 1; skip 0, skip 1; sep3 3, skip 2; dil3 3, sep5 0",
    ),
}
"""Published cells in DARTS's form."""


def normal_form(genotype: Genotype) -> Genotype:
    """The genotype with each node's edges in the order of the states they read, then of the operations' names."""

    def ordered(genes: Genes) -> Genes:
        pairs = zip(genes[::2], genes[1::2], strict=True)
        return tuple([gene for pair in pairs for gene in sorted(pair, key=lambda g: (g[1], g[0]))])

    return Genotype(
        normal=ordered(genotype.normal),
        normal_concat=genotype.normal_concat,
        reduce=ordered(genotype.reduce),
        reduce_concat=genotype.reduce_concat,
    )
