"""Kernels that run inside of a product of matrices, on each part of its result while that is in the cache.

What is done to each element of a product, such as to add a bias and apply a function, need not be a pass over memory of
its own. A product hands a few rows of sums at a time, as soon as they are complete, to an *epilogue*: a kernel like any
other, with a loop over rows and one of vectors over columns, that reads the product from `sums` and runs only over the
rows and columns that it is given.

    for i in 128
      vector for j in 512
        y[j + 512*i] = max((sums[j + 512*i] + bias[j]), 0)

The product itself is never written to memory then. That can be done if nobody else reads it (see `join`), if the kernel
goes through the elements in its order, and if what else it reads lies in memory in the same order, or is the same for
all columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from funcgrad.compiler.clusters import Cluster
from funcgrad.compiler.complex_numbers import Value
from funcgrad.compiler.contraction import SLOTS
from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import Axis, Buffer, convert
from funcgrad.compiler.fuse import Fuser
from funcgrad.compiler.indices import flatten, load
from funcgrad.compiler.kernels import Buffers, LoopWriter
from funcgrad.compiler.llvm import KernelWriter
from funcgrad.compiler.loops import Kernel, Loop, expressions_in, finished
from funcgrad.compiler.module import Module
from funcgrad.compiler.operations import register_type
from funcgrad.program import Variable


def epilogue_of(
    cluster: Cluster,
    product: Variable,
    columns: int,
    dtype: numpy.dtype,
    fuser: Fuser,
    buffers: Buffers,
    stored: set[Variable],
) -> Kernel | None:
    """The kernel of a cluster as the epilogue of a product; None if it cannot be one.

    Arguments:
        cluster: the cluster, which reads each element of the product where it computes one of its own.
        product: the result of the product.
        columns: how many columns the product has. What comes before is rows.
        dtype: that of the sums.
        fuser, buffers, stored: as for any kernel.
    """
    first = len(cluster.axes)
    while first and math.prod(axis.extent for axis in cluster.axes[first:]) < columns:
        first -= 1
    rows, inner = cluster.axes[:first], cluster.axes[first:]
    if columns < 2 or not rows or cluster.short_axis is not None or math.prod(axis.extent for axis in inner) != columns:
        return None
    writer = EpilogueLoops(cluster, fuser, buffers, stored, product, dtype)
    if cluster.is_empty or not writer.stored:
        return None
    kernel = writer.kernel(rows, inner)
    column = innermost(kernel).axis
    places = [x.payload[1] for x in expressions_in(kernel.body) if x.operation == "load"]
    return kernel if all(place.factor(column) in (0, 1) for place in places) else None


def innermost(kernel: Kernel) -> Loop:
    """The loop over columns."""
    (rows,) = kernel.body
    assert isinstance(rows, Loop)
    (columns,) = rows.body
    assert isinstance(columns, Loop)
    return columns


class EpilogueLoops(LoopWriter):
    """Writes the kernel of a cluster that reads a product, as a loop over its rows and one over its columns."""

    def __init__(
        self,
        cluster: Cluster,
        fuser: Fuser,
        buffers: Buffers,
        stored: set[Variable],
        product: Variable,
        dtype: numpy.dtype,
    ):
        super().__init__(cluster, fuser, buffers, stored)
        self.product = product
        self.sums = Buffer(math.prod(product.shape), dtype, "sums", local=True)

    def kernel(self, rows: list[Axis], columns: list[Axis]) -> Kernel:
        """The kernel, given which axes of the cluster are rows and which are columns."""
        self.set_times()
        self.inner_groups, self.part, self.by_rows = [], None, False
        loops = self.outer_loops([rows, columns])
        return finished(loops(self.passes(), []))

    def in_memory(self, x: Any, index: Indices) -> Value:
        if x is self.product:
            return convert(load(self.sums, flatten(index, x.shape)), x.dtype)
        return super().in_memory(x, index)


def epilogue_text(module: Module, kernel: Kernel, symbol: str) -> str:
    """An epilogue as the function that `contraction` calls; the addresses of its arguments follow its own in the
    context."""
    return EpilogueWriter(module, kernel, symbol).text()


class EpilogueWriter(KernelWriter):
    """Writes one epilogue."""

    def text(self) -> str:
        for place, buffer in enumerate(self.kernel.arguments):
            self.addresses[buffer] = self.slot(len(SLOTS) + place, "ptr")
        (rows,) = self.kernel.body
        assert isinstance(rows, Loop)
        batch = self.line(f"mul i64 %outer, {self.slot(SLOTS.index('inner_batches'), 'i64')}")
        batch = self.line(f"add i64 {batch}, %inner")
        before = self.line(f"mul i64 {batch}, {self.slot(SLOTS.index('m'), 'i64')}")
        self.first = self.line(f"add i64 {before}, %r")
        self.write_loop_part(rows, self.first, self.line(f"add i64 {self.first}, %rows"), 1, [], None)
        numbers = "i64 %stride, i64 %outer, i64 %inner, i64 %r, i64 %rows, i64 %low, i64 %high"
        header = f"define internal void @{self.symbol}(ptr %context, ptr %sums, {numbers}) #0 {{\nentry:"
        return "\n".join([header, *self.levels[0].lines, "  ret void", "}"])

    def slot(self, number: int, kind: str) -> str:
        place = self.line(f"getelementptr i64, ptr %context, i64 {number}")
        return self.line(f"load {kind}, ptr {place}, align 8")

    def write_loop(self, loop: Loop) -> None:
        """The columns of a row, whose sums begin with the first of them that there is."""
        row = self.levels[-1].variable
        for x in expressions_in(loop.body):
            if x.operation == "load" and x.payload[0].local:
                sums = x.payload[0]
                apart = self.line(f"mul i64 {self.line(f'sub i64 {row}, {self.first}')}, %stride")
                whole = self.line(f"add i64 {self.line(f'mul i64 {row}, {loop.axis.extent}')}, %low")
                start = self.line(f"sub i64 {apart}, {whole}")
                self.addresses[sums] = self.line(f"getelementptr {register_type(sums.dtype)}, ptr %sums, i64 {start}")
        self.write_unknown_loop(loop, self.lanes_of(loop))
