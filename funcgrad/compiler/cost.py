"""What a compiled Program costs: arithmetic, traffic with memory, and how fast a machine could be at best.

Arithmetic and traffic are counted in the kernels, which is what the machine will do. What two results share counts
once, a value that is computed again in a second pass counts twice, and the exponential function is as many operations
as it is made of.

The *roofline* estimates the time. A step cannot be faster than its arithmetic at the peak of the processor, nor than
its traffic at the peak of the memory; so it takes the longer of both, and the Program takes what its steps take
together. Real code may be faster than that where a buffer is still in the cache, and slower for all other reasons.
See Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy

from funcgrad.array import AbstractArray
from funcgrad.compiler.elements import movement_rule
from funcgrad.compiler.expressions import Axis, Buffer
from funcgrad.compiler.indices import Index
from funcgrad.compiler.loops import Accumulate, Kernel, Loop, Statement, Store, When, expressions_in, statements
from funcgrad.compiler.native import Segment, native, programs_of, with_native_segments
from funcgrad.compiler.schedule import Branch, Copy, Multiply, Repeat, Run, Schedule, While
from funcgrad.compiler.simplify import simplified
from funcgrad.compiler.structures import STRUCTURES, Choice, Repetition
from funcgrad.config import config
from funcgrad.primitives.contraction import MATRIX_PRODUCT, dot_general
from funcgrad.primitives.shapes import reduce_sum
from funcgrad.program import Equation, Program, Variable

OPERATIONS = {
    **dict.fromkeys(["add", "sub", "mul", "div", "rem", "min", "max", "neg", "abs", "sqrt"], 1),
    **dict.fromkeys(["floor", "ceil", "round", "trunc"], 1),
    "fma": 2,
}
"""The operations on floating-point numbers that count, and how much. Moving, choosing and comparing do not."""


@dataclass(frozen=True)
class Part:
    """What a part of a Program costs, all of its repetitions together.

    Attributes:
        what: what it is, in words.
        flops: operations on floating-point numbers; of products, on any numbers.
        bytes_read, bytes_written: of arrays. Scratch memory does not count.
        width: the size in bytes of the numbers that are computed with: of wide ones a vector holds fewer.
        repetitions: how often it is done.
    """

    what: str
    flops: int
    bytes_read: int
    bytes_written: int
    width: int = 4
    repetitions: int = 1

    def repeated(self, times: int) -> Part:
        return replace(
            self,
            flops=self.flops * times,
            bytes_read=self.bytes_read * times,
            bytes_written=self.bytes_written * times,
            repetitions=self.repetitions * times,
        )

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> tuple[float, float]:
        """The least time for its arithmetic, and for its traffic."""
        return (
            self.flops * max(1, self.width / 4) / flops_per_second,
            (self.bytes_read + self.bytes_written) / bytes_per_second,
        )


class Cost:
    """What a compiled Program costs.

    Attributes:
        parts: a `Part` for each kernel, product and equation on the host, in the order in which they run.
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)

    @property
    def flops(self) -> int:
        """Operations on floating-point numbers. Steps of a `while` loop, whose number is not known, count once."""
        return sum(x.flops for x in self.parts)

    @property
    def bytes_read(self) -> int:
        """Bytes that kernels read from arrays, those between kernels too."""
        return sum(x.bytes_read for x in self.parts)

    @property
    def bytes_written(self) -> int:
        """Bytes that kernels write into arrays."""
        return sum(x.bytes_written for x in self.parts)

    @property
    def intensity(self) -> float:
        """Operations for each byte that is read or written."""
        return self.flops / max(1, self.bytes_read + self.bytes_written)

    def seconds(self, flops_per_second: float | None = None, bytes_per_second: float | None = None) -> float:
        """The roofline estimate: about the least time that a machine could need.

        Arguments:
            flops_per_second: the most operations on float32 that the machine does, all threads together. By default it
                is measured, once, with a product of matrices.
            bytes_per_second: the most bytes that it reads from memory. By default it is measured, once, too.
        """
        peaks = _peaks(flops_per_second, bytes_per_second)
        return sum(max(x.seconds(*peaks)) for x in self.parts)

    def roofline(self, flops_per_second: float | None = None, bytes_per_second: float | None = None) -> str:
        """The same as a table: for each part its least time, and what bounds it."""
        peaks = _peaks(flops_per_second, bytes_per_second)
        rows = []
        for part in self.parts:
            arithmetic, traffic = part.seconds(*peaks)
            bound = "arithmetic" if arithmetic > traffic else "memory"
            rows.append([*_cells(part), _scaled(max(arithmetic, traffic), "s"), bound])
        rows.append([*_cells(self._total), _scaled(self.seconds(*peaks), "s"), ""])
        head = f"at {_scaled(peaks[0], 'FLOP/s')} and {_scaled(peaks[1], 'B/s')}"
        return "\n".join([head, *_table([*HEAD, "at least", "bound by"], rows)])

    @property
    def _total(self) -> Part:
        return Part("together", self.flops, self.bytes_read, self.bytes_written)

    def __str__(self) -> str:
        return "\n".join(_table(HEAD, [*map(_cells, self.parts), _cells(self._total)]))

    __repr__ = __str__


