"""Products whose operands are both contiguous along k, as dot products: vectors run along k.

It is how a matrix is multiplied with a vector, and whatever else is so small that turning an operand does not pay.
"""

from __future__ import annotations

from funcgrad.compiler.contraction.finish import call_finish
from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.packing import load_steps
from funcgrad.compiler.contraction.text import Element, Function
from funcgrad.compiler.module import has_masks, vector


def write_dot(kernel: Frame, name: str) -> None:
    """Sums of vectors of products, whose lanes are added up in the end."""
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    lanes = kernel.shape.lanes
    names = ("a", "b", "c", "epilogue", "k", "m", "n", "block_m", "block_n", "blocks_m", "blocks_n", "inner_batches")
    for slot in (*names, "a_outer", "a_inner", "a_m", "b_outer", "b_inner", "b_n", "c_outer", "c_inner"):
        kernel.slot(text, slot)
    sums = text.line(f"alloca [64 x {kernel.number}], align 64")
    vectors = text.line(f"alloca [64 x {vector(kernel.number, lanes)}], align 64")
    k = kernel.slot(text, "k")
    masks = lanes > 1 and all(has_masks(kernel.target, x.size) for x in (kernel.a, kernel.b))
    at_once = 2 * lanes if kernel.pairs else lanes  # numbers of a row in a vector
    rest = text.divide(k, at_once)[1]
    whole = text.sub(k, rest)
    mask = text.first_lanes(rest, at_once) if masks else None
    some = text.compare("sgt", rest, 0)
    kind = vector(kernel.number, lanes)

    def tile(height: int, width: int, m: str, n: str, a: str, b: str, batch: tuple[str, str]) -> None:
        a_m, b_n = kernel.slot(text, "a_m"), kernel.slot(text, "b_n")
        rows = [text.at(a, kernel.a.kind, text.mul(text.add(m, i), a_m)) for i in range(height)]
        columns = [text.at(b, kernel.b.kind, text.mul(text.add(n, j), b_n)) for j in range(width)]
        unroll = 4 if height * width < 4 else 1

        def products(i: str, values: list[str], lanes: int, mask: str | None, count: int) -> list[str]:
            def read(element: Element, address: str, step: int) -> str:
                address = text.at(text.at(address, element.kind, i), element.kind, step * at_once)
                if lanes == 1:  # a number at a time, also of pairs
                    return element.widen(text, text.load(element.kind, address, element.size), 1)
                return load_steps(kernel, text, element, address, lanes, mask)

            multiply_add = kernel.multiply_add if lanes > 1 else kernel.wide.multiply_add

            results = list(values)
            for step in range(count):
                xs = [read(kernel.a, row, step) for row in rows]
                ys = [read(kernel.b, column, step) for column in columns]
                for at, (x, y) in enumerate((x, y) for x in xs for y in ys):
                    place = step * height * width + at
                    results[place] = multiply_add(text, x, y, results[place], lanes)
            return results

        zero = kernel.wide.zero(lanes)
        cells = height * width
        values = [zero] * (cells * unroll)
        i = "0"
        if unroll > 1:
            step = at_once * unroll
            i, values = text.loop(
                0,
                text.sub(whole, step - 1),
                step,
                lambda i, values: products(i, values, lanes, None, unroll),
                [(kind, zero)] * len(values),
            )
            while len(values) > cells:
                half = len(values) // 2
                values = [
                    kernel.wide.plus(text, x, y, lanes) for x, y in zip(values[:half], values[half:], strict=True)
                ]
        i, values = text.loop(
            i,
            whole,
            at_once,
            lambda i, values: products(i, values, lanes, None, 1),
            [(kind, value) for value in values],
        )
        if masks:
            values = text.choose(
                some,
                lambda: products(whole, values, lanes, mask, 1),
                lambda: values,
                [kind] * cells,
            )
        for place, value in enumerate(values):
            text.store(kind, value, text.at(vectors, kind, place), kernel.size)

        def add_up(place: str, _: list[str]) -> None:
            number = across(kernel, text, text.load(kind, text.at(vectors, kind, place), kernel.size), lanes)
            text.store(kernel.number, number, text.at(sums, kernel.number, place), kernel.size)

        text.loop(0, cells, 1, add_up)
        if lanes > 1 and not masks:
            places = [text.at(sums, kernel.number, place) for place in range(cells)]
            first = [(kernel.number, text.load(kernel.number, place, kernel.size)) for place in places]
            _, numbers = text.loop(whole, k, 1, lambda i, values: products(i, values, 1, None, 1), first)
            for place, number in zip(places, numbers, strict=True):
                text.store(kernel.number, number, place, kernel.size)
        call_finish(kernel, text, sums, str(width), batch, m, height, n, text.add(n, width))

    def task(t: str, _: list[str]) -> None:
        rest, at_m = text.divide(t, kernel.slot(text, "blocks_m"))
        at_batch, at_n = text.divide(rest, kernel.slot(text, "blocks_n"))
        batch = text.divide(at_batch, kernel.slot(text, "inner_batches"))
        a, b = kernel.operand(text, "a", *batch), kernel.operand(text, "b", *batch)
        m0, n0 = text.mul(at_m, kernel.slot(text, "block_m")), text.mul(at_n, kernel.slot(text, "block_n"))
        m1 = text.minimum(text.add(m0, kernel.slot(text, "block_m")), kernel.slot(text, "m"))
        n1 = text.minimum(text.add(n0, kernel.slot(text, "block_n")), kernel.slot(text, "n"))
        n = n0
        for width, heights in ((4, (4, 1)), (1, (8, 1))):

            def column(n: str, _: list[str], width: int = width, heights: tuple[int, ...] = heights) -> None:
                m = m0
                for height in heights:

                    def row(m: str, _: list[str], height: int = height) -> None:
                        tile(height, width, m, n, a, b, batch)

                    m, _ = text.loop(m, text.sub(m1, height - 1), height, row)

            n, _ = text.loop(n, text.sub(n1, width - 1), width, column)

    text.loop("%low", "%high", 1, task)
    text.finish()


def across(kernel: Frame, text: Function, value: str, lanes: int) -> str:
    """The sum of all lanes: of both halves, then of the halves of that."""
    if lanes == 1:
        return value
    while lanes > 1:
        half = lanes // 2
        low = text.shuffle(kernel.number, lanes, value, "poison", range(half))
        high = text.shuffle(kernel.number, lanes, value, "poison", range(half, lanes))
        if half == 1:
            low, high = (text.line(f"extractelement <1 x {kernel.number}> {x}, i32 0") for x in (low, high))
        value, lanes = kernel.wide.plus(text, low, high, half), half
    return value
