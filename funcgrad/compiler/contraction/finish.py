"""What happens to sums that are complete: they are stored in c, or handed to an epilogue.

An epilogue is a function that does what it likes with the sums, and stores what it makes of them where it likes:

    void epilogue(ptr context, ptr sums, i64 stride, i64 outer, i64 inner, i64 r, i64 rows, i64 n0, i64 n1)

The sums of the row r + i, from the column n0 up to n1, begin at the number i * stride of `sums`; `outer` and `inner`
are indices of the batch. It is called by its address, which is null if there is none, so that products with any
epilogue, and without one, are the same code.
"""

from __future__ import annotations

from itertools import pairwise

from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.patches import place_of, write_turned
from funcgrad.compiler.contraction.text import Function, Number
from funcgrad.compiler.module import has_masks, vector


def call_finish(
    kernel: Frame,
    text: Function,
    sums: str,
    stride: str,
    batch: tuple[str, str],
    r: str,
    rows: Number,
    n0: str,
    n1: str,
) -> None:
    """Call the epilogue, or else what `write_finish` writes, for rows from r on and columns n0 up to n1, whose sums are
    `stride` apart."""
    arguments = f"ptr %context, ptr {sums}, i64 {stride}, i64 {batch[0]}, i64 {batch[1]}"
    epilogue, finish = kernel.slot(text, "epilogue"), f"@{kernel.helper('finish')}"
    function = text.line(f"select i1 {has_epilogue(kernel, text)}, ptr {epilogue}, ptr {finish}")
    text.do(f"call void {function}({arguments}, i64 {r}, i64 {rows}, i64 {n0}, i64 {n1})")


def has_epilogue(kernel: Frame, text: Function) -> str:
    """Whether there is an epilogue."""
    return text.line(f"icmp ne ptr {kernel.slot(text, 'epilogue')}, null")


def write_finish(kernel: Frame, name: str) -> None:
    """Rows of sums, from one place in memory to c."""
    arguments = "ptr %context, ptr %sums, i64 %stride, i64 %outer, i64 %inner, i64 %r, i64 %rows, i64 %n0, i64 %n1"
    text, batch = kernel.function(name, arguments, internal=True), ("%outer", "%inner")
    parts, number, out = kernel.parts, kernel.number, kernel.out
    c = kernel.operand(text, "c", *batch)
    c_m, c_n = kernel.slot(text, "c_m"), kernel.slot(text, "c_n")
    # Rows along k have their columns apart, and there are few of them.
    patches = kernel.spec.patches
    apart = kernel.spec.scheme == "dot" or (patches is not None and patches.result_output != 1)
    lanes = 1 if apart else max(1, kernel.shape.lanes // parts)

    def write(row: str, sums: str, j: str, lanes: int, mask: str | None) -> None:
        """For elements from column j on."""
        kind = vector(number, lanes * parts)
        value = text.load(kind, sums, kernel.size)
        if parts == 2:
            value = combined(kernel, text, value, text.load(kind, text.at(sums, number, "%stride"), kernel.size), lanes)
        at_row = place_of(text, row, patches.results) if patches is not None else text.mul(row, c_m)
        index = text.add(at_row, text.mul(j, c_n))
        address = text.at(c, out.kind, text.mul(index, parts))
        value = out.narrow(text, value, lanes * parts)
        if mask is None:
            text.store(vector(out.kind, lanes * parts), value, address)
        else:
            text.masked_store(out.kind, lanes, value, address, mask)

    first_row = text.divide("%r", parts)[0]
    first, end = (text.divide(x, parts)[0] for x in ("%n0", "%n1"))

    def over_rows(i: str, _: list[str]) -> None:
        row = text.add(first_row, i)
        base = text.at("%sums", number, text.mul(text.mul(i, parts), "%stride"))

        def place(j: str) -> str:
            return text.at(base, number, text.mul(text.sub(j, first), parts))

        j = first
        if lanes > 1:
            j, _ = text.loop(j, text.sub(end, lanes - 1), lanes, lambda j, _: write(row, place(j), j, lanes, None))
        if lanes > 1 and parts == 1 and has_masks(kernel.target, 4) and has_masks(kernel.target, out.size):

            def edge() -> None:
                write(row, place(j), j, lanes, text.first_lanes(text.sub(end, j), lanes))

            text.choose(text.compare("slt", j, end), edge)
        else:
            text.loop(j, end, 1, lambda j, _: write(row, place(j), j, 1, None))

    def by_rows() -> None:
        text.loop(0, text.divide("%rows", parts)[0], 1, over_rows)

    def turned() -> None:
        """All rows of some columns before the next ones, since they share lines of the cache in c."""
        start = text.at(c, out.kind, first_place)
        write_turned(
            text,
            out,
            out,
            kernel,
            ("%rows", text.sub(end, first)),
            lambda i, j: text.at("%sums", number, text.add(text.mul(i, "%stride"), j)),
            lambda i, j: text.at(start, out.kind, text.add(text.mul(text.add(first, j), c_n), i)),
            columns_first=True,
        )

    results = patches.results if patches is not None else ()
    # Whether rows lie in c in the order of their numbers, so that those between the first and the last lie there, too.
    ordered = all(outer >= count * inner for (_, outer), (count, inner) in pairwise(results))
    neighbours = bool(results) and results[-1][1] == 1 and ordered
    if apart and neighbours and kernel.shape.lanes > 1:
        # Whether all rows are neighbours in c.
        first_place = place_of(text, first_row, results)
        last_row = text.sub(text.add(first_row, "%rows"), 1)
        distance = text.sub(place_of(text, last_row, results), first_place)
        text.choose(text.compare("eq", distance, text.sub("%rows", 1)), turned, by_rows)
    else:
        by_rows()
    text.finish()


def combined(kernel: Frame, text: Function, real: str, imaginary: str, lanes: int) -> str:
    """Complex products: `real` has b times real parts of a, `imaginary` b times imaginary parts.

    (x + iy)(u + iv) = xu - yv + i(xv + yu): of the second, parts change places and the first one changes its sign.
    """
    count = 2 * lanes
    kind = vector(kernel.number, count)
    order = [lane ^ 1 for lane in range(count)]
    turned = text.shuffle(kernel.number, count, imaginary, "poison", order)
    negative = text.line(f"fneg {kind} {turned}")
    signed = text.shuffle(
        kernel.number, count, negative, turned, [lane if lane % 2 == 0 else count + lane for lane in range(count)]
    )
    return text.line(f"fadd {kind} {real}, {signed}")
