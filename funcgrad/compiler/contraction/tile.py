"""One tile of c, as a function of its own in LLVM code.

A tile, some rows by a few vectors, stays in registers while one loop runs over k: a row of b is loaded in vectors,
numbers of a are spread over all lanes, and each of them is multiplied with each vector.

A tile knows where its numbers are, and nothing of the product that it belongs to. So all products of a kind share the
same few functions, whose machine code is made once.
"""

from __future__ import annotations

from typing import NamedTuple

from funcgrad.compiler.contraction.frame import WIDEST, Frame
from funcgrad.compiler.contraction.text import Function, paired
from funcgrad.compiler.module import has_masks, vector

CHAINS = 4  # sums of every fourth step, where there are few columns, for a sum has to wait for the one before it


class Tile(NamedTuple):
    """The size of a tile, in rows and vectors of `lanes` numbers, and how many sums it has for each of its numbers."""

    height: int
    vectors: int
    lanes: int
    chains: int = 1

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


def tiles_of(kernel: Frame) -> list[tuple[Tile, Tile]]:
    """The tiles that there is code for, from high ones to low ones: for most columns, and for the last few of them."""
    shape, least, lanes = kernel.shape, kernel.parts, kernel.shape.lanes
    if kernel.in_place:
        # Few rows need many columns, since each sum has to wait for the one before it.
        few = [(4, 4 if kernel.target.vector_registers == 32 else 2), (least, WIDEST)]
    else:
        few = [(4, shape.vectors), (least, shape.vectors)]
    found = []
    for height, vectors in [(shape.rows, shape.vectors), *(x for x in few if x[0] < shape.rows)]:
        most = last = Tile(height, vectors, lanes)
        if kernel.in_place and not reads_masked(kernel):
            last = Tile(height, least, 1)
        elif height == shape.rows or lanes == 1:
            last = Tile(height, 1, lanes)
        elif kernel.in_place:
            last = Tile(height, 2, lanes, CHAINS if height == 1 else 1)
        found.append((most, last))
    return found


def reads_masked(kernel: Frame) -> bool:
    """Whether vectors of b may go beyond its last column, where the lanes that do are left out."""
    return kernel.shape.lanes > 1 and has_masks(kernel.target, kernel.b.size)


def stores_masked(kernel: Frame, tile: Tile) -> bool:
    """Whether vectors may go beyond the last column of c."""
    return tile.lanes > 1 and has_masks(kernel.target, kernel.b.size if kernel.in_place else kernel.out.size)


def tile_name(kernel: Frame, tile: Tile) -> str:
    """The name of the function for a tile: all that its text depends on."""
    wide = kernel.number if kernel.wide.is_float else kernel.wide.dtype.name
    how = ["panel"]
    if kernel.in_place:
        how = ["turned" if kernel.turned else "in_place", kernel.b.dtype.name]
    if kernel.pairs:
        how.append("pairs" if kernel.spec.patches is None else "pairs_of_rows")
    how += ["direct"] if kernel.direct else []
    chains = f"x{tile.chains}" if tile.chains > 1 else ""
    return f"contraction_tile_{'_'.join(how)}_{wide}_{tile.height}x{tile.vectors}x{tile.lanes}{chains}"


def call_tile(
    text: Function,
    tile: str,
    a: str,
    b: str,
    step: str,
    count: str,
    left: str,
    start: str,
    start_row: str,
    end: str,
    end_row: str,
    a_k: str,
) -> None:
    """Call a function that `write_tile` writes, by its address."""
    operands = f"ptr {a}, ptr {b}, i64 {step}, i64 {count}, i64 {left}"
    text.do(f"call void {tile}({operands}, ptr {start}, i64 {start_row}, ptr {end}, i64 {end_row}, i64 {a_k})")