# Counting


def cost_of(program: Program) -> Cost:
    """What it costs to run a Program as the default compiler does."""
    return Cost(list(_parts_of_program(with_native_segments(simplified(program)))))


def _parts_of_program(program: Program) -> Iterator[Part]:
    for equation in program.equations:
        if equation.primitive is native:
            segment: Segment = equation.params["segment"]
            yield from _parts_of_schedule(segment.schedule)
        elif equation.primitive in STRUCTURES:
            form = STRUCTURES[equation.primitive](equation)
            costs = [cost_of(inner).parts for inner in programs_of(form)]
            if isinstance(form, Choice):
                costs = [_dearest(costs)]
            times = form.length if isinstance(form, Repetition) else 1
            yield from (part.repeated(times) for parts in costs for part in parts)
        elif movement_rule(equation) is None:  # the host moves no elements: it looks at them in another order
            yield _part_on_host(equation)


def _part_on_host(equation: Equation) -> Part:
    read, written = (sum(_bytes(x) for x in atoms) for atoms in (equation.operands, equation.results))
    result = equation.results[0] if equation.results else None
    flops = 0
    if equation.primitive is dot_general:
        x = equation.operands[0]
        sums = math.prod(x.shape[axis] for axis in equation.params["dimension_numbers"][0][0])
        complex_factor = 4 if x.dtype.kind == "c" else 1
        flops = 2 * complex_factor * sums * math.prod(equation.results[0].shape)
    elif result is not None and result.dtype.kind in "fcV":
        flops = math.prod(result.shape)
    width = 4 if result is None else result.dtype.itemsize
    return Part(f"{equation.primitive.name}, on the host", flops, read, written, width)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize


def _parts_of_schedule(schedule: Schedule) -> Iterator[Part]:
    for step in schedule.steps:
        if isinstance(step, Run):
            yield part_of_kernel(step.kernel)
        elif isinstance(step, Multiply):
            product = step.product
            read = sum(x.size * x.dtype.itemsize for x in (product.a, product.b))
            width = product.a.dtype.itemsize
            if step.epilogue is None:
                written = product.c.size * product.c.dtype.itemsize
                yield Part(f"product for {product.c.name}", 2 * product.cost, read, written, width)
            else:
                after = part_of_kernel(step.epilogue)
                what, flops = after.what.replace("kernel", "product"), 2 * product.cost + after.flops
                yield Part(what, flops, read + after.bytes_read, after.bytes_written, width)
        elif isinstance(step, Copy):
            size = 0 if step.is_there else step.source.size * step.source.dtype.itemsize
            yield Part(f"copy to {step.target.name}", 0, size, size)
        elif isinstance(step, Repeat):
            yield from (part.repeated(step.length) for part in _parts_of_schedule(step.body))
        elif isinstance(step, While):
            yield from (*_parts_of_schedule(step.condition), *_parts_of_schedule(step.body))
        else:
            assert isinstance(step, Branch)
            yield from _dearest([list(_parts_of_schedule(branch)) for branch in step.branches])


