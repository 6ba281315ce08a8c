"""Windows of an array as rows of a matrix, without ever making that matrix.

What slides over an array is a sum of digits: row m of the matrix begins where the digits of m (the example and the
position of the window) say, column k is as far from there as the digits of k (the place in the window and the feature)
say. Axes that follow each other in memory are one digit. The last digit of k counts neighbours, which are copied in
vectors to the tile in which the product wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.compiler.contraction.frame import Digits, Frame, Patches
from funcgrad.compiler.contraction.text import SQUARE, Element, Function, transposed
from funcgrad.compiler.module import vector


def merged(digits: Digits) -> Digits:
    """The same places with as few digits as possible, at least one. A digit is (how many, how far apart)."""
    result: list[tuple[int, int]] = []
    for count, apart in digits:
        if count == 1:
            continue
        if result and result[-1][1] == count * apart:
            result[-1] = result[-1][0] * count, apart
        else:
            result.append((count, apart))
    return tuple(result) or ((1, 0),)


def place_of(text: Function, number: str, digits: Digits) -> str:
    """Where the element with this number is: the sum of its digits, each times how far apart they are."""
    total = "0"
    for at, (count, apart) in reversed(list(enumerate(digits))):
        digit = number
        if at:
            number, digit = text.divide(number, count)
        total = text.add(total, text.mul(digit, apart))
    return total


def patches_address(kernel: Frame, text: Function, patches: Patches, group: str) -> str:
    """Where the windows of a group begin, in scratch memory."""
    start = text.line(f"getelementptr i8, ptr {kernel.slot(text, 'scratch')}, i64 {patches.offset}")
    return text.at(start, kernel.kept, text.mul(group, patches.group))


def write_patch_rows(kernel: Frame, name: str) -> None:
    """Copies numbers k0 up to k0 + count of some windows.

    Whole vectors are copied: what is too much at the end of a piece is overwritten by the next piece, or lies in the
    gap between rows of the tile. The array has a gap at its end as well.
    """
    arguments = "ptr %context, ptr %tile, ptr %a, i64 %outer, i64 %inner, i64 %r, i64 %rows, i64 %k0, i64 %count"
    text = kernel.function(name, arguments, internal=True)
    patches, shape, number = kernel.spec.patches, kernel.shape, kernel.kept
    assert patches is not None
    stride = shape.stride * kernel.size // kernel.kept_size
    start = patches_address(kernel, text, patches, "%inner")
    run, _ = patches.steps[-1]
    kind = vector(number, shape.lanes)
    places = text.line(f"alloca [{shape.rows} x i64], align 8")

    def find(i: str, _: list[str]) -> None:
        place = place_of(text, text.add("%r", i), patches.rows)
        text.store("i64", place, text.at(places, "i64", i), 8)

    text.loop(0, "%rows", 1, find)
    end = text.add("%k0", "%count")

    def piece(q: str, _: list[str]) -> None:
        low = text.maximum(text.mul(q, run), "%k0")
        high = text.minimum(text.mul(text.add(q, 1), run), end)
        before = place_of(text, q, patches.steps[:-1]) if len(patches.steps) > 1 else "0"
        source = text.add(before, text.sub(low, text.mul(q, run)))
        source = text.at(start, number, source)
        target = text.at("%tile", number, text.sub(low, "%k0"))
        count = text.sub(high, low)

        def row(i: str, _: list[str]) -> None:
            place = text.load("i64", text.at(places, "i64", i), 8)
            from_row = text.at(source, number, place)
            to_row = text.at(target, number, text.mul(i, stride))

            def copy(k: str, _: list[str]) -> None:
                value = text.load(kind, text.at(from_row, number, k), kernel.kept_size)
                text.store(kind, value, text.at(to_row, number, k), kernel.kept_size)

            if run <= shape.lanes:
                copy("0", [])
            else:
                text.loop(0, count, shape.lanes, copy)

        text.loop(0, "%rows", 1, row)

    first = text.divide("%k0", run)[0]
    text.loop(first, text.divide(text.add(end, run - 1), run)[0], 1, piece)
    if kernel.pairs:  # The last number may have none beside it.

        def clear(i: str, _: list[str]) -> None:
            place = text.at("%tile", number, text.add(text.mul(i, stride), "%count"))
            text.store(number, "0", place, kernel.kept_size)

        text.loop(0, "%rows", 1, clear)
    text.finish()


def kernel_order(patches: Patches) -> tuple[int | None, list[int], list[tuple[int, int, int]]]:
    """In what order kernels are copied.

    Returns:
        Which digit of k has elements that are neighbours in memory, if those of outputs are not; how far apart the
        elements of each digit are in k; and all other digits, at least one, those with the largest steps first: (how
        many, how far apart in memory, how far apart in k).
    """
    digits = patches.kernel
    near = None
    if patches.kernel_output != 1:
        near = next((at for at, (count, apart) in enumerate(digits) if count > 1 and apart == 1), None)
    weights = [_length(digits[at + 1 :]) for at in range(len(digits))]
    others = [(*digits[at], weights[at]) for at in range(len(digits)) if at != near] or [(1, 0, 0)]
    return near, weights, sorted(others, key=lambda digit: -digit[1])


def write_pack_kernels(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: copies kernels, as columns of b, into panels.

    A task is one number of the outermost digit, in one panel of a group.
    """
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    patches, shape, number, element = kernel.spec.patches, kernel.shape, kernel.kept, kernel.b
    assert patches is not None
    scratch, b = kernel.slot(text, "scratch"), kernel.slot(text, "b")
    depth = full = _length(patches.kernel)
    if kernel.pairs:
        full += depth % 2
    panels = -(-patches.outputs // shape.width)
    size = -(-patches.outputs // shape.lanes) * shape.lanes * full

    near, weights, others = kernel_order(patches)
    (outermost, apart, by), *others = others

    def task(t: str, _: list[str]) -> None:
        t, first = text.divide(t, outermost)
        group, number_of_panel = text.divide(t, panels)
        source = text.at(b, element.kind, text.mul(group, patches.kernel_group))
        base = text.at(scratch, number, text.mul(group, size))
        n0 = text.mul(number_of_panel, shape.width)
        n1 = text.minimum(text.add(n0, shape.width), patches.outputs)
        # A last panel of few columns has one vector; what is missing there are copies of the last one.
        narrow = text.compare("sle", text.sub(n1, n0), shape.lanes)
        width = text.select(narrow, shape.lanes, shape.width)

        def panel(j: str) -> None:
            target = text.at(base, number, text.mul(j, full))
            inside = text.compare("sle", text.add(j, width), patches.outputs)

            def address(place: str, n: str) -> str:
                column = text.minimum(text.add(j, n), patches.outputs - 1)
                return text.at(source, element.kind, text.add(place, text.mul(column, patches.kernel_output)))

            def row(place: str, k: str) -> None:
                to = text.at(target, number, text.mul(k, width))

                def copy(lanes: int) -> None:
                    def some(n: str, _: list[str]) -> None:
                        value = text.load(vector(element.kind, lanes), address(place, n), element.size)
                        value = kernel.keep(text, element, value, lanes)
                        text.store(vector(number, lanes), value, text.at(to, number, n), kernel.kept_size)

                    text.loop(0, width, lanes, some)

                if patches.kernel_output == 1 and shape.lanes > 1:
                    text.choose(inside, lambda: copy(shape.lanes), lambda: copy(1))
                else:
                    copy(1)

            def turned(place: str, k: str) -> None:
                """The neighbours of all columns."""
                count, weight = str(patches.kernel[near or 0][0]), weights[near or 0]

                def read(n: str, i: str) -> str:
                    return address(text.add(place, i), n)

                def write(n: str, i: str) -> str:
                    return text.at(target, number, text.add(text.mul(text.add(k, text.mul(i, weight)), width), n))

                write_turned(text, element, None, kernel, (width, count), read, write)

            body = row if near is None else turned
            over_digits(text, others, body, text.mul(first, apart), text.mul(first, by))

            def clear(n: str, _: list[str]) -> None:
                place = text.add(text.mul(depth, width), n)
                text.store(number, "0", text.at(target, number, place), kernel.kept_size)

            if full > depth:  # A zero makes a pair of the last number.
                text.loop(0, width, 1, clear)

        panel(n0)

    text.loop("%low", "%high", 1, task)
    text.finish()


def write_turned(
    text: Function,
    source: Element,
    target: Element | None,
    kernel: Frame,
    size: tuple[str, str],
    read: Callable[[str, str], str],
    write: Callable[[str, str], str],
    columns_first: bool = False,
) -> None:
    """Copies a matrix whose rows are contiguous where it is read, and its columns where it is written.

    Arguments:
        source: what is read, to be kept for a convolution; `target` is what is written, if it is sums that are read.
        size: rows and columns.
        read, write: give the address of (row, column).
        columns_first: whether all rows come before the next columns, rather than all columns before the next rows.
    """
    square = min(SQUARE, kernel.shape.lanes)
    rows, columns = size
    number = kernel.number if target else kernel.kept
    kind, align = (target.kind, target.size) if target else (number, kernel.kept_size)

    def copy(lanes: int, row: str, column: str) -> None:
        own = number if target else source.kind
        values = [text.load(vector(own, lanes), read(text.add(row, i), column)) for i in range(lanes)]
        if not target:
            values = [kernel.keep(text, source, value, lanes) for value in values]
        values = transposed(text, number, values) if lanes > 1 else values
        for i, value in enumerate(values):
            value = target.narrow(text, value, lanes) if target else value
            text.store(vector(kind, lanes), value, write(row, text.add(column, i)), align)

    def left(number: str) -> bool:
        """Whether squares may leave some."""
        return not number.isdigit() or int(number) % square != 0

    def over_columns(row: str, _: list[str]) -> None:
        column, _ = text.loop(0, text.sub(columns, square - 1), square, lambda j, _: copy(square, row, j))
        if left(columns):
            singles(row, text.add(row, square), column, columns)

    def over_rows(column: str, _: list[str]) -> None:
        row, _ = text.loop(0, text.sub(rows, square - 1), square, lambda i, _: copy(square, i, column))
        if left(rows):
            singles(row, rows, column, text.add(column, square))

    def singles(low: str, high: str, first: str, end: str) -> None:
        def over(i: str, _: list[str]) -> None:
            text.loop(first, end, 1, lambda j, _: copy(1, i, j))

        text.loop(low, high, 1, over)

    if square == 1:
        singles("0", rows, "0", columns)
    elif columns_first:
        column, _ = text.loop(0, text.sub(columns, square - 1), square, over_rows)
        if left(columns):
            singles("0", rows, column, columns)
    else:
        row, _ = text.loop(0, text.sub(rows, square - 1), square, over_columns)
        if left(rows):
            singles(row, rows, "0", columns)


def over_digits(
    text: Function,
    digits: Sequence[tuple[int, int, int]],
    body: Callable[[str, str], None],
    place: str,
    k: str,
) -> None:
    """`body(place, k)` for all combinations of digits: (how many, how far apart in memory, how far apart in k)."""
    if not digits:
        body(place, k)
        return
    (count, apart, weight), rest = digits[0], digits[1:]

    def inner(i: str, _: list[str]) -> None:
        over_digits(text, rest, body, text.add(place, text.mul(i, apart)), text.add(k, text.mul(i, weight)))

    text.loop(0, count, 1, inner)


def _length(digits: Digits) -> int:
    total = 1
    for count, _ in digits:
        total *= count
    return total
