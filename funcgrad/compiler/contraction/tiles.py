"""The product of matrices as tiles of c, as LLVM code.

A tile of c, some rows by a few vectors, stays in registers while one loop runs over k: a row of b is loaded in vectors,
numbers of a are spread over all lanes, and each of them is multiplied with each vector. All else is there to feed that
loop. The rows of a tile of a are copied to one place at a fixed distance from each other, so that all of them are found
from one address; b is read where it lies if its rows are contiguous, or from panels as wide as a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from funcgrad.compiler.contraction.finish import call_finish, has_epilogue
from funcgrad.compiler.contraction.frame import WIDEST, Frame
from funcgrad.compiler.contraction.packing import call_panel, panels_size
from funcgrad.compiler.contraction.patches import place_of
from funcgrad.compiler.contraction.text import Function, paired
from funcgrad.compiler.module import has_masks, vector


def write_tiles(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: the tasks from low up to high."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    parts, shape, scheme = kernel.parts, kernel.shape, kernel.spec.scheme
    for slot in ("a", "b", "c", "scratch", "epilogue", "k", "block_k", "blocks_m", "blocks_n", "inner_batches", "b_n"):
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
    partial_row = text.mul(text.divide(text.add(block_n, shape.lanes - 1), shape.lanes)[0], shape.lanes)
    partial_row = text.add(partial_row, shape.reach)
    several = text.compare("slt", block_k, k)
    keep = text.select(several, partial_row, 0)
    k_end, k_steps = text.maximum(k, 1), kernel.steps(text, k)
    c_m = kernel.slot(text, "c_m", parts)
    hands_on = has_epilogue(kernel, text)
    stores = text.line(f"xor i1 {hands_on}, true")

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
            wide = text.compare("sgt", text.sub(n1, n0), shape.lanes)
            r, end = m0, full_end(text, shape.rows, m0, m1, wide)
            for height, vectors in variants(kernel):

                def row(r: str, _: list[str], height: int = height, vectors: int = vectors) -> None:
                    arguments = f"ptr %context, ptr {tile}, ptr {a}, i64 {outer}, i64 {inner}, i64 {r}"
                    rows_of_a = tile
                    if kernel.turned:
                        place_a = text.add(r, text.mul(k0, kernel.slot(text, "a_k")))
                        rows_of_a = text.at(a, kernel.a.kind, place_a)
                    else:
                        call = f"call void @{kernel.helper('rows')}({arguments}, i64 {height}, i64 {k0}, i64 {count})"
                        text.do(call)
                    sums = text.at(partial, kernel.number, text.mul(text.sub(r, m0), keep))
                    place = text.at(c, kernel.out.kind, text.mul(r, c_m)) if kernel.direct else c
                    at_k = text.mul(k0, kernel.slot(text, "b_k", parts))
                    before, steps = kernel.steps(text, k0), kernel.steps(text, count)
                    fetch_results(kernel, text, c, r, n0, n1)

                    def write(j: str, vectors: int, lanes: int, width: str, chains: int = 1) -> None:
                        """A tile at column j; a panel is `width` columns wide."""
                        step = text.mul(width, kernel.size)
                        if kernel.in_place:
                            source = text.at(b, kernel.b.kind, text.add(at_k, j))
                            step = text.mul(kernel.slot(text, "b_k", parts), kernel.b.size)
                            step = kernel.first_of(text, step)
                        elif scheme == "packed":
                            source = text.at(b, kernel.number, text.add(text.mul(j, k_steps), text.mul(before, width)))
                        else:
                            source = text.at(panels, kernel.number, text.mul(text.sub(j, n0), steps))
                        at = Tile(height, vectors, lanes, r, j, n0, n1, sums, partial_row, zeros, place, chains)
                        limits = first, text.line(f"and i1 {last}, {stores}")
                        write_tile(kernel, text, at, rows_of_a, source, step, steps, limits, (outer, inner))
                        end = text.minimum(text.add(j, vectors * lanes), n1)
                        own = text.at(sums, kernel.number, text.sub(j, n0))
                        complete = text.line(f"and i1 {last}, {hands_on}") if kernel.direct else last
                        finish = (own, partial_row, (outer, inner), r, height, j, end)
                        text.choose(complete, lambda: call_finish(kernel, text, *finish))

                    def column(j: str, _: list[str]) -> None:
                        narrow = text.compare("sle", text.sub(n1, j), shape.lanes)
                        width = text.select(narrow, shape.lanes, shape.width)
                        if vectors == WIDEST and height == 1 and shape.lanes > 1:
                            few = text.compare("sle", text.sub(n1, j), shape.width)
                            text.choose(
                                few,
                                lambda: write(j, shape.vectors, shape.lanes, width, CHAINS),
                                lambda: write(j, vectors, shape.lanes, width),
                            )
                        elif vectors > 1 and (height >= 4 or shape.lanes == 1):
                            # Not worth it for single rows, which wait for each other anyway.
                            text.choose(
                                narrow,
                                lambda: write(j, 1, shape.lanes, str(shape.lanes)),
                                lambda: write(j, vectors, shape.lanes, str(shape.width)),
                            )
                        else:
                            write(j, vectors, shape.lanes, width)

                    width = vectors * shape.lanes
                    if kernel.in_place and not has_masks(kernel.target, kernel.b.size):
                        j, _ = text.loop(
                            n0,
                            text.sub(n1, width - 1),
                            width,
                            lambda j, _: write(j, vectors, shape.lanes, str(width)),
                        )
                        text.loop(j, n1, parts, lambda j, _: write(j, parts, 1, str(parts)))
                    else:
                        text.loop(n0, n1, width, column)

                r, _ = text.loop(r, end if height == shape.rows else text.sub(m1, height - 1), height, row)

        text.loop(0, k_end, block_k, over_k)

    text.loop("%low", "%high", 1, task)
    text.finish()


def fetch_results(kernel: Frame, text: Function, c: str, r: str, n0: str, n1: str) -> None:
    """Ask for the memory of results that lie far apart, each in a line of its own, before they are computed."""
    patches = kernel.spec.patches
    if patches is None or patches.result_output == 1:
        return
    start = place_of(text, r, patches.results)
    name = kernel.module.intrinsic("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])

    def fetch(j: str, _: list[str]) -> None:
        place = text.at(c, kernel.out.kind, text.add(start, text.mul(j, patches.result_output)))
        text.do(f"call void @{name}(ptr {place}, i32 1, i32 3, i32 1)")

    text.loop(n0, n1, 1, fetch)


def full_end(text: Function, height: int, m0: str, m1: str, wide: str) -> str:
    """Where full tiles end.

    If tiles are wide, four rows at a time shall take what is left, which single rows would be slow at.
    """
    count = text.sub(m1, m0)
    full, left = text.divide(count, height)
    if height % 4 == 2:
        odd = text.line(f"lshr i64 {left}, 1")
        full = text.sub(full, text.select(wide, text.minimum(text.line(f"and i64 {odd}, 1"), full), 0))
    return text.add(m0, text.mul(full, height))


def variants(kernel: Frame) -> list[tuple[int, int]]:
    """Rows and vectors of the tiles that there is code for: of full ones, and of what is left below them."""
    shape, least = kernel.shape, kernel.parts
    if not kernel.in_place:
        few = [(4, shape.vectors), (least, shape.vectors)]
    else:
        # Few rows need many columns, since each sum has to wait for the one before it.
        few = [(4, 4 if kernel.target.vector_registers == 32 else 2), (least, WIDEST)]
    return [(shape.rows, shape.vectors), *(variant for variant in few if variant[0] < shape.rows)]


@dataclass(frozen=True)
class Tile:
    """A tile of c that is being written: its size, where it is, and how many sums it has for each of its numbers."""

    height: int
    vectors: int
    lanes: int
    r: str
    j: str
    n0: str
    n1: str
    sums: str
    partial_row: str
    zeros: str
    place: str
    chains: int


CHAINS = 4  # sums of every fourth step, where there are few columns, for a sum has to wait for the one before it


def write_tile(
    kernel: Frame,
    text: Function,
    at: Tile,
    a: str,
    b: str,
    step: str,
    count: str,
    limits: tuple[str, str],
    batch: tuple[str, str],
) -> None:
    """One tile of c, for one block of k, of which `limits` says whether it is the first, and whether it is that after
    which sums are stored.

    `b` is the address of its first row there; what the loop over k reads of it in its `count` steps is `step` bytes
    apart.
    """
    first, last = limits
    lanes, number = at.lanes, kernel.number
    kind = vector(number, lanes)
    cells = [(i, v) for i in range(at.height) for v in range(at.vectors)]
    in_place = kernel.in_place
    left = text.sub(at.n1, at.j)
    masks = []
    if lanes > 1 and (
        has_masks(kernel.target, kernel.b.size) if in_place else has_masks(kernel.target, kernel.out.size)
    ):
        masks = [text.first_lanes(text.sub(left, v * lanes), lanes) for v in range(at.vectors)]

    partial = text.at(at.sums, number, text.sub(at.j, at.n0))
    # The first block of k starts from a row of zeros, read again for each row of the tile.
    start_place = text.line(f"select i1 {first}, ptr {at.zeros}, ptr {partial}")
    start_row = text.select(first, 0, at.partial_row)
    places = vector_places(text, start_place, number, start_row, cells, lanes)
    start = [text.load(kind, place, kernel.size) for place in places]

    next_row = text.line(f"lshr i64 {step}, 1") if kernel.pairs and kernel.spec.patches is not None else "0"

    def pairs_in_rows(row: str, v: int) -> str:
        """Pairs of two rows of a panel, in which a convolution has them one after the other."""
        place = text.at(row, kernel.kept, v * lanes)
        following = text.line(f"getelementptr i8, ptr {place}, i64 {next_row}")
        kind = vector(kernel.kept, lanes)
        first, second = (text.load(kind, x, kernel.kept_size) for x in (place, following))
        return paired(text, first, second, lanes)

    def column_in_place(row: str, v: int) -> str:
        place = text.at(row, kernel.b.kind, v * lanes)
        if masks:
            return text.masked_load(kernel.b.kind, lanes, place, masks[v])
        return text.load(vector(kernel.b.kind, lanes), place, kernel.b.size)

    def inner(i: str, values: list[str]) -> list[str]:
        *sums, b = values
        columns = []
        for v in range(at.vectors):
            if kernel.pairs and kernel.spec.patches is not None:
                columns.append(pairs_in_rows(b, v))
            elif not in_place:
                columns.append(text.load(vector(kernel.step, lanes), text.at(b, number, v * lanes), kernel.size))
            elif kernel.pairs:
                following = text.at(b, kernel.b.kind, kernel.slot(text, "b_k"))
                columns.append(paired(text, column_in_place(b, v), column_in_place(following, v), lanes))
            else:
                columns.append(kernel.b.widen(text, column_in_place(b, v), lanes))
        place, apart = text.at(a, number, i), kernel.shape.stride
        if kernel.turned:
            place, apart = text.at(a, number, text.mul(i, kernel.slot(text, "a_k"))), 1
        results = []
        for row in range(at.height):
            x = text.load(kernel.step, text.at(place, number, row * apart), kernel.size)
            x = text.splat(kernel.step, x, lanes)
            for column in columns:
                results.append(kernel.multiply_add(text, x, column, sums[len(results)], lanes))
        return [*results, text.line(f"getelementptr i8, ptr {b}, i64 {step}")]

    done: str = "0"
    if at.chains > 1:
        many = [(kind, x) for x in [*start, *[kernel.wide.zero(lanes)] * (len(start) * (at.chains - 1))]]

        def inner_of_chains(i: str, values: list[str]) -> list[str]:
            *sums, b = values
            results = []
            for chain in range(at.chains):
                own = sums[chain * len(start) : (chain + 1) * len(start)]
                *own, b = inner(text.add(i, chain), [*own, b])
                results += own
            return [*results, b]

        whole = text.sub(count, at.chains - 1)
        done, (*sums, b) = text.loop(0, whole, at.chains, inner_of_chains, [*many, ("ptr", b)])
        while len(sums) > len(start):
            half = len(sums) // 2
            sums = [kernel.wide.plus(text, x, y, lanes) for x, y in zip(sums[:half], sums[half:], strict=True)]
        start = sums
    _, values = text.loop(done, count, 1, inner, [*((kind, x) for x in start), ("ptr", b)])

    def store(end: str, end_row: str, masked: bool) -> None:
        for (_, v), place, value in zip(
            cells, vector_places(text, end, number, end_row, cells, lanes), values, strict=False
        ):
            if masked:
                text.masked_store(number, lanes, value, place, masks[v])
            else:
                text.store(kind, value, place, kernel.size)

    if not kernel.direct:
        store(partial, at.partial_row, False)
        return
    # The last block of k stores to c.
    c, c_row = text.at(at.place, kernel.out.kind, at.j), kernel.slot(text, "c_m", kernel.parts)
    inside = text.compare("sge", left, at.vectors * lanes)
    if lanes == 1:
        store(text.line(f"select i1 {last}, ptr {c}, ptr {partial}"), text.select(last, c_row, at.partial_row), False)
    elif masks:
        end, end_row = text.line(f"select i1 {last}, ptr {c}, ptr {partial}"), text.select(last, c_row, at.partial_row)
        text.choose(inside, lambda: store(end, end_row, False), lambda: store(end, end_row, True))
    else:
        to_c = text.line(f"and i1 {last}, {inside}")
        store(text.line(f"select i1 {to_c}, ptr {c}, ptr {partial}"), text.select(to_c, c_row, at.partial_row), False)
        call = (partial, at.partial_row, batch, at.r, at.height, at.j, at.n1)
        at_edge = text.line(f"xor i1 {to_c}, {last}")
        text.choose(at_edge, lambda: call_finish(kernel, text, *call))


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
    shape, steps = kernel.shape, kernel.steps(text, count)

    def panel(j: str, _: list[str]) -> None:
        target = text.at(panels, kernel.number, text.mul(text.sub(j, n0), steps))
        narrow = text.compare("sle", text.sub(n1, j), shape.lanes)
        width = text.select(narrow, shape.lanes, shape.width)
        call_panel(kernel, text, target, b, outer, inner, k0, count, j, width)

    text.loop(n0, n1, shape.width, panel)
