"""The product of matrices as tiles of c, as LLVM code.

A tile of c, some rows by a few vectors, stays in registers while one loop runs over k: a row of b is loaded in vectors,
numbers of a are spread over all lanes, and each of them is multiplied with each vector. All else is there to feed that
loop. The rows of a tile of a are copied to one place at a fixed distance from each other, so that all of them are found
from one address; b is read where it lies if its rows are contiguous, or from panels as wide as a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from funcgrad.compiler.contraction.finish import call_finish
from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.packing import call_panel, panels_size
from funcgrad.compiler.contraction.text import Function, has_masks, vector


def write_tiles(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: the tasks from low up to high."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    parts, shape, scheme = kernel.parts, kernel.shape, kernel.spec.scheme
    for slot in ("a", "b", "c", "scratch", "k", "block_k", "blocks_m", "blocks_n", "inner_batches", "b_n"):
        kernel.slot(text, slot)
    for slot in ("a_outer", "a_inner", "b_outer", "b_inner", "c_outer", "c_inner"):
        kernel.slot(text, slot)
    for slot in ("m", "n", "block_m", "block_n", "a_m", "a_k", "b_k", "c_m"):
        kernel.slot(text, slot, parts)
    k, block_k = kernel.slot(text, "k"), kernel.slot(text, "block_k")
    rows, columns = kernel.slot(text, "m", parts), kernel.slot(text, "n", parts)
    block_m, block_n = kernel.slot(text, "block_m", parts), kernel.slot(text, "block_n", parts)
    tile = text.line(f"alloca [{(shape.rows + 3) // 4 * 4 * shape.stride} x {kernel.number}], align 64")
    partial = text.line(f"alloca i8, i64 {kernel.slot(text, 'partial_bytes')}, align 64")
    most = max(vectors for _, vectors in variants(kernel))
    zeros = text.line(f"alloca [{most} x {vector(kernel.number, shape.lanes)}], align 64")
    for v in range(most):
        wide = vector(kernel.number, shape.lanes)
        text.store(wide, kernel.wide.zero(shape.lanes), text.at(zeros, wide, v), kernel.size)
    panels = "null"
    if scheme == "panels":
        panels = text.line(f"alloca i8, i64 {kernel.slot(text, 'panel_bytes')}, align 64")
    # Of a sum in several blocks of k, all of the task is kept; otherwise a row of tiles at a time.
    partial_row = text.mul(text.divide(text.add(block_n, shape.width - 1), shape.width)[0], shape.width)
    several = text.compare("slt", block_k, k)
    keep = text.select(several, partial_row, 0)
    k_end = text.maximum(k, 1)
    c_m = kernel.slot(text, "c_m", parts)

    def task(t: str, _: list[str]) -> None:
        rest, at_m = text.divide(t, kernel.slot(text, "blocks_m"))
        batch, at_n = text.divide(rest, kernel.slot(text, "blocks_n"))
        outer, inner = text.divide(batch, kernel.slot(text, "inner_batches"))
        a = kernel.operand(text, "a", outer, inner)
        b = kernel.operand(text, "b", outer, inner)
        c = kernel.operand(text, "c", outer, inner)
        if scheme == "packed":
            b = text.at(kernel.slot(text, "scratch"), kernel.number, text.mul(batch, panels_size(kernel, text)))
        m0, n0 = text.mul(at_m, block_m), text.mul(at_n, block_n)
        m1, n1 = text.minimum(text.add(m0, block_m), rows), text.minimum(text.add(n0, block_n), columns)

        def over_k(k0: str, _: list[str]) -> None:
            count = text.minimum(block_k, text.sub(k, k0))
            first = text.compare("eq", k0, 0)
            last = text.compare("sge", text.add(k0, block_k), k)
            if scheme == "panels":
                call_panels(kernel, text, panels, b, outer, inner, k0, count, n0, n1)
            r = m0
            for height, vectors in variants(kernel):

                def row(r: str, _: list[str], height: int = height, vectors: int = vectors) -> None:
                    arguments = f"ptr %context, ptr {tile}, ptr {a}, i64 {outer}, i64 {inner}, i64 {r}"
                    text.do(f"call void @{kernel.helper('rows')}({arguments}, i64 {height}, i64 {k0}, i64 {count})")
                    sums = text.at(partial, kernel.number, text.mul(text.sub(r, m0), keep))
                    place = text.at(c, kernel.out.kind, text.mul(r, c_m)) if kernel.direct else c

                    def column(width: int, vectors: int, lanes: int, is_edge: bool):
                        def write(j: str, _: list[str]) -> None:
                            if scheme == "in_place":
                                at = text.add(text.mul(k0, kernel.slot(text, "b_k", parts)), j)
                                source = text.at(b, kernel.b.kind, at)
                                step = text.mul(kernel.slot(text, "b_k", parts), kernel.b.size)
                            elif scheme == "packed":
                                source = text.at(b, kernel.number, text.add(text.mul(j, k), text.mul(k0, width)))
                                step = str(width * kernel.size)
                            else:
                                source = text.at(panels, kernel.number, text.mul(text.sub(j, n0), count))
                                step = str(width * kernel.size)
                            write_tile(
                                kernel,
                                text,
                                Tile(height, vectors, lanes, is_edge, r, j, n0, n1, sums, partial_row, zeros, place),
                                tile,
                                source,
                                step,
                                count,
                                first,
                                last,
                                (outer, inner),
                            )

                        return write

                    width = vectors * shape.lanes
                    j, _ = text.loop(n0, text.sub(n1, width - 1), width, column(width, vectors, shape.lanes, False))
                    lanes = 1 if scheme == "in_place" and not has_masks(kernel.target, kernel.b.size) else shape.lanes
                    if width > 1:
                        text.loop(j, n1, lanes, column(lanes, 1, lanes, True))
                    if not kernel.direct:
                        text.choose(
                            last,
                            lambda: call_finish(kernel, text, sums, partial_row, (outer, inner), r, height, n0, n1),
                        )

                r, _ = text.loop(r, text.sub(m1, height - 1), height, row)

        text.loop(0, k_end, block_k, over_k)

    text.loop("%low", "%high", 1, task)
    text.finish()


def variants(kernel: Frame) -> list[tuple[int, int]]:
    """Rows and vectors of the tiles that there is code for: of full ones, and of what is left below them."""
    full, shape = kernel.shape.rows, kernel.shape
    if kernel.spec.scheme != "in_place":
        heights = (8, 4, 2 if kernel.parts == 2 else 1)
        return [(height, shape.vectors) for height in (full, *(height for height in heights if height < full))]
    # Few rows need many columns, since each sum has to wait for the one before it.
    heights = (4, 2) if kernel.parts == 2 else (4, 2, 1)
    few = [(height, max(shape.vectors, min(16 // height, 8))) for height in heights if height < full]
    return [(full, shape.vectors), *few]


@dataclass(frozen=True)
class Tile:
    """A tile of c that is being written: its size, and where it is."""

    height: int
    vectors: int
    lanes: int
    is_edge: bool
    r: str
    j: str
    n0: str
    n1: str
    sums: str
    partial_row: str
    zeros: str
    place: str


def write_tile(
    kernel: Frame,
    text: Function,
    at: Tile,
    a: str,
    b: str,
    step: str,
    count: str,
    first: str,
    last: str,
    batch: tuple[str, str],
) -> None:
    """One tile of c, for one block of k. `b` is the address of its first row there; rows are `step` bytes apart."""
    lanes, number = at.lanes, kernel.number
    kind = vector(number, lanes)
    cells = [(i, v) for i in range(at.height) for v in range(at.vectors)]
    masked_in_place = at.is_edge and lanes > 1 and kernel.spec.scheme == "in_place"
    mask = text.first_lanes(text.sub(at.n1, at.j), lanes) if at.is_edge and lanes > 1 else None

    partial = text.at(at.sums, number, text.sub(at.j, at.n0))
    # The first block of k starts from a row of zeros, read again for each row of the tile.
    start_place = text.line(f"select i1 {first}, ptr {at.zeros}, ptr {partial}")
    start_row = text.select(first, 0, at.partial_row)
    places = vector_places(text, start_place, number, start_row, cells, lanes)
    start = [text.load(kind, place, kernel.size) for place in places]

    def inner(i: str, values: list[str]) -> list[str]:
        *sums, b = values
        columns = []
        for v in range(at.vectors):
            place = text.at(b, kernel.b.kind if kernel.spec.scheme == "in_place" else number, v * lanes)
            if masked_in_place and mask is not None:
                column = text.masked_load(kernel.b.kind, lanes, place, mask)
            elif kernel.spec.scheme == "in_place":
                column = text.load(vector(kernel.b.kind, lanes), place, kernel.b.size)
            else:
                column = text.load(kind, place, kernel.size)
            columns.append(kernel.b.widen(text, column, lanes) if kernel.spec.scheme == "in_place" else column)
        place = text.at(a, number, i)
        results = []
        for row in range(at.height):
            x = text.load(number, text.at(place, number, row * kernel.shape.stride), kernel.size)
            x = text.splat(number, x, lanes)
            for column in columns:
                results.append(kernel.wide.multiply_add(text, x, column, sums[len(results)], lanes))
        return [*results, text.line(f"getelementptr i8, ptr {b}, i64 {step}")]

    _, values = text.loop(0, count, 1, inner, [*((kind, x) for x in start), ("ptr", b)])

    end, end_row, stored = partial, at.partial_row, True
    if kernel.direct:
        # The last block of k stores to c, if the edge of c can be spared.
        stored = mask is None or has_masks(kernel.target, kernel.out.size)
        if stored:
            c = text.at(at.place, kernel.out.kind, at.j)
            end = text.line(f"select i1 {last}, ptr {c}, ptr {partial}")
            end_row = text.select(last, kernel.slot(text, "c_m", kernel.parts), at.partial_row)
    for place, value in zip(vector_places(text, end, number, end_row, cells, lanes), values, strict=False):
        if mask is None or not stored or not kernel.direct:
            text.store(kind, value, place, kernel.size)
        else:
            text.masked_store(number, lanes, value, place, mask)
    if not stored:
        call = (partial, at.partial_row, batch, at.r, at.height, at.j, at.n1)
        text.choose(last, lambda: call_finish(kernel, text, *call))


def vector_places(
    text: Function, first: str, kind: str, row: str, cells: list[tuple[int, int]], lanes: int
) -> list[str]:
    """The addresses of the vectors of a tile, from that of its first element."""
    places, current = [], first
    for i, v in cells:
        if i and v == 0:
            current = text.at(current, kind, row)
        places.append(text.at(current, kind, v * lanes))
    return places


def call_panels(
    kernel: Frame, text: Function, panels: str, b: str, outer: str, inner: str, k0: str, count: str, n0: str, n1: str
) -> None:
    """Copy a block of b into panels beside each other."""
    shape = kernel.shape

    def panel(width: int):
        def write(j: str, _: list[str]) -> None:
            target = text.at(panels, kernel.number, text.mul(text.sub(j, n0), count))
            call_panel(kernel, text, target, b, outer, inner, k0, count, j, width)

        return write

    j, _ = text.loop(n0, text.sub(n1, shape.width - 1), shape.width, panel(shape.width))
    text.loop(j, n1, shape.lanes, panel(shape.lanes))
