"""The product of matrices as tiles of c, as LLVM code: the loops around the functions of `tile`.

The rows of a tile of a are copied to one place at a fixed distance from each other, so that all of them are found from
one address; b is read where it lies if its rows are contiguous, or from panels as wide as a tile.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler.contraction.finish import call_finish, has_epilogue
from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.packing import call_panel, panels_size
from funcgrad.compiler.contraction.patches import place_of
from funcgrad.compiler.contraction.text import Function
from funcgrad.compiler.contraction.tile import call_tile, reads_masked, stores_masked, tile_name, tiles_of, write_tile
from funcgrad.compiler.module import vector


def write_tiles(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: the tasks from low up to high."""
    tiles = tiles_of(kernel)
    for tile in dict.fromkeys(x for pair in tiles for x in pair):
        write_tile(kernel, tile)
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
    rows_of_a = text.line(f"alloca [{(shape.rows + 3) // 4 * 4 * shape.stride} x {kernel.number}], align 64")
    partial = text.line(f"alloca i8, i64 {kernel.slot(text, 'partial_bytes')}, align 64")
    most = max(x.vectors for pair in tiles for x in pair)
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
    a_k = kernel.slot(text, "a_k") if kernel.turned else "0"
    stores = text.line(f"xor i1 {has_epilogue(kernel, text)}, true")

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
            end = full_end(text, shape.rows, m0, m1, wide)
            at_k = text.mul(k0, kernel.slot(text, "b_k", parts))
            before, steps = kernel.steps(text, k0), kernel.steps(text, count)
            height = "0"

            def row(r: str, _: list[str]) -> None:
                """A row of tiles: of the highest ones that there are rows for."""
                nonlocal height
                fits = [text.compare("slt", r, end)]
                fits += [text.compare("slt", r, text.sub(m1, x.height - 1)) for x, _ in tiles[1:-1]]
                height = first_of(text, fits, [str(x.height) for x, _ in tiles])
                sizes = [first_of(text, fits, [str(pair[n].columns) for pair in tiles]) for n in (0, 1)]
                names = [
                    first_of(text, fits, [f"@{tile_name(kernel, pair[n])}" for pair in tiles], "ptr") for n in (0, 1)
                ]
                tile_of_a = rows_of_a
                if kernel.turned:
                    tile_of_a = text.at(a, kernel.a.kind, text.add(r, text.mul(k0, kernel.slot(text, "a_k"))))
                else:
                    arguments = f"ptr %context, ptr {rows_of_a}, ptr {a}, i64 {outer}, i64 {inner}, i64 {r}"
                    text.do(f"call void @{kernel.helper('rows')}({arguments}, i64 {height}, i64 {k0}, i64 {count})")
                sums = text.at(partial, kernel.number, text.mul(text.sub(r, m0), keep))
                place = text.at(c, kernel.out.kind, text.mul(r, c_m)) if kernel.direct else c
                fetch_results(kernel, text, c, r, n0, n1)
                size = "0"

                def column(j: str, _: list[str]) -> None:
                    """One tile."""
                    nonlocal size
                    left = text.sub(n1, j)
                    if kernel.in_place and not reads_masked(kernel):
                        at_end = text.compare("slt", left, sizes[0])
                    else:
                        at_end = text.compare("sle", left, sizes[1])
                    size = text.select(at_end, sizes[1], sizes[0])
                    tile = text.line(f"select i1 {at_end}, ptr {names[1]}, ptr {names[0]}")
                    if kernel.in_place:
                        source = text.at(b, kernel.b.kind, text.add(at_k, j))
                        step = text.mul(kernel.slot(text, "b_k", parts), kernel.b.size)
                        step = kernel.first_of(text, step)
                    else:
                        narrow = text.compare("sle", left, shape.lanes)
                        width = text.select(narrow, shape.lanes, shape.width)
                        step = text.mul(width, kernel.size)
                        if scheme == "packed":
                            source = text.at(b, kernel.number, text.add(text.mul(j, k_steps), text.mul(before, width)))
                        else:
                            source = text.at(panels, kernel.number, text.mul(text.sub(j, n0), steps))
                    own = text.at(sums, kernel.number, text.sub(j, n0))
                    # The first block of k starts from a row of zeros, read again for each row of the tile.
                    start = text.line(f"select i1 {first}, ptr {zeros}, ptr {own}")
                    start_row = text.select(first, 0, partial_row)
                    target, target_row, complete = own, partial_row, last
                    if kernel.direct:
                        # The last block of k stores to c.
                        to_c = text.line(f"and i1 {last}, {stores}")
                        if not stores_masked(kernel, tiles[0][0]):
                            to_c = text.line(f"and i1 {to_c}, {text.compare('sge', left, size)}")
                        in_c = text.at(place, kernel.out.kind, j)
                        target = text.line(f"select i1 {to_c}, ptr {in_c}, ptr {own}")
                        target_row = text.select(to_c, c_m, partial_row)
                        complete = text.line(f"and i1 {last}, {text.line(f'xor i1 {to_c}, true')}")
                    pointers, numbers = (tile_of_a, source), (step, steps, left)
                    call_tile(text, tile, *pointers, *numbers, start, start_row, target, target_row, a_k)
                    finish = (own, partial_row, (outer, inner), r, height, j, text.minimum(text.add(j, size), n1))
                    text.choose(complete, lambda: call_finish(kernel, text, *finish))

                text.loop(n0, n1, lambda: size, column)

            text.loop(m0, m1, lambda: height, row)

        text.loop(0, k_end, block_k, over_k)

    text.loop("%low", "%high", 1, task)
    text.finish()


def first_of(text: Function, fits: Sequence[str], values: Sequence[str], kind: str = "i64") -> str:
    """The value of the first condition that holds, or else the last value."""
    *values, chosen = values
    for truth, value in zip(reversed(fits), reversed(values), strict=True):
        if value != chosen:
            chosen = text.line(f"select i1 {truth}, {kind} {value}, {kind} {chosen}")
    return chosen


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
