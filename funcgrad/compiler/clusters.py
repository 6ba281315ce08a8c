"""A cluster: equations that are computed together, and the loops in which they are.

`fuse` makes clusters of equations, `kernels` makes a kernel of each. Of these two equations

    c: float32[8] = reduce_sum(b, axes=(1,))     # b has the shape (8, 5)
    d: float32[8] = sqrt(c)

a cluster has two axes, of 8 and of 5, of which the second one is inner: it is gone through for each of the outer ones,
and reduced. Both equations have a result for each outer index (OUTER); had `b` been computed here as well, that would
have been one for each index of both (FULL). What the cluster reads is `b`, at the index (i0, i1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import TABLES, Axis
from funcgrad.compiler.indices import Index, axis_index, constant_index, flatten, is_divided, unflatten
from funcgrad.compiler.reductions import SHORT
from funcgrad.program import Equation, Variable

FULL, OUTER = "full", "outer"


class Read:
    """That a cluster reads a variable, at an index over its domain; None if it wants all of it, in memory."""

    __slots__ = ("cluster", "index", "variable")

    def __init__(self, variable: Any, cluster: Cluster, index: Indices | None):
        self.variable, self.cluster, self.index = variable, cluster, index


class Cluster:
    """Equations that are computed together.

    Attributes:
        axes: the axes of the domain, in the order in which its elements lie in memory; none of length one.
        inner: those that are reduced.
        level: for each member whether there is a result for each index of the domain (FULL), or for each of the outer
            axes (OUTER).
        reads: what it reads, of others and of its own.
        constant_reads: what it reads of constants.
        counted: axes whose own value is used.
        read_by_full: variables that full members depend on, themselves or by way of others.
        alone: whether it is an equation that is not computed element by element and takes in no others.
        product: the product of matrices that each of its elements is computed from, and that may be computed along with
            it: see `join`. None if there is none.
    """

    def __init__(self, number: int, shape: Sequence[int], alone: bool = False):
        self.bits = 1 << number  # a bit of its own; those of all that it is made of, once it is merged from several
        self.axes = [Axis(length, f"i{place}") for place, length in enumerate(shape) if length != 1]
        self.inner: frozenset[Axis] = frozenset()
        self.level: dict[Equation, str] = {}
        self.reads: list[Read] = []
        self.constant_reads: list[Read] = []
        self.counted: frozenset[Axis] = frozenset()
        self.read_by_full: set[Variable] = set()
        self.alone = alone
        self.product: Equation | None = None
        self.needs = 0  # the numbers of the clusters that have to run before, as bits

    @property
    def outer(self) -> list[Axis]:
        return [axis for axis in self.axes if axis not in self.inner]

    @property
    def short_axis(self) -> Axis | None:
        """A last axis of few elements, such as the coordinates of points, beside a longer one.

        Instead of a loop over it, the kernel has its elements one after the other, unless the array can be gone
        through as if there were no such axis.
        """
        last = self.axes[-1] if self.axes else None
        if last is None or last.extent > SHORT or last in self.inner:
            return None
        return last if any(axis.extent > SHORT for axis in self.axes) else None

    @property
    def is_empty(self) -> bool:
        return any(axis.extent == 0 for axis in self.axes)

    def index(self, shape: Sequence[int], level: str) -> Indices | None:
        """The index of the element of a result with this shape that belongs to one point of the domain."""
        return element_index(self.axes if level == FULL else self.outer, shape)

    def divide_last_axis(self) -> None:
        """Make two axes of the last one where elements are read as if there were two: each of some several times in a
        row, or a few of them again and again. Then no place of an element is found by dividing."""
        if self.alone or not self.axes:
            return
        last, reads = self.axes[-1], [*self.reads, *self.constant_reads]
        indices = [i for read in reads for i in read.index or ()]
        for length in sorted({n for i in indices for n in divided_lengths(i, last) if last.extent % n == 0}):
            axes = [*self.axes[:-1], Axis(last.extent // length, last.name), Axis(length, last.name + "'")]
            values = {last: axis_index(axes[-2]) * length + axis_index(axes[-1])}
            more = {*axes[-2:]}
            if sum(i.replaced(values).divisions(more) for i in indices) >= sum(i.divisions({last}) for i in indices):
                continue
            inner = self.inner - {last} | (more if last in self.inner else set())
            outer = [axis for axis in axes if axis not in inner]
            members = [(x.shape, level) for equation, level in self.level.items() for x in equation.results]
            if all(element_index(axes if level == FULL else outer, shape) is not None for shape, level in members):
                for read in reads:
                    read.index = None if read.index is None else tuple(i.replaced(values) for i in read.index)
                self.counted = self.counted - {last} | (more if last in self.counted else set())
                self.axes, self.inner = axes, inner
                return self.divide_last_axis()

    def __repr__(self) -> str:
        return f"Cluster({[x.primitive.name for x in reversed(self.level)]})"


def divided_lengths(index: Index, axis: Axis) -> Iterator[int]:
    """The lengths of runs along an axis for which a part of an index stays the same, or after which it begins again."""
    for atom, _ in index.terms:
        if is_divided(atom):
            inside = atom.operands[0].payload
            factor = inside.own_factor(axis)
            if factor and atom.payload % factor == 0 and 1 < atom.payload // factor < axis.extent:
                yield atom.payload // factor
            yield from divided_lengths(inside, axis)


def element_index(axes: Sequence[Axis], shape: Sequence[int]) -> Indices | None:
    """The index into `shape` that runs over its elements in order as the axes do; None if it would not be simple."""
    key = *axes, *shape
    if key not in _element_indices:
        _element_indices[key] = _element_index(axes, shape)
    return _element_indices[key]


_element_indices: dict[tuple[Any, ...], Indices | None] = {}
TABLES.append(_element_indices)


def _element_index(axes: Sequence[Axis], shape: Sequence[int]) -> Indices | None:
    if math.prod(shape) != math.prod(axis.extent for axis in axes):
        return None
    if [axis.extent for axis in axes] == [length for length in shape if length != 1]:
        rest = iter(axes)
        return tuple(axis_index(next(rest)) if length != 1 else constant_index(0) for length in shape)
    index = unflatten(flatten([axis_index(axis) for axis in axes], [axis.extent for axis in axes]), shape)
    # Divisions are fine in outer loops. In the innermost one they would cost more than the memory they save.
    if axes and any(i.factor(axes[-1]) is None for i in index):
        return None
    return index
