"""The functions that copy parts of operands to where a tile finds them, as LLVM code.

Rows of a keep their order, at a fixed distance from each other; columns of b lie in panels, one row of a panel after
the other. Whatever lies across the vectors (a transposed operand) is turned in registers, in small squares.
"""

from __future__ import annotations

from funcgrad.compiler.contraction.frame import Frame
from funcgrad.compiler.contraction.text import SQUARE, Element, Function, paired, transposed
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

    steps = kernel.steps(text, "%count")

    def single(i: str, part: int, step: str) -> None:
        row = text.add(text.divide("%r", parts)[0], i)
        source = text.add(text.add(text.mul(row, a_m), at_k), part)
        value = _single(kernel, text, element, text.at("%a", element.kind, source), a_k, step)
        place = text.add(text.mul(text.add(text.mul(i, parts), part), stride), step)
        text.store(kernel.step, value, text.at("%tile", number, place), kernel.size)

    def all_parts(i: str, step: str) -> None:
        for part in range(parts):
            single(i, part, step)

    def by_element() -> None:
        def over_rows(i: str, _: list[str]) -> None:
            text.loop(0, steps, 1, lambda step, _: all_parts(i, step))

        text.loop(0, text.divide("%rows", parts)[0], 1, over_rows)

    if lanes == 1 or parts > 1:
        by_element()
        return text.finish()

    at_once = 2 * lanes if kernel.pairs else lanes
    rest = text.divide("%count", at_once)[1]
    whole = text.sub("%count", rest)
    masks = has_masks(kernel.target, element.size)
    mask = text.first_lanes(rest, at_once) if masks else None

    def along_k() -> None:
        def over_rows(i: str, _: list[str]) -> None:
            source = text.at("%a", element.kind, text.add(text.mul(text.add("%r", i), a_m), "%k0"))
            target = text.at("%tile", number, text.mul(i, stride))

            def copy(k: str, mask: str | None) -> None:
                value = load_steps(kernel, text, element, text.at(source, element.kind, k), lanes, mask)
                place = text.at(target, number, kernel.steps(text, k))
                text.store(vector(kernel.step, lanes), value, place, kernel.size)

            text.loop(0, whole, at_once, lambda k, _: copy(k, None))
            if mask is None:
                text.loop(kernel.steps(text, whole), steps, 1, lambda step, _: single(i, 0, step))
            else:
                copy(whole, mask)

        text.loop(0, "%rows", 1, over_rows)

    def turned() -> None:
        """Squares of rows and steps, read along rows. (A tile has room for rows up to a multiple of SQUARE.)"""
        inner = _whole_squares(kernel, text, "%count", square)

        # All rows for some k before the next, since they share lines of the cache.
        def over_k(first: str, _: list[str]) -> None:
            at_first = text.mul(text.add("%k0", kernel.first_of(text, first)), a_k)
            source = text.at("%a", element.kind, text.add(at_first, "%r"))
            apart = kernel.first_of(text, a_k)
            places = [text.at(source, element.kind, text.mul(apart, step)) for step in range(square)]

            def over_rows(i: str, _: list[str]) -> None:
                columns = [
                    load_across(kernel, text, element, text.at(place, element.kind, i), a_k, square) for place in places
                ]
                target = text.at("%tile", number, text.add(text.mul(i, stride), first))
                for row, value in enumerate(transposed(text, kernel.step, columns)):
                    text.store(vector(kernel.step, square), value, text.at(target, number, row * stride), kernel.size)

            text.loop(0, "%rows", square, over_rows)

        text.loop(0, inner, square, over_k)
        text.loop(inner, steps, 1, lambda k, _: text.loop(0, "%rows", 1, lambda i, _: single(i, 0, k)) and None)

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

    steps = kernel.steps(text, "%count")

    def single(step: str, n: str) -> None:
        at_n = column(n)
        place = text.at("%panel", number, text.add(text.mul(step, "%width"), text.mul(n, parts)))
        if kernel.spec.read_b:
            value = kernel.spec.read_b(text, "%outer", "%inner", text.add("%k0", step), at_n, extra)
            text.store(number, element.widen(text, value, 1), place, kernel.size)
            return
        source = text.at("%b", element.kind, text.add(text.mul("%k0", b_k), text.mul(at_n, b_n)))
        for part in range(parts):
            value = _single(kernel, text, element, text.at(source, element.kind, part), b_k, step)
            text.store(kernel.step, value, text.at(place, number, part), kernel.size)

    def by_element() -> None:
        text.loop(0, steps, 1, lambda step, _: text.loop(0, width, 1, lambda n, _: single(step, n)) and None)

    if kernel.spec.read_b is not None or lanes == 1:
        by_element()
        return text.finish()

    masks = has_masks(kernel.target, element.size)

    def along_n() -> None:
        def strip(n: str, _: list[str]) -> None:
            mask = text.first_lanes(text.sub(text.sub(end, "%j"), n), lanes) if masks else None

            def row(step: str, is_single: bool) -> None:
                k = text.add("%k0", kernel.first_of(text, step))
                source = text.at("%b", element.kind, text.add(text.mul(k, b_k), text.add("%j", n)))
                target = text.at("%panel", number, text.add(text.mul(step, "%width"), n))
                value = load_across(kernel, text, element, source, b_k, lanes, mask, is_single)
                text.store(vector(kernel.step, lanes), value, target, kernel.size)

            whole = _whole_steps(kernel, text, "%count")
            text.loop(0, whole, 1, lambda step, _: row(step, False))
            if kernel.pairs:
                text.loop(whole, steps, 1, lambda step, _: row(step, True))

        text.loop(0, "%width", lanes, strip)

    def turned() -> None:
        """Squares of steps and columns, read along k."""
        square = min(SQUARE, lanes)
        inner = _whole_squares(kernel, text, "%count", square)

        def strip(n: str, _: list[str]) -> None:
            sources = [
                text.at("%b", element.kind, text.add(text.mul(column(text.add(n, lane)), b_n), "%k0"))
                for lane in range(square)
            ]

            def over_k(first: str, _: list[str]) -> None:
                k = kernel.first_of(text, first)
                rows = [load_steps(kernel, text, element, text.at(x, element.kind, k), square) for x in sources]
                target = text.at("%panel", number, text.add(text.mul(first, "%width"), n))
                for step, value in enumerate(transposed(text, kernel.step, rows)):
                    place = text.at(target, number, text.mul("%width", step))
                    text.store(vector(kernel.step, square), value, place, kernel.size)

            text.loop(0, inner, square, over_k)

        text.loop(0, "%width", square, strip)
        text.loop(inner, steps, 1, lambda step, _: text.loop(0, "%width", 1, lambda n, _: single(step, n)) and None)

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
        target = text.at(base, kernel.number, text.mul(n0, kernel.steps(text, k)))
        call_panel(kernel, text, target, b, outer, inner, "0", k, n0, width)

    text.loop("%low", "%high", 1, task)
    text.finish()