def write_tile(kernel: Frame, tile: Tile) -> None:
    """`void tile(ptr a, ptr b, i64 step, i64 count, i64 left, ptr start, i64 start_row, ptr end, i64 end_row, i64 a_k)`

    Adds `count` steps of the loop over k to what is at `start`, and stores it at `end`; rows are `start_row` and
    `end_row` numbers apart. `left` columns are left in c. What the loop reads of b in one step is `step` bytes after
    what it read before; of a, if it is read where it lies, `a_k` numbers.
    """
    name = tile_name(kernel, tile)
    if name in kernel.module.names:
        return
    kernel.module.names.add(name)
    arguments = "ptr %a, ptr %b, i64 %step, i64 %count, i64 %left, ptr %start, i64 %start_row, ptr %end, i64 %end_row"
    text = kernel.function(name, f"{arguments}, i64 %a_k", internal=True)
    lanes, number = tile.lanes, kernel.number
    kind = vector(number, lanes)
    cells = [(i, v) for i in range(tile.height) for v in range(tile.vectors)]
    in_place = kernel.in_place
    masks = []
    if stores_masked(kernel, tile):
        masks = [text.first_lanes(text.sub("%left", v * lanes), lanes) for v in range(tile.vectors)]
    start = [text.load(kind, x, kernel.size) for x in vector_places(text, "%start", number, "%start_row", cells, lanes)]

    # Pairs are of two rows that follow each other.
    next_row = text.line("lshr i64 %step, 1") if kernel.pairs and (in_place or kernel.spec.patches is not None) else "0"

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
        for v in range(tile.vectors):
            if kernel.pairs and kernel.spec.patches is not None:
                columns.append(pairs_in_rows(b, v))
            elif not in_place:
                columns.append(text.load(vector(kernel.step, lanes), text.at(b, number, v * lanes), kernel.size))
            elif kernel.pairs:
                following = text.line(f"getelementptr i8, ptr {b}, i64 {next_row}")
                columns.append(paired(text, column_in_place(b, v), column_in_place(following, v), lanes))
            else:
                columns.append(kernel.b.widen(text, column_in_place(b, v), lanes))
        place, apart = text.at("%a", number, i), kernel.shape.stride
        if kernel.turned:
            place, apart = text.at("%a", number, text.mul(i, "%a_k")), 1
        results = []
        for row in range(tile.height):
            x = text.load(kernel.step, text.at(place, number, row * apart), kernel.size)
            x = text.splat(kernel.step, x, lanes)
            for column in columns:
                results.append(kernel.multiply_add(text, x, column, sums[len(results)], lanes))
        return [*results, text.line(f"getelementptr i8, ptr {b}, i64 %step")]

    b, done = "%b", "0"
    if tile.chains > 1:
        many = [(kind, x) for x in [*start, *[kernel.wide.zero(lanes)] * (len(start) * (tile.chains - 1))]]

        def inner_of_chains(i: str, values: list[str]) -> list[str]:
            *sums, b = values
            results = []
            for chain in range(tile.chains):
                own = sums[chain * len(start) : (chain + 1) * len(start)]
                *own, b = inner(text.add(i, chain), [*own, b])
                results += own
            return [*results, b]

        whole = text.sub("%count", tile.chains - 1)
        done, (*sums, b) = text.loop(0, whole, tile.chains, inner_of_chains, [*many, ("ptr", b)])
        while len(sums) > len(start):
            half = len(sums) // 2
            sums = [kernel.wide.plus(text, x, y, lanes) for x, y in zip(sums[:half], sums[half:], strict=True)]
        start = sums
    _, values = text.loop(done, "%count", 1, inner, [*((kind, x) for x in start), ("ptr", b)])

    def store(masked: bool) -> None:
        places = vector_places(text, "%end", number, "%end_row", cells, lanes)
        for (_, v), place, value in zip(cells, places, values, strict=False):
            if masked:
                text.masked_store(number, lanes, value, place, masks[v])
            else:
                text.store(kind, value, place, kernel.size)

    if kernel.direct and masks:
        text.choose(text.compare("sge", "%left", tile.columns), lambda: store(False), lambda: store(True))
    else:
        store(False)
    text.finish()


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