def _dearest(branches: Sequence[Sequence[Part]]) -> Sequence[Part]:
    """The branch that costs most."""
    return max(branches, key=lambda parts: sum(x.flops + x.bytes_read + x.bytes_written for x in parts), default=[])


def part_of_kernel(kernel: Kernel) -> Part:
    """What a kernel costs."""
    flops, width = 0, 0
    read: dict[Buffer, int] = {}
    written: dict[Buffer, int] = {}

    def touch(table: dict[Buffer, int], buffer: Buffer, index: Index) -> None:
        if not buffer.local:  # a row that is kept at hand stays in the cache
            table[buffer] = table.get(buffer, 0) + _times(index.axes)

    for x in expressions_in(kernel.body):
        # What does not depend on a loop is computed before it.
        if x.operation == "load":
            touch(read, *x.payload)
        elif x.operation in OPERATIONS and x.dtype.kind in "fV":
            flops += OPERATIONS[x.operation] * _times(x.axes)
            width = max(width, x.dtype.itemsize)
    for statement in statements(kernel.body):
        if isinstance(statement, Store):
            touch(written, statement.buffer, statement.index)
    flops += _collected(kernel.body, 1)
    # An element that is read twice comes from memory once.
    total_read, total_written = (
        sum(min(count, buffer.size) * buffer.dtype.itemsize for buffer, count in table.items())
        for table in (read, written)
    )
    results = ", ".join(x.name for x in kernel.written)
    return Part(f"kernel for {results}", flops, total_read, total_written, width or 4)


def _collected(body: Sequence[Statement], times: int) -> int:
    """The operations with which loops collect numbers."""
    total = 0
    for statement in body:
        if isinstance(statement, Loop):
            total += _collected(statement.body, times * statement.axis.steps)
        elif isinstance(statement, When):
            total += _collected(statement.body, times)
        elif isinstance(statement, Accumulate) and statement.accumulator.dtype.kind in "fV":
            total += times
    return total


def _times(axes: frozenset[Axis]) -> int:
    return math.prod(axis.steps for axis in axes)


# What a machine can do

PRODUCT_SIZE, ROWS, COLUMNS = 768, 1024, 16384


def _peaks(flops_per_second: float | None, bytes_per_second: float | None) -> tuple[float, float]:
    if flops_per_second is not None and bytes_per_second is not None:
        return flops_per_second, bytes_per_second
    measured = _measured_peaks(config.threads, config.vector_bits)
    return flops_per_second or measured[0], bytes_per_second or measured[1]


@cache
def _measured_peaks(threads: int, vector_bits: int | None) -> tuple[float, float]:
    """What compiled code reaches on this machine: with a product of matrices, and with sums of long rows."""
    n = PRODUCT_SIZE
    square = numpy.ones((n, n), numpy.float32)
    product = _best_time(dot_general, [square, square], (n, n), dimension_numbers=MATRIX_PRODUCT)
    rows = numpy.ones((ROWS, COLUMNS), numpy.float32)
    sums = _best_time(reduce_sum, [rows], (ROWS,), axes=(1,))
    return 2 * n**3 / product, rows.nbytes / sums


def _best_time(primitive: Any, buffers: Sequence[numpy.ndarray], shape: tuple[int, ...], **params: Any) -> float:
    operands = [Variable(AbstractArray(x.shape, x.dtype)) for x in buffers]
    result = Variable(AbstractArray(shape, buffers[0].dtype))
    segment = Segment(Program(operands, [Equation(primitive, operands, params, [result])], [result]))
    times = []
    for _ in range(6):  # the first one also compiles and wakes the threads
        start = time.perf_counter()
        segment(*buffers)
        times.append(time.perf_counter() - start)
    return min(times)


# Printing

HEAD = ["", "times", "FLOPs", "read", "written"]


def _cells(part: Part) -> list[str]:
    times = str(part.repetitions) if part.repetitions != 1 else ""
    return [part.what, times, f"{part.flops:,}", f"{part.bytes_read:,} B", f"{part.bytes_written:,} B"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(x.rjust(width) for x, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _scaled(value: float, unit: str) -> str:
    """A number with a prefix, in three digits."""
    for prefix, factor in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6)]:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-9:.3g} n{unit}"
