"""The functions that copy parts of operands to where a tile finds them, as LLVM code.

Rows of a keep their order, at a fixed distance from each other; columns of b lie in panels, one row of a panel after
the other. Whatever lies across the vectors (a transposed operand) is turned in registers, in small squares.
"""

from __future__ import annotations

from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.text import SQUARE, Element, Function, transposed
from funcgrad.compiler.module import has_masks, vector


def write_pack_rows(kernel: Frame, name: str) -> None:
    """Copies numbers k0 up to k0 + count of some rows of a."""
    arguments = "ptr %context, ptr %tile, ptr %a, i64 %outer, i64 %inner, i64 %r, i64 %rows, i64 %k0, i64 %count"
    text = kernel.function(name, arguments, internal=True)
    element, number, parts, lanes = kernel.a, kernel.number, kernel.parts, kernel.shape.lanes
    stride, square = kernel.shape.stride, min(SQUARE, lanes)
    if kernel.spec.read_a is not None:
        _read_elements(kernel, text, "%rows", "%count", stride)
        return text.finish()
    a_m, a_k, m = kernel.slot(text, "a_m", parts), kernel.slot(text, "a_k", parts), kernel.slot(text, "m")
    at_k = text.mul("%k0", a_k)

    def single(i: str, part: int, k: str) -> None:
        row = text.add(text.divide("%r", parts)[0], i)
        source = text.add(text.add(text.mul(row, a_m), at_k), text.add(text.mul(k, a_k), part))
        value = element.widen(text, text.load(element.kind, text.at("%a", element.kind, source), element.size), 1)
        place = text.add(text.mul(text.add(text.mul(i, parts), part), stride), k)
        text.store(number, value, text.at("%tile", number, place), kernel.size)

    def all_parts(i: str, k: str) -> None:
        for part in range(parts):
            single(i, part, k)

    def by_element() -> None:
        def over_rows(i: str, _: list[str]) -> None:
            text.loop(0, "%count", 1, lambda k, _: all_parts(i, k))

        text.loop(0, text.divide("%rows", parts)[0], 1, over_rows)

    if lanes == 1 or parts > 1:
        by_element()
        return text.finish()

    rest = text.divide("%count", lanes)[1]
    whole = text.sub("%count", rest)
    masks = has_masks(kernel.target, element.size)
    mask = text.first_lanes(rest, lanes) if masks else None

    def along_k() -> None:
        def over_rows(i: str, _: list[str]) -> None:
            source = text.at("%a", element.kind, text.add(text.mul(text.add("%r", i), a_m), "%k0"))
            target = text.at("%tile", number, text.mul(i, stride))

            def copy(k: str, _: list[str]) -> None:
                _copy(kernel, text, element, text.at(source, element.kind, k), text.at(target, number, k), lanes)

            text.loop(0, whole, lanes, copy)
            if mask is None:
                text.loop(whole, "%count", 1, lambda k, _: single(i, 0, k))
            else:
                value = text.masked_load(element.kind, lanes, text.at(source, element.kind, whole), mask)
                value = element.widen(text, value, lanes)
                text.store(vector(number, lanes), value, text.at(target, number, whole), kernel.size)

        text.loop(0, "%rows", 1, over_rows)

    def turned() -> None:
        """Squares of rows and k, read along rows. (A tile has room for rows up to a multiple of SQUARE.)"""
        inner = text.sub("%count", text.divide("%count", square)[1])

        # All rows for some k before the next, since they share lines of the cache.
        def over_k(k: str, _: list[str]) -> None:
            source_k = text.at("%a", element.kind, text.add(text.mul(text.add("%k0", k), a_k), "%r"))
            steps = [text.at(source_k, element.kind, text.mul(a_k, step)) for step in range(square)]

            def over_rows(i: str, _: list[str]) -> None:
                columns = [_read(text, element, text.at(step, element.kind, i), square) for step in steps]
                target = text.at("%tile", number, text.add(text.mul(i, stride), k))
                for row, value in enumerate(transposed(text, number, columns)):
                    text.store(vector(number, square), value, text.at(target, number, row * stride), kernel.size)

            text.loop(0, "%rows", square, over_rows)

        text.loop(0, inner, square, over_k)
        text.loop(inner, "%count", 1, lambda k, _: text.loop(0, "%rows", 1, lambda i, _: single(i, 0, k)) and None)

    def across_k() -> None:
        # Whole squares are read, so all of their rows must be there.
        rows = text.mul(text.divide(text.add("%rows", square - 1), square)[0], square)
        inside = text.compare("sle", text.add("%r", rows), m)
        near = text.compare("eq", a_m, 1)
        text.choose(text.line(f"and i1 {inside}, {near}"), turned, by_element)

    text.choose(text.compare("eq", a_k, 1), along_k, across_k)
    text.finish()