def panels_size(kernel: Frame, text: Function) -> str:
    """How many steps the panels of one b hold: its columns up to whole vectors, times those along k."""
    lanes = kernel.shape.lanes
    count = text.divide(text.add(kernel.slot(text, "n", kernel.parts), lanes - 1), lanes)[0]
    return text.mul(text.mul(count, lanes), kernel.steps(text, kernel.slot(text, "k")))


def load_steps(
    kernel: Frame, text: Function, element: Element, address: str, lanes: int, mask: str | None = None
) -> str:
    """As many steps of one row or column, whose numbers are neighbours along k; zeros where a mask of the numbers is
    false."""
    count = 2 * lanes if kernel.pairs else lanes
    if mask is None:
        value = text.load(vector(element.kind, count), address, element.size)
    else:
        value = text.masked_load(element.kind, count, address, mask)
    if kernel.pairs:
        return text.line(f"bitcast {vector(element.kind, count)} {value} to {vector(kernel.step, lanes)}")
    return element.widen(text, value, lanes)


def load_across(
    kernel: Frame,
    text: Function,
    element: Element,
    address: str,
    apart: str,
    lanes: int,
    mask: str | None = None,
    is_single: bool = False,
) -> str:
    """One step of as many rows or columns, which are neighbours in memory; their numbers are `apart` along k.

    Of the last step, if it `is_single`, the second number is zero.
    """

    def load(address: str) -> str:
        if mask is None:
            return text.load(vector(element.kind, lanes), address, element.size)
        return text.masked_load(element.kind, lanes, address, mask)

    if not kernel.pairs:
        return element.widen(text, load(address), lanes)
    second = "zeroinitializer" if is_single else load(text.at(address, element.kind, apart))
    return paired(text, load(address), second, lanes)


def _single(kernel: Frame, text: Function, element: Element, row: str, apart: str, step: str) -> str:
    """A step of one row or column, whose numbers are `apart` from the number %k0 on, up to %count."""
    first = kernel.first_of(text, step)

    def load(k: str) -> str:
        return text.load(element.kind, text.at(row, element.kind, text.mul(k, apart)), element.size)

    if not kernel.pairs:
        return element.widen(text, load(first), 1)
    second = text.minimum(text.add(first, 1), text.sub("%count", 1))
    there = text.compare("sgt", second, first)
    value = text.line(f"select i1 {there}, i16 {load(second)}, i16 0")
    return paired(text, load(first), value, 1)


def _whole_steps(kernel: Frame, text: Function, count: str) -> str:
    return text.line(f"lshr i64 {count}, 1") if kernel.pairs else count


def _whole_squares(kernel: Frame, text: Function, count: str, square: int) -> str:
    """How many of the steps are in whole squares."""
    whole = _whole_steps(kernel, text, count)
    return text.sub(whole, text.divide(whole, square)[1])


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
