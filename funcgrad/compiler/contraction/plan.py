"""How a product of matrices is computed: which scheme, in which blocks, with which operand as which.

A plan is made from sizes and strides. It is cheap, and knows nothing of the code but the size of its tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcgrad.compiler.contraction.frame import ADDRESSES, SLOTS, multiplies_pairs, tile_shape
from funcgrad.compiler.contraction.text import element_of
from funcgrad.compiler.module import has_masks
from funcgrad.compiler.target import Target

PANEL_BYTES = 128 * 1024  # of b, on the stack
PARTIAL_BYTES = 128 * 1024  # of c, on the stack
TASK = 1 << 21  # multiplications that are worth the attention of a thread, at least
READING_TASK = 1 << 18  # the same, where each number of a matrix is used once
TASKS = 32  # that are enough to share out
STREAM_BYTES, STREAMS = 256 * 1024, 16  # from which size on a matrix is read by that many rows at a time
CHUNK = 1 << 15  # multiplications that are worth a turn of a thread


class Plan(NamedTuple):
    """How a product is computed.

    Attributes:
        scheme: "in_place" (b is read where it lies), "in_place_turned" (a as well, whose columns are contiguous),
            "panels" (each task copies its part of b), "packed" (all of b is copied before, by the function with "_pack"
            in its name) or "dot" (vectors run along k).
        swapped: whether the transposed result is computed: the address of b goes into slot "a", that of a into slot
            "b", and row and column change places in an epilogue.
        numbers: what follows the addresses in the slots of the context.
        tasks: how many tasks there are. The function computes those from `low` up to `high`.
        grain: how many tasks a thread should take at a time.
        pack_tasks: how many tasks the function that packs has; 0 if the scheme needs none.
        scratch_bytes: of the memory whose address is in slot "scratch", aligned to 64.
        cost: multiplications in all.
    """

    scheme: str
    swapped: bool
    numbers: tuple[int, ...]
    tasks: int
    grain: int
    pack_tasks: int
    scratch_bytes: int
    cost: int

    def context(
        self, a: int, b: int, c: int, scratch: int = 0, epilogue: int = 0, extra: Sequence[int] = ()
    ) -> list[int]:
        """The slots of a context for operands at these addresses, as the caller names them (before a swap)."""
        return [*((b, a) if self.swapped else (a, b)), c, scratch, epilogue, *self.numbers, *extra]


class _Matrix(NamedTuple):
    """Strides of an operand over the batch and over its two axes."""

    outer: int
    inner: int
    rows: int
    columns: int

    def turned(self) -> _Matrix:
        return self._replace(rows=self.columns, columns=self.rows)


def _batches(batch: int | tuple[int, int]) -> tuple[int, int]:
    return batch if isinstance(batch, tuple) else (1, batch)


def _matrix(strides: Sequence[int], batch: tuple[int, int], rows: int, columns: int) -> _Matrix:
    """The strides of axes of one element do not matter: they become 1, which suits all schemes."""
    *before, row, column = strides
    outer, inner = (0, 0, *before)[-2:]
    if batch[0] == 1:
        outer = inner * batch[1]
    row, column = (row if rows != 1 else 1), (column if columns != 1 else 1)
    return _Matrix(outer, inner, row, column)


def plan_contraction(
    batch: int | tuple[int, int],
    m: int,
    n: int,
    k: int,
    strides_a: Sequence[int],
    strides_b: Sequence[int],
    strides_c: Sequence[int] | None,
    dtype: Any,
    target: Target,
    dtype_b: Any = None,
    *,
    reads_a: bool = False,
    reads_b: bool = False,
    scheme: str | None = None,
    pairs: bool | None = None,
) -> Plan:
    """Chooses how to compute c[..., m, n] = sum over k of a[..., m, k] b[..., k, n].

    Arguments:
        batch: how many products there are: a number, or two for two axes with strides of their own.
        m, n, k: the sizes.
        strides_a: in elements, over the batch axes (as many as `batch` has) and (m, k). 0 for what is repeated.
        strides_b: the same over (k, n).
        strides_c: the same over (m, n), of which one must be 1 (if its axis has more than one element); None if c is
            contiguous.
        dtype: of a; also of b and c, if those are not given.
        target: the CPU.
        reads_a, reads_b: whether the spec has readers for these operands, whose strides do not matter then.
        scheme: the one to use; None for the one that suits best.
        pairs: whether the CPU multiplies pairs of numbers; None for wherever it can.
    """
    outer, inner = _batches(batch)
    element_a, element_b = element_of(dtype), element_of(dtype_b if dtype_b is not None else dtype)
    size = max(element_a.number_size, element_b.number_size)
    parts = element_a.parts
    # Pairs along k are multiplied at once; what holds numbers otherwise holds pairs.
    if pairs is None:
        pairs = not (reads_a or reads_b) and multiplies_pairs(element_a.dtype, element_b.dtype, target)
    pair = 2 if pairs else 1
    shape = tile_shape(target, size)
    batch = outer, inner
    strides_c = strides_c or (inner * m * n, m * n, n, 1)
    a, b, c = _matrix(strides_a, batch, m, k), _matrix(strides_b, batch, k, n), _matrix(strides_c, batch, m, n)
    can_swap = not reads_a and not reads_b
    if can_swap and a.outer == a.inner * inner and c.outer == c.inner * inner and b.outer == b.inner == 0:
        # One matrix with the rows of all, where those of a and of c follow each other.
        apart_a, apart_c = a.rows * m if m > 1 else a.inner, c.rows * m if m > 1 else c.inner
        if outer * inner > 1 and (a.inner, c.inner) == (apart_a, apart_c) and c.columns == 1 and n > 1:
            if m == 1:
                a, c = a._replace(rows=a.inner), c._replace(rows=c.inner)
            m, outer, inner = m * outer * inner, 1, 1
            a, b, c = (x._replace(outer=0, inner=0) for x in (a, b, c))
    batches = outer * inner

    dot = can_swap and a.columns == b.rows == 1 and parts == 1  # may vectors run along k?
    if m == 1 or n == 1:
        # A row of results where vectors run along n, a column where they run along k.
        swapped = can_swap and max(m, n) > 1 and (m == 1 if dot else n == 1 and c.rows == 1)
    else:
        swapped = can_swap and c.columns != 1
    if swapped:
        a, b, c = b.turned(), a.turned(), c.turned()
        m, n = n, m
        element_a, element_b = element_b, element_a

    columns = n * parts
    width, lanes = shape.width, shape.lanes
    near = b.columns == 1 and not reads_b
    masks = lanes == 1 or has_masks(target, element_b.size)
    if scheme is not None:
        pass
    elif dot and (n == 1 or min(m, n) < 4 or (not near and m <= (32 if k >= 256 else 8))):
        scheme = "dot"
    elif (
        near
        and (m * parts <= 4 * shape.rows or k * columns * size <= 64 * 1024)
        and (masks or columns % lanes == 0)
        and k % pair == 0
    ):
        scheme = "in_place"
        if a.rows == 1 and a.columns != 1 and parts == 1 and not reads_a and not element_a.converts:
            scheme = "in_place_turned"
    elif m * parts <= (64 if 2 * k * columns * size <= PANEL_BYTES else 32) or columns <= width:
        # Copying b is not worth a step of its own.
        scheme = "panels"
    else:
        scheme = "packed"

    cost = batches * m * n * k * parts * parts
    enough = max(READING_TASK if min(m, n) <= 2 else TASK, cost // TASKS)
    # A block of k fits a tile of a; blocks are of about the same size.
    depth = pair * shape.depth
    block_k = max(1, -(-k // max(1, -(-k // depth))))
    if block_k < k:
        block_k = _ceil(block_k, 8) * 8 if block_k + 8 <= depth else _ceil(block_k, pair) * pair
    # A large matrix that is read once is best read along its rows, some of them at a time.
    streams = scheme.startswith("in_place") and m <= 2 and k * columns * size > STREAM_BYTES
    if streams:
        block_k = min(block_k, STREAMS)
    # Blocks of columns keep their part of b in the second level of the cache.
    if scheme == "dot":
        block_m, block_n = (m, 1) if n == 1 else (max(1, 256 // 4 * 4), 256)
        block_m = min(max(m, 1), max(8, _multiple(enough // max(1, k * min(n, block_n)), 8)))
    else:
        by_rows = max(1024, min(2048, n // 4)) if streams else 512
        most = {
            "in_place": by_rows,
            "in_place_turned": by_rows,
            "packed": 256,
            "panels": max(1, PANEL_BYTES // (_ceil(block_k, pair) * size * width)) * width,
        }
        block_n = max(width, _multiple(most[scheme], width)) // parts
        block_n = min(block_n, max(1, n))
        tiles = shape.rows // parts
        block_m = max(tiles, _multiple(enough // max(1, block_n * k * parts * parts), tiles))
        if block_k < k:
            block_m = min(
                block_m, max(tiles, PARTIAL_BYTES // (size * max(1, block_n * parts)) // parts // tiles * tiles)
            )
        block_m = _even(max(1, m), block_m, tiles)
        block_n = _even(max(1, n), block_n, width // parts)
    blocks_m, blocks_n = -(-m // block_m), -(-n // block_n)
    tasks = batches * blocks_m * blocks_n
    rows = block_m * parts if block_k < k else shape.rows
    gap = width * size  # which whole vectors may read
    partial = rows * (_multiple(block_n * parts + lanes - 1, lanes) + shape.reach) * size
    panel = (
        _multiple(block_n * parts + width - 1, width) * _ceil(block_k, pair) * size + gap if scheme == "panels" else 64
    )
    panels = -(-columns // width)
    scratch = batches * _multiple(columns + lanes - 1, lanes) * _ceil(k, pair) * size + gap if scheme == "packed" else 0
    values = dict(
        m=m,
        n=n,
        k=k,
        block_m=block_m,
        block_n=block_n,
        block_k=block_k,
        blocks_m=blocks_m,
        blocks_n=blocks_n,
        inner_batches=inner,
        partial_bytes=partial,
        panel_bytes=panel,
    )
    for name, matrix, (row, column) in (("a", a, "mk"), ("b", b, "kn"), ("c", c, "mn")):
        values |= {f"{name}_outer": matrix.outer, f"{name}_inner": matrix.inner}
        values |= {f"{name}_{row}": matrix.rows, f"{name}_{column}": matrix.columns}
    return Plan(
        scheme=scheme,
        swapped=swapped,
        numbers=tuple(values[name] for name in SLOTS[len(ADDRESSES) :]),
        tasks=tasks,
        grain=max(1, CHUNK * max(1, tasks) // max(1, cost)),
        pack_tasks=batches * panels if scheme == "packed" and k else 0,
        scratch_bytes=scratch,
        cost=cost,
    )


def _ceil(number: int, of: int) -> int:
    return -(-number // of)


def _multiple(number: int, of: int) -> int:
    return number // of * of


def _even(size: int, block: int, of: int) -> int:
    """A block not larger than `block`, such that all blocks are about equal."""
    if size <= block:
        return size
    count = _ceil(size, block)
    return min(block, _ceil(_ceil(size, count), of) * of)