def write_pack_panel(kernel: Frame, name: str) -> None:
    """Copies rows k0 up to k0 + count of the columns j up to j + width of b into a panel.

    Columns after the last one of b are filled with copies of it, which nobody looks at.
    """
    arguments = "ptr %context, ptr %panel, ptr %b, i64 %outer, i64 %inner, i64 %k0, i64 %count, i64 %j, i64 %width"
    text = kernel.function(name, arguments, internal=True)
    element, number, parts, lanes = kernel.b, kernel.number, kernel.parts, kernel.shape.lanes
    b_k, b_n = kernel.slot(text, "b_k", parts), kernel.slot(text, "b_n", parts)
    last, end = text.sub(kernel.slot(text, "n"), 1), kernel.slot(text, "n", parts)
    extra = kernel.extra(text) if kernel.spec.read_b else ()
    # In elements, of which complex ones are two numbers each.
    first, width = text.divide("%j", parts)[0], text.divide("%width", parts)[0]

    def column(n: str) -> str:
        return text.minimum(text.add(first, n), last)

    def single(k: str, n: str) -> None:
        at_n, at_k = column(n), text.add("%k0", k)
        place = text.at("%panel", number, text.add(text.mul(k, "%width"), text.mul(n, parts)))
        if kernel.spec.read_b:
            value = kernel.spec.read_b(text, "%outer", "%inner", at_k, at_n, extra)
            text.store(number, element.widen(text, value, 1), place, kernel.size)
            return
        source = text.at("%b", element.kind, text.add(text.mul(at_k, b_k), text.mul(at_n, b_n)))
        for part in range(parts):
            value = text.load(element.kind, text.at(source, element.kind, part), element.size)
            text.store(number, element.widen(text, value, 1), text.at(place, number, part), kernel.size)

    def by_element() -> None:
        text.loop(0, "%count", 1, lambda k, _: text.loop(0, width, 1, lambda n, _: single(k, n)) and None)

    if kernel.spec.read_b is not None or lanes == 1:
        by_element()
        return text.finish()

    masks = has_masks(kernel.target, element.size)

    def along_n() -> None:
        def strip(n: str, _: list[str]) -> None:
            mask = text.first_lanes(text.sub(text.sub(end, "%j"), n), lanes) if masks else None

            def row(k: str, _: list[str]) -> None:
                source = text.add(text.mul(text.add("%k0", k), b_k), text.add("%j", n))
                source = text.at("%b", element.kind, source)
                target = text.at("%panel", number, text.add(text.mul(k, "%width"), n))
                if mask is None:
                    _copy(kernel, text, element, source, target, lanes)
                    return
                value = element.widen(text, text.masked_load(element.kind, lanes, source, mask), lanes)
                text.store(vector(number, lanes), value, target, kernel.size)

            text.loop(0, "%count", 1, row)

        text.loop(0, "%width", lanes, strip)

    def turned() -> None:
        """Squares of k and columns, read along k."""
        square = min(SQUARE, lanes)
        inner = text.sub("%count", text.divide("%count", square)[1])

        def strip(n: str, _: list[str]) -> None:
            sources = [
                text.at("%b", element.kind, text.add(text.mul(column(text.add(n, lane)), b_n), "%k0"))
                for lane in range(square)
            ]

            def over_k(k: str, _: list[str]) -> None:
                rows = [_read(text, element, text.at(source, element.kind, k), square) for source in sources]
                target = text.at("%panel", number, text.add(text.mul(k, "%width"), n))
                for step, value in enumerate(transposed(text, number, rows)):
                    place = text.at(target, number, text.mul("%width", step))
                    text.store(vector(number, square), value, place, kernel.size)

            text.loop(0, inner, square, over_k)

        text.loop(0, "%width", square, strip)
        text.loop(inner, "%count", 1, lambda k, _: text.loop(0, "%width", 1, lambda n, _: single(k, n)) and None)

    def otherwise() -> None:
        if parts > 1:
            return by_element()
        text.choose(text.compare("eq", b_k, 1), turned, by_element)

    near = text.compare("eq", b_n, parts)
    if not masks:
        near = text.line(f"and i1 {text.compare('sle', text.add('%j', '%width'), end)}, {near}")
    text.choose(near, along_n, otherwise)
    text.finish()


def call_panel(
    kernel: Frame, text: Function, target: str, b: str, outer: str, inner: str, k0: str, count: str, j: str, width: str
) -> None:
    """Call what `write_pack_panel` writes."""
    arguments = f"ptr %context, ptr {target}, ptr {b}, i64 {outer}, i64 {inner}, i64 {k0}, i64 {count}, i64 {j}"
    text.do(f"call void @{kernel.helper('panel')}({arguments}, i64 {width})")


def write_pack(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: copies panels of b into the scratch memory.

    Task t is panel t % panels of the batch element t // panels.
    """
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    shape = kernel.shape
    for slot in ("b", "scratch", "k", "inner_batches", "b_outer", "b_inner"):
        kernel.slot(text, slot)
    k, columns = kernel.slot(text, "k"), kernel.slot(text, "n", kernel.parts)
    panels = text.divide(text.add(columns, shape.width - 1), shape.width)[0]
    size = panels_size(kernel, text)

    def task(t: str, _: list[str]) -> None:
        batch, number = text.divide(t, panels)
        outer, inner = text.divide(batch, kernel.slot(text, "inner_batches"))
        b = kernel.operand(text, "b", outer, inner)
        base = text.at(kernel.slot(text, "scratch"), kernel.number, text.mul(batch, size))
        n0 = text.mul(number, shape.width)
        narrow = text.compare("sle", text.sub(columns, n0), shape.lanes)
        width = text.select(narrow, shape.lanes, shape.width)
        target = text.at(base, kernel.number, text.mul(n0, k))
        call_panel(kernel, text, target, b, outer, inner, "0", k, n0, width)

    text.loop("%low", "%high", 1, task)
    text.finish()


def panels_size(kernel: Frame, text: Function) -> str:
    """How many numbers the panels of one b take: its columns up to whole vectors, times k."""
    lanes = kernel.shape.lanes
    count = text.divide(text.add(kernel.slot(text, "n", kernel.parts), lanes - 1), lanes)[0]
    return text.mul(text.mul(count, lanes), kernel.slot(text, "k"))


def _read(text: Function, element: Element, address: str, lanes: int) -> str:
    return element.widen(text, text.load(vector(element.kind, lanes), address, element.size), lanes)


def _copy(kernel: Frame, text: Function, element: Element, source: str, target: str, lanes: int) -> None:
    value = element.widen(text, text.load(vector(element.kind, lanes), source, element.size), lanes)
    text.store(vector(kernel.number, lanes), value, target, kernel.size)


def _read_elements(kernel: Frame, text: Function, rows: str, count: str, stride: int) -> None:
    """Numbers of a that are found by code of somebody else."""
    read, extra = kernel.spec.read_a, kernel.extra(text)
    assert read is not None

    def over_rows(i: str, _: list[str]) -> None:
        def over_k(k: str, _: list[str]) -> None:
            value = read(text, "%outer", "%inner", text.add("%r", i), text.add("%k0", k), extra)
            place = text.at("%tile", kernel.number, text.add(text.mul(i, stride), k))
            text.store(kernel.number, kernel.a.widen(text, value, 1), place, kernel.size)

        text.loop(0, count, 1, over_k)

    text.loop(0, rows, 1, over_rows)
